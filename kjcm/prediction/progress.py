"""Show how far a coding is."""

import logging
import sys
import time

EVERY = 30.0  # seconds between two lines off a terminal

log = logging.getLogger("kjcm")


class Progress:
    """Shows rows done, rows per second and time left: in one line on a terminal, else in a log line every 30 seconds.

    Args:
        total: approximate number of rows.
    """

    def __init__(self, total: int) -> None:
        self.total, self.done, self.new = total, 0, 0
        self.begin = self.said = time.monotonic()
        self.terminal = sys.stderr.isatty()

    def add(self, rows: int, coded: bool) -> None:
        """Count rows; `coded`: this process coded them, so they count for the time left."""
        self.done += rows
        self.new += rows * coded
        if self.terminal:
            print(f"\r\x1b[K{self}", end="", file=sys.stderr, flush=True)
        elif (now := time.monotonic()) - self.said >= EVERY:
            self.said = now
            log.info("%s", self)

    def close(self) -> None:
        """Clear the terminal line."""
        if self.terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def __str__(self) -> str:
        total, spent = max(self.total, self.done), time.monotonic() - self.begin
        shown = f"{self.done:,} of {total:,} rows"
        if not self.new:
            return shown
        left = round((total - self.done) * spent / self.new)
        minutes, seconds = divmod(left, 60)
        return (
            f"{shown}, {self.new / max(spent, 1e-3):,.0f} rows/s, {minutes // 60}:{minutes % 60:02}:{seconds:02} left"
        )
