"""The lease of a run folder: one holder at a time, none that has died, no clock compared, no late writer."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from kjcm.errors import KjcmError
from kjcm.run_folder import lease
from kjcm.run_folder.failures import read_failure
from kjcm.run_folder.folder import Identity, RunFolder
from kjcm.run_folder.lease import LEASE, Busy, FinishedMeanwhile, Lease, holder_of, is_held, leased, seems_held
from tests.conftest import ROOT

COUNT = """
import sys, time
from pathlib import Path
from kjcm.run_folder.lease import Busy, leased
folder, inside = Path(sys.argv[1]), Path(sys.argv[1]) / "inside"
taken = 0
while taken < 5:
    try:
        with leased(folder):
            inside.touch(exist_ok=False)
            time.sleep(0.005)
            inside.unlink()
            taken += 1
    except Busy:
        time.sleep(0.002)
"""
HOLD = """
import sys, time
from pathlib import Path
from kjcm.run_folder.lease import leased
with leased(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def python(code: str, folder: Path) -> "subprocess.Popen[str]":
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], env=surroundings, stdout=subprocess.PIPE, text=True
    )


def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make what was held here look as if it were held on another machine, and silence short."""
    monkeypatch.setattr(lease, "machine", lambda: "another machine")
    monkeypatch.setattr(lease, "SILENCE", 0.6)
    monkeypatch.setattr(lease, "BEAT", 0.1)


def test_a_holder_is_named_and_its_lease_given_back(tmp_path: Path) -> None:
    with leased(tmp_path) as mine:
        assert seems_held(tmp_path) and is_held(tmp_path)
        with pytest.raises(Busy, match=f"process {os.getpid()} on "), leased(tmp_path):
            pass
        mine.require_held()
    assert not seems_held(tmp_path) and not is_held(tmp_path)
    holder = holder_of(tmp_path)
    assert holder and holder.released
    with leased(tmp_path):
        assert [file.name for file in (tmp_path / LEASE).iterdir()] == ["2"]


def test_many_processes_have_it_one_at_a_time(tmp_path: Path) -> None:
    several = [python(COUNT, tmp_path) for _ in range(4)]
    assert [one.wait(60) for one in several] == [0] * 4  # `inside` would exist already if two were in


def test_a_killed_process_has_no_lease(tmp_path: Path) -> None:
    process = python(HOLD, tmp_path)
    assert process.stdout and process.stdout.readline() == "held\n"
    assert seems_held(tmp_path)
    process.kill()
    process.wait()
    assert not seems_held(tmp_path)
    with leased(tmp_path) as mine:
        assert holder_of(tmp_path) == mine.holder


def test_a_holder_elsewhere_is_alive_while_it_gives_signs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT", 0.1)
    with leased(tmp_path):
        elsewhere(monkeypatch)
        assert seems_held(tmp_path)
        with pytest.raises(Busy), leased(tmp_path):
            pass


def test_a_silent_holder_elsewhere_is_taken_for_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its clock said: the times of its files are never looked at."""
    with leased(tmp_path) as theirs:
        theirs._stop.set()  # as if its machine had lost its power
        elsewhere(monkeypatch)
        for ahead in (3600, -3600):
            os.utime(tmp_path / LEASE / "1", (time.time() + ahead,) * 2)
        assert seems_held(tmp_path)  # nobody has waited yet
        with leased(tmp_path) as mine:
            mine.require_held()
            with pytest.raises(KjcmError, match="another process took over this run"):
                theirs.require_held()  # it wakes up, and must not write


def test_a_holder_that_was_overtaken_leaves_the_others_lease_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = Lease(tmp_path / LEASE, 1)
    (tmp_path / LEASE).mkdir()
    (tmp_path / LEASE / "1").touch()
    theirs.begin()
    theirs._stop.set()
    elsewhere(monkeypatch)
    with leased(tmp_path) as mine:
        theirs.end()
        assert holder_of(tmp_path) == mine.holder and seems_held(tmp_path)
    assert [file.name for file in (tmp_path / LEASE).iterdir()] == ["2"]


def test_two_who_find_a_dead_holder_at_once_do_not_both_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with leased(tmp_path):
        pass
    got: list[object] = []
    busy: list[object] = []
    start, all_asked = threading.Barrier(8), threading.Event()

    def asked(answers: list[object], answer: object) -> None:
        answers.append(answer)
        if len(got) + len(busy) == 8:
            all_asked.set()

    def take() -> None:
        start.wait()
        try:
            with leased(tmp_path) as mine:
                asked(got, mine)
                all_asked.wait(60)
        except Busy as error:
            asked(busy, error)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(busy)) == (1, 7)


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / LEASE).write_text("a file where a folder should be")
    with pytest.raises(OSError), leased(tmp_path):
        pass


def test_who_lost_a_run_folder_leaves_no_failure_in_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", Identity({}, {}))
    with pytest.raises(KjcmError, match="took over this run"), folder.claimed(overwrite=False):
        (folder.path / LEASE / "2").write_text("{}")
        folder.require_held()
    assert read_failure(folder.path) is None
    with pytest.raises(ValueError), RunFolder(tmp_path / "other", Identity({}, {})).claimed(overwrite=False):
        raise ValueError
    assert read_failure(tmp_path / "other") is not None


def test_who_finds_a_run_finished_meanwhile_leaves_it_alone(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", Identity({}, {}))
    with folder.claimed(overwrite=False):
        folder.finish()
    before = {file: file.read_bytes() for file in folder.path.iterdir() if file.is_file()}
    with pytest.raises(FinishedMeanwhile) as told, folder.claimed(overwrite=False):
        raise AssertionError("it is not entered")
    assert told.value.exit_code == 0
    assert {file: file.read_bytes() for file in folder.path.iterdir() if file.is_file()} == before


def test_a_process_killed_while_it_wrote_the_identity_leaves_a_new_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path / "run", Identity({}, {}))
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from kjcm.run_folder.folder import Identity, RunFolder\n"
        "Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "with RunFolder(Path(sys.argv[1]), Identity({}, {})).claimed(overwrite=False): pass\n"
    )
    assert python(code, folder.path).wait(60) == -signal.SIGKILL
    assert [file.suffix for file in folder.path.glob(".identity.*")] == [".json"]
    assert folder.contents == "new"
    with folder.claimed(overwrite=False):
        assert folder.contents == "unfinished" and not [*folder.path.glob(".identity.*")]


def test_a_launch_that_starts_a_run_again_does_not_clear_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path / "run", Identity({}, {}))
    for launch, kept in (("a", False), ("a", True), ("b", False), (None, False), (None, False)):
        if launch:
            monkeypatch.setenv("KJCM_LAUNCH", launch)
        else:
            monkeypatch.delenv("KJCM_LAUNCH", raising=False)
        with folder.claimed(overwrite=True):
            assert (folder.path / "checkpoint").exists() == kept
            (folder.path / "checkpoint").touch()


def test_a_full_disk_takes_no_lease_away_and_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT", 0.01)
    with leased(tmp_path) as mine:
        before = (tmp_path / LEASE / "1").read_bytes()
        assert len(before) == lease.LENGTH + 1
        mine._write(7)
        assert (tmp_path / LEASE / "1").stat().st_size == len(before)  # in place: it needs no room

    def full(self: Lease, beat: int, released: bool = False) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Lease, "_write", full)
    with pytest.raises(OSError, match="No space"), leased(tmp_path):
        pass
    assert [file.name for file in (tmp_path / LEASE).iterdir()] == []  # and nobody waits for who never was
