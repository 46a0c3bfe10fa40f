"""Orders, views and similar rows, on cases worked by hand."""

from typing import Any

import pytest

from kjcm.review.queue import ORDERS, Queue

OPEN = ("choose",)


def body(task: str, code: str = "320", probability: float = 0.5, given: str = "") -> dict[str, Any]:
    first = [{"code": code, "title": "", "prob": probability}]
    return {"text": {"workplace": "", "task": task}, "first": first, "picks": [code], "given": given}


ROWS = [
    (0, "choose", body("택시 운전", "873", 0.9)),
    (1, "choose", body("예금 상담", "320", 0.4)),
    (2, "accept", body("예금 상담", "320", 0.99)),
    (3, "choose", body("버스 운전", "873", 0.6)),
    (4, "choose", body("택시 운전", "873", 0.9)),
    (5, "choose", body("예금 상담", "320", 0.4, given="312")),
    (6, "choose", body("대출 상담", "320", 0.7)),
]


@pytest.fixture
def queue() -> Queue:
    return Queue(ROWS, OPEN, once=True)


def walk(queue: Queue, order: str, row: int = -1, *, back: bool = False) -> list[int]:
    """Return the rows of all cases in an order."""
    wanted, found = queue.viewed("open", queue.done(()), {}), list[int]()
    while (following := queue.following(row, wanted, order, back=back)) is not None:
        row = following
        found.append(row)
        wanted[queue.place(row)] = False
    return found


def test_identical_texts_with_one_suggestion_are_a_case(queue: Queue) -> None:
    assert queue.rows(0) == queue.rows(4) == [0, 4]
    assert queue.rows(1) == [1] and queue.rows(5) == [5]  # an audit gives them different codes to check
    assert queue.rows(2) == [2] and queue.place(2) is None
    assert Queue(ROWS, OPEN, once=False).rows(4) == [4]


def test_each_order_shows_every_case_once(queue: Queue) -> None:
    assert walk(queue, "file") == [0, 1, 3, 5, 6]
    assert walk(queue, "file", 3) == [5, 6, 0, 1, 3] and walk(queue, "file", 3, back=True) == [1, 0, 6, 5, 3]
    assert walk(queue, "file", 2) == [3, 5, 6, 0, 1] and walk(queue, "file", 4)[:2] == [1, 3]
    assert walk(queue, "uncertain") == [1, 5, 3, 6, 0]
    assert walk(queue, "group") == [6, 1, 5, 0, 3]
    assert walk(queue, "similar") == [0, 3, 1, 5, 6]
    assert all(sorted(walk(queue, order)) == [0, 1, 3, 5, 6] for order in ORDERS)


ORDERED = [
    (row, decision, {**texts, **({"order": {4: 1, 6: 2}[row]} if row in (4, 6) else {})})
    for row, decision, texts in ROWS
]


def test_a_case_has_the_least_place_of_its_rows() -> None:
    assert walk(Queue(ORDERED, OPEN, once=True), "file") == [0, 6, 1, 3, 5]  # row 4, with the texts of row 0, is first
    assert walk(Queue(ORDERED, OPEN, once=False), "file") == [4, 6, 0, 1, 3, 5]


def test_the_order_of_review_begins_anew_after_a_row_outside_of_it() -> None:
    queue = Queue(ORDERED, OPEN, once=True)
    assert walk(queue, "file", 2) == [0, 6, 1, 3, 5]
    assert walk(queue, "file", 2, back=True) == [5, 3, 1, 6, 0]


def test_rows_that_were_passed_come_last_in_the_order_of_similarity(queue: Queue) -> None:
    wanted, passed = queue.viewed("open", queue.done(()), {}), list[int]()
    for _ in range(10):
        following = queue.following(passed[-1] if passed else -1, wanted, "similar", back=False, passed=passed[:-1])
        assert following is not None
        passed.append(following)
    assert passed == [0, 3, 1, 5, 6] * 2
    assert queue.following(6, wanted, "similar", back=False, passed=[4, 2, 99, 5]) == 1  # row 4 has the texts of row 0


def test_the_last_case_follows_itself(queue: Queue) -> None:
    wanted = queue.viewed("open", queue.done({1, 3, 5, 6}), {})
    assert queue.following(0, wanted, "file", back=False) == 0
    assert queue.following(0, queue.viewed("open", queue.done({0, 1, 3, 4, 5, 6}), {}), "file", back=False) is None


def test_views(queue: Queue) -> None:
    done, marks = queue.done({0, 3, 2}), {5: {"skip": 1}, 3: {"flag": 1}, 2: {"flag": 1}}
    seen = {view: walk_of(queue, view, done, marks) for view in ("open", "skipped", "flagged", "settled")}
    assert seen == {"open": [0, 1, 6], "skipped": [5], "flagged": [3], "settled": [3]}  # row 4 has no decision yet


def walk_of(queue: Queue, view: str, done: Any, marks: Any) -> list[int]:
    viewed = queue.viewed(view, done, marks)
    return [row for row in (0, 1, 3, 5, 6) if viewed[queue.place(row)]]


def test_the_most_similar_settled_rows(queue: Queue) -> None:
    done = queue.done({1, 3, 5})
    near = queue.nearest(6, done, 2)
    assert [one.row for one in near] == [1, 5] and 0.4 < near[0].similarity < 1
    assert [one.row for one in queue.nearest(4, done, 5)] == [3]
    assert queue.nearest(1, done, 1)[0].row == 5 and queue.nearest(1, done, 1)[0].similarity == pytest.approx(1)
    assert queue.nearest(2, done, 5) == []


def test_rows_without_letters_or_codes_have_no_similar_rows() -> None:
    empty = {"text": {"task": ""}, "first": [], "picks": [], "given": ""}
    queue = Queue([(0, "choose", empty), (1, "choose", body(" ", "111"))], OPEN, once=True)
    assert queue.nearest(0, queue.done({1}), 5) == [] and walk(queue, "similar") == [0, 1]
    nothing = Queue([], OPEN, once=True)
    assert nothing.following(-1, nothing.viewed("open", nothing.done(()), {}), "similar", back=False) is None
