"""The model card says what the run's records say, and no answer."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import yaml
from sklearn.metrics import precision_recall_fscore_support

from kjcm.ksco.classification import Classification
from kjcm.records import read_json
from kjcm.run_folder.contents import run_cohort, run_report
from kjcm.run_folder.model_card import origin_of, write_card
from tests.conftest import SMALL, command, config_of


def card_of(run: Path) -> str:
    return (run / "model" / "README.md").read_text(encoding="utf-8")


def test_its_figures_are_the_runs(calibrated: Path, ksco: Classification) -> None:
    card, report = card_of(calibrated), read_json(calibrated / "report.json")
    metrics, calibration = report["metrics"], read_json(calibrated / "model" / "calibration.json")
    for name in ("accuracy", "precision_weighted", "recall_weighted", "f1_weighted", "f1_macro", "top_5_accuracy"):
        assert f"| {metrics[name]:.4f} |" in card
    assert "| accuracy | precision | recall | F1 | macro F1 | Top-5 |\n|---|---|---|---|---|---|\n" in card
    test = pd.read_parquet(calibrated / "predictions.parquet")
    true, given = test["code"].str[0], test["code_1"].str[0]
    majors = sorted(set(true) | set(given))
    with np.errstate(all="ignore"):
        found = precision_recall_fscore_support(true, given, labels=majors, zero_division=0)
    for code, precision, recall, f1, n in zip(majors, *found, strict=True):
        assert f"| {code} {ksco.title(code)} | {n:,} | {precision:.2f} | {recall:.2f} | {f1:.2f} |" in card
    assert f"Temperature {calibration['temperature']:.3f}, fitted on {calibration['n']:,} validation rows." in card
    assert f"{calibration['ece_after']:.3f} ({calibration['ece_before']:.3f} before)" in card
    assert report["hashes"]["run"][:12] in card and "SYNTHETIC" in card
    head = yaml.safe_load(card.split("---")[1])
    assert head["language"] == "ko" and head["tags"] == ["occupation-coding", "synthetic"] and "base_model" not in head


def test_a_run_without_test_or_calibration_says_so(here: Path) -> None:
    assert command("train", *SMALL, "trainer.max_epochs=1", "evaluate=false", "run_dir=run", "cutoff=100") == 0
    card = card_of(here / "run")
    assert "It was not tested" in card and "data.validation=0.3" in card and "groups cannot be" in card
    assert "seldom predicted.\n" in card  # how many never are, no test has told


def test_weights_of_a_folder_keep_its_path_to_themselves(finished: Path, here: Path) -> None:
    path = finished / "model"
    words = ("model.shape=null", f"model.pretrained={path}", "tokenizer=huggingface", f"tokenizer.path={path}")
    assert command("train", "data.scale=0.02", "trainer.max_epochs=1", "run_dir=run", *words) == 0
    text = card_of(here / "run")
    assert (
        str(path) not in text and "weights of a folder" in text and "the weights that the training began with" in text
    )
    assert origin_of("monologg/distilkobert") == ("monologg/distilkobert", "monologg/distilkobert")
    assert origin_of(None) == (None, "random start")


def test_titles_and_names_become_no_markup(calibrated: Path, tmp_path: Path, ksco: Classification) -> None:
    run = tmp_path / "run"
    shutil.copytree(calibrated, run)
    report, config = dict(run_report(run)), replace(config_of("train", *SMALL), name="*k*_`m`")
    hostile = Classification("<img src=x>", {"1": "a|b [c](d)\n# e"}, levels=ksco.levels, parents=ksco.parents)
    cohort = SimpleNamespace(flow=run_cohort(run)["flow"], synthetic=True, left_groups={})
    rows = cast(Any, SimpleNamespace(classification=hostile, cohort=cohort))
    write_card(run, config, config.model, rows, report, "1")
    card = card_of(run)
    assert "\n# \\*k\\*\\_\\`m\\`: free text" in card and "\\<img src=x\\>" in card
    assert r"| 1 a\|b \[c\](d)<br># e |" in card
    assert "<img" not in card.replace("\\<img", "") and "SYNTHETIC twin: " in card
