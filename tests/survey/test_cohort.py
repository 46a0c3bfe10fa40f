"""From answers to cohort: conversion of wave 5, exclusions, flow, sides and hashes."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kjcm.errors import ConfigError, KjcmError
from kjcm.ksco.classification import Classification, load_classification
from kjcm.survey.cohort import Cohort
from kjcm.survey.responses import Source, Survey, table_source
from kjcm.survey.store import arrays_of
from kjcm.survey.store import cohort_from as cohort_of_arrays
from tests.conftest import COLUMNS
from tests.survey.making import answers, cohort_from, from_frame

CROSSWALK = pd.DataFrame(
    [("1110", "1110"), ("2229", "2221"), ("2229", "2222"), ("2239", "2221"), ("2239", "2231")],
    columns=["ksco6", "ksco7"],
)


def waves(five: list[str], resolutions: pd.DataFrame | None = None) -> Source:
    surveys = (
        Survey(answers(code=five), "w5.csv", "5", ksco6=True),
        Survey(answers(code=["3201", "6301"]), "w6.csv", "6"),
    )
    return Source(surveys, COLUMNS, CROSSWALK, "crosswalk.csv", resolutions, "resolutions.csv")


def sides(cohort: Cohort) -> dict[str, str]:
    return dict(zip(cohort.rows["id"], cohort.rows["side"], strict=True))


def adds_up(flow: Any) -> bool:
    return bool(
        flow["read"] == sum(flow["read_by_file"].values()) == flow["invalid"] + flow["unresolved"] + flow["converted"]
        and flow["converted"] == flow["below_cutoff"] + flow["cohort"]
        and flow["cohort"] == flow["train"] + flow["validation"] + flow["unused"] + flow["test"]
    )


def test_wave_5_converts_waits_and_is_resolved(ksco: Classification) -> None:
    five = ["1110", "2229", "2239", "2239", 2239.0]
    first = cohort_from(waves(five), ksco, cutoff=0)
    assert first.rows[["id", "wave", "code"]].to_numpy().tolist() == [
        ["5-1", "5", "111"], ["5-2", "5", "222"], ["6-1", "6", "320"], ["6-2", "6", "630"],
    ]  # fmt: skip
    assert first.to_resolve.to_numpy().tolist() == [
        [str(n), "은행", "직원", f"일{n - 1}", "2239", "222 223", ""] for n in (3, 4, 5)
    ]
    assert first.left[["id", "wave", "code", "reason"]].to_numpy().tolist() == [
        [f"5-{n}", "5", "2239", "unresolved"] for n in (3, 4, 5)
    ]
    assert first.flow["read_by_file"] == {"wave5": 5, "wave6": 2}
    assert (first.flow["unresolved"], first.flow["converted"], adds_up(first.flow)) == (3, 4, True)

    filled = first.to_resolve.assign(ksco7=["222", "2231", ""])  # the written table, filled in but for one
    second = cohort_from(waves(five, filled), ksco, cutoff=0)
    assert second.rows["code"].tolist() == ["111", "222", "222", "223", "320", "630"]
    assert second.to_resolve["id"].tolist() == ["5"]
    assert second.flow["unresolved"] == 1
    assert first.cohort_hash != second.cohort_hash


def test_rows_keep_the_code_one_level_below(ksco: Classification) -> None:
    filled = pd.DataFrame({"id": ["3", "4"], "ksco7": ["2231", "222"]})
    found = cohort_from(waves(["1110", "2229", "2239", "2239"], filled), ksco, cutoff=0).rows
    assert found[["code", "finer"]].to_numpy().tolist() == [
        ["111", "1110"], ["222", ""], ["223", "2231"], ["222", ""], ["320", "3201"], ["630", "6301"],
    ]  # fmt: skip
    table = answers(code=["111", "1110", "11101", "A01", 3201.0])
    assert from_frame(table, ksco, cutoff=0).rows["finer"].tolist() == ["", "1110", "1110", "", "3201"]
    assert set(from_frame(table[1:3], ksco, cutoff=0, level=4).rows["finer"]) == {""}
    plain = load_classification("from_data")
    assert from_frame(answers(code=["ab1", "ab12"]), plain, cutoff=0).rows["finer"].tolist() == ["", "ab12"]
    assert set(from_frame(answers(code=["ab1", "ab12"]), plain, cutoff=0, level=None).rows["finer"]) == {""}


def test_a_stored_cohort_has_the_codes_below(ksco: Classification) -> None:
    cohort = from_frame(answers(code=["111", "1110"]), ksco, cutoff=0)
    pd.testing.assert_frame_equal(cohort_of_arrays(arrays_of(cohort)).rows, cohort.rows)


def test_codes_below_change_no_hash(ksco: Classification) -> None:
    coarse, fine = (
        from_frame(answers(code=codes * 10), ksco, cutoff=0) for codes in (["111", "320"], ["1110", "3201"])
    )
    assert (coarse.cohort_hash, coarse.split_hash) == (fine.cohort_hash, fine.split_hash)


def test_more_digits_need_more_resolutions(ksco: Classification) -> None:
    found = cohort_from(waves(["1110", "2229", "2239"]), ksco, cutoff=0, level=4)
    assert found.rows["code"].tolist() == ["1110", "3201", "6301"]
    assert found.to_resolve["candidates"].tolist() == ["2221 2222", "2221 2231"]


def test_all_of_wave_5_may_wait(ksco: Classification) -> None:
    found = cohort_from(waves(["2239", "2239"]), ksco, cutoff=0)
    assert found.rows["id"].tolist() == ["6-1", "6-2"]
    assert found.to_resolve["id"].tolist() == ["1", "2"]
    assert (found.flow["unresolved"], adds_up(found.flow)) == (2, True)


def test_broken_conversions_are_refused(ksco: Classification) -> None:
    def message(source: Source) -> str:
        with pytest.raises(KjcmError) as caught:
            cohort_from(source, ksco, cutoff=0)
        return str(caught.value)

    foreign = pd.DataFrame({"id": ["77"], "ksco7": ["111"]})
    assert "resolutions.csv, column 'id': '77' are not in w5.csv" in message(waves(["2239"], foreign))
    slip = pd.DataFrame({"id": ["1"], "ksco7": ["910"]})
    assert "resolutions.csv, column 'ksco7' or 'recoded', id '1': 910 at level 3 is not one of 222 223" in message(
        waves(["2239"], slip)
    )
    short = pd.DataFrame({"id": ["1"], "ksco7": ["22"]})
    assert "'recoded', id '1': 22 at level 3 is not one of 222 223" in message(waves(["2239"], short))
    assert "w5.csv, column 'code': unknown code in 1 of 2 rows: '8888'" in message(waves(["1110", "8888"]))
    source = waves(["1110"])
    assert "give data.crosswalk=FILE" in message(Source(source.surveys, COLUMNS))


def test_unusable_rows_are_counted_out(ksco: Classification) -> None:
    table = answers(code=["111", "111", "", "999X", "11", "320", "320", "630"])
    table.loc[1, ["workplace", "position", "task"]] = [None, " ", ""]
    table.loc[6, "id"] = "6"
    table["w"] = [1, 1, 1, 1, 1, 1, 1, "x"]
    found = from_frame(table, ksco, cutoff=0, drop_invalid=True, columns={"weight": "w"})
    assert found.rows["id"].tolist() == ["1"]
    assert found.left[["id", "code", "reason"]].to_numpy().tolist() == [
        ["2", "111", "empty text"],
        ["3", "", "empty code"],
        ["4", "999X", "unknown code"],
        ["5", "11", "code with fewer digits than data.level"],
        ["6", "320", "duplicate id"],  # which of the two is right nobody knows, so both leave
        ["6", "320", "duplicate id"],
        ["8", "630", "weight is no number of 0 or more"],
    ]
    assert (found.flow["read"], found.flow["invalid"], found.flow["converted"]) == (8, 7, 1)
    assert adds_up(found.flow)


def test_cutoff_keeps_groups_of_one_row_more(ksco: Classification) -> None:
    table = answers(code=["111"] * 12 + ["320"] * 11 + ["630"] * 10 + ["910"] * 3)
    found = from_frame(table, ksco)
    assert found.rows["code"].value_counts().to_dict() == {"111": 12, "320": 11}
    assert found.classes == ("111", "320")
    flow = found.flow
    assert [flow[n] for n in ("converted", "below_cutoff", "below_cutoff_groups", "cohort", "groups")] == [
        36, 13, 2, 23, 2,
    ]  # fmt: skip
    assert found.left["reason"].unique().tolist() == ["group of 10 rows or fewer"]
    assert adds_up(flow)
    assert flow["train"] == 16  # 16.1 of 23


def test_groups_that_left_keep_the_count_of_their_drawn_sides(ksco: Classification) -> None:
    table = answers(code=["111"] * 12 + ["320"] * 11 + ["630"] * 10 + ["910"] * 3)
    every = from_frame(table, ksco, cutoff=0).rows
    found = from_frame(table, ksco).left_groups
    assert list(found) == ["630", "910"] and sum(map(sum, found.values())) == 13
    for code, counts in found.items():  # the split does not depend on the cutoff
        own = every["side"][every["code"] == code]
        assert counts == ((own == "train").sum(), (own == "test").sum())
    assert from_frame(table, ksco, cutoff=0).left_groups == {}
    assert from_frame(table, ksco, cutoff=20).left_groups.keys() == {"111", "320", "630", "910"}


def test_cutoff_half_and_validation_stay_on_one_split(ksco: Classification) -> None:
    table = answers(code=["111"] * 150 + ["320"] * 90 + ["630"] * 60 + ["910"] * 6)
    plain = from_frame(table, ksco)
    assert plain.flow["train"] == 210  # of 300
    for settings in ({"cutoff": 100}, {"train_fraction": 0.5}, {"validation": 0.1}, {"cutoff": 0}):
        other = from_frame(table, ksco, **settings)
        assert (other.cohort_hash, other.split_hash) == (plain.cohort_hash, plain.split_hash)
        sides_here, kept = sides(other), sides(plain)
        assert all((sides_here[row] == "test") == (kept[row] == "test") for row in sides_here.keys() & kept.keys())
        assert adds_up(other.flow)
    assert from_frame(table, ksco, cutoff=100).rows["code"].unique().tolist() == ["111"]
    assert from_frame(table, ksco, train_fraction=0.5).flow["unused"] == 105
    assert from_frame(table, ksco, validation=0.1).flow["validation"] == 21
    nothing_held = from_frame(table, ksco, cutoff=0).flow
    assert (nothing_held["train"], nothing_held["unused"], nothing_held["test"]) == (214, 0, 92)  # 214.2 of 306


def test_hashes_follow_content_alone(ksco: Classification) -> None:
    table = answers(code=["111"] * 20 + ["320"] * 20)
    plain = from_frame(table, ksco)
    shuffled = from_frame(table.sample(frac=1, random_state=3), ksco)
    assert (shuffled.cohort_hash, shuffled.split_hash) == (plain.cohort_hash, plain.split_hash)
    assert sides(shuffled) == sides(plain)
    other_seed = from_frame(table, ksco, split_seed=1)
    assert other_seed.cohort_hash == plain.cohort_hash
    assert other_seed.split_hash != plain.split_hash
    other_text = from_frame(table.assign(task=["다른 일", *table["task"][1:]]), ksco)
    assert other_text.cohort_hash != plain.cohort_hash
    assert other_text.split_hash == plain.split_hash
    assert other_text.classes_hash == plain.classes_hash


def test_test_rows_of_a_file_of_their_own(tmp_path: Path, ksco: Classification) -> None:
    train = answers(code=["111"] * 12 + ["320"] * 11 + ["630"] * 4)
    test = answers(code=["111", "630", "910"]).assign(id=["t1", "t2", "t3"])
    for name, table in (("train.csv", train), ("test.csv", test)):
        table.to_csv(tmp_path / name, index=False)
    paths = str(tmp_path / "train.csv"), str(tmp_path / "test.csv")
    found = cohort_from(table_source(*paths, COLUMNS), ksco, train_share=1.0)
    assert found.flow["read_by_file"] == {"path": 27, "test_path": 3}
    assert (found.flow["train"], found.flow["test"], found.flow["below_cutoff"]) == (23, 3, 4)
    assert found.side("test")["code"].tolist() == ["111", "630", "910"]  # the last two without training rows stay
    assert found.classes == ("111", "320")
    assert adds_up(found.flow)
    held = cohort_from(table_source(*paths, COLUMNS), ksco, train_share=1.0, validation=0.2)
    assert (held.flow["train"], held.flow["validation"], held.flow["test"]) == (18, 5, 3)  # 18.4 of 23
    alone = cohort_from(table_source(None, paths[1], COLUMNS), ksco, train_share=1.0)
    assert (alone.flow["read"], alone.flow["test"], alone.classes) == (3, 3, ())
    test.assign(id=["1", "t2", "t3"]).to_csv(paths[1], index=False)
    with pytest.raises(KjcmError, match=r"test\.csv: ids '1' are also in .*train\.csv"):
        cohort_from(table_source(*paths, COLUMNS), ksco, train_share=1.0)


def test_one_wave_trains_and_the_other_tests(ksco: Classification) -> None:
    five = ["1110"] * 12 + ["2229"] * 4
    surveys = (
        Survey(answers(code=five), "w5.csv", "5", ksco6=True),
        Survey(answers(code=["1110", "2221", *["3201"] * 11]), "w6.csv", "6"),
    )
    source = Source(surveys, COLUMNS, CROSSWALK, "crosswalk.csv")
    plain = cohort_from(source, ksco)
    forth = cohort_from(source, ksco, train_share=1.0, train_wave=5)
    assert forth.rows.groupby(["wave", "side", "code"]).size().to_dict() == {
        ("5", "train", "111"): 12, ("6", "test", "111"): 1, ("6", "test", "222"): 1, ("6", "test", "320"): 11,
    }  # fmt: skip
    assert (forth.classes, forth.left_groups) == (("111",), {"222": (4, 0)})  # given rows neither count nor leave
    back = cohort_from(source, ksco, train_share=1.0, train_wave=6)
    assert back.rows.groupby(["wave", "side", "code"]).size().to_dict() == {
        ("5", "test", "111"): 12, ("5", "test", "222"): 4, ("6", "train", "320"): 11,
    }  # fmt: skip
    assert back.left_groups == {"111": (1, 0), "222": (1, 0)}
    assert plain.flow["read_by_file"] == forth.flow["read_by_file"] == back.flow["read_by_file"]
    assert plain.cohort_hash == forth.cohort_hash == back.cohort_hash  # the same rows, split otherwise
    assert len({plain.split_hash, forth.split_hash, back.split_hash}) == 3
    assert adds_up(forth.flow) and adds_up(back.flow)


def test_weights_and_clusters_come_along(ksco: Classification) -> None:
    table = answers(code=["111"] * 60 + ["320"] * 40, w=[0.5] * 99 + ["2"], area=[n % 13 for n in range(100)])
    found = from_frame(table, ksco, columns={"weight": "w", "cluster": "area"})
    assert found.rows["weight"].sum() == 51.5
    assert found.rows["weight"].dtype == np.float64
    assert found.rows.groupby("cluster")["side"].nunique().to_dict() == {str(n): 1 for n in range(13)}
    assert 66 <= found.flow["train"] <= 74


def test_nothing_or_one_class_to_train_on_is_refused(ksco: Classification) -> None:
    table = answers(code=["111"] * 12 + ["320"] * 11)
    with pytest.raises(KjcmError, match=r"data\.cutoff=50 removes every group \(23 rows\)"):
        from_frame(table, ksco, cutoff=50).require_trainable()
    with pytest.raises(KjcmError, match=r"Only one class \(111\) is left at data\.level=3 and data\.cutoff=11"):
        from_frame(table, ksco, cutoff=11).require_trainable()
    from_frame(table, ksco).require_trainable()


def test_config_errors_are_the_users() -> None:
    assert (KjcmError.exit_code, ConfigError.exit_code) == (1, 2)
