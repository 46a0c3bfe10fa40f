"""One sentence from the three answers: `작업장(에서) 직위(으로) 일` (the article, Table 1)."""

from functools import lru_cache

from kjcm.read.cells import tidy

AT = "(에서)"
LIEUL = 8  # index of ㄹ among the 28 final consonants of a Hangul syllable; 0 is none
# Digits and Latin letters end as their Korean names do: 1 일, 7 칠, 8 팔, l 엘, r 알 in ㄹ; 0 영, 3 삼, 6 육, m 엠, n 엔
# in another consonant; the rest in a vowel.
OTHER_CONSONANT = frozenset("036mn")


@lru_cache(1 << 14)  # few words name most positions
def particle(word: str) -> str:
    """Return '로' after a vowel or ㄹ and '으로' after any other consonant, judged by the last letter or digit."""
    last = next((char for char in reversed(word) if char.isalnum()), "")
    if "가" <= last <= "힣":
        return "로" if (ord(last) - ord("가")) % 28 in (0, LIEUL) else "으로"
    return "으로" if last.lower() in OTHER_CONSONANT else "로"


def without_workplace(text: str) -> str:
    """Return what an input text says of the person: all after the workplace, '' where it is a workplace alone."""
    return "" if text.endswith(AT) else text.rpartition(f"{AT} ")[2]


def sentence(workplace: str = "", position: str = "", task: str = "") -> str:
    """Return the model's input text; absent (empty) parts are left out, all absent gives ''."""
    workplace, position, task = tidy(workplace), tidy(position), tidy(task)
    parts = (f"{workplace}{AT}" if workplace else "", f"{position}({particle(position)})" if position else "", task)
    return " ".join(filter(None, parts))
