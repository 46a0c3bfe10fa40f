"""An index of job titles: how it is read, checked and cut to a level."""

import unicodedata
from pathlib import Path

import pandas as pd
import pytest

from kjcm.errors import KjcmError
from kjcm.ksco.classification import Classification, load_classification, read_classification
from kjcm.ksco.title_index import (
    IndexTitle,
    coarser_titles,
    codes_by_title,
    cut_codes,
    index_at_level,
    normalise,
    read_index,
)

ROWS = {
    "Title": ["영상 기자", "영상기자", "용접원(특수)", "", "의원"],
    "code": ["2813", "0281", "74301", "", "A01"],
    "weight": ["2", "1", "0.5", "", "1"],
}


@pytest.fixture(params=[".csv", ".tsv", ".xlsx"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path, table = tmp_path / f"index{request.param}", pd.DataFrame(ROWS)
    if path.suffix == ".xlsx":
        table.to_excel(path, index=False)
    else:
        table.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


def written(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_an_index_is_read_with_the_classifications_codes(file: Path, ksco: Classification) -> None:
    assert read_index(file, ksco) == [
        IndexTitle("영상 기자", "2813", "", 2.0),
        IndexTitle("영상기자", "281", "", 1.0),
        IndexTitle("용접원(특수)", "7430", "", 0.5),
        IndexTitle("의원", "A01", "", 1.0),
    ]


@pytest.mark.parametrize(
    ("title", "normal"),
    [
        ("영상 기자", "영상기자"), (unicodedata.normalize("NFD", "영상기자"), "영상기자"), ("정비ㆍ수리원(A급)", "정비수리원a급"),
        ("IT-개발자, 웹", "it개발자웹"), ("C++ 개발자", "c++개발자"), ("C# 개발자", "c#개발자"),
        (" - ", ""), ("\u200b영상\u00a0기자", "영상기자"),
    ],
)  # fmt: skip
def test_titles_that_differ_in_blanks_case_and_punctuation_are_one(title: str, normal: str) -> None:
    assert normalise(title) == normal == normalise(normal)


def test_codes_are_cut_and_a_title_of_several_codes_has_its_heaviest_first(ksco: Classification) -> None:
    index = [
        IndexTitle("가", "2813"), IndexTitle("가 ", "2812"), IndexTitle("나", "2813"), IndexTitle("나", "743", weight=3),
        IndexTitle("다", "28"),
    ]  # fmt: skip
    cut = index_at_level(index, ksco, 3, "index.tsv")
    assert [one.code for one in cut] == ["281", "281", "281", "743"]
    assert codes_by_title(cut) == {"가": ("281",), "나": ("743", "281")}
    assert codes_by_title(index_at_level(index, ksco, 4, "index.tsv")) == {"가": ("2812", "2813"), "나": ("2813",)}


def test_a_coarser_code_of_another_group_is_found(ksco: Classification) -> None:
    pairs = (("총무", "3121"), ("총 무", "27"), ("회계", "3125"), ("회계", "31"), ("회계", "3"), ("가", "28"), ("가", "3"),
             ("나", "281"), ("나", "312"), ("나", "28"), ("다", "281"))  # fmt: skip
    cut = cut_codes([IndexTitle(*pair) for pair in pairs], ksco, 3, "index.tsv")
    assert coarser_titles(cut, ksco) == {"총무", "나"}


def test_a_section_above_a_division_is_no_other_group(tmp_path: Path) -> None:
    """KSIC's section A contains the group 011, which does not begin with A."""
    (tmp_path / "ksic.tsv").write_text(
        "code\ttitle\tparent\nA\t농업\t\n01\t농업\tA\n011\t작물\t01\nB\t광업\t\n", "utf-8"
    )
    ksic = read_classification(tmp_path / "ksic.tsv")
    index = [IndexTitle("벼재배", "011"), IndexTitle("벼재배", "A"), IndexTitle("채굴", "011"), IndexTitle("채굴", "B")]
    assert coarser_titles(cut_codes(index, ksic, 3, "index.tsv"), ksic) == {"채굴"}


@pytest.mark.parametrize(
    ("lines", "column", "shown"),
    [
        (("title,code", "기자,7799", "a,499", "b,7799"), "code", "lacks: '7799', '499' (3 rows)"),
        (("title,code", "기자,281", "기자,"), "code", "'(empty)' (1 row)"),
        (("title,code", "--,281", "+,281", "★,281", "#,281"), "title", "'--', '+', '★', '#' (4 rows)"),
        (("title,code", ",281"), "title", "(empty)"),
        (("title,code,weight", "기자,281,0", "기자,281,x"), "weight", "'0', 'x' (2 rows)"),
        (("title,weight", "기자,1"), "code", "weight"),
        (("title,code", ","), "", "no job titles"),
    ],
)
def test_a_wrong_index_is_refused(
    lines: tuple[str, ...], column: str, shown: str, tmp_path: Path, ksco: Classification
) -> None:
    path = written(tmp_path / "index.csv", *lines)
    with pytest.raises(KjcmError) as error:
        read_index(path, ksco)
    assert str(path) in str(error.value) and column in str(error.value) and shown in str(error.value)


def test_another_classifications_file_knows_codes_below_its_own(tmp_path: Path) -> None:
    named = load_classification("from_data", written(tmp_path / "codes.csv", "code,title", "11,a", "12,b"))
    path = written(tmp_path / "index.csv", "title,code", "x,1101", "y,12")
    assert [one.code for one in read_index(path, named)] == ["1101", "12"]
    with pytest.raises(KjcmError, match="21"):
        read_index(written(path, "title,code", "x,21"), named)
    bare = load_classification("from_data")
    assert [one.code for one in read_index(path, bare)] == ["21"]
    with pytest.raises(KjcmError, match="zeros"):
        index_at_level([IndexTitle("x", "110"), IndexTitle("y", "1101")], bare, 2, path)
