"""The paper's rule for managers: only people who say that they manage can be coded into major group 1."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kjcm.errors import ConfigError
from kjcm.ksco.classification import MANAGERS
from kjcm.read.cells import without_decimals
from kjcm.triage.calibration import Probabilities

YES = frozenset({"1", "y", "yes", "true", "o", "예", "네", "있음", "유"})
NO = frozenset({"", "0", "2", "n", "no", "false", "x", "아니오", "아니요", "없음", "무"})


def says_words(texts: Sequence[str], words: Sequence[str]) -> NDArray[np.bool_]:
    """Return which texts contain one of the key words: [rows]."""
    return np.array([any(word in text for word in words) for text in texts], dtype=bool)


def yes_or_no(cell: str) -> bool | None:
    """Return whether a cell says yes; an empty cell says no, None means neither."""
    text = without_decimals(cell.strip().lower())
    return True if text in YES else False if text in NO else None


def managing_classes(majors: Sequence[str], rule: str) -> NDArray[np.bool_]:
    """Return which classes are managers' codes: [classes].

    Args:
        majors: [classes], major groups.
        rule: triage.managers, for messages.

    Raises:
        ConfigError: a rule for managers is set, and no class is a manager's code.
    """
    managing = np.array([major == MANAGERS for major in majors])
    if rule != "none" and not managing.any():
        raise ConfigError(f"triage.managers={rule}: the model has no codes of major group {MANAGERS}. Use none.")
    return managing


def gated(probability: Probabilities, manages: NDArray[np.bool_], managers: NDArray[np.bool_]) -> Probabilities:
    """Set managers' classes to 0 for rows that do not say they manage, and scale up the other classes: [rows, classes].

    Args:
        probability: [rows, classes].
        manages: [rows], who says that they manage.
        managers: [classes], which classes are managers' codes.
    """
    if managers.all() or not managers.any():
        return probability
    kept = np.where(managers & ~manages[:, None], 0, probability)
    whole = kept.sum(axis=1, keepdims=True)
    # if managers' classes had all of a row's probability, nothing is left to scale: the other classes share it equally
    return np.where(whole > 0, kept / np.where(whole > 0, whole, 1), ~managers / (~managers).sum())
