"""What a process prints: log lines that never tear a progress bar, and the lines of jobs that run at once told apart."""

import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO


class ToStdout(logging.StreamHandler[TextIO]):
    """A log handler that writes to what sys.stdout is at that moment: a progress bar puts a stream of its own there.

    Args:
        stream: nothing; Hydra's configs of a log name it.
    """

    def __init__(self, stream: None = None) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        """The stream of the moment."""
        return sys.stdout


class Prefixed:
    """A text stream whose lines begin with a prefix, each written in one piece; it is no terminal, so it gets no bars.

    Args:
        stream: where the lines go.
        prefix: their beginning.
    """

    def __init__(self, stream: TextIO, prefix: str) -> None:
        self._stream, self._prefix, self._begun = stream, prefix, ""

    def write(self, text: str) -> int:
        """Write all whole lines; the beginning of a line waits for its end."""
        *lines, self._begun = (self._begun + text).split("\n")
        if lines:
            self._stream.write("".join(f"{self._prefix}{line}\n" for line in lines))
            self._stream.flush()
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write lines one by one, as they come."""
        for line in lines:
            self.write(line)

    def isatty(self) -> bool:
        """Tell that it is no terminal."""
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def prefixed(prefix: str) -> Iterator[None]:
    """Let all lines of this process begin with a prefix while the context lasts."""
    before = sys.stdout, sys.stderr
    after = [Prefixed(stream, prefix) for stream in before]
    sys.stdout, sys.stderr = after
    try:
        yield
    finally:
        for stream in after:
            stream.write("\n" if stream._begun else "")
        sys.stdout, sys.stderr = before
