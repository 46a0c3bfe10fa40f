"""Standard streams that may close without failing the command, and the encoding that Hangul needs."""

import io
import os
import sys
from typing import Any, TextIO


def use_hangul() -> None:
    """Restart the process in Python's UTF-8 mode if its locale lacks Hangul, as with LC_ALL=C PYTHONUTF8=0."""
    try:
        "한글".encode(sys.getfilesystemencoding())
    except UnicodeEncodeError:
        if os.environ.get("PYTHONUTF8") == "1":  # ignored with python -I: avoid endless restarts
            return
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def use_outlets() -> None:
    """Drop printed output instead of raising an error once its reader is gone or it cannot be written."""
    sys.stdout, sys.stderr = _outlet(sys.stdout, sys.__stderr__), _outlet(sys.stderr, None)


class _Outlet(io.FileIO):
    """A file descriptor that becomes the null device at the first write that fails.

    Args:
        descriptor: file descriptor of an open file.
        other: stream on which failures other than a closed pipe are reported.
    """

    def __init__(self, descriptor: int, other: TextIO | None) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._other = other

    def write(self, data: Any) -> int:
        """Write bytes, and return how many."""
        try:
            return super().write(data)
        except OSError as error:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            if self._other is not None and not isinstance(error, BrokenPipeError):
                print(f"kjcm: the output could not be printed ({error.strerror}).", file=self._other, flush=True)
            return len(data)


def _outlet(stream: TextIO | None, other: TextIO | None) -> TextIO:
    """Return a stream like `stream`; the null device if `stream` was closed before the process started."""
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123
    raw = io.BufferedWriter(_Outlet(stream.fileno(), other))
    return io.TextIOWrapper(
        raw,
        encoding=stream.encoding,
        errors="backslashreplace",  # a path may contain invalid bytes
        line_buffering=bool(stream.line_buffering),
    )
