"""Two-sample tests by permutation: do the rows of a file differ from the held-out rows?

If both are random samples of the same rows, every exchange of rows between them is equally likely. Each p-value compares a
statistic with its values after random exchanges. So the chance of p <= 5 % is at most 5 %, with any number of rows.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kjcm.analysis.statistics import holm
from kjcm.errors import ConfigError

Matrix = NDArray[np.float64]

LEAST = 5  # rows that a group needs, by probability, for an interval of its own
POWER = 0.8
MOST_TESTS = 9  # an encoder's, with three answers
AT_ONCE = 100  # exchanges computed together


@dataclass(frozen=True)
class Measured:
    """The rows of a file, or the held-out rows.

    Attributes:
        features: [rows, features] numbers whose means are compared.
        labels: what is counted -> [rows], as the top-1 codes and their major groups.
        probability: [rows, classes].
    """

    features: pd.DataFrame
    labels: Mapping[str, NDArray[np.object_]]
    probability: Matrix


@dataclass(frozen=True)
class Found:
    """One test.

    Attributes:
        name: of the feature or the labels.
        held: mean of the held-out rows; None for labels.
        file: mean of the file's rows; None for labels.
        low: lower end of the difference's interval, file minus held; None for labels.
        high: its upper end.
        p: of the permutation test.
        adjusted: p adjusted for all tests together (Holm).
        detectable: smallest difference that the test finds with a chance of POWER; for labels the share of rows that one of
            them gains.
    """

    name: str
    held: float | None
    file: float | None
    low: float | None
    high: float | None
    p: float
    adjusted: float
    detectable: float


@dataclass(frozen=True)
class Moved:
    """A class whose share of the rows, by probability, may differ.

    Attributes:
        code: of the class.
        held: share of the held-out rows.
        file: share of the file's rows.
        low: lower end of the difference's interval; the intervals of all classes hold together.
        high: its upper end.
        adjusted: p adjusted for all classes together (Westfall and Young 1993).
    """

    code: str
    held: float
    file: float
    low: float
    high: float
    adjusted: float


def require_exchanges(exchanges: int, level: float) -> None:
    """Raise ConfigError if MOST_TESTS adjusted p-values cannot be as small as the level."""
    needed = math.ceil(MOST_TESTS / level) - 1  # the smallest adjusted p is MOST_TESTS / (exchanges + 1)
    if exchanges < needed:
        raise ConfigError(
            f"exchanges={exchanges}: too few for {MOST_TESTS} tests at {level:.4g}: none could be significant. "
            f"Use at least {needed}."
        )


def compare(
    held: Measured, file: Measured, classes: list[str], *, level: float, exchanges: int, seed: int
) -> tuple[list[Found], list[Moved]]:
    """Return the tests of the features and labels, and the classes by strength of their change.

    A feature that is equal in all rows is not tested.

    Args:
        held: the held-out rows.
        file: the file's rows, with the same features.
        classes: ordered codes.
        level: of all tests together, and of all intervals together.
        exchanges: random exchanges of rows.
        seed: of the exchanges.
    """
    both = pd.concat([held.features, file.features])
    names = [str(name) for name in both if both[name].nunique() > 1]
    values = {name: sorted({*one, *file.labels[name]}) for name, one in held.labels.items()}
    wide = held.probability.sum(axis=0) + file.probability.sum(axis=0) >= LEAST
    own = [_columns(one, names, values, wide) for one in (held, file)]
    sizes = (len(own[0]), len(own[1]))
    whole = np.concatenate(own)
    squares = np.square(whole)
    cuts = [0, *np.cumsum([len(names), *map(len, values.values())]).tolist()]
    own_sums, own_squares = (one[sizes[0] :].sum(axis=0)[None] for one in (whole, squares))
    seen = _statistics(whole, squares, own_sums, own_squares, sizes)
    observed = _summaries(seen, whole, sizes, cuts)
    beyond_tests, maxima = np.zeros(len(names) + len(values)), []
    random = np.random.Generator(np.random.PCG64(seed))
    for begin in range(0, exchanges, AT_ONCE):
        drawn = _exchanged(whole, squares, sizes[1], min(AT_ONCE, exchanges - begin), random)
        tests, largest = _summaries(_statistics(whole, squares, *drawn, sizes), whole, sizes, cuts)
        beyond_tests += (tests >= observed[0] - 1e-9).sum(axis=0)
        maxima.append(largest.max(axis=1, initial=0.0))
    p = (beyond_tests + 1) / (exchanges + 1)
    found = _found(held, file, names, p, level, {name: len(one) for name, one in values.items()})
    return found, _moved(held, file, classes, wide, observed[1][0], np.concatenate(maxima), level)


def _columns(
    rows: Measured, names: Sequence[str], values: Mapping[str, Sequence[str]], wide: NDArray[np.bool_]
) -> Matrix:
    """Return features, an indicator of each label, and the probabilities of the wide classes side by side."""
    indicators = [rows.labels[name][:, None] == np.array(each, object) for name, each in values.items()]
    features = rows.features[list(names)].to_numpy(np.float64)
    return np.hstack([features, *(one.astype(np.float64) for one in indicators), rows.probability[:, wide]])


def _exchanged(
    whole: Matrix, squares: Matrix, count: int, times: int, random: np.random.Generator
) -> tuple[Matrix, Matrix]:
    """Return sums, and sums of squares, of `count` random rows, drawn several times: [times, columns] each."""
    chosen = np.zeros((times, len(whole)))
    for one in chosen:
        one[random.permutation(len(whole))[:count]] = 1
    return chosen @ whole, chosen @ squares


def _statistics(
    whole: Matrix, squares: Matrix, sums: Matrix, file_squares: Matrix, sizes: tuple[int, int]
) -> tuple[Matrix, Matrix]:
    """Return |t| of Welch's test of each column, and the sums in the file: [times, columns] each.

    Args:
        whole: all rows, the held-out rows first.
        squares: their squares.
        sums: in the file: [times, columns].
        file_squares: sums of squares in the file, likewise.
        sizes: held-out rows, rows of the file.
    """
    n, m = sizes
    other, other_squares = whole.sum(axis=0) - sums, squares.sum(axis=0) - file_squares
    variance = _variance(other, other_squares, n) / n + _variance(sums, file_squares, m) / m
    difference = np.abs(sums / m - other / n)
    least = 1e-12 * (1 + np.abs(whole).max(axis=0, initial=0.0))
    t = np.where(difference > least, difference / np.sqrt(np.maximum(variance, np.square(least))), 0.0)
    return t, sums


def _variance(sums: Matrix, squares: Matrix, rows: int) -> Matrix:
    return np.maximum(squares - np.square(sums) / rows, 0.0) / max(rows - 1, 1)


def _summaries(
    found: tuple[Matrix, Matrix], whole: Matrix, sizes: tuple[int, int], cuts: Sequence[int]
) -> tuple[Matrix, Matrix]:
    """Return the tests' statistics [times, tests], and |t| of each class [times, classes].

    The statistics are |t| of each feature, and chi-square of each kind of label.
    """
    (t, sums), (n, m) = found, sizes
    chi_square = []
    for first, last in pairwise(cuts[1:]):
        expected = whole[:, first:last].sum(axis=0) * m / (n + m)
        chi_square.append((np.square(sums[:, first:last] - expected) / expected).sum(axis=1) * (n + m) / n)
    return np.column_stack([t[:, : cuts[1]], *chi_square]), t[:, cuts[-1] :]


def _found(
    held: Measured, file: Measured, names: Sequence[str], p: Matrix, level: float, sizes: Mapping[str, int]
) -> list[Found]:
    """Return the tests of the features `names`, then of the labels, whose numbers are `sizes`."""
    from scipy.stats import norm

    adjusted = holm(p.tolist())
    n, m = len(held.features), len(file.features)
    z, power = norm.ppf(1 - level / (2 * len(p))), norm.ppf(POWER)
    found = []
    for place, name in enumerate(names):
        before, after = (one.features[name].to_numpy(np.float64) for one in (held, file))
        error = float(np.sqrt(before.var(ddof=1) / n + after.var(ddof=1) / m))
        difference = float(after.mean() - before.mean())
        pooled = np.concatenate([before, after]).var(ddof=1)
        least = float((z + power) * np.sqrt(pooled * (1 / n + 1 / m)))
        ends = (difference - z * error, difference + z * error)
        found.append(Found(name, before.mean(), after.mean(), *ends, p[place], adjusted[place], least))
    for place, (name, size) in enumerate(sizes.items(), len(names)):
        least = detectable_share(held.labels[name], size, n, m, level / len(p))
        found.append(Found(name, None, None, None, None, float(p[place]), adjusted[place], least))
    return found


def detectable_share(labels: NDArray[np.object_], count: int, n: int, m: int, level: float) -> float:
    """Return the share of rows that a label must gain to be found with a chance of POWER.

    It is the label whose share is nearest to a half, which needs the largest gain. The others lose in proportion.

    Args:
        labels: [held-out rows].
        count: number of different labels.
        n: held-out rows.
        m: rows of the file.
        level: of the chi-square test.
    """
    from scipy.optimize import brentq
    from scipy.stats import chi2, ncx2

    if count < 2:
        return 1.0
    critical = chi2.ppf(1 - level, count - 1)
    needed = brentq(lambda value: ncx2.sf(critical, count - 1, value) - POWER, 1e-9, 1e4)
    shares = np.unique(labels.astype(str), return_counts=True)[1] / len(labels)
    varied = float((shares * (1 - shares)).max())
    return min(1.0, float(np.sqrt(needed * (n + m) / (n * m) * varied)))


def _moved(
    held: Measured,
    file: Measured,
    classes: list[str],
    wide: NDArray[np.bool_],
    t: Matrix,
    maxima: Matrix,
    level: float,
) -> list[Moved]:
    """Return the wide classes, the strongest change first."""
    critical = float(np.quantile(maxima, 1 - level, method="higher"))
    before, after = held.probability[:, wide], file.probability[:, wide]
    error = np.sqrt(before.var(axis=0, ddof=1) / len(before) + after.var(axis=0, ddof=1) / len(after))
    codes = [code for code, is_wide in zip(classes, wide, strict=True) if is_wide]
    found = []
    for place in np.argsort(-t, kind="stable"):
        one, other = float(before[:, place].mean()), float(after[:, place].mean())
        reach = critical * float(error[place])
        adjusted = float((1 + (maxima >= t[place] - 1e-9).sum()) / (1 + len(maxima)))
        found.append(Moved(codes[place], one, other, other - one - reach, other - one + reach, adjusted))
    return found
