"""Files of every kind: encodings, labels, worksheets, header rows, and damaged files."""

import re
import unicodedata
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyreadstat
import pytest
from openpyxl import Workbook

from kjcm.errors import ConfigError, KjcmError
from kjcm.files import require_file
from kjcm.keys.survey import FileOptions
from kjcm.read.cells import code_texts
from kjcm.read.columns import meant_columns
from kjcm.read.labelled import read_labelled, value_labels
from kjcm.read.options import ReadOptions, read_options
from kjcm.read.table import read_chunks, read_table, table_columns
from kjcm.write.table import writer

FRAME = pd.DataFrame({"position": [1.0, 2.0, 3.0], "task": ["낚시", "용접", "상담"]})
STRICT = {  # namespaces of XLSX, and of Strict Open XML
    b"schemas.openxmlformats.org/spreadsheetml/2006/main": b"purl.oclc.org/ooxml/spreadsheetml/main",
    b"schemas.openxmlformats.org/officeDocument/2006": b"purl.oclc.org/ooxml/officeDocument",
}
LABELS = {"position": {1: "과장", 2: "대리"}}


def options(**values: object) -> ReadOptions:
    return ReadOptions(**values, keys="data.", wanted=("id", "task", "code"))  # type: ignore[arg-type]


def old_stata(path: Path, text: bytes) -> Path:
    """Write a Stata 114 file of one text column `task` with one cell, the variable's label the same text."""
    width = len(text) + 1
    parts = [
        b"\x72\x02\x01\x00", (1).to_bytes(2, "little"), (1).to_bytes(4, "little"), bytes(81), bytes(18),
        bytes([width]), b"task".ljust(33, b"\0"), bytes(4), b"%9s".ljust(49, b"\0"), bytes(33),
        text[:80].ljust(81, b"\0"), bytes(5), text + b"\0",
    ]  # fmt: skip
    path.write_bytes(b"".join(parts))
    return path


@pytest.mark.parametrize(
    ("encoding", "key"),
    [("utf-8", None), ("cp949", None), ("euc-kr", "euc-kr"), ("cp949", "cp949"), ("utf-8", "utf-8")],
)
def test_old_stata_is_read_in_its_encoding(tmp_path: Path, encoding: str, key: str | None) -> None:
    path = old_stata(tmp_path / "t.dta", "낚시 하는 일".encode(encoding))
    frame, about = read_labelled(path, options(encoding=key))
    assert frame["task"].tolist() == ["낚시 하는 일"] and about.column_labels == ["낚시 하는 일"]


def test_what_no_rule_can_know_is_asked_for(tmp_path: Path) -> None:
    path = old_stata(tmp_path / "t.dta", "Müller, Bäcker".encode("latin-1"))
    with pytest.raises(KjcmError, match=r"t\.dta.*data\.encoding"):
        read_table(path, options())
    assert read_table(path, options(encoding="latin-1"))["task"].tolist() == ["Müller, Bäcker"]
    with pytest.raises(KjcmError, match=r"data\.encoding=euc-kr"):
        read_table(path, options(encoding="euc-kr"))
    csv = tmp_path / "t.csv"
    csv.write_bytes("id,task\n1,日本語のテスト\n".encode("shift_jis"))
    assert read_table(csv, options(encoding="shift_jis"))["task"].tolist() == ["日本語のテスト"]
    with pytest.raises(KjcmError, match=r"data\.encoding"):
        read_table(csv, options(encoding="euc-kr"))
    for name in ("utf-16", "utf-32"):
        csv.write_bytes("id,task\n1,낚시\n".encode(name))
        with pytest.raises(KjcmError, match=rf"data\.encoding={name}\."):
            read_table(csv, options())
        assert read_table(csv, options(encoding=name))["task"].tolist() == ["낚시"]
    csv.write_bytes("id,task\n1,é\n".encode("latin-1"))
    with pytest.raises(KjcmError, match=r"UTF-8 nor CP949.*data\.encoding=NAME"):
        read_table(csv, options())


def old_spss(path: Path, encoding: str) -> Path:
    """Write FRAME with a column named in Hangul as SPSS in an encoding that the file does not declare."""
    frame = FRAME.rename(columns={"position": "직위"})
    pyreadstat.write_sav(
        frame, str(path), variable_value_labels={"직위": LABELS["position"]}, column_labels={"task": "일"}
    )
    whole = path.read_bytes()

    def record(number: int) -> tuple[int, int]:
        """Return where the contents of an extension record begin and end."""
        begin = whole.index(b"\x07\0\0\0" + number.to_bytes(4, "little") + b"\1\0\0\0") + 16
        return begin, begin + int.from_bytes(whole[begin - 4 : begin], "little")

    begin, end = record(20)  # the encoding
    whole = whole[: begin - 16] + whole[end:]
    begin, end = record(13)  # the long names
    names = "직위=직위\tTASK=task".encode(encoding)
    whole = whole[: begin - 4] + len(names).to_bytes(4, "little") + names + whole[end:]
    for text in ("직위  ", "낚시", "용접", "상담", "일", "과장", "대리"):
        whole = whole.replace(text.encode(), text.encode(encoding).ljust(len(text.encode())))
    machine = whole.index(b"\x07\0\0\0\x03\0\0\0") + 44
    path.write_bytes(whole[:machine] + (2).to_bytes(4, "little") + whole[machine + 4 :])
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "cp949"])
def test_spss_without_a_declared_encoding(tmp_path: Path, encoding: str) -> None:
    path = old_spss(tmp_path / "t.sav", encoding)
    frame, about = read_labelled(path)
    assert list(frame) == ["직위", "task"] and frame["task"].tolist() == ["낚시", "용접", "상담"]
    assert about.column_labels == [None, "일"] and value_labels(path) == {"직위": {1.0: "과장", 2.0: "대리"}}


def test_a_column_whose_name_is_in_another_encoding_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "t.sav"
    pyreadstat.write_sav(FRAME, str(path))
    path.write_bytes(path.read_bytes().replace(b"TASK    ", b"\x80ASK    "))
    with pytest.raises(KjcmError, match=r"t\.sav: its text is not in the encoding that the file declares"):
        read_table(path)


def test_statas_floats_have_the_digits_that_they_hold(tmp_path: Path) -> None:
    numbers = pd.Series([36.1, np.nan, 1e10, -0.1], dtype="float32")
    frame = pd.DataFrame({"code": numbers})
    frame.to_stata(tmp_path / "t.dta", write_index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    for kind in ("dta", "parquet"):
        table = read_table(tmp_path / f"t.{kind}")
        assert code_texts(table["code"]) == ["36.1", "", "10000000000", "-0.1"]
        for target in ("t.csv", "t.xlsx"):
            with writer(tmp_path / target) as out:
                out.write(table)
            assert code_texts(read_table(tmp_path / target)["code"])[::3] == ["36.1", "-0.1"]
        with writer(tmp_path / "out.parquet") as out:
            out.write(table)
        assert pq.read_table(tmp_path / "out.parquet")["code"].type == pa.float32()


@pytest.mark.parametrize("name", ["nonsense", "hex", "rot13", ""])
def test_an_unknown_encoding_is_an_error_of_the_config(name: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.encoding="):
        read_options(FileOptions(name, None, None), "data.", ["t.csv"], {})


def test_a_key_that_no_file_can_use_is_an_error_of_the_config() -> None:
    for key, value, file in (("sheet", "a", "t.csv"), ("encoding", "cp949", "t.xlsx"), ("header_row", 2, "t.parquet")):
        with pytest.raises(ConfigError, match=rf"data\.{key}="):
            read_options(replace(FileOptions(None, None, None), **{key: value}), "data.", [file, None], {})
        with pytest.raises(ConfigError, match=rf"data\.{key}="):
            read_options(replace(FileOptions(None, None, None), **{key: value}), "data.", [], {})


def book(path: Path, rows: list[list[object]], charts: bool = False) -> Path:
    made = Workbook()
    sheet = made.active
    assert sheet is not None
    sheet.title = "Sheet"
    for row in rows:
        sheet.append(row)
    if charts:
        made.create_chartsheet("chart", 0)
        made.create_sheet("empty", 0)
    made.save(path)
    return path


def test_the_first_worksheet_with_cells(tmp_path: Path) -> None:
    path = book(tmp_path / "t.xlsx", [["id", "task"], [1, "낚시"]], charts=True)
    assert read_table(path).to_numpy().tolist() == [[1, "낚시"]]
    assert read_table(path, options(sheet="Sheet")).to_numpy().tolist() == [[1, "낚시"]]
    with pytest.raises(KjcmError, match=r"'other'.*'Sheet'"):
        read_table(path, options(sheet="other"))
    with pytest.raises(KjcmError, match="empty"):
        read_table(path, options(sheet="empty"))
    made = Workbook()
    assert made.active is not None
    made.active.append(["id", "task"])
    made.active["C9"].number_format = "0"  # a cell without a value
    made.save(path)
    with pytest.raises(KjcmError, match="no cells from row 2 on"):
        read_table(path, options(header_row=2))
    made.active.delete_rows(1)
    made.save(path)
    with pytest.raises(KjcmError, match="empty"):
        read_table(path)


def test_a_table_need_not_begin_in_the_first_cell(tmp_path: Path) -> None:
    path = book(
        tmp_path / "t.xlsx", [[], [None, None, "id", None, "task"], [None, None, 1], [None, None, 2, None, "낚시"]]
    )
    assert read_table(path).to_dict("list") == {"id": [1, 2], "task": [None, "낚시"]}


def test_a_hidden_worksheet_is_read_only_by_name(tmp_path: Path) -> None:
    made = Workbook()
    assert made.active is not None
    made.active.append(["id", "task"])
    hidden = made.create_sheet("hidden", 0)
    hidden.append(["note"])
    hidden.sheet_state = "hidden"
    made.save(tmp_path / "t.xlsx")
    assert list(read_table(tmp_path / "t.xlsx")) == ["id", "task"]
    assert list(read_table(tmp_path / "t.xlsx", options(sheet="hidden"))) == ["note"]


def test_strict_open_xml_is_refused_without_a_warning(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    with zipfile.ZipFile(book(tmp_path / "t.xlsx", [["id", "task"]])) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "t.xlsx", "w") as archive:
        for name, part in parts.items():
            for own, strict in STRICT.items():
                part = part.replace(own, strict)
            archive.writestr(name, part)
    with pytest.raises(KjcmError, match=r"t\.xlsx: has no readable worksheet"):
        read_table(tmp_path / "t.xlsx")
    assert not recwarn.list


def test_formulas_without_values_and_other_worksheets_are_named(tmp_path: Path) -> None:
    path = book(tmp_path / "t.xlsx", [["id", "task"], [1, "=A2"]])
    with pytest.raises(KjcmError, match=r"t\.xlsx, cell B2: contains a formula"):
        read_table(path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:  # as programs write it that give every tag a prefix
        for name, part in parts.items():
            prefixed = re.sub(rb"<(/?)(?=[a-z])", rb"<\1x:", part).replace(b" xmlns=", b" xmlns:x=")
            archive.writestr(name, prefixed if "sheet1.xml" in name and "_rels" not in name else part)
    with pytest.raises(KjcmError, match=r"t\.xlsx, cell B2: contains a formula"):
        read_table(path)
    made = Workbook()
    made.create_sheet("notes", 0).append(["Some notes"])
    made.create_sheet("answers").append(["id", "task"])
    made.save(path)
    with pytest.raises(KjcmError, match=r"'answers'.*data\.sheet=NAME"):
        table_columns(str(path), read_table(path).columns, {"task": "task"}, options(), "")


def test_escaped_characters_of_worksheets(tmp_path: Path) -> None:
    rows: list[list[object]] = [["하는_x0020_일", "n"], ["낚시_x000D_\n_x005F_x000D_ _xD83D__xDE00_ _xZZ_", 1.0]]
    table = read_table(book(tmp_path / "t.xlsx", rows))
    assert list(table) == ["하는 일", "n"]
    assert table.to_numpy().tolist() == [["낚시\r\n_x000D_ \U0001f600 _xZZ_", 1]]


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
@pytest.mark.parametrize(
    "above",
    [
        [["Survey of jobs (2023)", "", ""], ["", "", ""]],
        [["respondent", "answer", "answer"]],
        [["Survey", "", "answer"]],
        [["a", "b", "c"]],
    ],
)
def test_the_row_that_looks_like_the_header_is_named(tmp_path: Path, kind: str, above: list[list[object]]) -> None:
    rows = [*above, ["id", "task", "code"], ["1", "낚시", "312"]]
    path = tmp_path / f"t.{kind}"
    if kind == "xlsx":
        book(path, [[cell or None for cell in row] for row in rows])
    else:
        path.write_text("\n".join(",".join(map(str, row)) if any(row) else "" for row in rows) + "\n", encoding="utf-8")
    row = len(above) + 1
    with pytest.raises(KjcmError, match=rf"data\.header_row={row}\b"):
        table_columns(str(path), read_table(path, options()).columns, {"task": "task"}, options(), "")
    table = read_table(path, options(header_row=row))
    assert list(table) == ["id", "task", "code"] and table["task"].tolist() == ["낚시"]


def test_rows_with_more_separators_than_most_are_no_header(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id;task;code\n1;낚시;312\n2;낚시, 용접;312\n3;상담;312\n", encoding="utf-8")
    with pytest.raises(KjcmError, match=r"line 3: the row has 2 cells.*1 column\..*\.csv.*\.tsv") as caught:
        read_table(path, options())
    assert "header_row" not in str(caught.value)


def test_a_column_is_meant_in_whatever_unicode_form() -> None:
    nfd = unicodedata.normalize("NFD", "하는 일")
    assert meant_columns([nfd, "id"], {"task": "하는 일", "id": None}, "t.csv") == {"task": nfd}
    assert meant_columns(["하는 일"], {"task": nfd}, "t.csv") == {"task": "하는 일"}
    assert meant_columns(["하는 일", nfd], {"task": nfd}, "t.csv") == {"task": nfd}
    assert meant_columns([" 하는\u00a0일"], {"task": "하는 일"}, "t.csv") == {"task": " 하는\u00a0일"}
    with pytest.raises(KjcmError, match=r"t\.csv: has no column 'x'.*data\.columns\.task"):
        meant_columns(["하는 일"], {"task": "x"}, "t.csv", "Set data.columns.{role}=NAME.")


def test_a_path_is_found_in_whatever_unicode_form(tmp_path: Path) -> None:
    for typed, there in (("NFC", "NFD"), ("NFD", "NFC")):
        folder = tmp_path / there / unicodedata.normalize(there, "자료")
        folder.mkdir(parents=True)
        file = folder / unicodedata.normalize(there, "직업.csv")
        file.write_text("id\n")
        assert require_file(tmp_path / there / unicodedata.normalize(typed, "자료/직업.csv")) == file
    with pytest.raises(KjcmError, match="no such file"):
        require_file(tmp_path / "NFC" / "다른" / "직업.csv")


def test_long_cells_are_read(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"id,task\n1,{'낚시 ' * 100_000}\n", encoding="utf-8")
    assert read_table(path)["task"].str.len().tolist() == [300_000]


def test_parquet_is_read_in_its_own_types(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    table = pa.table({"n": pa.array([1, None]), "task": pa.array([b"a", None]), "list": pa.array([["a"], None])})
    pq.write_table(table.replace_schema_metadata({b"pandas": b"{broken"}), path)
    assert read_table(path)["n"].tolist() == [1, pd.NA]
    bad = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe"))
    pq.write_table(pa.table({"task": bad}), path)
    with pytest.raises(KjcmError, match=r"t\.parquet, column 'task'.*UTF8"):
        read_table(path)


def damaged(folder: Path) -> list[Path]:
    """Write files that are not what their names say."""
    book(folder / "whole.xlsx", [["id", "task"], ["1", "낚시"]])
    FRAME.to_parquet(folder / "whole.parquet")
    pyreadstat.write_sav(FRAME, str(folder / "whole.sav"))
    pyreadstat.write_dta(FRAME, str(folder / "whole.dta"))
    made = []
    for whole in sorted(folder.glob("whole.*")):
        content = whole.read_bytes()
        for number, part in enumerate((b"", content[:7], content[: len(content) // 2], content[::-1])):
            made.append(folder / f"{number}{whole.suffix}")
            made[-1].write_bytes(part)
        made.append(folder / f"{whole.suffix[1:]}.csv")
        made[-1].write_bytes(content)
        made.append(folder / f"csv{whole.suffix}")
        made[-1].write_text("id,task\n1,낚시\n", encoding="utf-8")
    (folder / "locked.xlsx").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    with zipfile.ZipFile(folder / "zip.xlsx", "w") as archive:
        archive.writestr("a.txt", "a")
    return [*made, folder / "locked.xlsx", folder / "zip.xlsx"]


def test_damaged_files_are_named(tmp_path: Path) -> None:
    for path in damaged(tmp_path):
        with pytest.raises(KjcmError, match=path.name):
            list(read_chunks(path, 10))
