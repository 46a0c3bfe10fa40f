"""Pick lists that hold the right code at a stated rate, in every major group: label-conditional conformal sets.

A code is on the list if its probability is not below what its own major group's right codes had, all but a share alpha of
them. Groups by major group and not by code, as a quantile at alpha takes about 1 / alpha rows of a group.
Vovk, Conditional validity of inductive conformal predictors, 2012; Ding et al., Class-Conditional Conformal Prediction with
Many Classes, 2023.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from kjcm.triage.calibration import Labels, Probabilities, probability_of

POOLED = "pooled"


def pools(majors: Sequence[str], n_train: Sequence[int], rows: int, alpha: float) -> list[str]:
    """Return the group of each class: its major group, or one pool of those that would have too few rows for a quantile.

    Which major groups are pooled depends on training rows alone, so that the guarantee holds.

    Args:
        majors: [classes], the major group of each class.
        n_train: [classes], its training rows.
        rows: that the quantiles will be taken from.
        alpha: share of the lists that may miss.
    """
    counts: dict[str, int] = {}
    for major, count in zip(majors, n_train, strict=True):
        counts[major] = counts.get(major, 0) + count
    whole = max(1, sum(counts.values()))
    few = {major for major, count in counts.items() if count / whole * rows < 2 / alpha}
    return [POOLED if major in few else major for major in majors]


def cuts(probability: Probabilities, labels: Labels, groups: Sequence[str], alpha: float) -> Mapping[str, float]:
    """Return the least probability with which a code of each group is on a list; 0 where the group has too few rows.

    A row whose own code has no probability left (the managers' rule took it) is none that a list could serve.

    Args:
        probability: [rows, classes].
        labels: [rows], class indices.
        groups: [classes], the group of each class.
        alpha: share of the lists of a group's rows that may miss the right code.
    """
    own = probability_of(probability, labels)
    own, of_row = own[own > 0], np.array(groups, dtype=object)[labels[own > 0]]
    found = {}
    for group in sorted(set(groups)):
        rising = np.sort(own[of_row == group])
        # of n + 1 exchangeable rows the new one is among the k lowest with probability k / (n + 1)
        missed = int(np.floor(alpha * (len(rising) + 1)))
        found[group] = float(rising[missed - 1]) if missed else 0.0
    return found


def on_list(probability: Probabilities, groups: Sequence[str], cut: Mapping[str, float]) -> NDArray[np.bool_]:
    """Return which classes are on each row's list: [rows, classes]; none that has no probability."""
    least = np.array([cut[group] for group in groups])
    listed: NDArray[np.bool_] = np.greater_equal(probability, least) & np.greater(probability, 0)
    return listed


def holds(listed: NDArray[np.bool_], labels: Labels) -> NDArray[np.bool_]:
    """Return which lists [rows, classes] hold their row's label: [rows]; a label that is no class is on none."""
    classes = listed.shape[1]
    found: NDArray[np.bool_] = listed[np.arange(len(labels)), np.minimum(labels, classes - 1)] & (labels < classes)
    return found
