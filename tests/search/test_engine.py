"""The search: what each kind of query finds, and in which order."""

from dataclasses import replace

import pytest

from kjcm.ksco.classification import Classification, load_classification
from kjcm.ksco.title_index import IndexTitle
from kjcm.search.engine import Hit, Search, Why

INDEX = [
    IndexTitle("건물청소부", "9411"),
    IndexTitle("호텔 룸메이드", "9412"),
    IndexTitle("C++ 개발자", "2223"),
    IndexTitle("미용 청소원 보조", "9522"),
    IndexTitle("시설관리인", "9421", "", 1.0),
    IndexTitle("시설관리인", "1530", "", 3.0),
]


@pytest.fixture(scope="module")
def search() -> Search:
    return Search(load_classification("ksco7"), INDEX, 3)


def first(search: Search, query: str) -> tuple[str, Why, str]:
    """Return the code of the first result, why it was found, and what matches in its title."""
    hit = search(query).hits[0]
    return hit.code, hit.why, "".join(part.text for part in hit.parts if part.matches)


@pytest.mark.parametrize(
    ("query", "code", "why", "matches"),
    [
        ("청소원", "941", Why.TITLE, "청소원"),
        ("청 소 원", "941", Why.TITLE, "청소원"),
        ("건물청소", "941", Why.TITLE_BEGINS, "건물청소"),
        ("룸메이드", "941", Why.WORD, "룸메이드"),
        ("메이드", "941", Why.PART, "메이드"),
        ("호텔룸메이드", "941", Why.TITLE, "호텔 룸메이드"),
        ("메이드 호텔", "941", Why.PART, "호텔메이드"),
        ("ㅎㅌㄹㅁㅇㄷ", "941", Why.UNFINISHED, "호텔 룸메이드"),
        ("ㄹㅁㅇㄷ", "941", Why.UNFINISHED, "룸메이드"),
        ("룸멩", "941", Why.UNFINISHED, "룸메이"),
        ("룸메읻", "941", Why.UNFINISHED, "룸메이드"),
        ("룸ㅁ", "941", Why.UNFINISHED, "룸메"),
        ("룸\u1106", "941", Why.UNFINISHED, "룸메"),
        ("\u1105\u1106\u110b\u1103", "941", Why.UNFINISHED, "룸메이드"),
        ("호텔 룸메이더", "941", Why.MISSPELT, "호텔"),
        ("홍텔룸메이드", "941", Why.MISSPELT, ""),
        ("rental", "522", Why.TITLE_BEGINS, "Rental"),
        ("ＣＯＯＫＳ", "441", Why.TITLE, "Cooks"),
        ("c++", "222", Why.TITLE_BEGINS, "C++"),
        ("9411 청소", "941", Why.TITLE_BEGINS, "청소"),
        ("청소 94", "941", Why.TITLE_BEGINS, "청소"),
        ("02 개발자", "222", Why.WORD, "개발자"),
        ("코드 9411", "941", Why.CODE, ""),
        ("94 메이드 호텔", "941", Why.PART, "호텔메이드"),
    ],
)
def test_a_query_finds(search: Search, query: str, code: str, why: Why, matches: str) -> None:
    assert first(search, query) == (code, why, matches)


@pytest.mark.parametrize(
    ("query", "codes"),
    [
        ("94", ["94", "941", "942"]),
        ("11", ["11", "111", "112"]),
        ("941", ["941"]),
        ("9412", ["941"]),
        ("0111", ["111"]),
        ("a01", ["A01"]),
        ("００", []),
        ("?!", []),
        ("", []),
        ("ㅏㅏㅏ", []),
        ("xqzv", []),
    ],
)
def test_a_code_or_nothing_is_found(search: Search, query: str, codes: list[str]) -> None:
    hits, count, _ = search(query)
    assert [hit.code for hit in hits] == codes and count == len(codes)


def test_a_zero_alone_begins_the_codes_that_may_have_one(search: Search) -> None:
    hits, count, may_ask = search("0", 1000)
    assert {hit.why for hit in hits} == {Why.CODE_BEGINS} and not may_ask
    assert [hit.code for hit in hits[:4]] == ["1", "11", "111", "112"] and count == len(hits) > 150
    assert not any(hit.code.startswith("A") for hit in hits)
    own = Search(Classification("from_data", {"01": "", "1": ""}))
    assert [hit.code for hit in own("0").hits] == ["01"]


def test_better_reasons_come_first_and_a_group_comes_once(search: Search) -> None:
    hits, count, _ = search("청소")
    assert [hit.why for hit in hits] == sorted(hit.why for hit in hits)
    assert len({hit.code for hit in hits}) == len(hits) == count
    few, all_of_them, _ = search("원", 3)
    assert len(few) == 3 and few == search("원").hits[:3] and all_of_them == search("원", 1000).total > 100


def test_of_equal_titles_the_weightier_comes_first(search: Search) -> None:
    assert [(hit.code, hit.entry.code) for hit in search("시설관리인").hits[:2] if hit.entry] == [
        ("153", "1530"), ("942", "9421"),
    ]  # fmt: skip


def test_similar_titles_fill_the_first_ten(search: Search) -> None:
    hits, count, _ = search("청소노동자")
    assert len(hits) == count == 10 and {hit.why for hit in hits} == {Why.SIMILAR}
    assert "941" in [hit.code for hit in hits[:3]] and search("청소노동자", 3)[:2] == (hits[:3], 10)


def test_the_models_codes_come_last_and_once(search: Search) -> None:
    asked: list[str] = []

    def scorer(query: str) -> list[tuple[str, float]]:
        asked.append(query)
        return [("941", 0.6), ("320", 0.3)]

    hits, count, _ = search("청소노동자", scorer=scorer)
    assert hits[-1] == Hit("320", Why.MODEL, probability=0.3) and len(hits) == count == 11
    assert [hit.code for hit in hits].count("941") == 1 and asked == ["청소노동자"]
    assert search("청소노동자", 3, scorer)[:2] == (hits[:3], 11)
    assert search("xqzv", scorer=scorer).hits[0].probability == 0.6


@pytest.mark.parametrize(
    ("query", "is_asked"),
    [("9411", False), ("94", False), ("원", False), ("?!", False), ("룸메이드", True), ("청소노동자", True)],
)
def test_the_model_is_asked_only_if_few_results_are_sure(search: Search, query: str, is_asked: bool) -> None:
    asked: list[str] = []

    def scorer(query: str) -> list[tuple[str, float]]:
        asked.append(query)
        return []

    assert search(query, 1, scorer).may_ask_model is is_asked and asked == [query] * is_asked


def test_a_number_of_an_answer_hides_no_guesses(search: Search) -> None:
    assert [(hit.code, hit.why) for hit in search("룸메이드 2").hits[:2]] == [("2", Why.CODE), ("941", Why.MISSPELT)]
    assert search("룸메이드 00").hits[0].code == "941"


def test_without_a_level_codes_are_whole_and_without_titles_codes_are_found() -> None:
    assert Search(load_classification("ksco7"), INDEX)("룸메이드").hits[0].code == "9412"
    bare = Search(Classification("from_data", {"A1": "", "B2": ""}))
    assert [hit.code for hit in bare("a").hits] == ["A1"] and bare("가나").hits == []
    assert Search(Classification("from_data"))("가") == ([], 0, False)


def test_a_long_title_of_emoji_and_a_decomposed_title_are_marked() -> None:
    named = replace(load_classification("ksco7"), titles={"1": "😀 청소 \u1100\u1161수"}, english={})
    (hit,) = Search(named)("가수").hits
    assert [(part.text, part.matches) for part in hit.parts] == [("😀 청소 ", False), ("가수", True)]
