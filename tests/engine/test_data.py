"""Which rows make each batch, over one and over several processes, and what a batch holds."""

import itertools

import numpy as np
import pytest
import torch

from kjcm.engine.data import Batches, Labelled, TokenBatches, TokenData
from kjcm.text.tokens import Tokens

ROWS, SIZE = 103, 8  # 12 whole batches and one of 7 rows
LENGTHS = np.random.default_rng(0).integers(2, 20, ROWS)


def epoch(rank: int = 0, world: int = 1, *, seed: int | None = 5, number: int = 0) -> list[tuple[list[int], int]]:
    batches = Batches(LENGTHS, SIZE, seed=seed, rank=rank, world=world)
    batches.set_epoch(number)
    found = [(rows.tolist(), of_rows) for rows, of_rows in batches]
    assert len(batches) == len(found)
    return found


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("number", [0, 3])
def test_training_batches_of_all_processes_make_the_whole_one(world: int, number: int) -> None:
    whole = epoch(number=number)
    assert sorted(row for rows, _ in whole for row in rows) == list(range(ROWS))
    assert [len(rows) for rows, _ in whole] == [of_rows for _, of_rows in whole] == [SIZE] * 12 + [7]
    shares = [epoch(rank, world, number=number) for rank in range(world)]
    for (rows, of_rows), *parts in zip(whole, *shares, strict=True):
        assert sorted(row for part, _ in parts for row in part) == sorted(rows)
        assert {theirs for _, theirs in parts} == {of_rows}
        sizes = [len(part) for part, _ in parts]
        assert max(sizes) - min(sizes) <= 1


def test_order_depends_on_seed_and_epoch_alone() -> None:
    assert epoch(number=2) == epoch(number=2)
    orders = [[row for rows, _ in epoch(seed=seed, number=n) for row in rows] for seed, n in ((5, 0), (5, 1), (6, 0))]
    assert all(np.mean(np.array(one) == np.array(other)) < 0.1 for one, other in itertools.pairwise(orders))
    assert orders[0] != list(range(ROWS))


def test_a_last_batch_smaller_than_the_processes_leaves_one_empty() -> None:
    shares = [list(Batches(LENGTHS[:9], SIZE, seed=0, rank=rank, world=2)) for rank in (0, 1)]
    assert [[len(rows) for rows, _ in share] for share in shares] == [[4, 1], [4, 0]]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_evaluation_batches_hold_every_row_once(world: int) -> None:
    shares = [epoch(rank, world, seed=None) for rank in range(world)]
    batches = [rows for share in shares for rows, _ in share]
    assert sorted(row for rows in batches for row in rows) == list(range(ROWS))
    assert all(len(rows) == of_rows for share in shares for rows, of_rows in share)
    in_order = sorted(batches, key=lambda rows: (LENGTHS[rows].min(), LENGTHS[rows].max()))
    assert all(LENGTHS[one].max() <= LENGTHS[other].min() for one, other in itertools.pairwise(in_order))


def labelled() -> Labelled:
    ids = np.array([2, 9, 3, 2, 3, 2, 7, 8, 3, 2, 1, 3], np.int32)  # text 3 holds the padding id as a token
    return Labelled(Tokens(ids, np.array([0, 3, 5, 9, 12])), np.array([4, 0, 2, 1], np.int64))


def test_batch_contents() -> None:
    batch = TokenBatches(labelled(), pad=1, packed=False)[np.array([3, 1, 2]), 5]
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "input_ids": [[2, 1, 3, 1], [2, 3, 1, 1], [2, 7, 8, 3]],
        "attention_mask": [[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]],
        "labels": [1, 0, 2],
        "rows": [3, 1, 2],
        "of_rows": 5,
    }
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


@pytest.mark.parametrize("workers", [0, 1])
def test_loaders_of_the_data_module(workers: int) -> None:
    data = TokenData(
        {"train": labelled(), "test": labelled()}, 1, batch_size=3, seed=0, workers=workers, eval_batch_size=3
    )
    train, test = list(data.train_dataloader()), list(data.test_dataloader())
    assert [len(batch["labels"]) for batch in train] == [len(batch["labels"]) for batch in test] == [3, 1]
    assert sorted(row for batch in train for row in batch["rows"].tolist()) == [0, 1, 2, 3]
    assert [batch["rows"].tolist() for batch in test] == [[1, 0, 3], [2]]  # by length, ties as they stand
    assert all(batch["labels"].tolist() == labelled().labels[batch["rows"].numpy()].tolist() for batch in train + test)
    assert data.val_dataloader() == []


@pytest.mark.parametrize("rows", [4, 5, 7, 300])
def test_every_process_has_a_batch_to_measure(rows: int) -> None:
    shares = [Batches(np.ones(rows, np.int64), 256, seed=None, rank=rank, world=4) for rank in range(4)]
    assert all(len(share) == len(list(share)) > 0 for share in shares)
    assert sorted(row for share in shares for batch, _ in share for row in batch) == list(range(rows))
