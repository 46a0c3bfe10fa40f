"""A run that is killed or told to leave, at any moment, ends with the bits of an undisturbed one."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.conftest import ROOT, SMALL, command
from tests.forking import Forked

WORDS = (
    *SMALL, "trainer.max_epochs=2", "data.batch_size=32", "optim=adamw", "optim.lr=0.003", "schedule=linear",
    "schedule.warmup=0.1", "data.validation=0.1", "callbacks=[early_stopping,ema]", "callbacks.early_stopping.patience=3",
    "trainer.flags.gradient_clip_val=1.0", "trainer.save_every=0",
    "trainer.keep_checkpoints=true",
)  # fmt: skip
TWO = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.deterministic=true",
       "trainer.precision=32-true", "trainer.num_workers=1")  # fmt: skip


def started(folder: Path, *words: str, apart: bool = False, **env: str) -> subprocess.Popen[str]:
    """Start a run; apart: in a process group of its own."""
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", **env}
    return Forked(
        [sys.executable, "-m", "kjcm", "train", *WORDS, f"cache={folder.parent / 'cache'}", f"run_dir={folder}", *words],
        cwd=folder.parent, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=apart,
    )  # fmt: skip


def steps(folder: Path) -> list[int]:
    """Return the steps of the checkpoints that are there."""
    return sorted(int(file.name.split("-")[1]) for file in folder.glob("checkpoints/step-*.ckpt"))


def reached(child: subprocess.Popen[str], folder: Path, step: int) -> None:
    """Wait until a run has saved a step."""
    deadline = time.monotonic() + 120
    while max(steps(folder), default=0) < step and time.monotonic() < deadline:
        assert child.poll() is None, child.communicate()
        time.sleep(0.002)


def outcome(folder: Path) -> tuple[Any, ...]:
    report = json.loads((folder / "report.json").read_text())
    predictions = pd.read_parquet(folder / "predictions.parquet")
    kept = {name: value for name, value in report.items() if name != "seconds"}
    return (folder / "model" / "model.safetensors").read_bytes(), predictions.to_csv(), kept


def losses(folder: Path) -> dict[int, float]:
    """Return step and mean loss of each epoch, as the CSV has them."""
    (file,) = folder.glob("logs/csv/*/metrics.csv")
    rows = pd.read_csv(file)
    found = rows[rows["train_loss"].notna()]
    assert found["step"].is_unique and found["step"].is_monotonic_increasing
    return dict(zip(found["step"], found["train_loss"], strict=True))


def metered(folder: Path) -> list[int]:
    """Return the steps at which the CSV has rates."""
    (file,) = folder.glob("logs/csv/*/metrics.csv")
    found = pd.read_csv(file).dropna(subset=["tokens_per_second"])
    assert (found[["rows_per_second", "tokens_per_second"]] > 0).all(axis=None)
    return found["step"].tolist()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Give an undisturbed run, made once, with these words."""
    made: dict[tuple[str, ...], Path] = {}

    def run(*words: str) -> Path:
        if words not in made:
            made[words] = tmp_path_factory.mktemp("whole") / "run"
            child = started(made[words], *words, "trainer.save_every=1000")
            assert child.wait(300) == 0, child.communicate()
        return made[words]

    return run


@pytest.mark.fault
@pytest.mark.parametrize("engine", ["reference", "packed"])
def test_killed_at_random_moments(engine: str, tmp_path: Path, whole: Callable[..., Path]) -> None:
    words = (f"engine={engine}",)
    wanted, cut, chance = outcome(whole(*words)), tmp_path / "run", random.Random(7)
    last = 0
    for _ in range(3):
        child = started(cut, *words)
        reached(child, cut, last + chance.randrange(5, 30))
        time.sleep(chance.random() * 0.02)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        assert (not (cut / "DONE").exists() and 0 < last < max(steps(cut))) or not last
        last = max(steps(cut))
    child = started(cut, *words)
    assert child.wait(300) == 0, child.communicate()
    assert outcome(cut) == wanted
    assert losses(cut) == losses(whole(*words))
    assert metered(cut) == metered(whole(*words))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_leave_it_saves_between_two_steps(
    number: signal.Signals, tmp_path: Path, whole: Callable[..., Path]
) -> None:
    cut = tmp_path / "run"
    later = "trainer.save_every=1000"
    child = started(cut, "engine=packed")
    reached(child, cut, 5)
    child.send_signal(number)
    if number == signal.SIGTERM:
        child.send_signal(number)
    said = child.communicate(timeout=120)
    assert child.returncode == 128 + number, said
    assert "the same command again to resume" in said[1] and "Traceback" not in said[1]
    begun = steps(cut)[-1]
    assert begun >= 5 and not (cut / "DONE").exists()
    # without another checkpoint on the way, a signal alone saves
    child = started(cut, "engine=packed", later)
    deadline = time.monotonic() + 120
    while (cut / "train.log").read_text().count("resuming") < 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(number)
    child.communicate(timeout=120)
    child = started(cut, "engine=packed", later)
    assert child.wait(300) == 0, child.communicate()
    assert outcome(cut) == outcome(whole("engine=packed"))


def test_a_signal_to_all_its_processes_is_as_one_to_the_run(tmp_path: Path, whole: Callable[..., Path]) -> None:
    words = ("engine=packed", "trainer.num_workers=2")
    child = started(tmp_path / "run", *words, apart=True)
    reached(child, tmp_path / "run", 5)
    os.killpg(child.pid, signal.SIGTERM)
    said = child.communicate(timeout=120)
    assert child.returncode == 128 + signal.SIGTERM, said
    assert "the same command again to resume" in said[1] and "Traceback" not in said[1]
    child = started(tmp_path / "run", *words)
    assert child.wait(300) == 0, child.communicate()
    assert outcome(tmp_path / "run") == outcome(whole("engine=packed"))


def test_slurm_starts_the_job_again(tmp_path: Path) -> None:
    scontrol, called = tmp_path / "bin" / "scontrol", tmp_path / "called"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\nls {tmp_path}/run/checkpoints > {called}\necho "$@" >> {called}\n')
    scontrol.chmod(0o755)
    slurm = {"PATH": f"{scontrol.parent}:{os.environ['PATH']}", "SLURM_JOB_ID": "70", "SLURM_ARRAY_JOB_ID": "7",
             "SLURM_ARRAY_TASK_ID": "3", "SLURM_NTASKS": "1", "SLURM_JOB_NAME": "bash"}  # fmt: skip
    child = started(tmp_path / "run", **slurm)
    reached(child, tmp_path / "run", 5)
    child.send_signal(signal.SIGUSR1)
    child.communicate(timeout=120)
    assert child.returncode == 128 + signal.SIGUSR1
    saved, *_, words = called.read_text().splitlines()
    assert words == "requeue 7_3" and saved.startswith("step-")
    assert re.search("Slurm requeued job 7_3", (tmp_path / "run" / "train.log").read_text())


def test_damaged_checkpoints_are_passed_over(tmp_path: Path, whole: Callable[..., Path]) -> None:
    cut = tmp_path / "run"
    for damaged in ("newest", "all"):
        child = started(cut, "engine=packed")
        reached(child, cut, 12)
        child.kill()
        child.communicate()
        files = sorted(cut.glob("checkpoints/step-*.ckpt"))
        assert len(files) >= 2
        for file in files[-1:] if damaged == "newest" else files:
            file.write_bytes(file.read_bytes()[:3000])
        if damaged == "newest":
            child = started(cut, "engine=packed")
            assert child.wait(300) == 0
            assert outcome(cut) == outcome(whole("engine=packed"))
            assert files[-1].name in (cut / "train.log").read_text()
            for name in ("DONE", "report.json", "checkpoints/fitted.json"):
                (cut / name).unlink()
            for file in cut.glob("checkpoints/step-*.ckpt"):
                file.unlink()
    child = started(cut, "engine=packed")
    assert child.wait(300) == 0
    assert "NO CHECKPOINT IS INTACT" in (cut / "train.log").read_text()
    assert outcome(cut) == outcome(whole("engine=packed"))


def test_a_finished_training_is_only_loaded_and_a_damaged_end_trained_again(
    tmp_path: Path, whole: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    import lightning.pytorch as pl

    run = tmp_path / "run"
    shutil.copytree(whole("engine=packed"), run)
    wanted, fits, fit = outcome(run), [], pl.Trainer.fit
    monkeypatch.setattr(pl.Trainer, "fit", lambda *args, **kwargs: (fits.append(1), fit(*args, **kwargs))[1])
    words = (*WORDS, "engine=packed", f"run_dir={run}", f"cache={tmp_path / 'cache'}")
    for damage, count in ((False, 0), (True, 1)):
        for name in ("DONE", "report.json", "predictions.parquet"):
            (run / name).unlink()
        if damage:
            next(run.glob("checkpoints/step-*.ckpt")).write_bytes(b"")
        assert command("train", *words) == 0
        assert len(fits) == count and outcome(run) == wanted


def test_two_processes_leave_together_and_go_on(tmp_path: Path, whole: Callable[..., Path]) -> None:
    cut = tmp_path / "run"
    child = started(cut, *TWO)
    reached(child, cut, 8)
    child.send_signal(signal.SIGTERM)  # the parent alone is told
    said = child.communicate(timeout=120)
    assert child.returncode == 128 + signal.SIGTERM, said
    assert said[1].count("the same command again to resume") == 1 and "Traceback" not in said[1], said
    assert steps(cut)[-1] >= 8
    child = started(cut, *TWO)
    said = child.communicate(timeout=300)
    assert child.returncode == 0, said
    expected = whole(*TWO)
    assert (cut / "model" / "model.safetensors").read_bytes() == (expected / "model" / "model.safetensors").read_bytes()
    assert losses(cut) == pytest.approx(losses(expected))
