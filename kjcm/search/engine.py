"""Search a classification's codes, its titles and an index of job titles; each group is one result."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kjcm.ksco.classification import Classification
from kjcm.ksco.title_index import IndexTitle
from kjcm.search.letters import fold, words
from kjcm.search.marks import Part, marked
from kjcm.search.titles import Titles

ENOUGH = 10  # sure results, after which misspelt titles, similar titles and the model's codes are not added
VOTERS = 100  # titles that vote for similar groups
FROM_MODEL = 5  # codes of the model
LEAST_SIMILARITY = 0.15  # of the most similar title, else no similar title is shown
NOTHING = 127

Scorer = Callable[[str], Sequence[tuple[str, float]]]  # returns codes with probabilities, the most likely first


class Why(IntEnum):
    """Why a result was found, the best reason first."""

    CODE = 0
    CODE_BEGINS = 1
    TITLE = 2
    TITLE_BEGINS = 3
    WORD = 4
    PART = 5
    UNFINISHED = 6
    MISSPELT = 7
    SIMILAR = 8
    MODEL = 9

    @property
    def label(self) -> str:
        """The reason in words."""
        return self.name.lower().replace("_", " ")


OF_KINDS = np.array(
    [Why.TITLE, Why.TITLE_BEGINS, Why.WORD, Why.PART, *[Why.UNFINISHED] * 4, NOTHING], dtype=np.int8
)  # reasons by kinds of `Titles`


class Entry(NamedTuple):
    """A title that can be found.

    Attributes:
        title: the title; may be empty.
        code: its code, as fine as the source gives it.
        group: the code cut to the level of the results.
        source: 'title' or 'english' of the classification, or what the index says.
        weight: of the index.
    """

    title: str
    code: str
    group: str
    source: str
    weight: float = 1.0


@dataclass(frozen=True)
class Hit:
    """A group that was found.

    Attributes:
        code: of the group.
        why: the best reason.
        entry: the title that matched; None for a code that the model found.
        parts: the title in parts; those that match are marked.
        probability: the model's; None for other reasons.
    """

    code: str
    why: Why
    entry: Entry | None = None
    parts: Sequence[Part] = field(default_factory=tuple)
    probability: float | None = None


class Results(NamedTuple):
    """What a search found.

    Attributes:
        hits: groups, the best first.
        total: number of groups, also those beyond the limit.
        may_ask_model: whether so few of them are sure that a model may help.
    """

    hits: list[Hit]
    total: int
    may_ask_model: bool


class Search:
    """A search over the codes and titles of a classification and an index.

    Args:
        classification: the codes.
        index: job titles with codes.
        level: digits of the results' codes; None: uncut. Shorter codes stay.
    """

    def __init__(
        self, classification: Classification, index: Sequence[IndexTitle] = (), level: int | None = None
    ) -> None:
        self._classification, self._level = classification, level
        self._all = list(self._entries(index))
        self._codes = sorted({entry.code for entry in self._all})
        self._folded = [fold(code) for code in self._codes]
        groups = sorted({entry.group for entry in self._all})
        place, group = ({code: n for n, code in enumerate(codes)} for codes in (self._codes, groups))
        self._code = np.array([place[entry.code] for entry in self._all], dtype=np.int64)
        self._group = np.array([group[entry.group] for entry in self._all], dtype=np.int64)
        self._place = np.empty(len(self._all), np.int64)  # for ties
        self._place[sorted(range(len(self._all)), key=self._rank)] = np.arange(len(self._all))
        self._titles = Titles([words(entry.title) for entry in self._all])

    def _entries(self, index: Sequence[IndexTitle]) -> Iterator[Entry]:
        named = self._classification
        for code, title in sorted(named.titles.items()):
            yield Entry(title, code, self.group(code), "title")
            if english := named.title(code, "en"):
                yield Entry(english, code, self.group(code), "english")
        for one in index:
            yield Entry(one.title, one.code, self.group(one.code), one.source or "index", one.weight)

    def _rank(self, number: int) -> tuple[float, bool, int]:
        """Return what sorts equally good entries: weight, the group's own title first, then the shortest."""
        entry = self._all[number]
        return -entry.weight, entry.code != entry.group, len(entry.title)

    def group(self, code: str) -> str:
        """Return a code cut to the level, or unchanged if it is shorter."""
        return self._classification.at_level(code, self._level) or code

    def __call__(self, query: str, limit: int = 50, scorer: Scorer | None = None) -> Results:
        """Return the groups that a query finds.

        Args:
            query: a code, a title, or a part of one.
            limit: most hits.
            scorer: returns a model's codes for a text; they follow all others. It is asked only if few results are sure.
        """
        query_words = words(query)
        if not query_words or not self._all:
            return Results([], 0, False)
        joined = "".join(query_words)
        similarity = self._titles.similarity(joined)
        kinds, codes = self._kinds(query_words), self._by_code(query)
        reasons = np.minimum(OF_KINDS[kinds], codes)
        if reasons.min() == NOTHING:
            reasons = self._by_code_word(query_words)
        found = self._first_of_groups(reasons, kinds, similarity)
        few = len(found) < ENOUGH and bool(codes.min() == NOTHING)
        similar, scores = list[int](), list[tuple[str, float]]()
        if few:
            missed = self._titles.misspelt(joined, similarity)
            reasons[missed] = np.minimum(reasons[missed], Why.MISSPELT)
            found = self._first_of_groups(reasons, kinds, similarity)
            known_groups = {int(self._group[number]) for number in found}
            similar = self._similar(similarity, known_groups)[: max(0, ENOUGH - len(found))]
            if scorer is not None:
                known = {self._all[number].group for number in [*found, *similar]}
                scores = [one for one in scorer(query)[:FROM_MODEL] if one[0] not in known]
        numbers = [
            *((number, Why(reasons[number])) for number in found),
            *((number, Why.SIMILAR) for number in similar),
        ]
        hits = [self._hit(number, why, query_words) for number, why in numbers[:limit]]
        hits += [Hit(code, Why.MODEL, probability=probability) for code, probability in scores[: limit - len(hits)]]
        return Results(hits, len(numbers) + len(scores), few)

    def _by_code(self, query: str) -> NDArray[np.int8]:
        """Return CODE, CODE_BEGINS or NOTHING for each entry: whether the query is its code or the code's beginning."""
        word = "".join(fold(query).split())
        typed = self._spelt(word)
        reasons = [
            Why.CODE
            if code in typed
            else Why.CODE_BEGINS
            if code.startswith(typed) or (word == "0" and self._may_have_zero(code))
            else NOTHING
            for code in self._folded
        ]
        return np.array(reasons, dtype=np.int8)[self._code]

    def _kinds(self, query_words: Sequence[str]) -> NDArray[np.int8]:
        """Return how each title has the query's words; beginnings of its code need not be in the title."""
        kinds = self._titles.kinds(query_words)
        spelt = self._code_words(query_words)
        others = [word for word in query_words if word not in spelt]
        if spelt and others:
            beginnings = tuple(chain.from_iterable(spelt.values()))
            begins = np.array([code.startswith(beginnings) for code in self._folded])[self._code]
            kinds = np.where(begins, np.minimum(kinds, self._titles.kinds(others)), kinds)
        return kinds

    def _by_code_word(self, query_words: Sequence[str]) -> NDArray[np.int8]:
        """Return CODE for each entry whose code is one of the query's words, else NOTHING."""
        codes = set(chain.from_iterable(self._code_words(query_words).values()))
        return np.array([Why.CODE if code in codes else NOTHING for code in self._folded], dtype=np.int8)[self._code]

    def _code_words(self, query_words: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Return the words that begin with a digit and are a code or its beginning, with their spellings."""
        spelt = {word: self._spelt(word) for word in query_words if word[0].isdigit()}
        return {word: each for word, each in spelt.items() if any(code.startswith(each) for code in self._folded)}

    def _spelt(self, word: str) -> tuple[str, str]:
        """Return the spellings of a code: 0111 means 111 in KSCO."""
        return word, fold(self._classification.resolve(word) or word)

    def _may_have_zero(self, code: str) -> bool:
        """Return whether a code means the same with a zero before it, as 111 does in KSCO."""
        return code[:1].isdigit() and self._spelt(f"0{code}")[1] == code

    def _first_of_groups(
        self, reasons: NDArray[np.int8], kinds: NDArray[np.int8], similarity: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """Return the best entry of each group that has a reason, the best group first."""
        numbers = np.flatnonzero(reasons < NOTHING)
        by_code = reasons[numbers] <= Why.CODE_BEGINS  # in the order of codes
        ties = np.where(by_code, self._code[numbers], self._place[numbers])
        unlike = np.where(by_code, 0, -similarity[numbers])
        keys = (ties, unlike, np.where(by_code, 0, kinds[numbers]), reasons[numbers])  # the last counts first
        order = numbers[np.lexsort(keys)]
        _, first = np.unique(self._group[order], return_index=True)
        return order[np.sort(first)]

    def _similar(self, similarity: NDArray[np.float64], known: set[int]) -> list[int]:
        """Return the most similar entry of each further group; the most similar titles vote for their groups."""
        if similarity.max() < LEAST_SIMILARITY:
            return []
        voters = np.argsort(-similarity, kind="stable")[:VOTERS]
        best, votes = dict[int, int](), dict[int, float]()
        for number in voters[similarity[voters] > 0].tolist():
            group = int(self._group[number])
            best.setdefault(group, number)
            votes[group] = votes.get(group, 0.0) + similarity[number] ** 2
        return [best[group] for group in sorted(votes, key=lambda group: -votes[group]) if group not in known]

    def _hit(self, number: int, why: Why, query_words: Sequence[str]) -> Hit:
        entry = self._all[number]
        return Hit(entry.group, why, entry, marked(entry.title, query_words))
