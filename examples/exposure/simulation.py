"""Simulate how often 95 % intervals contain the truth: top-1 codes, expected exposures, imputed exposures, and shares.

    python examples/exposure/simulation.py [REPLICATIONS]

Each row has a true code, and a signal from which exact probabilities of the codes follow. So the probabilities are
calibrated by construction. Rare codes are more exposed than frequent ones.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))
from rubin import mean, pooled, slope, with_outcome

from kjcm.exposure.rows import draw
from kjcm.tabulation.shares import Tally, logit_interval

Numbers = NDArray[np.float64]
CODES, ROWS, M, DRAWS = 20, 500, 20, 100
PRIOR = 0.8 ** np.arange(CODES) / (0.8 ** np.arange(CODES)).sum()
LEVEL = np.array([0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 2.0, 0.0, 2.0, 1.0, 3.0, 2.0, 3.0, 1.0, 3.0, 2.0, 3.0, 3.0])
SIGNAL = 2.0  # distance of the codes' signals; 2 gives an accuracy of 0.66
SLOPE = 0.5  # of the outcome on the exposure


def sample(generator: np.random.Generator) -> tuple[NDArray[np.intp], Numbers, Numbers]:
    """Return true codes [rows], their probabilities [rows, codes] and outcomes [rows]."""
    true = generator.choice(CODES, ROWS, p=PRIOR)
    signal = generator.normal(size=(ROWS, CODES))
    signal[np.arange(ROWS), true] += SIGNAL
    chance = PRIOR * np.exp(SIGNAL * signal)
    outcome = 1 + SLOPE * LEVEL[true] + generator.normal(size=ROWS)
    return true, chance / chance.sum(axis=1, keepdims=True), outcome


def simple(values: tuple[float, float]) -> tuple[float, float, float]:
    """Return an estimate and the ends of its interval."""
    half = 1.96 * values[1] ** 0.5
    return values[0], values[0] - half, values[0] + half


def replicate(generator: np.random.Generator) -> dict[tuple[str, str], tuple[float, float, float]]:
    """Return (what, method) -> estimate and interval of one sample."""
    true, probability, outcome = sample(generator)
    exposures = {
        "true codes": LEVEL[true],
        "top-1 codes": LEVEL[probability.argmax(axis=1)],
        "expected exposure": probability @ LEVEL,
    }
    found = {("mean", name): simple(mean(values)) for name, values in exposures.items()}
    found |= {("slope", name): simple(slope(values, outcome)) for name, values in exposures.items()}
    draws = LEVEL[draw(probability, generator.random((ROWS, DRAWS)))]
    imputed = {"draws": draws[:, :M], "draws given the outcome": with_outcome(draws, outcome, M, 5, generator)}
    for name, columns in imputed.items():
        slopes = np.array([slope(column, outcome) for column in columns.T])
        pool = pooled(slopes[:, 0], slopes[:, 1], ROWS - 2)
        found["slope", name] = pool.estimate, pool.low, pool.high
    means = np.array([mean(column) for column in draws[:, :M].T])
    pool = pooled(means[:, 0], means[:, 1], ROWS - 1)
    found["mean", "draws"] = pool.estimate, pool.low, pool.high
    return found


def shares(generator: np.random.Generator) -> tuple[dict[str, tuple[float, float, float, float]], NDArray[np.bool_]]:
    """Return the errors of one sample's shares, and which of their intervals contain the sample's true shares.

    Returns:
        method -> total variation distance, RMSE, and coverage of the intervals: the sample's and the population's shares.
        [3, codes]: whether the code is in the sample; whether the interval from `se`, and one from `se_coding` alone,
            contains its share.
    """
    true, probability, _ = sample(generator)
    tally = Tally()
    codes = [f"{code:02}" for code in range(CODES)]
    places = {code: np.array([place]) for place, code in enumerate(codes)}
    tally.add(places, probability, probability.argmax(axis=1), np.ones(ROWS))
    own = np.bincount(true, minlength=CODES) / ROWS
    found = {}
    summed = [tally.from_probabilities(code, 0.95) for code in codes]
    for name, estimates in (("top-1 codes", [tally.from_top(code, 0.95) for code in codes]), ("probabilities", summed)):
        values = np.array([one.value for one in estimates])
        covers = [np.mean([one.low <= truth <= one.high for one, truth in zip(estimates, of, strict=True)])
                  for of in (own, PRIOR)]  # fmt: skip
        found[name] = (
            float(np.abs(values - own).sum() / 2), float(np.sqrt(((values - own) ** 2).mean())), *map(float, covers),
        )  # fmt: skip
    ends = [[(one.low, one.high) for one in summed], [logit_interval(one.value, one.coding, 0.95) for one in summed]]
    low, high = np.moveaxis(np.array(ends), 2, 0)
    return found, np.stack([own > 0, *((low <= own) & (own <= high))])


def coverage(
    results: Sequence[Mapping[tuple[str, str], tuple[float, float, float]]], truth: Mapping[str, float]
) -> dict[tuple[str, str], tuple[float, float, float]]:
    """Return (what, method) -> mean estimate, coverage and mean width of the intervals."""
    found = {}
    for key in results[0]:
        values = np.array([one[key] for one in results])
        inside = (values[:, 1] <= truth[key[0]]) & (truth[key[0]] <= values[:, 2])
        found[key] = float(values[:, 0].mean()), float(inside.mean()), float((values[:, 2] - values[:, 1]).mean())
    return found


def main(replications: int = 1000) -> None:
    """Print two tables."""
    generator = np.random.Generator(np.random.PCG64(1))
    truth = {"mean": float(PRIOR @ LEVEL), "slope": SLOPE}
    print(f"{replications} samples of {ROWS} rows; true mean {truth['mean']:.3f}, true slope {SLOPE}")
    print("| What | Method | Mean estimate | Coverage of the 95 % interval | Mean width |\n|---|---|---|---|---|")
    found = coverage([replicate(generator) for _ in range(replications)], truth)
    for (what, name), (estimate, covered, width) in sorted(found.items(), key=lambda one: one[0][0]):
        print(f"| {what} | {name} | {estimate:.3f} | {covered:.3f} | {width:.3f} |")
    results = [shares(generator) for _ in range(replications)]
    tables = [table for table, _ in results]
    print(
        "| Shares from | Total variation distance | RMSE | Coverage: sample | Coverage: population |\n|---|---|---|---|---|"
    )
    for name in tables[0]:
        values = np.array([table[name] for table in tables]).mean(axis=0)
        print(f"| {name} | {values[0]:.4f} | {values[1]:.4f} | {values[2]:.3f} | {values[3]:.3f} |")
    present, *covers = np.stack([inside for _, inside in results], axis=1)
    print(f"true shares of 0: {1 - present.mean():.3f}")
    for name, inside in zip(("se", "se_coding"), covers, strict=True):
        print(
            f"interval from {name}: contains {inside.mean():.3f} of the sample's shares, {inside[present].mean():.3f} above 0"
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
