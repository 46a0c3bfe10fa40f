"""Pick lists: a row's likeliest codes, from which a person chooses.

A list has 1 to k codes. It leaves out codes of at most LEAST probability, so it is short if the model is sure. A list is
shown if its codes' total probability is high enough. The threshold comes from the same test as the promise
(kjcm.triage.thresholds), with "the right code is not on the list" as the error.
"""

import numpy as np
from numpy.typing import NDArray

from kjcm.triage.calibration import Labels, Probabilities

NONE = -1  # no class
LEAST = 0.02  # a listed code is likelier than this
Picks = NDArray[np.int16]


def ranking(probability: Probabilities, k: int) -> NDArray[np.int64]:
    """Return each row's k likeliest classes, likeliest first, equals in class order: [rows, k]."""
    classes = probability.shape[1]
    some = np.argpartition(-probability, min(k, classes) - 1, axis=1)[:, :k]
    some.sort(axis=1)
    own = np.take_along_axis(probability, some, axis=1)
    found = np.take_along_axis(some, np.argsort(-own, axis=1, kind="stable"), axis=1)
    # argpartition chooses any of the codes that tie for rank k
    tied = np.flatnonzero((probability >= own.min(axis=1, keepdims=True, initial=2)).sum(axis=1) > k)
    found[tied] = np.argsort(-probability[tied], axis=1, kind="stable")[:, :k]
    return found


def first_codes(probability: Probabilities, k: int, least: float = LEAST) -> tuple[Picks, NDArray[np.float64]]:
    """Return each row's list [rows, k], NONE beyond its end, and the probability of its codes together [rows].

    Args:
        probability: [rows, classes].
        k: most codes of a list.
        least: a code is on a list if it is likelier than this; the top-1 code always is.
    """
    order = ranking(probability, min(k, probability.shape[1]))
    own = np.take_along_axis(probability, order, axis=1)
    listed: NDArray[np.bool_] = np.greater(own, least)
    listed[:, :1] = True
    picks = np.full((len(order), k), NONE, np.int16)
    picks[:, : order.shape[1]] = np.where(listed, order, NONE)
    return picks, np.where(listed, own, 0).sum(axis=1)


def on_list(picks: Picks, labels: Labels) -> NDArray[np.bool_]:
    """Return which lists [rows, k] contain their row's label: [rows]; a label that is not a class is on no list."""
    found: NDArray[np.bool_] = np.any(picks == labels[:, None], axis=1)
    return found


def sizes(picks: Picks) -> NDArray[np.int64]:
    """Return how many codes are on each list: [rows]."""
    count: NDArray[np.int64] = (picks != NONE).sum(axis=1)
    return count
