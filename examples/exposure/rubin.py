"""Analyse imputed exposures of `kjcm expose draws=M`, and pool the results with Rubin's rules.

    python examples/exposure/rubin.py FILE AGENT [OUTCOME]

FILE is a CSV file of `kjcm expose shape=wide`. The script prints the mean exposure to AGENT and, with a column of numbers
OUTCOME, the slope of its regression on the exposure.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Pooled:
    """A pooled estimate.

    Attributes:
        estimate: mean over the imputations.
        within: mean of their variances.
        between: variance of their estimates.
        total: within + (1 + 1/m) between.
        df: degrees of freedom (Barnard and Rubin, Biometrika 1999;86:948).
        low: lower end of the 95 % interval.
        high: upper end.
    """

    estimate: float
    within: float
    between: float
    total: float
    df: float
    low: float
    high: float


def pooled(estimates: Numbers, variances: Numbers, complete_df: float) -> Pooled:
    """Pool the estimates and variances of m imputed data sets with Rubin's rules (Rubin, Multiple Imputation, 1987).

    Args:
        estimates: [m].
        variances: [m], squared standard errors.
        complete_df: degrees of freedom if the data had no missing values, as n - 2 for a line.
    """
    m = len(estimates)
    estimate, within, between = float(np.mean(estimates)), float(np.mean(variances)), float(np.var(estimates, ddof=1))
    total = within + (1 + 1 / m) * between
    lost = (1 + 1 / m) * between / total if total > 0 else 0.0  # share of the variance that is due to imputation
    observed = (complete_df + 1) / (complete_df + 3) * complete_df * (1 - lost)
    df = observed if lost == 0 else 1 / (lost**2 / (m - 1) + 1 / observed)
    half = t.ppf(0.975, df) * np.sqrt(total)
    return Pooled(estimate, within, between, total, df, estimate - half, estimate + half)


def mean(exposure: Numbers) -> tuple[float, float]:
    """Return a mean and its variance."""
    return float(exposure.mean()), float(exposure.var(ddof=1) / len(exposure))


def line(exposure: Numbers, outcome: Numbers) -> tuple[Numbers, Numbers, float]:
    """Return intercept and slope of a regression, their covariances, and the residual variance."""
    x = np.column_stack([np.ones(len(exposure)), exposure])
    inverse = np.linalg.inv(x.T @ x)
    coefficients = inverse @ x.T @ outcome
    variance = float(((outcome - x @ coefficients) ** 2).sum() / (len(outcome) - 2))
    return coefficients, variance * inverse, variance


def slope(exposure: Numbers, outcome: Numbers) -> tuple[float, float]:
    """Return a regression's slope and its variance."""
    coefficients, covariance, _ = line(exposure, outcome)
    return float(coefficients[1]), float(covariance[1, 1])


def with_outcome(draws: Numbers, outcome: Numbers, m: int, rounds: int, generator: np.random.Generator) -> Numbers:
    """Return m imputed exposures [rows, m] that agree with a linear regression of the outcome on the exposure.

    Draws of `kjcm expose` do not know the outcome, so the slope of a regression on them is too flat. Here each round picks
    for each row one of its draws by the likelihood of its outcome, and then draws the regression's parameters given these
    exposures (data augmentation; Tanner and Wong, JASA 1987;82:528).

    Args:
        draws: [rows, many], of `kjcm expose`, at least 100.
        outcome: [rows].
        m: number of imputations.
        rounds: rounds before each imputation.
        generator: draws.
    """
    rows, found = len(outcome), []
    exposure = draws[:, 0]
    for _ in range(m):
        for _ in range(rounds):
            coefficients, covariance, variance = line(exposure, outcome)
            drawn = variance * (rows - 2) / generator.chisquare(rows - 2)
            intercept, by_unit = generator.multivariate_normal(coefficients, covariance * drawn / variance)
            squares = (outcome[:, None] - intercept - by_unit * draws) ** 2
            weight = np.exp((squares.min(axis=1, keepdims=True) - squares) / (2 * drawn))  # the largest weight is 1
            sums = weight.cumsum(axis=1)
            pick = (sums < generator.random(rows)[:, None] * sums[:, -1:]).sum(axis=1)
            exposure = draws[np.arange(rows), pick]
        found.append(exposure)
    return np.column_stack(found)


def main(file: str, agent: str, outcome: str | None = None) -> None:
    """Print the mean exposure and, with an outcome, the slope."""
    if not Path(file).is_file():
        sys.exit(f"{file}: no such file.")
    try:
        frame = pd.read_csv(file)
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError):
        sys.exit(f"{file}: is no CSV file in UTF-8.")
    names = [name for name in frame if str(name).startswith(f"{agent}_draw_")]
    least = 100 if outcome else 2
    if len(names) < least:
        sys.exit(f"{file}: has {len(names)} columns {agent}_draw_N. Run kjcm expose with draws={least} or more.")
    if outcome and outcome not in frame:
        sys.exit(f"{file}: has no column {outcome!r}.")
    if outcome and not pd.api.types.is_numeric_dtype(frame[outcome]):
        sys.exit(f"{file}, column {outcome!r}: has values that are no numbers. Name a column of numbers.")
    rows = len(frame)
    frame = frame.dropna(subset=[*names, *([outcome] if outcome else [])])
    print(f"rows left out, without exposure data or outcome: {rows - len(frame):,}")
    if len(frame) < 3 or (outcome and min(frame[outcome].nunique(), frame[names[0]].nunique()) < 2):
        sys.exit(
            f"{file}: too few rows or values. Give 3 rows with exposure data, and different exposures and outcomes."
        )
    draws = frame[names].to_numpy(float)
    results = {"mean exposure": (np.array([mean(column) for column in draws.T]), len(frame) - 1)}
    if outcome:
        y = frame[outcome].to_numpy(float)
        imputed = with_outcome(draws, y, 20, 10, np.random.Generator(np.random.PCG64(0)))
        results["slope"] = np.array([slope(column, y) for column in imputed.T]), len(frame) - 2
    print(f"{len(frame):,} rows")
    for name, (values, df) in results.items():
        found = pooled(values[:, 0], values[:, 1], df)
        print(
            f"{name}: {found.estimate:.4f} (95 % interval {found.low:.4f} to {found.high:.4f}), {len(values)} imputations\n"
            f"  variance within {found.within:.3g}, between {found.between:.3g}, total {found.total:.3g}; "
            f"{found.df:.0f} degrees of freedom"
        )


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(*sys.argv[1:])
