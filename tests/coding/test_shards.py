"""`kjcm predict shard=` and `merge=`: several processes code parts of a file, and the output is that of one process."""

from pathlib import Path

import pandas as pd
import pytest

from kjcm.coding.coder import Coder, Ready
from kjcm.records import read_json
from tests.coding.test_predict import spied
from tests.conftest import command
from tests.training.test_ensemble import DATA

TASKS = [
    "예금 상담",
    "택시 운전",
    "학생 가르침",
    "벼농사",
    "용접",
    "",
    "머리 손질",
    "건물 청소",
    "회계 장부 정리",
    "123",
    "간호",
]


@pytest.fixture
def rows(here: Path) -> pd.DataFrame:
    """in.csv in the working folder: 60 rows with texts that come again in other chunks, and rows without text."""
    tasks = [
        f"{TASKS[(7 * row) % 11]} {row % 17}" if row % 11 and TASKS[(7 * row) % 11] else TASKS[row % 11]
        for row in range(60)
    ]
    places = ["회사" if row % 3 and tasks[row] else "" for row in range(60)]
    frame = pd.DataFrame({"n": range(60), "workplace": places, "position": "", "task": tasks})
    frame.to_csv("in.csv", index=False)
    return frame


def words_for(run: Path, *more: str) -> tuple[str, ...]:
    return ("predict", f"run={run}", "input=in.csv", "accelerator=cpu", "chunk_rows=7", *more)


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
@pytest.mark.parametrize("precision", ["bf16", "32-true"])
def test_merged_shards_are_the_bytes_of_one_process(
    calibrated: Path, rows: pd.DataFrame, here: Path, ending: str, precision: str
) -> None:
    words = words_for(calibrated, f"precision={precision}", "triage.managers=words", "levels=[1]")
    assert command(*words, f"output=one{ending}") == 0
    for number in (3, 1, 2):
        assert command(*words, f"output=out{ending}", f"shard={number}/3") == 0
    assert not Path(f"out{ending}").exists()
    assert command(*words, f"output=out{ending}", "merge=3") == 0
    assert Path(f"out{ending}").read_bytes() == Path(f"one{ending}").read_bytes()
    one, merged = (read_json(Path(f"{name}{ending}.json")) for name in ("one", "out"))
    assert merged["rows_resumed"] == len(rows) and merged["made_by"] == one["made_by"]
    for key in ("rows", "decisions", "triage"):
        assert merged[key] == one[key]
    assert not list(here.glob(".out*"))


def test_shards_of_models_that_explain(rows: pd.DataFrame, here: Path) -> None:
    assert command("train", "model=nearest", "augment=titles", *DATA, "run_dir=run") == 0
    words = words_for(Path("run"), "explain=true")
    assert command(*words, "output=one.csv") == 0
    for number in range(1, 13):  # more shards than chunks: some have nothing to do
        assert command(*words, "output=out.csv", f"shard={number}/12") == 0
    assert command(*words, "output=out.csv", "merge=12") == 0
    assert Path("out.csv").read_bytes() == Path("one.csv").read_bytes()


def test_a_text_is_coded_by_one_shard_and_after_an_error_nothing_is_coded_twice(
    calibrated: Path, rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = words_for(calibrated, "output=out.csv")
    met = spied(monkeypatch)
    assert command(*words, "shard=1/2") == 0
    of_one = len(met)
    assert command(*words, "shard=2/2") == 0
    whole = sorted(met)
    assert len(set(whole)) == len(whole) > 20
    met.clear()
    assert command(*words, "shard=1/2") == 0 and not met  # done
    found, calls = Coder.probabilities, []

    def fails(self: Coder, ready: Ready) -> object:
        calls.append(0)
        if len(calls) == 3:
            raise RuntimeError
        return found(self, ready)

    words = words_for(calibrated, "output=other.csv")
    with monkeypatch.context() as patched:
        patched.setattr(Coder, "probabilities", fails)
        assert command(*words, "shard=1/2") == 1
    met.clear()
    assert command(*words, "shard=1/2") == 0 and 0 < len(met) < of_one
    assert command(*words, "shard=2/2") == 0
    for name in ("out", "other"):
        assert command(*words_for(calibrated, f"output={name}.csv"), "merge=2") == 0
    assert Path("other.csv").read_bytes() == Path("out.csv").read_bytes()


def test_what_does_not_fit_is_refused(
    calibrated: Path, rows: pd.DataFrame, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = words_for(calibrated, "output=out.csv")
    for wrong in ("shard=0/2", "shard=3/2", "shard=half", "shard=1/2 merge=2", "merge=0"):
        assert command(*words, *wrong.split()) == 2, wrong
    assert command(*words, "shard=1/2") == 0
    capfd.readouterr()
    assert command(*words, "merge=2") == 1
    assert "shard=2/2" in capfd.readouterr().err and not Path("out.csv").exists()
    assert command(*words, "shard=1/2", "top_k=2") == 1 and "overwrite=true" in capfd.readouterr().err
    assert command(*words, "shard=2/2", "top_k=2") == 0
    assert command(*words, "merge=2") == 1 and "shard 2" in capfd.readouterr().err.replace("'", "")
    assert command(*words, "shard=2/2", "overwrite=true") == 0
    assert command(*words, "merge=2", "top_k=2") == 1
    assert command(*words, "merge=2") == 0
    assert command(*words, "merge=2") == 1 and command(*words, "shard=1/2") == 1


def test_a_machine_may_merge_what_other_devices_coded(calibrated: Path, rows: pd.DataFrame) -> None:
    words = words_for(calibrated, "output=out.csv")
    for number in (1, 2):
        assert command(*words, f"shard={number}/2", "precision=32-true") == 0
    assert command(*words, "merge=2", "precision=bf16") == 0
    assert read_json(Path("out.csv.json"))["precision"] == "32-true"


def test_a_lost_chunk_is_named_and_coded_by_its_shard(
    calibrated: Path, rows: pd.DataFrame, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = words_for(calibrated, "output=out.csv")
    assert command(*words, "output=one.csv") == 0
    for number in (1, 2):
        assert command(*words, f"shard={number}/2") == 0
    (here / ".out.csv.shard-2-of-2.parts" / "00000003.npz").write_bytes(b"damaged")
    assert command(*words, "merge=2") == 1
    assert "shard=2/2" in capfd.readouterr().err and not Path("out.csv").exists()
    assert command(*words, "shard=2/2") == 0 and command(*words, "merge=2") == 0
    assert Path("out.csv").read_bytes() == Path("one.csv").read_bytes()


def test_an_error_before_the_first_chunk_leaves_nothing(calibrated: Path, rows: pd.DataFrame, here: Path) -> None:
    words = words_for(calibrated, "output=out.csv")
    assert command(*words, "shard=1/2", "columns.task=none") == 1
    assert [file.name for file in here.iterdir()] == ["in.csv"]
    assert command(*words, "shard=1/2") == 0
