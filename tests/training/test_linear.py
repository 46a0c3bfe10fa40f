"""`kjcm train model=linear`: an ordinary run, whose model every later command uses."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from jsonschema import validate
from scipy.special import softmax
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.svm import LinearSVC

from kjcm.errors import KjcmError
from kjcm.files import digest
from kjcm.reporting.result import described
from kjcm.run_folder.contents import run_cohort, run_config
from kjcm.run_folder.held_out import TEST, calibration_of
from kjcm.run_folder.model_folder import load_linear, load_settings
from kjcm.survey.texts import TEXT_COLUMNS
from kjcm.triage.logits import load_scored
from tests.conftest import ROOT, command, config_of

TWIN = ("model=linear", "data.scale=0.01", "data.validation=0.2")


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; tests must not write into it."""
    folder = tmp_path_factory.mktemp("linear")
    assert command("train", *TWIN, "logger=[]", f"run_dir={folder}/run", f"cache={folder}/cache") == 0
    assert command("prepare", *TWIN[1:], f"out={folder}/cohort") == 0
    return folder / "run"


@pytest.fixture(scope="module")
def rows(run: Path) -> pd.DataFrame:
    return pd.read_parquet(run.parent / "cohort" / "cohort.parquet")


def test_the_run_folder_is_an_ordinary_one(run: Path, rows: pd.DataFrame) -> None:
    report = load(run / "report.json")
    validate(report, load(ROOT / "docs" / "schemas" / "report.schema.json"))
    assert (report["kind"], report["epochs"], report["views"]) == ("linear", None, {"text": "char", "position": "char"})
    assert 0.4 < report["metrics"]["accuracy"] < 1 and report["validation"]["accuracy"] > 0.4
    assert (
        "linear classifier of char n-grams of text, char n-grams of position"
        in (run / "model" / "README.md").read_text()
    )
    predictions, test = pd.read_parquet(run / "predictions.parquet"), rows[rows["side"] == "test"]
    assert predictions["id"].tolist() == test["id"].tolist()
    model, settings = load_linear(run / "model")
    logits = model.logits(test)
    probability = softmax(logits.astype(float), axis=1)
    assert predictions["code_1"].tolist() == np.array(settings.classes)[logits.argmax(axis=1)].tolist()
    assert predictions["prob_1"].to_numpy() == pytest.approx(probability.max(axis=1), rel=1e-6)
    assert report["metrics"]["accuracy"] == pytest.approx((predictions["code_1"] == test["code"].to_numpy()).mean())
    kept = load_scored(run / TEST, len(settings.classes), settings.classes_hash)
    assert (kept.logits == logits).all()
    calibration = calibration_of(run / "model")
    assert calibration is not None and 0.2 < calibration["temperature"] < 5  # near 1: the folds have set the scale


@pytest.mark.skipif(find_spec("kiwipiepy") is None, reason="kiwipiepy is not installed")
def test_best_offline_reads_morphemes_and_codes_with_them(here: Path) -> None:
    words = ("experiment=best_offline", "data.scale=0.01", "model.calibration_folds=0", "logger=[]")
    assert command("train", *words, "run_dir=run") == 0
    report = load(Path("run/report.json"))
    validate(report, load(ROOT / "docs" / "schemas" / "report.schema.json"))
    assert list(report["views"].values()) == ["char", "char", "morpheme", "morpheme"]
    assert report["versions"]["kiwipiepy"] and report["n_augmented"] >= report["n_classes"] == 156
    assert command("evaluate", "run=run", "out=evaluated") == 0
    assert load(Path("evaluated/metrics.json"))["metrics"] == report["metrics"]


def test_its_scores_are_scikit_learns(here: Path, rows: pd.DataFrame) -> None:
    flat = ("model.above=[]", "model.balance=0", "model.calibration_folds=0", "model.saturation=0", "~model.views.position",
            "run_dir=run")  # fmt: skip
    assert command("train", *TWIN, *flat, "logger=[]") == 0
    side = {name: rows[rows["side"] == name] for name in ("train", "test")}
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True)
    svm = LinearSVC(dual=True, random_state=0)
    svm.fit(vectorizer.fit_transform(side["train"]["text"]), side["train"]["code"])
    expected = svm.decision_function(vectorizer.transform(side["test"]["text"]))
    assert load_linear(Path("run/model"))[0].logits(side["test"]) == pytest.approx(expected, abs=1e-4)


def test_the_groups_above_add_their_scores(run: Path, rows: pd.DataFrame, here: Path) -> None:
    test = rows[rows["side"] == "test"]
    found = {}
    for name, above in (("none", "[]"), ("two", "[0.5,0.25]"), ("zero", "[0,0]")):
        words = (f"model.above={above}", "model.calibration_folds=0", "model.saturation=0", f"run_dir={name}")
        assert command("train", *TWIN, *words, "logger=[]", f"cache={run.parent}/cache") == 0
        found[name] = load_linear(Path(name) / "model")[0].logits(test)
    assert (found["zero"] == found["none"]).all()
    extra = found["two"] - found["none"]
    classes = load_settings(run / "model").classes
    majors = np.array([int(code[:1], 16) for code in classes])
    minors = np.array([int(code[:2], 16) for code in classes])
    for group in set(minors.tolist()):  # the codes of one group get the same addition
        assert np.ptp(extra[:, minors == group], axis=1).max() < 1e-4
    assert np.ptp(extra[:, majors == majors[0]], axis=1).max() > 1e-2


def test_all_groups_are_classes_and_those_without_rows_are_measured_apart(rows: pd.DataFrame, here: Path) -> None:
    hidden = ["611", "892"]
    table = rows[["id", *TEXT_COLUMNS, "code"]]
    is_hidden = table["code"].isin(hidden)
    table[~is_hidden].to_csv("train.csv", index=False)
    titles = pd.DataFrame({"id": ["t1", "t2"], "task": ["작물 재배 종사자", "인쇄"], "code": hidden})
    pd.concat([table[is_hidden], titles]).to_csv("test.csv", index=False)
    words = (
        "model=linear",
        "data=table",
        "data.path=train.csv",
        "data.test_path=test.csv",
        "data.cutoff=0",
        "logger=[]",
    )
    assert command("train", *words, "data.classes=all", "run_dir=bare") == 2  # no titles
    assert command("train", *words, "data.classes=all", "augment=titles", "run_dir=run") == 0
    report, settings = load(Path("run/report.json")), load_settings(Path("run/model"))
    validate(report, load(ROOT / "docs" / "schemas" / "report.schema.json"))
    assert report["n_classes"] == len(settings.classes) == 156 and report["codes_without_training"] == hidden
    assert report["n_test_without_training"] == report["n_test"] == is_hidden.sum() + 2
    apart = report["metrics_without_training"]
    assert apart["accuracy"] == pytest.approx(report["metrics"]["accuracy"])
    assert (
        apart["top_5_accuracy"] == pytest.approx(report["metrics"]["top_5_accuracy"]) and apart["top_5_accuracy"] > 0.2
    )
    assert dict(zip(settings.classes, settings.n_train, strict=True))["611"] == 0
    assert command("train", *words, "run_dir=seen") == 0
    seen = load(Path("seen/report.json"))
    assert seen["metrics"]["accuracy"] == 0 and "metrics_without_training" not in seen
    assert seen["codes_without_training"] == hidden


def test_predict_evaluate_and_triage_use_it(run: Path, rows: pd.DataFrame, here: Path) -> None:
    test = rows[rows["side"] == "test"].reset_index(drop=True)
    test[["id", *TEXT_COLUMNS]].to_csv("in.csv", index=False)
    assert (
        command("predict", f"run={run}", "input=in.csv", "output=out.csv", "triage.calibrated=false", "levels=[1]") == 0
    )
    coded = pd.read_csv("out.csv", dtype={"code_1": str})
    predictions = pd.read_parquet(run / "predictions.parquet")
    assert coded["code_1"].tolist() == predictions["code_1"].tolist()
    assert coded["prob_1"].to_numpy() == pytest.approx(predictions["prob_1"].to_numpy(), abs=1e-6)
    assert (coded["level_1_prob"] >= coded["prob_1"] - 1e-6).all()
    assert command("evaluate", f"run={run}", "out=evaluated") == 0
    assert load(Path("evaluated/metrics.json"))["metrics"] == load(run / "report.json")["metrics"]
    assert command("triage", f"run={run}", "out=triage.csv") == 0 and len(pd.read_csv("triage.csv")) > 3


def test_words_that_replace_morphemes_are_what_card_and_report_name(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kjcm.linear.views.find_spec", lambda name: None)
    one = ("model.views.text={of:morpheme,ngrams:[1,1]}", "~model.views.position", "model.above=[]")
    assert command("train", *TWIN[:2], *one, "data.classes=all", "augment=titles", "logger=[]", "run_dir=run") == 0
    report, card = load(Path("run/report.json")), Path("run/model/README.md").read_text()
    assert report["views"] == {"text": "word"} and "linear classifier of word n-grams of text;" in card
    left = load(Path("run/cohort.json"))["left_groups"]
    assert left and "cannot be" not in card  # data.classes=all: they are classes
    assert "cross-validation" in card
    run = SimpleNamespace(report=report, config=run_config(Path("run")), cohort=run_cohort(Path("run")))
    assert described(cast(Any, run)).startswith("linear, word n-grams of text, 570 rows")


@pytest.mark.parametrize("setting", ["precision=int8", "precision=bf16", "compile=true", "accelerator=gpu"])
def test_settings_of_encoders_are_refused(
    run: Path, here: Path, setting: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)  # else accelerator=gpu is refused for that
    Path("in.csv").write_text("workplace,position,task\n은행,직원,일\n")
    assert command("predict", f"run={run}", "input=in.csv", "output=out.csv", setting) == 2
    assert setting in capsys.readouterr().err and not Path("out.csv").exists()
    assert command("export", f"run={run}") == 1 and "ONNX" in capsys.readouterr().err


def test_two_runs_are_equal_and_only_its_own_keys_count(run: Path, here: Path) -> None:
    assert command("train", *TWIN, "logger=[]", "run_dir=again") == 0
    for name in ("linear.json", "linear.safetensors", "kjcm.json"):
        assert digest(run / "model" / name) == digest(Path("again/model") / name)
    assert command("train", *TWIN, "optim.lr=1") == 2
    plain, other, own = (
        __import__("kjcm.training.run", fromlist=["folder_of"])
        .folder_of(config_of("train", *TWIN, *more))
        .identity.hash
        for more in ((), ("trainer.max_epochs=3", "optim=sgd"), ("model.C=2",))
    )
    assert plain == other == load(run / "identity.json")["hash"] != own


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("~model.views.text ~model.views.position", "model.views"), ("model.views.text.ngrams=[4,1]", "model.views.text.ngrams"),
        ("model.views.text.of=bytes", "model.views.text.of"), ("+model.views.x.of=char", "model.views.x"),
        ("+model.views.x={of:char,field:task}", "model.views.x.ngrams"), ("model.C=0", "model.C"),
        ("model.balance=2", "model.balance"), ("model.lr=1", "model.lr"),
    ],
)  # fmt: skip
def test_wrong_values_are_named(line: str, words: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("train", "model=linear", *line.split()) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "damage", ["terms", "weights", "nan", "view", "key", "ngrams", "saturation", "temperature", "cut"]
)
def test_a_damaged_model_is_refused(run: Path, tmp_path: Path, damage: str) -> None:
    from safetensors.numpy import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(run / "model", folder)
    record, arrays = load(folder / "linear.json"), load_file(folder / "linear.safetensors")
    if damage == "terms":
        record["views"]["text"]["terms"].pop()
    elif damage == "weights":
        arrays["weights"] = arrays["weights"][:, 1:].copy()
    elif damage == "nan":
        arrays["bias"][0] = np.nan
    elif damage == "view":
        record["views"]["text"]["of"] = "pickle"
    elif damage == "key":
        record["views"]["text"]["stop_words"] = "korean"
    elif damage == "ngrams":
        record["views"]["text"]["ngrams"] = [1]
    elif damage in ("saturation", "temperature"):
        record[damage] = {"saturation": -1.0, "temperature": 0.0}[damage]
    (folder / "linear.json").write_text(json.dumps(record))
    save_file(arrays, folder / "linear.safetensors")
    if damage == "cut":
        (folder / "linear.safetensors").write_bytes(b"\0" * 20)
    settings = load(folder / "kjcm.json")
    settings["files"] = {name: digest(folder / name) for name in settings["files"]}
    (folder / "kjcm.json").write_text(json.dumps(settings))
    with pytest.raises(KjcmError, match=r"linear\.(json|safetensors)"):
        load_linear(folder)


def test_a_run_folder_with_its_input_is_not_emptied(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "run").mkdir()
    for name in ("identity.json", "a.csv"):
        (here / "run" / name).write_text("{}")
    words = ("data=table", "data.path=run/a.csv", "model=linear", "run_dir=run")
    assert command("train", *words, "overwrite=true") == 2
    assert "run_dir=run: contains the input" in capfd.readouterr().err
    assert sorted(path.name for path in (here / "run").iterdir()) == ["a.csv", "identity.json"]
