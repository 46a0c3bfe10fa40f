"""Precision, recall and F1 from counts of rows: the one place that divides them."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Counts = tuple[Floats, Floats, Floats]


def counts(truth: NDArray[Any], first: NDArray[Any], size: int, weights: ArrayLike | None = None) -> Counts:
    """Return the rows of each class, the rows predicted to be of it, and those that are both: [size] each.

    Args:
        truth: [rows] index of the true class.
        first: [rows] index of the predicted class, `size` where there is none.
        size: number of classes.
        weights: [rows] how often each row counts; once by default.
    """
    each = np.ones(len(truth)) if weights is None else np.asarray(weights, float)
    right = truth == first
    true, predicted, both = (
        np.bincount(indices, weight, size + 1)[:size].astype(float)
        for indices, weight in ((truth, each), (first, each), (truth[right], each[right]))
    )
    return true, predicted, both


def precision_recall_f1(true: ArrayLike, predicted: ArrayLike, both: ArrayLike, empty: float = 0.0) -> Counts:
    """Return precision, recall and F1 of each class from its counts.

    Args:
        true: rows of each class.
        predicted: rows predicted to be of it.
        both: rows that are both.
        empty: the value where there is nothing to divide by, as the precision of a class that is never predicted.
    """
    true, predicted, both = (np.asarray(part, float) for part in (true, predicted, both))

    def ratio(part: Floats, whole: Floats) -> Floats:
        return np.divide(part, whole, out=np.full_like(whole, empty), where=whole > 0)

    return ratio(both, predicted), ratio(both, true), ratio(2 * both, true + predicted)


def averages(true: Floats, predicted: Floats, both: Floats) -> dict[str, float]:
    """Return precision, recall and F1 weighted by the classes' true rows, and F1 as a mean over the classes that occur.

    They are scikit-learn's with zero_division=0, bit by bit where rows are not weighted.
    """
    precision, recall, f1 = precision_recall_f1(true, predicted, both)
    weighted = {"precision_weighted": precision, "recall_weighted": recall, "f1_weighted": f1}
    return {
        **{name: float(np.average(values, weights=true)) for name, values in weighted.items()},
        "f1_macro": float(f1[true + predicted > 0].mean()),
    }
