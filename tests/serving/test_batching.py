"""Batches: order, size, waiting time, cancelled requests, errors, and the end."""

import threading
import time
from concurrent.futures import Future, wait

import pytest

from kjcm.serving.batching import Batcher, Full


class Work:
    """Doubles numbers, while `gate` is open; records the batches, and fails for negative numbers."""

    def __init__(self) -> None:
        self.gate, self.begun = threading.Event(), threading.Event()
        self.batches: list[list[int]] = []

    def __call__(self, rows: list[int]) -> list[int]:
        self.begun.set()
        assert self.gate.wait(20)
        self.batches.append(rows)
        if min(rows) < 0:
            raise ValueError(f"{min(rows)}")
        return [2 * row for row in rows]


def held(work: Work, batcher: "Batcher[int, int]") -> "Future[list[int]]":
    """Submit one request that the work holds up, so that the next ones wait together."""
    first = batcher.submit([0])
    assert work.begun.wait(20)
    return first


def test_requests_that_wait_share_batches_in_their_order() -> None:
    work, seen = Work(), []
    batcher = Batcher(work, rows=4, wait=0, waiting=100, done=lambda rows, seconds: seen.append(rows))
    first = held(work, batcher)
    asked = [[1], [2, 3], [4, 5], [6, 7, 8, 9, 10], [11]]
    found = [batcher.submit(rows) for rows in asked]
    assert batcher.waiting == 11
    work.gate.set()
    assert [one.result(20) for one in found] == [[2 * row for row in rows] for rows in asked]
    assert first.result() == [0] and batcher.waiting == 0
    # a request is never divided: one that is larger than a batch is a batch of its own
    assert work.batches == [[0], [1, 2, 3], [4, 5], [6, 7, 8, 9, 10], [11]]
    batcher.close()
    assert seen == [1, 3, 2, 5, 1]


def test_a_batch_waits_for_others_and_begins_as_soon_as_it_is_full() -> None:
    work = Work()
    work.gate.set()
    batcher = Batcher(work, rows=3, wait=0.3, waiting=100)
    begin = time.monotonic()
    found = [batcher.submit([row]) for row in (1, 2)]
    wait(found, 20)
    assert 0.25 < time.monotonic() - begin < 10 and work.batches == [[1, 2]]
    batcher.close()
    patient = Batcher(work, rows=3, wait=60, waiting=100)
    wait([patient.submit([row]) for row in (3, 4, 5)], 20)
    assert work.batches[1:] == [[3, 4, 5]]
    patient.close()


def test_cancelled_requests_are_not_coded() -> None:
    work = Work()
    batcher = Batcher(work, rows=10, wait=0, waiting=100)
    first = held(work, batcher)
    found = [batcher.submit([row]) for row in (1, 2, 3)]
    assert found[1].cancel() and not first.cancel()
    work.gate.set()
    assert found[0].result(20) == [2] and found[2].result(20) == [6]
    assert work.batches == [[0], [1, 3]]
    batcher.close()


def test_an_error_is_of_one_request_alone() -> None:
    work = Work()
    batcher = Batcher(work, rows=10, wait=0, waiting=100)
    held(work, batcher)
    good, bad, other = (batcher.submit([row]) for row in (1, -2, 3))
    work.gate.set()
    assert good.result(20) == [2] and other.result(20) == [6]
    with pytest.raises(ValueError, match="-2"):
        bad.result(20)
    batcher.close()


def test_a_panic_does_not_end_the_thread() -> None:
    class PanicException(BaseException):
        """As tokenizers' Rust code raises it."""

    def work(rows: list[int]) -> list[int]:
        if -1 in rows:
            raise PanicException("a text")
        return rows

    batcher = Batcher(work, rows=10, wait=0, waiting=100)
    with pytest.raises(RuntimeError, match=r"^PanicException$"):
        batcher.submit([-1]).result(20)
    assert batcher.submit([1]).result(20) == [1]
    batcher.close()


def test_a_wrong_number_of_answers_is_an_error() -> None:
    batcher: Batcher[int, int] = Batcher(lambda rows: rows[1:], rows=10, wait=0, waiting=100)
    with pytest.raises(ValueError, match="0 answers"):
        batcher.submit([1]).result(20)
    batcher.close()


def test_the_queue_has_an_end() -> None:
    work = Work()
    batcher = Batcher(work, rows=2, wait=0, waiting=3)
    held(work, batcher)
    large = batcher.submit([1, 2, 3, 4, 5])  # alone in the queue, any request is accepted
    assert not batcher.is_ready
    with pytest.raises(Full):
        batcher.submit([6])
    work.gate.set()
    assert len(large.result(20)) == 5 and batcher.is_ready
    batcher.close()


def test_closing_answers_the_requests_that_wait() -> None:
    work = Work()
    batcher = Batcher(work, rows=1, wait=60, waiting=100)
    held(work, batcher)
    found = [batcher.submit([row]) for row in (1, 2)]
    threading.Timer(0.2, work.gate.set).start()
    batcher.close()
    assert [one.result(0) for one in found] == [[2], [4]] and not batcher.is_ready
    with pytest.raises(Full):
        batcher.submit([3])
