"""One sentence from the three answers: `작업장(에서) 직위(으로) 일` (the paper, Table 1)."""

from functools import lru_cache

from kjcm.read.cells import tidy

AT = "(에서)"
LIEUL = 8  # index of ㄹ among the 28 final consonants of a Hangul syllable; 0 is none
# Digits and Latin letters end as their Korean names do: 1 일, 7 칠, 8 팔, l 엘, r 알 in ㄹ; 0 영, 3 삼, 6 육, m 엠, n 엔
# in another consonant; the rest in a vowel.
OTHER_CONSONANT = frozenset("036mn")


@lru_cache(1 << 14)  # a few words are most positions
def particle(word: str) -> str:
    """Return '로' after a vowel or ㄹ and '으로' after any other consonant, judged by the last letter or digit."""
    last = next((char for char in reversed(word) if char.isalnum()), "")
    if "가" <= last <= "힣":
        return "로" if (ord(last) - ord("가")) % 28 in (0, LIEUL) else "으로"
    return "으로" if last.lower() in OTHER_CONSONANT else "로"


def sentence(workplace: str = "", position: str = "", task: str = "", wording: str | None = "korean") -> str:
    """Return the model's input text (see `worded`)."""
    return worded(workplace, position, task, wording)[0]


def worded(workplace: str, position: str, task: str, wording: str | None) -> tuple[str, int]:
    """Return the model's input text and where the workplace ends in it; empty parts are left out.

    Args:
        workplace: an answer.
        position: an answer.
        task: an answer.
        wording: 'korean': particles after Hangul; 'plain': none; None: after every word, as in older runs.
    """
    workplace, position, task = tidy(workplace), tidy(position), tidy(task)
    where = f"{workplace}{AT}" if workplace and takes_particle(workplace, wording) else workplace
    what = f"{position}({particle(position)})" if position and takes_particle(position, wording) else position
    text = " ".join(filter(None, (where, what, task)))
    return text, min(len(where) + bool(where), len(text))


def takes_particle(words: str, wording: str | None) -> bool:
    """Return whether a particle follows: after Hangul, or after numbers and signs that follow Hangul."""
    if wording != "korean":
        return wording is None
    last = next((word for word in reversed(words.split()) if any(map(str.isalpha, word))), "")
    return any("가" <= char <= "힣" for char in last)
