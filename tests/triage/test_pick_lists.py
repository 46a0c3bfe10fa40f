"""Pick lists: prefixes of the ranking, at their stated rate, at least as good as a plain top-n of the same length."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from kjcm.triage.calibration import probabilities
from kjcm.triage.pick_lists import NONE, first_codes, on_list, ranking, sizes
from kjcm.triage.rules import CHOOSE, Options, Triage
from tests.triage.dictionary import DEFAULT, Split, compared, dictionary
from tests.triage.simulation import TREE, families


def test_a_list_by_hand() -> None:
    probability = np.array([[0.02, 0.5, 0.3, 0.18], [0.25, 0.25, 0.25, 0.25], [0.01, 0.985, 0.005, 0.0]])
    picks, sure = first_codes(probability, 3)
    assert picks.tolist() == [[1, 2, 3], [0, 1, 2], [1, NONE, NONE]]
    assert sure == pytest.approx([0.98, 0.75, 0.985]) and sizes(picks).tolist() == [3, 3, 1]
    assert on_list(picks, np.array([0, 2, 1])).tolist() == [False, True, True]
    assert on_list(picks, np.array([4, 9, 4])).tolist() == [False] * 3  # no class
    assert first_codes(probability, 9, 0.0)[0][2].tolist() == [1, 0, 2] + [NONE] * 6  # never one without probability
    assert first_codes(np.full((1, 100), 0.01), 5)[0].tolist() == [[0] + [NONE] * 4]  # always at least one


def test_ranking_is_that_of_a_stable_sort_whatever_the_ties() -> None:
    random = np.random.default_rng(0)
    for decimals in (1, 2, 12):
        probability = np.round(random.random((300, 30)), decimals)
        expected = np.argsort(-probability, axis=1, kind="stable")
        for k in (1, 5, 29, 30):
            assert (ranking(probability, k) == expected[:, :k]).all()


def test_lists_are_prefixes_of_the_ranking_and_go_to_undecided_rows() -> None:
    random = np.random.default_rng(1)
    for alpha, k, target, back_off in ((0.1, 5, None, ()), (0.3, 3, 0.1, (2,)), (0.4, 10, 0.2, (2, 1))):
        triage = Triage(Options(target, 0.7, 0.95, alpha, k, back_off, "none", True), TREE, families(random, 600), 1.0)
        probability = triage.probability(families(random, 1000))
        found = triage.decide(probability)
        order, length = np.argsort(-probability, axis=1, kind="stable")[:, :k], sizes(found.picks)
        place = np.arange(order.shape[1])
        assert (found.picks[:, : order.shape[1]] == np.where(place < length[:, None], order, NONE)).all()
        assert ((length > 0) == (found.decision == CHOOSE)).all() and length.max() <= k


@pytest.mark.parametrize("alpha", [0.2, 0.3])
def test_shown_lists_hold_their_rate_on_the_rows_that_the_same_rows_left_undecided(alpha: float) -> None:
    """The accepted rows are chosen by the labels that also set the lists: simulated, as no theorem covers it."""
    random, draws = np.random.default_rng(2), 60
    fresh = families(random, 5000)
    for target in (None, 0.1):
        broken, shown = 0, 0.0
        for _ in range(draws):
            options = Options(target, 0.8, 0.95, alpha, 5, (), "none", True)
            triage = Triage(options, TREE, families(random, 500), 1.0)
            found = triage.decide(triage.probability(fresh))
            listed = found.decision == CHOOSE
            shown += listed.mean() / draws
            broken += bool(listed.any() and (~on_list(found.picks, fresh.labels))[listed].mean() > alpha)
        assert broken <= binom.ppf(0.999, draws, 0.05)
        assert shown > 0.1  # the rate is not held by showing nothing


def test_lists_cover_at_least_as_often_as_a_plain_top_n_of_equal_mean_length() -> None:
    random = np.random.default_rng(4)
    for alpha, k in ((0.25, 7), (0.3, 5), (0.4, 10)):
        ours, plain = [], []
        for _ in range(5):
            split = Split(TREE, 1.0, families(random, 2000), families(random, 5000))
            found = compared(split, Options(None, 0.8, 0.95, alpha, k, (), "none", True))
            assert found and found[0] > 0.2
            ours.append(found[2])
            plain.append(found[3])
        assert np.mean(ours) >= np.mean(plain)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_lists_of_the_dictionary_beat_a_plain_top_n(shared: Callable[[str], Path]) -> None:
    found = [compared(split, DEFAULT) for split in dictionary(shared("data/kdo/kdo_dev.tsv"), 5)]
    listed = np.array([one for one in found if one])
    assert len(listed) == 5
    share, length, ours, plain = listed.mean(axis=0)
    assert share > 0.3 and 1 < length <= DEFAULT.k  # a useful number of rows gets a list by default
    assert ours >= plain and ours >= 1 - DEFAULT.alpha


def test_probabilities_of_a_temperature_keep_the_ranking() -> None:
    rows = families(np.random.default_rng(0), 50)
    assert (ranking(probabilities(rows.logits), 5) == ranking(probabilities(rows.logits, 1.7), 5)).all()
