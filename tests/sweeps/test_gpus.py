"""The GPUs of a machine, shared out among processes; no GPU is needed to see it."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

TAKE = """
import os, sys
from kjcm.errors import KjcmError
from kjcm.sweeps.gpus import take_gpus
for wanted in sys.argv[1:]:
    try:
        take_gpus(int(wanted))
        print(os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
    except KjcmError as error:
        print(f"KjcmError: {error}", flush=True)
sys.stdin.read()
"""


def take(place: Path, *wanted: int, visible: str | None = "4,5,GPU-aa") -> "tuple[subprocess.Popen[str], list[str]]":
    """Start a process that takes GPUs and keeps them until it ends; return it and what it said."""
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(place)}
    surroundings.pop("CUDA_VISIBLE_DEVICES", None)
    process = subprocess.Popen(
        [sys.executable, "-c", TAKE, *map(str, wanted)],
        env=surroundings if visible is None else {**surroundings, "CUDA_VISIBLE_DEVICES": visible},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    return process, [process.stdout.readline().strip() for _ in wanted]


def test_processes_share_the_gpus_out_and_give_them_back_however_they_end(tmp_path: Path) -> None:
    first, said = take(tmp_path, 1, 1)
    assert said == ["4", "4"]  # a later job of the same process has the same card
    second, (two,) = take(tmp_path, 2)
    assert two == "5,GPU-aa"
    third, (shared,) = take(tmp_path, 1)
    assert shared == "4"  # as many as there are GPUs taken: the round begins anew
    first.kill()
    first.wait()
    fourth, (freed,) = take(tmp_path, 1)
    assert freed == "4"
    second.communicate("")
    fifth, (freed,) = take(tmp_path, 1)
    assert freed == "5"
    for process in (third, fourth, fifth):
        process.communicate("")


def test_more_gpus_than_there_are_and_other_numbers_are_refused(tmp_path: Path) -> None:
    process, (said,) = take(tmp_path, 4)
    assert said == "KjcmError: trainer.devices=4: there are 3 GPUs here (4, 5, GPU-aa)."
    other, (_, refused) = take(tmp_path, 1, 2)
    assert "a sweep of their own" in refused
    none, (nothing,) = take(tmp_path, 1, visible="")
    assert nothing == ""
    for one in (process, other, none):
        one.communicate("")
