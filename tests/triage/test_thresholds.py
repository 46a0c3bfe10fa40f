"""The promise is kept in at least 95 % of the draws, and a looser target never passes less."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import beta, binom

from kjcm.triage.thresholds import LEAST_LEFT, SHARES, Tried, fallback, last_passed, points, weights
from tests.triage.simulation import CURVES, TARGETS, drawn, fixed_sequence, true_error

DRAWS = 200


def outcome(confidence: np.ndarray, right: np.ndarray, target: float) -> list[Tried]:
    return fallback(points(confidence, lambda _: right), target)


@pytest.mark.parametrize("rows", [120, 400, 1500])
def test_it_is_kept(rows: int) -> None:
    random = np.random.default_rng(rows)
    for curve in CURVES.values():
        broken, accepted = dict.fromkeys(TARGETS, 0), 0
        for _ in range(DRAWS // 2):
            confidence, right = drawn(random, rows, curve)
            candidates = points(confidence, lambda _, right=right: right)
            for target in TARGETS:
                best = last_passed(fallback(candidates, target))
                accepted += best is not None
                broken[target] += best is not None and true_error(best.threshold, curve) > target
        assert max(broken.values()) <= binom.ppf(0.9999, DRAWS // 2, 0.05)
        assert accepted > DRAWS / 4  # the promise is not kept by accepting nothing


def test_the_lowest_threshold_that_passes_by_itself_breaks_it() -> None:
    """What the shared level is for: without it the same test fails far more often than 5 %."""
    random = np.random.default_rng(0)
    target, rows, counts = 0.3, 300, np.arange(1, 301)
    broken = {"lowest": 0, "fallback": 0}
    for _ in range(DRAWS):
        confidence = random.random(rows)
        right = random.random(rows) >= target + 0.001  # no threshold keeps the promise
        errors = (~right[np.argsort(-confidence)]).cumsum()
        broken["lowest"] += bool((binom.cdf(errors, counts, target) <= 0.05).any())
        broken["fallback"] += last_passed(outcome(confidence, right, target)) is not None
    assert broken["lowest"] > 3 * 0.05 * DRAWS
    assert broken["fallback"] <= binom.ppf(0.999, DRAWS, 0.05)


def test_a_looser_target_passes_whatever_a_stricter_one_passes() -> None:
    random = np.random.default_rng(3)
    fewer_before = 0
    for _ in range(200):
        rows = int(random.integers(1, 800))
        confidence, right = drawn(random, rows, CURVES[str(random.choice(list(CURVES)))])
        confidence = np.round(confidence, int(random.integers(1, 9)))  # many equal ones too
        subsets = [confidence < cut for cut in random.random(3)] if random.random() < 0.5 else []
        candidates = points(confidence, lambda _, right=right: right, subsets)
        looser = np.linspace(0.02, 0.6, 13)
        found = [fallback(candidates, target) for target in looser]
        for strict, loose in pairwise(found):
            assert all(two.passed or not one.passed for one, two in zip(strict, loose, strict=True))
            assert all(two.level >= one.level for one, two in zip(strict, loose, strict=True))
        before = [one.share if (one := fixed_sequence(candidates, target)) else 0 for target in looser]
        fewer_before += before != sorted(before)
    assert fewer_before  # the scheme before could accept less under a looser target: these draws would show it


def test_a_start_that_fails_does_not_end_it() -> None:
    """Two early errors ended the sequence before: the surest eight rows are wrong, all others right."""
    confidence, right = np.linspace(1, 0, 1000, endpoint=False), np.ones(1000, bool)
    right[:8] = False
    assert fixed_sequence(points(confidence, lambda _: right), 0.1) is None
    best = last_passed(outcome(confidence, right, 0.1))
    assert best and best.share == 1.0


def test_levels_are_shared_among_the_starts_and_handed_on() -> None:
    confidence = np.linspace(1, 0, 1000, endpoint=False)
    right = np.ones(1000, bool)
    right[500:] = False
    tried = outcome(confidence, right, 0.1)
    assert [one.share for one in tried] == list(SHARES)
    assert [one.passed for one in tried] == [True] * 10 + [False] * 10
    assert [one.level for one in tried[:4]] == pytest.approx([0.05 / 3, 0.1 / 3, 0.1 / 3, 0.05])
    assert {one.level for one in tried[11:]} == {0}
    assert all(one.rows == round(one.share * 1000) for one in tried)
    assert [one.p for one in tried] == [pytest.approx(binom.cdf(one.errors, one.rows, 0.1)) for one in tried]
    best = last_passed(tried)
    assert best and best.share == 0.5 and best.errors == 0
    assert (confidence > best.threshold).sum() == 500


@pytest.mark.parametrize("rows", [1, 39, 40, 60, 150, 400, 3000, 100_000])
def test_the_whole_level_is_used_and_no_more(rows: int) -> None:
    parts = weights(rows)
    assert sum(parts) == pytest.approx(1) and len(parts) == len(SHARES)
    first = next(place for place, part in enumerate(parts) if part)
    assert rows < 40 or int(SHARES[first] * rows) >= 40


def test_every_set_of_a_share_must_pass() -> None:
    confidence = np.linspace(1, 0, 1000, endpoint=False)
    hard = np.arange(1000) % 5 == 0  # a fifth of the rows, all wrong among the surest half
    right = ~hard
    every = last_passed(fallback(points(confidence, lambda _: right), 0.3))
    assert every and every.share == 1.0
    tried = fallback(points(confidence, lambda _: right, [hard]), 0.3)
    best = last_passed(tried)
    assert best and int(best.share * 1000) // 5 < LEAST_LEFT  # as far as the hard set is too small to be tested
    assert all(one.rows == one.errors for one in tried if one.rows and one.p == 1)


def test_everything_may_be_accepted_and_nothing() -> None:
    confidence = np.random.default_rng(0).random(300)
    best = last_passed(outcome(confidence, np.ones(300, bool), 0.05))
    assert best and best.share == 1.0 and (confidence > best.threshold).all()
    assert last_passed(outcome(confidence, np.zeros(300, bool), 0.05)) is None
    assert last_passed(outcome(confidence[:10], np.ones(10, bool), 0.05)) is None  # too few rows to tell
    assert last_passed(outcome(np.array([]), np.array([], bool), 0.05)) is None


def test_equal_confidences_are_accepted_together_or_not_at_all() -> None:
    confidence = np.repeat([0.9, 0.5], 100)
    best = last_passed(outcome(confidence, np.repeat([True, False], 100), 0.1))
    assert best and best.rows == 100 and best.threshold == 0.5


def test_how_many_rows_it_takes() -> None:
    """The test is the one-sided bound of Clopper and Pearson; without an error 29 rows keep a target of 0.1."""
    for rows in (29, 28):
        best = last_passed(outcome(np.random.default_rng(0).random(rows), np.ones(rows, bool), 0.1))
        assert (best is not None) == (rows == 29) == (beta.ppf(0.95, 1, rows) <= 0.1)
