"""A million different rows are coded in bounded memory, in their order."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from kjcm.records import read_json
from tests.conftest import ROOT, SMALL, command

pytestmark = pytest.mark.fault

ROWS = 1_000_000
MOST = 450_000  # KiB beyond what coding three rows takes: less than the output file would
TASKS = ("예금 상담", "택시 운전", "학생 가르침", "벼농사", "용접", "회계 장부 정리", "머리 손질", "건물 청소")


def coded(source: str, rows: int) -> int:
    """Code `rows` different rows into out-SOURCE and return what the process held in memory at most, in KiB."""
    with Path(source).open("w", encoding="utf-8") as stream:
        stream.write("n,workplace,position,task\n")
        stream.writelines(f"{n},회사 {n // len(TASKS)},,{TASKS[n % len(TASKS)]}\n" for n in range(rows))
    words = ["run=run", f"input={source}", f"output=out-{source}", "accelerator=cpu"]
    process = subprocess.Popen(
        [sys.executable, "-m", "kjcm", "predict", *words], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    return usage.ru_maxrss


def test_a_million_rows_stream_through_in_their_order(here: Path) -> None:
    assert command("train", *SMALL, "run_dir=run") == 0
    beyond = coded("million.csv", ROWS) - coded("three.csv", 3)
    print(f"{beyond / 1e6:.2f} GB beyond three rows")  # `pytest -s` shows it
    assert beyond < MOST
    assert read_json(Path("out-million.csv.json"))["rows"] == ROWS
    begin = 0
    for chunk in pd.read_csv("out-million.csv", usecols=["n", "code_1"], dtype={"code_1": str}, chunksize=100_000):
        assert chunk["n"].tolist() == list(range(begin, begin + len(chunk))) and chunk["code_1"].notna().all()
        begin += len(chunk)
    assert begin == ROWS
