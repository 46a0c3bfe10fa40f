"""A LightningModule that can resume its training at any step: its optimiser, its dropout seeds and its checkpoints."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric

from kjcm.engine.data import Batch
from kjcm.engine.learning import Learning
from kjcm.engine.lightning_internals import Position, loops_at
from kjcm.engine.scores import MeanLoss
from kjcm.errors import KjcmError


class Resumable(pl.LightningModule, ABC):
    """An encoder and how it learns; subclasses say what its loss is and how it is validated.

    Args:
        encoder: the model.
        classes: the ordered codes that it learns, if any; every checkpoint contains them.
        classes_hash: hash of what the model's outputs mean.
        learning: loss, optimiser and schedule; None for a module that is only evaluated.
        dropout_seed: the config's seeds.dropout; with epoch, step and rank it determines a step's dropout.
        fused: whether to use the optimiser's fused kernel.
    """

    def __init__(
        self,
        encoder: nn.Module,
        classes: Sequence[str],
        classes_hash: str,
        learning: Learning | None,
        dropout_seed: int,
        *,
        fused: bool,
    ) -> None:
        super().__init__()
        self.fused, self.encoder = fused, encoder
        self.classes, self.classes_hash = tuple(classes), classes_hash
        self.learning, self.dropout_seed = learning, dropout_seed
        self.train_loss = MeanLoss()
        # torchmetrics would leave NaN out of the mean, so NaN counts as infinite.
        self.validation_loss = MeanMetric(nan_strategy=math.inf)
        self.epoch, self.step = 0, 0  # epoch of the next step, and its number there
        self.capture_seconds = 0.0  # time to compile and capture a step
        self._seeds: tuple[int, list[int]] = (-1, [])  # an epoch and its steps' seeds

    @abstractmethod
    def total_loss(self, batch: Batch) -> Tensor:
        """Return the sum of the rows' losses."""

    def on_train_epoch_start(self) -> None:
        """Count steps from 0 in a new epoch."""
        if self.epoch != self.current_epoch:  # equal after a resume within the epoch
            self.epoch, self.step = self.current_epoch, 0

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed the dropout of this step."""
        self.seed_dropout()

    def seed_dropout(self) -> None:
        """Seed the next step's dropout, so that a run can resume at any step."""
        if self._seeds[0] != self.epoch:
            source = np.random.SeedSequence([self.dropout_seed, self.epoch, self.global_rank])
            self._seeds = self.epoch, source.generate_state(self._steps_per_epoch, np.uint64).tolist()
        seed, device = self._seeds[1][self.step], self.device
        if device.type == "cuda":  # torch.manual_seed is slow: it seeds every device
            torch.cuda.default_generators[device.index or 0].manual_seed(seed)
        elif device.type == "cpu":
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)

    @property
    def next_rate(self) -> float:
        """Return the next step's learning rate."""
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        return float(optimizer.param_groups[0]["lr"])

    @property
    def _steps_per_epoch(self) -> int:
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        return int(data.steps_per_epoch)

    def training_step(self, batch: Batch) -> Tensor:
        """Return a loss whose gradient, averaged over processes, is the gradient of the batch's mean loss."""
        self.step += 1
        if not len(batch["labels"]):  # fewer rows than processes in the last batch
            return 0.0 * torch.stack([weight.sum() for weight in self.parameters()]).sum()
        total = self.total_loss(batch)
        rows = len(batch["labels"])
        self.train_loss.update(total.detach(), rows)
        self.log("train_loss_step", total.detach() / rows, prog_bar=True, batch_size=rows)
        return total * (self.trainer.world_size / batch["of_rows"])

    def on_train_epoch_end(self) -> None:
        """Log the epoch's mean loss over rows and the learning rate.

        Raises:
            KjcmError: the loss is not finite.
        """
        loss = float(self.train_loss.compute())
        if not math.isfinite(loss):
            raise KjcmError(
                f"The training loss is {loss} in epoch {self.current_epoch + 1}: the training diverged. Lower optim.lr "
                f"(now {self.next_rate:g}), or set trainer.flags.gradient_clip_val=1.0."
            )
        self.log_dict({"train_loss": self.train_loss, "lr": self.next_rate})

    def configure_optimizers(self) -> Any:
        """Return the optimiser with its schedule, which advances once per optimiser step."""
        optimizer, schedule = self.new_optimizer(), self._learning.schedule
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(step, steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def new_optimizer(self) -> torch.optim.Optimizer:
        """Return the optimiser of the trainable weights."""
        return self._learning.optimizer(self, fused=self.fused)

    @property
    def _learning(self) -> Learning:
        assert self.learning is not None, "this module only measures"
        return self.learning

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        """Clip the gradient here, because Lightning refuses to for a fused optimiser in mixed precision."""
        self._learning.limit(self.parameters())

    def on_train_start(self) -> None:
        """Set the optimiser's flags and schedule again: a checkpoint may come from another device or engine."""
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        for group in optimizer.param_groups:
            ours = {"fused": self.fused or None, "capturable": False}
            group.update({name: value for name, value in ours.items() if name in group}, lr=float(group["lr"]))
        for config in self.trainer.lr_scheduler_configs:  # the captured engine saves none
            config.scheduler.last_epoch = self.trainer.global_step

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the class order, the training's position, and the epoch's loss summed over all processes.

        The position replaces Lightning's counters, which count batches that differ between engines.
        """
        over = self.step == self._steps_per_epoch
        sums = torch.stack([self.train_loss.total, self.train_loss.rows])
        checkpoint["loops"] = {}
        checkpoint["kjcm"] = {
            "classes": list(self.classes),
            "classes_hash": self.classes_hash,
            "epoch": self.epoch + over,
            "step": 0 if over else self.step,
            "losses": (torch.zeros_like(sums) if over else self.trainer.strategy.reduce(sums, reduce_op="sum")).cpu(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Resume from a checkpoint, also from another engine or number of processes.

        Raises:
            KjcmError: the class order differs.
        """
        self.require_same_classes(checkpoint)
        place, data = checkpoint["kjcm"], self.trainer.datamodule  # type: ignore[attr-defined]
        self.epoch, self.step = place["epoch"], place["step"]
        data.begin_at(self.epoch, self.step)
        accumulated = self.trainer.accumulate_grad_batches
        position = Position(self.epoch, self.step, data.steps_per_epoch, data.block or 1, accumulated)
        checkpoint["loops"] = {"fit_loop": loops_at(self.trainer, position)}
        if self.step and self.global_rank == 0:
            self.train_loss.update(torch.tensor(0.0), 0)  # avoids a warning about an empty metric
            self.train_loss.total, self.train_loss.rows = place["losses"].to(self.train_loss.device).unbind()

    def require_same_classes(self, checkpoint: Mapping[str, Any]) -> None:
        """Raise KjcmError if a checkpoint has other classes, or the same in another order."""
        theirs = checkpoint.get("kjcm", {}).get("classes_hash")
        if theirs != self.classes_hash:
            raise KjcmError(
                f"The checkpoint has other classes (hash {str(theirs)[:12]}, here {self.classes_hash[:12]}). It belongs "
                "to another cohort. Use that cohort's run, or start again with overwrite=true."
            )
