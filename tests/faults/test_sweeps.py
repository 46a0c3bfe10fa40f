"""Sweeps that are really killed, raced, starved of disk and shown wrong clocks: each job is done once, and ends the same."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kjcm.run_folder.failures import read_failure
from kjcm.run_folder.lease import holder_of, seems_held
from kjcm.run_folder.states import state_of
from tests.conftest import ROOT, SMALL, command

pytestmark = pytest.mark.fault

SEEDS = range(6)
JOBS = ("train", "-m", f"seed={','.join(map(str, SEEDS))}", *SMALL, "trainer.max_epochs=4", "trainer.save_every=0",
        "logger=none")  # fmt: skip
JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
KILLS = 20
JOBS_200 = "seed=range(0,200)"


def started(place: Path, *words: str, **env: str) -> "subprocess.Popen[bytes]":
    """Start kjcm as a process group of its own; what it says goes into said.txt."""
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", **env}
    return subprocess.Popen(
        [sys.executable, "-m", "kjcm", *words], cwd=place, env=surroundings, start_new_session=True,
        stdout=(place / "said.txt").open("ab"), stderr=subprocess.STDOUT,
    )  # fmt: skip


def said(place: Path) -> str:
    return (place / "said.txt").read_text(encoding="utf-8")


def kill_group(process: "subprocess.Popen[bytes]") -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def folders(place: Path) -> list[Path]:
    return sorted(file.parent for file in place.glob("runs/custom/*/identity.json"))


def under_way(place: Path) -> list[Path]:
    return [folder for folder in folders(place) if seems_held(folder)]


def until(condition: object, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.005)


def outcomes(place: Path) -> dict[str, tuple[bytes, bytes]]:
    files = ("model/model.safetensors", "predictions.parquet")
    return {file.parent.name: tuple((file.parent / name).read_bytes() for name in files)
            for file in place.glob("runs/custom/*/DONE")}  # type: ignore[misc]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[bytes, bytes]]:
    place = tmp_path_factory.mktemp("undisturbed")
    assert started(place, *JOBS).wait(300) == 0, said(place)
    found = outcomes(place)
    assert len(found) == len(SEEDS)
    return found


def test_twenty_random_kills_then_every_job_is_done_once_and_the_same(
    tmp_path: Path, undisturbed: dict[str, tuple[bytes, bytes]]
) -> None:
    chance, done, cut = random.Random(5), {}, 0
    for kill in range(KILLS):
        process = started(tmp_path, *JOBS, *(JOBLIB if kill % 2 else ()))
        finished = len(done)
        # as the work gets less, so does what is left to kill: the last kills come before it is all done
        until(lambda: under_way(tmp_path) or process.poll() is not None)  # noqa: B023
        time.sleep(chance.random() * (1.0 if finished < len(SEEDS) - 2 else 0.1))
        cut += bool(under_way(tmp_path))
        kill_group(process)
        for folder in folders(tmp_path):
            if (folder / "DONE").exists():
                assert (
                    done.setdefault(folder, (folder / "DONE").stat().st_mtime_ns)
                    == (folder / "DONE").stat().st_mtime_ns
                )
    assert cut >= KILLS // 2, f"{cut} kills met a run at work"
    assert started(tmp_path, *JOBS).wait(300) == 0, said(tmp_path)
    assert outcomes(tmp_path) == undisturbed
    for folder, mark in done.items():
        assert (folder / "DONE").stat().st_mtime_ns == mark


def test_two_launchers_on_one_folder_share_the_jobs(
    tmp_path: Path, undisturbed: dict[str, tuple[bytes, bytes]]
) -> None:
    several = [started(tmp_path, *JOBS) for _ in range(2)]
    assert [process.wait(300) for process in several] == [0, 0], said(tmp_path)
    assert outcomes(tmp_path) == undisturbed
    for folder in folders(tmp_path):
        log = (folder / "train.log").read_text()
        assert log.count("run folder") == 1 and "resuming" not in log


def test_a_killed_worker_costs_no_job(tmp_path: Path, undisturbed: dict[str, tuple[bytes, bytes]]) -> None:
    process = started(tmp_path, *JOBS, *JOBLIB)
    until(lambda: under_way(tmp_path))
    holder = holder_of(under_way(tmp_path)[0])
    assert holder
    os.kill(holder.pid, signal.SIGKILL)
    assert process.wait(300) == 0, said(tmp_path)
    assert "the launcher broke" in said(tmp_path) and outcomes(tmp_path) == undisturbed


def test_a_job_that_kills_its_process_each_time_is_told_of(tmp_path: Path) -> None:
    assert started(tmp_path, *JOBS, "sweep.dry_run=true").wait(60) == 0
    victim = next(line.split()[-1] for line in said(tmp_path).splitlines() if "seed=0" in line)
    process = started(tmp_path, *JOBS, *JOBLIB)
    killed = set()
    while process.poll() is None:
        holder = holder_of(tmp_path / victim)
        if (
            holder
            and not holder.released
            and holder.pid not in {process.pid, *killed}
            and seems_held(tmp_path / victim)
        ):
            os.kill(holder.pid, signal.SIGKILL)
            killed.add(holder.pid)
        time.sleep(0.01)
    assert process.returncode == 1 and len(killed) == 2
    failure = read_failure(tmp_path / victim)
    assert state_of(tmp_path / victim)[0] == "failed" and failure and failure.kind == "killed"
    assert len(outcomes(tmp_path)) == len(SEEDS) - 1
    assert "twice, the second time alone" in said(tmp_path)
    assert started(tmp_path, *JOBS, "sweep.retry=failed").wait(300) == 0 and len(outcomes(tmp_path)) == len(SEEDS)


@pytest.mark.parametrize("launcher", [(), JOBLIB], ids=["basic", "joblib"])
def test_a_sweep_that_is_told_to_leave_saves_and_goes_on(
    launcher: tuple[str, ...], tmp_path: Path, undisturbed: dict[str, tuple[bytes, bytes]]
) -> None:
    process = started(tmp_path, *JOBS, *launcher)
    until(lambda: any(list(folder.glob("checkpoints/*.ckpt")) for folder in under_way(tmp_path)))
    os.kill(process.pid, signal.SIGTERM)  # to the sweep's process alone, as a container's
    assert process.wait(120) == 143, said(tmp_path)
    assert not under_way(tmp_path) and "resumable" in said(tmp_path)
    assert started(tmp_path, *JOBS).wait(300) == 0
    assert "resuming" in said(tmp_path)
    assert outcomes(tmp_path) == undisturbed


def test_a_clock_that_is_an_hour_wrong_changes_nothing(
    tmp_path: Path, undisturbed: dict[str, tuple[bytes, bytes]]
) -> None:
    (tmp_path / "late").mkdir()
    (tmp_path / "late" / "sitecustomize.py").write_text(
        "import time\nreal, real_ns = time.time, time.time_ns\n"
        "time.time = lambda: real() + 3600\ntime.time_ns = lambda: real_ns() + 3600 * 10**9\n"
    )
    late = {"PYTHONPATH": f"{tmp_path / 'late'}:{ROOT}"}
    first = started(tmp_path, *JOBS)
    until(lambda: under_way(tmp_path))
    second = started(tmp_path, *JOBS, **late)
    time.sleep(10)
    kill_group(first)  # its lease is dead, whatever the times of its files
    assert second.wait(300) == 0, said(tmp_path)
    assert started(tmp_path, *JOBS, **late).wait(300) == 0
    assert outcomes(tmp_path) == undisturbed


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, of 64 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "kjcm", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", disk], check=True)


def test_a_disk_that_is_full_fails_jobs_with_their_reason_and_takes_none_that_are_done(
    disk: Path, tmp_path: Path, undisturbed: dict[str, tuple[bytes, bytes]]
) -> None:
    words = (*JOBS, f"runs={disk}", f"cache={tmp_path / 'cache'}")
    assert started(tmp_path, "train", "seed=0", *JOBS[3:], *words[-2:]).wait(120) == 0
    taken = sum(file.stat().st_blocks * 512 for file in disk.rglob("*") if file.is_file())
    remount(disk, f"size={taken + 300_000}")
    process = started(tmp_path, *words)
    assert process.wait(300) == 1, said(tmp_path)
    assert "Traceback" not in said(tmp_path) and "No space left" in said(tmp_path)
    assert len(list(disk.glob("custom/*/DONE"))) == 1
    remount(disk, "size=64m")
    assert started(tmp_path, *words, "sweep.retry=failed").wait(300) == 0, said(tmp_path)
    for file in disk.glob("custom/*/DONE"):
        assert (file.parent / "model" / "model.safetensors").read_bytes() == undisturbed[file.parent.name][0]


def test_a_folder_that_is_read_only_is_said_in_a_line(disk: Path, tmp_path: Path) -> None:
    words = (*JOBS, f"runs={disk}", f"cache={tmp_path / 'cache'}")
    assert started(tmp_path, "train", "seed=0", *JOBS[3:], *words[-2:]).wait(120) == 0
    remount(disk, "ro")
    for command_line in (words, ("train", "seed=1", *JOBS[3:], *words[-2:])):
        before = len(said(tmp_path))
        assert started(tmp_path, *command_line).wait(120) == 1
        assert "Read-only file system" in said(tmp_path)[before:] and "Traceback" not in said(tmp_path)[before:]
    assert started(tmp_path, "runs", f"runs={disk}").wait(120) == 0
    assert (
        started(tmp_path, "train", "seed=0", *JOBS[3:], *words[-2:]).wait(120) == 0
    )  # finished: there is nothing to write
    remount(disk, "rw")


def test_the_ledger_costs_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """CPU time of the ledger's own code over 200 trivial jobs: of the whole, without Hydra's launcher and the jobs in it."""
    from hydra.core.plugins import Plugins

    from kjcm.sweeps.job import SweptJob
    from kjcm.sweeps.sweep import Sweep
    from kjcm.training import baseline

    monkeypatch.chdir(tmp_path)
    parts: Counter[str] = Counter()

    def timed(owner: Any, name: str, part: str, sign: int = 1) -> None:
        original = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            begin = time.process_time()
            try:
                return original(*args, **kwargs)
            finally:
                parts[part] += sign * (time.process_time() - begin)

        monkeypatch.setattr(owner, name, call)

    timed(Sweep, "listed", "listing")
    timed(Sweep, "launch", "launching")
    # Hydra's own import of it is another class than an import here would give
    launcher = Plugins.instance().class_name_to_class["hydra._internal.core_plugins.basic_launcher.BasicLauncher"]
    timed(launcher, "launch", "launching", -1)
    timed(SweptJob, "__call__", "each job")
    timed(baseline, "baseline", "each job", -1)
    timed(Sweep, "end", "ending")
    for what in ("new", "finished"):
        parts.clear()
        begin = time.process_time()
        assert command("baseline", "-m", "kind=majority", "data.scale=0.02", JOBS_200) == 0
        whole, cpu = time.process_time() - begin, 1000 * parts.total() / 200
        with capfd.disabled():
            each = ", ".join(f"{part} {1000 * seconds:.0f} ms" for part, seconds in parts.items())
            print(f"200 jobs, all {what}: {whole:.1f} s of CPU, of which the ledger {cpu:.1f} ms a job ({each} in all)")
        assert cpu < 50
