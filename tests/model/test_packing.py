"""Packed batches hold every token once, in its text and at its position."""

import numpy as np
import pytest
import torch

from kjcm.model.packing import Resident, capacity, pack
from kjcm.text.tokens import Tokens

TEXTS = [[2, 10, 3], [2, 3], [2, 11, 12, 13, 3], [2, 14, 15, 3]]


def tokens_of(texts: list[list[int]]) -> Tokens:
    starts = np.concatenate([[0], np.cumsum([len(text) for text in texts])]).astype(np.int64)
    return Tokens(np.concatenate([np.asarray(text, np.int32) for text in texts]), starts)


def test_pack_lays_texts_end_to_end() -> None:
    batch = pack(tokens_of(TEXTS), np.array([2, 0, 1]))
    filler = [0] * (64 - 10)
    assert batch["input_ids"].tolist() == [2, 11, 12, 13, 3, 2, 10, 3, 2, 3, *filler]
    assert batch["positions"].tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 0, 1, *filler]
    assert batch["starts"].tolist() == [0, 5, 8, 10] and batch["starts"].dtype == torch.int32
    assert batch["places"].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 10, 11]
    assert batch["valid"].squeeze().tolist() == [[True] * 5, [True] * 3 + [False] * 2, [True] * 2 + [False] * 3]


def test_pack_of_no_rows_is_empty() -> None:
    batch = pack(tokens_of(TEXTS), np.empty(0, np.int64))
    assert len(batch["input_ids"]) == 0 and batch["starts"].tolist() == [0] and len(batch["valid"]) == 0


@pytest.mark.parametrize("varlen", [True, False])
def test_resident_batches_hold_the_rows_in_order_and_filler_apart(varlen: bool) -> None:
    random = np.random.default_rng(0)
    texts = [[2, *random.integers(10, 99, random.integers(0, 9)).tolist(), 3] for _ in range(53)]
    tokens, labels = tokens_of(texts), random.integers(0, 5, 53)
    order = random.permutation(53)
    room = capacity(tokens.lengths, [order], 8, multiple=16)
    weights = random.random(53, dtype=np.float32)
    resident = Resident.of(
        tokens, labels, weights, pad=1, size=8, capacity=room, device=torch.device("cpu"), varlen=varlen
    )
    laid = resident.lay_out(torch.from_numpy(order))
    assert laid["n_rows"].tolist() == [8] * 6 + [5]
    for batch in range(7):
        rows = order[8 * batch : 8 * batch + 8]
        expected = pack(tokens, rows)
        real = len(expected["places"])
        assert real <= room and room % 16 == 0
        ids, starts = laid["input_ids"][batch], laid["starts"][batch]
        assert torch.equal(ids[:real], expected["input_ids"][:real]) and (ids[real:] == 1).all()
        assert torch.equal(laid["positions"][batch][:real], expected["positions"][:real])
        assert torch.equal(starts[: len(rows) + 1], expected["starts"]) and starts[-1] == room
        assert int(starts.diff().min()) >= 0
        places = laid["places"][batch]
        assert places[:real].unique().numel() == real and int(places[:real].max()) < 8 * resident.longest
        assert (places[real:] >= 8 * resident.longest).all() and int(places.max()) < laid["valid"][batch].numel()
        if varlen:
            assert int(starts.diff().max()) <= resident.longest and places.unique().numel() == room
        else:
            assert resident.fillers == 1  # padded, a text of filler costs as much as a real one
        assert laid["labels"][batch].tolist() == [*labels[rows], *[-100] * (8 + resident.fillers - len(rows))]
        assert laid["weights"][batch][: len(rows)].tolist() == weights[rows].tolist()
        valid = laid["valid"][batch].squeeze()
        assert valid.any(1).all()  # a softmax over nothing is no number
        assert torch.equal(valid[: len(rows)].sum(1), torch.from_numpy(tokens.lengths[rows]))


def test_capacity_is_that_of_the_largest_batch_of_any_order() -> None:
    lengths = np.array([5, 1, 9, 2, 7])
    assert capacity(lengths, [np.array([0, 1, 2, 3, 4])], 2, multiple=1) == 11
    assert capacity(lengths, [np.array([0, 1, 2, 3, 4]), np.array([2, 4, 0, 1, 3])], 2, multiple=1) == 16
    assert capacity(lengths, [np.array([0, 1, 2, 3, 4])], 2, multiple=8) == 16
