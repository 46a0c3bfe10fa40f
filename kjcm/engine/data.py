"""The LightningDataModule: batches of tokens for each process, in an order that depends only on seed and epoch."""

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from kjcm.engine.lightning_internals import epochs_processed
from kjcm.model.packing import Resident, capacity, pack, padded
from kjcm.text.tokens import Tokens

Batch = dict[str, Tensor]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Labelled:
    """Tokenised rows with their class indices.

    Attributes:
        tokens: the rows' tokens.
        labels: [rows], class indices.
        weights: [rows], each row's weight in the training loss; None: all 1.
        covariates: [rows, width]; None: none.
    """

    tokens: Tokens
    labels: Indices
    weights: NDArray[np.float32] | None = None
    covariates: NDArray[np.float32] | None = None


class TokenBatches(Dataset[Batch]):
    """Make batches: an item (row numbers, rows of the batch over all processes) gives packed or padded tensors."""

    def __init__(self, data: Labelled, pad: int, packed: bool) -> None:
        self.data, self.pad, self.packed = data, pad, packed

    def __getitem__(self, item: tuple[Indices, int]) -> Batch:
        """Return the tensors of `kjcm.model.packing.pack` or `padded`, labels and rows [rows], and of_rows.

        `of_rows` is the number of the batch's rows over all processes. Rows with weights also have weights [rows], rows
        with covariates these [rows, width].
        """
        rows, of_rows = item
        texts = pack(self.data.tokens, rows) if self.packed else padded(self.data.tokens, rows, self.pad)
        more = {"weights": self.data.weights, "covariates": self.data.covariates}
        return {
            **texts,
            **{name: torch.from_numpy(values[rows]) for name, values in more.items() if values is not None},
            "labels": torch.from_numpy(self.data.labels[rows]),
            "rows": torch.from_numpy(rows),
            "of_rows": torch.tensor(of_rows),
        }


class RowBlocks(Dataset[Batch]):
    """Pass on the row numbers of many steps; the tokens are on the device already."""

    def __getitem__(self, item: tuple[Indices, int]) -> Batch:
        """Return the row numbers of an item (row numbers, their count)."""
        return {"rows": torch.from_numpy(item[0])}


def _leave_with_parent(worker: int) -> None:
    """End this worker on SIGTERM only if its parent sends the signal.

    timeout, systemd and Slurm stop a job by signalling all its processes. The run then saves and exits; if its workers
    were gone, it would fail before it has saved. macOS does not name a signal's sender, so there the worker ends at once.
    """
    if not hasattr(signal, "sigwaitinfo"):
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])

    def wait() -> None:
        while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


class Batches(Sampler[tuple[Indices, int]]):
    """Yield this process's rows of each batch in an epoch, with the rows of the batch over all processes.

    For training, a permutation by (seed, epoch) is cut into batches of `size` rows. Each process takes every `world`-th
    row of a batch. Every row occurs once in an epoch. Without a seed, rows are sorted by length, and each process takes
    every `world`-th batch.
    """

    def __init__(self, lengths: Indices, size: int, *, seed: int | None, rank: int = 0, world: int = 1) -> None:
        self.lengths, self.size, self.seed, self.rank, self.world = lengths, size, seed, rank, world
        self.epoch, self._begin = 0, (0, 0)
        if seed is None and world > 1:  # the others would wait for a process that has no batch
            self.size = max(1, min(size, len(lengths) // world))

    def begin_at(self, epoch: int, row: int) -> None:
        """Skip the first `row` rows of one epoch, where a run resumes; batches still end at the same rows."""
        self._begin = epoch, row

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch's permutation; Lightning calls it before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        batches = -(-len(self.lengths) // self.size)
        return batches if self.seed is not None else len(range(self.rank, batches, self.world))

    def __iter__(self) -> Iterator[tuple[Indices, int]]:
        if self.seed is None:
            order = np.argsort(self.lengths, kind="stable").astype(np.int64)
            for begin in range(self.rank * self.size, len(order), self.world * self.size):
                rows = order[begin : begin + self.size]
                yield rows, len(rows)
            return
        order = epoch_order(len(self.lengths), self.seed, self.epoch)
        first = self._begin[1] if self.epoch == self._begin[0] else 0
        for begin in range(first // self.size * self.size, len(order), self.size):
            batch = order[max(begin, first) : begin + self.size]
            yield batch[self.rank :: self.world], len(batch)


def epoch_order(rows: int, seed: int, epoch: int) -> Indices:
    """Return the training rows' order in an epoch: [rows]."""
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(rows).astype(np.int64)


class TokenData(pl.LightningDataModule):
    """Training, validation and test rows of one cohort.

    Args:
        sides: the rows of 'train', 'validation' and 'test', and 'titles' to compare texts with; each may be missing.
        pad: the tokenizer's padding id.
        batch_size: rows per training step, over all processes.
        seed: the config's seeds.batches.
        workers: number of processes that make batches.
        eval_batch_size: rows per validation or test batch.
        packed: whether batches have no padding, for an encoder that can run them.
        block: steps per training batch of row numbers, with the tokens on the device; None: each batch is one step.
        limit: most training steps per epoch, as a number or a share, like Lightning's limit_train_batches; None: all.
    """

    def __init__(
        self,
        sides: dict[str, Labelled],
        pad: int,
        *,
        batch_size: int = 64,
        seed: int = 0,
        workers: int = 0,
        eval_batch_size: int = 256,
        packed: bool = False,
        block: int | None = None,
        limit: float | None = None,
    ) -> None:
        super().__init__()
        self.limit = limit
        self.sides, self.pad, self.seed, self.workers = sides, pad, seed, workers
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.packed, self.block = packed, block
        self._begin = (0, 0)

    def begin_at(self, epoch: int, step: int) -> None:
        """Make the training loader begin after `step` steps of an epoch."""
        self._begin = epoch, step

    @property
    def tokens(self) -> dict[str, Tokens]:
        """Return side -> tokens."""
        return {side: data.tokens for side, data in self.sides.items()}

    @property
    def steps_per_epoch(self) -> int:
        """Return the number of training steps in an epoch."""
        whole = -(-len(self.sides["train"].labels) // self.batch_size)
        if self.limit is None:
            return whole
        return min(whole, self.limit) if isinstance(self.limit, int) else int(whole * self.limit)

    def resident(self, epochs: int, device: torch.device, *, varlen: bool = False) -> Resident:
        """Return the training rows on a device, with room for the largest batch in `epochs` epochs."""
        data, size = self.sides["train"], self.batch_size
        orders = (epoch_order(len(data.labels), self.seed, epoch) for epoch in range(epochs))
        room = capacity(data.tokens.lengths, orders, size)
        return Resident.of(
            data.tokens, data.labels, data.weights, pad=self.pad, size=size, capacity=room, device=device, varlen=varlen
        )

    def _loader(self, side: str, training: bool = False) -> DataLoader[Batch]:
        data = self.sides[side]
        world, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        batches = Batches(
            data.tokens.lengths,
            self.batch_size * (self.block or 1) if training else self.eval_batch_size,
            seed=self.seed if training else None,
            rank=rank,
            world=world,
        )
        # A resumed run draws its first batch before Lightning sets the epoch.
        if training and self.trainer:
            batches.set_epoch(epochs_processed(self.trainer))
            epoch, step = self._begin
            batches.begin_at(epoch, step * self.batch_size)
        resident = training and self.block
        workers = 0 if resident else self.workers
        return DataLoader(
            RowBlocks() if resident else TokenBatches(data, self.pad, self.packed),
            sampler=batches,
            batch_size=None,  # the sampler gives whole batches
            generator=torch.Generator(),  # keeps dropout's generator untouched
            num_workers=workers,
            persistent_workers=workers > 0 and training,
            multiprocessing_context="fork" if workers else None,
            worker_init_fn=_leave_with_parent,
        )

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the training batches."""
        return self._loader("train", training=True)

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """Return the validation batches; none if no validation rows are held out, which is the default."""
        return self._loader("validation") if "validation" in self.sides else []

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the test batches."""
        return self._loader("test")
