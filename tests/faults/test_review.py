"""A review that is really killed, and one whose disk really fills: no decision that was acknowledged is lost."""

import errno
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kjcm.review.store import Store
from tests.review.conftest import coded as coded  # the fixture
from tests.review.test_page import free_port, server

pytestmark = pytest.mark.fault

KILLS = 10
ROWS = (0, 1, 2, 3, 4, 5, 7)
CODES = ("111", "320", "942", "A01")


def choose(port: int, row: int, code: str, seen: int | None) -> dict[str, Any]:
    """Send a decision; return the answer.

    Raises:
        OSError: there is no server, or it refuses.
    """
    here = f"http://127.0.0.1:{port}"
    body = json.dumps({"code": code, "who": "kim", "seen": seen}).encode()
    headers = {"Origin": here, "Content-Type": "application/json"}
    request = urllib.request.Request(f"{here}/api/rows/{row}", body, headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: dict[str, Any] = json.loads(answer.read())
    return found


def kept(db: Path) -> list[tuple[int, str]]:
    """Return row and code of every decision in the order in which they were kept."""
    store = Store(db)
    store.check()
    found = [(row, code) for row, code in store.base.execute("SELECT row, code FROM choice ORDER BY id")]
    store.close()
    return found


def test_a_killed_review_has_every_decision_that_it_acknowledged(coded: Path, finished: Path, tmp_path: Path) -> None:
    db, chance = tmp_path / "db", random.Random(7)
    acknowledged: list[tuple[int, str]] = []
    in_flight = 0

    def decide(port: int, stop: threading.Event) -> None:
        store = Store(db)
        while not stop.is_set():
            row, code = chance.choice(ROWS), chance.choice(CODES)
            last = store.choice(row)
            try:
                assert choose(port, row, code, last.id if last else None)["kept"]["code"] == code
            except OSError:
                break
            acknowledged.append((row, code))
        store.close()

    for kill in range(KILLS):
        port, stop = free_port(), threading.Event()
        with server(port, f"run={finished}", f"input={coded}", f"db={db}") as child:
            reviewer = threading.Thread(target=decide, args=(port, stop))
            reviewer.start()
            time.sleep(chance.uniform(0.05, 1))
            child.kill()
            reviewer.join(60)
            stop.set()
        found = kept(db)
        assert len(acknowledged) <= len(found) - in_flight <= len(acknowledged) + 1, kill
        if len(found) - in_flight > len(acknowledged):  # kept, and killed before it said so
            in_flight += 1
        rest = iter(found)
        assert all(any(one == other for other in rest) for one in acknowledged), kill
    assert len(acknowledged) > KILLS


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", place], check=False).returncode
    ):
        pytest.skip("needs the right to mount a small file system")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_refuses_a_decision_and_keeps_the_others(coded: Path, finished: Path, small_disk: Path) -> None:
    db, port = small_disk / "db", free_port()
    with server(port, f"run={finished}", f"input={coded}", f"db={db}") as child:
        choose(port, 0, "111", None)
        filler = small_disk / "filler"
        with filler.open("wb", buffering=0) as stream, pytest.raises(OSError) as full:
            while True:
                stream.write(bytes(4096))
        assert full.value.errno == errno.ENOSPC
        with pytest.raises(urllib.error.HTTPError) as refused:
            choose(port, 1, "320", None)
        assert refused.value.code == 503 and "disk" in json.loads(refused.value.read())["detail"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/next") as state:  # reading goes on
            assert json.loads(state.read())["state"]["settled"] == 1
        filler.unlink()
        choose(port, 1, "320", None)
        child.terminate()
        said, _ = child.communicate(timeout=30)
    assert kept(db) == [(0, "111"), (1, "320")] and "Traceback" not in said
    assert not [path.name for path in small_disk.iterdir() if path.name != "db"]


def test_a_disk_that_is_full_at_the_start_ends_with_a_line(coded: Path, finished: Path, small_disk: Path) -> None:
    shutil.copy(coded, small_disk / "coded.csv")
    with (small_disk / "filler").open("wb", buffering=0) as stream, pytest.raises(OSError):
        while True:
            stream.write(bytes(4096))
    done = subprocess.run(
        [sys.executable, "-m", "kjcm", "review", f"run={finished}", f"input={small_disk / 'coded.csv'}"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1 and "Traceback" not in done.stderr
    assert not (small_disk / "coded.csv.review.sqlite").exists()
