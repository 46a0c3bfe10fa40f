"""What a training costs while it runs: rows and tokens a second, learning rate, memory of the GPU."""

import time
from collections import deque
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray

from kjcm.model.data import TokenData, epoch_order


class Meter(pl.Callback):
    """Logs rows_per_second, tokens_per_second (of all processes together), lr and, on a GPU, gpu_memory_gib.

    What a step has read is known from the epoch's order, so nothing waits for the device; the rates are over the steps
    since the last but one that the loggers see. `lr` is that of the step to come.
    """

    def __init__(self) -> None:
        self._read: NDArray[np.int64] = np.zeros(1, np.int64)
        self._points: deque[tuple[float, int, int]] = deque()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count anew: what lay between two epochs is no training."""
        data = _data(trainer)
        lengths = data.sides["train"].tokens.lengths
        order = epoch_order(len(lengths), data.seed, trainer.current_epoch)
        self._read = np.concatenate([[0], np.cumsum(lengths[order])])
        self._points = deque(maxlen=max(1, trainer.log_every_n_steps) + 1)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        """Note when the first batch of the epoch, or of what is left of it, began."""
        if not self._points:
            self._note(trainer, batch_idx)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log what the last steps took."""
        self._note(trainer, batch_idx + 1)
        (begin, rows, tokens), (end, more_rows, more_tokens) = self._points[0], self._points[-1]
        seconds = max(end - begin, 1e-9)
        values: dict[str, Any] = {
            "rows_per_second": (more_rows - rows) / seconds,
            "tokens_per_second": (more_tokens - tokens) / seconds,
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
        }
        if pl_module.device.type == "cuda":
            values["gpu_memory_gib"] = torch.cuda.max_memory_allocated(pl_module.device) / 2**30
        for name, value in values.items():
            pl_module.log(name, value, on_step=True, on_epoch=False, batch_size=1)

    def _note(self, trainer: pl.Trainer, batches: int) -> None:
        """Keep the time, and the rows and tokens of the epoch's first `batches`."""
        data = _data(trainer)
        rows = min(batches * data.batch_size * (data.block or 1), len(self._read) - 1)
        self._points.append((time.perf_counter(), rows, int(self._read[rows])))


def _data(trainer: pl.Trainer) -> TokenData:
    data: TokenData = trainer.datamodule  # type: ignore[attr-defined]
    return data
