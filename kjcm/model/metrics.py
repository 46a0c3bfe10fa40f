"""The paper's metrics with torchmetrics: on the device, and right under DDP."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
    MulticlassStatScores,
)

TOP = (2, 3, 4, 5)


class MeanLoss(Metric):
    """The mean loss of rows, summed without waiting for the device; one that is no number makes the mean none.

    torchmetrics' MeanMetric asks the device at each update whether there was such a one, or with nan_strategy="disable"
    forgets the weights (1.9).

    Attributes:
        total: sum of the rows' losses.
        rows: their number.
    """

    total: Tensor
    rows: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "rows"):
            self.add_state(name, torch.zeros(()), dist_reduce_fx="sum")

    def update(self, total: Tensor, rows: int) -> None:
        """Add the summed loss of some rows."""
        self.total += total
        self.rows += rows

    def compute(self) -> Tensor:
        """Return the mean."""
        return self.total / self.rows


class Scores(MetricCollection):
    """Accuracy, weighted and macro precision, recall and F1, Top-2 to Top-5, and the counts of each class.

    A group that is never predicted has precision 0. Macro averages are over the classes that occur among codes or
    predictions, as scikit-learn has them.

    Args:
        classes: classes that the model can predict.
        unseen: further codes among the rows, which no prediction can match.
    """

    def __init__(self, classes: int, unseen: int = 0) -> None:
        self.predictable, self.scored = classes, classes + unseen
        common: dict[str, Any] = {"num_classes": self.scored, "validate_args": False}
        metrics: dict[str, Metric | MetricCollection] = {
            "accuracy": MulticlassAccuracy(average="micro", **common),
            "counts": MulticlassStatScores(average=None, **common),
        }
        for average in ("weighted", "macro"):
            metrics[f"precision_{average}"] = MulticlassPrecision(average=average, zero_division=0, **common)
            metrics[f"recall_{average}"] = MulticlassRecall(average=average, zero_division=0, **common)
            metrics[f"f1_{average}"] = MulticlassF1Score(average=average, zero_division=0, **common)
        for k in TOP:  # with fewer than k classes all of them are among the first k
            metrics[f"top_{k}_accuracy"] = MulticlassAccuracy(average="micro", top_k=min(k, self.predictable), **common)
        # what shares its counts is said here: found out from a first batch, Top-2 and Top-5 may look alike and stay tied
        groups = [[name] for name in metrics if name.endswith("accuracy")]
        groups.append([name for name in metrics if not name.endswith("accuracy")])
        super().__init__(metrics, compute_groups=groups)

    def update(self, logits: Tensor, target: Tensor) -> None:  # type: ignore[override]
        """Add rows; logits: [rows, classes], target: [rows] with indices from `classes` on for unseen codes."""
        if self.scored > self.predictable:
            never = logits.new_full((len(logits), self.scored - self.predictable), -torch.inf)
            logits = torch.cat([logits, never], dim=1)
        super().update(logits.float(), target)

    def summary(self) -> tuple[dict[str, float], dict[str, list[float]]]:
        """Return the metrics, and per class precision, recall, f1 and the counts of rows and predictions.

        Sums of float32 weights can end a hair above 1, which no metric is.
        """
        values: Mapping[str, Tensor] = self.compute()
        counts = values["counts"].double().cpu()
        tp, fp, _, fn, rows = counts.unbind(1)
        per_class = {
            "precision": ratio(tp, tp + fp),
            "recall": ratio(tp, tp + fn),
            "f1": ratio(2 * tp, 2 * tp + fp + fn),
            "n": rows.tolist(),
            "n_predicted": (tp + fp).tolist(),
        }
        return {name: min(1.0, float(value)) for name, value in values.items() if name != "counts"}, per_class


def ratio(part: Tensor, whole: Tensor) -> list[float]:
    """Return part / whole, 0 where whole is 0."""
    return torch.where(whole > 0, part / whole.clamp(min=1), 0.0).tolist()
