"""Print log lines without breaking a progress bar, and prefix the lines of parallel jobs."""

import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

_quiet = [False]


def is_quiet() -> bool:
    """Return whether the screen shows warnings and progress bars only."""
    return _quiet[0]


@contextmanager
def quietly() -> Iterator[None]:
    """Show warnings and progress bars only while the context lasts."""
    before, _quiet[0] = _quiet[0], True
    try:
        yield
    finally:
        _quiet[0] = before


class ToStdout(logging.StreamHandler[TextIO]):
    """A log handler that writes to the current sys.stdout, which a progress bar may have replaced.

    Args:
        stream: ignored; Hydra's log configs pass it.
    """

    def __init__(self, stream: None = None) -> None:
        logging.Handler.__init__(self)
        self.addFilter(lambda record: record.levelno >= logging.WARNING or not is_quiet())

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        """The current sys.stdout."""
        return sys.stdout


class Prefixed:
    """A text stream that writes whole lines with a prefix; it is not a terminal, so progress bars are off.

    Args:
        stream: receives the lines.
        prefix: the start of each line.
    """

    def __init__(self, stream: TextIO, prefix: str) -> None:
        self._stream, self._prefix, self._begun = stream, prefix, ""

    def write(self, text: str) -> int:
        """Write all complete lines; keep an incomplete line until its end arrives."""
        *lines, self._begun = (self._begun + text).split("\n")
        if lines:
            self._stream.write("".join(f"{self._prefix}{line}\n" for line in lines))
            self._stream.flush()
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write lines one by one."""
        for line in lines:
            self.write(line)

    def isatty(self) -> bool:
        """Return False: the stream is not a terminal."""
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def prefixed(prefix: str) -> Iterator[None]:
    """Prefix all lines that this process prints while the context lasts."""
    before = sys.stdout, sys.stderr
    after = [Prefixed(stream, prefix) for stream in before]
    sys.stdout, sys.stderr = after
    try:
        yield
    finally:
        for stream in after:
            stream.write("\n" if stream._begun else "")
        sys.stdout, sys.stderr = before
