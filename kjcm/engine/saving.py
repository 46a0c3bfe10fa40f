"""A callback that saves a training between two steps, and the agreement of its processes."""

import math
import time
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from kjcm.engine.lightning_internals import averaged_weights, checkpoint_of
from kjcm.errors import KjcmError

TrainingState = dict[str, Any]

STEPS_BETWEEN = 8  # between agreements of processes, each of which waits for their devices


class Saving(Checkpoint):
    """Save a training at regular intervals, at its end, and before the process exits because of a signal.

    A checkpoint is made just before a step. By then the previous step is complete, with its validation and its logged
    values. A checkpoint is one file with the whole state and the best weights so far, so its parts always match.

    Args:
        save: writes a checkpoint, given its global step and the state.
        every: seconds between two checkpoints.
        asked: returns the number of a signal that asks the process to exit; 0 without a signal.
        leave: called with the signal's number after saving; raises, or returns if the training shall continue.
        monitor: the validation metric that selects the best weights; None: the last weights are used.
        mode: whether the best value of `monitor` is the lowest ('min') or the highest ('max').
    """

    def __init__(
        self,
        save: Callable[[int, TrainingState], object],
        every: float,
        asked: Callable[[], int],
        leave: Callable[[int], None],
        monitor: str | None = None,
        mode: str = "min",
    ) -> None:
        self._save_to, self._every, self._asked, self._leave = save, every, asked, leave
        self.monitor, self._sign = monitor, 1 if mode == "min" else -1
        self.best_value = math.inf  # times -1 if higher is better
        self.best_epoch = 0  # counted from 1; 0 if unknown
        self.best_weights: dict[str, Tensor] | None = None
        self._saved_at, self._saved = 0.0, -1

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock for the first checkpoint.

        Raises:
            KjcmError: the processes resume from different checkpoints.
        """
        require_same_step(trainer)
        self._saved_at, self._saved = time.monotonic(), trainer.global_step

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Save if a checkpoint is due or a signal came, then obey the signal; do neither within an optimiser step."""
        if batch_idx % trainer.accumulate_grad_batches:
            return
        if trainer.world_size > 1 and self._every and trainer.global_step % STEPS_BETWEEN:
            return
        signal, due = agreed(trainer, self._asked(), time.monotonic() - self._saved_at >= self._every)
        self._act(trainer, signal, due)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the finished training, then obey a signal that any process has received since the last agreement."""
        signal, _ = agreed(trainer, self._asked(), True)
        self._act(trainer, signal, True)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Copy the validated weights to the host if they are the best so far; a callback may have averaged them."""
        if self.monitor and trainer.state.fn == "fit":
            value = self._sign * float(trainer.callback_metrics[self.monitor])
            if self.best_weights is None or value < self.best_value:
                self.best_value = value if math.isfinite(value) else math.inf
                self.best_epoch = trainer.current_epoch + 1
                weights = averaged_weights(trainer) or pl_module.state_dict()
                self.best_weights = {name: value.cpu().clone() for name, value in weights.items()}

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: TrainingState) -> None:
        """Add the best weights, and whether the training stops at this step."""
        best = {"value": self.best_value, "weights": self.best_weights, "epoch": self.best_epoch}
        checkpoint["saving"] = {"best": best, "stop": bool(trainer.should_stop)}

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: TrainingState) -> None:
        """Restore the best weights; if the training had stopped early, it stays stopped."""
        best = checkpoint["saving"]["best"]
        self.best_value, self.best_weights, self.best_epoch = best["value"], best["weights"], best["epoch"]
        trainer.should_stop = checkpoint["saving"]["stop"]

    def _act(self, trainer: pl.Trainer, signal: int, due: bool) -> None:
        if signal or due:
            self._save(trainer)
        if signal:
            trainer.strategy.barrier()  # the launcher ends the others once one exits
            self._leave(signal)

    def _save(self, trainer: pl.Trainer) -> None:
        if trainer.global_step == self._saved:
            return
        for logger in trainer.loggers:
            logger.save()  # a killed run resumes here: its log must reach this step
        state = checkpoint_of(trainer)  # every process must take part
        if trainer.is_global_zero:
            self._save_to(trainer.global_step, state)
        self._saved_at, self._saved = time.monotonic(), trainer.global_step


def require_same_step(trainer: pl.Trainer) -> None:
    """Raise KjcmError if the processes begin at different steps: they would wait for each other, or learn nonsense."""
    if trainer.world_size == 1:
        return
    step = trainer.global_step
    ends = torch.tensor([step, -step], device=trainer.strategy.root_device)
    torch.distributed.all_reduce(ends, torch.distributed.ReduceOp.MAX)
    last, first = ends[0].item(), -ends[1].item()
    if first != last:
        raise KjcmError(
            f"The processes of this run resume from different checkpoints (steps {first} to {last}): they see different "
            "files. Put the run folder on a disk that all nodes share, and start the run again."
        )


def agreed(trainer: pl.Trainer, signal: int, due: bool) -> tuple[int, bool]:
    """Return a signal that any process has received (0 if none), and whether a checkpoint is due in any process."""
    if trainer.world_size == 1:
        return signal, due
    asked = torch.tensor([signal, int(due)], device=trainer.strategy.root_device)
    torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX)
    signal, any_due = asked.tolist()
    return signal, bool(any_due)
