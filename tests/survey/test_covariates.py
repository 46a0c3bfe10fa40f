"""Covariates: how they are read, what a cohort has of them, and the numbers that a model gets."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kjcm.errors import ConfigError, KjcmError
from kjcm.ksco.classification import Classification
from kjcm.survey.cohort import Cohort
from kjcm.survey.covariates import MOST_LEVELS, Covariates, kinds_of
from kjcm.survey.inputs import cached_cohort, cohort_of
from kjcm.survey.responses import Source, Survey
from kjcm.survey.rows import rows_of
from kjcm.survey.store import arrays_of, cohort_from
from tests.conftest import COLUMNS, config_of
from tests.survey import making

KINDS = {"sex": "category", "age": "number"}
WORDS = ("data.columns.covariates.category=[sex]", "data.columns.covariates.number=[age]")
SEX, AGE = "covariates.sex", "covariates.age"


def cohort_with(ksco: Classification, covariates: dict[str, str], drop: bool = False, **columns: Any) -> Cohort:
    frame = making.answers(code=["111", "630"] * 20, **columns)
    source = Source((Survey(frame, "answers.csv"),), COLUMNS, covariates=covariates)
    return making.cohort_from(source, ksco, drop_invalid=drop, cutoff=0)


def frame_of(sex: list[Any], age: list[Any]) -> pd.DataFrame:
    return pd.DataFrame({SEX: sex, AGE: age}, dtype=object)


def test_a_cohort_has_covariates_as_text_and_the_same_hashes(ksco: Classification) -> None:
    columns = {"sex": [-1, 2.0, "-1.0", "2.0", None] * 8, "age": [30, "41.5", "", None, 1e3] * 8}
    found, plain = cohort_with(ksco, KINDS, **columns), cohort_with(ksco, {}, **columns)
    assert found.rows[SEX].tolist()[:5] == ["-1", "2", "-1", "2", ""]
    assert found.rows[AGE].tolist()[:5] == ["30", "41.5", "", "", "1000"]
    assert found.flow["missing"] == {SEX: 8, AGE: 16} and "missing" not in plain.flow
    assert (found.cohort_hash, found.split_hash) == (plain.cohort_hash, plain.split_hash)
    assert found.rows.drop(columns=[SEX, AGE]).equals(plain.rows)
    again = cohort_from(arrays_of(found))
    assert again.rows.equals(found.rows) and again.flow == found.flow


def test_a_cached_cohort_has_its_covariates(ksco: Classification, tmp_path: Path) -> None:
    node = config_of("train", *WORDS, "data.scale=0.01").data
    made = cohort_of(node, ksco)
    stored = [cached_cohort(node, ksco, str(tmp_path)) for _ in range(2)]
    assert all(one.rows.equals(made.rows) for one in stored)
    plain = config_of("train", "data.scale=0.01").data
    assert made.rows.drop(columns=[SEX, AGE]).equals(cohort_of(plain, ksco).rows)
    ages = pd.to_numeric(made.rows[AGE]).groupby(made.rows["code"]).mean()
    assert set(made.rows[SEX]) == {"", "1", "2"} and ages.max() - ages.min() > 20


@pytest.mark.parametrize(
    ("kinds", "columns", "names"),
    [
        ({"age": "number"}, {"age": ["30", "old", "", "inf"] * 10}, ["answers.csv", "'age'", "'old'", "'inf'", "lines 3"]),
        ({"wage": "number"}, {}, ["answers.csv", "'wage'", "data.columns.covariates"]),
        ({"code": "category"}, {}, ["data.columns.covariates", "code"]),
        ({" code": "category"}, {}, ["data.columns.covariates", "code"]),
    ],
)  # fmt: skip
def test_wrong_columns_and_values_are_named(
    ksco: Classification, here: Path, kinds: dict[str, str], columns: dict[str, Any], names: list[str]
) -> None:
    Path("answers.csv").write_text("id,workplace,position,task,code\n", encoding="utf-8")
    with pytest.raises(KjcmError) as error:
        cohort_with(ksco, kinds, **columns)
    assert all(name in str(error.value) for name in names)


def test_rows_without_a_number_can_be_left_out(ksco: Classification) -> None:
    found = cohort_with(ksco, {"age": "number"}, drop=True, age=["30", "old", "", "inf"] * 10)
    assert found.flow["invalid"] == 20 and set(found.rows[AGE]) == {"30", ""}
    assert set(found.left["reason"]) == {f"{AGE} is no finite number"}


def test_the_twin_lacks_other_covariates_and_kinds_are_checked(ksco: Classification) -> None:
    with pytest.raises(ConfigError, match="'wage'"):
        cohort_of(config_of("train", "data.columns.covariates.number=[wage]").data, ksco)
    with pytest.raises(ConfigError, match="'sex'"):
        kinds_of({"category": ["sex"], "number": ["age", "sex"]})
    with pytest.raises(ConfigError, match="'text'"):
        kinds_of({"text": ["sex"]})
    with pytest.raises(ConfigError, match="lists of names"):
        kinds_of(config_of("train", "data.columns.covariates.number=[[a]]").data.columns.covariates)
    assert (
        kinds_of({"category": ["성별"], "number": ["나이"]}) == {"성별": "category", "나이": "number"}
        and kinds_of(None) == {}
    )


def test_values_become_numbers() -> None:
    nan = float("nan")
    train = frame_of(["b", "a", "", "b", nan], ["20", "40", "30", "", nan])
    covariates = Covariates.of(KINDS, train)
    assert covariates.levels == {"sex": ("a", "b")} and covariates.scales["age"] == (
        30.0,
        pytest.approx((200 / 3) ** 0.5),
    )
    assert covariates.width == 6 and covariates.kinds == KINDS and covariates
    found = covariates.encoded(train)
    assert found.dtype == np.float32 and found[4].tolist() == [0] * 6  # a title is no person
    assert np.linalg.norm(found[:4], axis=1) == pytest.approx(1)
    half = 0.5**0.5
    assert found[:, :3] == pytest.approx(half * np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 0]]))
    assert found[2, 3:] == pytest.approx([0.5, 0.5, 0]) and found[3, 3:] == pytest.approx([0, 0, half])
    assert found[0, 3] > found[2, 3] > found[1, 3] > 0  # the younger, the more rows are above


def test_extreme_and_constant_numbers_stay_finite() -> None:
    covariates = Covariates.of({"age": "number"}, pd.DataFrame({AGE: ["5", "5"]}))
    found = covariates.encoded(pd.DataFrame({AGE: ["-1e99", "5", "1e99"]}))
    assert found == pytest.approx(np.array([[1, 0, 0], [0.5**0.5, 0.5**0.5, 0], [0, 1, 0]]), abs=1e-3)


def test_levels_that_no_training_row_has() -> None:
    covariates = Covariates.of(KINDS, frame_of(["a", "b"], ["1", "2"]))
    other = frame_of(["c", "a", "", float("nan")], ["9"] * 4)
    assert covariates.unseen(other) == {"sex": ["c"]} and covariates.encoded(other)[0, :3].tolist()[:2] == [0, 0]
    with pytest.raises(KjcmError, match=r"new.csv, covariate 'sex'.*'c'.*unseen_levels=missing"):
        covariates.require_seen(other, "new.csv")
    covariates.require_seen(other[1:], "new.csv")


def test_a_covariate_needs_values_and_few_levels() -> None:
    with pytest.raises(KjcmError, match=r"covariates\.sex"):
        Covariates.of({"sex": "category"}, pd.DataFrame({SEX: ["", float("nan")]}))
    many = pd.DataFrame({SEX: list(map(str, range(MOST_LEVELS + 1)))})
    with pytest.raises(KjcmError, match=r"covariates\.sex.*1,001"):
        Covariates.of({"sex": "category"}, many)
    none = Covariates.of({}, many)
    assert Covariates.of({"age": "number"}, pd.DataFrame({AGE: ["-1e99", "1e99"]})).is_consistent
    empty = frame_of([], [])
    assert Covariates.of(KINDS, frame_of(["a"], ["1"])).encoded(empty).shape == (0, 5)
    assert not none and none.width == 0 and none.encoded(many).shape == (MOST_LEVELS + 1, 0)


def test_rows_that_are_no_person_have_no_covariates(here: Path) -> None:
    columns = {"position": ["어부"] * 40, "sex": ["1", "2"] * 20}
    making.answers(code=["111", "630"] * 20, **columns).to_csv("a.csv", index=False)
    reviewed = {"reviewed_code": ["111", "111"], "sex": ["1", ""], "task": ["새 일", "다른 일"]}
    frame = making.answers(**reviewed)
    frame.to_csv("with.csv", index=False)
    frame.rename(columns={"sex": "sex "}).to_csv("spaced.csv", index=False)
    frame.drop(columns="sex").to_csv("without.csv", index=False)
    words = (
        "data=table",
        "data.path=a.csv",
        "data.columns.covariates.category=[sex]",
        "data.cutoff=0",
        "augment=titles",
    )
    found = {
        name: rows_of(
            config_of("train", *words, "augment.positions=0.5", f"data.reviewed={name}.csv"), test=True, cache=None
        )
        for name in ("with", "spaced", "without")
    }
    for name, rows in found.items():
        train = rows.sides["train"]
        lengths = np.linalg.norm(rows.covariates.encoded(train), axis=1)
        survey = len(rows.learnt) - 2
        assert lengths[:survey].tolist() == [1] * survey and not lengths[survey + 2 :].any()
        assert lengths[survey : survey + 2].tolist() == ([0, 0] if name == "without" else [1, 1])
        assert rows.covariates.levels == {"sex": ("1", "2")}
