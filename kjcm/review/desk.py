"""Choose the next row of a reviewer, and collect what the page shows: the row's data and the progress."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from kjcm.ksco.classification import Classification
from kjcm.ksco.title_index import IndexTitle
from kjcm.review.files import Further
from kjcm.review.guide import Guide
from kjcm.review.queue import VIEWS, Booleans, Queue
from kjcm.review.records import Mark
from kjcm.review.store import Store
from kjcm.search.engine import Hit, Scorer, Search

CLAIM = 600.0  # seconds for which one reviewer's row is not shown to others
SIMILAR = 5  # settled rows that a row shows
PACED = 30  # last decisions of which the pace is the mean
BREAK = 300  # seconds; a longer gap between two decisions is no work


@dataclass(frozen=True)
class Review:
    """The settings of a review.

    Attributes:
        coded: the coded file.
        db: the review's file.
        classification: its codes can be chosen.
        search: finds codes, cut to the model's level.
        scorer: the model, which finds codes for texts; None: it is not asked.
        decisions: the model's decisions that reviewers check.
        who: the reviewer, unless the page names another.
        language: 'ko' or 'en'.
        host: where the server listens.
        token: that visitors need; None on loopback.
        index: job titles, which explain codes.
        further: further columns to show.
        once: whether rows with the same texts are decided once.
        from_titles: whether no answer has validated the model.
    """

    coded: Path
    db: Path
    classification: Classification
    search: Search
    scorer: Scorer | None
    decisions: Sequence[str]
    who: str
    language: str
    host: str
    token: str | None
    index: Sequence[IndexTitle] = ()
    further: Further = field(default_factory=Further)
    once: bool = True
    from_titles: bool = False

    def fitting(self, code: str) -> str | None:
        """Return a code cut to the model's level, a shorter code unchanged, None if it is not a code."""
        return self.search.group(code) if code in self.classification.titles else None


@dataclass(frozen=True)
class Way:
    """Which row a reviewer wants: from the row seen, in a view and an order, after the rows passed, see `Queue`."""

    after: int
    view: str
    order: str
    back: bool
    passed: Sequence[int] = ()


class Settled:
    """The settled rows of a store, of which each request reads only what is new."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._codes: dict[int, str] = {}
        self._progress = (0, 0)

    def of(self, store: Store) -> dict[int, str]:
        """Return settled row -> code."""
        with self._lock:
            last, undone = store.progress()
            if undone != self._progress[1] or last < self._progress[0]:
                self._codes = store.settled()
            elif last > self._progress[0]:
                self._codes = self._codes | store.settled(after=self._progress[0])
            self._progress = last, undone
            return self._codes


class Moment:
    """A review's state as one request reads it.

    Args:
        store: the review's file.
        queue: its cases.
        settled: its settled rows.
    """

    def __init__(self, store: Store, queue: Queue, settled: Mapping[int, str]) -> None:
        self.store, self.settled, self._queue = store, settled, queue

    @cached_property
    def marks(self) -> Mapping[int, Mapping[str, Mark]]:
        """Row -> kind -> mark."""
        return self.store.marks()

    @cached_property
    def done(self) -> Booleans:
        """Whether each case is settled, [cases]."""
        return self._queue.done(self.settled)

    def viewed(self, view: str) -> Booleans:
        """Return the cases of a view, [cases]."""
        return self._queue.viewed(view, self.done, self.marks)


class Desk:
    """The rows of a review, and who works on which.

    Args:
        review: its settings.
    """

    def __init__(self, review: Review) -> None:
        self._review = review
        store = Store(review.db)
        try:
            self.queue = Queue(store.items(), review.decisions, once=review.once)
            self._count_of = {name: rows for name, (rows, _) in store.counts().items() if name in review.decisions}
        finally:
            store.close()
        self._guide = Guide(review.classification, review.index, review.search)
        self._row_of_id = {
            name: row for row, name in reversed(list(enumerate(review.further.ids)))
        }  # the first of equal ids
        self._settled = Settled()
        self._claims: dict[str, tuple[int, float]] = {}  # reviewer -> the row that they see, and since when
        self._choosing = Lock()  # two reviewers must not choose the same row

    def _moment(self, store: Store) -> Moment:
        return Moment(store, self.queue, self._settled.of(store))

    def show(self, store: Store, row: int | None, who: str | None) -> dict[str, Any]:
        """Return the review's state and a row, which is the reviewer's for a while."""
        self._claim(row, who)
        return self._shown(self._moment(store), row, who)

    def next(self, store: Store, way: Way, who: str | None) -> dict[str, Any]:
        """Return the review's state and the next row of a reviewer, which is theirs for a while."""
        with self._choosing:
            moment = self._moment(store)
            row = self._next_row(moment, way, who)
            self._claim(row, who)
        return self._shown(moment, row, who)

    def _claim(self, row: int | None, who: str | None) -> None:
        if row is not None and who is not None:
            self._claims[who] = (row, time.monotonic())

    def _shown(self, moment: Moment, row: int | None, who: str | None) -> dict[str, Any]:
        return {"state": self._state(moment, who), "item": None if row is None else self._item(moment, row)}

    def _next_row(self, moment: Moment, way: Way, who: str | None) -> int | None:
        """Return the next row that no other reviewer sees; without one, any next row."""
        since = time.monotonic() - CLAIM
        for other in [other for other, (_, at) in list(self._claims.items()) if at <= since]:
            self._claims.pop(other, None)
        wanted = moment.viewed(way.view)
        free, taken = wanted.copy(), [row for other, (row, _) in list(self._claims.items()) if other != who]
        free[[place for row in taken if (place := self.queue.place(row)) is not None]] = False
        offered = free if free.any() else wanted
        return self.queue.following(way.after, offered, way.order, back=way.back, passed=way.passed)

    def find(self, text: str) -> int | None:
        """Return the row with an id or, else, a number from 1; #12 is always a number."""
        if text in self._row_of_id:
            return self._row_of_id[text]
        number = text.removeprefix("#").replace(",", "")
        return int(number) - 1 if number.isascii() and number.isdigit() and int(number) > 0 else None

    def _state(self, moment: Moment, who: str | None) -> dict[str, Any]:
        """Return how far the review is: rows by decision, cases by view, and a reviewer's seconds for a decision."""
        review, settled = self._review, self.queue.settled_of(moment.settled)
        return {
            "counts": {name: {"rows": rows, "settled": settled[name]} for name, rows in self._count_of.items()},
            "rows": sum(self._count_of.values()),
            "settled": settled.total(),
            "views": {view: int(moment.viewed(view).sum()) for view in VIEWS},
            "pace": None if who is None else _pace(moment.store, who),
            "who": review.who if review.token is None else "",  # another address is another reviewer
            "language": review.language,
            "from_titles": review.from_titles,
            "file": review.coded.name,
        }

    def _item(self, moment: Moment, row: int) -> dict[str, Any] | None:
        rows = self.queue.rows(row)
        row, further = rows[0], self._review.further
        found = moment.store.item(row)
        if found is None:
            return None
        text = " ".join(found["text"].values())
        codes = [*found["first"], *found.get("further", [])]
        marks = {kind: {"note": mark.note, "who": mark.who} for kind, mark in moment.marks.get(row, {}).items()}
        return {
            **found,
            "first": [{**one, "english": self._guide.name(one["code"])["english"]} for one in found["first"]],
            "further": [
                {**one, "english": self._guide.name(one["code"])["english"]} for one in found.get("further", [])
            ],
            "id": further.ids[row] if further.ids else None,
            "columns": [[name, cells[row]] for name, cells in further.shown.items()],
            "same": len(rows),
            "marks": marks,
            "about": {one["code"]: self._guide.about(one["code"], text) for one in codes},
            "similar": list(self._similar(moment, row)),
        }

    def _similar(self, moment: Moment, row: int) -> Any:
        """Yield the most similar settled rows."""
        for near in self.queue.nearest(row, moment.done, SIMILAR):
            item, code = moment.store.item(near.row), moment.settled[near.row]
            if item is not None:
                yield {**self._guide.name(code), "row": near.row, "text": item["text"], "similarity": near.similarity}

    def about(self, store: Store, code: str, row: int) -> dict[str, Any]:
        """Return what is known of a code, with the job titles most like a row."""
        item = store.item(row)
        return self._guide.about(code, " ".join(item["text"].values()) if item else "")

    def hit(self, hit: Hit) -> dict[str, Any]:
        """Return a result of the search as the page shows it."""
        entry = hit.entry
        matched = {"title": entry.title, "code": entry.code, "parts": [*hit.parts]} if entry else None
        return {**self._guide.name(hit.code), "why": hit.why.name, "matched": matched, "prob": hit.probability}


def _pace(store: Store, who: str) -> float | None:
    """Return the mean seconds between a reviewer's last decisions, without breaks; None after less than three."""
    times = [time.timestamp() for time in store.times(who, PACED)]
    gaps = -np.diff(times)
    gaps = gaps[(gaps >= 0) & (gaps <= BREAK)]
    return float(gaps.mean()) if len(gaps) > 1 else None
