"""A run that learns the codes one level below its classes too: its model, and what it needs."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.conftest import SMALL, command

WORDS = (*SMALL, "model.pooling=mean", "svm_check=0")


def test_its_model_has_the_files_of_any_other(here: Path) -> None:
    runs = {}
    for name, weight in (("plain", 0), ("finer", 0.3)):
        assert command("train", *WORDS, f"model.finer_weight={weight}", f"run_dir={name}") == 0
        report = json.loads((here / name / "report.json").read_text())
        runs[name] = report, load_file(here / name / "model" / "model.safetensors")
    (plain, wanted), (finer, found) = runs["plain"], runs["finer"]
    assert {key: value.shape for key, value in found.items()} == {key: value.shape for key, value in wanted.items()}
    assert not np.allclose(found["head.weight"], wanted["head.weight"], atol=1e-6)
    for key in ("parameters", "n_classes", "n_test", "level"):
        assert finer[key] == plain[key]
    assert {name: finer["hashes"][name] == plain["hashes"][name] for name in plain["hashes"]} == {
        "run": False, "cohort": True, "split": True, "classes": True,
    }  # fmt: skip
    assert command("evaluate", "run=finer", "out=again", "trainer.precision=32-true") == 0
    again = json.loads((here / "again" / "metrics.json").read_text())["metrics"]
    assert again == pytest.approx(finer["metrics"], abs=1e-6)


def test_it_needs_codes_below_and_mean_vectors(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"{n},a,b{n},c,{(111, 320)[n % 2]}\n" for n in range(40))
    (here / "a.csv").write_text("id,workplace,position,task,code\n" + rows)
    table = ("data=table", "data.path=a.csv", "data.cutoff=0", *SMALL[1:])
    for words, said in (
        ((*SMALL, "model.finer_weight=0.3"), "model.pooling=mean"),
        ((*table, "model.pooling=mean", "model.finer_weight=0.3"), "no training row has a code"),
    ):
        assert command("train", *words) == 2
        error = capfd.readouterr().err
        assert said in error and "model.finer_weight=0.3" in error
