"""Counts of requests, rows and batches for Prometheus, without any text."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)  # upper ends of the bins of a batch's rows
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The counters of one service.

    Args:
        waiting: returns the number of rows that wait.
    """

    def __init__(self, waiting: Callable[[], float]) -> None:
        self._registry = own = CollectorRegistry()
        self._requests = Counter("kjcm_requests", "Requests by status of the answer.", ["status"], registry=own)
        self._rows = Counter("kjcm_rows", "Coded rows by decision.", ["decision"], registry=own)
        self._seconds = Histogram("kjcm_code_seconds", "Seconds of a POST /code.", buckets=SECONDS, registry=own)
        self._batch_rows = Histogram("kjcm_batch_rows", "Rows of a batch.", buckets=ROWS, registry=own)
        self._batch_seconds = Histogram("kjcm_batch_seconds", "Seconds of a batch.", buckets=SECONDS, registry=own)
        Gauge("kjcm_waiting_rows", "Rows that wait for the model.", registry=own).set_function(waiting)
        ProcessCollector(registry=own)

    def answered(self, status: int) -> None:
        """Count a request."""
        self._requests.labels(str(status)).inc()

    def coded(self, decisions: Iterable[str], seconds: float) -> None:
        """Count the rows of a coded request, and its seconds."""
        for decision in decisions:
            self._rows.labels(decision).inc()
        self._seconds.observe(seconds)

    def batch(self, rows: int, seconds: float) -> None:
        """Count a batch."""
        self._batch_rows.observe(rows)
        self._batch_seconds.observe(seconds)

    def text(self) -> bytes:
        """Return all figures in Prometheus's text format."""
        return generate_latest(self._registry)
