"""Store the rows and decisions of a review: one SQLite file, one transaction per decision, nothing overwritten."""

import json
import os
import secrets
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from kjcm.errors import KjcmError, first_line, some
from kjcm.review.records import Choice, Mark, choice_of, item_of, mark_of, require_alone

FIRST_TABLES = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE item (row INTEGER PRIMARY KEY, decision TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE choice (
  id INTEGER PRIMARY KEY, row INTEGER NOT NULL REFERENCES item, code TEXT NOT NULL, who TEXT NOT NULL, at TEXT NOT NULL,
  undone TEXT
);
CREATE INDEX choice_of_row ON choice (row, undone);
CREATE INDEX item_of_decision ON item (decision);
"""
# A copy is a decision that a row got with the decision of another row with the same texts.
FURTHER_TABLES = """
CREATE TABLE copy (id INTEGER PRIMARY KEY REFERENCES choice, original INTEGER NOT NULL REFERENCES choice);
CREATE TABLE mark (
  id INTEGER PRIMARY KEY, row INTEGER NOT NULL REFERENCES item, kind TEXT NOT NULL, note TEXT NOT NULL, who TEXT NOT NULL,
  at TEXT NOT NULL, undone TEXT
);
CREATE INDEX copy_of_choice ON copy (original);
CREATE INDEX mark_of_row ON mark (row, undone);
"""
ABOUT = ("input", "classes")  # digests of the coded file and of the model's classes
VERSION = 2  # of the tables; files of versions 0 and 1 have only the first tables
SCHEMA = "SELECT name, sql FROM sqlite_master WHERE name NOT GLOB 'sqlite_*'"
MOST_BYTES = 2**26  # of one cell
TIMEOUT = 10.0  # seconds to wait for another process
SURROUNDINGS = {  # error codes that do not concern the file's contents
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOLFS, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_NOMEM,
}  # fmt: skip


class Store:
    """A review's file; each request opens it.

    Args:
        file: the file.

    Raises:
        KjcmError: it is not a review's file, or damaged.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        require_alone(file)
        with self._told():
            self.base = _connect(f"{file.absolute().as_uri()}?mode=rw")
        try:
            with self._told():
                self.base.execute("PRAGMA synchronous=EXTRA")
                self._require_schema()
                self.about: dict[str, str] = dict(self.base.execute("SELECT name, value FROM about"))
                if missing := [name for name in ABOUT if name not in self.about]:
                    raise ValueError(f"it does not say {some(missing)}")
        except KjcmError:
            self.close()
            raise

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn any error from SQLite or a damaged cell into a KjcmError that names file and remedy."""
        try:
            yield
        except sqlite3.Error as error:
            what = first_line(error).partition(" with text ")[0]  # an answer follows
            if getattr(error, "sqlite_errorcode", None) is not None and error.sqlite_errorcode & 0xFF in SURROUNDINGS:
                raise KjcmError(
                    f"{self.file}: cannot be read or written ({what}). Check the disk, the permissions and other programs "
                    "that use it. Earlier decisions are not lost."
                ) from None
            raise self._damaged(what) from None
        except (ValueError, TypeError, RecursionError) as error:
            raise self._damaged(first_line(error)) from None

    def _damaged(self, what: str) -> KjcmError:
        return KjcmError(
            f"{self.file}: not a review's file, or damaged ({what}). Restore a copy, save what is left with `sqlite3 FILE "
            ".recover`, or begin another review with db=FILE."
        )

    def _require_schema(self) -> None:
        """Raise KjcmError if a newer kjcm made the file, and ValueError if its tables are not a review's."""
        (version,) = self.base.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise KjcmError(
                f"{self.file}: a newer kjcm made it (version {version}, here {VERSION}). Update kjcm, or choose another with "
                "db=FILE."
            )
        expected, found = _schema(version), dict(self.base.execute(SCHEMA))
        if strange := [name for name in {**expected, **found} if expected.get(name) != found.get(name)]:
            raise ValueError(f"{some(strange)} are not as a review has them")

    def check(self) -> None:
        """Read the whole file once, set this version's kind of journal, and add the tables that an earlier version lacks.

        Raises:
            KjcmError: any part of it is damaged.
        """
        with self._told():
            self.base.execute("PRAGMA journal_mode=DELETE")  # then a copy of only this file is complete
            (found,) = self.base.execute("PRAGMA integrity_check(1)").fetchone()
            if found != "ok" or self.base.execute("PRAGMA foreign_key_check").fetchone():
                raise ValueError("tables and indexes disagree" if found == "ok" else found)
            for row, decision, body in self.base.execute("SELECT row, decision, body FROM item"):
                item_of(row, decision, body)
            for choice in self.base.execute("SELECT id, code, who, at, row, undone FROM choice"):
                choice_of(*choice)
            (version,) = self.base.execute("PRAGMA user_version").fetchone()
            if version == VERSION:
                for mark in self.base.execute("SELECT row, kind, note, who, at, undone FROM mark"):
                    mark_of(*mark)
        if version < VERSION:
            with self._writing():
                (version,) = self.base.execute("PRAGMA user_version").fetchone()
                if version < VERSION:  # else another process has added the tables meanwhile
                    for statement in filter(str.strip, FURTHER_TABLES.split(";")):
                        self.base.execute(statement)
                    self.base.execute(f"PRAGMA user_version={VERSION}")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Write all that is executed, or nothing."""
        with self._told():
            self.base.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.base.execute("COMMIT")
            finally:
                if self.base.in_transaction:
                    self.base.execute("ROLLBACK")

    def require_writable(self) -> None:
        """Raise KjcmError if no decision could be kept."""
        with self._writing():
            self.base.execute("UPDATE about SET value = value")

    def close(self) -> None:
        """Close the file."""
        self.base.close()

    def counts(self) -> dict[str, tuple[int, int]]:
        """Return decision -> number of its rows, and number of reviewed rows."""
        query = "SELECT decision, COUNT(*) FROM item {} GROUP BY decision ORDER BY decision"
        with self._told():
            rows, settled = (
                dict(self.base.execute(query.format(which)))
                for which in ("", "WHERE row IN (SELECT row FROM choice WHERE undone IS NULL)")
            )
        return {decision: (count, settled.get(decision, 0)) for decision, count in rows.items()}

    def item(self, row: int) -> dict[str, Any] | None:
        """Return a row's body with its number, decision and reviewer's choice; None without such a row."""
        with self._told():
            found = self.base.execute("SELECT row, decision, body FROM item WHERE row = ?", (row,)).fetchone()
            if found is None:
                return None
            body = item_of(*found)
        choice = self.choice(row)
        return {"row": row, "decision": found[1], **body, "chosen": vars(choice) if choice else None}

    def choice(self, row: int) -> Choice | None:
        """Return the last choice for a row, None without one."""
        with self._told():
            found = self.base.execute(
                "SELECT id, code, who, at FROM choice WHERE row = ? AND undone IS NULL ORDER BY id DESC LIMIT 1", (row,)
            ).fetchone()
            return choice_of(*found) if found else None

    def choices(self) -> Iterator[tuple[int, Choice]]:
        """Yield each reviewed row's number and choice, in order."""
        with self._told():
            found = self.base.execute(
                "SELECT row, id, code, who, at FROM choice "
                "WHERE id IN (SELECT MAX(id) FROM choice WHERE undone IS NULL GROUP BY row) ORDER BY row"
            ).fetchall()
            choices = [(row, choice_of(*choice)) for row, *choice in found]
        yield from choices

    def settled(self, after: int = 0) -> dict[int, str]:
        """Return reviewed row -> code; of the decisions after number `after`."""
        query = "SELECT row, code FROM choice WHERE undone IS NULL AND id > ? ORDER BY id"
        with self._told():
            return dict(self.base.execute(query, (after,)))

    def progress(self) -> tuple[int, int]:
        """Return the last decision's number and the number of undone decisions, which change with every change."""
        with self._told():
            last, undone = self.base.execute(
                "SELECT (SELECT MAX(id) FROM choice), COUNT(undone) FROM choice"
            ).fetchone()
        return last or 0, undone

    def items(self) -> Iterator[tuple[int, str, dict[str, Any]]]:
        """Yield each row's number, decision and body, in order."""
        with self._told():
            for row, decision, body in self.base.execute("SELECT row, decision, body FROM item ORDER BY row"):
                yield row, decision, item_of(row, decision, body)

    def choose(self, row: int, code: str, who: str, seen: int | None = None, copies: Sequence[int] = ()) -> int:
        """Store a decision on the disk and return the number of rows that got it; 0, and nothing stored, if another decision
        came first.

        Args:
            row: the row; it is no longer skipped.
            code: the chosen code.
            who: the reviewer.
            seen: number of the decision that the reviewer saw, None without one.
            copies: rows with the same texts, which get the decision too unless they have a decision of their own.
        """
        last, at = "(SELECT MAX(id) FROM choice WHERE row = ? AND undone IS NULL)", _now()
        insert = "INSERT INTO choice (row, code, who, at) SELECT ?, ?, ?, ? WHERE"
        with self._writing():
            kept = self.base.execute(f"{insert} {last} IS ?", (row, code, who, at, row, seen))
            if kept.rowcount != 1:
                return 0
            original, decided = kept.lastrowid, 1
            for other in copies:
                found = self.base.execute(
                    f"{insert} {last} IS NULL OR {last} IN (SELECT id FROM copy WHERE original = ?)",
                    (other, code, who, at, other, other, seen),
                )
                if found.rowcount == 1:
                    decided += 1
                    self.base.execute("INSERT INTO copy VALUES (?, ?)", (found.lastrowid, original))
            self._unmark((row, *copies), "skip", at)
        return decided

    def undo(self, who: str, row: int | None = None) -> int | None:
        """Undo a reviewer's last decision, with its copies, and return its row; None without one.

        Args:
            who: the reviewer.
            row: undo the decision that stands for this row instead, if it is the reviewer's.
        """
        which = "who = ? AND id NOT IN (SELECT id FROM copy)" if row is None else "row = ?"
        with self._writing():
            found = self.base.execute(
                f"SELECT id, row, who FROM choice WHERE {which} AND undone IS NULL ORDER BY id DESC LIMIT 1",
                (who if row is None else row,),
            ).fetchone()
            if found is None or found[2] != who:
                return None
            copies = "SELECT id FROM copy WHERE original = ?"
            self.base.execute(
                f"UPDATE choice SET undone = ? WHERE undone IS NULL AND (id = ? OR id IN ({copies}))",
                (_now(), found[0], found[0]),
            )
        return int(found[1])

    def times(self, who: str, count: int) -> list[datetime]:
        """Return the times of a reviewer's last decisions, the last first; copies do not count."""
        with self._told():
            found = self.base.execute(
                "SELECT at FROM choice WHERE who = ? AND id NOT IN (SELECT id FROM copy) ORDER BY id DESC LIMIT ?",
                (who, count),
            )
            return [datetime.fromisoformat(at) for (at,) in found]

    def mark(self, rows: Sequence[int], kind: str, note: str | None, who: str) -> None:
        """Flag rows, skip them, or comment on them; the earlier mark of the kind is undone.

        Args:
            rows: rows with the same texts.
            kind: one of KINDS.
            note: the comment, '' for other kinds; None only undoes.
            who: the reviewer.
        """
        at = _now()
        with self._writing():
            self._unmark(rows, kind, at)
            if note is not None:
                self.base.executemany(
                    "INSERT INTO mark (row, kind, note, who, at) VALUES (?, ?, ?, ?, ?)",
                    [(row, kind, note, who, at) for row in rows],
                )

    def _unmark(self, rows: Sequence[int], kind: str, at: str) -> None:
        self.base.executemany(
            "UPDATE mark SET undone = ? WHERE row = ? AND kind = ? AND undone IS NULL",
            [(at, row, kind) for row in rows],
        )

    def marks(self) -> dict[int, dict[str, Mark]]:
        """Return row -> kind -> the mark that stands."""
        marks: dict[int, dict[str, Mark]] = {}
        with self._told():
            for row, *cells in self.base.execute("SELECT row, kind, note, who, at FROM mark WHERE undone IS NULL"):
                mark = mark_of(row, *cells)
                marks.setdefault(row, {})[mark.kind] = mark
        return marks


def create(file: Path, about: Mapping[str, str], items: Iterator[tuple[int, str, dict[str, Any]]], mode: int) -> None:
    """Create a review's file, whole or not at all; do not replace a file that another process has created.

    Args:
        file: the file.
        about: digests of the coded file and of the classes.
        items: row, decision and body of each row.
        mode: who may read and write it.

    Raises:
        KjcmError: it cannot be written.
        OSError: its folder cannot be written.
    """
    require_alone(file)
    part = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    handle = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)  # without what the umask forbids
    os.close(handle)
    try:
        with closing(_connect(part.absolute().as_uri())) as base:
            base.executescript(FIRST_TABLES + FURTHER_TABLES)
            base.execute(f"PRAGMA user_version={VERSION}")
            base.execute("BEGIN")
            base.executemany("INSERT INTO about VALUES (?, ?)", about.items())
            rows = ((row, decision, json.dumps(body, ensure_ascii=False)) for row, decision, body in items)
            base.executemany("INSERT INTO item VALUES (?, ?, ?)", rows)
            base.execute("COMMIT")
        try:
            os.link(part, file)
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            part.rename(file)
    except sqlite3.Error as error:
        raise KjcmError(f"{file}: cannot be written ({first_line(error)}).") from None
    finally:
        part.unlink(missing_ok=True)


@cache
def _schema(version: int) -> dict[str, str]:
    """Return name -> definition of the tables and indexes of a version's review."""
    with closing(sqlite3.connect(":memory:")) as model:
        model.executescript(FIRST_TABLES + (FURTHER_TABLES if version == VERSION else ""))
        return dict(model.execute(SCHEMA))


def _connect(uri: str) -> sqlite3.Connection:
    # several threads serve a request, one after another
    base = sqlite3.connect(uri, isolation_level=None, timeout=TIMEOUT, uri=True, check_same_thread=False)
    base.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_BYTES)
    return base


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
