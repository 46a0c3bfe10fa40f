"""What is done with each row, by hand-worked probabilities; and that rules refuse what they cannot keep."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from kjcm.errors import ConfigError
from kjcm.triage.managers import gated, says_words, yes_or_no
from kjcm.triage.rules import DECISIONS, NONE, Options, Tree, Triage
from kjcm.triage.scored import Scored

CLASSES = ("111", "112", "211", "212", "221", "311")
TREE = Tree(CLASSES, tuple((code[:1], code[:2]) for code in CLASSES), (50,) * 6)
FIXED = Options(None, 0.8, 0.95, 0.1, 3, (), "none", True)
SURE = [0.9, 0.02, 0.02, 0.02, 0.02, 0.02]
TWO = [0.0, 0.05, 0.45, 0.45, 0.05, 0.0]  # 90 % in 21, 95 % in 2
FLAT = [1 / 6] * 6


def held(rows: int = 1200, skill: float = 4.0) -> Scored:
    """Rows of all classes; the right one's logit is higher by `skill` times a row's own ease."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 6, rows)
    logits = random.normal(size=(rows, 6)).astype(np.float32)
    logits[np.arange(rows), labels] += skill * random.random(rows)
    says = labels < 2
    return Scored(logits.astype(np.float32), labels, says, says)


def decided(triage: Triage, *rows: list[float]) -> list[str]:
    return [DECISIONS[place] for place in triage.decide(np.array(rows)).decision]


def test_fixed_threshold_without_validation_rows() -> None:
    triage = Triage(FIXED, TREE, None, 1.0)
    assert decided(triage, SURE, TWO, [0.8, 0.2, 0, 0, 0, 0]) == ["accept", "choose", "accept"]
    found = triage.decide(np.array([SURE, TWO]))
    assert found.picks.tolist() == [[NONE] * 3, [2, 3, 1]] and found.parent.tolist() == [NONE, NONE]
    assert triage.outlook(None)["alpha"] is None


def test_back_off_takes_the_finest_parent_that_is_sure_enough() -> None:
    triage = Triage(replace(FIXED, threshold=0.85, back_off=(2, 1)), TREE, None, 1.0)
    assert triage.parents == ["11", "21", "22", "31", "1", "2", "3"]
    spread = [0.0, 0.0, 0.4, 0.1, 0.45, 0.05]  # 95 % in 2, 50 % in 21
    found = triage.decide(np.array([SURE, TWO, spread, FLAT]))
    assert [DECISIONS[place] for place in found.decision] == ["accept", "back off", "back off", "choose"]
    assert [triage.parents[place] if place != NONE else "" for place in found.parent] == ["", "21", "2", ""]


def test_lists_that_are_too_long_or_empty_are_to_be_searched_for() -> None:
    triage = Triage(replace(FIXED, threshold=0.99), TREE, held(), 1.0)
    cut = triage.outlook(None)["pick_list_cuts"]
    assert set(cut) == {"1", "2", "3"} and 0 < max(cut.values()) < 1 / 6
    assert decided(triage, FLAT) == ["search"]  # all six are likely enough
    triage._cuts = dict.fromkeys(cut, 0.5)
    assert decided(triage, FLAT) == ["search"]  # none is
    triage._cuts = dict.fromkeys(cut, 0.4)
    assert decided(triage, TWO) == ["choose"]
    assert triage.decide(np.array([TWO])).picks.tolist() == [[2, 3, NONE]]


def test_a_target_sets_the_threshold_and_says_what_to_expect() -> None:
    rows = held()
    triage = Triage(replace(FIXED, target_error=0.1), TREE, rows, 1.0)
    probability = triage.probability(rows)
    accepted = triage.decide(probability).decision == 0
    wrong = probability.argmax(axis=1) != rows.labels
    outlook = triage.outlook(rows)
    expected = outlook["expected"]
    assert 0.2 < accepted.mean() < 0.9 and wrong[accepted].mean() < 0.1 < wrong.mean()
    assert expected["accept"] == pytest.approx(accepted.mean())
    assert expected["accepted_errors"] == (wrong & accepted).sum()
    assert expected["accepted_error_at_most"] is None  # the promise is the bound
    fixed = Triage(replace(FIXED, threshold=0.6), TREE, rows, 1.0).outlook(rows)["expected"]
    share, least = fixed["accepted_errors"] / fixed["accepted_rows"], fixed["accepted_rows"]
    assert binom.cdf(fixed["accepted_errors"], least, fixed["accepted_error_at_most"]) == pytest.approx(0.05)
    assert share < fixed["accepted_error_at_most"] < share + 0.05
    assert sum(expected[name] for name in ("accept", "choose", "search", "back off")) == pytest.approx(1)
    assert 0.88 < expected["right_code_on_list"] < 0.97
    assert outlook["threshold"] == triage.threshold == [one for one in triage.tried if one.passed][-1].threshold


def test_where_nothing_passes_nothing_is_accepted() -> None:
    triage = Triage(replace(FIXED, target_error=0.01), TREE, held(skill=0.5), 1.0)
    assert triage.threshold is None and "accept" not in decided(triage, SURE, TWO)


def families(random: np.random.Generator, rows: int) -> Scored:
    """Rows whose parent is plainer than their code."""
    labels = random.integers(0, 6, rows)
    siblings = np.array([[a[:2] == b[:2] for b in CLASSES] for a in CLASSES])
    logits = random.normal(size=(rows, 6)) + 3 * random.random((rows, 1)) * siblings[labels]
    logits[np.arange(rows), labels] += 2 * random.random(rows)
    return Scored(logits.astype(np.float32), labels, np.zeros(rows, bool), np.zeros(rows, bool))


def test_parents_keep_the_target_too() -> None:
    random, target, draws = np.random.default_rng(2), 0.1, 200
    fresh = families(random, 20_000)  # rows that have set nothing
    broken = backed = 0
    for _ in range(draws):
        rows = families(random, 1000)
        triage = Triage(replace(FIXED, target_error=target, back_off=(2,)), TREE, rows, 1.0)
        found = triage.decide(triage.probability(fresh))
        off = found.decision == DECISIONS.index("back off")
        given = np.array(triage.parents)[found.parent[off]]
        true = np.array([code[:2] for code in CLASSES])[fresh.labels[off]]
        backed += off.any()
        broken += off.any() and bool((given != true).mean() > target)
    assert backed > draws / 2  # it is not kept by never backing off
    assert broken <= binom.ppf(0.999, draws, 0.05)
    assert [one["tried"] for one in triage.outlook(rows)["back_off"]] == [
        [vars(tried) for tried in level] for level in triage.tried_parents
    ]


def test_only_who_says_so_can_be_a_manager() -> None:
    rows = np.array([SURE, SURE, TWO])
    who = np.array([True, False, False])
    found = Triage(replace(FIXED, managers="words"), TREE, held(), 1.0).gated(rows, who)
    assert found[0].tolist() == SURE and found[1].tolist() == pytest.approx([0, 0, 0.25, 0.25, 0.25, 0.25])
    assert found.sum(axis=1) == pytest.approx(1)
    certain = gated(np.array([[1.0, 0.0, 0.0]]), np.array([False]), np.array([True, False, False]))
    assert certain.tolist() == [[0, 0.5, 0.5]]
    assert Triage(FIXED, TREE, held(), 1.0).gated(rows, who) is rows
    # and the rows that set the thresholds are held to the same rule
    triage = Triage(replace(FIXED, managers="column"), TREE, replace(held(), answers=np.zeros(1200, bool)), 1.0)
    assert triage.probability(replace(held(), answers=np.zeros(1200, bool)))[:, :2].max() == 0


def test_who_does_not_say_so_has_no_manager_on_the_list_and_the_others_have_lists_as_short() -> None:
    rows = held(3000, skill=6.0)
    says = (rows.labels < 2) & (np.random.default_rng(1).random(3000) < 0.7)
    triage = Triage(replace(FIXED, managers="words"), TREE, replace(rows, words=says), 1.0)
    assert 0 < triage.outlook(None)["pick_list_cuts"]["1"] < 1 / 6
    listed = triage.listed(triage.probability(replace(rows, words=says)))
    assert not listed[~says, :2].any()
    right = listed[np.arange(3000), rows.labels]
    assert right[says].mean() == pytest.approx(0.9, abs=0.01)  # whom the rule leaves a manager
    assert not right[(rows.labels < 2) & ~says].any()  # and whom it does not


def test_words_and_answers() -> None:
    assert says_words(["영업 부장", "벽돌 쌓기"], ["부장", "임원"]).tolist() == [True, False]
    assert [yes_or_no(cell) for cell in ("예", "1", " Yes", "아니오", "2", "", "maybe")] == [True] * 3 + [False] * 3 + [
        None
    ]


def test_rules_that_cannot_be_kept_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.validation=0\.3"):
        Triage(replace(FIXED, target_error=0.1), TREE, None, 1.0)
    with pytest.raises(ConfigError, match="levels are 1 to 2"):
        Triage(replace(FIXED, back_off=(3,)), TREE, None, 1.0)
    with pytest.raises(ConfigError, match="major group 1"):
        Triage(replace(FIXED, managers="words"), Tree(("211",), (("2", "21"),), (1,)), None, 1.0)
