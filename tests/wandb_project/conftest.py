"""A stand-in for W&B's server, and runs that were logged offline."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import command
from tests.tracking.wandb_server import Server, serving

LINEAR = ("model=linear", "data.scale=0.03", "data.level=1", "model.above=[]", "model.calibration_folds=0",
          "logger=wandb", "logger.wandb.mode=offline", "data.validation=0.2")  # fmt: skip


@pytest.fixture
def server(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.delenv("WANDB_ENTITY", raising=False)
    with serving(monkeypatch) as found:
        yield found


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sweep of two settings with two seeds each; tests must not write into it."""
    folder = tmp_path_factory.mktemp("wandb")
    where = (f"runs={folder}/runs", f"cache={folder}/cache", f"hydra.sweep.dir={folder}/sweep")
    assert command("train", "-m", *LINEAR, "model.C=0.01,1", "seed=0,1", *where) == 0
    return folder


@pytest.fixture
def runs(swept: Path, here: Path) -> Path:
    """Copies of two of the runs, in the folder `runs` of an empty folder."""
    for path in sorted(swept.glob("runs/*/*/DONE"))[:2]:
        shutil.copytree(path.parent, here / "runs" / path.parent.name, symlinks=True)
    return here / "runs"
