"""Trainings whose screen goes: a closed pipe, a full disk, a lost terminal. Each ends as if somebody had looked."""

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.training.test_resume import reached, started

pytestmark = pytest.mark.fault
WORDS = (
    "data.scale=0.02", "model.shape.n_layers=1", "model.shape.dim=32", "model.shape.n_heads=2",
    "model.shape.hidden_dim=64", "trainer.precision=32-true", "trainer.max_epochs=6", "data.validation=0.1",
)  # fmt: skip


def training(place: Path, *words: str, **streams: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "kjcm", "train", *WORDS, *words], cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, **streams,
    )  # fmt: skip


def ended_well(run: Path) -> None:
    said = (run / "train.log").read_text()
    assert (run / "DONE").is_file() and "epoch 6/6: loss" in said and "test rows: accuracy" in said


@pytest.mark.parametrize("screen", ["pipe", "both pipes", "disk"])
def test_a_training_goes_on_without_its_screen(screen: str, tmp_path: Path) -> None:
    """The reader goes after the first line, as `head -1` does."""
    if screen == "disk":
        with Path("/dev/full").open("wb") as full:
            child = training(tmp_path, "run_dir=run", stdout=full.fileno(), stderr=subprocess.PIPE)
    else:
        to = subprocess.STDOUT if screen == "both pipes" else subprocess.PIPE
        child = training(tmp_path, "run_dir=run", stdout=subprocess.PIPE, stderr=to)
        assert child.stdout and child.stdout.readline()
        child.stdout.close()
    said = child.stderr.read() if child.stderr else b""
    assert child.wait(300) == 0 and b"Traceback" not in said and b"Exception ignored" not in said, said
    ended_well(tmp_path / "run")


def test_a_training_goes_on_without_its_terminal(tmp_path: Path) -> None:
    """Its progress bar writes to a terminal whose other end is closed, as after a lost ssh session."""
    ours, theirs = pty.openpty()
    child = training(tmp_path, "run_dir=run", stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    while b"Epoch 1/6" not in shown:
        shown += os.read(ours, 4096)
    os.close(ours)
    assert child.wait(300) == 0
    ended_well(tmp_path / "run")


def test_jobs_of_a_sweep_go_on_without_their_screen(tmp_path: Path) -> None:
    launcher = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.launcher.verbose=0")
    child = training(tmp_path, "-m", "seed=0,1", *launcher, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout and child.stderr and child.stdout.readline()
    child.stdout.close()
    said = child.stderr.read()
    assert child.wait(300) == 0 and b"Traceback" not in said, said
    runs = [file.parent for file in tmp_path.glob("runs/custom/*/DONE")]
    assert len(runs) == 2
    for run in runs:
        ended_well(run)


@pytest.mark.parametrize("ignored", [False, True])
def test_a_closed_session_has_it_save_and_leave_unless_it_is_ignored(ignored: bool, tmp_path: Path) -> None:
    before = signal.signal(
        signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL
    )  # the child inherits it, as of nohup
    try:
        child = started(tmp_path / "run", "engine=packed")
    finally:
        signal.signal(signal.SIGHUP, before)
    reached(child, tmp_path / "run", 5)
    child.send_signal(signal.SIGHUP)
    said = child.communicate(timeout=300)
    assert child.returncode == (0 if ignored else 128 + signal.SIGHUP), said
    assert (tmp_path / "run" / "DONE").is_file() is ignored
