"""Classifications and correspondences are found in workbooks of the shapes that statistics offices publish."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kjcm.errors import KjcmError
from kjcm.ksco.classification import load_classification
from kjcm.ksco.workbook import read_workbook
from kjcm.read.options import PLAIN, ReadOptions
from kjcm.run_folder.model_folder import load_settings
from tests.conftest import Run, command
from tests.ksco.workbooks import description, number, save, title, tree


def listed(path: Path, rows: list[list[Any]]) -> Path:
    return save(path, {"개요": [["제8차 한국표준직업분류"], ["통계청"]], "분류": rows})


def described(code: str) -> list[Any]:
    return [number(code), f"　{title(code)} ", f"Workers {code}", description(code), "다른 일"]


def written(table: pd.DataFrame, path: Path) -> Path:
    table.to_csv(path, sep="\t", index=False)
    return path


HEADER = ["분류코드", "분류항목명", "영문명", "설명", "제외"]


def test_a_list_of_codes_with_descriptions(tmp_path: Path) -> None:
    rows = [["한국표준직업분류 항목표"], [], HEADER, *map(described, tree()), ["※ 주: 군인은 A"]]
    found = read_workbook(listed(tmp_path / "a.xlsx", rows), PLAIN)
    assert found.kind == "classification"
    table = found.table.set_index("code")
    assert list(table.index) == tree()
    assert list(table["level"]) == [len(code) for code in tree()]
    assert table.loc["A1210", "parent"] == "A121" and table.loc["A", "parent"] == ""
    assert table["title"].to_dict() == {code: title(code) for code in tree()}
    assert table.loc["111", "description"] == description("111").strip()
    assert table.loc["A1", "title_en"] == "Workers A1"
    assert found.report == (
        "worksheet '분류', header: 3 rows",
        "codes: column A '한국표준직업분류 항목표 분류코드'",
        "titles: column B '분류항목명'; English: column C '영문명'",
        "descriptions: column D '설명', for 230 codes",
        "groups a level: 10 / 20 / 40 / 80 / 80",
        "left out: 1 row without a code",
    )


def test_a_column_a_level_with_merged_cells(tmp_path: Path) -> None:
    """Each level has a column of codes and one of titles, and a group's cells are merged over its rows."""
    header = [["대분류", None, "중분류", None, "소분류", None], ["코드", "이름"] * 3]
    rows, merged = list(header), ["A1:B1", "C1:D1", "E1:F1"]
    for minor in (code for code in tree() if len(code) == 3):
        above = [minor[:end] for end in (1, 2, 3)]
        rows.append([cell for code in above for cell in (number(code), title(code))])
    for level, step in (("AB", 4), ("CD", 2)):
        for column in level:
            for begin in range(3, len(rows), step):
                merged.append(f"{column}{begin}:{column}{begin + step - 1}")
    found = read_workbook(save(tmp_path / "a.xlsx", {"항목표": rows}, merged), PLAIN)
    codes = [code for code in tree() if len(code) <= 3]
    assert dict(zip(found.table["code"], found.table["title"], strict=True)) == {code: title(code) for code in codes}
    assert "groups a level: 10 / 20 / 40" in found.report


def test_a_staggered_list_and_codes_with_titles_in_one_cell(tmp_path: Path) -> None:
    codes = [code for code in tree() if len(code) <= 3]
    staggered = [["대", "중", "소", "항목명"]]
    for code in codes:
        cells: list[Any] = [None] * 4
        cells[len(code) - 1], cells[3] = number(code), title(code)
        staggered.append(cells)
    together = [["항목"], *([f"{code}　{title(code)}"] for code in codes)]
    wanted = {code: title(code) for code in codes}
    for name, rows in (("a.xlsx", staggered), ("b.xlsx", together)):
        found = read_workbook(save(tmp_path / name, {"x": rows}), PLAIN)
        assert dict(zip(found.table["code"], found.table["title"], strict=True)) == wanted


def test_a_description_over_several_rows(tmp_path: Path) -> None:
    codes = [code for code in tree() if len(code) <= 2]
    rows: list[list[Any]] = [["코드", "항목명", "설명"]]
    for code in codes:
        rows += [[code, title(code), "첫째 줄의 설명"], [None, None, "둘째 줄의 설명"]]
    merged = [f"{column}{row}:{column}{row + 1}" for column in "AB" for row in range(2, len(rows), 2)]
    found = read_workbook(save(tmp_path / "a.xlsx", {"x": rows}, merged), PLAIN)
    assert set(found.table["description"]) == {"첫째 줄의 설명\n둘째 줄의 설명"}


def test_an_industry_has_letters_above_its_digits(tmp_path: Path) -> None:
    rows = [
        ["코드", "항목명"],
        *([code, f"산업 {'가나다라'[place]}"] for place, code in enumerate(["A", "01", "011", "B"])),
    ]
    found = read_workbook(save(tmp_path / "a.xlsx", {"x": rows}), PLAIN)
    assert dict(zip(found.table["code"], found.table["parent"], strict=True)) == {
        "01": "A",
        "011": "01",
        "A": "",
        "B": "",
    }


def test_a_list_that_begins_with_the_letter_a_has_no_sections(tmp_path: Path) -> None:
    """KSCO's majors are digits and the letter A: a digit code's parent is its first digit, whatever group comes first."""
    codes = ["A", "A1", "1", "11", "2", "21", "3", "31"]
    rows = [["코드", "항목명"], *([code, title(code)] for code in codes)]
    table = read_workbook(save(tmp_path / "a.xlsx", {"x": rows}), PLAIN).table
    assert dict(zip(table["code"], table["parent"], strict=True)) == {code: code[:-1] for code in codes}
    assert load_classification("ksco8", written(table, tmp_path / "a.tsv")).ancestors("21") == ("2",)


def isco_rows() -> list[list[Any]]:
    """Return 701 rows of 700 pairs: every unit group with up to three partners, two of which begin with a zero."""
    units = [f"{major}{rest}" for major in "123456789" for rest in range(110, 170)]
    partners = [str(number) for number in range(1111, 9999) if "0" not in str(number)][::6]
    pairs = list(zip(units, partners, strict=False))
    pairs += [(unit, str(int(partner) + 1)) for unit, partner in pairs[: 698 - len(pairs)]]
    pairs = [*sorted(pairs), ("A011", "110"), ("A012", "210")]
    assert len({*pairs}) == 700
    return [
        [number(one), "한 한국", int(other), "a title", "*" if place % 9 == 0 else None]
        for place, (one, other) in enumerate([*pairs, pairs[-1]])
    ]


def test_occupations_and_the_international_ones(tmp_path: Path) -> None:
    header = ["한국코드", "한국분류", "국제코드", "국제분류", "대분류벗어난 항목"]
    notes = [["연계표의 구성"], ["4-1. 세분류 연계표", 4]]
    minors = [
        ["한국코드", "한국분류", "국제코드", "국제분류"],
        *([111 + place, "소", 121 + 2 * place, "s"] for place in range(9)),
    ]
    path = save(
        tmp_path / "a.xlsx",
        {"목차": notes, "3-1. 소분류 연계표": minors, "4-1. (연계표) 세분류 연계표(KSCO-ISCO)": [header, *isco_rows()]},
    )
    found = read_workbook(path, PLAIN)
    assert found.kind == "correspondence"
    assert len(found.table) == 700
    assert list(found.table.columns) == ["from", "to", "from_title", "to_title"]
    last = found.table[found.table["from"] == "A012"].iloc[0]
    assert tuple(last) == ("A012", "0210", "한 한국", "a title")
    assert set(map(len, found.table["to"])) == {4}
    lines = "\n".join(found.report)
    assert "worksheet '4-1. (연계표) 세분류 연계표(KSCO-ISCO)', header: 1 row" in lines
    assert "700 pairs in 701 rows (1 row repeats a pair)" in lines
    assert "column C '국제코드': added leading zeros to 2 codes, to 4 digits" in lines
    assert "other worksheets with codes: '3-1. 소분류 연계표'" in lines
    other = read_workbook(path, ReadOptions(sheet="3-1. 소분류 연계표"))
    assert len(other.table) == 9
    turned = read_workbook(path, PLAIN, ["국제코드", "한국코드"])
    assert {*zip(turned.table["to"], turned.table["from"], strict=True)} == {
        *zip(found.table["from"], found.table["to"], strict=True)
    }


def keco_rows() -> list[list[Any]]:
    """Return rows of 0-9, 01-99, 011-999 and 0110-9990, as numbers, each with one or two codes of another table."""
    rows, place = [], 0
    for major in "0123456789":
        for unit in ("110", "120", "211", "212"):
            code = f"{major}{unit}"
            partners = [str(1110 + 7 * place), str(1111 + 7 * place)][: 1 + place % 2]
            cells = [cell for end in (1, 2, 3, 4) for cell in (int(code[:end]), f"고용 {'가나다라'[end - 1]}")]
            rows += [[*cells, int(partner), "직업"] for partner in partners]
            place += 1
    return rows


def test_employment_codes_that_lost_their_zeros(tmp_path: Path) -> None:
    header = [
        ["한국고용직업분류 2025와 한국표준직업분류의 연계"],
        ["한국고용직업분류", None, None, None, None, None, None, None, "한국표준직업분류", None],
        ["대분류", None, "중분류", None, "소분류", None, "세분류", None, "코드", "항목명"],
    ]
    merged = ["A1:J1", "A2:H2", "I2:J2", "A3:B3", "C3:D3", "E3:F3", "G3:H3"]
    rows = [*header, *keco_rows(), [None], ["※ 2025년 기준"]]
    found = read_workbook(save(tmp_path / "a.xlsx", {"통계분류포털 요청": rows}, merged), PLAIN)
    assert found.kind == "correspondence"
    codes = sorted({*found.table["from"]})
    assert codes[:4] == ["0110", "0120", "0211", "0212"] and set(map(len, codes)) == {4} and len(codes) == 40
    assert len(found.table) == 60
    assert "20 codes with one partner, 20 with several" in found.report
    lines = "\n".join(found.report)
    assert (
        "header: 3 rows" in lines
        and "'한국고용직업분류 2025와 한국표준직업분류의 연계 한국고용직업분류 세분류'" in lines
    )
    assert "added leading zeros to 4 codes" in lines


@pytest.mark.parametrize("encoding", ["utf-8-sig", "cp949"])
def test_old_and_new_codes_as_csv(tmp_path: Path, encoding: str) -> None:
    text = "구분류코드,구분류명,신분류코드,신분류명\n"
    text += "".join(f"{1000 + place},옛 이름,{1000 + place + place // 3},새 이름\n" for place in range(30))
    text += "1000,옛 이름,1001,새 이름\n1050,폐지,,\n,,1900,신설\n"
    path = tmp_path / "a.csv"
    path.write_text(text, encoding=encoding)
    found = read_workbook(path, PLAIN)
    assert len(found.table) == 31
    assert "29 codes with one partner, 1 with several" in found.report
    assert "left out: 1 row without a code in column C '신분류코드'" in found.report
    assert "left out: 1 row without a code in column A '구분류코드'" in found.report


def test_industries_as_csv_keep_their_zeros(tmp_path: Path) -> None:
    """Text with zeros is left alone; a CSV file whose zeros a spreadsheet program removed gets them back."""
    old = [f"{division:02d}{rest}" for division in range(1, 40) for rest in ("110", "121")]
    new = [f"{division:02d}{rest}" for division in range(1, 40) for rest in ("111", "121")]
    whole = "\n".join(["ksic10,ksic11", *map(",".join, zip(old, new, strict=True))])
    lost = "\n".join(["ksic10,ksic11", *(f"{int(one)},{int(other)}" for one, other in zip(old, new, strict=True))])
    for name, text in (("whole.csv", whole), ("lost.csv", lost)):
        (tmp_path / name).write_text(text + "\n", encoding="utf-8")
        table = read_workbook(tmp_path / name, PLAIN).table
        assert [*zip(table["from"], table["to"], strict=True)] == [*zip(old, new, strict=True)]


def test_codes_of_two_lengths_in_the_order_of_text_lost_no_zeros(tmp_path: Path) -> None:
    old = ["1110", "11201", "11202", "1130", "1140", "11501", "11502"]
    rows = [["from", "to"], *([int(code), 2000 + place] for place, code in enumerate(old))]
    found = read_workbook(save(tmp_path / "a.xlsx", {"x": rows}), PLAIN)
    assert list(found.table["from"]) == old


def industries() -> list[str]:
    """Return KSIC's shape: two sections with divisions 01 to 12, and their groups of two levels."""
    codes = ["A", "B"]
    for division in range(1, 13):
        codes += [f"{division:02d}", *(f"{division:02d}{group}" for group in "12")]
        codes += [f"{division:02d}{group}{unit}" for group in "12" for unit in "012"]
    return sorted(codes)


def section(code: str) -> str:
    return "A" if code < "06" else "B"


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("ending", ["xlsx", "csv"])
def test_a_column_of_parents_is_no_second_classification(tmp_path: Path, side: str, ending: str) -> None:
    """Else the titles and the tree would be lost; sections are known from it, too."""
    for name, codes in (("ksco", tree()), ("ksic", industries())):
        parents = {code: code[:-1] for code in codes}
        if name == "ksic":
            parents |= {code: section(code) for code in codes if len(code) == 2}
        rows = [["상위코드", "코드", "분류명"], *([parents[code], code, f"가 {code}"] for code in codes)]
        if side == "right":
            rows = [[code, above, text] for above, code, text in rows]
        path = tmp_path / f"{name}.{ending}"
        if ending == "xlsx":
            save(path, {"x": rows})
        else:
            pd.DataFrame(rows).to_csv(path, header=False, index=False)
        found = read_workbook(path, PLAIN)
        assert found.kind == "classification"
        assert dict(zip(found.table["code"], found.table["parent"], strict=True)) == parents
        assert any("left out" in line and "'상위코드'" in line for line in found.report)
        forced = read_workbook(path, PLAIN, ["코드", "상위코드"] if side == "left" else ["상위코드", "코드"])
        assert forced.kind == "correspondence" and len(forced.table) == sum(map(bool, parents.values()))
        again = read_workbook(written(found.table, tmp_path / "a.tsv"), PLAIN)  # kjcm's own table, with parents
        pd.testing.assert_frame_equal(again.table, found.table)


@pytest.mark.parametrize("by", ["from", "to", "shuffled", "right"])
def test_lost_zeros_are_found_in_any_order_of_the_rows(tmp_path: Path, by: str) -> None:
    random = np.random.Generator(np.random.PCG64(1))
    codes = [f"{sub:02d}{rest}" for sub in range(1, 14) for rest in range(11, 35)]
    pairs = [(code, str(partner)) for code, partner in zip(codes, random.permutation(len(codes)) + 1110, strict=True)]
    if by == "to":
        pairs.sort(key=lambda pair: pair[1])
    elif by in ("shuffled", "right"):
        random.shuffle(pairs)
    cells = [[int(one), "가나", int(other), "다라"] for one, other in pairs]
    cells = [row[2:] + row[:2] for row in cells] if by == "right" else cells
    header = ["가", "이름", "나", "이름"]
    found = read_workbook(save(tmp_path / "a.xlsx", {"x": [header, *cells]}), PLAIN)
    assert sorted(found.table["to" if by == "right" else "from"]) == codes
    assert "added leading zeros to 216 codes" in "\n".join(found.report)


def test_shorter_codes_that_stay_are_counted(tmp_path: Path) -> None:
    old = ["1110", "11201", "11202", "1130", "1140", "11501", "11502"]
    rows = [["from", "to"], *([int(code), 2000 + place] for place, code in enumerate(old))]
    found = read_workbook(save(tmp_path / "a.xlsx", {"x": rows}), PLAIN)
    assert "column A 'from': 3 codes with fewer digits than others" in "\n".join(found.report)


@pytest.mark.parametrize("unit", [None, "명", "표본 적음", "1200 추정"])
def test_numbers_next_to_codes_are_no_codes(tmp_path: Path, unit: str | None) -> None:
    """Also with a unit or a remark on the right of some or all of them, or in one of the cells."""
    random = np.random.Generator(np.random.PCG64(1))
    counts = np.round(10 ** random.uniform(1, 5, len(tree()))).astype(int).tolist()
    rows = [[code, title(code), count] for code, count in zip(tree(), counts, strict=True)]
    if unit == "1200 추정":
        rows[5][2] = unit
    elif unit:
        rows = [[*row, unit if unit == "명" or row[2] < 100 else ""] for row in rows]
    found = read_workbook(save(tmp_path / "a.xlsx", {"x": [["코드", "분류명", "취업자수", "단위"], *rows]}), PLAIN)
    assert found.kind == "classification" and list(found.table["code"]) == tree()
    assert "left out: column C '취업자수'" in "\n".join(found.report)


def test_codes_of_three_lengths_in_any_order_are_codes_if_titles_follow(tmp_path: Path) -> None:
    random = np.random.Generator(np.random.PCG64(1))
    new = random.integers(10, 99_999, 60).tolist()
    picks = random.integers(0, len(new), len(tree())).tolist()
    rows = [[code, title(code), new[pick], f"새 {pick}"] for code, pick in zip(tree(), picks, strict=True)]
    found = read_workbook(save(tmp_path / "a.xlsx", {"x": [["구코드", "구명", "신코드", "신명"], *rows]}), PLAIN)
    assert found.kind == "correspondence"
    assert dict(zip(found.table["from"], found.table["to_title"], strict=True)) == {row[0]: row[3] for row in rows}


def test_titles_behind_both_codes_are_in_the_order_of_the_codes(tmp_path: Path) -> None:
    rows = [[code, f"9{code}", title(code), f"새 {code}"] for code in tree() if len(code) == 4 and code.isdigit()]
    header = ["구코드", "신코드", "구명", "신명"]
    path = save(tmp_path / "a.xlsx", {"x": [header, *rows], "y": [header[:3], *(row[:3] for row in rows)]})
    with pytest.raises(KjcmError, match="no titles"):
        read_workbook(path, ReadOptions(sheet="x"))
    for columns in (["신코드", "구코드"], ["구코드", "신코드"]):
        found = read_workbook(path, ReadOptions(sheet="x"), columns)
        names = ["from_title", "to_title"] if columns[0] == "구코드" else ["to_title", "from_title"]
        assert found.table[names].to_numpy().tolist() == [row[2:] for row in rows]
        assert "titles: column C '구명', D '신명'" in found.report
    more = [
        [one, "=", other, *titles, "분할" if place % 2 else "통합"] for place, (one, other, *titles) in enumerate(rows)
    ]
    other = save(tmp_path / "b.xlsx", {"x": [["구코드", "관계", "신코드", "구명", "신명", "변경"], *more]})
    assert read_workbook(other, PLAIN, ["구코드", "신코드"]).table.equals(found.table)
    alone = read_workbook(path, ReadOptions(sheet="y"), ["구코드", "신코드"]).table
    assert {*alone["from_title"], *alone["to_title"]} == {""}


def test_a_banner_above_several_columns_describes_none(tmp_path: Path) -> None:
    rows = [[code, title(code)] for code in tree()]
    banner = ["제8차 분류 항목 및 해설 (군인 제외)"] * 2  # as a merged cell is read
    found = read_workbook(save(tmp_path / "a.xlsx", {"x": [banner, ["코드", "이름"], *rows]}), PLAIN).table
    assert found["title"].tolist() == [row[1] for row in rows] and {*found["description"]} == {""}


def test_a_remark_is_no_title(tmp_path: Path) -> None:
    rows = [
        [code, title(code), year, f"제{year}차 개정"]
        for place, code in enumerate(tree())
        for year in [2007 + place % 2]
    ]
    path = save(tmp_path / "a.xlsx", {"x": [["코드", "이름", "개정", "비고"], *rows]})
    with pytest.raises(KjcmError, match="column C '개정' have no titles"):
        read_workbook(path, PLAIN)


@pytest.mark.parametrize("more", [[], ["그 밖의 일을 한다"]])
def test_years_next_to_codes_must_be_named_or_not(tmp_path: Path, more: list[str]) -> None:
    """Without a title a number may be a code or not, as with a different title in each row."""
    rows = [[code, title(code), 2007 + 10 * (place % 2), *(f"{text} {place}" for text in more)]
            for place, code in enumerate(tree())]  # fmt: skip
    path = save(tmp_path / "a.xlsx", {"x": [["코드", "분류명", "개정연도", *more], *rows]})
    with pytest.raises(KjcmError, match="several titles each" if more else "no titles") as error:
        read_workbook(path, PLAIN)
    assert "column C '개정연도'" in str(error.value) and "columns=[CODE]" in str(error.value)
    assert list(read_workbook(path, PLAIN, ["코드"]).table["title"]) == list(map(title, tree()))
    assert read_workbook(path, PLAIN, ["코드", "개정연도"]).kind == "correspondence"


def test_levels_are_read_with_the_column_that_is_named(tmp_path: Path) -> None:
    """The finest column of a classification brings the levels above it."""
    minors = [code for code in tree() if len(code) == 3]
    rows = [[code[:1], code[:2], code, title(code), 2007 + place % 2] for place, code in enumerate(minors)]
    path = save(tmp_path / "a.xlsx", {"x": [["대", "중", "소", "이름", "연도"], *rows]})
    assert list(read_workbook(path, PLAIN, ["소"]).table["code"]) == [code for code in tree() if len(code) <= 3]
    with pytest.raises(KjcmError, match="both name column A"):
        read_workbook(save(tmp_path / "b.xlsx", {"x": [["소분류 코드", "연도"], *([r[2], r[4]] for r in rows)]}), PLAIN,
                      ["소분류", "코드"])  # fmt: skip


def test_a_list_of_leaves_with_parents_has_to_say_what_it_is(tmp_path: Path) -> None:
    rows = [[code, code[:3], title(code)] for code in tree() if len(code) == 4]
    path = save(tmp_path / "a.xlsx", {"x": [["코드", "상위코드", "이름"], *rows]})
    with pytest.raises(KjcmError, match="has the beginnings of the codes in column A"):
        read_workbook(path, PLAIN)
    assert len(read_workbook(path, PLAIN, ["코드", "상위코드"]).table) == 80


def test_industries_as_numbers_are_told_to_be_stored_as_text(tmp_path: Path) -> None:
    rows = [[number(code), f"가나 {code}"] for code in industries()]
    with pytest.raises(KjcmError, match=r"Store codes as text if they lost leading zeros\. Else correct the file"):
        read_workbook(save(tmp_path / "a.xlsx", {"x": [["코드", "이름"], *rows]}), PLAIN)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [["코드", "항목명"], ["1", "가"], ["11", "나"], ["121", "다"]],
            "the parents of 1 code are missing: '121 (parent 12)'",
        ),
        ([["코드", "항목명"], ["1", "가"], ["11", "나"], ["11", "다"]], "row 4: code 11 has the titles '나', '다'"),
        ([["이름", "값"], ["가", "나"]], "no worksheet has a column of codes"),
        (
            [["a", "b", "c"], *([f"1{n}10", f"2{n}10", f"3{n}10"] for n in range(9))],
            "codes of 3 classifications, in columns A 'a', B 'b', C 'c'. Name the columns of a correspondence, columns=[FROM,TO]",
        ),
    ],
)
def test_a_file_that_is_not_usable(tmp_path: Path, rows: list[list[Any]], said: str) -> None:
    with pytest.raises(KjcmError) as error:
        read_workbook(save(tmp_path / "a.xlsx", {"x": rows}), PLAIN)
    assert said in str(error.value) and str(tmp_path / "a.xlsx") in str(error.value)


def test_the_command_writes_what_ksco8_reads(kjcm: Run, tmp_path: Path) -> None:
    listed(tmp_path / "가 (1).xlsx", [HEADER, *map(described, tree())])
    done = kjcm("classification", "import", "가 (1).xlsx", "out=ksco8.tsv")
    assert "groups a level: 10 / 20 / 40 / 80 / 80" in done.stdout
    assert "classification of 230 rows: ksco8.tsv" in done.stdout
    made = load_classification("ksco8", tmp_path / "ksco8.tsv")
    assert (made.name, len(made.codes(5)), made.title("111", "en")) == ("KSCO-8", 80, "Workers 111")
    assert made.resolve("0111") == "111" and made.resolve("1001") is None and made.resolve("135") is None
    assert made.at_level("A1210", 3) == "A12" and made.descriptions["111"] == description("111").strip()
    before = (tmp_path / "ksco8.tsv").read_bytes()
    assert "ksco8.tsv exists" in kjcm("classification", "import", "가 (1).xlsx", "out=ksco8.tsv", code=1).stderr
    assert (tmp_path / "ksco8.tsv").read_bytes() == before
    kjcm("classification", "import", "input=가 (1).xlsx", "out=ksco8.tsv", "overwrite=true")
    own = kjcm("classification", "import", "ksco8.tsv", "out=ksco8.tsv", "overwrite=true", code=2)
    assert "out=ksco8.tsv: is an input" in own.stderr and (tmp_path / "ksco8.tsv").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["out=a.tsv"], 2, "Give input=..."),
        (["a.xlsx"], 2, "Give out=..."),
        (["a.xlsx", "b.xlsx", "out=a.tsv"], 2, "'b.xlsx': this is no KEY=VALUE"),
        (["a.xlsx", "out=a.csv"], 2, "give the name of a .tsv file"),
        (["a.xlsx", "out=a.tsv", "columns=[a,b,c]"], 2, "name two different columns"),
        (["a.xlsx", "out=a.tsv", "columns=[a,a]"], 2, "name two different columns"),
        (["a.xlsx", "out=a.tsv"], 1, "a.xlsx: no such file"),
        (["a.tsv", "out=a.tsv", "overwrite=true"], 1, "a.tsv: no such file"),
        (["a.parquet", "out=a.tsv"], 1, "a.parquet: no such file"),
    ],
)
def test_wrong_commands(words: list[str], code: int, said: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command("classification import", *words) == code
    error = capfd.readouterr().err
    assert said in error and len(error.splitlines()) == 1 and list(here.iterdir()) == []


def test_ksco8_is_trained_and_codes(kjcm: Run, tmp_path: Path) -> None:
    listed(tmp_path / "a.xlsx", [HEADER, *map(described, tree())])
    kjcm("classification", "import", "a.xlsx", "out=ksco8.tsv")
    rows = [(f"{title(code)} {n}번 일터", code) for code in tree() if len(code) == 5 for n in range(3)]
    pd.DataFrame(rows, columns=["task", "code"]).to_csv(tmp_path / "a.csv", index=False)
    data = [
        "data=table", "data.path=a.csv", "data.columns.id=null", "data.columns.workplace=null", "data.cutoff=0",
        "data.columns.position=null", "classification=ksco8", "classification.path=ksco8.tsv",
    ]  # fmt: skip
    kjcm("train", *data, "model=linear", "augment=manual", "data.validation=0.1", "run_dir=run")
    settings = load_settings(tmp_path / "run" / "model")
    assert dict(zip(settings.classes, settings.ancestors, strict=True))["A12"] == ("A", "A1")
    kjcm("predict", "run=run", "input=a.csv", "output=b.csv")
    coded = pd.read_csv(tmp_path / "b.csv", dtype=str)
    assert set(coded["code_1"]) <= {code for code in tree() if len(code) == 3}
    assert set(coded["title_1"]) <= set(map(title, tree()))


def test_ksco8_needs_its_file(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command("prepare", "data=table", "data.path=a.csv", "classification=ksco8") == 2
    assert "classification.path" in capfd.readouterr().err
    assert command("prepare", "data=table", "data.path=a.csv", "classification=ksco8", "classification.path=null") == 2
    assert "kjcm classification import" in capfd.readouterr().err
    (here / "a.tsv").write_text("code\ttitle\n1\t가\n121\t나\n", encoding="utf-8")
    assert command("prepare", "classification=ksco8", "classification.path=a.tsv") == 1
    assert "'121' are no codes of KSCO-8" in capfd.readouterr().err
    (here / "a.tsv").write_text("code\ttitle\n1\t가\n12\t나\n", encoding="utf-8")
    assert command("prepare", "classification=ksco8", "classification.path=a.tsv") == 2
    assert "use classification=ksco7" in capfd.readouterr().err


def test_the_notice_counts_the_groups(tmp_path: Path) -> None:
    """A list with as many groups a level as KSCO-8 has is said to be like it."""
    majors = "123456789A"
    subs = [f"{majors[place % 10]}{place // 10}" for place in range(57)]
    minors = [f"{subs[place % 57]}{place // 57}" for place in range(167)]
    rows = [["코드", "항목명"], *([code, "가나"] for code in sorted([*majors, *subs, *minors]))]
    found = read_workbook(save(tmp_path / "a.xlsx", {"x": rows}), PLAIN)
    assert "groups a level: 10 / 57 / 167, as KSCO-8 has" in found.report
