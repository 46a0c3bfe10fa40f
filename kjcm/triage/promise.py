"""A threshold that keeps a promise: among the rows above it, no more than a given share is wrong.

Fixed-sequence testing (Angelopoulos et al., Learn then Test, 2021): the acceptance shares are fixed before a label is seen,
are tried strictest first, and the first one that fails ends it. So the chance that the promise is broken is at most
1 - confidence, however many shares are tried. The lowest threshold that passes a bound by itself has no such guarantee.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SHARES = tuple(share / 20 for share in range(1, 21))  # acceptance shares that are tried


@dataclass(frozen=True)
class Tried:
    """One acceptance share that was tried.

    Attributes:
        share: of the rows, that was to be accepted.
        threshold: a row is accepted if its confidence is greater.
        rows: accepted rows, of those that the test was made on.
        errors: wrong rows among them.
        p: the chance of so few errors if the promise were broken.
        passed: whether the promise can be made.
    """

    share: float
    threshold: float
    rows: int
    errors: int
    p: float
    passed: bool


def fixed_sequence(
    confidence: NDArray[np.float64],
    right: NDArray[np.bool_],
    target: float,
    level: float = 0.05,
    shares: Sequence[float] = SHARES,
) -> list[Tried]:
    """Return the shares that were tried, strictest first; all but perhaps the last one passed.

    Shares that could not pass even with one error are left out beforehand: which ones depends on no label.

    Args:
        confidence: [rows], of rows that neither trained nor calibrated the model.
        right: [rows], whether what would be accepted is right.
        target: the greatest share of errors.
        level: 1 - the promise's confidence.
        shares: rising.
    """
    from scipy.stats import binom

    tried: list[Tried] = []
    falling = np.sort(confidence)[::-1]
    for share in shares:
        wanted = int(share * len(confidence))
        # the rows above the next one: given its confidence they are a random sample of all rows above it
        threshold = float(falling[wanted]) if wanted < len(falling) else -1.0
        accepted = confidence > threshold
        rows, errors = int(accepted.sum()), int((accepted & ~right).sum())
        if binom.cdf(1, rows, target) > level:
            continue
        p = float(binom.cdf(errors, rows, target))
        tried.append(Tried(share, threshold, rows, errors, p, passed=p <= level))
        if p > level:
            break
    return tried


def last_passed(tried: Sequence[Tried]) -> Tried | None:
    """Return the most generous share that passed, None where none did."""
    passed = [one for one in tried if one.passed]
    return passed[-1] if passed else None
