"""The log of a training: a line for each epoch, and why it stopped early."""

import logging
import time
from datetime import timedelta
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import EarlyStopping

from kjcm.engine.data import TokenData
from kjcm.engine.module import Classifier
from kjcm.engine.resume import Saving
from kjcm.errors import counted
from kjcm.metrics import Metric, shown

SHOWN = ("accuracy", "f1_weighted", "f1_macro")  # of the validation rows, next to their loss
EVERY = 60.0  # seconds between two lines within a long epoch, where no bar shows how far it is

log = logging.getLogger("kjcm")


class Epochs(pl.Callback):
    """Logs a line for each epoch: mean loss, validation loss and metrics, rows a second (of all processes), time left.

    A long epoch is also logged while it lasts, unless a progress bar shows it. Epochs are counted from 1. The time left
    assumes that every epoch to come takes as long as this one; what it took to compile and capture the step is left out.

    Args:
        saving: keeps the best weights.
    """

    def __init__(self, saving: Saving) -> None:
        self._saving = saving
        self._begun, self._trained, self._said = 0.0, 0.0, 0.0  # of this epoch: its begin, its last step, its last line
        self._first = -1  # rows of this epoch that were learnt from before, in a run that resumes; -1 between epochs
        self._captured = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget an earlier training."""
        self._first = -1

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note when the first step of the epoch, or of what is left of it, began."""
        if self._first < 0:
            self._begun = self._said = time.perf_counter()
            self._first, self._captured = rows_done(trainer), _module(trainer).capture_seconds

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note when the last step ended, and log how far a long epoch is."""
        self._trained = time.perf_counter()
        if self._trained - self._said < EVERY or trainer.progress_bar_callback or not trainer.is_global_zero:
            return
        self._said = self._trained
        done = f"{rows_done(trainer) / _rows(trainer):.0%}".replace("%", " %")
        log.info("%s, %s: %s", self._name(trainer), done, self._pace(trainer))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the epoch, and whether it was the last."""
        parts = [f"loss {float(_module(trainer).train_loss.compute()):.4f}"]  # all processes add up their sums here
        found = trainer.callback_metrics
        if "val_loss" in found:
            values = {name.removeprefix("val_"): float(value) for name, value in found.items() if name[:4] == "val_"}
            texts = [f"{metric.label} {_text(metric, values[metric.name])}" for metric in shown(values, SHOWN)]
            parts.append(f"validation loss {values['loss']:.4f}, {', '.join(texts)}")
        if trainer.is_global_zero:
            log.info("%s: %s", self._name(trainer), "; ".join([*parts, self._pace(trainer)]))
            if stopping := trainer.early_stopping_callback:
                self._say_end(trainer, stopping)
        self._first = -1

    def _say_end(self, trainer: pl.Trainer, stopping: EarlyStopping) -> None:
        """Log an early stop, and the epoch whose weights are kept."""
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
        """Return rows a second and the time left."""
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
    """Return how many rows of the epoch have been learnt from, over all processes."""
    return min(_module(trainer).step * _data(trainer).batch_size, _rows(trainer))


def _rows(trainer: pl.Trainer) -> int:
    return len(_data(trainer).sides["train"].labels)


def _module(trainer: pl.Trainer) -> Classifier:
    module = trainer.lightning_module
    assert isinstance(module, Classifier)
    return module


def _data(trainer: pl.Trainer) -> TokenData:
    data = trainer.datamodule  # type: ignore[attr-defined]
    assert isinstance(data, TokenData)
    return data
