"""A study whose processes are really killed, again and again: every trial once, with the values of an undisturbed study."""

import random
import signal
import time
from pathlib import Path

import pytest

from tests.tune.test_tune import rows_in, run_folders, started, summary

pytestmark = pytest.mark.fault

KILLS = 8
STUDY = (
    "study=s", "+space.optim.lr=[0.001,0.002,0.003]", "+space.data.batch_size=[16,32]", "trainer.max_epochs=4",
    "logger=csv",
)  # fmt: skip


@pytest.mark.parametrize("storage", ["null", "sqlite:///study.db"])
def test_killed_again_and_again_it_ends_as_an_undisturbed_study(storage: str, tmp_path: Path) -> None:
    """Two processes at a time; one of them is killed at any moment of its life, and another is started."""
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole = started(tmp_path / "whole", *STUDY)
    assert whole.wait(300) == 0, whole.communicate()
    chance = random.Random(storage)
    words = (*STUDY, f"storage={storage}")
    at_work = [started(tmp_path / "cut", *words) for _ in range(2)]
    killed = 0
    while killed < KILLS:
        time.sleep(chance.uniform(2, 9))
        child = at_work.pop(chance.randrange(2))
        if child.poll() is None:
            child.send_signal(signal.SIGKILL)
            killed += 1
        child.communicate()
        if child.returncode == 0 and all(one.poll() is not None for one in at_work):
            break
        at_work.append(started(tmp_path / "cut", *words))
    for child in at_work:
        said = child.communicate(timeout=300)
        assert child.returncode == 0, said
    last = started(tmp_path / "cut", *words)
    assert last.wait(300) == 0, last.communicate()
    kept = ("optim.lr", "data.batch_size", "state", "f1_weighted", "epochs")
    outcomes = []
    for name in ("whole", "cut"):
        folder = tmp_path / name / "runs" / "s"
        rows = [row for row in rows_in(folder) if row["state"] != "left"]
        assert len(run_folders(folder)) == len(rows) == 6
        assert not list((folder / "workers").iterdir()) or name == "cut"
        weights = {row["run"]: (folder / row["run"] / "model" / "model.safetensors").read_bytes() for row in rows}
        outcomes.append((sorted(tuple(row[key] for key in kept) for row in rows), weights))
    assert outcomes[0] == outcomes[1]
    assert summary(tmp_path / "cut" / "runs" / "s")["trials"]["left"] > 0
