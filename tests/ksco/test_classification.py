"""KSCO-7 as the package has it, spellings of codes, and classifications read from a file."""

import csv
import unicodedata
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pandas as pd
import pytest

from kjcm.errors import ConfigError, KjcmError
from kjcm.ksco.classification import Classification, load_classification, prefixes_of, read_classification

# The paper's own wordings (METHODS, Tables 1, 2 and 4).
ENGLISH = {
    "1": "Managers",
    "2": "Professionals and related workers",
    "3": "Clerks",
    "4": "Service workers",
    "5": "Sales workers",
    "6": "Skilled agricultural, forestry and fishery workers",
    "7": "Craft and related trades workers",
    "8": "Plant, machine operators and assemblers",
    "9": "Elementary workers",
    "111": "Legislators, Senior Government Officials and Senior Officials of Public Organization",
    "112": "Senior Corporate Officers",
    "122": "Marketing, Advertising and Public Relations Managers",
    "134": "Culture and Art Related Managers",
    "135": "Information and Communications Related Managers",
    "149": "Other Construction, Electricity and Production Related Managers",
    "153": "Environmental, Cleaning, and Protective Service Related Managers",
    "159": "Other Sales and Customer Service Managers",
    "225": "Telecommunication and Broadcast Transmissions Equipment Technicians",
    "235": "Mechanical and Robot Engineers and Technicians",
    "285": "Designers",
    "287": "Culinary Arts Related Professionals",
    "288": "Cultural Art Planners and Agents",
    "320": "Finance Clerks",
    "630": "Fishery Related Workers",
    "851": "Metal Work Machinery Operators",
    "861": "Power Generation and Distribution Equipment Operators",
    "872": "Freight Train Related Workers",
    "874": "Freight-handling Equipment Operators",
    "875": "Construction and Mining Machines Operators",
    "876": "Ship Workers and Related Workers",
    "910": "Construction and Mining Laborers",
    "A09": "Other Armed Forces",
}
KOREAN = {
    "285": "디자이너",
    "320": "금융 사무 종사자",
    "630": "어업 관련 종사자",
    "910": "건설 및 광업 단순 종사자",
    "861": "발전 및 배전장치 조작원",
    "874": "물품 이동 장비 조작원",
    "851": "금속 공작 기계 조작원",
    "235": "기계·로봇공학 기술자 및 시험원",
    "875": "건설 및 채굴기계 운전원",
}


def test_ksco7_has_10_52_156_and_450_codes(ksco: Classification) -> None:
    assert [len(ksco.codes(level)) for level in range(1, 6)] == [10, 52, 156, 450, 0]
    assert ksco.codes(1) == ("1", "2", "3", "4", "5", "6", "7", "8", "9", "A")


def test_ksco7_equals_the_shared_table_code_by_code(ksco: Classification, shared: Callable[[str], Path]) -> None:
    with shared("data/ksco7/ksco7.tsv").open(encoding="utf-8", newline="") as stream:
        table = [row for row in csv.DictReader(stream, delimiter="\t") if int(row["level"]) <= 4]
    expected = {row["code"]: (int(row["level"]), row["title_ko"], row["parent"] or None) for row in table}
    assert {c: (ksco.levels[c], ksco.title(c), ksco.parent(c)) for c in ksco.levels} == expected


def test_titles_are_the_articles_where_it_prints_one(ksco: Classification) -> None:
    assert {code: ksco.title(code, "en") for code in ENGLISH} == ENGLISH
    assert {code: ksco.title(code) for code in KOREAN} == KOREAN


def test_english_titles_cover_the_first_three_levels(ksco: Classification) -> None:
    assert [c for level in (1, 2, 3) for c in ksco.codes(level) if not ksco.title(c, "en").strip()] == []
    assert ksco.title("1110", "en") == ""
    assert ksco.title("nothing") == ""


def test_parent_index_and_codes_below(ksco: Classification) -> None:
    assert [ksco.parent(code) for code in ("1110", "111", "11", "1", "A01")] == ["111", "11", "1", None, "A0"]
    positions = ksco.index(3)
    assert (positions["111"], positions["112"], positions["A09"]) == (0, 1, 155)
    assert ksco.below("11") == ("11", "111", "1110", "112", "1120")
    assert len(ksco.below("1")) == sum(code.startswith("1") for code in ksco.levels)


@pytest.mark.parametrize(
    ("code", "level", "expected"),
    [("1110", 3, "111"), ("1110", 1, "1"), ("111", 3, "111"), ("111", None, "111"), ("11", 3, None), ("7777", 3, None)],
)
def test_at_level(ksco: Classification, code: str, level: int | None, expected: str | None) -> None:
    assert ksco.at_level(code, level) == expected


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("111", "111"), ("0111", "111"), ("0999", "999"), ("01110", "1110"), ("A01", "A01"), ("a01", "A01"),
        ("1001", "A01"), ("1002", "A02"), ("1009", "A09"), ("1110", "1110"), ("", None), ("0", None),
        ("998", None), ("1111", None), ("11.5", None), ("어부", None), ("100", "A0"),
    ],
)  # fmt: skip
def test_spellings_of_a_code(ksco: Classification, text: str, code: str | None) -> None:
    assert ksco.resolve(text) == code


def test_reads_the_shared_table_as_it_stands(shared: Callable[[str], Path]) -> None:
    whole = load_classification("ksco7", shared("data/ksco7/ksco7.tsv"))
    assert [len(whole.codes(level)) for level in range(1, 6)] == [10, 52, 156, 450, 1231]
    assert whole.title("11101") == "국회의원"
    assert whole.at_level("11101", 3) == "111"
    assert whole.below("1110") == ("1110", "11101", "11102", "11103", "11104", "11105", "11106")
    assert whole.title("111", "en") == ENGLISH["111"]


@pytest.mark.parametrize("kind", ["tsv", "csv", "xlsx"])
@pytest.mark.parametrize("columns", [["code", "title"], ["Code", "Level", "Title_ko", "Parent", "Description"]])
def test_reads_other_classifications_with_and_without_level_and_parent(
    tmp_path: Path, kind: str, columns: list[str]
) -> None:
    rows = {
        "code": [1, 11, 1111, 2], "level": [1, 2, 3, 1], "title": ["가", "나", "다", "라"],
        "parent": [None, 1, 11, None], "description": ["", "", "설명", ""],
    }  # fmt: skip
    frame = pd.DataFrame({name: rows[name.lower().removesuffix("_ko")] for name in columns})
    path = tmp_path / f"soc.{kind}"
    if kind == "xlsx":
        frame.to_excel(path, index=False)
    else:
        frame.to_csv(path, index=False, sep="\t" if kind == "tsv" else ",")
    found = load_classification("from_data", path)
    assert dict(found.titles) == {"1": "가", "11": "나", "1111": "다", "2": "라"}
    assert dict(found.parents) == {"1": None, "11": "1", "1111": "11", "2": None}
    full = len(columns) > 2  # without the column, a level is a code's length
    assert dict(found.levels) == {"1": 1, "11": 2, "1111": 3 if full else 4, "2": 1}
    assert dict(found.descriptions) == ({"1111": "설명"} if full else {})
    assert found.below("1") == ("1", "11", "1111")


@pytest.mark.parametrize("extra", ["", ",level,parent"])
def test_a_file_of_five_digit_codes_alone_stands_below_ksco(tmp_path: Path, extra: str) -> None:
    path = tmp_path / "five.csv"
    more = ",5,1110" if extra else ""
    path.write_text(f"code,title{extra}\n11101,국회의원{more}\n11102,지방의회 의원{more}\n", encoding="utf-8")
    found = load_classification("ksco7", path)
    assert found.codes(5) == ("11101", "11102")
    assert found.parent("11101") == "1110"
    assert found.resolve("11101") == "11101"
    assert found.at_level("11101", 3) == "111"
    assert found.below("111") == ("111", "1110", "11101", "11102")


def test_a_file_of_descriptions_alone_adds_them(tmp_path: Path, ksco: Classification) -> None:
    path = tmp_path / "manual.csv"
    path.write_text("code,title,description\n111,다른 제목,법을 만든다\n2221,나,짠다\n", encoding="utf-8")
    found = load_classification("ksco7", path)
    assert dict(found.descriptions) == {"111": "법을 만든다", "2221": "짠다"}
    assert found.levels == ksco.levels
    assert found.title("111") == ksco.title("111")  # KSCO's own title stays


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("code,title\n111,a\nX11,b\n", "'X11'"),
        ("code,title\n1999,a\n", "'1999'"),  # begins as KSCO-7's 1 does, and is none of its four-digit codes
        ("code,level,title,parent\n111,2,a,1\n", "'111'"),
    ],
)
def test_refuses_codes_that_are_not_kscos(tmp_path: Path, text: str, shown: str) -> None:
    path = tmp_path / "other.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=shown) as caught:
        load_classification("ksco7", path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("code,title\n1,a\n2,b\n1,c\n", "'1' occur more than once"),
        ("code,name\n1,a\n", "has no column 'title'"),
        ("title\na\n", "has no column 'code'"),
        ("code,title,level\n1,a,first\n", "column 'level': 'first'"),
    ],
)
def test_refuses_unusable_tables(tmp_path: Path, text: str, shown: str) -> None:
    path = tmp_path / "broken.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(KjcmError, match=shown) as caught:
        read_classification(path)
    assert str(path) in str(caught.value)


def test_unknown_name_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'isco'.*'ksco7', 'ksco8' or 'from_data'"):
        load_classification("isco")


def test_from_data_takes_codes_as_they_stand() -> None:
    soc = load_classification("from_data")
    assert [soc.resolve(text) for text in ("0111", "1001", "a1", "11-1021.00", "")] == [
        "0111", "1001", "a1", "11-1021.00", None,
    ]  # fmt: skip
    assert [soc.at_level("0111", level) for level in (None, 4, 2, 5)] == ["0111", "0111", "01", None]
    assert soc.codes(3) == ()
    assert soc.title("0111") == ""


@pytest.mark.parametrize(
    ("codes", "level", "fine"),
    [
        (["110", "1101"], 3, False),
        (["110", "1101"], 2, False),
        (["11", "111"], 2, False),
        (["0110", "1101"], 3, True),
        (["0110", "110", "1101"], 3, True),
        (["11", "1101"], 3, True),
        (["110", "1101"], None, True),
        (["A01", "1101"], 3, True),
        (["36.00", "36.0"], 2, True),
        (["110.0", "1101.0"], 3, False),
        (["110.0", "1101.0"], 4, False),
        (["36.0", "37.0", "36"], 2, True),
    ],
)
def test_numbers_that_lost_their_zeros_are_refused(codes: list[str], level: int | None, fine: bool) -> None:
    other = load_classification("from_data")
    with nullcontext() if fine else pytest.raises(KjcmError, match=r"t\.csv.*leading zeros"):
        other.require_zeros(codes, level, "t.csv")
    load_classification("ksco7").require_zeros(codes, level, "t.csv")


def test_the_beginnings_of_like_codes_are_the_groups_above() -> None:
    assert prefixes_of(["1101", "2310"]) == [("1", "11", "110"), ("2", "23", "231")]
    for others in (["11", "111"], ["36.00", "36.11"], ["cook", "maid"], ["사무원", "조리사"], ["1", "2"]):
        assert prefixes_of(others) == [(), ()]


def test_labels_are_classes_in_one_spelling_and_text_is_not_cut() -> None:
    other, ksco = load_classification("from_data"), load_classification("ksco7")
    spelt = ["요리사 보조", unicodedata.normalize("NFD", "요리사 보조"), "요리사\u00a0보조", "요리사\u200b  보조 "]
    assert {other.resolve(text) for text in spelt} == {"요리사 보조"}
    assert [other.resolve(text) for text in ("36.00", "36.0", "36", "\u200b")] == ["36.00", "36.0", "36", None]
    assert [ksco.resolve(text) for text in ("111.0", "111.00", "\u200b111")] == ["111"] * 3
