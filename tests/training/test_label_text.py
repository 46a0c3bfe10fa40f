"""A run whose head compares texts with titles, from the training to its exports."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kjcm.run_folder.model_folder import load_model
from tests.conftest import SMALL, command

WORDS = (
    *SMALL, "model.pooling=mean", "augment=titles", "data.classes=all", "data.batch_size=32", "optim.lr=0.003", "svm_check=0",
)  # fmt: skip


@pytest.mark.parametrize("head", ["label_text", "both"])
def test_its_folder_codes_without_the_titles(head: str, here: Path) -> None:
    pytest.importorskip("onnxruntime")
    assert command("train", *WORDS, f"model.head={head}", "data.validation=0.1", "run_dir=run") == 0
    report = json.loads((here / "run" / "report.json").read_text())
    model, _, settings = load_model(here / "run" / "model")
    assert report["n_classes"] == len(settings.classes) == 156 and model.head.vectors.shape[0] >= 156
    assert command("evaluate", "run=run", "out=again", "trainer.precision=32-true") == 0
    again = json.loads((here / "again" / "metrics.json").read_text())
    assert again["metrics"] == pytest.approx(report["metrics"], abs=1e-6)
    test = pd.read_parquet(here / "run" / "predictions.parquet")
    assert set(test["code_1"]) <= set(settings.classes)
    assert command("export", "run=run", "out=exported", "rows=50") == 0
    found = json.loads((here / "exported" / "export.json").read_text())["check"]
    assert found["rows"] == 50 and found["logit_difference"] < 1e-3
    (here / "texts.csv").write_text(
        "id,workplace,position,task\n1,병원,간호사,환자를 돌본다\n2,학교,교사,수학을 가르친다\n"
    )
    assert command("predict", "run=run", "input=texts.csv", "output=coded.csv", "accelerator=cpu") == 0
    assert np.isin(pd.read_csv("coded.csv", dtype=str)["code_1"], settings.classes).all()


def test_a_head_of_titles_needs_titles_and_mean_pooling(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "a.csv").write_text(
        "id,workplace,position,task,code\n" + "".join(f"{n},a,b{n},c,{n % 2}11\n" for n in range(30))
    )
    table = ("data=table", "data.path=a.csv", "data.cutoff=0", "classification=from_data")
    for words, said in (
        ((*SMALL, "model.head=both"), "model.pooling=mean"),
        ((*SMALL[1:], *table, "model.head=both", "model.pooling=mean"), "have no title"),
    ):
        assert command("train", *words) == 2
        assert said in capfd.readouterr().err
