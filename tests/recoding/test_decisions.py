"""Which candidate replaces a code: hand-worked probabilities, and the promise by simulation."""

import numpy as np
import pytest

from kjcm.recoding.decisions import Row, Rules, decide, rules_of, shares_of_classes, weights_by_model, written

FIXED = Rules(0.2, 0.3, 2)


def shares(probability: np.ndarray, classes: list[str], candidates: dict[str, float]) -> np.ndarray:
    return weights_by_model(probability, shares_of_classes(classes, candidates), candidates)[0]


def test_the_model_counts_among_the_candidates_only() -> None:
    probability = np.array([[0.6, 0.1, 0.3], [0.0, 0.0, 1.0], [0.0, 0.5, 0.5]])
    found = shares(probability, ["111", "112", "211"], {"111": 0.5, "112": 0.5})
    np.testing.assert_allclose(found, [[6 / 7, 1 / 7], [0.5, 0.5], [0, 1]])  # no probability: the table's weights


def test_the_candidates_probability_together() -> None:
    candidates = {"111": 0.5, "999": 0.5}
    _, together = weights_by_model(
        np.array([[0.6, 0.4], [0.01, 0.99]]), shares_of_classes(["111", "112"], candidates), candidates
    )
    np.testing.assert_allclose(together, [0.6, 0.01])


@pytest.mark.parametrize(("best", "others"), [(0.8, [0.2]), (0.8, [0.1, 0.1]), (0.9, [0.1]), (0.95, [0.05])])
def test_a_weight_that_equals_the_threshold_is_accepted(best: float, others: list[float]) -> None:
    row = Row("1", {"a": best, **{str(place): other for place, other in enumerate(others)}}, scored=True)
    rules = rules_of([row], target=None, threshold=best, confidence=0.95, alpha=0.3, k=1)
    decide([row], rules, weights=False)
    assert (row.decision, row.recoded) == ("accept", "a")


def test_a_list_that_leaves_out_just_alpha_is_shown() -> None:
    assert 0.2 + 0.1 > 0.3  # by rounding
    assert Rules(None, 0.3, 1).lists(Row("1", {"a": 0.7, "b": 0.2, "c": 0.1}, scored=True))


def test_finer_coarser_and_unknown_candidates() -> None:
    probability = np.array([[0.6, 0.1, 0.3]])
    classes = ["111", "112", "211"]
    np.testing.assert_allclose(
        shares(probability, classes, {"1111": 0.2, "1112": 0.2, "2110": 0.6}), [[1 / 3, 1 / 3, 1 / 3]]
    )
    np.testing.assert_allclose(shares(probability, classes, {"11": 0.5, "21": 0.5}), [[0.7, 0.3]])
    np.testing.assert_allclose(
        shares(probability, classes, {"111": 0.3, "112": 0.3, "999": 0.4}), [[0.6 * 6 / 7, 0.6 / 7, 0.4]]
    )


def test_each_row_has_one_decision() -> None:
    rows = [
        Row("1", {"a": 1.0}),
        Row("2", {"a": 0.1, "b": 0.9}, scored=True),
        Row("2", {"a": 0.4, "b": 0.6}, scored=True),
        Row("2", {"a": 0.32, "b": 0.34, "c": 0.34}, scored=True),
        Row("2", {"a": 0.5, "b": 0.5}),
        Row("2", {"a": 0.5, "b": 0.5}, "b", reason="empty"),
        Row("x", {}, reason="unknown code"),
    ]
    decide(rows, FIXED, weights=False)
    assert [(row.decision, row.recoded, row.reason) for row in rows] == [
        ("convert", "a", ""), ("accept", "b", ""), ("choose", "", ""), ("undecided", "", "too many likely candidates"),
        ("undecided", "", "several candidates, and no run"), ("given", "b", ""), ("undecided", "", "unknown code"),
    ]  # fmt: skip
    assert rows[2].listed == ["b", "a"]
    decide(rows, FIXED, weights=True)
    assert [row.decision for row in rows] == [
        "convert",
        "weights",
        "weights",
        "weights",
        "weights",
        "given",
        "undecided",
    ]


@pytest.mark.parametrize("weights", [[1 / 3] * 3, [1.0], [0.5, 0.25, 0.25], [1 / 7] * 7, [1 - 1e-9, 1e-9]])
def test_written_weights_sum_to_1(weights: list[float]) -> None:
    parts = written(weights).split()
    assert sum(round(float(part) * 10**6) for part in parts) == 10**6
    np.testing.assert_allclose([float(part) for part in parts], weights, atol=1e-6)


def test_the_promise_is_kept() -> None:
    """In at most 5 % of the draws, more of the accepted rows are wrong than the target; 600 of 2,000 rows are coded twice."""
    random = np.random.Generator(np.random.PCG64(1))
    target, broken, accepted = 0.2, 0, 0
    for _ in range(200):
        best = random.uniform(0.5, 1, 2000)
        right = random.random(2000) < best**1.2  # the probabilities are too sure
        rows = [
            Row("1", {"a": p, "b": 1 - p}, ("a" if fine else "b") if number < 600 else "", scored=True)
            for number, (p, fine) in enumerate(zip(best.tolist(), right.tolist(), strict=True))
        ]
        rules = rules_of(rows, target=target, threshold=0.8, confidence=0.95, alpha=0.3, k=5)
        if rules.doubt is None:
            continue
        above = 1 - best < rules.doubt
        truth = (1 - best[above] ** 1.2).mean()
        accepted += 1
        broken += truth > target
    assert accepted > 100
    assert broken <= 200 * 0.05 + 2 * (200 * 0.05 * 0.95) ** 0.5


def test_no_share_that_passes_accepts_no_row() -> None:
    rows = [Row("1", {"a": 0.9, "b": 0.1}, "b", scored=True) for _ in range(100)] + [
        Row("1", {"a": 0.9, "b": 0.1}, scored=True)
    ]
    rules = rules_of(rows, target=0.1, threshold=0.8, confidence=0.95, alpha=0.3, k=1)
    decide(rows, rules, weights=False)
    assert rules.doubt is None and (rows[-1].decision, rows[-1].listed) == ("choose", ["a"])
