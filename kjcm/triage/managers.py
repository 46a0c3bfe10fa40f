"""The managers' rule, which the paper proposes: only people who say that they manage can be coded into major group 1."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kjcm.read.cells import without_decimals
from kjcm.triage.calibration import Probabilities

YES = frozenset({"1", "y", "yes", "true", "o", "예", "네", "있음", "유"})
NO = frozenset({"", "0", "2", "n", "no", "false", "x", "아니오", "아니요", "없음", "무"})


def says_words(texts: Sequence[str], words: Sequence[str]) -> NDArray[np.bool_]:
    """Return which texts hold one of the key words: [rows]."""
    return np.array([any(word in text for word in words) for text in texts], dtype=bool)


def yes_or_no(cell: str) -> bool | None:
    """Return what a cell answers; empty is no, None is neither."""
    text = without_decimals(cell.strip().lower())
    return True if text in YES else False if text in NO else None


def gated(probability: Probabilities, manages: NDArray[np.bool_], managers: NDArray[np.bool_]) -> Probabilities:
    """Return probabilities [rows, classes] without the managers' classes where a row does not say so, the others scaled up.

    Args:
        probability: [rows, classes].
        manages: [rows], who says that they manage.
        managers: [classes], which are managers' codes.
    """
    if managers.all() or not managers.any():
        return probability
    kept = np.where(managers & ~manages[:, None], 0, probability)
    whole = kept.sum(axis=1, keepdims=True)
    # a row that is a manager's by all of its probability leaves nothing to scale: the other codes share it
    return np.where(whole > 0, kept / np.where(whole > 0, whole, 1), ~managers / (~managers).sum())
