"""Intervals, tests and regression against scipy, hand-worked examples and what is known of a binomial share."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from kjcm.analysis.content import Estimate
from kjcm.analysis.scores import Answers, metrics, predicted_right
from kjcm.analysis.statistics import (
    Comparison,
    Resamples,
    bootstrap_p,
    compare,
    estimates,
    five_numbers,
    holm,
    interval,
    mcnemar,
    quartiles,
    regression,
)
from kjcm.errors import KjcmError
from tests.analysis.test_scores import METRICS, random_answers


def flags(*counts: tuple[int, bool]) -> np.ndarray[Any, Any]:
    """Return [rows] so many rows of each value, one after the other."""
    return np.concatenate([np.full(count, value) for count, value in counts])


def same_rows(seed: int, right: float, rows: int = 300) -> Answers:
    """Return answers to the rows of `random_answers(0)`, about a share `right` of them right."""
    answers = random_answers(0, rows)
    codes = answers.codes.copy()
    made_right = np.random.default_rng(seed).random(rows) < right
    codes[made_right, 0] = answers.truth[made_right]
    return replace(answers, codes=codes, place=f"run-{seed}")


# Resamples ------------------------------------------------------------------------------------------------------------


def test_resamples_are_the_same_on_each_iteration_and_differ_by_seed() -> None:
    first, again, other = (np.array([*Resamples(50, None, 20, seed)]) for seed in (1, 1, 2))
    resamples = Resamples(50, None, 20, 1)
    assert np.array_equal([*resamples], [*resamples])
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert first.shape == (20, 50) and len(resamples) == 20
    assert (first.sum(axis=1) == 50).all() and np.issubdtype(first.dtype, np.integer)
    assert len({row.tobytes() for row in first}) == 20


def test_rows_are_drawn_as_often_as_each_other() -> None:
    drawn = np.array([*Resamples(20, None, 4000, 0)])
    assert drawn.mean(axis=0) == pytest.approx(np.ones(20), abs=0.06)  # 4 standard errors
    assert drawn.var(axis=0) == pytest.approx(np.full(20, 0.95), abs=0.12)  # multinomial: 1 - 1/rows


def test_clusters_are_drawn_whole() -> None:
    clusters = np.array(["b", "a", "b", "c", "c", "c", "d"], dtype=object)
    drawn = np.array([*Resamples(7, clusters, 500, 3)])
    for name in "abcd":
        assert (np.ptp(drawn[:, clusters == name], axis=1) == 0).all()
    one_of_each = drawn[:, [0, 1, 3, 6]]
    assert (one_of_each.sum(axis=1) == 4).all()  # as many clusters as there are, whatever rows they hold
    assert len(set(drawn.sum(axis=1))) > 3
    assert one_of_each.mean(axis=0) == pytest.approx(np.ones(4), abs=0.16)


def test_clusters_of_one_row_are_rows() -> None:
    names = np.array([f"{row:02d}" for row in range(30)], dtype=object)
    assert np.array_equal([*Resamples(30, names, 10, 0)], [*Resamples(30, None, 10, 0)])


# Estimates ------------------------------------------------------------------------------------------------------------


def test_interval_is_the_quantile_of_scipy() -> None:
    values = np.random.default_rng(0).normal(size=333)
    assert interval(values) == pytest.approx(stats.mstats.mquantiles(values, [0.025, 0.975], alphap=1, betap=1))


def test_estimates_are_mean_and_deviation_over_seeds() -> None:
    runs = [same_rows(seed, 0.5) for seed in (1, 2, 3)]
    found = estimates(runs, 0, 0)
    assert tuple(found) == METRICS
    for name in METRICS:
        values = [metrics(run)[name] for run in runs]
        assert found[name].mean == pytest.approx(np.mean(values))
        assert found[name].sd == pytest.approx(stats.tstd(values))
        assert (found[name].low, found[name].high) == (None, None)
    assert estimates(runs[:1], 0, 0)["accuracy"] == Estimate(metrics(runs[0])["accuracy"])


def test_interval_of_estimates_is_that_of_the_seed_mean_on_common_resamples() -> None:
    runs = [same_rows(seed, 0.5) for seed in (1, 2)]
    found = estimates(runs, 40, 5)
    for name in METRICS:
        drawn = [np.mean([metrics(run, weights)[name] for run in runs]) for weights in Resamples(300, None, 40, 5)]
        assert (found[name].low, found[name].high) == pytest.approx(interval(drawn))
        assert found[name].low < found[name].mean < found[name].high
    assert estimates(runs, 40, 5) == found != estimates(runs, 40, 6)


def test_bootstrap_interval_of_accuracy_is_that_of_a_binomial_share() -> None:
    answers = random_answers(1, rows=1500)
    found = estimates([answers], 3000, 0)["accuracy"]
    half = 1.96 * np.sqrt(found.mean * (1 - found.mean) / 1500)
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half), abs=0.1 * half)


def test_bootstrap_interval_covers_the_true_share_about_95_times_in_100() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        right = generator.random(200) < 0.7
        low, high = interval([weights @ right / 200 for weights in Resamples(200, None, 300, trial)])
        covered += low <= 0.7 <= high
    assert 0.90 <= covered / 300 <= 0.985  # 4 standard errors


def test_interval_over_clusters_is_wider_where_rows_of_a_cluster_are_alike() -> None:
    generator = np.random.default_rng(0)
    clusters = np.repeat(np.array([f"c{number:02d}" for number in range(40)], dtype=object), 10)
    answers = random_answers(0, rows=400)
    codes = answers.codes.copy()
    right = np.repeat(generator.random(40) < 0.6, 10)  # an interviewer's rows are all right or all wrong
    codes[:, 0] = np.where(right, answers.truth, "xx")
    alike = replace(answers, codes=codes)
    rows = estimates([alike], 1000, 0)["accuracy"]
    whole = estimates([replace(alike, clusters=clusters)], 1000, 0)["accuracy"]
    assert rows.mean == whole.mean
    ratio = (whole.high - whole.low) / (rows.high - rows.low)
    assert ratio == pytest.approx(np.sqrt(10), rel=0.15)  # as 40 rows instead of 400


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: run.take(np.arange(299)), r"run-2: other test rows than run-1 \(id 'w5-299' in only one\)"),
        (lambda run: run.take(np.arange(300)[::-1]), r"run-2: other test rows .*same ids in another order"),
        (lambda run: replace(run, truth=np.roll(run.truth, 1)), r"run-2: other true codes than run-1 \(id 'w5-"),
        (lambda run: replace(run, clusters=run.ids), r"run-2: other clusters than run-1"),
    ],
)
def test_runs_of_other_rows_are_refused(change: Any, message: str) -> None:
    with pytest.raises(KjcmError, match=message):
        estimates([same_rows(1, 0.5), change(same_rows(2, 0.5))], 0, 0)


def test_no_runs_are_refused() -> None:
    with pytest.raises(KjcmError, match="no runs"):
        estimates([], 0, 0)


# Two models -----------------------------------------------------------------------------------------------------------


def test_mcnemar_of_a_published_example() -> None:
    """Airway hyper-responsiveness in 21 children: 1 and 7 discordant pairs give 0.070.

    Source: Fagerland, Lydersen and Laake, BMC Medical Research Methodology 13:91, 2013, data of Bentur et al., 2009.
    """
    before = flags((1, True), (1, True), (7, False), (12, False))
    after = flags((1, True), (1, False), (7, True), (12, False))
    assert mcnemar(before, after) == pytest.approx(2 * (1 + 8) / 2**8)
    assert mcnemar(after, before) == mcnemar(before, after)


@pytest.mark.parametrize("seed", range(5))
def test_mcnemar_is_the_binomial_test_of_discordant_rows(seed: int) -> None:
    generator = np.random.default_rng(seed)
    first, second = generator.random(500) < 0.8, generator.random(500) < 0.75
    table = stats.contingency.crosstab(first, second).count
    discordant = table[0, 1] + table[1, 0]
    assert mcnemar(first, second) == pytest.approx(stats.binomtest(table[0, 1], discordant).pvalue)
    tail = stats.binom.cdf(min(table[0, 1], table[1, 0]), discordant, 0.5)
    assert mcnemar(first, second) == pytest.approx(min(1, 2 * tail))


def test_mcnemar_without_discordant_rows_is_1() -> None:
    assert mcnemar(flags((5, True), (2, False)), flags((5, True), (2, False))) == 1.0


def test_one_seed_each_is_compared_by_mcnemar() -> None:
    first, second = predicted_right(same_rows(1, 0.6)), predicted_right(same_rows(2, 0.4))
    found = compare([first], [second], None, 400, 7)
    drawn = [weights @ (first.astype(int) - second) / 300 for weights in Resamples(300, None, 400, 7)]
    assert found.test == "McNemar" and found.n == 300
    assert found.p == mcnemar(first, second)
    assert found.difference == pytest.approx(first.mean() - second.mean())
    assert (found.low, found.high) == pytest.approx(interval(drawn))
    assert compare([first], [second], None, 400, 7) == found
    assert compare([first], [second], None, 0, 7) == replace(found, low=None, high=None)


def test_interval_of_a_difference_is_the_analytic_one() -> None:
    generator = np.random.default_rng(1)
    first, second = generator.random(2000) < 0.8, generator.random(2000) < 0.7
    found = compare([first], [second], None, 2000, 0)
    half = 1.96 * np.std(first.astype(int) - second) / np.sqrt(2000)
    assert found.low == pytest.approx(found.difference - half, abs=0.1 * half)
    assert found.high == pytest.approx(found.difference + half, abs=0.1 * half)


def test_several_seeds_are_compared_by_their_means_on_common_resamples() -> None:
    first = [predicted_right(same_rows(seed, 0.30)) for seed in (1, 2, 3)]
    second = [predicted_right(same_rows(seed, 0.27)) for seed in (4, 5)]
    found = compare(first, second, None, 500, 7)
    ahead = np.mean(first, axis=0) - np.mean(second, axis=0)
    drawn = np.array([weights @ ahead / 300 for weights in Resamples(300, None, 500, 7)])
    assert found.test == "paired bootstrap"
    assert found.difference == pytest.approx(ahead.mean())
    assert (found.low, found.high) == pytest.approx(interval(drawn))
    below, above = int((drawn < 1e-12).sum()), int((drawn > -1e-12).sum())
    assert 0 < min(below, above) < 250
    assert found.p == pytest.approx(2 * (min(below, above) + 1) / 501)


def test_the_other_way_round_changes_only_the_sign() -> None:
    first = [predicted_right(same_rows(seed, 0.4)) for seed in (1, 2)]
    second = [predicted_right(same_rows(seed, 0.3)) for seed in (3, 4)]
    found, turned = compare(first, second, None, 300, 0), compare(second, first, None, 300, 0)
    assert found.low is not None and found.high is not None
    assert turned.difference == -found.difference and turned.p == found.p
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))


def test_equal_models_differ_by_nothing() -> None:
    """Three seeds, so that thirds are summed: a rounding error would make p small."""
    right = [predicted_right(same_rows(seed, 0.4)) for seed in (1, 2, 3)]
    equal = Comparison(0.0, 0.0, 0.0, 1.0, "paired bootstrap", 300)
    assert compare(right, right[::-1], None, 200, 0) == equal
    assert compare([right[0]] * 3, [right[0]], None, 200, 0) == equal


def test_one_seed_each_over_clusters_is_a_paired_bootstrap_of_clusters() -> None:
    generator = np.random.default_rng(2)
    clusters = np.repeat(np.array([f"c{number:02d}" for number in range(30)], dtype=object), 10)
    first = np.repeat(generator.random(30) < 0.7, 10)
    second = np.repeat(generator.random(30) < 0.5, 10)
    whole, rows = compare([first], [second], clusters, 1000, 0), compare([first], [second], None, 1000, 0)
    assert (whole.test, rows.test) == ("paired bootstrap", "McNemar")
    assert whole.difference == rows.difference
    assert whole.high - whole.low > 2 * (rows.high - rows.low)
    assert whole.p is not None and rows.p is not None and whole.p > rows.p
    assert compare([first], [second], clusters, 0, 0) == Comparison(
        whole.difference, None, None, None, "paired bootstrap", 300
    )


def test_clusters_of_unequal_size_weigh_by_their_rows() -> None:
    clusters = np.array([*"aaab"], dtype=object)
    first, second = flags((3, True), (1, False)), flags((3, False), (1, True))
    found = compare([first], [second], clusters, 400, 0)
    assert found.difference == (3 - 1) / 4
    assert (found.low, found.high) == (-1.0, 1.0)  # both drawn clusters b, or both a


def test_p_of_a_bootstrap_is_twice_the_smaller_side_and_never_0() -> None:
    assert bootstrap_p(np.array([1.0] * 95 + [-1.0] * 4)) == pytest.approx(2 * 5 / 100)
    assert bootstrap_p(np.array([-1.0] * 95 + [1.0] * 4)) == pytest.approx(2 * 5 / 100)
    assert bootstrap_p(np.array([1.0] * 95 + [0.0] * 4)) == pytest.approx(2 * 5 / 100)
    assert bootstrap_p(np.ones(999)) == pytest.approx(0.002)
    assert bootstrap_p(np.array([1.0, -1.0])) == 1.0
    assert bootstrap_p(np.array([])) is None


@pytest.mark.parametrize(
    ("first", "second", "clusters"),
    [
        ([np.ones(3, bool)], [np.ones(4, bool)], None),
        ([np.ones(3, bool)], [np.ones(3, bool)], np.array([*"ab"])),
        ([np.ones(0, bool)], [np.ones(0, bool)], None),
        ([], [np.ones(3, bool)], None),
    ],
)
def test_models_on_other_rows_are_refused(first: Any, second: Any, clusters: Any) -> None:
    with pytest.raises(KjcmError, match="models compared on"):
        compare(first, second, clusters, 10, 0)


def test_holm_of_hand_worked_examples() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.2, 0.01, 0.9]) == pytest.approx([0.4, 0.03, 0.9])
    assert holm([0.5, 0.6, 0.7]) == [1.0, 1.0, 1.0]
    assert holm([0.01, 0.01]) == pytest.approx([0.02, 0.02])
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


@pytest.mark.parametrize("seed", range(5))
def test_holm_rejects_what_stepping_down_rejects(seed: int) -> None:
    p = np.random.default_rng(seed).beta(0.3, 3, size=12)
    for level in (0.01, 0.05, 0.2):
        rejected: set[int] = set()
        for step, index in enumerate(np.argsort(p)):
            if p[index] > level / (12 - step):
                break
            rejected.add(int(index))
        assert {index for index, value in enumerate(holm(p.tolist())) if value <= level} == rejected


# Precision by size ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_regression_is_that_of_scipy(seed: int) -> None:
    generator = np.random.default_rng(seed)
    sizes = generator.integers(10, 9000, 40)
    precision = np.clip(0.2 * np.log10(sizes) + generator.normal(0, 0.15, 40), 0, 1)
    line = regression(sizes, precision)
    assert line is not None and line.n == 40
    correlation, p = stats.pearsonr(np.log10(sizes), precision)
    slope, intercept = np.polyfit(np.log10(sizes), precision, 1)
    assert (line.r_squared, line.p) == pytest.approx((correlation**2, p))
    assert (line.slope, line.intercept) == pytest.approx((slope, intercept))


def test_regression_of_a_straight_line() -> None:
    line = regression([10, 100, 1000, 0], [0.3, 0.5, 0.7, 0.0])
    assert line is not None and line.n == 3  # a group without training rows has no logarithm
    assert (line.slope, line.intercept, line.r_squared) == pytest.approx((0.2, 0.1, 1.0))


@pytest.mark.parametrize(
    ("sizes", "precision"),
    [([], []), ([10, 20], [0.1, 0.2]), ([10, 20, 0], [0.1, 0.2, 0.3]), ([50] * 4, [0.1, 0.2, 0.3, 0.4]),
     ([10, 20, 30], [0.5, 0.5, 0.5])],
)  # fmt: skip
def test_regression_that_says_nothing_is_none(sizes: list[int], precision: list[float]) -> None:
    assert regression(sizes, precision) is None


def test_quartiles_of_hand_worked_examples() -> None:
    assert quartiles([7, 1, 3, 5]) == (2.5, 4.0, 5.5)
    assert quartiles([1, 2, 3, 4, 5]) == (2.0, 3.0, 4.0)
    assert quartiles([4]) == (4.0, 4.0, 4.0)
    assert quartiles([]) is None and five_numbers([]) is None
    assert five_numbers([7, 1, 3, 5]) == {"min": 1.0, "q1": 2.5, "median": 4.0, "q3": 5.5, "max": 7.0}
    with pytest.raises(KjcmError, match="1 of 2 values are NaN"):
        quartiles([1.0, float("nan")])


@pytest.mark.parametrize("seed", range(5))
def test_quartiles_are_those_of_scipy(seed: int) -> None:
    values = np.random.default_rng(seed).gamma(1, 500, 20 + seed)
    assert quartiles(values) == pytest.approx(stats.mstats.mquantiles(values, [0.25, 0.5, 0.75], alphap=1, betap=1))
