"""A review's file that is damaged or another's: one message that names it, and never a decision less than there was."""

import os
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from kjcm.errors import KjcmError
from kjcm.ksco.classification import Classification
from kjcm.review.store import Store, create

ROWS = 40
SETTLED = [(row, number) for number, row in enumerate(range(0, ROWS, 2), 1)]
SEEDS = int(os.environ.get("KJCM_FUZZ", "150"))


def body(row: int) -> dict[str, Any]:
    code = {"code": "111", "title": "임원"}
    return {
        "text": {"task": f"은행 예금 상담 {row}"}, "first": [{**code, "prob": 0.5}], "further": [code], "picks": ["111"],
        "given": "",
    }  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    file = tmp_path_factory.mktemp("whole") / "db"
    create(file, {"input": "0", "classes": "1"}, ((row, "choose", body(row)) for row in range(ROWS)), 0o600)
    store = Store(file)
    store.check()
    assert all(store.choose(row, "111", "kim") for row, _ in SETTLED)
    store.mark([1, 2], "comment", "다시 볼 것", "lee")
    store.close()
    assert [path.name for path in file.parent.iterdir()] == ["db"]  # a copy of the file alone is complete
    return file.read_bytes()


@pytest.fixture
def db(whole: bytes, tmp_path: Path) -> Path:
    file = tmp_path / "db"
    file.write_bytes(whole)
    return file


def used(file: Path) -> list[tuple[int, int]]:
    """Do what a review does with its file; return row and number of each decision."""
    store = Store(file)
    try:
        store.check()
        store.require_writable()
        store.counts()
        assert all(store.item(row) for row in range(ROWS))
        assert len(list(store.items())) == ROWS
        store.marks(), store.times("kim", 9)
        assert sorted(store.settled()) == [row for row, _ in store.choices()]
        return [(row, choice.id) for row, choice in store.choices()]
    finally:
        store.close()


def mutated(content: bytes, chance: random.Random) -> bytes:
    """Return a database with bytes flipped, cut off, moved or overwritten."""
    data, page = bytearray(content), 4096
    for _ in range(chance.choice((1, 1, 1, 3, 30))):
        at = chance.randrange(len(data))
        kind = chance.randrange(7)
        if kind == 0:
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            data[chance.randrange(min(100, len(data)))] = chance.randrange(256)  # in the header
        elif kind == 2:
            data = data[: max(1, at)]
        elif kind == 3:
            data[at : at + chance.randrange(1, 200)] = bytes(chance.randrange(1, 200))
        elif kind == 4:
            data[at // page * page : at // page * page + page] = chance.randbytes(page)
        elif kind == 5:
            other = chance.randrange(len(data)) // page * page
            data[at // page * page : at // page * page + page] = data[other : other + page]
        else:
            data[at : at + 8] = chance.randbytes(8)
    return bytes(data)


def test_the_file_as_it_is_is_used(db: Path) -> None:
    assert used(db) == SETTLED


@pytest.mark.parametrize("begin", range(0, SEEDS, 50))
def test_no_mutation_is_a_fault_or_loses_a_decision(whole: bytes, tmp_path: Path, begin: int) -> None:
    told = 0
    for seed in range(begin, begin + 50):
        file = tmp_path / f"{seed}.db"
        file.write_bytes(content := mutated(whole, random.Random(seed)))
        try:
            assert used(file) == SETTLED, f"seed {seed}"
        except KjcmError as error:
            told += 1
            assert str(file) in str(error) and "예금" not in str(error), f"seed {seed}"
            assert file.read_bytes() == content, f"seed {seed}"
    assert told > 10


STATEMENTS = [
    "DROP TABLE choice", "DROP TABLE about", "DROP TABLE item", "DROP INDEX choice_of_row", "ALTER TABLE choice DROP COLUMN at",
    "ALTER TABLE item RENAME COLUMN body TO text", "PRAGMA user_version=99", "DELETE FROM item WHERE row = 0",
    "CREATE TRIGGER t AFTER INSERT ON choice BEGIN DELETE FROM choice; END", "CREATE VIEW v AS SELECT 1",
    "UPDATE choice SET code = x'00ff' WHERE id = 3", "UPDATE choice SET code = '' WHERE id = 3", "UPDATE choice SET row = 'x'",
    "UPDATE choice SET row = 1000 WHERE id = 3", "UPDATE choice SET row = 0.5 WHERE id = 3", "UPDATE choice SET who = x'41'",
    "UPDATE choice SET who = CAST(x'ffc0' AS TEXT) WHERE id = 2", "UPDATE choice SET at = 'yesterday' WHERE id = 2",
    "UPDATE choice SET undone = 5 WHERE id = 2", "UPDATE item SET body = CAST(x'7b22ff' AS TEXT) WHERE row = 3",
    "UPDATE item SET body = zeroblob(70000000) WHERE row = 3", "UPDATE item SET body = 'null' WHERE row = 3",
    "UPDATE item SET body = '[]' WHERE row = 3", "UPDATE item SET body = '{}' WHERE row = 3",
    "UPDATE item SET body = replace(body, '0.5', 'NaN')", "UPDATE item SET body = replace(body, '0.5', '1e400')",
    "UPDATE item SET body = replace(body, '0.5', '\"x\"')", "UPDATE item SET body = replace(body, '은행', '\\ud800')",
    "UPDATE item SET body = replace(body, '[\"111\"]', '\"111\"')", "UPDATE item SET decision = x'00'",
    "UPDATE item SET body = '" + "[" * 100000 + "' WHERE row = 3", "UPDATE item SET body = 5 WHERE row = 3",
    "DROP TABLE mark", "UPDATE mark SET kind = 'star'", "UPDATE mark SET note = x'00'", "UPDATE mark SET at = 'now'",
    "DROP TABLE copy", "UPDATE mark SET row = 1000", "INSERT INTO copy VALUES (1000, 1)",
    "PRAGMA writable_schema=ON; UPDATE sqlite_master SET sql = replace(sql, 'code TEXT NOT NULL', 'code TEXT')",
    "PRAGMA writable_schema=ON; UPDATE sqlite_master SET rootpage = 1 WHERE name = 'choice'",
    "PRAGMA writable_schema=ON; DELETE FROM sqlite_master", "DELETE FROM about WHERE name = 'input'", "DELETE FROM about",
]  # fmt: skip


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda text: text[:60])
def test_what_is_no_review_inside_is_told(db: Path, statement: str) -> None:
    with closing(sqlite3.connect(db)) as base:
        base.executescript(statement)
        base.commit()
    with pytest.raises(KjcmError, match="db") as caught:
        used(db)
    assert "예금" not in str(caught.value)


@pytest.mark.parametrize("damage", [*range(0, 60, 2), *STATEMENTS], ids=lambda damage: str(damage)[:60])
def test_a_started_server_answers_in_form(db: Path, whole: bytes, damage: int | str) -> None:
    """As where the file is damaged while reviewers are at work."""
    pytest.importorskip("fastapi")
    from starlette.testclient import TestClient

    from kjcm.review.app import make_app
    from kjcm.review.desk import Review
    from kjcm.search.engine import Search

    coded, here = db.with_name("coded.csv"), "http://127.0.0.1:8765"
    coded.write_text("task,code_1,decision_code\n" + "예금,111,\n" * ROWS, encoding="utf-8")
    named = Classification("from_data", {"111": "임원"})
    app = make_app(Review(coded, db, named, Search(named), None, ("choose",), "kim", "ko", "127.0.0.1", None))
    page = TestClient(app, base_url=here, headers={"origin": here})
    if isinstance(damage, int):
        db.write_bytes(mutated(whole, random.Random(damage)))
    else:
        with closing(sqlite3.connect(db)) as base:
            base.executescript(damage)
            base.commit()
    answers = [page.get(path) for path in ("/api/next", "/api/next?who=lee", "/api/export")]
    answers += [
        page.post(path, json={"code": "111", "who": "kim"}) for path in ("/api/rows/1", "/api/rows/2", "/api/undo")
    ]
    answers += [page.get("/api/find?query=4"), page.get("/api/codes?code=111&row=3")]
    answers += [page.post("/api/rows/1/mark", json={"kind": "flag", "on": True, "who": "kim"})]
    for answer in answers:
        assert answer.status_code == 200 or (answer.status_code in (404, 409, 422, 503) and answer.json()["detail"])
        assert answer.status_code == 200 or "예금" not in answer.text


def folder(db: Path) -> None:
    db.unlink()
    db.mkdir()


def pipe(db: Path) -> None:
    db.unlink()
    os.mkfifo(db)


def pipe_beside(db: Path) -> None:
    os.mkfifo(db.with_name("db-journal"))


def empty(db: Path) -> None:
    db.write_bytes(b"")


def text(db: Path) -> None:
    db.write_text("번호,코드\n" * 3000, encoding="utf-8")


def dangling(db: Path) -> None:
    db.unlink()
    db.symlink_to(db.with_name("nowhere"))


def log_beside(db: Path) -> None:
    db.with_name("db-wal").write_bytes(b"\x37\x7f\x06\x82" + bytes(5000))


def another(db: Path) -> None:
    db.unlink()
    with closing(sqlite3.connect(db)) as base:
        base.execute("CREATE TABLE moz_places (id INTEGER PRIMARY KEY, url TEXT)")


def journal_of_another_kind(db: Path) -> None:
    with closing(sqlite3.connect(db)) as base:
        base.execute("PRAGMA journal_mode=WAL")
    db.with_name("db-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(2000))


@pytest.mark.parametrize(
    "change", [folder, pipe, pipe_beside, empty, text, dangling, log_beside, another, journal_of_another_kind]
)
def test_what_is_no_file_of_a_review_is_told(db: Path, change: Callable[[Path], None]) -> None:
    change(db)
    with pytest.raises(KjcmError, match="db"):
        used(db)


def test_a_log_that_outlives_its_file_is_not_applied_to_a_new_one(db: Path, whole: bytes) -> None:
    for kind in ("-wal", "-journal"):
        db.unlink(missing_ok=True)
        left = db.with_name(f"db{kind}")
        left.write_bytes(b"x" * 100)
        with pytest.raises(KjcmError, match=f"db{kind}"):
            create(db, {}, iter(()), 0o600)
        assert left.exists() and not db.exists()
        left.unlink()


def test_a_file_of_a_version_with_a_write_ahead_log_keeps_its_decisions(db: Path, tmp_path: Path) -> None:
    """As one that was killed left it: the last decisions are in the log."""
    base = sqlite3.connect(db, isolation_level=None)
    base.executescript("DROP TABLE copy; DROP TABLE mark; PRAGMA user_version=0; PRAGMA journal_mode=WAL")
    base.execute("INSERT INTO choice (row, code, who, at) VALUES (1, '320', 'lee', '2026-01-01T00:00:00+00:00')")
    copy = tmp_path / "copy"
    for kind in ("", "-wal"):
        copy.with_name(f"copy{kind}").write_bytes(db.with_name(f"db{kind}").read_bytes())
    base.close()
    assert (1, len(SETTLED) + 1) in used(copy)
    assert not copy.with_name("copy-wal").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_file_that_cannot_be_written_is_told_before_anybody_decides(db: Path) -> None:
    db.chmod(0o400)
    with pytest.raises(KjcmError, match="permissions"):
        used(db)
