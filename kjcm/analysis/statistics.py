"""Uncertainty of what is measured: bootstrap intervals, tests between models, quartiles and a regression."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kjcm.analysis.content import Estimate
from kjcm.analysis.scores import Answers, metrics
from kjcm.errors import KjcmError, some

Flags = NDArray[np.bool_]

TAILS = (0.025, 0.975)  # of a 95 % interval
MCNEMAR, BOOTSTRAP = "McNemar", "paired bootstrap"
FEWEST = 3  # points of a regression: a line through two always fits


@dataclass(frozen=True, eq=False)
class Resamples:
    """Bootstrap resamples of test rows, the same ones on each iteration, so that models are compared on the same.

    Each is [rows] how often a row is drawn. Without clusters as many rows as there are are drawn with replacement;
    with them as many whole clusters, so that rows which resemble each other stay together.

    Attributes:
        rows: number of test rows.
        clusters: [rows] cluster of each row, or None.
        replicates: number of resamples.
        seed: of the generator, which serves nothing else.

    Source: Efron, 1979; for clusters Davison and Hinkley, Bootstrap Methods, 1997, section 3.8.
    """

    rows: int
    clusters: NDArray[Any] | None
    replicates: int
    seed: int

    def __len__(self) -> int:
        return self.replicates

    def __iter__(self) -> Iterator[NDArray[np.intp]]:
        generator = np.random.Generator(np.random.PCG64(self.seed))
        members, units = None, self.rows
        if self.clusters is not None:
            names, members = np.unique(self.clusters, return_inverse=True)
            units = len(names)
        for _ in range(self.replicates):
            drawn = np.bincount(generator.integers(units, size=units), minlength=units)
            yield drawn if members is None else drawn[members]


def interval(values: ArrayLike) -> tuple[float, float]:
    """Return the 2.5 and 97.5 percentiles of a statistic's resamples, by linear interpolation (R type 7)."""
    low, high = np.quantile(np.asarray(values, float), TAILS)
    return float(low), float(high)


def estimates(runs: Sequence[Answers], replicates: int, seed: int) -> dict[str, Estimate]:
    """Return each metric (see `metrics`) of the runs of one model over seeds.

    The interval is that of the mean over seeds when the test rows are drawn anew (their clusters, where the answers
    name them): it holds the uncertainty of the test rows, and `sd` that of the seed.

    Args:
        runs: one a seed, of the same test rows in the same order.
        replicates: bootstrap resamples; 0 for no interval.
        seed: of the bootstrap.

    Raises:
        KjcmError: if there is no run, or runs are of other test rows.
    """
    require_same_rows(runs)
    measured = [metrics(run) for run in runs]
    names = list(measured[0])
    values = np.array([[scores[name] for name in names] for scores in measured])  # [seeds, metrics]
    drawn = resampled(runs, names, Resamples(len(runs[0]), runs[0].clusters, replicates, seed))
    return {
        name: Estimate(
            float(values[:, index].mean()),
            float(values[:, index].std(ddof=1)) if len(runs) > 1 else None,
            *(interval(drawn[:, index]) if replicates else (None, None)),
        )
        for index, name in enumerate(names)
    }


def resampled(runs: Sequence[Answers], names: Sequence[str], resamples: Resamples) -> NDArray[np.float64]:
    """Return [replicates, metrics] the means over runs of the metrics of `names` on each resample."""
    drawn = np.zeros((len(resamples), len(names)))
    for replicate, weights in enumerate(resamples):
        for run in runs:
            scores = metrics(run, weights)
            drawn[replicate] += [scores[name] for name in names]
    return drawn / len(runs)


def require_same_rows(runs: Sequence[Answers]) -> None:
    """Raise KjcmError unless there are runs and all have the same ids, true codes and clusters in the same order."""
    if not runs:
        raise KjcmError("no runs to estimate from. Give at least one.")
    first = runs[0]
    for run in runs[1:]:
        if not np.array_equal(run.ids, first.ids):
            others = sorted(set(run.ids) ^ set(first.ids))
            what = f"id {some(others)} in only one" if others else "the same ids in another order"
            raise KjcmError(f"{run.place}: other test rows than {first.place} ({what}). Take the rows that both have.")
        if not np.array_equal(run.truth, first.truth):
            ids = some(first.ids[run.truth != first.truth])
            raise KjcmError(f"{run.place}: other true codes than {first.place} (id {ids}). Use runs of one cohort.")
        if not same_clusters(run, first):
            raise KjcmError(f"{run.place}: other clusters than {first.place}. Use runs of one cohort.")


def same_clusters(one: Answers, other: Answers) -> bool:
    """Return whether both name no clusters, or the same ones."""
    if one.clusters is None or other.clusters is None:
        return one.clusters is other.clusters
    return np.array_equal(one.clusters, other.clusters)


def mcnemar(first: Flags, second: Flags) -> float:
    """Return the exact two-sided p of the rows that only one of two models answers right.

    If both are as good, each such row falls to either with probability 1/2. 1.0 where there is none.

    Args:
        first: [rows] whether the first model is right.
        second: [rows] the same of the second.

    Source: McNemar, Psychometrika 12, 1947; the exact binomial form.
    """
    from scipy.stats import binomtest

    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    if not only_first + only_second:
        return 1.0
    return float(binomtest(only_first, only_first + only_second, 0.5).pvalue)


@dataclass(frozen=True)
class Comparison:
    """Two models on the same test rows.

    Attributes:
        difference: accuracy of the first minus that of the second, means over seeds.
        low: lower end of its 95 % bootstrap interval, None without resamples.
        high: its upper end.
        p: two-sided, uncorrected (see `holm`); None for a paired bootstrap without resamples.
        test: what gave p, MCNEMAR or BOOTSTRAP.
        n: test rows.
    """

    difference: float
    low: float | None
    high: float | None
    p: float | None
    test: str
    n: int


def compare(
    first: Sequence[Flags],
    second: Sequence[Flags],
    clusters: NDArray[Any] | None,
    replicates: int,
    seed: int,
) -> Comparison:
    """Compare two models on the same test rows.

    McNemar's test where each has one seed and rows are independent (no clusters); else a paired bootstrap of the
    means over seeds. The interval is of the bootstrap in both cases.

    Args:
        first: for each seed of the first model [rows] whether it is right.
        second: the same of the second, on the same rows.
        clusters: [rows] cluster of each row, or None.
        replicates: bootstrap resamples; 0 for no interval.
        seed: of the bootstrap.

    Raises:
        KjcmError: if there is no run, no row, or the numbers of rows differ.
    """
    lengths = {len(right) for right in (*first, *second)} | ({len(clusters)} if clusters is not None else set())
    if not len(first) or not len(second) or len(lengths) != 1 or 0 in lengths:
        raise KjcmError(f"models compared on {sorted(lengths)} rows. Give both the same rows, at least one, and a run.")
    rows, scale = lengths.pop(), len(first) * len(second)
    # In whole numbers, so that a resample without a difference gives 0 and not a rounding error on one side of it.
    ahead = np.sum(first, axis=0, dtype=np.int64) * len(second) - np.sum(second, axis=0, dtype=np.int64) * len(first)
    resamples = Resamples(rows, clusters, replicates, seed)
    drawn = np.array([weights @ ahead / (weights.sum() * scale) for weights in resamples])
    low, high = interval(drawn) if replicates else (None, None)
    exact = len(first) == len(second) == 1 and clusters is None
    p = mcnemar(first[0], second[0]) if exact else bootstrap_p(drawn)
    test = MCNEMAR if exact else BOOTSTRAP
    return Comparison(float(ahead.sum() / (rows * scale)), low, high, p, test, rows)


def bootstrap_p(differences: NDArray[np.float64]) -> float | None:
    """Return the two-sided p that a difference is 0 from its resamples, None without any.

    Twice the smaller share of resamples on either side of 0 (those at 0 count on both), at most 1. One is added to
    the count and to the resamples, so that p is never 0.

    Source: Davison and Hinkley, Bootstrap Methods, 1997, section 4.2.
    """
    if not len(differences):
        return None
    fewer = min((differences <= 0).sum(), (differences >= 0).sum())
    return min(1.0, float(2 * (fewer + 1) / (len(differences) + 1)))


def holm(p: Sequence[float]) -> list[float]:
    """Return p corrected for the number of tests, in the given order.

    Source: Holm, Scandinavian Journal of Statistics 6, 1979.
    """
    values = np.asarray(p, float)
    order = np.argsort(values, kind="stable")
    stepped = values[order] * np.arange(len(values), 0, -1)
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return [float(value) for value in corrected]


@dataclass(frozen=True)
class Regression:
    """A straight line through precision against the base-10 logarithm of training size.

    Attributes:
        slope: precision gained with ten times the rows.
        intercept: precision at one row.
        r_squared: share of the variance that the line explains.
        p: two-sided, of slope 0.
        n: groups.
    """

    slope: float
    intercept: float
    r_squared: float
    p: float
    n: int


def regression(sizes: ArrayLike, precision: ArrayLike) -> Regression | None:
    """Return the least-squares line of precision on log10(size).

    None where it says nothing: fewer than 3 groups, all of one size or all of one precision.

    Args:
        sizes: [groups] training rows; a group without any has no logarithm and is left out (`n` counts the others).
        precision: [groups] 0 to 1.
    """
    from scipy.stats import linregress

    size, shares = np.asarray(sizes, float), np.asarray(precision, float)
    size, shares = size[size > 0], shares[size > 0]
    if len(size) < FEWEST or not np.ptp(size) or not np.ptp(shares):
        return None
    line = linregress(np.log10(size), shares)
    return Regression(float(line.slope), float(line.intercept), float(line.rvalue**2), float(line.pvalue), len(size))


def quartiles(values: ArrayLike) -> tuple[float, float, float] | None:
    """Return Q1, median and Q3 by linear interpolation (R type 7), None of no values.

    Raises:
        KjcmError: if a value is NaN.

    Source: Hyndman and Fan, The American Statistician 50, 1996, definition 7.
    """
    numbers = np.asarray(values, float)
    if np.isnan(numbers).any():
        raise KjcmError(f"quartiles: {int(np.isnan(numbers).sum())} of {len(numbers)} values are NaN. Leave them out.")
    if not len(numbers):
        return None
    first, median, third = np.quantile(numbers, (0.25, 0.5, 0.75))
    return float(first), float(median), float(third)


def five_numbers(values: ArrayLike) -> dict[str, float] | None:
    """Return min, q1, median, q3 and max, None of no values; as `quartiles` otherwise."""
    quarters = quartiles(values)
    if quarters is None:
        return None
    numbers = np.asarray(values, float)
    return {
        "min": float(numbers.min()),
        "q1": quarters[0],
        "median": quarters[1],
        "q3": quarters[2],
        "max": float(numbers.max()),
    }
