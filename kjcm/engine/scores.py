"""The paper's metrics with torchmetrics: computed on the device and over all DDP processes."""

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
    """Compute the mean loss of rows without waiting for the device; a NaN among the losses makes the mean NaN.

    torchmetrics' MeanMetric waits for the device at each update to look for NaN. With nan_strategy="disable" it
    ignores the weights (version 1.9).

    Attributes:
        total: sum of the rows' losses.
        rows: number of rows.
    """

    total: Tensor
    rows: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "rows"):
            self.add_state(name, torch.zeros(()), dist_reduce_fx="sum")

    def update(self, total: Tensor, rows: int) -> None:
        """Add the summed loss and the number of some rows."""
        self.total += total
        self.rows += rows

    def compute(self) -> Tensor:
        """Return the mean."""
        return self.total / self.rows


class Scores(nn.Module):
    """Compute accuracy, Top-2 to Top-5, weighted and macro precision, recall and F1, and each class's counts.

    A group that is never predicted has precision 0. As in scikit-learn, macro averages are over the classes that occur
    among codes or predictions.

    Args:
        classes: number of classes that the model can predict.
        unseen: number of further codes among the rows, which no prediction can match.
        further: function that makes further metrics of probabilities, given `classes` + `unseen`.
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
        for k in TOP:  # with fewer than k classes, every class is in the top k
            metrics[f"top_{k}_accuracy"] = MulticlassAccuracy(average="micro", top_k=min(k, self.predictable), **common)
        # Metrics of one group share their counts. torchmetrics would form the groups by the values of the first batch,
        # where Top-2 and Top-5 may be equal, and would then keep them together.
        groups = [[name] for name in metrics if name.endswith("accuracy")]
        groups.append([name for name in metrics if not name.endswith("accuracy")])
        self.own = MetricCollection(metrics, compute_groups=groups)
        self.further = MetricCollection(dict(further(self.scored)), compute_groups=False) if further else None

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Add rows; logits: [rows, classes]; target: [rows], where unseen codes have indices from `classes` on."""
        if self.scored > self.predictable:
            never = logits.new_full((len(logits), self.scored - self.predictable), -torch.inf)
            logits = torch.cat([logits, never], dim=1)
        logits = logits.float()
        self.own.update(logits, target)
        if self.further:
            self.further.update(logits.softmax(dim=1), target)

    def reset(self) -> None:
        """Remove all rows."""
        self.own.reset()
        if self.further:
            self.further.reset()

    def summary(self) -> tuple[dict[str, float], dict[str, list[float]]]:
        """Return the metrics, and each class's precision, recall, f1 and numbers of rows and predictions.

        Metrics are cut to 1, which float32 sums can slightly exceed.
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
            ConfigError: a metric is not a single number.
        """
        found: Mapping[str, Tensor] = self.further.compute() if self.further else {}
        if wrong := [name for name, value in found.items() if value.numel() != 1]:
            raise ConfigError(
                f"metrics.{wrong[0]} gives several numbers. Average them in the metric, for instance with average=macro."
            )
        return {name: float(value) for name, value in found.items()}
