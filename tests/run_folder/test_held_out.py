"""What a training leaves for triage: rows of their own for the temperature and for the thresholds."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kjcm.errors import KjcmError
from kjcm.records import read_json
from kjcm.run_folder.held_out import calibration_of, held_rows
from kjcm.run_folder.model_folder import load_settings
from kjcm.survey.split import first_half
from kjcm.survey.wording import worded
from kjcm.triage.calibration import brier, calibration_error, probabilities, reliability_of
from tests.conftest import SMALL, command


def test_halves_are_drawn_by_seed_and_keep_clusters_together() -> None:
    rows = pd.DataFrame({"id": [str(n) for n in range(101)], "cluster": [str(n // 7) for n in range(101)]})
    first = first_half(rows[["id"]], 0)
    assert first.sum() == 51
    shuffled = rows.sample(frac=1, random_state=0)
    assert dict(zip(shuffled["id"], first_half(shuffled[["id"]], 0), strict=True)) == dict(
        zip(rows["id"], first, strict=True)
    )
    assert (first_half(rows[["id"]], 1) != first).any()
    clustered = first_half(rows, 0)
    assert (
        abs(clustered.sum() - 51) <= 7 and (rows.assign(half=clustered).groupby("cluster")["half"].nunique() == 1).all()
    )
    assert first_half(rows[:1], 0).tolist() == [True] and first_half(rows[:0], 0).tolist() == []


def test_the_persons_words_are_what_follows_the_workplace() -> None:
    for wording, person in (("korean", "부장(으로) 총괄"), ("plain", "부장 총괄")):
        for workplace in ("건물 관리 회사", "Manager's office", ""):
            text, at = worded(workplace, "부장", "총괄", wording)
            assert text[at:] == person
    assert [text[at:] for text, at in (worded("대표 식당", "", "", "korean"), worded("", "", "", "plain"))] == ["", ""]


def test_calibration_is_measured_on_rows_that_did_not_make_it(calibrated: Path) -> None:
    settings, record = load_settings(calibrated / "model"), read_json(calibrated / "model" / "calibration.json")
    held = held_rows(calibrated / "model", settings)
    assert held is not None
    report = read_json(calibrated / "report.json")
    assert record["n"] + record["n_held"] == report["n_validation"] and abs(record["n"] - record["n_held"]) <= 1
    assert len(held.labels) == record["n_held"] and not record["chosen_by_validation"]
    after = probabilities(held.logits, record["temperature"])
    assert record["brier_after"] == pytest.approx(brier(after, held.labels))
    assert record["brier_before"] == pytest.approx(brier(probabilities(held.logits), held.labels))
    right = after.argmax(axis=1) == held.labels
    assert record["ece_after"] == pytest.approx(calibration_error(reliability_of(after.max(axis=1), right)))
    assert 0 < held.words.mean() < 0.5 and not held.answers.any()


def test_settings_know_what_stands_above_a_code(calibrated: Path) -> None:
    settings = load_settings(calibrated / "model")
    for code, above, count in zip(settings.classes, settings.ancestors, settings.n_train, strict=True):
        assert list(above) == [code[:1], code[:2]] and count > 0
        assert all(settings.titles[one] for one in (code, *above))
    assert sum(settings.n_train) == read_json(calibrated / "report.json")["n_train"]


def test_who_trains_without_validation_rows_keeps_none(finished: Path) -> None:
    assert (
        calibration_of(finished / "model") is None
        and held_rows(finished / "model", load_settings(finished / "model")) is None
    )
    assert not (finished / "test_logits.safetensors").exists()


@pytest.mark.parametrize("content", ["", "[]", '{"temperature": -1}', '{"temperature": "x"}', '{"temperature": NaN}'])
def test_a_damaged_calibration_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "calibration.json").write_text(content)
    with pytest.raises(KjcmError, match="damaged"):
        calibration_of(tmp_path)


def test_answers_on_managing_are_kept_and_early_stopping_is_told(here: Path) -> None:
    random = np.random.default_rng(0)
    rows = pd.DataFrame({"code": random.choice(["111", "121", "320", "630"], 200), "workplace": "", "position": ""})
    rows["boss"] = np.where(rows["code"].str[0] == "1", "예", "아니오")
    rows["task"] = [f"{'가나다라'[int(code[0]) % 4]} 일 {n}" for n, code in enumerate(rows["code"])]
    rows.to_csv("in.csv", index=False)
    words = (
        "data=table", "data.path=in.csv", "data.columns.id=null", "data.columns.manages=boss", "data.validation=0.4", *SMALL[1:],
        "callbacks=early_stopping", "callbacks.early_stopping.patience=1", "run_dir=run",
    )  # fmt: skip
    assert command("train", *words) == 0
    model = here / "run" / "model"
    settings = load_settings(model)
    held = held_rows(model, settings)
    assert held is not None and calibration_of(model)["chosen_by_validation"] is True  # type: ignore[index]
    assert (held.answers == np.array([code[0] == "1" for code in settings.classes])[held.labels]).all()
    rows.assign(boss="글쎄").to_csv("in.csv", index=False)
    assert command("train", *words, "overwrite=true") == 1
