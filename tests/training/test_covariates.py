"""Models of every kind learn what only a covariate tells, and later commands read the covariates of their input."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from jsonschema import validate

from kjcm.coding.linear import LinearCoder
from kjcm.errors import KjcmError
from kjcm.run_folder.model_folder import load_linear, load_model, load_settings
from tests.conftest import FEW_STEPS, ROOT, command

COVARIATES = ("data.columns.covariates.category=[성별]", "data.columns.covariates.number=[age]")
DATA = ("data=table", "data.path={folder}/answers.csv", "logger=[]")
TINY = (*FEW_STEPS[1:], "model.max_length=32", "trainer.max_epochs=8", "data.batch_size=16", "optim.lr=0.003")
ENCODER = ("model=tiny", *TINY, "svm_check=0")
MEMBERS = json.dumps(["model=linear model.calibration_folds=0", " ".join(("model=tiny", *TINY))])
KINDS = {
    "linear": ("model=linear", "model.calibration_folds=0", "augment.positions=0.1", "augment=titles"),
    "nearest": ("model=nearest", "augment=titles"),
    "encoder": ENCODER,
    "both": (*ENCODER, "model.pooling=mean", "model.head=both", "engine=captured", "augment=titles"),
    "ensemble": ("model=ensemble", f"model.members={MEMBERS}", "model.folds=2"),
}


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def written(folder: Path, name: str, rows: int = 240, **changed: Any) -> Path:
    """Write rows in which the text tells one of three pairs of codes, and sex or age tells which of the pair."""
    random = np.random.default_rng(len(name))
    kind, sex, age = random.integers(0, 3, rows), random.integers(1, 3, rows), random.integers(20, 60, rows)
    texts, pairs = (
        np.array(["국회 의원", "배를 타는 일", "가게에서 파는 일"]),
        [("111", "112"), ("630", "620"), ("510", "521")],
    )
    second = np.where(kind == 2, age >= 40, sex == 2).astype(int)
    frame = pd.DataFrame({
        "id": [f"{name}{number}" for number in range(rows)], "workplace": "", "position": "직원", "task": texts[kind],
        "code": [pairs[one][other] for one, other in zip(kind, second, strict=True)], "성별": sex.astype(str),
        "age": age.astype(str),
    })  # fmt: skip
    frame.loc[0, ["성별", "age"]] = ""
    for column, value in changed.items():
        frame.loc[1:2, column] = value
    frame.to_csv(folder / f"{name}.csv", index=False)
    return folder / f"{name}.csv"


@pytest.fixture(scope="module", params=KINDS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of each kind of model; tests must not write into it."""
    folder = tmp_path_factory.mktemp(request.param)
    written(folder, "answers")
    words = [word.format(folder=folder) for word in (*DATA, *COVARIATES, *KINDS[request.param])]
    assert command("train", *words, f"run_dir={folder}/run", f"cache={folder}/cache") == 0
    return folder / "run"


def test_a_model_learns_what_only_covariates_tell(run: Path) -> None:
    report, cohort = load(run / "report.json"), load(run / "cohort.json")
    for name, record in (("report", report), ("cohort", cohort)):
        validate(record, load(ROOT / "docs" / "schemas" / f"{name}.schema.json"))
    assert cohort["flow"]["missing"] == {"covariates.성별": 1, "covariates.age": 1}
    assert cohort["same_text"]["ceiling"] < 0.6 and report["metrics"]["accuracy"] > 0.85
    assert "성별, age" in (run / "model" / "README.md").read_text(encoding="utf-8")
    settings = load_settings(run / "model")
    assert settings.covariates.levels == {"성별": ("1", "2")} and settings.covariates.width == 6
    assert set(settings.columns) == {"id", "workplace", "position", "task", "code", "cluster", "weight", "manages"}


def test_predict_and_evaluate_code_alike(run: Path, here: Path) -> None:
    file = written(here, "new", 100)
    views = load_settings(run / "model").kind in ("linear", "nearest")
    precision = f"precision={'auto' if views else '32-true'}"
    assert command("predict", f"run={run}", f"input={file}", "output=coded.csv", precision) == 0
    assert command("evaluate", f"run={run}", "data=table", f"data.test_path={file}", "out=out") == 0
    coded = pd.read_csv("coded.csv", dtype={"code_1": str, "code": str})
    found = pd.read_parquet("out/predictions.parquet")
    assert coded["code_1"].tolist() == found["code_1"].tolist()
    assert coded["prob_1"].to_numpy() == pytest.approx(found["prob_1"].to_numpy(), abs=1e-4)
    assert load(Path("out/metrics.json"))["metrics"]["accuracy"] > 0.85
    assert command("evaluate", f"run={run}", "out=own") == 0
    own, recorded = load(Path("own/metrics.json"))["metrics"], load(run / "report.json")["metrics"]
    assert own["accuracy"] == pytest.approx(recorded["accuracy"])


@pytest.mark.parametrize("run", ["linear", "encoder", "ensemble"], indirect=True)
def test_wrong_covariates_of_an_input_are_named(run: Path, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    new = written(here, "unseen", 20, 성별="여")
    words = (f"run={run}", f"input={new}", "output=coded.csv")
    assert command("predict", *words) == 1
    error = capfd.readouterr().err
    assert all(part in error for part in ("unseen.csv", "'성별'", "'여'", "unseen_levels=missing"))
    assert "Traceback" not in error
    assert command("predict", *words, "unseen_levels=missing") == 0
    evaluated = (f"run={run}", "data=table", f"data.test_path={new}", "data.cutoff=0", "out=out")
    assert command("evaluate", *evaluated) == 1 and "'여'" in capfd.readouterr().err
    assert command("evaluate", *evaluated, "unseen_levels=missing") == 0
    pd.read_csv(new).drop(columns="성별").to_csv("without.csv", index=False)
    assert command("predict", f"run={run}", "input=without.csv", "output=more.csv") == 1
    assert "'성별'" in capfd.readouterr().err
    numbers = written(here, "numbers", 20, age="old")
    assert command("predict", f"run={run}", f"input={numbers}", "output=numbers_coded.csv") == 0
    coded = pd.read_csv("numbers_coded.csv", dtype=str, keep_default_na=False)
    assert coded["reason"].tolist()[:4] == ["", *["covariates.age is no finite number"] * 2, ""]
    assert command("export", f"run={run}") == 1
    assert command("evaluate", f"run={run}", *COVARIATES, "data=table", f"data.test_path={new}") == 2


@pytest.mark.parametrize("run", ["linear"], indirect=True)
def test_no_row_is_coded_before_an_unseen_level_in_the_last_chunk(
    run: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = written(here, "late", 40)
    frame = pd.read_csv(new, dtype=str)
    frame.loc[39, "성별"] = "여"
    frame.to_csv(new, index=False)
    coded = []
    monkeypatch.setattr(LinearCoder, "probabilities", lambda *_: coded.append(1))
    assert command("predict", f"run={run}", f"input={new}", "output=coded.csv", "chunk_rows=10") == 1
    assert not coded and not list(here.glob("*coded*"))


def test_a_model_of_other_covariates_is_damaged(run: Path, tmp_path: Path) -> None:
    settings = load_settings(run / "model")
    if settings.kind == "ensemble":
        return
    for name in ("kjcm.json", *settings.files):
        (tmp_path / name).write_bytes((run / "model" / name).read_bytes())
    record = load(tmp_path / "kjcm.json")
    read = load_model if settings.kind == "encoder" else load_linear
    for levels in ({}, {"성별": ["2", "1"]}, *([{"성별": ["1", "2", "3"]}] if settings.kind != "nearest" else [])):
        record["covariates"]["levels"] = levels
        (tmp_path / "kjcm.json").write_text(json.dumps(record), encoding="utf-8")
        with pytest.raises(KjcmError, match="damaged"):
            read(tmp_path)


def test_levels_of_test_rows_alone_count_as_missing(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    written(here, "answers")
    test = written(here, "test", 40, 성별="여")
    words = [word.format(folder=here) for word in (*DATA, *COVARIATES, *KINDS["nearest"])]
    assert command("train", *words, f"data.test_path={test}", "run_dir=run") == 0
    warned = [line for line in capfd.readouterr().out.splitlines() if "missing" in line]
    assert len(warned) == 1 and all(part in warned[0] for part in ("test", "성별"))
    assert "여" not in warned[0]  # an answer


def test_a_run_without_covariates_says_nothing_of_them(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    written(here, "answers")
    assert command("train", *(word.format(folder=here) for word in DATA), *KINDS["nearest"], "run_dir=run") == 0
    assert (
        "covariates" not in load(here / "run/model/kjcm.json")
        and "missing" not in load(here / "run/cohort.json")["flow"]
    )
    assert "covariates" not in load(here / "run/model/nearest.json")
    assert load(here / "run/report.json")["metrics"]["accuracy"] < 0.7
    words = [word.format(folder=here) for word in DATA]
    assert command("train", *words, "model=linear", "model.covariates=2") == 2
    capfd.readouterr()
    assert command("train", *words, *COVARIATES, "model=ensemble", "model.members=[./run]", "model.folds=2") == 2
    assert "data.columns.covariates" in capfd.readouterr().err
