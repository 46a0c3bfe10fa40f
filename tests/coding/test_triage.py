"""`kjcm triage`: the table of targets is what `predict` promises, and needs no model."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kjcm.records import read_json
from kjcm.run_folder.held_out import HELD
from kjcm.run_folder.model_folder import load_settings
from kjcm.triage.logits import load_scored, save_scored
from tests.conftest import ROOT, command


def test_the_table_is_what_predict_then_promises(
    calibrated: Path, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = (f"run={calibrated}", "triage.back_off=[1]")
    assert command("triage", *words, "targets=[0.2,0.3,0.4]", "out=table.csv") == 0
    shown = capfd.readouterr().out
    table = pd.read_csv("table.csv")
    assert "40 %" in shown and "backed off" in shown and "table.csv" in shown
    assert (
        len(table) == 4 and np.isnan(table["target_error"][0]) and table["target_error"][1:].tolist() == [0.2, 0.3, 0.4]
    )
    assert table["accepted"][1:].is_monotonic_increasing and table["accepted"].iloc[-1] > 0
    assert (table["accepted"] + table["backed_off"])[1:].is_monotonic_increasing
    assert (table["accepted_error_at_most"][1:] <= table["target_error"][1:])[table["accepted"][1:] > 0].all()
    pd.DataFrame({"workplace": [""], "position": [""], "task": ["용접"]}).to_csv("in.csv", index=False)
    assert command("predict", *words, "input=in.csv", "output=out.csv", "triage.target_error=0.4") == 0
    figures = read_json(Path("out.csv.json"))["triage"]["expected"]
    line = table.iloc[-1]
    assert [line["accepted"], line["backed_off"], line["with_list"], line["undecided"]] == pytest.approx(
        [figures[name] for name in ("accept", "back off", "choose", "search")]
    )
    assert line["backed_off_error"] == pytest.approx(figures["backed_off_error"], nan_ok=True)
    assert line["accepted_error_at_most"] == pytest.approx(figures["accepted_error_at_most"])


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["targets=[]"], 2, "targets=[]"),
        (["targets=[0.1,1.5]"], 2, "0.99"),
        (["out=table.txt"], 2, "ends in .csv"),
        (["out=there.csv"], 1, "there.csv"),
        (["triage.back_off=[7]"], 2, "the levels are 1 to 2"),
        (["run=absent"], 1, "no such folder"),
    ],
)
def test_what_cannot_be_is_refused(
    calibrated: Path, here: Path, capfd: pytest.CaptureFixture[str], words: list[str], code: int, message: str
) -> None:
    Path("there.csv").write_text("mine", encoding="utf-8")
    assert command("triage", f"run={calibrated}", *words) == code
    assert message in capfd.readouterr().err and Path("there.csv").read_text(encoding="utf-8") == "mine"


def test_a_run_without_validation_rows_is_told_the_remedy(
    finished: Path, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command("triage", f"run={finished}") == 1
    assert "data.validation=0.3" in capfd.readouterr().err


def test_a_run_with_few_validation_rows_is_told_so(
    calibrated: Path, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(calibrated, "few")
    model = Path("few/model")
    settings = load_settings(model)
    held = load_scored(model / HELD, len(settings.classes), settings.classes_hash)
    save_scored(model / HELD, held.of(np.arange(len(held.labels)) < 7), settings.classes_hash)
    assert command("triage", "run=few", "out=table.csv") == 0
    shown = capfd.readouterr()
    assert "Only 7 " in shown.out + shown.err and "data.validation" in shown.out + shown.err
    assert (pd.read_csv("table.csv")["accepted"][1:] == 0).all()


def test_it_imports_no_torch() -> None:
    code = "import sys, kjcm.coding.triage; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=120).returncode == 0
