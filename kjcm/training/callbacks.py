"""kjcm's own callbacks for conf/callbacks, which also offers some of Lightning's."""

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch import callbacks

from kjcm.metrics import metric_of


class EarlyStopping(callbacks.EarlyStopping):
    """Stop the training once a validation metric has not improved for `patience` epochs.

    Args:
        monitor: `val_loss`, or `val_` and the name of a metric.
        patience: number of epochs without a better value.
        min_delta: smallest difference that counts as better.
        mode: 'min' or 'max'; None: the metric's own direction.
    """

    def __init__(
        self, monitor: str = "val_loss", patience: int = 3, min_delta: float = 0.0, mode: str | None = None
    ) -> None:
        mode = mode or ("min" if metric_of(monitor.removeprefix("val_")).lower_is_better else "max")
        super().__init__(monitor, min_delta, patience, mode=mode, check_on_train_epoch_end=False)


class EpochAveraging(callbacks.WeightAveraging):
    """Average the weights at the ends of the last epochs: stochastic weight averaging (Izmailov et al., UAI 2018).

    The learning rate still follows the schedule.

    Args:
        start: share of the epochs before averaging begins.
    """

    def __init__(self, start: float = 0.75) -> None:
        if not 0 <= start < 1:
            raise ValueError(f"start={start}: use a share from 0, below 1")
        super().__init__()
        self.start, self._counts = start, False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the weights to the mean at the end of an epoch, before validation."""
        self._counts = trainer.is_last_batch and trainer.current_epoch >= int(self.start * (trainer.max_epochs or 1))
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Return whether to add the weights to the mean now."""
        return step_idx is not None and self._counts

    @property
    def _averages(self) -> bool:
        return self._average_model is not None and bool(self._average_model.n_averaged > 0)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validate the mean of the weights once averaging has begun."""
        if self._averages:
            super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Continue training with the current weights rather than their mean."""
        if self._averages:
            super().on_validation_epoch_end(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give the trained model the mean of the weights if averaging has begun."""
        if self._averages:
            super().on_train_end(trainer, pl_module)


class GradientNorm(pl.Callback):
    """Log `gradient_norm`, the norm of the whole gradient before clipping."""

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        """Log this step's gradient norm."""
        gradients = [weight.grad for weight in pl_module.parameters() if weight.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        pl_module.log("gradient_norm", norm, on_step=True, on_epoch=False, batch_size=1)
