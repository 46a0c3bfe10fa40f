"""What the tests share: paths, the classification, a small cohort, and a command line run in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from kjcm.ksco.classification import Classification, load_classification
from tests import forking

pytest_plugins = ("tests.reporting.fixtures",)  # of tests of the report and of the analysis below it

# One thread a process: tests run side by side, and every process of a test computes the same bits.
os.environ["OMP_NUM_THREADS"] = "1"
# Read once, when the hub's library is imported, by whichever test is first; without it a hub out of reach is asked for long.
os.environ["HF_HUB_OFFLINE"] = "1"
forking.check_svm_on_request()

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
    """Run `python -m kjcm ...` in an empty folder, offline; expect exit code `code`.

    `fresh` starts an interpreter, for what Python reads from its environment as it starts.
    """

    def run(
        *words: object, code: int = 0, env: dict[str, str] | None = None, fresh: bool = False
    ) -> subprocess.CompletedProcess[str]:
        surroundings = {
            **os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline", "COLUMNS": "120",
            **(env or {}),
        }  # fmt: skip
        start = subprocess.Popen if fresh else forking.Forked
        done = forking.run([sys.executable, "-m", "kjcm", *words], 600, start, cwd=tmp_path, env=surroundings)
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
LINEAR = {"model=linear", "model=nearest", "experiment=best_offline"}  # overrides of trainings without an encoder

# Enough of a training for codes to be better than chance.
LEARNS = (*SMALL, "model.shape.dim=64", "optim.lr=0.003", "data.batch_size=16", "trainer.max_epochs=6")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, offline."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    return tmp_path


@pytest.fixture
def unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save every picture blank: rendering takes longer than a small training, and other tests look at the pictures."""
    from matplotlib.figure import Figure

    from kjcm.plot import style

    saved = style._saved
    monkeypatch.setattr(style, "_saved", lambda _, **options: saved(Figure(figsize=(1, 1)), **options))
    monkeypatch.setattr(Figure, "draw_without_rendering", lambda _: None)


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


def trained_once(factory: pytest.TempPathFactory, name: str, *words: str) -> Path:
    """Return a run of K-JCM that the first of all pytest processes to need it trains; none may write into it."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{folder}.lock"):
        if not (folder / "made").exists():
            assert command("train", *words, "experiment=k_jcm", f"run_dir={folder}/run", f"cache={folder}/cache") == 0
            (folder / "made").touch()
    return folder / "run"


def config_of(command: str, *overrides: str) -> Any:
    """Return a command's config as an object of its dataclass."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from kjcm.keys.composition import register
    from kjcm.keys.overrides import config_folder

    register()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return OmegaConf.to_object(compose(command, [*overrides]))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the twin; tests must not write into it."""
    return trained_once(tmp_path_factory, "finished", *LEARNS)


@pytest.fixture(scope="session")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that held half of its training rows back; tests must not write into it."""
    words = (*LEARNS, "data.scale=0.04", "data.validation=0.5", "trainer.max_epochs=10")
    return trained_once(tmp_path_factory, "calibrated", *words)
