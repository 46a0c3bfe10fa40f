"""Titles as arrays, in which one pass finds a query: as typed, unfinished, with one wrong key, or by what is shared."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer

from kjcm.search.letters import Pattern, literal, unfinished
from kjcm.search.typing_errors import within_one_error

SEPARATOR = "\n"
EXACT, BEGINNING, WORD, PART, UNFINISHED = range(5)  # unfinished words are EXACT to PART, plus UNFINISHED
NONE = 2 * UNFINISHED
COMPARED = 1000  # the most similar titles, which are compared with a query key by key
GRAMS = (1, 3)  # characters


class Titles:
    """Titles to search.

    Args:
        titles: the words of each title, see `words`.
    """

    def __init__(self, titles: Sequence[Sequence[str]]) -> None:
        self._joined = ["".join(title) for title in titles]
        text = SEPARATOR + "".join(title + SEPARATOR for title in self._joined)
        self._letters = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        lengths = np.array([len(word) for title in titles for word in (*title, SEPARATOR)], dtype=np.int64)
        self._begins = np.zeros(len(text) + 1, bool)  # of a word, or of the separator after a title
        self._begins[1 + np.cumsum(lengths) - lengths] = True
        self._title = np.cumsum(self._letters == ord(SEPARATOR)) - 1
        self._grams = TfidfVectorizer(analyzer="char", ngram_range=GRAMS, sublinear_tf=True, lowercase=False)
        self._by_gram = self._grams.fit_transform(self._joined).T.tocsr() if any(self._joined) else None

    def __len__(self) -> int:
        return len(self._joined)

    def kinds(self, query: Sequence[str]) -> NDArray[np.int8]:
        """Return how each title has a query's words: EXACT to PART, the same plus UNFINISHED, or NONE.

        Blanks do not count where the whole query is found. Its words may also be in a title in any order.
        """
        found = self._kinds_of_word("".join(query))
        if len(query) > 1:
            each = np.maximum.reduce([self._kinds_of_word(word) for word in dict.fromkeys(query)])
            found = np.minimum(found, np.maximum(each, WORD))
        return found

    def _kinds_of_word(self, word: str) -> NDArray[np.int8]:
        kinds = np.full(len(self), NONE, np.int8)
        for pattern, lowest in ((literal(word), 0), *((pattern, UNFINISHED) for pattern in unfinished(word))):
            starts = self._starts(pattern)
            ends = starts + len(pattern)
            at_begin, at_end = (self._letters[at] == ord(SEPARATOR) for at in (starts - 1, ends))
            is_word = self._begins[starts] & self._begins[ends]
            kind = np.select([at_begin & at_end, at_begin, is_word], [EXACT, BEGINNING, WORD], PART)
            np.minimum.at(kinds, self._title[starts], (lowest + kind).astype(np.int8))
        return kinds

    def _starts(self, pattern: Pattern) -> NDArray[np.int64]:
        """Return the positions at which a pattern matches."""
        (low, high), *others = pattern
        starts = np.flatnonzero((self._letters >= low) & (self._letters <= high))
        for place, (low, high) in enumerate(others, 1):
            letters = self._letters.take(starts + place, mode="clip")  # the last separator matches nothing
            starts = starts[(letters >= low) & (letters <= high)]
        return starts

    def misspelt(self, query: str, similarity: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the titles, among the most similar, that have a query with one typing error."""
        numbers = np.flatnonzero(similarity > 0)
        if len(numbers) > COMPARED:
            numbers = numbers[np.argpartition(-similarity[numbers], COMPARED)[:COMPARED]]
        return numbers[within_one_error(query, [self._joined[number] for number in numbers])]

    def similarity(self, query: str) -> NDArray[np.float64]:
        """Return each title's cosine with a query over TF-IDF weights of their n-grams of 1 to 3 characters."""
        if self._by_gram is None:  # no title has a letter
            return np.zeros(len(self))
        found: NDArray[np.float64] = (self._grams.transform([query]) @ self._by_gram).toarray().ravel()
        return found
