"""The paper's own sentences, letter for letter, and 로 or 으로."""

import unicodedata

import pytest

from kjcm.survey.wording import particle, sentence, tidy

PAPER = [  # Tables 1 and 2
    (("○○문화사 사무실", "", "인쇄물 제조, 인쇄물 디자인"), "○○문화사 사무실(에서) 인쇄물 제조, 인쇄물 디자인"),
    (
        ("△△은행 예금팀", "", "고객들의 예금적금예탁 관리 및 상담"),
        "△△은행 예금팀(에서) 고객들의 예금적금예탁 관리 및 상담",
    ),
    (("참치양식장", "어부", "참다랑어 키우는 일"), "참치양식장(에서) 어부(로) 참다랑어 키우는 일"),
    (
        ("건축현장", "", "여러가지 장비를 가지고 들어 나르고 붙임"),
        "건축현장(에서) 여러가지 장비를 가지고 들어 나르고 붙임",
    ),
    (("@@원자력발전소 운전부", "기계조작원", "기계조작"), "@@원자력발전소 운전부(에서) 기계조작원(으로) 기계조작"),
]


@pytest.mark.parametrize(("answers", "expected"), PAPER)
def test_the_articles_examples(answers: tuple[str, str, str], expected: str) -> None:
    assert sentence(*answers) == expected
    assert sentence(*(unicodedata.normalize("NFD", part) for part in answers)) == expected


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        ("어부", "로"), ("과장 대리", "로"), ("기계조작원", "으로"), ("직원", "으로"), ("일꾼", "으로"),
        ("교감 선생님", "으로"), ("사무직", "으로"), ("총괄", "로"), ("경찰", "로"), ("삶", "으로"), ("닭", "으로"),
        ("1", "로"), ("제2", "로"), ("3", "으로"), ("4", "로"), ("5", "로"), ("조6", "으로"), ("7", "로"), ("8", "로"),
        ("9", "로"), ("10", "으로"),
        ("CTO", "로"), ("RN", "으로"), ("PM", "으로"), ("pm", "으로"), ("MD", "로"), ("QC", "로"), ("PL", "로"), ("HR", "로"),
        ("매니저(PM)", "으로"), ("팀장(직원)", "으로"), ("직원(대리)", "로"), ("반장 ○○", "으로"), ("", "로"),
    ],
)  # fmt: skip
def test_particle(position: str, expected: str) -> None:
    assert particle(position) == expected


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (("", "", ""), ""),
        (("  ", "\n", "\t"), ""),
        (("은행", "", ""), "은행(에서)"),
        (("", "직원", ""), "직원(으로)"),
        (("", "", "상담"), "상담"),
        (("", "교사", "수업"), "교사(로) 수업"),
        (("은행", "교사", ""), "은행(에서) 교사(로)"),
        ((" 은행\n본점 ", "\u3000대리\t", "고객  상담\r\n및 안내"), "은행 본점(에서) 대리(로) 고객 상담 및 안내"),
    ],
)
def test_absent_parts_and_white_space(answers: tuple[str, str, str], expected: str) -> None:
    assert sentence(*answers) == expected


@pytest.mark.parametrize(
    ("answers", "wording", "expected"),
    [
        (("Cabinet Office", "A", "policy"), "korean", "Cabinet Office A policy"),
        (("Cabinet Office", "A", "policy"), None, "Cabinet Office(에서) A(로) policy"),
        (("은행", "교사", "수업"), "plain", "은행 교사 수업"),
        (("LG", "매니저(PM)", ""), "korean", "LG 매니저(PM)(으로)"),
        (("카페 Roma", "PM", ""), "korean", "카페 Roma PM"),
        (("은행 3", "조 6", ""), "korean", "은행 3(에서) 조 6(으로)"),
        (("-", "3", "상담"), "korean", "- 3 상담"),
        (("식당", "", ""), "plain", "식당"),
    ],
)
def test_particles_follow_hangul_alone(answers: tuple[str, str, str], wording: str | None, expected: str) -> None:
    assert sentence(*answers, wording=wording) == expected


def test_tidy_composes_and_keeps_what_nfkc_would_change() -> None:
    assert tidy(unicodedata.normalize("NFD", " 참다랑어 ")) == "참다랑어"
    assert tidy("㈜ ① Ａ") == "㈜ ① Ａ"
    assert tidy("\u200b 요리\u200b사\u00a0 보조\ufeff") == "요리사 보조"
    assert tidy("\u200b\u3164\u2060") == ""
    assert tidy("\0A01\0\0") == "A01" and tidy("\x7f\x9b낚시\x85 \x01용접") == "낚시 용접"
