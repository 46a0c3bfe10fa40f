"""Agreement of two sets of codes for the same rows: percent agreement and Cohen's kappa, with bootstrap intervals."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kjcm.analysis.statistics import Resamples, interval

Weights = NDArray[Any]
Codes = Sequence[str] | NDArray[Any]
SURE = 1e-12  # chance agreement this near to 1 leaves kappa undefined


@dataclass(frozen=True)
class Value:
    """A statistic and its 95 % interval; None where it is undefined.

    Attributes:
        value: the statistic.
        low: lower end of the interval.
        high: upper end of the interval.
    """

    value: float | None
    low: float | None
    high: float | None

    def __str__(self) -> str:
        return "undefined" if self.value is None else f"{self.value:.2f}{self._ends('{:.2f}', 1)}"

    def percent(self, unit: str = "%") -> str:
        """Return the value in percent, or in another unit of a hundredth, with its interval."""
        return "undefined" if self.value is None else f"{100 * self.value:.1f} {unit}{self._ends('{:.1f}', 100)}"

    def _ends(self, form: str, scale: float) -> str:
        if self.low is None or self.high is None:
            return " (no interval)"
        return f" ({form.format(scale * self.low)} to {form.format(scale * self.high)})"


@dataclass(frozen=True)
class Pairs:
    """Two codes for each of some rows.

    Attributes:
        one: [n] codes of the first.
        other: [n] codes of the second.
        raters: [n] number of the two who gave the codes, from 0: chance agreement is computed for each two.
        texts: [n] text of each row; equal texts are resampled together.
    """

    one: NDArray[Any]
    other: NDArray[Any]
    raters: NDArray[np.intp]
    texts: NDArray[Any]

    def mapped(self, change: Callable[[str], str]) -> "Pairs":
        """Return the pairs with each code changed."""
        one, other = (np.array([change(code) for code in codes], object) for codes in (self.one, self.other))
        return Pairs(one, other, self.raters, self.texts)

    def chosen(self, which: NDArray[np.bool_]) -> "Pairs":
        """Return some of the pairs."""
        return Pairs(self.one[which], self.other[which], self.raters[which], self.texts[which])


def measured(pairs: Pairs, replicates: int, seed: int, *, either: str | None = None) -> dict[str, Any]:
    """Return the number of pairs and of different texts, percent agreement and Cohen's kappa.

    Args:
        pairs: the codes.
        replicates: bootstrap resamples.
        seed: seed of the bootstrap.
        either: a code: compares only "this code or another". The agreement is then that of rows with this code (2 times
            both / (one + other)), and their number counts the rows to which one or both gave it.
    """
    codes, places = np.unique(np.concatenate([pairs.one, pairs.other]).astype(str), return_inverse=True)
    one, other = np.split(places, 2)
    same, counted = (one == other).astype(float), np.ones(len(one))
    if either is not None:
        one, other = ((codes == either)[places].astype(np.intp) for places in (one, other))
        same, counted = (one & other).astype(float), (one + other) / 2

    def statistics(weights: Weights) -> tuple[float, float]:
        return ratio(same, counted, weights), kappa(one, other, pairs.raters, weights)

    agreement, own = estimates(statistics, pairs.texts, replicates, seed)
    used = counted > 0
    texts = len(np.unique(pairs.texts[used]))
    if agreement.value in (0, 1):
        agreement = exact(agreement.value, texts, dice=either is not None)
    if agreement.value == 0:  # no resample has a positive kappa, which says nothing about other rows
        own = Value(own.value, None, None)
    return {"pairs": int(used.sum()), "texts": texts, "agreement": asdict(agreement), "kappa": asdict(own)}


def ratio(part: Weights, whole: Weights, weights: Weights) -> float:
    """Return the weighted sum of `part` as a share of that of `whole`, nan if that is 0."""
    total = float(weights @ whole)
    return float(weights @ part) / total if total else np.nan


def kappa(one: NDArray[np.intp], other: NDArray[np.intp], raters: NDArray[np.intp], weights: Weights) -> float:
    """Return Cohen's kappa, nan if chance agreement is 1.

    With several pairs of raters, chance agreement is that within each pair, averaged over rows.

    Source: Cohen, Educational and Psychological Measurement 20, 1960.
    """
    size, groups = int(max(one.max(), other.max())) + 1, int(raters.max()) + 1
    first, second = (
        np.bincount(raters * size + codes, weights, groups * size).reshape(groups, size) for codes in (one, other)
    )
    rows = first.sum(axis=1)
    total, there = rows.sum(), rows > 0
    if not total:
        return np.nan
    chance = float(((first * second).sum(axis=1)[there] / rows[there]).sum() / total)
    observed = float(weights @ (one == other)) / float(total)
    return (observed - chance) / (1 - chance) if chance < 1 - SURE else np.nan


def estimates(
    statistics: Callable[[Weights], Sequence[float]], texts: NDArray[Any], replicates: int, seed: int
) -> list[Value]:
    """Return statistics of weighted rows, with percentile intervals of a bootstrap over texts.

    There is no interval if the resamples do not differ, as with a kappa of 1: they say nothing about other rows then.
    """
    values = statistics(np.ones(len(texts)))
    drawn = np.array([statistics(weights) for weights in Resamples(len(texts), texts, replicates, seed)])
    found = []
    for value, column in zip(values, drawn.T, strict=True):
        fine = column[~np.isnan(column)]
        if np.isnan(value):
            found.append(Value(None, None, None))
        elif not len(fine) or np.ptp(fine) < SURE:
            found.append(Value(float(value), None, None))
        else:
            found.append(Value(float(value), *interval(fine)))
    return found


def exact(value: float, texts: int, *, dice: bool = False) -> Value:
    """Return a share of 0 or 1 with the exact binomial interval of this many texts (Clopper and Pearson, 1934).

    With `dice` the share is 2 * both / (one + other), and the binomial share is that of the texts with both.
    """
    from scipy.stats import binomtest

    ends = binomtest(round(value * texts), texts).proportion_ci(0.95)
    low, high = (2 * end / (1 + end) if dice else end for end in (float(ends.low), float(ends.high)))
    return Value(value, low, high)
