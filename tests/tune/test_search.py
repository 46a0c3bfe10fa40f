"""A study shared by processes: each trial given to one of them, what a killed one left given out again, no values twice."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from optuna import create_study
from optuna.study import StudyDirection
from optuna.trial import TrialState

from kjcm.errors import ConfigError, KjcmError
from kjcm.run_folder.lease import LEASE
from kjcm.tune.samplers import AGAIN, SAME, pruner_of, sampler_of
from kjcm.tune.search import DEFINITION, REASON, RUN, WORKER, Search, is_left, open_study, storage_errors, storage_of
from kjcm.tune.space import distributions_of
from kjcm.tune.workers import worker
from tests.conftest import ROOT
from tests.forking import Forked

MAXIMIZE = StudyDirection.MAXIMIZE
SPACE = distributions_of({"x": {"low": 0.0, "high": 1.0}, "n": [1, 2, 3]})
FEW = distributions_of({"n": [1, 2, 3], "m": [1, 2]})
# A process that takes part in a study once it gets a line. Its arguments are the folder, the storage, the trials wanted, and
# whether it stops in its first trial.
PROCESS = """
import sys, time
from pathlib import Path
from tests.tune.test_search import opened
from kjcm.tune.workers import worker
folder, storage, trials, stops = Path(sys.argv[1]), sys.argv[2] or None, int(sys.argv[3]), sys.argv[4]
print("ready", flush=True)
sys.stdin.readline()
with worker(folder / "workers") as own:
    search = opened(folder, own, storage, trials=trials)
    while (trial := search.next()) is not None:
        if stops:
            trial.report(0.5, 1)
            print("at work", flush=True)
            time.sleep(600)
        time.sleep(0.02)
        search.study.tell(trial, trial.params["x"] * trial.params["n"])
"""


def opened(folder: Path, own: str, storage: str | None = None, trials: int = 4, few: bool = False) -> Search:
    space = FEW if few else SPACE
    sampler = sampler_of("random", 0, 0, space)
    study = open_study(storage_of(storage, folder), "s", "0" * 64, [MAXIMIZE], sampler, pruner_of("none", 2, 1, 1))
    return Search(study, space, trials, folder / "workers", own)


def process(folder: Path, storage: str = "", trials: int = 4, stops: str = "") -> "subprocess.Popen[str]":
    return Forked(
        [sys.executable, "-c", PROCESS, str(folder), storage, str(trials), stops],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def begin(*started: "subprocess.Popen[str]") -> None:
    """Let processes begin at the same moment."""
    for one in started:
        assert one.stdout and one.stdout.readline() == "ready\n", one.communicate()
    for one in started:
        assert one.stdin
        one.stdin.write("\n")
        one.stdin.flush()


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_processes_at_once_share_the_trials_out(kind: str, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/study.db" if kind == "sqlite" else ""
    started = [process(tmp_path, storage, trials=10) for _ in range(3)]
    begin(*started)
    for one in started:
        said = one.communicate(timeout=120)
        assert one.returncode == 0, said
    study = opened(tmp_path, "", storage or None).study
    done = study.get_trials(states=(TrialState.COMPLETE,))
    assert len(done) == 10
    assert len({trial.params["x"] for trial in done}) == 10
    assert len({trial.user_attrs[WORKER] for trial in done}) > 1
    assert not [trial for trial in study.trials if trial.state in (TrialState.RUNNING, TrialState.WAITING)]
    assert not list((tmp_path / "workers").iterdir())


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_what_a_killed_process_left_is_begun_again_with_its_values(kind: str, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/study.db" if kind == "sqlite" else ""
    child = process(tmp_path, storage, stops="stops")
    begin(child)
    assert child.stdout and child.stdout.readline() == "at work\n"
    with worker(tmp_path / "workers") as own:
        search = opened(tmp_path, own, storage or None, trials=2)
        second = search.next()
        assert second is not None and AGAIN not in second.user_attrs
        assert search.next() is None  # the other process lives
        child.send_signal(signal.SIGKILL)
        child.communicate()
        again = search.next()
        assert again is not None and again.user_attrs[AGAIN] == 0
        assert again.params == search.study.trials[0].params
        assert is_left(search.study.trials[0]) and search.study.trials[0].intermediate_values == {1: 0.5}
        assert search.next() is None  # one of this process is begun again by nobody


def test_a_process_of_another_machine_that_is_silent_is_taken_for_dead_when_nothing_else_is_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kjcm.run_folder import lease

    monkeypatch.setattr(lease, "SILENCE", 0.2)
    with worker(tmp_path / "workers") as gone:
        left = opened(tmp_path, gone, trials=2).next()
        assert left is not None
        (file,) = (tmp_path / "workers" / gone / LEASE).iterdir()
        there = json.loads(file.read_text()) | {"machine": "another", "host": "another"}
    (tmp_path / "workers" / gone / LEASE).mkdir(parents=True)
    (tmp_path / "workers" / gone / LEASE / "1").write_text(json.dumps(there))
    with worker(tmp_path / "workers") as own:
        search = opened(tmp_path, own, trials=2)
        found = [search.next(), search.next(), search.next()]
        assert found[0] and found[1] and AGAIN not in found[0].user_attrs and found[1].user_attrs[AGAIN] == left.number
        assert found[2] is None


def test_a_process_that_went_between_telling_and_giving_out_loses_nothing(tmp_path: Path) -> None:
    with worker(tmp_path / "workers") as own:
        search = opened(tmp_path, own, trials=1)
        trial = search.next()
        assert trial is not None
        search.study.tell(trial, state=TrialState.FAIL)  # and no more
        again = search.next()
        assert again is not None and again.params == trial.params
        search.drop(again, REASON, "it is broken")
        assert search.next() is None  # a failure of its own is not begun again,
        search.retry()
        search.retry()
        third = search.next()  # unless it is asked for, and then once
        assert third is not None and third.params == trial.params and third.user_attrs[AGAIN] == again.number
        assert search.next() is None


def test_a_nameless_trial_gets_time_and_is_then_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kjcm.tune.search.NAMELESS", 0.01)
    with worker(tmp_path / "workers") as own:
        search = opened(tmp_path, own, trials=1)
        search.study.ask()  # its process was killed before it could say more
        again = search.next()
        assert again is not None and again.user_attrs[AGAIN] == 0 and set(again.params) == {"x", "n"}


def test_no_values_are_tried_twice_and_a_space_without_new_ones_ends_the_search(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with worker(tmp_path / "workers") as own:
        search = opened(tmp_path, own, trials=50, few=True)
        found = []
        while (trial := search.next()) is not None:
            found.append(tuple(trial.params.values()))
            if len(found) % 2:
                search.study.tell(trial, 1.0)
    assert len(found) == len(set(found)) == 6
    assert "tried before" in caplog.text
    assert sum(SAME in trial.user_attrs for trial in search.study.trials) >= 100


def test_a_study_of_another_definition_is_refused(tmp_path: Path) -> None:
    study = opened(tmp_path, "").study
    with pytest.raises(ConfigError, match="study=s is of another config"):
        open_study(study._storage, "s", "1" * 64, [MAXIMIZE], study.sampler, study.pruner)


def test_a_study_that_something_else_has_begun_is_refused(tmp_path: Path) -> None:
    storage = storage_of(None, tmp_path)
    theirs = create_study(storage=storage, study_name="s", direction="maximize")
    theirs.tell(theirs.ask({"x": SPACE["x"]}), 0.3)
    create_study(storage=storage, study_name="t", direction="minimize")
    for name in ("s", "t"):
        with pytest.raises(ConfigError, match=f"study={name}: the storage holds .* did not begin"):
            open_study(storage, name, "0" * 64, [MAXIMIZE], theirs.sampler, theirs.pruner)
    assert DEFINITION not in theirs.user_attrs


@pytest.mark.parametrize("content", ["my only notes", '{"a": 1}', "id,답\n1,가"])
def test_a_file_that_is_no_journal_is_left_as_it_is(content: str, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(KjcmError, match=r"notes.txt: is no journal of a study"):
        storage_of(str(file), tmp_path)
    assert file.read_text(encoding="utf-8") == content


def test_a_storage_that_breaks_is_told_without_what_it_holds(tmp_path: Path) -> None:
    study = opened(tmp_path, "").study
    study.ask().set_user_attr(RUN, "a")
    file = tmp_path / "journal.log"
    whole = file.read_bytes()
    for storage, shown, damage in (
        (str(file), str(file), b'{"op_code": secret'),
        (None, "null", b"\xff"),
        ("sqlite:///secret@base", "sqlite://...", b"{"),
    ):
        file.write_bytes(whole + damage + b"\n")
        with pytest.raises(KjcmError, match=f"storage={re.escape(shown)}: damaged") as caught, storage_errors(storage):
            opened(tmp_path, "")
        assert "secret" not in str(caught.value)


def test_a_running_trial_whose_process_cannot_be_asked_for_is_named(tmp_path: Path) -> None:
    search = opened(tmp_path, "elsewhere")
    assert search.strays() == []
    trial = search.next()
    assert trial is not None and search.strays() == [trial.number]
    (tmp_path / "workers" / "elsewhere").mkdir(parents=True)
    assert search.strays() == []


def test_an_entry_that_was_not_written_whole_is_cut_off(tmp_path: Path) -> None:
    first, second = (opened(tmp_path, "").study for _ in range(2))
    first.ask().set_user_attr(RUN, "a")
    file = tmp_path / "journal.log"
    whole = file.read_bytes()
    file.write_bytes(whole + whole[-60:-5])  # a disk was full
    for study in (second, first):  # whoever has it open goes on
        study.ask()
    assert file.read_bytes().startswith(whole + b"{")
    assert len(opened(tmp_path, "").study.trials) == 3
    assert [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize("url", ["sqlite:////no/such/folder/study.db", "nonsense://user:secret@host/base"])
def test_a_database_that_cannot_be_opened_is_told_without_its_password(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kjcm.tune.search.WAITS", (0.01, 0.01))
    with pytest.raises(KjcmError, match="cannot be opened") as caught:
        storage_of(url, tmp_path)
    assert "secret" not in str(caught.value)


def test_a_missing_driver_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(KjcmError, match=r"kjcm\[postgresql\]") as caught:
        storage_of("postgresql+psycopg://user:secret@host/base", tmp_path)
    assert "secret" not in str(caught.value)
