"""Search a classification's codes, its titles and an index of job titles; each group is one result."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kjcm.ksco.classification import Classification
from kjcm.ksco.title_index import IndexTitle
from kjcm.search.letters import fold, words
from kjcm.search.marks import Part, marked
from kjcm.search.titles import Titles

ENOUGH = 10  # results after which titles with a typing error and similar titles are not added
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
        self.entries = list(self._entries(index))
        self._codes = sorted({entry.code for entry in self.entries})
        self._folded = [fold(code) for code in self._codes]
        groups = sorted({entry.group for entry in self.entries})
        place, group = ({code: n for n, code in enumerate(codes)} for codes in (self._codes, groups))
        self._code = np.array([place[entry.code] for entry in self.entries], dtype=np.int64)
        self._group = np.array([group[entry.group] for entry in self.entries], dtype=np.int64)
        self._place = np.empty(len(self.entries), np.int64)  # for ties
        self._place[sorted(range(len(self.entries)), key=self._rank)] = np.arange(len(self.entries))
        self._titles = Titles([words(entry.title) for entry in self.entries])

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
        entry = self.entries[number]
        return -entry.weight, entry.code != entry.group, len(entry.title)

    def group(self, code: str) -> str:
        """Return a code cut to the level, or unchanged if it is shorter."""
        return self._classification.at_level(code, self._level) or code

    def __call__(self, query: str, limit: int = 50, scorer: Scorer | None = None) -> tuple[list[Hit], int]:
        """Return the groups that a query finds, best first and at most `limit`, and how many there are.

        Args:
            query: a code, a title, or a part of one.
            limit: most results.
            scorer: returns a model's codes for a text; they follow all others.
        """
        asked = words(query)
        if not asked or not self.entries:
            return [], 0
        joined = "".join(asked)
        similarity = self._titles.similarity(joined)
        kinds = self._titles.kinds(asked)
        reasons = self._reasons(query, kinds)
        found = self._first_of_groups(reasons, kinds, similarity)
        count, similar = len(found), list[int]()
        if count < ENOUGH and reasons.min() > Why.CODE_BEGINS:
            missed = self._titles.misspelt(joined, similarity)
            reasons[missed] = np.minimum(reasons[missed], Why.MISSPELT)
            found = self._first_of_groups(reasons, kinds, similarity)
            count = len(found)
            known_groups = {int(self._group[number]) for number in found}
            similar = self._similar(similarity, known_groups)[: max(0, ENOUGH - count)]
        hits = [self._hit(number, Why(reasons[number]), asked) for number in found[:limit]]
        hits += [self._hit(number, Why.SIMILAR, asked) for number in similar[: limit - len(hits)]]
        if scorer is not None:
            known = {hit.code for hit in hits}
            scores = [one for one in scorer(query)[:FROM_MODEL] if one[0] not in known]
            hits += [Hit(code, Why.MODEL, probability=probability) for code, probability in scores]
        return hits, max(count, len(hits))

    def _reasons(self, query: str, kinds: NDArray[np.int8]) -> NDArray[np.int8]:
        """Return each entry's best reason by its code and its title, NOTHING for none."""
        typed = "".join(fold(query).split())
        spelt = (typed, fold(self._classification.resolve(query) or typed))  # 0111 means 111 in KSCO
        codes = np.array(
            [
                Why.CODE if code in spelt else Why.CODE_BEGINS if code.startswith(spelt) else NOTHING
                for code in self._folded
            ],
            dtype=np.int8,
        )
        return np.minimum(OF_KINDS[kinds], codes[self._code])

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

    def _hit(self, number: int, why: Why, asked: Sequence[str]) -> Hit:
        entry = self.entries[number]
        return Hit(entry.group, why, entry, marked(entry.title, asked))
