"""What the tests share: paths, the classification, a small cohort, and a command line run in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kjcm.ksco.classification import Classification, load_classification

pytest_plugins = ("tests.report.fixtures",)  # of tests of the report and of the analysis below it

# One thread a process: tests run side by side, and every process of a test computes the same bits.
os.environ["OMP_NUM_THREADS"] = "1"
# Read once, when the hub's library is imported, by whichever test is first; without it a hub out of reach is asked for long.
os.environ["HF_HUB_OFFLINE"] = "1"

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
COLUMNS = {
    "id": "id", "workplace": "workplace", "position": "position", "task": "task", "code": "code",
    "cluster": None, "weight": None, "manages": None,
}  # fmt: skip


@pytest.fixture(scope="session")
def ksco() -> Classification:
    return load_classification("ksco7")


@pytest.fixture
def shared() -> Callable[[str], Path]:
    """Give a path under the shared data, or skip loudly where it is absent."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.exists():
            pytest.skip(f"needs the shared data ({name}), which is not beside this checkout")
        return path

    return find


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def kjcm(tmp_path: Path) -> Run:
    """Run `python -m kjcm ...` in an empty folder, offline; expect exit code `code`."""

    def run(*words: object, code: int = 0, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        surroundings = {
            **os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline", "COLUMNS": "120",
            **(env or {}),
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "kjcm", *map(str, words)],
            cwd=tmp_path, env=surroundings, capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


# A model and a twin so small that a step takes no time,
FEW_STEPS = (
    "data.scale=0.02", "model.shape.n_layers=1", "model.shape.dim=32", "model.shape.n_heads=2",
    "model.shape.hidden_dim=64", "trainer.precision=32-true",
)  # fmt: skip

# and a whole run about a second.
SMALL = (*FEW_STEPS, "trainer.max_epochs=2")

# Enough of a training for codes to be better than chance.
LEARNS = (*SMALL, "model.shape.dim=64", "optim.lr=0.003", "data.batch_size=16", "trainer.max_epochs=6")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, offline."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    return tmp_path


def command(*words: object) -> int:
    """Run a kjcm command, or a benchmark as benchmarks.NAME, in this process and return its exit code."""
    from benchmarks.command import main as benchmark
    from kjcm.cli import main

    first, *rest = arguments = [str(word) for word in words]
    try:
        if first.startswith("benchmarks."):
            benchmark(first, rest)
        else:
            main(arguments)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the twin; tests must not write into it."""
    run = tmp_path_factory.mktemp("finished") / "run"
    cache = tmp_path_factory.mktemp("cache")
    assert command("train", *LEARNS, "experiment=k_jcm", f"run_dir={run}", f"cache={cache}") == 0
    return run


@pytest.fixture(scope="session")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that held half of its training rows back; tests must not write into it."""
    run = tmp_path_factory.mktemp("calibrated") / "run"
    cache = tmp_path_factory.mktemp("cache")
    words = (*LEARNS, "data.scale=0.04", "data.validation=0.5", "trainer.max_epochs=10")
    assert command("train", *words, "experiment=k_jcm", f"run_dir={run}", f"cache={cache}") == 0
    return run
