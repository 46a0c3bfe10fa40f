"""Saving a training between two steps."""

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

STEPS_A_TURN = 8  # several processes agree on what to do, which waits for their devices, this seldom


class Saving(Checkpoint):
    """Saves a training at its end, between two steps when it is time, and when the process is told to leave.

    A checkpoint is made just before a step, when everything that belongs to the step before it, validation and what the
    loggers get included, is over. It is the whole state, the best weights so far among it: one file, so that no two of
    them can disagree.

    Args:
        save: writes a checkpoint of this global step.
        every: seconds from one checkpoint to the next.
        asked: returns the number of a signal that asks to leave, 0 without one.
        leave: called after saving with that number; it raises, or returns where the training is to go on.
        monitor: the validation metric by which the best weights are kept; None: the last weights count.
        mode: 'min' or 'max', which value of it is best.
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
        self.best_value = math.inf  # of the monitored metric, times -1 where more is better
        self.best_epoch = 0  # counted from 1; 0 where it is not known
        self.best_weights: dict[str, Tensor] | None = None
        self._saved_at, self._saved = 0.0, -1

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock; where the training begins there is nothing new to save.

        Raises:
            KjcmError: the processes go on from different checkpoints.
        """
        require_same_step(trainer)
        self._saved_at, self._saved = time.monotonic(), trainer.global_step

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Save if it is time or the process is to leave, and leave; never between the batches of one optimiser step."""
        if batch_idx % trainer.accumulate_grad_batches:
            return
        if trainer.world_size > 1 and self._every and trainer.global_step % STEPS_A_TURN:
            return
        signal, due = agreed(trainer, self._asked(), time.monotonic() - self._saved_at >= self._every)
        self._act(trainer, signal, due)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the finished training, and leave if one process was told to since all were asked."""
        signal, _ = agreed(trainer, self._asked(), True)
        self._act(trainer, signal, True)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the best weights, in the host's memory; where a callback averages weights, those that were measured."""
        if self.monitor and trainer.state.fn == "fit":
            value = self._sign * float(trainer.callback_metrics[self.monitor])
            if self.best_weights is None or value < self.best_value:
                self.best_value = value if math.isfinite(value) else math.inf
                self.best_epoch = trainer.current_epoch + 1
                weights = averaged_weights(trainer) or pl_module.state_dict()
                self.best_weights = {name: value.cpu().clone() for name, value in weights.items()}

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: TrainingState) -> None:
        """Send the best weights along, and whether the training stops here."""
        best = {"value": self.best_value, "weights": self.best_weights, "epoch": self.best_epoch}
        checkpoint["saving"] = {"best": best, "stop": bool(trainer.should_stop)}

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: TrainingState) -> None:
        """Take them back; a training that had stopped early stays so."""
        best = checkpoint["saving"]["best"]
        self.best_value, self.best_weights, self.best_epoch = best["value"], best["weights"], best["epoch"]
        trainer.should_stop = checkpoint["saving"]["stop"]

    def _act(self, trainer: pl.Trainer, signal: int, due: bool) -> None:
        if signal or due:
            self._save(trainer)
        if signal:
            trainer.strategy.barrier()  # who leaves first would have its launcher end the others
            self._leave(signal)

    def _save(self, trainer: pl.Trainer) -> None:
        if trainer.global_step == self._saved:
            return
        for logger in trainer.loggers:
            logger.save()  # what a killed run has logged must not lag behind where it goes on
        state = checkpoint_of(trainer)  # every process takes part
        if trainer.is_global_zero:
            self._save_to(trainer.global_step, state)
        self._saved_at, self._saved = time.monotonic(), trainer.global_step


def require_same_step(trainer: pl.Trainer) -> None:
    """Raise KjcmError if processes begin at different steps: they would wait for each other, or learn nonsense."""
    if trainer.world_size == 1:
        return
    step = trainer.global_step
    ends = torch.tensor([step, -step], device=trainer.strategy.root_device)
    torch.distributed.all_reduce(ends, torch.distributed.ReduceOp.MAX)
    last, first = ends[0].item(), -ends[1].item()
    if first != last:
        raise KjcmError(
            f"The processes of this run go on from different checkpoints (steps {first} to {last}): not all of them see "
            "the same files. The run folder must be on a disk that all nodes share; start it again."
        )


def agreed(trainer: pl.Trainer, signal: int, due: bool) -> tuple[int, bool]:
    """Return what all processes do before this step: leave if one is told to, save if it is time for one."""
    if trainer.world_size == 1:
        return signal, due
    asked = torch.tensor([signal, int(due)], device=trainer.strategy.root_device)
    torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX)
    signal, late = asked.tolist()
    return signal, bool(late)
