"""`kjcm tune` with a study in PostgreSQL: Debian's server on loopback, two processes, one of them killed."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from kjcm.errors import KjcmError
from kjcm.run_folder.lease import LEASE, holder_of
from kjcm.tune.samplers import SURPLUS
from kjcm.tune.search import WORKER, storage_of
from tests.tune.test_search import begin, opened, process
from tests.tune.test_tune import rows_in, run_folders, started, summary

PASSWORD = "비밀 p@ss:word"  # with characters that a URL must escape
QUOTED = "%EB%B9%84%EB%B0%80%20p%40ss%3Aword"


def _programs() -> Path:
    """Return the folder of initdb and pg_ctl, or skip."""
    pytest.importorskip("psycopg", reason="needs the extra postgresql (psycopg)")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")) or [Path(shutil.which("pg_ctl") or "")]
    if not found[-1].is_file():
        pytest.skip("needs a PostgreSQL server (Debian: postgresql), which is not installed")
    return found[-1].parent


def _user() -> dict[str, Any]:
    """Return how to start the server as an ordinary user, as it demands; skip where root finds none."""
    if os.geteuid():
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    pytest.skip("PostgreSQL does not run as root, and there is no other user")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of a new database on loopback."""
    programs, user = _programs(), _user()
    folder = Path(tempfile.mkdtemp(prefix="kjcm-pg-"))  # pytest's own folders are closed to other users
    if user:
        os.chown(folder, user["user"], user["group"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def run(program: str, *words: object) -> None:
        done = subprocess.run(
            [programs / program, *map(str, words)], cwd=folder, capture_output=True, text=True, timeout=300, check=False,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}, **user,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    (folder / "password").write_text(PASSWORD, encoding="utf-8")
    (folder / "password").chmod(0o644)
    data = folder / "data"
    run("initdb", "-D", data, "-U", "kjcm", "-A", "scram-sha-256", "--pwfile", folder / "password", "-E", "UTF8", "-N")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c fsync=off -k {folder}"
    try:
        run("pg_ctl", "-D", data, "-o", options, "-l", folder / "log", "-w", "-t", 120, "start")
        yield f"postgresql+psycopg://kjcm:{QUOTED}@127.0.0.1:{port}/postgres"
    finally:
        if (data / "postmaster.pid").exists():
            run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder)


def test_processes_at_once_share_the_trials_out_and_a_killed_ones_trial_is_begun_again(
    server: str, tmp_path: Path
) -> None:
    """Two processes create the tables at the same moment; another is killed within its trial."""
    several = [process(tmp_path, server, trials=8) for _ in range(2)]
    begin(*several)
    for one in several:
        said = one.communicate(timeout=300)
        assert one.returncode == 0, said
    study = opened(tmp_path, "", server).study
    done = study.get_trials(states=(TrialState.COMPLETE,))
    assert len(done) == len({trial.params["x"] for trial in done}) == 8
    assert len({trial.user_attrs[WORKER] for trial in done}) == 2
    stopped = process(tmp_path, server, trials=9, stops="stops")
    begin(stopped)
    assert stopped.stdout and stopped.stdout.readline() == "at work\n"
    stopped.send_signal(signal.SIGKILL)
    stopped.communicate()
    other = process(tmp_path, server, trials=9)
    begin(other)
    said = other.communicate(timeout=300)
    assert other.returncode == 0, said
    # two processes that ask at the same moment may begin one trial too many, which one of them ends
    states = [trial.state for trial in study.get_trials() if SURPLUS not in trial.user_attrs]
    assert states.count(TrialState.COMPLETE) == 9 and states.count(TrialState.FAIL) == 1


@pytest.mark.slow
def test_two_commands_share_a_study_and_one_takes_up_what_the_other_left(server: str, here: Path) -> None:
    words = (
        "study=pg", "+space.optim.lr=[0.001,0.002,0.003]", "trainer.max_epochs=2", "seeds_per_trial=2",
        f"storage={server}",
    )  # fmt: skip
    study = here / "runs" / "pg"
    several = [started(here, *words) for _ in range(2)]
    killed = several.pop(_in_a_run(study, several))
    killed.kill()
    killed.communicate()
    (other,) = several
    out, error = other.communicate(timeout=600)
    assert other.returncode == 0, out + error
    assert PASSWORD not in out + error and QUOTED not in out + error
    rows = rows_in(study)
    assert sorted(row["state"] for row in rows) == ["complete"] * 3 + ["left"]
    assert len(run_folders(study)) == 6 and not (study / "journal.log").exists()
    assert len(summary(study)["best"]["seeds"]) == 2
    assert not [file for file in study.rglob("*.*") if file.is_file() and QUOTED.encode() in file.read_bytes()]


def _in_a_run(study: Path, several: list["subprocess.Popen[str]"]) -> int:
    """Wait until a process runs a trial, and return its place."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        for one in several:
            assert one.poll() is None, one.communicate()
        pids = [one.pid for one in several]
        for lease in study.glob(f"*/{LEASE}"):
            if (holder := holder_of(lease.parent)) and holder.pid in pids and not holder.released:
                return pids.index(holder.pid)
        time.sleep(0.01)
    raise AssertionError("no process began a trial in 300 s")


def test_a_wrong_password_and_a_server_that_is_gone_are_told_without_the_password(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kjcm.tune.search.WAITS", (0.01,))
    nobody_listens = f"{server.rpartition('@')[0]}@127.0.0.1:1/postgres"
    for url in (server.replace(QUOTED, "wrong%20one"), nobody_listens):
        with pytest.raises(KjcmError, match=r"storage=postgresql\+psycopg://\.\.\.: cannot be opened") as caught:
            storage_of(url, tmp_path)
        assert "wrong" not in str(caught.value) and QUOTED not in str(caught.value)
