"""Every metric, defined once: what it is called, how its values are shown, and which of two values is better."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

TOP = (2, 3, 4, 5)  # k of Top-k
SHOWN_CODES = 10  # codes per row in predictions.parquet


@dataclass(frozen=True)
class Metric:
    """A metric.

    Attributes:
        name: in report.json, and after `val_` and `test_` in logs.
        label: on the screen and in logs.
        kind: how a table shows it: percent, `84.44 %` for the ratio 0.8444; share, `0.84` for the same ratio; value, any
            number with four digits after the point.
        lower_is_better: whether the lower of two values is the better one.
    """

    name: str
    label: str
    kind: Literal["percent", "share", "value"]
    lower_is_better: bool = False

    @property
    def heading(self) -> str:
        """Its column in the report."""
        return self.label[0].upper() + self.label[1:]


METRICS = {
    metric.name: metric
    for metric in (
        Metric("loss", "loss", "value", lower_is_better=True),
        Metric("accuracy", "accuracy", "percent"),
        Metric("precision_weighted", "precision", "share"),
        Metric("recall_weighted", "recall", "share"),
        Metric("f1_weighted", "F1", "share"),
        Metric("precision_macro", "macro precision", "share"),
        Metric("recall_macro", "macro recall", "share"),
        Metric("f1_macro", "macro F1", "share"),
        *(Metric(f"top_{k}_accuracy", f"Top-{k}", "percent") for k in TOP),
    )
}
# Metrics of a finished model, which `kjcm tune` measures by coding the validation rows.
MEASURED = {
    metric.name: metric
    for metric in (
        Metric("f1_tail", "F1 of the rare groups", "share"),
        Metric("seconds_per_1000_rows", "seconds per 1,000 rows", "value", lower_is_better=True),
    )
}
REPORTED = ("accuracy", "precision_weighted", "recall_weighted", "f1_weighted", "f1_macro")  # columns of the report
SUMMARY = (*REPORTED, "top_5_accuracy")  # of a run


def metric_of(name: str) -> Metric:
    """Return the record of a metric; one that is not in METRICS is shown by its name, and as a loss or error if named so."""
    lower = any(word in name.lower() for word in ("loss", "error"))
    return METRICS.get(name) or MEASURED.get(name) or Metric(name, name.replace("_", " "), "value", lower)


def shown(names: Collection[str], known: Collection[str] = SUMMARY) -> list[Metric]:
    """Return the metrics among `names` that a person is shown: those of `known`, then all that are not in METRICS."""
    return [metric_of(name) for name in (*(name for name in known if name in names), *further(names))]


def further(names: Collection[str]) -> list[str]:
    """Return those of `names` that are not in METRICS: metrics of the user's own."""
    return [name for name in names if name not in METRICS]
