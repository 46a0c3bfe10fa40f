"""The paper's metrics with torchmetrics: on the device, and right under DDP."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
    MulticlassStatScores,
)

from kjcm.confusion import precision_recall_f1
from kjcm.errors import ConfigError
from kjcm.metrics import TOP


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


class Scores(nn.Module):
    """Accuracy, weighted and macro precision, recall and F1, Top-2 to Top-5, and the counts of each class.

    A group that is never predicted has precision 0. Macro averages are over the classes that occur among codes or
    predictions, as scikit-learn has them.

    Args:
        classes: classes that the model can predict.
        unseen: further codes among the rows, which no prediction can match.
        further: makes further metrics, given the number of classes and unseen codes; they take probabilities.
    """

    def __init__(
        self, classes: int, unseen: int = 0, further: Callable[[int], Mapping[str, Metric]] | None = None
    ) -> None:
        super().__init__()
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
        self.own = MetricCollection(metrics, compute_groups=groups)
        self.further = MetricCollection(dict(further(self.scored)), compute_groups=False) if further else None

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Add rows; logits: [rows, classes], target: [rows] with indices from `classes` on for unseen codes."""
        if self.scored > self.predictable:
            never = logits.new_full((len(logits), self.scored - self.predictable), -torch.inf)
            logits = torch.cat([logits, never], dim=1)
        logits = logits.float()
        self.own.update(logits, target)
        if self.further:
            self.further.update(logits.softmax(dim=1), target)

    def reset(self) -> None:
        """Forget all rows."""
        self.own.reset()
        if self.further:
            self.further.reset()

    def summary(self) -> tuple[dict[str, float], dict[str, list[float]]]:
        """Return the metrics, and per class precision, recall, f1 and the counts of rows and predictions.

        Sums of float32 weights can end a hair above 1, which no metric is.
        """
        values: Mapping[str, Tensor] = self.own.compute()
        tp, fp, _, _, rows = values["counts"].double().cpu().numpy().T
        found = (*precision_recall_f1(rows, tp + fp, tp), rows, tp + fp)
        per_class = {
            name: part.tolist()
            for name, part in zip(("precision", "recall", "f1", "n", "n_predicted"), found, strict=True)
        }
        own = {name: min(1.0, float(value)) for name, value in values.items() if name != "counts"}
        return own | self._further(), per_class

    def _further(self) -> dict[str, float]:
        """Return the further metrics.

        Raises:
            ConfigError: one is not a single number.
        """
        found: Mapping[str, Tensor] = self.further.compute() if self.further else {}
        if wrong := [name for name, value in found.items() if value.numel() != 1]:
            raise ConfigError(f"metrics.{wrong[0]} is no single number. Average it, as with average=macro.")
        return {name: float(value) for name, value in found.items()}
