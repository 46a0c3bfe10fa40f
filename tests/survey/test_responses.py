"""Every kind of file gives the same rows, codes however stored, and what is said of input that cannot be used."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyreadstat
import pytest
from openpyxl import Workbook

from kjcm.errors import ConfigError, KjcmError
from kjcm.ksco.classification import Classification, load_classification
from kjcm.read.table import read_table
from kjcm.survey.responses import kwcs_source, table_source
from tests.conftest import COLUMNS
from tests.survey.making import answers, from_file, from_frame

TEXTS = {
    "id": [1, 2, 3, 4],
    "workplace": ["참치양식장", "은행 예금팀", "부대", "시청"],
    "position": ["어부", None, "군인", "국장"],
    "task": ["참다랑어 키우는 일", "고객 상담", "훈련, 경계", "결재"],
}
EXPECTED = [
    ["1", "", "참치양식장(에서) 어부(로) 참다랑어 키우는 일", "630"],
    ["2", "", "은행 예금팀(에서) 고객 상담", "320"],
    ["3", "", "부대(에서) 군인(으로) 훈련, 경계", "A01"],
    ["4", "", "시청(에서) 국장(으로) 결재", "111"],
]
LABELS = {"code": {630: "어업", 320: "금융", 1001: "장교", 1110: "의원"}}
NUMBERS = [630, 320, 1001, 1110]  # A01 written in digits, and a code of four digits


def text_file(separator: str, encoding: str) -> Callable[[Path], None]:
    frame = pd.DataFrame({**TEXTS, "code": ["0630", "320.0", "A01", "1110"]})
    return lambda path: frame.to_csv(path, index=False, sep=separator, encoding=encoding)


def sheet(path: Path) -> None:
    pd.DataFrame({**TEXTS, "code": pd.Series([630, "0320", 1001.0, "1110"], dtype=object)}).to_excel(path, index=False)


WRITERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "CSV": ("csv", text_file(",", "utf-8")),
    "CSV with BOM": ("csv", text_file(",", "utf-8-sig")),
    "CSV in CP949": ("CSV", text_file(",", "cp949")),
    "TSV": ("tsv", text_file("\t", "utf-8")),
    "TSV in CP949": ("tsv", text_file("\t", "cp949")),
    "XLSX": ("xlsx", sheet),
    "Parquet, float codes": (
        "parquet", lambda path: pd.DataFrame({**TEXTS, "code": [float(n) for n in NUMBERS]}).to_parquet(path)
    ),
    "SPSS with value labels": (
        "sav", lambda path: pyreadstat.write_sav(
            pd.DataFrame({**TEXTS, "code": NUMBERS}), str(path), variable_value_labels=LABELS)
    ),
    "Stata with value labels": (
        "dta", lambda path: pyreadstat.write_dta(
            pd.DataFrame({**TEXTS, "code": NUMBERS}), str(path), variable_value_labels=LABELS)
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_of_file_gives_the_same_cohort(tmp_path: Path, kind: str, ksco: Classification) -> None:
    suffix, write = WRITERS[kind]
    write(tmp_path / f"answers.{suffix}")
    cohort = from_file(tmp_path / f"answers.{suffix}", ksco, cutoff=0)
    assert cohort.rows[["id", "wave", "text", "code"]].to_numpy().tolist() == EXPECTED
    assert cohort.flow["read_by_file"] == {"path": 4}
    lines = "\n".join(f"\t{row}\t{text}\t{code}" for row, _, text, code in EXPECTED)
    assert cohort.cohort_hash == hashlib.sha256(lines.encode()).hexdigest()


def test_codes_however_stored(ksco: Classification) -> None:
    stored = [111, 111.0, "111", "0111", "111.0", " 111 ", 1110, "1110", 1001, 1001.0, "1001", "a01", "A01", "A011"]
    found = from_frame(answers(code=stored), ksco, cutoff=0)
    assert found.rows["code"].tolist() == ["111"] * 8 + ["A01"] * 6
    two = from_frame(answers(code=stored), ksco, cutoff=0, level=2)
    assert two.rows["code"].tolist() == ["11"] * 8 + ["A0"] * 6


def test_five_digit_codes_are_cut_where_the_classification_has_them(
    tmp_path: Path, shared: Callable[[str], Path]
) -> None:
    whole = load_classification("ksco7", shared("data/ksco7/ksco7.tsv"))
    table = answers(code=["11101", 11104, "11109"])
    found = from_frame(table, whole, cutoff=0, drop_invalid=True)
    assert found.rows["code"].tolist() == ["111", "111"]
    assert found.left[["id", "code", "reason"]].to_numpy().tolist() == [["3", "11109", "unknown code"]]


def test_other_classifications_keep_their_codes(ksco: Classification) -> None:
    isco = load_classification("from_data")
    table = answers(code=["0110", "110", "1001", "5223x", "1"])
    as_they_stand = from_frame(table, isco, cutoff=0, level=None)
    assert as_they_stand.rows["code"].tolist() == ["0110", "110", "1001", "5223x", "1"]
    assert as_they_stand.level is None
    cut = from_frame(table, isco, cutoff=0, level=2, drop_invalid=True)
    assert cut.rows["code"].tolist() == ["01", "11", "10", "52"]
    assert cut.left["reason"].tolist() == ["code with fewer digits than data.level"]


def test_columns_are_mapped_and_may_be_absent(ksco: Classification) -> None:
    table = pd.DataFrame({"번호": [7.0, 8.0], "하는 일": ["상담", "낚시"], "직업코드": [320, 630]})
    columns = {"id": "번호", "workplace": None, "position": None, "task": "하는 일", "code": "직업코드"}
    found = from_frame(table, ksco, cutoff=0, columns=columns)
    assert found.rows[["id", "text", "code"]].to_numpy().tolist() == [["7", "상담", "320"], ["8", "낚시", "630"]]


def test_rows_without_an_id_column_are_named_by_content(ksco: Classification) -> None:
    table = answers(code=["111", "320", "320", "630"] * 5).drop(columns="id").assign(task="일")
    settings: dict[str, Any] = {"columns": {"id": None}, "cutoff": 0}
    found = from_frame(table, ksco, **settings)
    shuffled = from_frame(table.sample(frac=1, random_state=0), ksco, **settings)
    assert found.rows["id"].is_unique
    by_id = [dict(zip(cohort.rows["id"], cohort.rows["side"], strict=True)) for cohort in (found, shuffled)]
    assert by_id[0] == by_id[1]
    assert (found.cohort_hash, found.split_hash) == (shuffled.cohort_hash, shuffled.split_hash)


HEADER = "id,workplace,position,task,code"
GOOD = "1,은행,직원,상담,320"
BAD_ROWS = {
    "unknown code": (
        [GOOD, "2,은행,직원,상담,999X"], {},
        ["column 'code': unknown code in 1 of 2 rows: '999X' (first at lines 3)", "data.drop_invalid=true"],
    ),
    "six unknown codes": (
        [f"{n},은행,직원,상담,{code}" for n, code in enumerate("qrstuvq")], {},
        ["unknown code in 7 of 7 rows: 'q', 'r', 's', 't', 'u' and 1 more (first at lines 2, 3, 4)"],
    ),
    "short code": (
        [GOOD, "2,은행,직원,상담,32"], {},
        ["column 'code': code with fewer digits than data.level in 1 of 2 rows: '32'"],
    ),
    "empty code": ([GOOD, "22,은행,직원,상담,"], {}, ["column 'code': empty code in 1 of 2 rows: ids '22'"]),
    "empty text": (
        [GOOD, "22, ,,\t,320"], {}, ["columns 'workplace', 'position', 'task': empty text in 1 of 2 rows: ids '22'"],
    ),
    "duplicate id": ([GOOD, GOOD], {}, ["column 'id': duplicate id in 2 of 2 rows: '1' (first at lines 2, 3)"]),
    "empty id": ([GOOD, ",은행,직원,상담,320"], {}, ["column 'id': empty id in 1 of 2 rows (first at lines 3)"]),
}  # fmt: skip


def refusal(path: Path, classification: Classification, **settings: Any) -> str:
    with pytest.raises(KjcmError) as caught:
        from_file(path, classification, **settings)
    return str(caught.value)


@pytest.mark.parametrize("case", BAD_ROWS)
def test_unusable_rows_are_named_and_can_be_dropped(tmp_path: Path, case: str, ksco: Classification) -> None:
    lines, settings, shown = BAD_ROWS[case]
    path = tmp_path / "answers.csv"
    path.write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
    message = refusal(path, ksco, **settings).replace("column 'workplace', ", "columns 'workplace', ")
    assert [part for part in (str(path), *shown) if part not in message] == [], message
    kept = from_file(path, ksco, drop_invalid=True, cutoff=0, **settings)
    good = sum(line == GOOD and lines.count(line) == 1 for line in lines)
    assert (kept.flow["read"], kept.flow["invalid"], kept.flow["converted"]) == (len(lines), len(lines) - good, good)


@pytest.mark.parametrize("kind", ["csv", "tsv", "xlsx"])
def test_rows_are_numbered_as_in_the_file(tmp_path: Path, kind: str, ksco: Classification) -> None:
    rows = [[], [], HEADER.split(","), GOOD.split(","), [], GOOD.replace("320", "999X").split(",")]
    path = tmp_path / f"answers.{kind}"
    if kind == "xlsx":
        book = Workbook()
        for number, cells in enumerate(rows, 1):
            for place, cell in enumerate(cells, 1):
                book.active.cell(number, place, cell)  # type: ignore[union-attr]
        book.save(path)
    else:
        path.write_text("\n".join({"csv": ",", "tsv": "\t"}[kind].join(row) for row in rows), encoding="utf-8")
    assert "'id': duplicate id in 2 of 3 rows: '1' (first at lines 4, 6)" in refusal(path, ksco)


@pytest.mark.parametrize(
    ("role", "values", "shown"),
    [
        (
            "weight",
            ["1.5", "heavy", "-2"],
            "column 'w': weight is no number of 0 or more in 2 of 3 rows: 'heavy', '-2",
        ),
        ("cluster", ["7", "", "7"], "column 'w': empty cluster in 1 of 3 rows: ids '2'"),
    ],
)
def test_weights_and_clusters_are_checked(ksco: Classification, role: str, values: list[str], shown: str) -> None:
    with pytest.raises(KjcmError) as caught:
        from_frame(answers(code=["111"] * 3, w=values), ksco, columns={role: "w"})
    assert shown in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "settings", "shown"),
    [
        ("a.csv", "id,task,code\n1,상담,320\n", {},
         "has no column 'workplace', 'position'; its columns are 'id', 'task', 'code'. Set data.columns.workplace="),
        ("a.csv", f"{HEADER}\n", {}, "has a header but no rows"),
        ("a.csv", "", {}, "the file is empty"),
        ("a.csv", f"{HEADER}\n{GOOD}\n2,a,b,c,320,more\n", {}, "line 3: the row has 6 cells"),
        ("a.xlsx", "no workbook", {}, "not a readable XLSX file"),
        ("a.parquet", "no table", {}, "not a readable PARQUET file"),
        ("a.sav", "no data", {}, "not a readable SAV file"),
        ("a.dta", "no data", {}, "not a readable DTA file"),
        ("a.hwp", "", {}, "files of kind .hwp cannot be read; the kinds are .csv .tsv"),
        ("a.csv", f"{HEADER}\n{GOOD}\n", {"columns": {"workplace": None, "position": None, "task": None}},
         "map at least one of the columns workplace, position, task; all are null"),
    ],
)  # fmt: skip
def test_unusable_files_are_named(
    tmp_path: Path, name: str, content: str, settings: dict[str, Any], shown: str, ksco: Classification
) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    message = refusal(path, ksco, **settings)
    assert shown in message
    assert str(path) in message


def test_what_is_missing_is_named(tmp_path: Path, ksco: Classification) -> None:
    assert "no such file" in refusal(tmp_path / "gone.csv", ksco)
    with pytest.raises(ConfigError, match=r"data\.columns\.code is null"):
        from_frame(answers(code=["111"]), ksco, columns={"code": None})
    with pytest.raises(ConfigError, match=r"needs data\.path=FILE"):
        table_source(None, None, COLUMNS)
    with pytest.raises(ConfigError, match=r"data\.wave5=FILE and data\.wave6=FILE"):
        kwcs_source(None, None, None, None, COLUMNS)
    with pytest.raises(ConfigError, match=r"data\.crosswalk=FILE"):
        kwcs_source("wave5.csv", None, None, None, COLUMNS)


def test_no_message_shows_more_than_40_characters_of_an_answer(tmp_path: Path, ksco: Classification) -> None:
    answer = "서울 강남구 역삼동 어느 병원에서 환자 접수와 수납을 하며 전화도 받고 예약도 잡아 주는 일을 했음"
    assert len(answer) > 50
    path = tmp_path / "answers.csv"
    path.write_text(f"{HEADER}\n1,은행,직원,상담,{answer}\n", encoding="utf-8")
    shown = [refusal(path, ksco)]
    path.write_text(f"{HEADER}\n{answer},은행,직원,,320\n{answer},은행,직원,상담,320\n", encoding="utf-8")
    shown.append(refusal(path, ksco))
    path.write_text(f"{answer}\n{answer}\n", encoding="utf-8")  # no header: the columns' names are an answer
    shown.append(refusal(path, ksco))
    for message in shown:
        assert answer[:40] in message
        assert answer[:41] not in message


def test_a_separator_at_the_end_of_every_row_shifts_no_column(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    path.write_text("id,task,code\n1,상담,320,\n2,낚시,630,\n", encoding="utf-8")
    try:
        table = read_table(path)
    except KjcmError:
        return  # refusing it is right too; taking ids for an index and codes for answers is not
    assert table["id"].tolist() == ["1", "2"]
    assert table["code"].tolist() == ["320", "630"]
