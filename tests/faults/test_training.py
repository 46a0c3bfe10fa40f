"""Trainings that are really killed, or that run out of disk, memory or numbers: each goes on and ends with the same bits."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kjcm.run_folder.failures import read_failure
from tests.conftest import ROOT
from tests.training.test_resume import TWO, WORDS, outcome, reached, started, steps, whole

pytestmark = pytest.mark.fault
__all__ = ["whole"]  # the fixture

KILLS = 8
DISK = 8  # MiB of the small disk

# a command line in which the training's nth step ends by an injected statement
INJECTED = """
import sys
from kjcm.engine.module import Classifier
step, count = Classifier.training_step, [0]
def training_step(self, batch):
    import torch
    count[0] += 1
    if count[0] == 20:
        {fault}
    return step(self, batch)
Classifier.training_step = training_step
from kjcm.cli import main
main(sys.argv[1:])
"""
LATE = """
import os, sys
from kjcm.engine.saving import Saving
end = Saving.on_train_end
def on_train_end(self, trainer, module):
    end(self, trainer, module)
    os.kill(os.getpid(), {signal})
Saving.on_train_end = on_train_end
from kjcm.cli import main
main(sys.argv[1:])
"""
ONE_OF_TWO = """
import os, sys
from kjcm.engine.saving import Saving
def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
    if trainer.global_rank == 1 and trainer.global_step == trainer.estimated_stepping_batches - 1:
        os.kill(os.getpid(), {signal})
Saving.on_train_batch_end = on_train_batch_end
from kjcm.cli import main
main(sys.argv[1:])
"""
FAULTS = {
    "nan": ("return step(self, batch) * float('nan')", "error", "the training diverged. Lower optim.lr"),
    "memory of a card": (
        "raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB')",
        "out_of_memory",
        "Tried to allocate 2 GiB). Lower data.batch_size",
    ),
    "memory of the host": ("raise MemoryError('cannot allocate 2 GiB')", "out_of_memory", "Lower data.batch_size"),
}


@pytest.mark.parametrize("engine", ["reference", "packed"])
def test_killed_again_and_again_it_ends_with_the_same_bits(
    engine: str, tmp_path: Path, whole: Callable[..., Path]
) -> None:
    """Every other kill waits for a checkpoint that is being written; the others come at any moment of the run's life."""
    words = (f"engine={engine}",)
    wanted, cut, chance, torn = outcome(whole(*words)), tmp_path / "run", random.Random(engine), 0
    temporary = cut / "checkpoints" / ".saving"
    for kill in range(KILLS):
        child = started(cut, *words)
        reached(child, cut, max(steps(cut), default=0) + chance.randrange(1, 5))
        if kill % 2:
            while not temporary.exists() and child.poll() is None:
                pass
        else:
            time.sleep(chance.random() * 0.05)
        child.send_signal(signal.SIGKILL)
        said = child.communicate()
        assert child.returncode == -signal.SIGKILL and not (cut / "DONE").exists(), said
        torn += temporary.exists()
    assert torn
    child = started(cut, *words)
    said = child.communicate(timeout=300)
    assert child.returncode == 0, said
    assert outcome(cut) == wanted


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Give a disk of a few MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK}m", "kjcm", str(place)], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a tmpfs")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_stops_it_and_with_room_it_goes_on(disk: Path, tmp_path: Path, whole: Callable[..., Path]) -> None:
    words, run, ballast = ("engine=packed", f"cache={tmp_path / 'cache'}"), disk / "run", disk / "ballast"
    child = started(run, *words)
    reached(child, run, 10)
    with pytest.raises(OSError, match="No space"), ballast.open("wb", buffering=0) as stream:
        while True:
            stream.write(bytes(4096))
    said = child.communicate(timeout=120)
    assert child.returncode == 1 and "No space left" in said[1] + (run / "train.log").read_text(), said
    assert "Make room" in said[1] and "Traceback" not in said[1], said
    begun = max(steps(run))
    assert begun >= 10 and not (run / "DONE").exists()
    ballast.unlink()
    child = started(run, *words)
    said = child.communicate(timeout=300)
    assert child.returncode == 0, said
    assert "truncated" not in (run / "train.log").read_text()
    assert outcome(run) == outcome(whole("engine=packed"))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_a_step_is_said_and_the_run_goes_on_without_it(
    fault: str, tmp_path: Path, whole: Callable[..., Path]
) -> None:
    statement, kind, reason = FAULTS[fault]
    run = tmp_path / "run"
    words = [*WORDS, "engine=packed", f"cache={tmp_path / 'cache'}", f"run_dir={run}"]
    child = subprocess.run(
        [sys.executable, "-c", INJECTED.format(fault=statement), "train", *words], cwd=tmp_path, text=True,
        capture_output=True, timeout=300, check=False, env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert child.returncode == 1 and reason in child.stderr and "Traceback" not in child.stderr, child.stderr
    failure = read_failure(run)
    assert failure and failure.kind == kind and reason in failure.reason
    assert not (run / "DONE").exists() and not (run / "report.json").exists()
    again = started(run, "engine=packed")
    said = again.communicate(timeout=300)
    if fault == "nan":  # its weights were saved; nothing but a new start mends them
        assert again.returncode == 1 and not (run / "DONE").exists(), said
        again = started(run, "engine=packed", "overwrite=true")
        said = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert outcome(run) == outcome(whole("engine=packed"))


def test_a_signal_after_the_last_step_costs_nothing(tmp_path: Path, whole: Callable[..., Path]) -> None:
    """It comes when the last checkpoint is saved, before the run notes that its training is over."""
    run = tmp_path / "run"
    words = [*WORDS, "engine=packed", f"cache={tmp_path / 'cache'}", f"run_dir={run}"]
    late = LATE.format(signal=int(signal.SIGTERM))
    child = subprocess.run(
        [sys.executable, "-c", late, "train", *words], cwd=tmp_path, text=True, capture_output=True, timeout=300,
        check=False, env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert child.returncode == 128 + signal.SIGTERM, child.stderr
    assert not (run / "checkpoints" / "fitted.json").exists() and read_failure(run) is None
    last = max(steps(run))
    again = started(run, "engine=packed")
    said = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert max(steps(run)) == last and outcome(run) == outcome(whole("engine=packed"))


def test_one_of_two_processes_told_in_the_last_step_takes_the_other_along(
    tmp_path: Path, whole: Callable[..., Path]
) -> None:
    """All are asked at every eighth step and at the end; the one that is told here does not speak to the user."""
    run, script = tmp_path / "run", tmp_path / "script.py"
    script.write_text(ONE_OF_TWO.format(signal=int(signal.SIGTERM)))
    words = [*WORDS, *TWO, "trainer.save_every=1000", f"cache={tmp_path / 'cache'}", f"run_dir={run}"]
    child = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", str(script), "train", *words], cwd=tmp_path,
        text=True, capture_output=True, timeout=300, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert child.returncode and "the same command again to resume" in child.stderr, child.stderr
    assert len(steps(run)) == 1 and not (run / "checkpoints" / "fitted.json").exists() and read_failure(run) is None
    again = started(run, *TWO)
    said = again.communicate(timeout=300)
    assert again.returncode == 0, said
    expected = whole(*TWO)
    assert (run / "model" / "model.safetensors").read_bytes() == (expected / "model" / "model.safetensors").read_bytes()
