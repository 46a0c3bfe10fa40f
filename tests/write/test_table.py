"""A text file is written as pandas writes it."""

import csv
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from openpyxl import load_workbook

from kjcm.errors import KjcmError
from kjcm.files import without_formula, without_formulas
from kjcm.read.stata import StataFile, Variable, read_stata
from kjcm.read.table import read_chunks, read_table
from kjcm.write.stata import write_stata
from kjcm.write.table import Added, open_input, writer


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
    with writer(tmp_path / f"out{suffix}", added=Added(rounded=["prob_1"])) as out:
        out.write(frame)
        out.write(frame[:0])
        out.write(frame[:2])
    shown = frame.assign(
        prob_1=frame["prob_1"].map("{:.6f}".format, na_action="ignore"),
        lists=["['x', 'y']", None, "[]", "['z']", "[]", "[]", "[]"],  # pandas cuts long ones short
    )
    wanted = pd.concat([shown, shown[:2]]).to_csv(sep=separator, index=False)
    assert (tmp_path / f"out{suffix}").read_bytes().decode("utf-8-sig") == wanted


def test_a_line_end_within_a_cell_ends_no_row(tmp_path: Path) -> None:
    frame = pd.DataFrame({"task": ["한\r줄", "두\r\n줄", "끝"]})
    with writer(tmp_path / "out.csv") as out:
        out.write(frame)
    with (tmp_path / "out.csv").open(encoding="utf-8-sig", newline="") as stream:
        assert list(csv.reader(stream)) == [["task"], *([cell] for cell in frame["task"])]
    with writer(tmp_path / "out.xlsx") as out:
        out.write(frame)
    assert read_table(tmp_path / "out.xlsx")["task"].tolist() == frame["task"].tolist()


def test_what_pandas_had_as_an_index_stays_a_column(tmp_path: Path) -> None:
    file = tmp_path / "in.parquet"
    pd.DataFrame({"id": ["a", "b"], "task": ["용접", "농사"]}).set_index("id").to_parquet(file)
    (frame,) = read_chunks(file, 10)
    assert sorted(frame) == ["id", "task"] and frame["id"].tolist() == ["a", "b"]


def test_a_worksheet_has_cells_as_they_are(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "task": ["=1+1", "#N/A", "용\x07접", "_x000D_x000D_ _x_", None],
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
    assert table["task"].tolist() == ["=1+1", "#N/A", "용접", "_x000D_x000D_ _x_", None]
    assert table["when"].tolist() == ["2020-01-01 09:00:00+09:00"] * 4 + [None]
    assert [str(day) for day in table["day"][:4]] == ["2020-01-01 00:00:00"] * 4
    assert table["id"].tolist() == ["1234567890123456789", 2, 3, None, 5]
    assert table["number"].tolist() == [0.5, None, "inf", 1, 2] and table["yes"].tolist() == frame["yes"].tolist()
    (tmp_path / "long.csv").write_text(f"task\na\n{'가' * 32_768}\n", encoding="utf-8")
    with pytest.raises(KjcmError, match=r"column .task., data row 2: '가{40}'.* 32,768") as caught:
        open_input(tmp_path / "long.csv", Path("out.xlsx"), (), 10)
    assert "가" * 41 not in str(caught.value)
    (tmp_path / "long.csv").write_text(f"task\n{'_x000D_' * 2600}\n", encoding="utf-8")
    with pytest.raises(KjcmError, match=r"data row 1: .* 33,800"):
        open_input(tmp_path / "long.csv", Path("out.xlsx"), (), 10)


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
    assert open_input(tmp_path / "in.csv", Path("out.xlsx"), (), 2).rows == 3
    monkeypatch.setattr("kjcm.write.table.EXCEL_ROWS", 2)
    assert open_input(tmp_path / "in.csv", Path("out.csv"), (), 2).rows == 3
    read_table(tmp_path / "in.csv").to_stata(tmp_path / "in.dta", write_index=False)
    for name in ("in.csv", "in.dta"):
        with pytest.raises(KjcmError, match="has 3 rows"):
            open_input(tmp_path / name, Path("out.xlsx"), (), 2)


def test_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    array = pa.array(["x"])
    pq.write_table(pa.table([array, array], names=["task", "task"]), tmp_path / "in.parquet")
    pd.DataFrame([["x", "y"]], columns=["task", "task"]).to_excel(tmp_path / "in.xlsx", index=False)
    (tmp_path / "in.csv").write_text("task,task,n\nx,y,1\n")
    for kind in ("parquet", "xlsx", "csv"):
        with pytest.raises(KjcmError, match=rf"in\.{kind}: several columns are named 'task'"):
            list(read_chunks(tmp_path / f"in.{kind}", 5))


KINDS = {
    "category": pa.array(["a", None, "b"]).dictionary_encode(),
    "empty": pa.nulls(3),
    "list": pa.array([["x"], None, []]),
    "views": pa.array([["x"], None, []], pa.list_(pa.string_view())),
    "list_view": pa.array([["x"], None, []], pa.list_view(pa.string())),
    "struct": pa.array([{"a": 1}, None, {"a": 2}]),
    "map": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int64())),
    "fixed": pa.array([b"ab", None, b"\xff\x00"], pa.binary(2)),
    "view": pa.array(["x", None, "y"], pa.string_view()),
    "large": pa.array(["x", None, "y"], pa.large_string()),
    "stamp": pa.array([datetime(2020, 1, 1, 9), None, datetime(2020, 1, 2)]),
    "zone": pa.array([datetime(2020, 1, 1), None, datetime(2020, 1, 2)], pa.timestamp("us", "Asia/Seoul")),
    "day": pa.array([date(2020, 1, 1), None, date(1500, 1, 1)]),
    "hour": pa.array([time(9), None, time(10, 0, 1)]),
    "passed": pa.array([timedelta(1), None, timedelta(seconds=3)]),
    "exact": pa.array([Decimal("1.50"), None, Decimal("2.25")]),
    "longer": pa.array([Decimal("1.5"), None, Decimal("12345678901234567890.25")]),
    "yes": pa.array([True, None, False]),
    "whole": pa.array([1, None, -128], pa.int8()),
    "huge": pa.array([1, None, 2**64 - 1], pa.uint64()),
    "nan": pa.array([1.5, None, float("nan")]),
}
AS_TEXT = {
    **{name: ["['x']", "", "[]"] for name in ("list", "views", "list_view")}, "struct": ["{'a': 1}", "", "{'a': 2}"],
    "map": ["[('k', 1)]", "", "[]"], "fixed": ["ab", "", "ff00"], "passed": ["1 days 00:00:00", "", "0 days 00:00:03"],
    "zone": ["2020-01-01 09:00:00+09:00", "", "2020-01-02 09:00:00+09:00"],
    "longer": ["1.50", "", "12345678901234567890.25"], "huge": ["1", "", "18446744073709551615"],
}  # fmt: skip


@pytest.mark.parametrize("kind", [".csv", ".xlsx", ".parquet", ".sav", ".zsav", ".dta"])
def test_every_type_of_parquet_is_written(kind: str, tmp_path: Path) -> None:
    source, target = tmp_path / "in.parquet", tmp_path / f"out{kind}"
    pq.write_table(pa.table(KINDS), source)
    copied(source, target)
    if kind == ".parquet":
        before, after = pq.read_table(source), pq.read_table(target)
        assert after["category"].type == before["category"].type and after["struct"].type == before["struct"].type
        assert [after[name].to_pylist() for name in KINDS if name != "nan"] == [
            before[name].to_pylist() for name in KINDS if name != "nan"
        ]
        assert list(pd.read_parquet(target)) == [*KINDS, "code_1"]
        return
    table = read_table(target).astype(object)
    for name in KINDS:
        gaps = table[name].isna() | (table[name] == "")
        assert gaps.tolist() == {"empty": [True] * 3, "nan": [False, True, True]}.get(name, [False, True, False]), name
    for name, cells in AS_TEXT.items():
        shown = [str(cell) for cell in table[name].where(table[name].notna(), "")]
        assert shown == cells or (kind == ".xlsx" and name == "longer" and shown == ["1.5", *cells[1:]])
    assert [str(cell)[:10] for cell in table["day"]][::2] == ["2020-01-01", "1500-01-01"]
    assert [str(cell)[:19] for cell in table["stamp"]][::2] == ["2020-01-01 09:00:00", "2020-01-02 00:00:00"]
    assert [str(cell)[:8] for cell in table["hour"]][::2] == ["09:00:00", "10:00:01"]
    assert [float(cell) for cell in table["exact"][::2]] == [1.5, 2.25]


@pytest.mark.parametrize("kind", [".csv", ".xlsx", ".parquet", ".sav", ".dta"])
@pytest.mark.parametrize("when", [pa.array([2**62], pa.timestamp("us")), pa.array([1], pa.timestamp("us", "Mars/X"))])
def test_times_that_python_does_not_know_are_written_or_named(when: pa.Array, kind: str, tmp_path: Path) -> None:
    source, target = tmp_path / "in.parquet", tmp_path / f"out{kind}"
    pq.write_table(pa.table({"when": when}), source)
    if kind == ".parquet" or (kind == ".csv" and when.type.tz is None):
        copied(source, target)
        assert len(pq.read_table(target) if kind == ".parquet" else read_table(target)) == 1
        return
    with pytest.raises(KjcmError, match=r"column 'when': its values cannot be read .*Save it as text"):
        copied(source, target)


def copied(source: Path, target: Path) -> None:
    """Write a file in another kind, in chunks of two rows, with a column added."""
    added = {"code_1": "Code, rank 1"}
    given = open_input(source, target, added, 2)
    with writer(target, source, Added(added)) as out:
        for frame in given.chunks:
            out.write(frame.reset_index(drop=True).assign(code_1=pd.array(["111"] * len(frame), dtype="str")))


def test_missing_cells_stay_missing_in_every_pair_of_kinds(tmp_path: Path) -> None:
    """A whole-number column that begins with .a and has a . later is the one that pyreadstat misreads."""
    labelled = StataFile(
        [
            Variable("n", "long", np.array([2_147_483_622, 7, 2_147_483_621, 9], np.int32), "%12.0g"),
            Variable("x", "double", np.array([1.5, 2.0**1023, 2.0**1023 * (1 + 2**-11), 4]), "%9.2f"),
            Variable("text", "str", np.array([text.encode() for text in ("가", "", "나", "다")]), "%9s"),
        ],
        4,
    )
    write_stata(tmp_path / "a.dta", labelled)
    kinds = (".dta", ".csv", ".tsv", ".xlsx", ".parquet", ".sav", ".zsav")
    for first in kinds:
        copied(tmp_path / "a.dta", tmp_path / f"b{first}")
        for second in kinds:
            source = tmp_path / f"b{first}"
            target = tmp_path / f"c_{first[1:]}{second}"
            with writer(target, source) as out:
                for frame in open_input(source, target, (), 3).chunks:
                    out.write(frame.reset_index(drop=True))
            table = read_table(target).astype(object)
            shown = table[["n", "x", "text"]].where(table.notna(), "").astype(str).replace(r"\.0$", "", regex=True)
            assert shown["n"].tolist() == ["", "7", "", "9"], (first, second)
            assert shown["x"].tolist() == ["1.5", "", "", "4"], (first, second)
            assert shown["text"].tolist() == ["가", "", "나", "다"], (first, second)
    after = read_stata(tmp_path / "c_dta.dta")
    assert after.variables[0].cells.tolist() == labelled.variables[0].cells.tolist()


def test_cells_that_a_spreadsheet_would_run_are_guarded(tmp_path: Path) -> None:
    bad = ["=1+1", "@SUM(A1)", "-1+1", "+cmd", "\tx", "\r=1", "＝1", "－", "safe", "a=1"]
    fine = ["-1.5", "+82", "-1,000", "-5%", "1e-3", "-.5", "", "x", "0", "10"]
    frame = pd.DataFrame({"=theirs": bad, "number": fine, "title_1": bad, "value": [-1.5] * 10})
    wanted = [f"'{cell}" for cell in bad[:8]] + bad[8:]
    for formulas, own, theirs in (("own", wanted, bad), ("all", wanted, wanted), ("keep", bad, bad)):
        with writer(tmp_path / "out.csv", None, Added({"title_1": "Title"}), formulas) as out:
            out.write(frame)
        with (tmp_path / "out.csv").open(encoding="utf-8-sig", newline="") as stream:
            header, *rows = csv.reader(stream)
        assert header[0] == ("'=theirs" if formulas == "all" else "=theirs")
        assert [row[0] for row in rows] == theirs and [row[2] for row in rows] == own, formulas
        assert [row[1] for row in rows] == fine and {row[3] for row in rows} == {"-1.5"}
    assert without_formulas(frame)["title_1"].tolist() == wanted and without_formulas(frame)["value"].equals(
        frame["value"]
    )
    assert [without_formula(cell) for cell in bad] == wanted and list(map(without_formula, fine)) == fine
    with writer(tmp_path / "out.xlsx") as out:
        out.write(frame)
    sheet = load_workbook(tmp_path / "out.xlsx").active
    assert not [cell for row in sheet["A1:D11"] for cell in row if cell.data_type == "f"]
    assert [cell.value for (cell,) in sheet["A2:A5"]] == bad[:4] and sheet["A1"].value == "=theirs"


def test_the_sheets_name_stays(tmp_path: Path) -> None:
    pd.DataFrame({"task": ["용접"]}).to_excel(tmp_path / "in.xlsx", index=False, sheet_name="직업 2020")
    copied(tmp_path / "in.xlsx", tmp_path / "out.xlsx")
    assert load_workbook(tmp_path / "out.xlsx").sheetnames == ["직업 2020"]


def test_what_spss_and_stata_cannot_hold_is_refused_before(tmp_path: Path) -> None:
    cases = {
        "하는 일\nx\n": (".dta", "named '하는 일'"),
        "if\nx\n": (".dta", "named 'if'"),
        "1a\nx\n": (".sav", "named '1a'"),
        "a,A\nx,y\n": (".sav", "as one name"),
        "Code_1\nx\n": (".sav", "as one name"),
        f"t\na\n{'가' * 11_000}\n": (".sav", "column 't', row 2"),
    }
    for text, (kind, said) in cases.items():
        (tmp_path / "in.csv").write_text(text, encoding="utf-8")
        with pytest.raises(KjcmError, match=said):
            open_input(tmp_path / "in.csv", Path(f"out{kind}"), ["code_1"], 1)
    pq.write_table(pa.table({"n": [1.0, float("inf")]}), tmp_path / "in.parquet")
    with pytest.raises(KjcmError, match="column 'n': has infinite"):
        open_input(tmp_path / "in.parquet", Path("out.dta"), [], 5)


@pytest.mark.parametrize("text", ["a,b\n1,2\n3,4", 'a,b\n"x\ny",2\n3,"4""\n"\n'])
def test_lines_are_counted(text: str, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(text)
    assert open_input(tmp_path / "in.csv", Path("out.csv"), (), 5).rows == 2
