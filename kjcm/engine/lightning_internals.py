"""Lightning's internals that kjcm uses; a test checks each of them in the installed version."""

from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import RichProgressBar, WeightAveraging
from torch import Tensor


@dataclass(frozen=True)
class Position:
    """A position between two steps of a training.

    Attributes:
        epoch: finished epochs.
        step: finished batches of the current epoch, fewer than `steps`.
        steps: batches per epoch.
        block: batches per call from Lightning.
        accumulated: batches per optimiser step.
    """

    epoch: int
    step: int
    steps: int
    block: int = 1
    accumulated: int = 1


def loops_at(trainer: pl.Trainer, position: Position) -> dict[str, Any]:
    """Return the state of a new Trainer's fit loop at a position, for the `loops` of a checkpoint.

    Before the epoch's first finished call, Lightning starts the epoch again, and the sampler skips the finished rows.
    """
    loops = trainer.fit_loop.state_dict()
    batches, batch = -(-position.steps // position.block), position.step // position.block
    begun = int(batch > 0)
    epochs = position.epoch
    done = epochs * -(-position.steps // position.accumulated) + position.step // position.accumulated
    epoch = {"ready": epochs + begun, "started": epochs + begun, "processed": epochs, "completed": epochs}
    stepped = {"ready": done, "completed": done}
    optimizer = loops["epoch_loop.automatic_optimization.optim_progress"]
    optimizer["optimizer"]["step"]["total"] = stepped
    return {
        **loops,
        "epoch_progress": {"total": epoch, "current": dict(epoch)},
        "epoch_loop.state_dict": {"_batches_that_stepped": done},
        "epoch_loop.batch_progress": {
            "total": _all(epochs * batches + batch),
            "current": _all(batch),
            "is_last_batch": False,
        },
        "epoch_loop.automatic_optimization.optim_progress": optimizer,
        "epoch_loop.manual_optimization.optim_step_progress": {
            "total": stepped,
            "current": {"ready": 0, "completed": 0},
        },
    }


def _all(count: int) -> dict[str, int]:
    return dict.fromkeys(("ready", "started", "processed", "completed"), count)


def count_steps(trainer: pl.Trainer, steps: int) -> None:
    """Count one batch of manual optimisation as `steps` optimiser steps, in global_step and on the loggers' axis."""
    loop: Any = trainer.fit_loop.epoch_loop
    progress = loop.manual_optimization.optim_step_progress
    for part in (progress.total, progress.current):
        part.ready += steps
        part.completed += steps
    loop._batches_that_stepped += steps - 1


def epochs_processed(trainer: pl.Trainer) -> int:
    """Return the epoch of the next batch, also before Lightning sets `current_epoch`."""
    return int(trainer.fit_loop.epoch_progress.current.processed)  # type: ignore[attr-defined]


def checkpoint_of(trainer: pl.Trainer) -> dict[str, Any]:
    """Return the whole state of a training without writing it; every process must call this function."""
    return trainer._checkpoint_connector.dump_checkpoint(weights_only=False)


def averaged_weights(trainer: pl.Trainer) -> dict[str, Tensor] | None:
    """Return the weights that a WeightAveraging callback has averaged; None if no callback has averaged any."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        model = callback._average_model if isinstance(callback, WeightAveraging) else None
        if model is not None and model.n_averaged > 0:
            return dict(model.module.state_dict())
    return None


def leave_signals_alone(trainer: pl.Trainer) -> None:
    """Keep Lightning from installing signal handlers, which stop without saving or write their own checkpoint."""
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]


def stop_processes(trainer: pl.Trainer, signal: int) -> None:
    """Send a signal to the processes that the Trainer has started."""
    if launcher := trainer.strategy.launcher:
        launcher.kill(signal)


class ProgressBar(RichProgressBar):
    """The rich progress bar, with epochs counted from 1 and without the logger's version number."""

    def _get_train_description(self, current_epoch: int) -> str:
        # The same width as the validation bar keeps both from flickering.
        return f"Epoch {current_epoch + 1}/{self.trainer.max_epochs}".ljust(len(self.validation_description))

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Return the metrics shown next to the bar."""
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}
