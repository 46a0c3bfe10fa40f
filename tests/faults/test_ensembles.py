"""An ensemble that is killed, or told to leave, during its members' trainings ends with the same bits."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kjcm.files import digest
from tests.conftest import ROOT
from tests.forking import Forked
from tests.training.test_ensemble import DATA, ENCODER, SVM, members

pytestmark = pytest.mark.fault


def started(folder: Path) -> subprocess.Popen[str]:
    words = ("model=ensemble", members(SVM, ENCODER, f"{SVM} seed=1"), "model.folds=2", *DATA, "trainer.save_every=0")
    return Forked(
        [sys.executable, "-m", "kjcm", "train", *words, f"cache={folder.parent / 'cache'}", f"run_dir={folder}"],
        cwd=folder.parent, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def outcome(folder: Path) -> tuple[Any, ...]:
    report = json.loads((folder / "report.json").read_text())
    kept = {name: value for name, value in report.items() if name not in ("seconds", "members")}
    weights = [one["weight"] for one in report["members"]]
    return digest(folder / "model" / "members"), pd.read_parquet(folder / "predictions.parquet").to_csv(), kept, weights


def marks(folder: Path) -> int:
    """Return how many trainings are finished, and checkpoints there."""
    return len([*folder.rglob("DONE"), *folder.rglob("step-*.ckpt")])


def test_killed_again_and_again_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole, cut, chance = tmp_path / "whole", tmp_path / "cut", random.Random(3)
    child = started(whole)
    assert child.wait(300) == 0, child.communicate()
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        before, child = marks(cut), started(cut)
        while marks(cut) <= before and child.poll() is None:
            time.sleep(0.01)
        time.sleep(chance.random() * 0.5)
        child.send_signal(number)
        child.communicate()
        if (cut / "DONE").exists():
            break
        assert child.returncode in (128 + number, -number)
    child = started(cut)
    assert child.wait(300) == 0, child.communicate()
    assert outcome(cut) == outcome(whole)
