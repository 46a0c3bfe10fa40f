"""Pick lists: the first codes of a row's ranking, for a person to choose from.

A list has 1 to k codes. It leaves out codes that are no likelier than LEAST, which keeps it short where the model is sure.
A list is shown where its codes together are likely enough: the threshold comes from the same test as the promise
(kjcm.triage.thresholds), with "the right code is not on the list" as the error.
"""

import numpy as np
from numpy.typing import NDArray

from kjcm.triage.calibration import Labels, Probabilities

NONE = -1  # no class
LEAST = 0.02  # a code is worth a place on a list if it is likelier
Picks = NDArray[np.int16]


def ranking(probability: Probabilities, k: int) -> NDArray[np.int64]:
    """Return each row's k likeliest classes, likeliest first, equals in class order: [rows, k]."""
    classes = probability.shape[1]
    some = np.argpartition(-probability, min(k, classes) - 1, axis=1)[:, :k]
    some.sort(axis=1)
    own = np.take_along_axis(probability, some, axis=1)
    found = np.take_along_axis(some, np.argsort(-own, axis=1, kind="stable"), axis=1)
    # argpartition takes any of those that are as likely as the k-th
    tied = np.flatnonzero((probability >= own.min(axis=1, keepdims=True, initial=2)).sum(axis=1) > k)
    found[tied] = np.argsort(-probability[tied], axis=1, kind="stable")[:, :k]
    return found


def first_codes(probability: Probabilities, k: int, least: float = LEAST) -> tuple[Picks, NDArray[np.float64]]:
    """Return each row's list [rows, k], NONE beyond its end, and the probability of its codes together [rows].

    Args:
        probability: [rows, classes].
        k: most codes of a list.
        least: a code is on a list if it is likelier; the first code always is.
    """
    order = ranking(probability, min(k, probability.shape[1]))
    own = np.take_along_axis(probability, order, axis=1)
    listed: NDArray[np.bool_] = np.greater(own, least)
    listed[:, :1] = True
    picks = np.full((len(order), k), NONE, np.int16)
    picks[:, : order.shape[1]] = np.where(listed, order, NONE)
    return picks, np.where(listed, own, 0).sum(axis=1)


def on_list(picks: Picks, labels: Labels) -> NDArray[np.bool_]:
    """Return which lists [rows, k] hold their row's label: [rows]; a label that is no class is on none."""
    found: NDArray[np.bool_] = np.any(picks == labels[:, None], axis=1)
    return found


def sizes(picks: Picks) -> NDArray[np.int64]:
    """Return how many codes are on each list: [rows]."""
    count: NDArray[np.int64] = (picks != NONE).sum(axis=1)
    return count
