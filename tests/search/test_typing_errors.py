"""Typing errors: one wrong, missing, further or swapped key of a Korean keyboard."""

import random

import pytest

from kjcm.search.letters import keystrokes, unfinished
from kjcm.search.typing_errors import within_one_error


@pytest.mark.parametrize(
    ("query", "is_found"),
    [
        ("청소원", True),
        ("정소원", True),  # ㅊ -> ㅈ
        ("청소언", True),  # ㅜ is missing
        ("청솨원", True),  # a further ㅏ
        ("천소원", True),  # ㅇ -> ㄴ
        ("첫오원", True),  # ㅇ and ㅅ are swapped
        ("전소원", False),  # two errors
        ("청바지", False),
    ],
)
def test_one_error_is_allowed(query: str, is_found: bool) -> None:
    texts = ["청소원", "공기청소원", "청소원보조", "간호사"]
    assert within_one_error(query, texts).tolist() == [is_found] * 3 + [False]


def test_errors_are_found_within_whole_letters_only() -> None:
    assert within_one_error("택시", ["택시기사", "주택수주", "컨택센터"]).tolist() == [True, True, False]
    assert not within_one_error("시", ["시"])[0]  # too short
    assert within_one_error("가", []).tolist() == []


def test_it_agrees_with_the_distance_of_optimal_string_alignment() -> None:
    generator = random.Random(0)
    texts = ["".join(generator.choices("abc", k=generator.randint(1, 9))) for _ in range(300)]
    for _ in range(30):
        query = "".join(generator.choices("abc", k=6))
        expected = [
            any(
                distance(query, text[begin:end]) <= 1
                for begin in range(len(text))
                for end in range(begin, len(text) + 1)
            )
            for text in texts
        ]
        assert within_one_error(query, texts).tolist() == expected


def distance(one: str, other: str) -> int:
    """Return the least number of keys to replace, leave out, add, or swap."""
    table = [[max(i, j) if 0 in (i, j) else 0 for j in range(len(other) + 1)] for i in range(len(one) + 1)]
    for i in range(1, len(one) + 1):
        for j in range(1, len(other) + 1):
            best = min(table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (one[i - 1] != other[j - 1]))
            if i > 1 and j > 1 and one[i - 2 : i] == other[j - 2 : j][::-1]:
                best = min(best, table[i - 2][j - 2] + 1)
            table[i][j] = best
    return table[-1][-1]


def test_keys_and_what_a_syllable_may_become() -> None:
    assert "".join(map(keystrokes, "원닭A")) == "ㅇㅜㅓㄴㄷㅏㄹㄱA"

    def may_become(typed: str, word: str) -> bool:
        return any(
            len(pattern) <= len(word)
            and all(low <= ord(letter) <= high for (low, high), letter in zip(pattern, word, strict=False))
            for pattern in unfinished(typed)
        )

    for typed, word in (
        ("ㅊ", "청소"), ("청소우", "청소원"), ("처", "청소"), ("청솟", "청소실"), ("읽", "일기"),
        ("ㄳ", "가사"), ("ㄱ수", "가수"),
    ):  # fmt: skip
        assert may_become(typed, word), typed
    for typed, word in (("ㅊ", "정소"), ("청수", "청소"), ("소아", "소완")):
        assert not may_become(typed, word), typed
