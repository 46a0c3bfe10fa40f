"""Audit samples: how many rows to review, which, and what the reviewed rows say of the error of all rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HELD, REFUTED, OPEN = "held", "refuted", "open"


@dataclass(frozen=True)
class Stratum:
    """The rows with one decision and one predicted major group.

    Attributes:
        rows: in the whole file.
        sampled: rows of the audit sample.
        wrong: sampled rows whose code a reviewer has changed.
        unclear: sampled rows without a review, or with a shorter code.
    """

    rows: int
    sampled: int
    wrong: int = 0
    unclear: int = 0


def interval(least: int, most: int, rows: int, population: int, level: float) -> tuple[float, float]:
    """Return the exact interval of a population's error share, from a simple random sample without replacement.

    The interval inverts the hypergeometric test at level / 2 on each side, as Clopper and Pearson do for a binomial.

    Args:
        least: errors in the sample, at least.
        most: errors in the sample, at most.
        rows: of the sample.
        population: rows of the population.
        level: the interval misses the share with a chance of at most this.
    """
    from scipy.stats import hypergeom

    def below(errors: int, whole: int) -> float:
        return float(hypergeom.cdf(errors, population, whole, rows))

    def first(passes: Callable[[int], bool], low: int, high: int) -> int:
        """Return the first number from `low` that passes; `high` passes."""
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if passes(middle) else (middle + 1, high)
        return low

    top = population - (rows - most)  # with more errors the sample would have more
    lower = first(lambda whole: 1 - below(least - 1, whole) > level / 2, least, top)
    upper = first(lambda whole: below(most, whole) <= level / 2, most, top + 1) - 1
    return lower / population, max(upper, lower) / population


def size_for(population: int, expected: float, half_width: float, level: float) -> int:
    """Return a number of rows whose interval has at most this half width, if the expected share of them is wrong.

    It is the fewest or a few more.

    Args:
        population: rows to sample from.
        expected: share of errors.
        half_width: of the interval.
        level: see `interval`.
    """

    def is_enough(rows: int) -> bool:
        errors = int(expected * rows)
        low, high = interval(errors, min(errors + 1, rows), rows, population, level)  # `estimate` rounds outwards
        return high - low <= 2 * half_width

    low, high = 1, population
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle + 1, high)
    return low


def allocation(strata: Mapping[str, int], size: int) -> dict[str, int]:
    """Return the rows to sample from each stratum: in proportion to its rows, one at least.

    Args:
        strata: name -> rows.
        size: of the whole sample; more if there are more strata.
    """
    population = sum(strata.values())
    share = {name: size * rows / population for name, rows in strata.items()}
    found = {name: min(rows, max(1, int(share[name]))) for name, rows in strata.items()}
    for name in sorted(strata, key=lambda name: int(share[name]) - share[name]):
        if sum(found.values()) < size and found[name] < strata[name]:
            found[name] += 1
    return found


def drawn(strata: NDArray[np.object_], sizes: Mapping[str, int], random: np.random.Generator) -> NDArray[np.int64]:
    """Return the places of the sampled rows, in the order of the file.

    Args:
        strata: [rows], each row's stratum, '' for none.
        sizes: stratum -> rows to sample.
        random: draws the rows.
    """
    found = [random.choice(np.flatnonzero(strata == name), count, replace=False) for name, count in sizes.items()]
    return np.sort(np.concatenate(found)).astype(np.int64) if found else np.empty(0, np.int64)


@dataclass(frozen=True)
class Estimate:
    """The error share of all rows with a decision, from a stratified sample.

    Attributes:
        rows: in the whole file.
        sampled: rows of the sample.
        wrong: wrong rows among them.
        unclear: rows without a usable review; the interval allows for both, right and wrong.
        error: the stratified estimate, of the clear rows.
        low: lower end of the interval.
        high: its upper end.
    """

    rows: int
    sampled: int
    wrong: int
    unclear: int
    error: float | None
    low: float
    high: float

    def verdict(self, target: float) -> str:
        """Return whether the rows confirm a target error, refute it, or neither."""
        return HELD if self.high <= target else REFUTED if self.low > target else OPEN


def estimate(strata: list[Stratum], level: float) -> Estimate:
    """Return the stratified estimate of the error share, with its interval.

    A stratified sample in proportion to the strata is at least as precise as a simple random sample. The interval is that
    of a simple random sample of n / D rows, where D = n * sum of (W * W / n_h) is at least 1: it allows for strata that
    are sampled out of proportion. Fractions of rows are rounded outwards.
    """
    population, n = sum(one.rows for one in strata), sum(one.sampled for one in strata)
    weights = [one.rows / population for one in strata]
    design = n * sum(weight**2 / one.sampled for weight, one in zip(weights, strata, strict=True))
    rows = min(n, max(1, int(n / design + 1e-9)))
    pairs = list(zip(weights, strata, strict=True))
    least = sum(weight * one.wrong / one.sampled for weight, one in pairs)
    most = sum(weight * (one.wrong + one.unclear) / one.sampled for weight, one in pairs)
    low, high = interval(int(np.floor(least * rows + 1e-9)), int(np.ceil(most * rows - 1e-9)), rows, population, level)
    clear = [(weight, one.wrong / (one.sampled - one.unclear)) for weight, one in pairs if one.sampled > one.unclear]
    total = sum(weight for weight, _ in clear)
    error = sum(weight * share for weight, share in clear) / total if clear else None
    wrong, unclear = (sum(getattr(one, name) for one in strata) for name in ("wrong", "unclear"))
    return Estimate(population, n, wrong, unclear, error, low, high)
