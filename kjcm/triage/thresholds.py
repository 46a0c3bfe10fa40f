"""A threshold that keeps a promise: of the rows above it, at most a target share is wrong.

The fallback procedure (Wiens, A fixed sequence Bonferroni procedure for testing multiple endpoints, 2003) tests the
acceptance shares in a fixed order, strictest first. Each start brings an equal part of the level, and a share that passes
hands all of its level to the next one. The chance that any untrue hypothesis is rejected is at most the level.

Shares, order and starts depend on the number of rows alone, and p-values fall as the target rises. So whatever passes
under a target also passes under every looser one, with at least as high a level.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SHARES = tuple(share / 20 for share in range(1, 21))  # acceptance shares
STARTS = (40, 80, 160)  # rows from which a test has power: for targets of about 0.2, 0.1 and 0.05
LEAST_LEFT = 80  # rows of a further set that is worth a test of its own


@dataclass(frozen=True)
class Point:
    """What would be accepted at one share; it depends on no target.

    Attributes:
        share: of the rows, that would be accepted.
        threshold: a row is accepted if its confidence is greater.
        counts: rows and errors of each set of rows for which the promise must hold, the accepted rows first.
        weight: part of the level that starts here.
    """

    share: float
    threshold: float
    counts: tuple[tuple[int, int], ...]
    weight: float


@dataclass(frozen=True)
class Tried:
    """One share that was tested.

    Attributes:
        share: of the rows, that would be accepted.
        threshold: a row is accepted if its confidence is greater.
        rows: accepted rows, or of the set with the greatest p where there are several.
        errors: wrong rows among them.
        level: at which it was tested, 0 where no level reached it.
        p: the chance of so few errors if the error rate were the target.
        passed: whether the promise can be made.
    """

    share: float
    threshold: float
    rows: int
    errors: int
    level: float
    p: float
    passed: bool


def points(
    confidence: NDArray[np.float64],
    right_at: Callable[[float], NDArray[np.bool_]],
    subsets: Sequence[NDArray[np.bool_]] = (),
) -> list[Point]:
    """Return what each share would accept, strictest first.

    Args:
        confidence: [rows], of rows that neither trained nor calibrated the model.
        right_at: threshold -> [rows], whether the code that each row would get at that threshold is right.
        subsets: [rows] each; the promise must also hold for the accepted rows among them, where there are LEAST_LEFT.
    """
    falling = np.sort(confidence)[::-1]
    found = []
    for share, weight in zip(SHARES, weights(len(confidence)), strict=True):
        wanted = int(share * len(confidence))
        # the rows above the next one: given its confidence they are a random sample of all rows above it
        threshold = float(falling[wanted]) if wanted < len(falling) else -1.0
        accepted, wrong = confidence > threshold, ~right_at(threshold)
        sets = [accepted, *(own for subset in subsets if (own := accepted & subset).sum() >= LEAST_LEFT)]
        counts = tuple((int(own.sum()), int((own & wrong).sum())) for own in sets)
        found.append(Point(share, threshold, counts, weight))
    return found


def weights(rows: int) -> list[float]:
    """Return the part of the level that starts at each share: equal parts at the first shares of so many rows as STARTS."""
    first: list[int] = []
    for least in STARTS:
        place = next((place for place, share in enumerate(SHARES) if int(share * rows) >= least), len(SHARES))
        place = max(place, first[-1] + 1 if first else 0)
        first += [place] if place < len(SHARES) else []
    first = first or [len(SHARES) - 1]  # too few rows for any start: all of them at once
    return [first.count(place) / len(first) for place in range(len(SHARES))]


def fallback(candidates: Sequence[Point], target: float, level: float = 0.05) -> list[Tried]:
    """Test shares for an error rate of at most `target` in each of their sets; level: 1 - the promise's confidence.

    A share passes where all of its sets pass. That needs no lower level: it is untrue if one set breaks the promise, and
    then that set's test passes with at most the level's chance.
    """
    from scipy.stats import binom

    tried: list[Tried] = []
    counts = np.array([count for one in candidates for count in one.counts])
    chances = iter(binom.cdf(counts[:, 1], counts[:, 0], target).tolist())
    for one in candidates:
        handed = tried[-1].level if tried and tried[-1].passed else 0.0
        own = handed + one.weight * level
        p, (rows, errors) = max((next(chances), count) for count in one.counts)
        tried.append(Tried(one.share, one.threshold, rows, errors, own, p, passed=p <= own))
    return tried


def last_passed(tried: Sequence[Tried]) -> Tried | None:
    """Return the most generous share that passed, None where none did."""
    passed = [one for one in tried if one.passed]
    return passed[-1] if passed else None
