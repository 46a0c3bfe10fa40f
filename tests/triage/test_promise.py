"""The promise is kept: over many draws the accepted rows' true error passes the target in no more than 5 % of them."""

import numpy as np
import pytest
from scipy.stats import binom

from kjcm.triage.promise import SHARES, fixed_sequence, last_passed

DRAWS = 1500


def chance_of_error(confidence: np.ndarray) -> np.ndarray:
    """How often a row of a confidence is wrong: not what it says, and not falling everywhere."""
    return np.clip(0.55 - 0.5 * confidence + 0.08 * np.sin(12 * confidence), 0, 1)


def true_error(threshold: float) -> float:
    """The share of errors among all rows above a threshold; confidences are uniform."""
    grid = np.linspace(max(threshold, 0), 1, 20_001)
    return float(chance_of_error(grid).mean())


@pytest.mark.parametrize("target", [0.1, 0.2, 0.3])
@pytest.mark.parametrize("rows", [150, 600])
def test_it_is_kept(target: float, rows: int) -> None:
    random = np.random.default_rng(rows)
    broken = accepted = 0
    for _ in range(DRAWS):
        confidence = random.random(rows)
        right = random.random(rows) >= chance_of_error(confidence)
        best = last_passed(fixed_sequence(confidence, right, target))
        if best is not None:
            accepted += 1
            broken += true_error(best.threshold) > target
    assert broken <= binom.ppf(0.999, DRAWS, 0.05)
    if rows == 600 and target >= 0.2:
        assert accepted > DRAWS / 2  # it is not kept by accepting nothing


def test_the_lowest_threshold_that_passes_by_itself_breaks_it() -> None:
    """What the sequence is for: without stopping at the first failure the same bound fails far more often than 5 %."""
    random = np.random.default_rng(0)
    target, rows, counts = 0.3, 300, np.arange(1, 301)
    broken = {"lowest": 0, "sequence": 0}
    for _ in range(DRAWS):
        confidence = random.random(rows)
        right = random.random(rows) >= target + 0.01  # no threshold keeps the promise
        errors = (~right[np.argsort(-confidence)]).cumsum()
        broken["lowest"] += bool((binom.cdf(errors, counts, target) <= 0.05).any())
        broken["sequence"] += last_passed(fixed_sequence(confidence, right, target)) is not None
    assert broken["lowest"] > 3 * 0.05 * DRAWS
    assert broken["sequence"] <= binom.ppf(0.999, DRAWS, 0.05)


def test_shares_are_tried_strictest_first_and_the_first_failure_ends_it() -> None:
    confidence = np.linspace(1, 0, 1000, endpoint=False)
    right = np.ones(1000, bool)
    right[500:] = False
    tried = fixed_sequence(confidence, right, 0.1)
    assert [one.share for one in tried] == list(SHARES[: len(tried)])
    assert [one.passed for one in tried] == [True] * (len(tried) - 1) + [False]
    assert all(one.rows == round(one.share * 1000) for one in tried)
    assert [one.p for one in tried] == [pytest.approx(binom.cdf(one.errors, one.rows, 0.1)) for one in tried]
    best = last_passed(tried)
    assert best and best.share == 0.5 and best.errors == 0
    assert (confidence > best.threshold).sum() == 500


def test_everything_may_be_accepted_and_nothing() -> None:
    confidence = np.random.default_rng(0).random(300)
    best = last_passed(fixed_sequence(confidence, np.ones(300, bool), 0.05))
    assert best and best.share == 1.0 and (confidence > best.threshold).all()
    assert last_passed(fixed_sequence(confidence, np.zeros(300, bool), 0.05)) is None
    assert fixed_sequence(confidence[:10], np.ones(10, bool), 0.05) == []  # too few rows to tell
    assert fixed_sequence(np.array([]), np.array([], bool), 0.05) == []


def test_equal_confidences_are_accepted_together_or_not_at_all() -> None:
    confidence = np.repeat([0.9, 0.5], 100)
    best = last_passed(fixed_sequence(confidence, np.repeat([True, False], 100), 0.1))
    assert best and best.rows == 100 and best.threshold == 0.5


def test_how_many_rows_it_takes() -> None:
    for target, rows in ((0.05, 93), (0.1, 46)):
        confidence, right = np.random.default_rng(0).random(rows), np.ones(rows, bool)
        (one,) = fixed_sequence(confidence, right, target)
        assert one.rows == rows and one.passed
        assert fixed_sequence(confidence[1:], right[1:], target) == []
