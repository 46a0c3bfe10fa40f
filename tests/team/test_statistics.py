"""Kappa and agreement: hand-worked tables, several pairs of coders, and intervals."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from kjcm.team.statistics import Pairs, estimates, exact, kappa, measured


def pairs(*cells: tuple[str, str, int], raters: list[int] | None = None) -> Pairs:
    """Return pairs of codes from (one, other, how often)."""
    one = [a for a, _, n in cells for _ in range(n)]
    other = [b for _, b, n in cells for _ in range(n)]
    numbers = np.array(raters if raters is not None else [0] * len(one), np.intp)
    return Pairs(np.array(one, object), np.array(other, object), numbers, np.arange(len(one)))


FIFTY = pairs(("1", "1", 20), ("1", "2", 5), ("2", "1", 10), ("2", "2", 15))


def test_a_hand_worked_kappa() -> None:
    """Agreement 35 / 50; chance (25 * 30 + 25 * 20) / 2500 = 0.5; kappa 0.2 / 0.5."""
    found = measured(FIFTY, 500, 0)
    assert found["agreement"]["value"] == pytest.approx(0.7) and found["kappa"]["value"] == pytest.approx(0.4)
    assert found["agreement"]["low"] < 0.7 < found["agreement"]["high"]
    error = np.sqrt(0.7 * 0.3 / 50)  # the bootstrap's interval is near the normal one
    assert found["agreement"]["high"] - found["agreement"]["low"] == pytest.approx(2 * 1.96 * error, abs=0.04)
    assert (found["pairs"], found["texts"]) == (50, 50)


def test_kappa_is_scikit_learns() -> None:
    generator = np.random.default_rng(1)
    one = generator.integers(0, 6, 300)
    other = np.where(generator.random(300) < 0.6, one, generator.integers(0, 6, 300))
    weights = generator.integers(0, 4, 300)
    expected = cohen_kappa_score(one, other, sample_weight=weights)
    assert kappa(one, other, np.zeros(300, np.intp), weights) == pytest.approx(expected)


def test_chance_is_that_within_each_pair_of_coders() -> None:
    """Pair 0: 2 of 4 agree, chance 1/2. Pair 1: 4 of 4 agree, chance 1/2. Together: (6/8 - 1/2) / (1/2)."""
    one = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    other = np.array([0, 1, 0, 1, 0, 0, 1, 1])
    raters = np.repeat([0, 1], 4).astype(np.intp)
    assert kappa(one, other, raters, np.ones(8)) == pytest.approx(0.5)


def test_agreement_on_one_group_counts_the_rows_that_have_it() -> None:
    """Both 15, one alone 5, the other alone 10: 2 * 15 / (20 + 25) of 30 rows; kappa is that of the two-way table."""
    found = measured(FIFTY, 100, 0, either="2")
    assert found["agreement"]["value"] == pytest.approx(30 / 45) and found["pairs"] == 30
    assert found["kappa"]["value"] == pytest.approx(0.4)
    three = pairs(("1", "1", 20), ("1", "2", 5), ("2", "1", 10), ("2", "2", 10), ("3", "3", 5))
    found = measured(three, 100, 0, either="3")
    assert found["kappa"]["value"] == 1 and found["pairs"] == 5
    found = measured(three, 100, 0, either="2")  # both 10, neither 25 of 50; not 2: 30 and 35
    assert found["kappa"]["value"] == pytest.approx((35 / 50 - 0.54) / (1 - 0.54))


def test_perfect_and_constant_codes() -> None:
    found = measured(pairs(("1", "1", 4), ("2", "2", 6)), 100, 0)
    assert found["kappa"] == {"value": 1.0, "low": None, "high": None}
    assert found["agreement"]["low"] == pytest.approx(0.025 ** (1 / 10)) and found["agreement"]["high"] == 1
    assert measured(pairs(("1", "1", 4)), 100, 0)["kappa"]["value"] is None
    assert exact(0, 10).high == pytest.approx(1 - 0.025 ** (1 / 10))


def test_a_group_on_which_nobody_agrees() -> None:
    """None of five rows has the code from both: at most the share u has it, which is 2u / (1 + u) of (one + other) / 2."""
    found = measured(pairs(("1", "1", 20), ("6", "1", 2), ("1", "6", 3)), 100, 0, either="6")
    most = 1 - 0.025 ** (1 / 5)
    assert (found["agreement"]["value"], found["agreement"]["low"]) == (0, 0)
    assert found["agreement"]["high"] == pytest.approx(2 * most / (1 + most))
    assert found["kappa"]["value"] < 0 and found["kappa"]["low"] is None and found["kappa"]["high"] is None


def test_rows_with_one_text_are_resampled_together() -> None:
    """Ten copies of two texts, of which one agrees: resamples have agreement 0, 1/2 or 1 only."""
    same = np.repeat([1.0, 0.0], 10)
    texts = np.repeat(["a", "b"], 10)
    seen = set()

    def share(weights: np.ndarray) -> list[float]:  # type: ignore[type-arg]
        seen.add(float(weights @ same / weights.sum()))
        return [*seen][-1:]

    estimates(share, texts, 100, 0)
    assert seen == {0.0, 0.5, 1.0}
