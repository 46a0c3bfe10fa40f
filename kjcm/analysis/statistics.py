"""Statistics of a report: bootstrap intervals, tests between models, quartiles and a regression."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kjcm.analysis.content import Estimate
from kjcm.analysis.scores import Answers, metrics
from kjcm.errors import KjcmError, some

Flags = NDArray[np.bool_]

TAILS = (0.025, 0.975)  # ends of a 95 % interval
MCNEMAR, BOOTSTRAP = "McNemar", "paired bootstrap"
FEWEST = 3  # points; a line through two always fits


@dataclass(frozen=True, eq=False)
class Resamples:
    """Bootstrap resamples of test rows; each iteration yields the same resamples, so models are compared on equal ones.

    A resample says for each row how often it is drawn: [rows]. It draws as many rows as there are, with replacement.
    With clusters it draws as many whole clusters as there are, so that similar rows stay together.

    Attributes:
        rows: number of test rows.
        clusters: [rows] cluster of each row, or None.
        replicates: number of resamples.
        seed: seed of the generator.

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
    """Return each metric (see `metrics`) of one model's runs over seeds.

    The interval belongs to the mean over seeds. It resamples test rows, or clusters if the answers have clusters. So the
    interval measures the uncertainty of the test rows, and `sd` that of the seed.

    Args:
        runs: one per seed, with the same test rows in the same order.
        replicates: bootstrap resamples; 0 for no interval.
        seed: seed of the bootstrap.

    Raises:
        KjcmError: there is no run, or the runs have different test rows.
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
    """Return [replicates, metrics]: each metric of `names` on each resample, averaged over runs."""
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
    """Return whether both have the same clusters, or neither has clusters."""
    if one.clusters is None or other.clusters is None:
        return one.clusters is other.clusters
    return np.array_equal(one.clusters, other.clusters)


def mcnemar(first: Flags, second: Flags) -> float:
    """Return the exact two-sided p that two models are equally accurate; 1.0 if no row separates them.

    The test uses the rows that only one model codes correctly. If the models are equally good, each such row belongs to
    either model with probability 1/2.

    Args:
        first: [rows] whether the first model is right.
        second: [rows] whether the second model is right.

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
        difference: the first model's accuracy minus the second's, means over seeds.
        low: lower end of the 95 % bootstrap interval; None without resamples.
        high: upper end of the interval.
        p: two-sided and uncorrected (see `holm`); None for a paired bootstrap without resamples.
        test: MCNEMAR or BOOTSTRAP.
        n: number of test rows.
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

    The test is McNemar's if each model has one seed and there are no clusters, otherwise a paired bootstrap of the means
    over seeds. The interval comes from the bootstrap in both cases.

    Args:
        first: one [rows] per seed: whether the first model is right.
        second: the same for the second model, on the same rows.
        clusters: [rows] cluster of each row, or None.
        replicates: bootstrap resamples; 0 for no interval.
        seed: seed of the bootstrap.

    Raises:
        KjcmError: there is no run or no row, or the numbers of rows differ.
    """
    lengths = {len(right) for right in (*first, *second)} | ({len(clusters)} if clusters is not None else set())
    if not len(first) or not len(second) or len(lengths) != 1 or 0 in lengths:
        raise KjcmError(f"models compared on {sorted(lengths)} rows. Give both the same rows, at least one, and a run.")
    rows, scale = lengths.pop(), len(first) * len(second)
    # Integers make a resample without a difference exactly 0, without a rounding error to either side.
    ahead = np.sum(first, axis=0, dtype=np.int64) * len(second) - np.sum(second, axis=0, dtype=np.int64) * len(first)
    resamples = Resamples(rows, clusters, replicates, seed)
    drawn = np.array([weights @ ahead / (weights.sum() * scale) for weights in resamples])
    low, high = interval(drawn) if replicates else (None, None)
    exact = len(first) == len(second) == 1 and clusters is None
    p = mcnemar(first[0], second[0]) if exact else bootstrap_p(drawn)
    test = MCNEMAR if exact else BOOTSTRAP
    return Comparison(float(ahead.sum() / (rows * scale)), low, high, p, test, rows)


def bootstrap_p(differences: NDArray[np.float64]) -> float | None:
    """Return the two-sided p that a difference is 0, from its resamples; None without resamples.

    p is twice the share of resamples on the smaller side of 0, at most 1. Resamples at 0 count on both sides. One is
    added to the count and to the resamples, so that p is never 0.

    Source: Davison and Hinkley, Bootstrap Methods, 1997, section 4.2.
    """
    if not len(differences):
        return None
    fewer = min((differences <= 0).sum(), (differences >= 0).sum())
    return min(1.0, float(2 * (fewer + 1) / (len(differences) + 1)))


def holm(p: Sequence[float]) -> list[float]:
    """Return p corrected for the number of tests, in the order given.

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
        slope: gain of precision with ten times the rows.
        intercept: precision at one row.
        r_squared: share of the variance that the line explains.
        p: two-sided p of slope 0.
        n: number of groups.
    """

    slope: float
    intercept: float
    r_squared: float
    p: float
    n: int


def regression(sizes: ArrayLike, precision: ArrayLike) -> Regression | None:
    """Return the least-squares line of precision on log10(size).

    Return None for fewer than 3 groups, or if all groups have one size or one precision.

    Args:
        sizes: [groups] training rows; groups without training rows have no logarithm and are left out.
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
    """Return Q1, median and Q3 by linear interpolation (R type 7); None without values.

    Raises:
        KjcmError: a value is NaN.

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
    """Return min, q1, median, q3 and max (see `quartiles`); None without values."""
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
