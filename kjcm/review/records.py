"""Check a review file's contents when they are read: rows, decisions, and the journal next to the file."""

import json
import math
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from kjcm.errors import KjcmError, of_the_system

BODY = {"text", "first", "picks", "given"}  # of an item
# In newer files; order: place in the order of review; disputed: coders chose different codes.
LATER = {"further", "order", "disputed"}
MOST_ORDER = 10**12
KINDS = ("flag", "skip", "comment")  # of marks
WAL = b"\x02\x02"  # bytes 18 and 19 of a database with a write-ahead log


@dataclass(frozen=True)
class Choice:
    """A reviewer's decision on a row: its number, code, reviewer and time (ISO, UTC)."""

    id: int
    code: str
    who: str
    at: str


@dataclass(frozen=True)
class Mark:
    """A reviewer's mark on a row: its kind, one of KINDS, the comment, the reviewer and the time (ISO, UTC)."""

    kind: str
    note: str
    who: str
    at: str


def item_of(row: int, decision: object, body: object) -> dict[str, Any]:
    """Return a row as the page shows it.

    Raises:
        ValueError: it is not what a review keeps.
    """
    wrong = ValueError(f"item {row} is not what a review keeps")
    if not (isinstance(decision, str) and isinstance(body, str)):
        raise wrong
    try:
        found: dict[str, Any] = json.loads(body)
        codes = [*found["first"], *found.get("further", [])]
        texts = [*found["text"].values(), *found["picks"], found["given"]]
        texts += [one[name] for one in codes for name in ("code", "title")]
        fine = set(found) - LATER == BODY and all(math.isfinite(one["prob"]) for one in found["first"])
        "".join(texts).encode()  # lone surrogates are not text
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        raise wrong from None
    place = found.get("order", 1)
    if not fine or not isinstance(found["picks"], list) or type(place) is not int or not 0 < place < MOST_ORDER:
        raise wrong
    if found.get("disputed", True) is not True:
        raise wrong
    return found


def choice_of(number: int, code: object, who: object, at: object, row: object = 0, undone: object = None) -> Choice:
    """Return a decision.

    Raises:
        ValueError: it is not what a review keeps.
    """
    if not (isinstance(code, str) and isinstance(who, str) and isinstance(at, str) and isinstance(row, int)):
        raise ValueError(f"decision {number} is not what a review keeps")
    if not code or not _is_time(at) or not (undone is None or (isinstance(undone, str) and _is_time(undone))):
        raise ValueError(f"decision {number} is not what a review keeps")
    return Choice(number, code, who, at)


def mark_of(row: object, kind: object, note: object, who: object, at: object, undone: object = None) -> Mark:
    """Return a mark.

    Raises:
        ValueError: it is not what a review keeps.
    """
    texts = (kind, note, who, at, "" if undone is None else undone)
    if not all(isinstance(text, str) for text in texts) or not isinstance(row, int) or kind not in KINDS:
        raise ValueError("a mark is not what a review keeps")
    if not _is_time(str(at)) or not (undone is None or _is_time(str(undone))):
        raise ValueError("a mark is not what a review keeps")
    return Mark(str(kind), str(note), str(who), str(at))


def _is_time(text: str) -> bool:
    try:
        return bool(datetime.fromisoformat(text))
    except ValueError:
        return False


def require_alone(file: Path) -> None:
    """Raise KjcmError if `file` is not a regular file, or has another file's journal, which SQLite would apply to it."""
    wal = False
    if file.is_file():
        try:
            with file.open("rb") as stream:
                wal = stream.read(20)[18:] == WAL
        except OSError as error:
            raise of_the_system(error) from None
    elif file.exists() or file.is_symlink():
        raise KjcmError(f"{file}: is not a file. Choose another with db=FILE.")
    own = ("-wal" if wal else "-journal") if file.is_file() else None
    for kind in ("-wal", "-journal"):
        beside = file.with_name(file.name + kind)
        if beside.is_file() and (kind == own or not beside.stat().st_size):
            continue
        if beside.exists() or beside.is_symlink():
            raise KjcmError(
                f"{beside}: is not the journal of {file.name}, and may contain another review's decisions. Move it next to "
                "that review's file, or elsewhere."
            )
