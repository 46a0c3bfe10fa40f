"""Report a validation metric after each epoch to a function."""

from collections.abc import Callable

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback


class EachEpoch(Callback):
    """Call a function with a validation metric after each epoch; an error in the function ends the training.

    Args:
        metric: name of the metric, such as `f1_weighted` or `loss`.
        report: function of the number of finished epochs and the metric's value.
    """

    def __init__(self, metric: str, report: Callable[[int, float], None]) -> None:
        self._metric, self._report = metric, report

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the metric of the finished epoch."""
        if trainer.state.fn == "fit":
            self._report(trainer.current_epoch + 1, float(trainer.callback_metrics[f"val_{self._metric}"]))
