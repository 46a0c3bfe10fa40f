"""A text file is written as pandas writes it."""

import csv
from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from openpyxl import load_workbook

from kjcm.coding.tables import require_fits, writer
from kjcm.errors import KjcmError
from kjcm.read.table import read_chunks, read_table


@pytest.mark.parametrize(("suffix", "separator"), [(".csv", ","), (".tsv", "\t")])
def test_text_is_written_as_pandas_writes_it(suffix: str, separator: str, tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "이름, \"text\"": ["가,나", 'say "x"', "", None, "line\nbreak", "tab\there", " 끝"],
            "whole": [1, 2, 3, 4, 5, 6, 7],
            "number": [1.5, np.nan, 2, 3e-9, 1e20, -1, 0.1],
            "yes": [True, False, True, False, True, True, False],
            "date": pd.to_datetime(["2020-01-01"] * 6 + [None]),
            "mixed": [1, "x,y", None, 2.5, 'q"', True, "a\tb"],
            "prob_1": np.array([0.1234565, 1, 0, np.nan, 1e-7, 0.9999999, 0.5], np.float32),
        }
    ).assign(
        arrow=pd.array(["x", None, "y", "z", "w", "", "a,b"], dtype=pd.StringDtype("pyarrow")),
        prob_theirs=[-1.0, 1e20, np.inf, None, 123456.7, -0.25, 0],
        passed=pd.to_timedelta([1, None, 2, 3, 4, 5, 6], unit="D"),
        gaps=pd.array([1, None, 3, 4, 5, 6, 7], dtype="Int64"),
        kind=pd.Categorical(["a,b", "c", None, "c", "c", "d\n", ""]),
        lists=pd.array([["x", "y"], None, [], ["z"], [], [], []], dtype=pd.ArrowDtype(pa.list_(pa.string()))),
        text=pd.array(["x,y", None, "", "z", "", "", ""], dtype=pd.ArrowDtype(pa.string())),
        day=pd.array([date(2020, 1, 1), None, *[date(2021, 1, 1)] * 5], dtype=pd.ArrowDtype(pa.date32())),
        exact=pd.array([Decimal("1.50"), None, *[Decimal("2")] * 5], dtype=pd.ArrowDtype(pa.decimal128(5, 2))),
    )  # fmt: skip
    with writer(tmp_path / f"out{suffix}", rounded=["prob_1"]) as out:
        out.write(frame)
        out.write(frame[:0])
        out.write(frame[:2])
    shown = frame.assign(prob_1=frame["prob_1"].map("{:.6f}".format, na_action="ignore"))
    wanted = pd.concat([shown, shown[:2]]).to_csv(sep=separator, index=False)
    assert (tmp_path / f"out{suffix}").read_bytes().decode("utf-8-sig") == wanted


def test_a_line_end_within_a_cell_ends_no_row(tmp_path: Path) -> None:
    frame = pd.DataFrame({"task": ["한\r줄", "두\r\n줄", "끝"]})
    with writer(tmp_path / "out.csv") as out:
        out.write(frame)
    with (tmp_path / "out.csv").open(encoding="utf-8-sig", newline="") as stream:
        assert list(csv.reader(stream)) == [["task"], *([cell] for cell in frame["task"])]


def test_what_pandas_had_as_an_index_stays_a_column(tmp_path: Path) -> None:
    file = tmp_path / "in.parquet"
    pd.DataFrame({"id": ["a", "b"], "task": ["용접", "농사"]}).set_index("id").to_parquet(file)
    (frame,) = read_chunks(file, 10)
    assert sorted(frame) == ["id", "task"] and frame["id"].tolist() == ["a", "b"]


def test_a_worksheet_has_cells_as_they_are(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "task": ["=1+1", "#N/A", "용\x07접", "", None],
            "when": pd.to_datetime(["2020-01-01 09:00"] * 4 + [None]).tz_localize("Asia/Seoul"),
            "day": pd.to_datetime(["2020-01-01"] * 4 + [None]),
            "id": pd.array([1234567890123456789, 2, 3, None, 5], dtype="Int64"),
            "number": [0.5, np.nan, np.inf, 1, 2],
            "yes": [True, False, True, False, True],
        }
    )
    with writer(tmp_path / "out.xlsx") as out:
        out.write(frame[:2])
        out.write(frame[2:])
    book = load_workbook(tmp_path / "out.xlsx").active
    assert book["A2"].data_type == book["A3"].data_type == "s"  # no formula, no error
    table = read_table(tmp_path / "out.xlsx").astype(object)
    table = table.where(table.notna(), None)
    assert table["task"].tolist() == ["=1+1", "#N/A", "용접", None, None]
    assert table["when"].tolist() == ["2020-01-01 09:00:00+09:00"] * 4 + [None]
    assert [str(day) for day in table["day"][:4]] == ["2020-01-01 00:00:00"] * 4
    assert table["id"].tolist() == ["1234567890123456789", 2, 3, None, 5]
    assert table["number"].tolist() == [0.5, None, "inf", 1, 2] and table["yes"].tolist() == frame["yes"].tolist()
    long = pd.DataFrame({"task": ["가" * 32_768]})
    with (
        pytest.raises(KjcmError, match=r"column .task., data row 1: '가{40}'.* 32,768") as caught,
        writer(tmp_path / "long.xlsx") as out,
    ):
        out.write(long)
    assert "가" * 41 not in str(caught.value)


def test_a_worksheets_columns_get_one_type_in_parquet(tmp_path: Path) -> None:
    frame = pd.DataFrame({2020: [1, 2, "둘 "], "n": [1, 2.5, None], "task": ["a", "b", "c"]}, dtype=object)
    frame.to_excel(tmp_path / "in.xlsx", index=False)
    chunks = read_chunks(tmp_path / "in.xlsx", 1)
    with writer(tmp_path / "out.parquet", tmp_path / "in.xlsx") as out:
        for chunk in chunks:
            out.write(chunk)
    table = pd.read_parquet(tmp_path / "out.parquet")
    assert table["2020"].tolist() == ["1", "2", "둘 "] and table["n"].tolist()[:2] == [1, 2.5]


def test_whole_numbers_beyond_decimals_stay_exact(tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": [2**53 + 1, 1], "n": [1, 2]})
    with writer(tmp_path / "out.sav") as out:
        out.write(frame)
    table = read_table(tmp_path / "out.sav")
    assert table["id"].tolist() == ["9007199254740993", "1"] and table["n"].tolist() == [1, 2]


def test_too_many_rows_for_a_worksheet_are_found_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in.csv").write_text("task\na\nb\nc\n")
    require_fits(tmp_path / "in.csv", Path("out.xlsx"))
    monkeypatch.setattr("kjcm.coding.tables.EXCEL_ROWS", 2)
    require_fits(tmp_path / "in.csv", Path("out.csv"))
    with pytest.raises(KjcmError, match="has 3 rows"):
        require_fits(tmp_path / "in.csv", Path("out.xlsx"))
    with pytest.raises(KjcmError, match="has 3 rows"), writer(tmp_path / "out.xlsx", tmp_path / "in.csv"):
        pytest.fail("it is written")
    read_table(tmp_path / "in.csv").to_stata(tmp_path / "in.dta", write_index=False)
    with pytest.raises(KjcmError, match="has 3 rows"):
        require_fits(tmp_path / "in.dta", Path("out.xlsx"))


def test_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    array = pa.array(["x"])
    pq.write_table(pa.table([array, array], names=["task", "task"]), tmp_path / "in.parquet")
    pd.DataFrame([["x", "y"]], columns=["task", "task"]).to_excel(tmp_path / "in.xlsx", index=False)
    (tmp_path / "in.csv").write_text("task,task,n\nx,y,1\n")
    for kind in ("parquet", "xlsx", "csv"):
        with pytest.raises(KjcmError, match=rf"in\.{kind}: several columns are named 'task'"):
            list(read_chunks(tmp_path / f"in.{kind}", 5))
