"""Log a training: one line per epoch, and the reason for an early stop."""

import logging
import time
from datetime import timedelta
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import EarlyStopping

from kjcm.engine.data import TokenData
from kjcm.engine.resumable import Resumable
from kjcm.engine.saving import Saving
from kjcm.errors import counted
from kjcm.metrics import Metric, shown

SHOWN = ("accuracy", "f1_weighted", "f1_macro")  # validation metrics after the loss
EVERY = 60.0  # seconds between lines within a long epoch

log = logging.getLogger("kjcm")


class Epochs(pl.Callback):
    """Log one line per epoch: mean loss, validation loss and metrics, rows per second (all processes), time left.

    Without a progress bar, also log a long epoch's progress every minute. Epochs count from 1. The time left assumes
    that each further epoch takes as long as this one, without the time to compile and to capture graphs.

    Args:
        saving: keeps the best weights.
    """

    def __init__(self, saving: Saving) -> None:
        self._saving = saving
        self._begun, self._trained, self._logged = 0.0, 0.0, 0.0  # times of begin, last step, last line
        self._first = -1  # rows trained before a resume; -1 between epochs
        self._captured = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reset the state that an earlier training left."""
        self._first = -1

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note when the first step of the epoch began, or the first step after a resume."""
        if self._first < 0:
            self._begun = self._logged = time.perf_counter()
            self._first, self._captured = rows_done(trainer), _module(trainer).capture_seconds

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note when the last step ended, and log the progress of a long epoch."""
        self._trained = time.perf_counter()
        if self._trained - self._logged < EVERY or trainer.progress_bar_callback or not trainer.is_global_zero:
            return
        self._logged = self._trained
        done = f"{rows_done(trainer) / _rows(trainer):.0%}".replace("%", " %")
        log.info("%s, %s: %s", self._name(trainer), done, self._pace(trainer))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the finished epoch, and an early stop."""
        parts = [f"loss {float(_module(trainer).train_loss.compute()):.4f}"]  # a sum over all processes
        found = trainer.callback_metrics
        if "val_loss" in found:
            values = {name.removeprefix("val_"): float(value) for name, value in found.items() if name[:4] == "val_"}
            texts = [f"{metric.label} {_text(metric, values[metric.name])}" for metric in shown(values, SHOWN)]
            parts.append(f"validation loss {values['loss']:.4f}, {', '.join(texts)}")
        if trainer.is_global_zero:
            log.info("%s: %s", self._name(trainer), "; ".join([*parts, self._pace(trainer)]))
            if stopping := trainer.early_stopping_callback:
                self._log_end(trainer, stopping)
        self._first = -1

    def _log_end(self, trainer: pl.Trainer, stopping: EarlyStopping) -> None:
        """Log an early stop; after the last epoch, also log which epoch's weights the model has."""
        done, planned = trainer.current_epoch + 1, trainer.max_epochs
        if trainer.should_stop:
            why = (
                f"did not improve for {counted(stopping.patience, 'epoch')}"
                if stopping.wait_count
                else "is not a finite number"
            )
            log.info("stopped early after epoch %d of %s: %s %s", done, planned, stopping.monitor, why)
        if (trainer.should_stop or done == planned) and self._saving.best_epoch:
            log.info("the model has the weights of epoch %d, the best by %s", self._saving.best_epoch, stopping.monitor)

    def _name(self, trainer: pl.Trainer) -> str:
        return f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"

    def _pace(self, trainer: pl.Trainer) -> str:
        """Return the speed in rows per second, and the time left."""
        rows, done = rows_done(trainer) - self._first, rows_done(trainer)
        captured = _module(trainer).capture_seconds - self._captured
        pace = rows / max(self._trained - self._begun - captured, 1e-9)
        whole = (time.perf_counter() - self._begun - captured) / max(rows, 1) * _rows(trainer)
        ahead = (trainer.max_epochs or 0) - trainer.current_epoch - done / _rows(trainer)
        if trainer.should_stop or ahead <= 0:
            return f"{pace:,.0f} rows/s"
        return f"{pace:,.0f} rows/s, ETA {timedelta(seconds=round(ahead * whole))}"


def _text(metric: Metric, value: float) -> str:
    return f"{value:.4f}" if metric.kind == "value" else f"{100 * value:.2f} %"


def rows_done(trainer: pl.Trainer) -> int:
    """Return how many rows all processes together have trained on in this epoch."""
    return min(_module(trainer).step * data_of(trainer).batch_size, _rows(trainer))


def _rows(trainer: pl.Trainer) -> int:
    return len(data_of(trainer).sides["train"].labels)


def _module(trainer: pl.Trainer) -> Resumable:
    module = trainer.lightning_module
    assert isinstance(module, Resumable)
    return module


def data_of(trainer: pl.Trainer) -> TokenData:
    """Return the training's data module."""
    data = trainer.datamodule  # type: ignore[attr-defined]
    assert isinstance(data, TokenData)
    return data
