"""Every file that kjcm writes has the mode that the umask leaves: weights and tokens of answers are nobody else's to read."""

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import SMALL, command
from tests.reviews import begin_review


@pytest.fixture
def nobody_else() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    """Return path -> mode of every file and folder below a folder; a link has no mode of its own."""
    paths = (path for path in folder.rglob("*") if not path.is_symlink())
    return {str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode) for path in paths}


@pytest.mark.usefixtures("unrendered")
def test_all_files_are_the_users_alone_under_umask_077(here: Path, nobody_else: None) -> None:
    rows = [f"{number},회사,,{task}" for number, task in enumerate(("예금 상담", "택시 운전", "용접"))]
    (here / "in.csv").write_text("\n".join(["n,workplace,position,task", *rows]), encoding="utf-8")
    train = (
        *SMALL,
        "experiment=k_jcm",
        "run_dir=runs/run",
        "cache=cache",
        "data.validation=0.3",
        "trainer.save_every=0",
    )
    assert command("train", *train, "trainer.keep_checkpoints=true") == 0
    assert command("evaluate", "run=runs/run", "trainer=cpu") == 0
    assert command("predict", "run=runs/run", "input=in.csv", "output=out.csv", "accelerator=cpu") == 0
    begin_review(Path("runs/run"), "out.csv")
    assert command("review", "run=runs/run", "input=out.csv", "export=reviewed.xlsx") == 0
    assert command("report", "runs=runs", "out=report", "replicates=0", "only=[table_3]") == 0
    assert command("runs", "runs=runs", "out=runs.csv") == 0
    names = require_nobody_elses(here)
    assert {"model.safetensors", "tokenizer.json", "out.csv.review.sqlite", "report.html", "metrics.csv"} <= names
    assert any(name.endswith(".ckpt") for name in names) and any(name.endswith(".npz") for name in names)


def test_exports_are_the_users_alone_under_umask_077(finished: Path, here: Path, nobody_else: None) -> None:
    pytest.importorskip("onnxruntime")
    (here / "in.csv").write_text("workplace,position,task\n회사,,예금 상담\n", encoding="utf-8")
    shutil.copytree(finished, here / "run")
    for path in (here / "run", *(here / "run").rglob("*")):
        path.chmod(path.stat().st_mode & 0o700)
    for form in (["format=onnx"], ["format=onnx-int8", "agreement=0"]):
        assert command("export", "run=run", "input=in.csv", *form) == 0
    assert command("predict", "run=run", "input=in.csv", "output=out.csv", "accelerator=cpu", "precision=int8") == 0
    assert {"model.onnx", "export.json", "out.csv"} <= require_nobody_elses(here)


@pytest.mark.usefixtures("unrendered")
def test_what_wandb_keeps_offline_is_the_users_alone_under_umask_077(
    here: Path, nobody_else: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    wandb.teardown()  # W&B's own process has the umask of the time when it began
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert command("train", *SMALL, "run_dir=run", "cache=cache", "logger=wandb", "logger.wandb.share_text=true") == 0
    names = require_nobody_elses(here)
    assert any(name.endswith(".wandb") for name in names) and any(name.endswith(".table.json") for name in names)


def require_nobody_elses(folder: Path) -> set[str]:
    """Return the names of all files in a folder, of which others may read none."""
    found = modes(folder)
    assert {name: oct(mode) for name, mode in found.items() if mode & 0o077} == {}
    return {Path(name).name for name in found}


def test_files_are_for_others_to_read_under_the_usual_umask(finished: Path) -> None:
    wanted = 0o666 & ~umask()
    assert {name: mode for name, mode in modes(finished).items() if mode & 0o666 != wanted and "." in name and (
        finished / name).is_file()} == {}  # fmt: skip


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
