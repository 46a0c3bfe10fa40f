"""Mark in a title what a query matches."""

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from kjcm.search.letters import Pattern, literal, unfinished, words


class Part(NamedTuple):
    """A part of a title, and whether it matches."""

    text: str
    matches: bool


def marked(title: str, query_words: Sequence[str]) -> list[Part]:
    """Return a title in NFC as parts; those match in which the query, or else each of its words, was found.

    Args:
        title: the title.
        query_words: the words of the query, see `words`.
    """
    title = unicodedata.normalize("NFC", title)
    letters = [(letter, place) for place, one in enumerate(title) for letter in "".join(words(one))]
    text = "".join(letter for letter, _ in letters)
    spans = [_first_match("".join(query_words), text)]
    if spans == [None]:
        spans = [_first_match(word, text) for word in dict.fromkeys(query_words)]
    matches = [False] * len(title)
    for span in filter(None, spans):
        begin, end = letters[span[0]][1], letters[span[1] - 1][1]
        matches[begin : end + 1] = [True] * (end + 1 - begin)
    parts: list[Part] = []
    for letter, match in zip(title, matches, strict=True):
        if parts and parts[-1].matches == match:
            parts[-1] = Part(parts[-1].text + letter, match)
        else:
            parts.append(Part(letter, match))
    return parts


def _first_match(word: str, text: str) -> tuple[int, int] | None:
    """Return where a word, or what it may become, is first in a text."""
    for pattern in (literal(word), *unfinished(word)):
        for begin in range(len(text) - len(pattern) + 1):
            if _matches(pattern, text[begin : begin + len(pattern)]):
                return begin, begin + len(pattern)
    return None


def _matches(pattern: Pattern, text: str) -> bool:
    return all(low <= ord(letter) <= high for (low, high), letter in zip(pattern, text, strict=True))
