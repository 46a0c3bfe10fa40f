"""Audit samples: exact intervals, sizes, strata, estimates and their coverage."""

from functools import cache

import numpy as np
import pytest
from scipy.stats import hypergeom

from kjcm.drift import sampling
from kjcm.drift.sampling import HELD, OPEN, REFUTED, Stratum, allocation, drawn, estimate, interval, size_for
from tests.drift.simulation import POPULATIONS, missed


@pytest.mark.parametrize(("population", "rows"), [(40, 13), (60, 45), (25, 25)])
def test_the_interval_misses_no_share_too_often(population: int, rows: int) -> None:
    """Over all possible samples, for every number of errors in the population."""
    found = [interval(errors, errors, rows, population, 0.1) for errors in range(rows + 1)]
    for wrong in range(population + 1):
        chance = hypergeom.pmf(np.arange(rows + 1), population, wrong, rows)
        inside = [low <= wrong / population <= high for low, high in found]
        assert chance[inside].sum() >= 0.9 - 1e-9
    if rows == population:
        assert found == [(errors / 25, errors / 25) for errors in range(26)]


def test_the_interval_of_a_large_population_is_clopper_pearsons() -> None:
    low, high = interval(5, 5, 100, 10**7, 0.05)
    assert (low, high) == (pytest.approx(0.01643, abs=2e-5), pytest.approx(0.11283, abs=2e-5))
    assert interval(0, 2, 10, 10**7, 0.05) == (0.0, pytest.approx(interval(2, 2, 10, 10**7, 0.05)[1]))


def test_a_size_is_enough_and_not_much_more() -> None:
    for population, expected in ((10**5, 0.1), (500, 0.1), (300, 0.5)):
        size = size_for(population, expected, 0.05, 0.05)
        for rows, is_enough in ((size, True), (size - 10, False)):
            wrong = expected * rows + 1e-6  # between two whole numbers, so that `estimate` rounds both ends
            low, high = interval(int(wrong), int(wrong) + 1, rows, population, 0.05)
            assert (high - low <= 0.1) is is_enough
        assert size < population
    assert size_for(10**5, 0.1, 0.05, 0.05) > size_for(500, 0.1, 0.05, 0.05)
    assert size_for(5, 0.1, 0.01, 0.05) == 5


def test_strata_are_sampled_in_proportion_and_once_at_least() -> None:
    assert allocation({"a": 700, "b": 290, "c": 10}, 100) == {"a": 70, "b": 29, "c": 1}
    assert allocation({"a": 990, "b": 3, "c": 1}, 50) == {"a": 49, "b": 1, "c": 1}
    assert allocation({"a": 2, "b": 1}, 3) == {"a": 2, "b": 1}
    strata = np.array(["a", "b", "", "a", "b", "a"], object)
    places = drawn(strata, {"a": 2, "b": 1}, np.random.default_rng(0))
    assert sorted(strata[places]) == ["a", "a", "b"] and list(places) == sorted(set(places))


def test_a_stratified_estimate_by_hand() -> None:
    """Strata of 60 and 40 rows; 1 of 6 and 2 of 4 wrong: 0.6 / 6 + 0.4 / 2 = 0.3."""
    found = estimate([Stratum(60, 6, 1), Stratum(40, 4, 2)], 0.05)
    assert found.error == pytest.approx(0.3) and (found.rows, found.sampled, found.wrong) == (100, 10, 3)
    assert (found.low, found.high) == interval(3, 3, 10, 100, 0.05)
    unclear = estimate([Stratum(60, 6, 1, 1), Stratum(40, 4, 2)], 0.05)
    assert unclear.error == pytest.approx(0.6 / 5 + 0.2)
    assert (unclear.low, unclear.high) == interval(3, 4, 10, 100, 0.05)
    none = estimate([Stratum(10, 2, 0, 2)], 0.05)
    assert none.error is None and (none.low, none.high) == (0, 1)


def test_a_verdict_needs_the_whole_interval() -> None:
    found = estimate([Stratum(1000, 200, 20)], 0.05)
    assert 0.06 < found.low < 0.1 < found.high < 0.15
    assert [found.verdict(target) for target in (0.05, 0.1, 0.2)] == [REFUTED, OPEN, HELD]


@pytest.mark.parametrize("name", POPULATIONS)
def test_intervals_cover(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 2,000 intervals at most 5 % miss."""
    monkeypatch.setattr(sampling, "interval", cache(interval))  # many draws have equal counts
    assert missed(np.random.default_rng(4), POPULATIONS[name], 60, 2000)[0] <= 0.05
