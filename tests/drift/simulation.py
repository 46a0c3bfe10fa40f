"""Draw files and audit samples many times: how often do the tests reject, and the intervals miss? The tables of docs/drift.md.

python -m tests.drift.simulation
"""

from functools import cache

import numpy as np
import pandas as pd

from kjcm.drift import sampling
from kjcm.drift.comparison import Measured, compare, detectable_share
from kjcm.drift.sampling import Stratum, allocation, estimate

GROUP_SHARES = np.array([0.02, 0.3, 0.2, 0.15, 0.13, 0.1, 0.06, 0.04])
CLASSES = [f"{group}{place}" for group in range(8) for place in range(3)]


def rows_of(random: np.random.Generator, rows: int, *, longer: float = 0.0, gains: float = 0.0) -> Measured:
    """Return random rows of eight groups with skewed lengths, rare unknown parts and probabilities.

    Args:
        random: draws the rows.
        rows: number of them.
        longer: by how many standard deviations the texts are longer.
        gains: share of the rows that group 1 gains.
    """
    shares = GROUP_SHARES * (1 - gains / (1 - GROUP_SHARES[1]))
    shares[1] = GROUP_SHARES[1] + gains
    group = random.choice(8, rows, p=shares)
    sure = random.beta(4, 1.5, rows)
    rest = random.dirichlet(np.full(len(CLASSES), 0.2), rows) * (1 - sure)[:, None]
    code = 3 * group + random.integers(3, size=rows)
    rest[np.arange(rows), code] += sure
    length = random.gamma(4, 1, rows)
    features = {
        "characters": length + 2 * longer,
        "words": np.round(length / 3),
        "unknown": np.where(random.random(rows) < 0.03, random.random(rows), 0.0),
        "empty": (random.random(rows) < 0.01).astype(float),
        "confidence": rest.max(axis=1),
    }
    labels = {"major groups": group.astype(str).astype(object), "codes": np.array(CLASSES, object)[code]}
    return Measured(pd.DataFrame(features), labels, rest)


def rejections(
    random: np.random.Generator, held: int, file: int, times: int, exchanges: int, *, longer: float = 0.0, gains: float = 0.0
) -> dict[str, float]:  # fmt: skip
    """Return how often any test, those of characters, groups and codes, and any class is significant at 5 %."""
    found = {"any": 0, "characters": 0, "major groups": 0, "codes": 0, "classes": 0}
    for _ in range(times):
        pair = rows_of(random, held), rows_of(random, file, longer=longer, gains=gains)
        tests, moved = compare(*pair, CLASSES, level=0.05, exchanges=exchanges, seed=int(random.integers(2**31)))
        significant = {one.name for one in tests if one.adjusted <= 0.05}
        found["any"] += bool(significant)
        for name in ("characters", "major groups", "codes"):
            found[name] += name in significant
        found["classes"] += any(one.adjusted <= 0.05 for one in moved)
    return {name: count / times for name, count in found.items()}


def rare_codes_found(
    random: np.random.Generator, held: int, file: int, times: int, exchanges: int
) -> tuple[float, float]:
    """Return the mean "finds from" of a test of 150 codes, most of them rare, and how often it finds such a change."""
    codes, shares = np.arange(150).astype(str).astype(object), 1 / np.arange(1, 151)
    shares /= shares.sum()

    def drawn(rows: int, gains: float) -> Measured:
        own = shares * (1 - gains / (1 - shares[0]))
        own[0] = shares[0] + gains
        return Measured(
            pd.DataFrame(index=range(rows)), {"codes": random.choice(codes, rows, p=own)}, np.ones((rows, 1))
        )

    found, total = 0, 0.0
    for _ in range(times):
        before, same = drawn(held, 0.0), drawn(file, 0.0)
        count = len({*before.labels["codes"], *same.labels["codes"]})
        gains = detectable_share(before.labels["codes"], count, held, file, 0.05)
        seed = int(random.integers(2**31))
        tests, _ = compare(before, drawn(file, gains), ["1"], level=0.05, exchanges=exchanges, seed=seed)
        total += gains
        found += tests[0].adjusted <= 0.05
    return total / times, found / times


def missed(
    random: np.random.Generator, strata: dict[str, tuple[int, float]], size: int, times: int
) -> tuple[float, float]:
    """Return how often the 95 % interval of a stratified sample misses the error share, and its mean half width.

    Args:
        random: draws the errors and the samples.
        strata: name -> rows and chance of an error.
        size: of the sample.
        times: number of draws.
    """
    sizes = allocation({name: rows for name, (rows, _) in strata.items()}, size)
    errors = {name: int(random.binomial(rows, chance)) for name, (rows, chance) in strata.items()}
    truth = sum(errors.values()) / sum(rows for rows, _ in strata.values())
    misses, width = 0, 0.0
    for _ in range(times):
        drawn = [
            Stratum(rows, sizes[name], int(random.hypergeometric(errors[name], rows - errors[name], sizes[name])))
            for name, (rows, _) in strata.items()
        ]
        found = estimate(drawn, 0.05)
        misses += not found.low <= truth <= found.high
        width += (found.high - found.low) / 2
    return misses / times, width / times


POPULATIONS = {
    "equal errors": {str(place): (rows, 0.05) for place, rows in enumerate((2000, 900, 500, 60, 8))},
    "unequal errors": {"1": (2000, 0.01), "2": (900, 0.1), "3": (500, 0.3), "4": (60, 0.5), "5": (8, 0.9)},
    "one small stratum has the errors": {"1": (3000, 0.0), "2": (15, 0.9)},
    "few errors": {"1": (2000, 0.002), "2": (1500, 0.005)},
    "many small strata": {str(place): (30, 0.1 + 0.02 * (place % 5)) for place in range(40)},
    "small file": {"1": (60, 0.05), "2": (40, 0.2)},
}


def main() -> None:
    """Print the tables."""
    sampling.interval = cache(sampling.interval)  # many draws have equal counts
    random = np.random.default_rng(0)
    print("population, sample: misses of the 95 % interval, mean half width")
    for name, strata in POPULATIONS.items():
        for size in (50, 200):
            share, width = missed(random, strata, size, 2000)
            print(f"{name}, {size}: {share:.4f}, {width:.3f}")
    print("rows held-out / file, longer, gains: any test, characters, major groups, codes, any class")
    for held, file in ((80, 60), (400, 400)):
        for longer, gains in ((0.0, 0.0), (0.2, 0.0), (0.0, 0.05)):
            found = rejections(random, held, file, 1000, 499, longer=longer, gains=gains)
            print(held, file, longer, gains, *(f"{share:.3f}" for share in found.values()), flush=True)
    print("150 codes, rows of each side: smallest gain that should be found, share of the draws in which it is found")
    for rows in (400, 1000):
        gains, share = rare_codes_found(np.random.default_rng(0), rows, rows, 1000, 499)
        print(f"{rows}: {gains:.3f}, {share:.3f}", flush=True)


if __name__ == "__main__":
    main()
