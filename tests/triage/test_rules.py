"""What is done with each row, by hand-worked probabilities; and that rules refuse what they cannot keep."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from kjcm.errors import ConfigError
from kjcm.triage.logits import Scored
from kjcm.triage.managers import gated, says_words, yes_or_no
from kjcm.triage.outlook import by_target, expected, outlook
from kjcm.triage.pick_lists import NONE, on_list, sizes
from kjcm.triage.rules import ACCEPT, BACK_OFF, CHOOSE, DECISIONS, Options, Tree, Triage
from kjcm.triage.thresholds import LEAST_LEFT
from tests.triage import simulation

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
    assert outlook(triage, None)["pick_list"]["alpha"] is None and outlook(triage, None)["expected"] is None


def test_back_off_takes_the_finest_parent_that_is_sure_enough() -> None:
    triage = Triage(replace(FIXED, threshold=0.85, back_off=(2, 1)), TREE, None, 1.0)
    assert triage.parents == ["11", "21", "22", "31", "1", "2", "3"]
    spread = [0.0, 0.0, 0.4, 0.1, 0.45, 0.05]  # 95 % in 2, 50 % in 21
    found = triage.decide(np.array([SURE, TWO, spread, FLAT]))
    assert [DECISIONS[place] for place in found.decision] == ["accept", "back off", "back off", "choose"]
    assert [triage.parents[place] if place != NONE else "" for place in found.parent] == ["", "21", "2", ""]


def test_a_target_sets_the_threshold_and_says_what_to_expect() -> None:
    rows = held()
    options = replace(FIXED, target_error=0.1, alpha=0.4)
    triage = Triage(options, TREE, rows, 1.0)
    probability = triage.probability(rows)
    found = triage.decide(probability)
    accepted, listed = found.decision == ACCEPT, found.decision == CHOOSE
    wrong = probability.argmax(axis=1) != rows.labels
    record = outlook(triage, rows)
    figures = record["expected"]
    assert 0.2 < accepted.mean() < 0.9 and wrong[accepted].mean() < 0.1 < wrong.mean()
    assert figures["accept"] == pytest.approx(accepted.mean())
    assert figures["accepted_errors"] == (wrong & accepted).sum()
    assert figures["accepted_error"] == wrong[accepted].mean()
    low, high = figures["accepted_error_interval"]
    assert low < figures["accepted_error"] < figures["accepted_error_at_most"] <= 0.1  # the bound that the promise uses
    assert binom.cdf(figures["accepted_errors"], figures["accepted_rows"], high) == pytest.approx(0.025)
    assert binom.sf(figures["accepted_errors"] - 1, figures["accepted_rows"], low) == pytest.approx(0.025)
    assert sum(figures[name] for name in ("accept", "choose", "search", "back off")) == pytest.approx(1)
    assert figures["lists"] == listed.sum() and figures["mean_list_length"] == sizes(found.picks)[listed].mean()
    assert figures["right_code_on_list"] == pytest.approx(on_list(found.picks, rows.labels)[listed].mean())
    assert 1 - options.alpha <= figures["right_code_on_list_at_least"] < figures["right_code_on_list"]
    assert record["threshold"] == triage.threshold == [one for one in triage.tried if one.passed][-1].threshold
    groups = figures["by_major_group"]
    assert [one["code"] for one in groups] == ["1", "2", "3"] and sum(one["rows"] for one in groups) == len(wrong)
    for name in ("accepted_rows", "accepted_errors", "lists"):
        assert sum(one[name] for one in groups) == figures[name]
    assert [f"{figures['accepted_errors']:,} of them" in record["summary"][0], len(record["summary"])] == [True, 2]


def test_a_fixed_threshold_has_a_bound_at_the_stated_confidence() -> None:
    rows = held()
    fixed = outlook(Triage(replace(FIXED, threshold=0.6), TREE, rows, 1.0), rows)["expected"]
    share, count = fixed["accepted_errors"] / fixed["accepted_rows"], fixed["accepted_rows"]
    assert binom.cdf(fixed["accepted_errors"], count, fixed["accepted_error_at_most"]) == pytest.approx(0.05)
    assert share < fixed["accepted_error_at_most"] < share + 0.05


@pytest.mark.parametrize("who", ["none", "words"])
@pytest.mark.parametrize("back_off", [(), (2,), (1,), (2, 1)])
def test_a_looser_target_accepts_and_backs_off_no_row_less(who: str, back_off: tuple[int, ...]) -> None:
    random = np.random.default_rng(5)
    targets = np.linspace(0.02, 0.6, 12)
    growing = 0
    for rows in (60, 150, 400, 1200):
        scored = simulation.families(random, rows)
        scored = replace(scored, words=(scored.labels < 4) & (random.random(rows) < 0.8))
        fresh = simulation.families(random, 1500)
        who_says = fresh.labels < 4
        before = np.zeros(1500, bool), np.zeros(1500, bool)
        for target in targets:
            options = Options(float(target), 0.8, 0.95, 0.25, 7, back_off, who, True)
            triage = Triage(options, simulation.TREE, scored, 1.0)
            found = triage.decide(triage.probability(replace(fresh, words=who_says)))
            now = found.decision == ACCEPT, np.isin(found.decision, (ACCEPT, BACK_OFF))
            for one, two in zip(before, now, strict=True):
                assert not (one & ~two).any()
                growing += (two & ~one).any()
            before = now
    assert growing > 20  # the sets do grow


def test_backing_off_takes_nothing_from_what_is_accepted() -> None:
    rows = simulation.families(np.random.default_rng(6), 600)
    for target in (0.05, 0.1, 0.2, 0.3):
        alone, off = (
            Triage(replace(FIXED, target_error=target, back_off=levels), simulation.TREE, rows, 1.0)
            for levels in ((), (2, 1))
        )
        assert alone.threshold == off.threshold and alone.tried == off.tried
        record = outlook(off, rows)
        many = off.threshold is None or record["expected"]["backed_off_rows"] > LEAST_LEFT
        assert record["back_off"]["promised"] == (off.parent_threshold is not None and many)


def test_where_nothing_passes_nothing_is_accepted() -> None:
    triage = Triage(replace(FIXED, target_error=0.01), TREE, held(skill=0.5), 1.0)
    assert triage.threshold is None and "accept" not in decided(triage, SURE, TWO)


def test_parents_keep_the_target_too() -> None:
    target, draws = 0.15, 60
    found = simulation.whole(600, draws, [target], 0.3)[target]
    assert found["backed off"] > 0.05  # it is not kept by never backing off
    assert max(found[f"{name} broken"] for name in ("accept", "back off", "list")) * draws <= binom.ppf(
        0.999, draws, 0.05
    )


def test_the_table_of_targets_is_what_each_target_does() -> None:
    rows = simulation.families(np.random.default_rng(7), 600)
    options = replace(FIXED, back_off=(2, 1))
    table = by_target(options, simulation.TREE, rows, 1.0, [0.1, 0.2, 0.3])
    assert [one["target_error"] for one in table] == [None, 0.1, 0.2, 0.3]
    for line in table:
        triage = Triage(replace(options, target_error=line["target_error"]), simulation.TREE, rows, 1.0)
        figures = expected(triage, rows)
        assert [line["accepted"], line["backed_off"]] == [figures["accept"], figures["back off"]]
        assert line["right_code_on_list"] == figures["right_code_on_list"]
        assert line["accepted"] + line["backed_off"] + line["with_list"] + line["undecided"] == pytest.approx(1)
    accepted = [one["accepted"] for one in table[1:]]
    assert accepted == sorted(accepted) and accepted[-1] > 0


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


def test_who_does_not_say_so_has_no_manager_on_the_list() -> None:
    rows = held(3000)
    says = (rows.labels < 2) & (np.random.default_rng(1).random(3000) < 0.7)
    rows = replace(rows, words=says)
    triage = Triage(replace(FIXED, managers="words", alpha=0.3), TREE, rows, 1.0)
    found = triage.decide(triage.probability(rows))
    listed = found.decision == CHOOSE
    assert listed[~says].any() and not np.isin(found.picks[~says], (0, 1)).any()
    hit = on_list(found.picks, rows.labels)[listed]
    assert outlook(triage, rows)["expected"]["right_code_on_list"] == hit.mean() >= 0.7  # a code ruled out is a miss
    assert Triage(replace(FIXED, managers="words", threshold=1.0, k=6), TREE, None, 1.0).decide(
        triage.gated(np.array([SURE]), np.array([False]))
    ).picks.tolist() == [[2, 3, 4, 5, NONE, NONE]]


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
