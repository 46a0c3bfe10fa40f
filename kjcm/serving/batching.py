"""Dynamic batching: one thread codes the rows of concurrent requests together."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Row = TypeVar("Row")
Answer = TypeVar("Answer")


class Full(Exception):
    """Too many rows wait."""


@dataclass(frozen=True)
class _Request(Generic[Row, Answer]):
    """The rows of a request that waits.

    Attributes:
        rows: the rows.
        answers: gets an answer for each row.
        since: when the request arrived.
    """

    rows: Sequence[Row]
    answers: "Future[list[Answer]]" = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)


class Batcher(Generic[Row, Answer]):
    """Answer the rows of requests in batches, in the order in which the requests arrived.

    A batch begins when it is full, or when its oldest request has waited long enough. If a batch fails, each of its requests
    is tried alone, so that no request fails because of another one. Rows of cancelled requests are left out.

    Args:
        work: returns the answers of rows, in order.
        rows: most rows of a batch; a request with more rows is a batch of its own.
        wait: seconds that a request waits for others.
        waiting: most rows that may wait.
        done: called with each batch's number of rows and its seconds.
    """

    def __init__(
        self,
        work: Callable[[list[Row]], Sequence[Answer]],
        rows: int,
        wait: float,
        waiting: int,
        done: Callable[[int, float], object] = lambda rows, seconds: None,
    ) -> None:
        self._work, self._most, self._wait, self._most_waiting, self._done = work, rows, wait, waiting, done
        self._requests: deque[_Request[Row, Answer]] = deque()
        self._rows, self._closed = 0, False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="batches", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Return the number of rows that wait."""
        return self._rows

    @property
    def is_ready(self) -> bool:
        """Return whether further rows may wait."""
        return not self._closed and self._rows < self._most_waiting

    def submit(self, rows: Sequence[Row]) -> "Future[list[Answer]]":
        """Return the future answers of rows; cancel it if nobody waits for them.

        Raises:
            Full: too many rows wait, or the batcher is closed. A request is accepted if no row waits, whatever its size.
        """
        request: _Request[Row, Answer] = _Request(rows)
        with self._changed:
            if self._closed or (self._rows and self._rows + len(rows) > self._most_waiting):
                raise Full
            self._requests.append(request)
            self._rows += len(rows)
            self._changed.notify()
        return request.answers

    def close(self) -> None:
        """Answer the requests that wait, accept no others, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._next():
            self._answer([one for one in batch if one.answers.set_running_or_notify_cancel()])

    def _next(self) -> list[_Request[Row, Answer]]:
        """Return the requests of the next batch; none if the batcher is closed."""
        with self._changed:
            while not self._requests and not self._closed:
                self._changed.wait()
            if self._requests:
                begin = self._requests[0].since + self._wait
                while self._rows < self._most and not self._closed and (left := begin - time.monotonic()) > 0:
                    self._changed.wait(left)
            batch: list[_Request[Row, Answer]] = []
            rows = 0
            while self._requests and (not batch or rows + len(self._requests[0].rows) <= self._most):
                batch.append(self._requests.popleft())
                rows += len(batch[-1].rows)
            self._rows -= rows
            return batch

    def _answer(self, batch: list[_Request[Row, Answer]]) -> None:
        rows = [row for request in batch for row in request.rows]
        if not rows:
            return
        begin = time.monotonic()
        try:
            answers = list(self._work(rows))
            if len(answers) != len(rows):
                raise ValueError(f"{len(answers)} answers for {len(rows)} rows")
        except BaseException as error:  # a panic in tokenizers is no Exception, and must not end this thread
            if len(batch) == 1:
                # not the panic's own message, which may contain a text
                panic = RuntimeError(type(error).__name__).with_traceback(error.__traceback__)
                batch[0].answers.set_exception(error if isinstance(error, Exception) else panic)
            else:
                for request in batch:
                    self._answer([request])
            return
        self._done(len(rows), time.monotonic() - begin)
        first = 0
        for request in batch:
            request.answers.set_result(answers[first : first + len(request.rows)])
            first += len(request.rows)
