"""Errors that the user can fix: each names the file or key, the wrong values and the remedy."""

from collections.abc import Callable, Iterable

SHOWN = 5  # values shown of a longer list
CUT = 40  # characters of a respondent's text that a message may show


class KjcmError(Exception):
    """A problem with the input or the system, shown as one message without a traceback (exit code 1)."""

    exit_code = 1
    kind = "error"  # what failure.json calls it


class DiskError(KjcmError):
    """The system refused access to a file: no permission, a full disk, no such folder."""


class WorkerError(KjcmError):
    """A cluster, or a process on it, failed. The same command resumes."""


class ConfigError(KjcmError):
    """A wrong value or combination of values in the config (exit code 2)."""

    exit_code = 2


class Interrupted(BaseException):
    """A signal ended the process, whose work can resume from what it has saved.

    Args:
        signal: the signal's number; the exit code is 128 plus this number.
    """

    def __init__(self, signal: int) -> None:
        super().__init__(signal)  # unchanged: exceptions are pickled by their arguments
        self.signal = signal
        self.exit_code = 128 + signal

    def __str__(self) -> str:
        return f"interrupted by signal {self.signal}"


def some(values: Iterable[object]) -> str:
    """Return the first five of `values`, each cut to 40 characters, and the number of further values."""
    texts = [repr(str(value)[:CUT]) for value in values]
    more = len(texts) - SHOWN
    return ", ".join(texts[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def require_columns(
    place: object, columns: Iterable[object], needed: Iterable[object], remedy: Callable[[], str] = str
) -> None:
    """Raise KjcmError unless a table's `columns` include all of `needed`; the message ends with the text from `remedy`."""
    own = list(map(str, columns))
    if missing := [name for name in map(str, needed) if name not in own]:
        raise KjcmError(f"{place}: has no column {some(missing)}; its columns are {some(own)}. {remedy()}".rstrip())


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """Return a number and its noun; the default plural adds an s."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, cut to 200 characters."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def of_the_system(error: OSError) -> KjcmError:
    """Return an error of the system (no permission, a full disk) as a KjcmError."""
    place = f"{error.filename}: " if error.filename else ""
    return DiskError(f"{place}{error.strerror or error}. Check the path, its permissions and the disk.")
