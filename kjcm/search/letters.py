"""The letters of Korean text: initial consonants, syllables that somebody still types, and keystrokes."""

import re
import unicodedata
from functools import lru_cache

from kjcm.ksco.title_index import DOTS
from kjcm.read.cells import tidy

INITIALS = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"
# Vowels and finals by keystrokes: a compound has two.
VOWELS = (
    "ㅏ", "ㅐ", "ㅑ", "ㅒ", "ㅓ", "ㅔ", "ㅕ", "ㅖ", "ㅗ", "ㅗㅏ", "ㅗㅐ",
    "ㅗㅣ", "ㅛ", "ㅜ", "ㅜㅓ", "ㅜㅔ", "ㅜㅣ", "ㅠ", "ㅡ", "ㅡㅣ", "ㅣ",
)  # fmt: skip
FINALS = (
    "", "ㄱ", "ㄲ", "ㄱㅅ", "ㄴ", "ㄴㅈ", "ㄴㅎ", "ㄷ", "ㄹ", "ㄹㄱ", "ㄹㅁ", "ㄹㅂ", "ㄹㅅ", "ㄹㅌ",
    "ㄹㅍ", "ㄹㅎ", "ㅁ", "ㅂ", "ㅂㅅ", "ㅅ", "ㅆ", "ㅇ", "ㅈ", "ㅊ", "ㅋ", "ㅌ", "ㅍ", "ㅎ",
)  # fmt: skip
CLUSTERS = str.maketrans(dict(zip("ㄳㄵㄶㄺㄻㄼㄽㄾㄿㅀㅄ", [one for one in FINALS if len(one) == 2], strict=True)))
FIRST, LAST = ord("가"), ord("힣")
A_VOWEL = len(FINALS)  # syllables of an initial and a vowel
AN_INITIAL = len(VOWELS) * A_VOWEL  # syllables of an initial

_WORD = re.compile(r"[\w+#]+")
_LONE = {0x1100 + place: initial for place, initial in enumerate(INITIALS)}  # conjoining initials without a vowel
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_SPELT = _FULL_WIDTH | {ord(dot): " " for dot in DOTS}

Pattern = tuple[tuple[int, int], ...]  # for each character the least and the greatest code point that match


def fold(text: str) -> str:
    """Return text in NFC and small letters, with half-width letters and digits; initials alone are compatibility letters."""
    return unicodedata.normalize("NFC", tidy(text).translate(_SPELT).casefold()).translate(_LONE)


def words(text: str) -> list[str]:
    """Return the words of a text, folded, without punctuation."""
    return _WORD.findall(fold(text))


def literal(word: str) -> Pattern:
    """Return the pattern that matches a word itself."""
    return tuple((ord(one), ord(one)) for one in word)


def unfinished(word: str) -> list[Pattern]:
    """Return the patterns of what a word may become: an initial stands for its syllables, the last syllable may go on."""
    word = word.translate(CLUSTERS)
    whole = tuple(map(_of_initial, word))
    patterns = [(*whole[:-1], _unfinished_last(word[-1]))]
    if (split := _without_final(word[-1])) is not None:
        syllable, initial = split
        patterns.append((*whole[:-1], (ord(syllable), ord(syllable)), _of_initial(initial)))
    return [pattern for pattern in patterns if pattern != literal(word)]


def _of_initial(letter: str) -> tuple[int, int]:
    """Return the syllables that begin with an initial consonant; any other letter alone."""
    if letter not in INITIALS:
        return ord(letter), ord(letter)
    begin = FIRST + INITIALS.index(letter) * AN_INITIAL
    return begin, begin + AN_INITIAL - 1


def _unfinished_last(letter: str) -> tuple[int, int]:
    """Return what a last letter may become: 우 any syllable from 우 to 윟, for 우 and 어 are typed as 워."""
    if not FIRST <= ord(letter) <= LAST:
        return _of_initial(letter)
    syllable = ord(letter) - FIRST
    if syllable % A_VOWEL:
        return ord(letter), ord(letter)
    vowel = VOWELS[syllable % AN_INITIAL // A_VOWEL]
    further = sum(one.startswith(vowel) for one in VOWELS)
    return ord(letter), ord(letter) + further * A_VOWEL - 1


def _without_final(letter: str) -> tuple[str, str] | None:
    """Return a syllable without its last consonant, and this consonant, which may begin the next syllable: 솟 -> 소, ㅅ."""
    final = (ord(letter) - FIRST) % A_VOWEL if FIRST <= ord(letter) <= LAST else 0
    if not final:
        return None
    rest = FINALS.index(FINALS[final][:-1])
    return chr(ord(letter) - final + rest), FINALS[final][-1]


@lru_cache(maxsize=1 << 15)
def keystrokes(letter: str) -> str:
    """Return the keys that type a letter on a Korean keyboard: 원 -> ㅇㅜㅓㄴ; any other letter unchanged."""
    if not FIRST <= ord(letter) <= LAST:
        return letter
    initial, rest = divmod(ord(letter) - FIRST, AN_INITIAL)
    vowel, final = divmod(rest, A_VOWEL)
    return INITIALS[initial] + VOWELS[vowel] + FINALS[final]
