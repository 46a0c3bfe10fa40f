"""What is to be reviewed and what was decided: one SQLite file, one transaction a decision, nothing ever overwritten."""

import json
import os
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kjcm.errors import KjcmError, first_line

TABLES = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE item (row INTEGER PRIMARY KEY, decision TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE choice (
  id INTEGER PRIMARY KEY, row INTEGER NOT NULL REFERENCES item, code TEXT NOT NULL, who TEXT NOT NULL, at TEXT NOT NULL,
  undone TEXT
);
CREATE INDEX choice_of_row ON choice (row, undone);
CREATE INDEX item_of_decision ON item (decision);
"""
SETTLED = "EXISTS (SELECT 1 FROM choice WHERE choice.row = item.row AND undone IS NULL)"


@dataclass(frozen=True)
class Choice:
    """What a person decided of a row: the decision's number, code, who, and when (ISO, UTC)."""

    id: int
    code: str
    who: str
    at: str


class Store:
    """A review's file; each thread opens its own.

    Args:
        file: the file.

    Raises:
        KjcmError: it is no review's file, or damaged.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            self.base = sqlite3.connect(
                f"{file.absolute().as_uri()}?mode=rw", isolation_level=None, timeout=30, uri=True
            )
            self.base.execute("PRAGMA journal_mode=WAL")
            self.base.execute("PRAGMA synchronous=FULL")
            self.about: dict[str, str] = dict(self.base.execute("SELECT name, value FROM about"))
        except sqlite3.Error as error:
            raise KjcmError(
                f"{file}: not a review's file, or damaged ({first_line(error)}). Name another with db=FILE."
            ) from None

    def close(self) -> None:
        """Close the file."""
        self.base.close()

    def counts(self) -> dict[str, tuple[int, int]]:
        """Return decision -> its rows, and those that a person has settled."""
        rows, settled = (
            dict(self.base.execute(f"SELECT decision, COUNT(*) FROM item {which} GROUP BY decision ORDER BY decision"))
            for which in ("", "WHERE row IN (SELECT row FROM choice WHERE undone IS NULL)")
        )
        return {decision: (count, settled.get(decision, 0)) for decision, count in rows.items()}

    def item(self, row: int) -> dict[str, Any] | None:
        """Return a row's body with its number, decision, and what was chosen; None where there is none."""
        found = self.base.execute("SELECT decision, body FROM item WHERE row = ?", (row,)).fetchone()
        if found is None:
            return None
        choice = self.choice(row)
        return {"row": row, "decision": found[0], **json.loads(found[1]), "chosen": vars(choice) if choice else None}

    def choice(self, row: int) -> Choice | None:
        """Return what was decided of a row last, None where nothing was."""
        found = self.base.execute(
            "SELECT id, code, who, at FROM choice WHERE row = ? AND undone IS NULL ORDER BY id DESC LIMIT 1", (row,)
        ).fetchone()
        return Choice(*found) if found else None

    def choices(self) -> Iterator[tuple[int, Choice]]:
        """Yield row and what was chosen of each settled row, in order."""
        for row, *choice in self.base.execute(
            "SELECT row, id, code, who, at FROM choice "
            "WHERE id IN (SELECT MAX(id) FROM choice WHERE undone IS NULL GROUP BY row) ORDER BY row"
        ):
            yield row, Choice(*choice)

    def next_row(self, after: int, decisions: Sequence[str], *, back: bool = False) -> int | None:
        """Return the next open row of some decisions after a row, or the one before it; None without one."""
        marks = ",".join("?" * len(decisions))
        way, order = ("<", "DESC") if back else (">", "ASC")
        found = self.base.execute(
            f"SELECT row FROM item WHERE row {way} ? AND decision IN ({marks}) AND NOT {SETTLED} ORDER BY row {order} LIMIT 1",
            (after, *decisions),
        ).fetchone()
        return None if found is None else int(found[0])

    def choose(self, row: int, code: str, who: str, seen: int | None = None) -> bool:
        """Keep a decision, on the disk when this returns; false and nothing kept where another came meanwhile.

        Args:
            row: the row.
            code: what was chosen.
            who: by whom.
            seen: number of the row's last decision that the person saw, None where there was none.
        """
        kept = self.base.execute(
            "INSERT INTO choice (row, code, who, at) SELECT ?, ?, ?, ? WHERE "
            "(SELECT MAX(id) FROM choice WHERE row = ? AND undone IS NULL) IS ?",
            (row, code, who, _now(), row, seen),
        )
        return kept.rowcount == 1

    def undo(self, who: str) -> int | None:
        """Take a person's last decision back, and return its row; None where there is none."""
        found = self.base.execute(
            "UPDATE choice SET undone = ? WHERE id = (SELECT MAX(id) FROM choice WHERE who = ? AND undone IS NULL) RETURNING row",
            (_now(), who),
        ).fetchone()
        return None if found is None else int(found[0])


def create(file: Path, about: Mapping[str, str], items: Iterator[tuple[int, str, dict[str, Any]]], mode: int) -> None:
    """Make a review's file, whole or not at all; one that another process makes meanwhile stays.

    Args:
        file: the file.
        about: what it is of.
        items: row, decision and body of each row.
        mode: who may read and write it.

    Raises:
        KjcmError: it cannot be written.
        OSError: its folder cannot be written.
    """
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    os.close(handle)
    part = Path(name)
    try:
        with closing(sqlite3.connect(part, isolation_level=None)) as base:
            base.executescript(TABLES)
            base.execute("BEGIN")
            base.executemany("INSERT INTO about VALUES (?, ?)", about.items())
            rows = ((row, decision, json.dumps(body, ensure_ascii=False)) for row, decision, body in items)
            base.executemany("INSERT INTO item VALUES (?, ?, ?)", rows)
            base.execute("COMMIT")
        part.chmod(mode)
        try:
            os.link(part, file)
        except FileExistsError:
            pass
        except OSError:  # no such links on this file system
            part.rename(file)
    except sqlite3.Error as error:
        raise KjcmError(f"{file}: cannot be written ({first_line(error)}).") from None
    finally:
        part.unlink(missing_ok=True)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
