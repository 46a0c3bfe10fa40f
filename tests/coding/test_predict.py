"""`kjcm predict`: precision, what it writes, and what an error leaves."""

import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kjcm.files import read_json
from tests.conftest import command


@pytest.fixture
def rows(here: Path) -> pd.DataFrame:
    """in.csv in the working folder: 40 rows of 8 texts."""
    tasks = ["예금 상담", "택시 운전", "학생 가르침", "벼농사", "용접", "회계 장부 정리", "머리 손질", "건물 청소"]
    frame = pd.DataFrame({"n": range(40), "workplace": "회사", "position": "", "task": tasks * 5})
    frame.to_csv("in.csv", index=False)
    return frame


@pytest.mark.parametrize("precision", ["auto", "32-true", "bf16"])
def test_order_is_kept_over_chunks_and_the_note_tells_the_precision(
    finished: Path, rows: pd.DataFrame, precision: str
) -> None:
    words = (f"run={finished}", "input=in.csv", "accelerator=cpu", f"precision={precision}")
    assert command("predict", *words, "output=out.csv", "chunk_rows=7") == 0
    coded = pd.read_csv("out.csv", dtype={"code_1": str})
    assert coded["n"].tolist() == rows["n"].tolist() and coded["task"].tolist() == rows["task"].tolist()
    assert (coded.groupby("task")["prob_1"].agg(np.ptp) < 0.02).all()  # a chunk is a batch of its own
    used = read_json(Path("out.csv.json"))["precision"]
    assert used == precision if precision != "auto" else used in ("32-true", "bf16")


def test_precision_that_is_not_there_is_refused(
    finished: Path, rows: pd.DataFrame, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (f"run={finished}", "input=in.csv", "output=out.csv")
    assert command("predict", *words, "precision=fp8") == 2
    assert "32-true, bf16, int8" in capfd.readouterr().err
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert command("predict", *words, "precision=int8") == 2
    assert "accelerator=cpu" in capfd.readouterr().err
    assert sorted(path.name for path in Path().iterdir()) == ["in.csv"]


def test_an_error_in_a_later_chunk_is_shown_and_leaves_nothing(
    finished: Path, rows: pd.DataFrame, capfd: pytest.CaptureFixture[str]
) -> None:
    rows.loc[33, ["workplace", "task"]] = ""
    rows.to_csv("in.csv", index=False)
    assert command("predict", f"run={finished}", "input=in.csv", "output=out.csv", "chunk_rows=4") == 1
    assert "no text in row 34" in capfd.readouterr().err
    assert sorted(path.name for path in Path().iterdir()) == ["in.csv"]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_an_error_while_coding_leaves_nothing(
    finished: Path, rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kjcm.coding.coder import Coder

    def fails(self: Coder, ready: object) -> pd.DataFrame:
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(Coder, "frame", fails)
    assert command("predict", f"run={finished}", "input=in.csv", "output=out.csv", "chunk_rows=4") == 1
    assert sorted(path.name for path in Path().iterdir()) == ["in.csv"]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_columns_of_the_codes_are_not_overwritten(
    finished: Path, rows: pd.DataFrame, capfd: pytest.CaptureFixture[str]
) -> None:
    rows.assign(code_2="x").to_csv("in.csv", index=False)
    assert command("predict", f"run={finished}", "input=in.csv", "output=out.csv") == 1
    assert "code_2" in capfd.readouterr().err
