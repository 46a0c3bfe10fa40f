"""An output is never said to be written where it is not, and a coding that cannot go on blocks no other."""

import hashlib
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyreadstat
import pytest

from kjcm.coding.coder import Coder, Ready
from kjcm.errors import DiskError
from kjcm.prediction.progress import Progress
from kjcm.records import read_json
from tests.conftest import command

PARTS = Path(".out.csv.parts")


@pytest.fixture
def words(finished: Path, here: Path) -> tuple[str, ...]:
    """A command that codes 40 rows in chunks of ten to out.csv."""
    tasks = ["예금 상담", "택시 운전", "학생 가르침", "벼농사", "용접"]
    pd.DataFrame({"n": range(40), "workplace": "회사", "position": "", "task": tasks * 8}).to_csv("in.csv", index=False)
    return ("predict", f"run={finished}", "input=in.csv", "output=out.csv", "chunk_rows=10", "accelerator=cpu")


def before_chunk(number: int, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Act before a chunk is coded."""
    probabilities, count = Coder.probabilities, iter(range(100))

    def acts(self: Coder, ready: Ready) -> object:
        if next(count) == number:
            act()
        return probabilities(self, ready)

    monkeypatch.setattr(Coder, "probabilities", acts)


@pytest.mark.parametrize("chunk", [1, 3])
def test_parts_removed_under_way_are_an_error(
    words: tuple[str, ...], chunk: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        before_chunk(chunk, lambda: shutil.rmtree(PARTS), patch)
        assert command(*words) == 1
    assert "was removed" in capfd.readouterr().err
    assert not Path("out.csv").exists() and not Path("out.csv.json").exists()
    assert command(*words) == 0
    assert len(pd.read_csv("out.csv")) == 40 and not PARTS.exists()
    assert read_json(Path("out.csv.json"))["output_sha256"] == hashlib.sha256(Path("out.csv").read_bytes()).hexdigest()


def test_a_file_of_the_parts_removed_under_way_is_an_error(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def removes() -> None:
        for file in PARTS.glob(".output.*"):
            file.unlink()

    with monkeypatch.context() as patch:
        before_chunk(3, removes, patch)
        assert command(*words) == 1
    assert not Path("out.csv").exists() and not Path("out.csv.json").exists()
    assert command(*words) == 0 and len(pd.read_csv("out.csv")) == 40


def test_a_stored_chunk_without_all_its_rows_is_coded_again(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stops() -> None:
        raise DiskError("full")

    assert command(*words) == 0
    wanted = Path("out.csv").read_bytes()
    Path("out.csv").unlink()
    Path("out.csv.json").unlink()
    with monkeypatch.context() as patch:
        before_chunk(2, stops, patch)
        assert command(*words) == 1
    part = PARTS / "00000000.npz"
    with np.load(part) as stored:
        shorter = {name: values[:-1] for name, values in stored.items()}
    np.savez(part, **shorter)
    assert command(*words) == 0
    assert Path("out.csv").read_bytes() == wanted


def test_who_was_taken_over_writes_nothing(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        before_chunk(2, lambda: (PARTS / ".lease" / "9").write_text("{}"), patch)
        assert command(*words) == 1
    assert "another process" in capfd.readouterr().err
    assert sorted(file.name for file in PARTS.glob("*.npz")) == ["00000000.npz", "00000001.npz"]  # they are the other's
    assert not list(PARTS.glob("*output*")) and not Path("out.csv").exists()


def test_a_table_that_cannot_be_written_blocks_no_other(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise pyreadstat.ReadstatError("it does not like it")

    with monkeypatch.context() as patch:
        patch.setattr(pyreadstat, "write_sav", fails)
        assert command(*words[:3], "output=out.sav", *words[4:]) == 1
    assert "it does not like it" in capfd.readouterr().err
    whole = Path("in.csv").read_text()
    Path("in.csv").write_text(whole + "1,2,3,4,5,6\n")
    assert command(*words) == 1
    assert sorted(path.name for path in Path().iterdir()) == ["in.csv"]


@pytest.mark.parametrize(
    ("made", "output", "code"), [("folder.csv", "folder.csv", 2), ("a.csv.json", "a.csv", 2), (None, "in.csv/a.csv", 1)]
)
def test_an_output_that_cannot_be_is_refused_first(
    words: tuple[str, ...], made: str | None, output: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if made:
        Path(made).mkdir()
    before_chunk(0, lambda: pytest.fail("it is coded"), monkeypatch)
    assert command(*words[:3], f"output={output}", *words[4:], "overwrite=true") == code


def test_an_output_that_was_replaced_is_not_said_to_be_coded(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def dies(self: Path, target: Path) -> Path:
        if self.name == "note.json":
            raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", dies)
        assert command(*words) == 130
    assert len(pd.read_csv("out.csv")) == 40
    Path("out.csv").write_text("mine")
    assert command(*words) == 1 and Path("out.csv").read_text() == "mine"
    assert command(*words, "overwrite=true") == 0 and len(pd.read_csv("out.csv")) == 40


def test_progress_says_the_total_and_the_time_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("kjcm.prediction.progress.EVERY", 0.0)
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr("kjcm.prediction.progress.time", SimpleNamespace(monotonic=lambda: clock.now))
    with caplog.at_level(logging.INFO, "kjcm"):
        progress = Progress(40)
        progress.add(10, coded=False)
        said = [record.getMessage() for record in caplog.records]
        clock.now += 2
        progress.add(20, coded=True)
        said += [record.getMessage() for record in caplog.records[len(said) :]]
    progress.close()
    assert said == ["10 of 40 rows", "30 of 40 rows, 10 rows/s, 0:00:01 left"]
