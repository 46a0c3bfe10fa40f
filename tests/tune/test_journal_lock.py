"""The lock of a study's journal: a left one is removed, a live one is waited for, whatever the working folder."""

import threading
import time
from pathlib import Path

import pytest
from optuna.storages.journal import JournalFileSymlinkLock
from optuna.trial import TrialState

from kjcm.tune import journal_lock
from kjcm.tune.journal_lock import JournalLock
from tests.tune.test_search import opened


@pytest.fixture
def study(here: Path) -> Path:
    """A study's folder, relative to the working folder, as `runs` is by default."""
    folder = Path("runs/s")
    opened(folder, "")
    return folder


@pytest.mark.parametrize("target", ["runs/s/journal.log", "/gone/journal.log", "journal.log"])
def test_a_lock_of_a_dead_process_is_removed(study: Path, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Optuna's own lock, a folder that was moved from elsewhere, and ours."""
    monkeypatch.setattr(journal_lock, "GRACE", 0.2)
    link = study / "journal.log.lock"
    link.symlink_to(target)
    begin = time.monotonic()
    trial = opened(study, "").next()
    assert trial is not None and 0.2 < time.monotonic() - begin < 5
    assert [file.name for file in study.iterdir()] == ["journal.log"]


def test_a_lock_whose_holder_writes_is_waited_for(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_lock, "GRACE", 0.5)
    search = opened(study, "")
    journal, count = study / "journal.log", len(search.study.trials)
    holder = JournalFileSymlinkLock(str(journal.resolve()))
    holder.acquire()
    asking = threading.Thread(target=search.study.ask)
    asking.start()
    for _ in range(10):
        time.sleep(0.1)
        journal.touch()
        assert asking.is_alive() and (study / "journal.log.lock").is_symlink()
    holder.release()
    asking.join(5)
    assert not asking.is_alive() and len(opened(study, "").study.trials) == count + 1


def test_many_threads_have_it_one_at_a_time(study: Path) -> None:
    inside, most = [0], [0]

    def work() -> None:
        lock = JournalLock((study / "journal.log").resolve())
        for _ in range(5):
            lock.acquire()
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.002)
            inside[0] -= 1
            lock.release()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] and not (study / "journal.log.lock").is_symlink()


def test_a_process_that_was_stopped_for_long_leaves_the_lock_of_the_next_alone(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_lock, "GRACE", 0.2)
    stopped, other = (JournalLock((study / "journal.log").resolve()) for _ in range(2))
    stopped.acquire()
    other.acquire()
    stopped.release()
    assert (study / "journal.log.lock").is_symlink()
    other.release()
    assert not (study / "journal.log.lock").is_symlink()


def test_the_study_is_the_same_from_any_working_folder(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal's path is resolved when the study is opened, and so is the path in a lock of Optuna's."""
    search = opened(study, "")
    here = study.resolve()
    monkeypatch.chdir("/")
    trial = search.study.ask()
    lock = JournalLock(here / "journal.log")
    lock.acquire()
    assert (here / "journal.log.lock").resolve() == here / "journal.log"
    lock.release()
    search.study.tell(trial, 1.0)
    assert opened(here, "").study.trials[-1].state == TrialState.COMPLETE
