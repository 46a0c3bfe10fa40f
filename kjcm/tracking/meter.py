"""Measure a running training: rows and tokens per second, learning rate, GPU memory."""

import time
from typing import Any, cast

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray

from kjcm.engine.data import epoch_order
from kjcm.engine.resumable import Resumable
from kjcm.tracking.epochs import data_of, rows_done


class Meter(pl.Callback):
    """Log rows_per_second and tokens_per_second (of all processes), lr and, on a GPU, gpu_memory_gib.

    Token counts come from the epoch's row order, so measuring never waits for the device. Each rate is a mean over
    the steps since the last log within the epoch. `lr` is the next step's learning rate.
    """

    def __init__(self) -> None:
        self._read: NDArray[np.int64] = np.zeros(1, np.int64)  # tokens in the epoch's first n rows
        self._since: tuple[float, int] | None = None  # time and rows at the last log

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reset the peak GPU memory that earlier runs in this process left."""
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restart the measurement, because the time between two epochs is not training."""
        self._since = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note when the first batch of the epoch began, or the first batch after a resume.

        Lightning calls no epoch start for a run that resumes within an epoch, so this method computes the row order.
        """
        if self._since is None:
            data = data_of(trainer)
            lengths = data.sides["train"].tokens.lengths
            order = epoch_order(len(lengths), data.seed, trainer.current_epoch)
            self._read = np.concatenate([[0], np.cumsum(lengths[order])])
            self._since = time.perf_counter(), rows_done(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the rates since the last log, if Lightning logs this step."""
        if self._since is None or trainer.global_step % cast(Any, trainer).log_every_n_steps:
            return
        (begin, first), (end, last) = self._since, (time.perf_counter(), rows_done(trainer))
        self._since, seconds = (end, last), max(end - begin, 1e-9)
        values: dict[str, Any] = {
            "rows_per_second": (last - first) / seconds,
            "tokens_per_second": (self._read[last] - self._read[first]) / seconds,
            "lr": cast(Resumable, pl_module).next_rate,
        }
        if pl_module.device.type == "cuda":
            values["gpu_memory_gib"] = torch.cuda.max_memory_allocated(pl_module.device) / 2**30
        for name, value in values.items():
            pl_module.log(name, value, on_step=True, on_epoch=False, batch_size=1)
