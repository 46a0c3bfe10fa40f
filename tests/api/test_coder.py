"""`kjcm.load`: its codes are those of `kjcm predict`, for models of every kind."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import kjcm
from kjcm.errors import KjcmError
from tests.conftest import command
from tests.training.test_ensemble import DATA, SVM, members

TASKS = ["예금 상담", "택시 운전", "학생 가르침", None, "벼농사", "용접", "123", "택시 운전", "머리 손질", "건물 청소"]


@pytest.fixture
def table() -> pd.DataFrame:
    """Rows with repeated, missing and unusable answers, numbered by an index of their own."""
    places, positions = ["회사", "회사", "", None, "", "회사", "", "회사", None, "병원"], [*[""] * 4, "대표", *[""] * 5]
    frame = pd.DataFrame({"n": range(10), "workplace": places, "position": positions, "task": TASKS})
    return frame.set_index(pd.Index(range(100, 110), name="row"))


def predicted(run: Path, table: pd.DataFrame, *words: str) -> pd.DataFrame:
    """Return what `kjcm predict` writes for a table."""
    table.to_parquet("in.parquet", index=False)
    assert command("predict", f"run={run}", "input=in.parquet", "output=out.parquet", "accelerator=cpu", *words) == 0
    return pd.read_parquet("out.parquet")


def assert_equal(coded: pd.DataFrame, written: pd.DataFrame) -> None:
    assert coded.columns.tolist() == written.columns.tolist() and len(coded) == len(written)
    for name in written:
        own, other = (
            frame[name].astype(object).where(frame[name].notna(), None).tolist() for frame in (coded, written)
        )
        assert own == other, name


@pytest.mark.parametrize("rules", [{}, {"target_error": 0.4, "managers": "words", "back_off": [2, 1]}])
def test_a_table_gets_the_codes_that_predict_writes(
    calibrated: Path, table: pd.DataFrame, here: Path, rules: dict[str, object]
) -> None:
    words = [f"triage.{key}={str(value).replace(' ', '')}" for key, value in rules.items()]
    written = predicted(calibrated, table, *words, "top_k=3", "levels=[1]")
    coder = kjcm.load(calibrated, triage=rules, accelerator="cpu")
    coded = coder.code(table, top_k=3, levels=[1])
    assert_equal(coded, written)
    assert coded.index.equals(table.index) and coded["reason"].tolist().count("") == 8
    note = json.loads(Path("out.parquet.json").read_text(encoding="utf-8"))
    assert coder.promises == note["triage"] and coder.precision == note["precision"]


@pytest.mark.parametrize("model", ["nearest", "ensemble", "covariates"])
def test_models_without_an_encoder_code_tables_too(table: pd.DataFrame, here: Path, model: str) -> None:
    words, keys = ["model=nearest", "augment=titles"], {"explain": True}
    if model == "ensemble":
        words, keys = ["model=ensemble", members(SVM, SVM + " model.C=1"), "model.folds=2"], {}
    if model == "covariates":
        words, keys = ["model=linear", "data.columns.covariates.category=[sex]"], {}
        table["sex"] = ["1", "2"] * 5
    assert command("train", *words, *DATA, "run_dir=run") == 0
    given = [f"{key}={str(value).replace(' ', '').lower()}" for key, value in keys.items()]
    written = predicted(Path("run"), table, *given)
    assert_equal(kjcm.load("run", accelerator="cpu").code(table, **keys), written)  # type: ignore[arg-type]
    if model == "covariates":
        with pytest.raises(KjcmError, match="sex"):
            kjcm.load("run").code(["택시 운전"])


def test_texts_are_read_like_tasks(calibrated: Path) -> None:
    coder = kjcm.load(str(calibrated), accelerator="cpu")
    alone = pd.DataFrame({"workplace": "", "position": "", "task": TASKS})
    listed, coded = coder.code(iter(TASKS)), coder.code(alone)  # type: ignore[arg-type]
    assert listed["text"].tolist()[4:] == TASKS[4:] and listed.index.tolist() == list(range(10))
    assert_equal(listed.drop(columns="text"), coded.drop(columns=alone.columns))
    assert coder.code([]).columns.tolist() == listed.columns.tolist() and len(coder.code([])) == 0


def test_probabilities_are_those_of_the_codes(calibrated: Path, table: pd.DataFrame) -> None:
    coder = kjcm.load(calibrated, accelerator="cpu", triage={"managers": "words"})
    found, coded = coder.probabilities(table), coder.code(table, top_k=2)
    assert found.shape == (10, len(coder.classes)) and coder.probabilities([]).shape == (0, len(coder.classes))
    assert np.isnan(found).all(axis=1).tolist() == (coded["decision"] == "invalid").tolist()
    valid = coded["decision"].to_numpy() != "invalid"
    best = np.argsort(-found[valid], axis=1, kind="stable")[:, :2]
    codes = np.array(coder.classes)[best]
    assert codes.tolist() == coded.loc[valid, ["code_1", "code_2"]].to_numpy().tolist()
    np.testing.assert_array_equal(
        np.take_along_axis(found[valid], best, axis=1).astype(np.float32), coded.loc[valid, ["prob_1", "prob_2"]]
    )
    managers = [place for place, code in enumerate(coder.classes) if code.startswith("1")]
    assert found[valid].sum(axis=1) == pytest.approx(1) and not found[valid][:, managers][0].any()
    assert coder.titles[coder.classes[0]] and coder.titles[coder.classes[0][0]]


def test_a_model_folder_codes_wherever_it_is(calibrated: Path, tmp_path: Path, table: pd.DataFrame) -> None:
    shutil.copytree(calibrated / "model", tmp_path / "copied")
    other = kjcm.load(tmp_path / "copied", accelerator="cpu")
    assert_equal(other.code(table), kjcm.load(calibrated, accelerator="cpu").code(table))


def test_columns_may_have_other_names(calibrated: Path, table: pd.DataFrame) -> None:
    coder = kjcm.load(calibrated, columns={"workplace": None, "position": None, "task": "하는 일"}, accelerator="cpu")
    own = coder.code(table.rename(columns={"task": "하는 일"}))
    assert own["code_1"].tolist()[:3] == kjcm.load(calibrated, accelerator="cpu").code(TASKS)["code_1"].tolist()[:3]


def test_a_series_keeps_its_index_and_numbers_may_name_columns(calibrated: Path, table: pd.DataFrame) -> None:
    coder = kjcm.load(calibrated, accelerator="cpu")
    series = table["task"].iloc[2:6]
    assert coder.code(series).index.equals(series.index)
    numbered = kjcm.load(calibrated, columns={"workplace": None, "position": None, "task": "3"}, accelerator="cpu")
    coded = numbered.code(table.set_axis(range(4), axis=1))
    assert coded.columns[:4].tolist() == [0, 1, 2, 3]
    assert coded["code_1"].fillna("").tolist() == coder.code(table["task"])["code_1"].fillna("").tolist()


def test_rules_may_be_numpys(calibrated: Path) -> None:
    found = kjcm.load(calibrated, accelerator="cpu", triage={"target_error": np.float64(0.4)})
    assert found.promises["target_error"] == 0.4 and found.synthetic


def test_what_cannot_be_coded_is_refused(calibrated: Path, tmp_path: Path, table: pd.DataFrame) -> None:
    coder = kjcm.load(calibrated, accelerator="cpu")
    for wrong, said in (
        (lambda: coder.code("택시 운전"), "list"),
        (lambda: coder.code({"a": "택시 운전"}), "dict"),
        (lambda: coder.code(table, top_k=2.5), "whole"),  # type: ignore[arg-type]
        (lambda: coder.code(table, levels=[1, 1]), "once"),
        (lambda: kjcm.load(calibrated, triage={"threshold": 0.5, "target_error": 0.1}), "threshold"),
        (lambda: coder.code(table, top_k=11), "top_k=11"),
        (lambda: coder.code(table, levels=[5]), "levels"),
        (lambda: coder.code(table, explain=True), "explain"),
        (lambda: coder.code(table.drop(columns="task")), "task"),
        (lambda: coder.code(coder.code(table)), "code_1"),
        (lambda: coder.code(pd.concat([table, table[["n"]]], axis=1)), "this name"),
        (lambda: coder.code(table.assign(task=pd.Timestamp("2026-01-01"))), "task"),
        (lambda: kjcm.load(tmp_path), "DONE"),
        (lambda: kjcm.load(tmp_path / "none"), "no such folder"),
        (lambda: kjcm.load(calibrated, precision="fp8"), "fp8"),
        (lambda: kjcm.load(calibrated, triage={"beta": 1}), "triage.beta"),
        (lambda: kjcm.load(calibrated, triage={"threshold": 2}), "threshold"),
        (lambda: kjcm.load(calibrated, triage={"managers": "column"}), "manages"),
    ):
        with pytest.raises(KjcmError, match=said) as raised:
            wrong()
        assert not any(task in str(raised.value) for task in TASKS if task)


def test_nothing_of_the_texts_is_logged(calibrated: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        coder = kjcm.load(calibrated, accelerator="cpu")
        coder.code(TASKS)
        coder.probabilities(TASKS)
    assert "택시" not in caplog.text
