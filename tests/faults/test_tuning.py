"""A study whose processes are really killed, again and again: every trial once, with the values of an undisturbed study."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from kjcm.run_folder.lease import LEASE, holder_of
from kjcm.tune.journal_lock import GRACE
from tests.conftest import ROOT
from tests.tune.test_tune import WORDS, rows_in, run_folders, started, summary

pytestmark = pytest.mark.fault

KILLS = 8
STUDY = (
    "study=s", "+space.optim.lr=[0.001,0.002,0.003]", "+space.data.batch_size=[16,32]", "trainer.max_epochs=4",
    "logger=csv",
)  # fmt: skip


def in_a_trial(study: Path, several: list["subprocess.Popen[str]"]) -> int:
    """Wait until a process has the lease of a trial's run, or has ended, and return its place."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        holders = [holder_of(lease.parent) for lease in study.glob(f"*/{LEASE}")]
        pids = {holder.pid for holder in holders if holder and not holder.released}
        for place, one in enumerate(several):
            if one.pid in pids or one.poll() is not None:
                return place
        time.sleep(0.005)
    raise AssertionError("no process began a trial in 120 s")


@pytest.mark.parametrize(("storage", "seeds"), [("null", 1), ("sqlite:///study.db", 1), ("null", 2)])
def test_killed_again_and_again_it_ends_as_an_undisturbed_study(storage: str, seeds: int, tmp_path: Path) -> None:
    """Run two processes at a time; kill one within a trial, then one at any moment of its life, and start another."""
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    wanted = (*STUDY, f"seeds_per_trial={seeds}")
    whole = started(tmp_path / "whole", *wanted)
    assert whole.wait(300 * seeds) == 0, whole.communicate()
    chance = random.Random(storage)
    words = (*wanted, f"storage={storage}")
    at_work = [started(tmp_path / "cut", *words) for _ in range(2)]
    killed = 0
    while killed < KILLS:
        if killed % 2:
            time.sleep(chance.uniform(2, 9))
            child = at_work.pop(chance.randrange(2))
        else:
            child = at_work.pop(in_a_trial(tmp_path / "cut" / "runs" / "s", at_work))
        if child.poll() is None:
            child.send_signal(signal.SIGKILL)
            killed += 1
        child.communicate()
        if child.returncode == 0 and all(one.poll() is not None for one in at_work):
            break
        at_work.append(started(tmp_path / "cut", *words))
    for child in at_work:
        said = child.communicate(timeout=300 * seeds)
        assert child.returncode == 0, said
    last = started(tmp_path / "cut", *words)
    assert last.wait(300) == 0, last.communicate()
    kept = ("optim.lr", "data.batch_size", "state", "f1_weighted", "epochs")
    outcomes = []
    for name in ("whole", "cut"):
        folder = tmp_path / name / "runs" / "s"
        rows = [row for row in rows_in(folder) if row["state"] != "left"]
        assert len(rows) == 6 and len(run_folders(folder)) == 6 * seeds
        assert not list((folder / "workers").iterdir()) or name == "cut"
        weights = {run: (folder / run / "model" / "model.safetensors").read_bytes() for run in run_folders(folder)}
        outcomes.append((sorted(tuple(row[key] for key in kept) for row in rows), weights))
    assert outcomes[0] == outcomes[1]
    assert summary(tmp_path / "cut" / "runs" / "s")["trials"]["left"] > 0


# a command line that is killed while it writes to the journal for the nth time, with the lock in its hands
KILLED = """
import os, signal, sys
from optuna.storages.journal import _file
sync, count = os.fsync, [0]
def fsync(handle):
    count[0] += "journal.log" in os.readlink(f"/proc/self/fd/{handle}")
    if count[0] == 12:
        os.kill(os.getpid(), signal.SIGKILL)
    sync(handle)
_file.os.fsync = fsync
from kjcm.cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize("moved", [False, True])
def test_killed_with_the_lock_of_the_journal_the_next_takes_it_over(moved: bool, tmp_path: Path) -> None:
    """With `runs` as it is by default, relative; also where the study's folder is moved before it goes on."""
    words, place = [*WORDS, *STUDY[:2], "trainer.max_epochs=1"], tmp_path / "before"
    place.mkdir()
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *words], cwd=place, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    lock = place / "runs" / "s" / "journal.log.lock"
    assert killed.returncode == -signal.SIGKILL and lock.is_symlink(), killed
    if moved:
        place = place.rename(tmp_path / "after")
    begin = time.monotonic()
    child = started(place, *STUDY[:2], "trainer.max_epochs=1")
    said = child.communicate(timeout=120)
    assert child.returncode == 0 and "journal.log.lock: removed" in said[0], said
    assert time.monotonic() - begin > GRACE
    states = Counter(row["state"] for row in rows_in(place / "runs" / "s"))
    assert states["complete"] == 3 and set(states) <= {"complete", "left"}
    assert not list(place.glob("runs/s/journal.log.*"))
