"""A callback that reports a validation metric after each epoch."""

from collections.abc import Callable

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback


class EachEpoch(Callback):
    """Report a validation metric after each epoch; `tell` may raise, which ends the training.

    Args:
        metric: name of the metric, as `f1_weighted` or `loss`.
        tell: function of the number of finished epochs and the metric.
    """

    def __init__(self, metric: str, tell: Callable[[int, float], None]) -> None:
        self._metric, self._tell = metric, tell

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the metric of the finished epoch."""
        if trainer.state.fn == "fit":
            self._tell(trainer.current_epoch + 1, float(trainer.callback_metrics[f"val_{self._metric}"]))
