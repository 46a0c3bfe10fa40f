"""The order in which reviewers see rows; rows with identical texts are one case."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import TfidfVectorizer

from kjcm.review.records import MOST_ORDER

ORDERS = ("file", "similar", "uncertain", "group")
VIEWS = ("open", "skipped", "flagged", "settled")
GRAMS = (2, 2)  # characters; longer ones find no better rows
LEAST = 0.1  # similarity of rows that are called similar
OF_MODEL = 0.5  # share of the model's suggestions in a similarity

Item = tuple[int, str, Mapping[str, Any]]  # row, decision, body
Booleans = NDArray[np.bool_]


class Near(NamedTuple):
    """A settled row that is similar to another row: its number and the similarity, 0 to 1."""

    row: int
    similarity: float


class Queue:
    """The cases to review. A case is a row and the later rows with the same texts, decision and suggestion.

    Args:
        items: all rows of the review.
        decisions: the model's decisions that reviewers check.
        once: whether rows with the same texts are one case.
    """

    def __init__(self, items: Iterable[Item], decisions: Collection[str], *, once: bool) -> None:
        cases: dict[object, list[int]] = {}
        self._decisions: dict[int, str] = {}
        first: list[tuple[str, Mapping[str, float]]] = []
        given: list[int] = []  # [cases], the least review_order of its rows; else MOST_ORDER + the first row
        numbers: dict[object, int] = {}
        for row, decision, body in items:
            if decision not in decisions:
                continue
            self._decisions[row] = decision
            texts = tuple(body["text"].values())
            key = (texts, decision, body["given"], *body["picks"]) if once else row
            if key not in cases:
                first.append((" ".join(filter(None, texts)), {one["code"]: one["prob"] for one in body["first"]}))
                given.append(MOST_ORDER + row)
            cases.setdefault(key, []).append(row)
            case = numbers.setdefault(key, len(numbers))
            given[case] = min(given[case], body.get("order", MOST_ORDER + row))
        self._ordered = any(place < MOST_ORDER for place in given)
        self._rows = list(cases.values())
        self._first = np.array([rows[0] for rows in self._rows], dtype=np.int64)
        self._case = {row: case for case, rows in enumerate(self._rows) for row in rows}
        self._sizes = np.array([len(rows) for rows in self._rows], dtype=np.int64)
        self._similar = Similar(first)
        self._ranks = _ranks(given, [likely for _, likely in first])

    def place(self, row: int) -> int | None:
        """Return the place of a row's case among `done` and `viewed`, None if reviewers do not check the row's decision."""
        return self._case.get(row)

    def rows(self, row: int) -> list[int]:
        """Return the rows of a row's case, the first of them first; only the row if reviewers do not check its decision."""
        return self._rows[self._case[row]] if row in self._case else [row]

    def settled_of(self, settled: Iterable[int]) -> Counter[str]:
        """Return decision of the model -> number of its settled rows."""
        return Counter(self._decisions[row] for row in settled if row in self._decisions)

    def done(self, settled: Collection[int]) -> Booleans:
        """Return the cases of which all rows are settled, [cases]."""
        cases = [self._case[row] for row in settled if row in self._case]
        found: Booleans = np.bincount(np.array(cases, dtype=np.int64), minlength=len(self._sizes)) == self._sizes
        return found

    def viewed(self, view: str, done: Booleans, marks: Mapping[int, Collection[str]]) -> Booleans:
        """Return the cases that a view shows, [cases].

        Args:
            view: one of VIEWS.
            done: the settled cases.
            marks: row -> kinds of its marks.
        """
        if view == "settled":
            return done
        kind = "flag" if view == "flagged" else "skip"
        marked = np.zeros(len(done), bool)
        marked[[self._case[row] for row, kinds in marks.items() if kind in kinds and row in self._case]] = True
        return marked if view == "flagged" else ~done & (marked if view == "skipped" else ~marked)

    def following(
        self, row: int, wanted: Booleans, order: str, *, back: bool, passed: Sequence[int] = ()
    ) -> int | None:
        """Return the next or previous case's first row in an order, in a cycle; None if no case is wanted.

        Args:
            row: the row that the reviewer saw, -1 at the beginning.
            wanted: [cases].
            order: one of ORDERS; 'file': by the file's column review_order, if there is one, else its rows; 'similar': the
                case most like the one seen.
            back: the previous case; in the order 'similar' that of the file.
            passed: in the order 'similar', the rows seen before, the last one last; they come after all other cases.
        """
        own, cases = self._case.get(row), np.flatnonzero(wanted)
        others = cases if own is None else cases[cases != own]
        if not len(others):
            return row if len(cases) else None
        cases = others
        if order == "similar" and own is not None and not back:
            return int(self._first[self._most_similar(own, cases, passed)])
        ranks = self._ranks["file" if order == "similar" else order]
        before = np.searchsorted(self._first, row) - 0.5 if order in ("file", "similar") and not self._ordered else -1
        here = before if own is None else ranks[own]  # no case: a row that no reviewer checks, or -1
        steps = (here - ranks[cases] if back else ranks[cases] - here) % (len(ranks) + 1)
        return int(self._first[cases[np.argmin(steps)]])

    def _most_similar(self, own: int, cases: NDArray[np.intp], passed: Sequence[int]) -> int:
        """Return the case most like a case; if all were passed, the one passed longest ago."""
        when = {self._case[row]: time for time, row in enumerate(passed) if row in self._case}
        new = cases[~np.isin(cases, np.array(list(when), np.int64))]
        return int(
            new[np.argmax(self._similar.to(own)[new])] if len(new) else min(cases.tolist(), key=when.__getitem__)
        )

    def nearest(self, row: int, done: Booleans, count: int) -> list[Near]:
        """Return the most similar of the settled cases [cases], the most similar first."""
        own = self._case.get(row)
        if own is None:
            return []
        similarity = np.where(done, self._similar.to(own), 0)
        similarity[own] = 0
        places = np.argsort(-similarity, kind="stable")[:count]
        return [
            Near(int(self._first[place]), float(similarity[place])) for place in places if similarity[place] >= LEAST
        ]


def _ranks(given: Sequence[int], likely: Sequence[Mapping[str, float]]) -> dict[str, NDArray[np.int64]]:
    """Return order -> [cases] the place of each case; given: [cases], places in the file's own order.

    In a group the most certain case comes first.
    """
    probabilities = np.array([next(iter(one.values()), 0.0) for one in likely])
    codes = np.array([next(iter(one), "") for one in likely], dtype=object)
    sorts = {
        "file": np.argsort(np.array(given, np.int64), kind="stable"),
        "uncertain": np.argsort(probabilities, kind="stable"),
        "group": np.array(
            sorted(range(len(given)), key=lambda case: (codes[case], -probabilities[case])), dtype=np.int64
        ),
    }
    ranks = {name: np.empty(len(given), np.int64) for name in sorts}
    for name, order in sorts.items():
        ranks[name][order] = np.arange(len(given))
    return ranks


class Similar:
    """Rows that can be compared.

    The similarity of two rows is a mean of the cosine of their n-grams, weighted by TF-IDF, and of the Bhattacharyya
    coefficient of their likeliest codes' probabilities. So rows without a common letter can be similar by any kind of model.

    Args:
        rows: text, and code -> probability, of each row.
    """

    def __init__(self, rows: Sequence[tuple[str, Mapping[str, float]]]) -> None:
        texts = [text for text, _ in rows]
        parts = []
        if any(text.strip() for text in texts):
            grams = TfidfVectorizer(analyzer="char_wb", ngram_range=GRAMS, sublinear_tf=True, dtype=np.float32)
            parts.append(np.sqrt(1 - OF_MODEL) * grams.fit_transform(texts))
        totals = [sum(codes.values()) or 1.0 for _, codes in rows]  # of the codes that the coded file has
        likely = [
            {code: np.sqrt(OF_MODEL * share / total) for code, share in codes.items()}
            for (_, codes), total in zip(rows, totals, strict=True)
        ]
        if any(likely):
            parts.append(DictVectorizer(dtype=np.float32).fit_transform(likely))
        self._rows: Any = hstack(parts).tocsr() if parts else csr_matrix((len(rows), 1), dtype=np.float32)

    def to(self, row: int) -> NDArray[np.float32]:
        """Return each row's similarity to a row, [rows]."""
        found: NDArray[np.float32] = self._rows @ self._rows[row].toarray().ravel()
        return found
