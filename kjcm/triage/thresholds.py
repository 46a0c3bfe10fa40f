"""Find a threshold with a promise: at most a target share of the rows above it is wrong.

The fallback procedure (Wiens, A fixed sequence Bonferroni procedure for testing multiple endpoints, 2003) tests the
acceptance shares in a fixed order, strictest first. Each start has an equal part of the level, and a share that passes
hands its whole level to the next share. The chance that any share with too many errors passes is at most the level.

Shares, order and starts depend only on the number of rows, and p-values fall as the target rises. So a share that passes
under one target also passes under every looser target, with at least as high a level.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SHARES = tuple(share / 20 for share in range(1, 21))  # acceptance shares
STARTS = (40, 80, 160)  # a test has power from these rows on: targets 0.2, 0.1, 0.05
LEAST_LEFT = 80  # least rows of a further set with a test of its own


@dataclass(frozen=True)
class Point:
    """The rows that one share would accept, whatever the target.

    Attributes:
        share: of the rows, that would be accepted.
        threshold: a row is accepted if its confidence is greater.
        counts: rows and errors of each set of rows with the promise, the accepted rows first.
        weight: part of the level that starts here.
    """

    share: float
    threshold: float
    counts: tuple[tuple[int, int], ...]
    weight: float


@dataclass(frozen=True)
class Tried:
    """One tested share.

    Attributes:
        share: of the rows, that would be accepted.
        threshold: a row is accepted if its confidence is greater.
        rows: accepted rows; with several sets, the rows of the set with the greatest p.
        errors: wrong rows among them.
        level: of its test, 0 if no level reached it.
        p: the chance of at most this many errors if the error rate were the target.
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
    """Return the points of all shares, strictest first.

    Args:
        confidence: [rows], of rows that neither trained nor calibrated the model.
        right_at: threshold -> [rows], whether each row's code at that threshold is right.
        subsets: [rows] each; their accepted rows have the promise too, if there are LEAST_LEFT of them.
    """
    falling = np.sort(confidence)[::-1]
    found = []
    for share, weight in zip(SHARES, weights(len(confidence)), strict=True):
        wanted = int(share * len(confidence))
        # given the next row's confidence, the rows above it are a random sample of all rows with a higher confidence
        threshold = float(falling[wanted]) if wanted < len(falling) else -1.0
        accepted, wrong = confidence > threshold, ~right_at(threshold)
        sets = [accepted, *(own for subset in subsets if (own := accepted & subset).sum() >= LEAST_LEFT)]
        counts = tuple((int(own.sum()), int((own & wrong).sum())) for own in sets)
        found.append(Point(share, threshold, counts, weight))
    return found


def weights(rows: int) -> list[float]:
    """Return the part of the level that starts at each share: equal parts at the first shares with STARTS rows."""
    first: list[int] = []
    for least in STARTS:
        place = next((place for place, share in enumerate(SHARES) if int(share * rows) >= least), len(SHARES))
        place = max(place, first[-1] + 1 if first else 0)
        first += [place] if place < len(SHARES) else []
    first = first or [len(SHARES) - 1]  # too few rows for any start: test only the share of all rows
    return [first.count(place) / len(first) for place in range(len(SHARES))]


def fallback(candidates: Sequence[Point], target: float, level: float = 0.05) -> list[Tried]:
    """Test shares for an error rate of at most `target` in each of their sets; level: 1 - the promise's confidence.

    A share passes if all of its sets pass. This needs no lower level: if one set breaks the promise, that set's own test
    passes with a chance of at most the level.
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
    """Return the largest share that passed, None if none passed."""
    passed = [one for one in tried if one.passed]
    return passed[-1] if passed else None
