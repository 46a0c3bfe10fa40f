"""Compare the exposures of two codings of the same rows: agreement, kappa and weighted kappa, with intervals."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kjcm.analysis.statistics import interval

NAMES = ("agreement", "kappa", "weighted_kappa")


@dataclass(frozen=True)
class Agreement:
    """The agreement of two codings in the exposure to an agent.

    Attributes:
        rows: rows with exposure data from both codings.
        left_out: the other rows.
        levels: different levels among these rows.
        values: name of a statistic (see NAMES) -> its value and the ends of its 95 % interval; nan if it is undefined.
    """

    rows: int
    left_out: int
    levels: int
    values: dict[str, tuple[float, float, float]]


def agreement(
    one: NDArray[np.float64], other: NDArray[np.float64], replicates: int, generator: np.random.Generator
) -> Agreement:
    """Return the agreement of two codings' exposures, with percentile intervals of a bootstrap over rows.

    Args:
        one: [rows], nan for rows without exposure data.
        other: likewise.
        replicates: resamples of the bootstrap.
        generator: draws the resamples.
    """
    both = ~np.isnan(one) & ~np.isnan(other)
    levels, places = np.unique(np.concatenate([one[both], other[both]]), return_inverse=True)
    size, rows = len(levels), int(both.sum())
    if not rows:
        return Agreement(0, len(both), 0, dict.fromkeys(NAMES, (np.nan,) * 3))
    cells = places[:rows] * size + places[rows:]
    pairs, counts = np.unique(cells, return_counts=True)
    drawn = generator.multinomial(rows, counts / rows, replicates)  # the same as to resample rows
    measured = [statistics(_table(own, pairs, size), levels) for own in (counts, *drawn)]
    values = {}
    for name, column in zip(NAMES, np.array(measured).T, strict=True):
        fine = column[1:][~np.isnan(column[1:])]
        low, high = interval(fine) if len(fine) and not np.isnan(column[0]) else (np.nan, np.nan)
        values[name] = float(column[0]), low, high
    return Agreement(rows, len(both) - rows, size, values)


def _table(counts: NDArray[np.int64], pairs: NDArray[np.int64], size: int) -> NDArray[np.float64]:
    """Return counts of pairs of levels as a table: [levels, levels]."""
    table = np.zeros(size * size)
    table[pairs] = counts
    return table.reshape(size, size)


def statistics(table: NDArray[np.float64], levels: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return agreement, Cohen's kappa and linearly weighted kappa of a table of counts; nan where chance agrees fully.

    The weight of a disagreement is the difference of the two levels, so levels that do not occur change nothing.

    Args:
        table: [levels, levels].
        levels: [levels].
    """
    share = table / table.sum()
    chance = np.outer(share.sum(axis=1), share.sum(axis=0))
    apart = np.abs(levels[:, None] - levels)
    found = [1 - float(share[apart > 0].sum())]
    for weight in ((apart > 0).astype(float), apart):
        expected = float((weight * chance).sum())
        found.append(1 - float((weight * share).sum()) / expected if expected > 0 else np.nan)
    return found[0], found[1], found[2]
