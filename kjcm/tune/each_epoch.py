"""A training that tells how it does on its validation rows after each epoch."""

from collections.abc import Callable

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback


class EachEpoch(Callback):
    """Tells a validation metric after each epoch; what it tells may raise, and so end the training.

    Args:
        metric: its name, as `f1_weighted` or `loss`.
        tell: called with the number of epochs done and the metric.
    """

    def __init__(self, metric: str, tell: Callable[[int, float], None]) -> None:
        self._metric, self._tell = metric, tell

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell the metric of an epoch that training has just ended."""
        if trainer.state.fn == "fit":
            self._tell(trainer.current_epoch + 1, float(trainer.callback_metrics[f"val_{self._metric}"]))
