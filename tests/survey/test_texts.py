"""What is text in a cell, for training and for coding alike."""

import datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyreadstat
import pytest

from kjcm.errors import KjcmError
from kjcm.ksco.classification import load_classification
from kjcm.read.cells import code_texts, text_cells
from kjcm.read.table import read_table
from kjcm.survey.cohort import build_cohort
from kjcm.survey.responses import Survey, answers_of, require_valid, table_source
from kjcm.survey.texts import require_texts, texts_of
from tests.conftest import COLUMNS

TASK = {"task": "task"}


def reasons(column: pd.Series) -> list[str]:
    return texts_of(pd.DataFrame({"task": column}), TASK, "t").reasons


def parquet(path: Path, values: list[object], kind: pa.DataType) -> pd.Series:
    pq.write_table(pa.table({"task": pa.array(values, kind)}), path)
    return read_table(path)["task"]


def test_cells_of_one_column_are_judged_one_by_one() -> None:
    day = datetime.datetime(2024, 1, 1)
    cells = ["용접", None, " ", "\u200b\ufeff", "\u3164", "-", "--- .", "12", 5, 5.5, Decimal(3), True, np.True_, day, day.date(),
             day.time(), ["용접"], {"a": 1}, "용접".encode(), b"\xff\xfe", float("nan"), pd.NaT, "ㅇㅇ"]  # fmt: skip
    expected = ["", "empty", "empty", "empty", "empty", *["not text"] * 13, "", "not text", "empty", "empty", ""]
    assert reasons(pd.Series(cells, dtype=object)) == expected


@pytest.mark.parametrize(
    "kind", [pa.binary(), pa.large_binary(), pa.binary(6), pa.string(), pa.large_string(), pa.string_view()]
)
def test_text_of_every_arrow_type_is_read(tmp_path: Path, kind: pa.DataType) -> None:
    values = ["용접", "낚시", None]
    column = parquet(tmp_path / "t.parquet", [v and (v.encode() if "binary" in str(kind) else v) for v in values], kind)
    assert text_cells(column)[0] == ["용접", "낚시", ""]
    categories = pd.Series(values, dtype="category")
    assert text_cells(categories)[0] == ["용접", "낚시", ""]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([["용접"], None], pa.list_(pa.string())),
        ([{"a": "용접"}, None], pa.struct({"a": pa.string()})),
        ([[("a", "용접")], None], pa.map_(pa.string(), pa.string())),
        ([True, None], pa.bool_()),
        ([1, None], pa.date32()),
        ([1, None], pa.time64("us")),
        ([2**62, None], pa.timestamp("us", tz="Nowhere/City")),
        ([1, None], pa.duration("s")),
        ([b"\xff\xfe", None], pa.binary()),
    ],
)
def test_a_column_that_holds_no_text_is_refused(tmp_path: Path, values: list[object], kind: pa.DataType) -> None:
    column = parquet(tmp_path / "t.parquet", values, kind)
    assert reasons(column) == ["not text", "empty"]
    with pytest.raises(KjcmError, match=r"t\.parquet, column 'task'.*data\.columns\.task=null"):
        require_texts(pd.DataFrame({"task": column}), TASK, "t.parquet", "data.columns.")
    mixed = pd.DataFrame({"task": pd.Series([["용접"], True, "용접"], dtype=object)})
    require_texts(mixed, TASK, "t.parquet", "data.columns.")


def test_bad_cells_leave_counted_and_empty_columns_are_rows_without_text(tmp_path: Path) -> None:
    tasks = ["용접", "낚시", datetime.datetime(2024, 1, 1), "-", "\u200b"]
    path = tmp_path / "t.xlsx"
    pd.DataFrame({"id": range(5), "task": tasks, "code": "312"}).to_excel(path, index=False)
    columns = {**COLUMNS, "workplace": None, "position": None}
    settings = {"level": 3, "cutoff": 0, "split_seed": 0, "train_share": 1.0, "train_fraction": 1.0, "validation": 0.0}
    source = table_source(str(path), None, columns)
    cohort = build_cohort(source, load_classification("ksco7"), drop_invalid=True, **settings)  # type: ignore[arg-type]
    assert cohort.flow["invalid"] == 3
    assert cohort.left["reason"].tolist() == ["not text", "not text", "empty text"]
    with pytest.raises(KjcmError, match=r"t\.xlsx, column 'task': not text in 2 of 5 rows: '2024-01-01"):
        build_cohort(source, load_classification("ksco7"), drop_invalid=False, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("role", "values", "shown"),
    [
        ("task", pa.array(["용접".encode(), b"\xff"]), r"not text in 1 of 2 rows: \"b'.*xff'\""),
        ("weight", pa.array([b"1.5", b"\xff"]), "weight is no number of 0 or more in 1 of 2 rows: "),
        ("weight", pa.array([datetime.datetime(2024, 1, 1)] * 2), "in 2 of 2 rows: '2024-01-01 00:00:00'"),
        ("manages", pa.array([b"1", b"\xff"]), "neither yes nor no in 1 of 2 rows"),
    ],
)
def test_cells_that_cannot_be_used_are_shown(tmp_path: Path, role: str, values: pa.Array, shown: str) -> None:
    table = {"id": ["a", "b"], "task": ["용접", "낚시"], "code": ["312", "312"], role: values}
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    columns = {"id": "id", "task": "task", "code": "code", role: role}
    source = table_source(str(tmp_path / "t.parquet"), None, columns)
    (survey,) = source.surveys
    frame = answers_of(survey, columns)
    with pytest.raises(KjcmError, match=shown):
        require_valid(frame, survey, columns)


def test_a_time_is_no_weight() -> None:
    table = pd.DataFrame({"id": ["a"], "task": ["용접"], "code": ["312"]})
    table["w"] = pd.array([2**62], dtype="int64").astype(pd.ArrowDtype(pa.timestamp("us")))
    columns = {name: name for name in ("id", "task", "code")} | {"weight": "w"}
    assert answers_of(Survey(table, "t"), columns)["reason"].tolist() == ["weight is no number of 0 or more"]


@pytest.mark.parametrize("kind", ["sav", "dta"])
def test_texts_take_labels_and_codes_do_not(tmp_path: Path, kind: str) -> None:
    frame = pd.DataFrame({
        "id": ["a", "b", "c", "d"], "position": [1.0, 2.0, 3.0, np.nan], "task": ["용접"] * 4, "code": [111.0] * 4,
        "manages": [1.0, 2.0, 2.0, 1.0],
    })  # fmt: skip
    labels = {"position": {1: "과장", 2: "대리"}, "code": {111: "관리자"}, "manages": {1: "아니오", 2: "예"}}
    path = tmp_path / f"t.{kind}"
    if kind == "sav":
        frame["task"] = ["1", "1", "2", "용접"]
        pyreadstat.write_sav(frame, str(path), variable_value_labels={**labels, "task": {"1": "용접", "2": "낚시"}})  # type: ignore[arg-type]
    else:
        pyreadstat.write_dta(frame, str(path), variable_value_labels=labels)  # type: ignore[arg-type]
    columns = {**COLUMNS, "workplace": None, "manages": "manages"}
    answers = answers_of(table_source(str(path), None, columns).surveys[0], columns)
    last = ["용접", "용접", "낚시", "용접"] if kind == "sav" else ["용접"] * 4
    assert answers["text"].tolist() == [f"과장(으로) {last[0]}", f"대리(로) {last[1]}", f"3 {last[2]}", last[3]]
    assert answers["code"].tolist() == ["111"] * 4 and answers["manages"].tolist() == [False, True, True, False]


def test_codes_that_python_cannot_hold_are_named(tmp_path: Path) -> None:
    column = parquet(tmp_path / "t.parquet", [2**62, None], pa.timestamp("us", tz="Nowhere/City"))
    with pytest.raises(KjcmError, match="'task'"):
        code_texts(column)
