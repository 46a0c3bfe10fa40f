"""A coded file to review."""

from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import command

TASKS = [
    "예금 상담",
    "택시 운전",
    "<script>window.hacked=1</script> 용접",
    "벼농사",
    "머리 손질",
    "건물 청소",
    "",
    "학생 가르침",
]


@pytest.fixture(scope="module")
def coded(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """coded.csv: eight rows, one of them invalid; tests must not change it."""
    here = tmp_path_factory.mktemp("coded")
    frame = pd.DataFrame({"n": range(8), "workplace": "회사", "position": "", "task": TASKS})
    frame.loc[6, "workplace"] = ""
    frame.to_csv(here / "in.csv", index=False)
    words = (f"run={finished}", f"input={here / 'in.csv'}", f"output={here / 'coded.csv'}", "triage.threshold=0.999")
    assert command("predict", *words, "accelerator=cpu", "precision=32-true") == 0
    return here / "coded.csv"
