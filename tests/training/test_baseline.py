"""Baselines against scikit-learn on the rows of `kjcm prepare`, and the folder that they leave."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from jsonschema import validate
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import accuracy_score, f1_score, top_k_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from tests.conftest import ROOT, SMALL, command
from tests.reviews import begin_review

TWIN = ("data.scale=0.02", "augment=titles", "data.validation=0.1")


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cohort and both baselines on it; tests must not write into them."""
    folder = tmp_path_factory.mktemp("baselines")
    assert command("prepare", *TWIN, f"out={folder / 'cohort'}") == 0
    for kind in ("svm", "majority"):
        assert command("baseline", f"kind={kind}", *TWIN, f"run_dir={folder / kind}") == 0
    return folder


@pytest.fixture(scope="module")
def side(made: Path) -> Callable[[str], pd.DataFrame]:
    rows = pd.read_parquet(made / "cohort" / "cohort.parquet")
    return lambda name: rows[rows["side"] == name]


Side = Callable[[str], pd.DataFrame]


def test_the_svm_is_scikit_learns_on_the_rows_of_prepare(made: Path, side: Side) -> None:
    titles = pd.read_csv(made / "cohort" / "augmented.csv", dtype=str)
    training, test = pd.concat([side("train"), titles]), side("test")
    pipeline = make_pipeline(
        TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True), LinearSVC(dual=True, random_state=0)
    ).fit(training["text"], training["code"])
    report, predictions = load(made / "svm" / "report.json"), pd.read_parquet(made / "svm" / "predictions.parquet")
    first = pipeline.predict(test["text"])
    assert predictions["id"].tolist() == test["id"].tolist()
    assert predictions["code_1"].tolist() == first.tolist()
    values = pipeline.decision_function(test["text"])
    expected = {
        "accuracy": accuracy_score(test["code"], first),
        "f1_weighted": f1_score(test["code"], first, average="weighted", zero_division=0),
        "f1_macro": f1_score(test["code"], first, average="macro", zero_division=0),
        **{
            f"top_{k}_accuracy": top_k_accuracy_score(test["code"], values, k=k, labels=pipeline.classes_)
            for k in range(2, 6)
        },
    }
    for name, value in expected.items():
        assert report["metrics"][name] == pytest.approx(value, abs=1e-6), name
    assert report["metrics"]["accuracy"] > 0.5
    held = side("validation")
    assert report["n_validation"] == len(held) > 0 and "loss" not in report["validation"]
    assert report["validation"]["accuracy"] == pytest.approx(pipeline.score(held["text"], held["code"]), abs=1e-6)
    assert report["n_augmented"] == len(titles) > 0
    learnt = set(training["text"])
    assert predictions["seen"].tolist() == [text in learnt for text in test["text"]]
    prob = predictions.filter(like="prob_").to_numpy()
    assert (np.diff(prob, axis=1) <= 0).all() and prob.min() > 0 and (prob.sum(axis=1) <= 1 + 1e-6).all()


def test_the_majority_is_the_largest_groups_in_turn(made: Path, side: Side) -> None:
    sizes = side("train")["code"].value_counts()
    turn = sorted(sizes.index, key=lambda code: (-sizes[code], code))
    report = load(made / "majority" / "report.json")
    predictions = pd.read_parquet(made / "majority" / "predictions.parquet")
    assert (predictions[[f"code_{k}" for k in range(1, 11)]] == turn[:10]).all(axis=None)
    share = side("test")["code"].value_counts(normalize=True)
    for k, name in enumerate(("accuracy", *(f"top_{k}_accuracy" for k in range(2, 6))), 1):
        assert report["metrics"][name] == pytest.approx(share.reindex(turn[:k]).sum(), abs=1e-6), name
    prob = predictions[[f"prob_{k}" for k in range(1, 11)]].to_numpy()
    assert np.allclose(prob, (sizes[turn[:10]] / sizes.sum()).to_numpy(), atol=1e-6)
    assert report["groups_never_predicted"] == report["n_classes"] - 1


@pytest.mark.parametrize("kind", ["svm", "majority"])
def test_the_folder_is_a_run_folder_and_only_the_svm_is_a_model(made: Path, kind: str) -> None:
    run = made / kind
    report, cohort = load(run / "report.json"), load(run / "cohort.json")
    for record, name in ((report, "report"), (cohort, "cohort")):
        validate(record, load(ROOT / "docs" / "schemas" / f"{name}.schema.json"))
    assert (report["kind"], report["experiment"], report["synthetic"]) == (kind, kind, True)
    kept = kind == "svm"
    assert [report[name] for name in ("unknown_share", "engine", "epochs")] == [None] * 3
    assert report["precision"] == ("32-true" if kept else None) and (report["parameters"] is not None) == kept
    assert cohort["hashes"] == load(made / "cohort" / "cohort.json")["hashes"]
    assert {path.name for path in run.iterdir()} == {
        ".lease", "DONE", "cohort.json", "config.yaml", "hydra", "identity.json", "predictions.parquet", "report.json",
        "train.log", *(("model", "test_logits.safetensors") if kept else ()),
    }  # fmt: skip
    table = pq.read_table(run / "predictions.parquet")
    assert table.schema.metadata[b"kjcm"] == b"synthetic"
    words = [name for name, kind in zip(table.column_names, table.schema.types, strict=True) if "string" in str(kind)]
    assert words == ["id", "code", *(f"code_{k}" for k in range(1, 11))]  # nothing that could be an answer


def table(folder: Path) -> list[str]:
    """Write a table of two classes, and a test file with a third; return the words that name them."""
    tasks = {"a": "빵 굽는 일", "b": "차 고치는 일"}
    rows = [{"id": n, "task": f"{tasks[code]} {n}", "code": code} for n, code in enumerate("a" * 12 + "b" * 20)]
    test = [
        ("t1", "빵 굽는 일", "a"),
        ("t2", "차 고치는 일", "b"),
        ("t3", "차 고치는 일 31", "c"),
        ("t4", "빵 굽는 일", "a"),
    ]
    pd.DataFrame(rows).assign(area=1, w=1).to_csv(folder / "train.csv", index=False)
    frame = pd.DataFrame(test, columns=["id", "task", "code"]).assign(area=[7, 7, 8, 9], w=[1, 1, 1, 5])
    frame.to_csv(folder / "test.csv", index=False)
    return [
        "data=table", "data.path=train.csv", "data.test_path=test.csv", "classification=from_data", "data.level=null",
        "data.columns.workplace=null", "data.columns.position=null", "data.columns.cluster=area", "data.columns.weight=w",
    ]  # fmt: skip


def test_two_classes_of_a_table_and_a_third_that_nobody_learnt(here: Path) -> None:
    words = table(here)
    assert command("baseline", *words, "run_dir=svm") == 0
    report, cohort = load(here / "svm" / "report.json"), load(here / "svm" / "cohort.json")
    for record, name in ((report, "report"), (cohort, "cohort")):
        validate(record, load(ROOT / "docs" / "schemas" / f"{name}.schema.json"))
    predictions = pd.read_parquet("svm/predictions.parquet")
    assert predictions["code_1"].tolist() == ["a", "b", "b", "a"]
    assert predictions["code_2"].tolist() == ["b", "a", "a", "b"]
    assert predictions["code_3"].isna().all()
    assert predictions["text"].tolist() == [0, 1, 2, 0] and predictions["seen"].tolist() == [False, False, True, False]
    assert predictions["cluster"].tolist() == ["7", "7", "8", "9"]
    assert report["codes_without_training"] == ["c"] and report["n_test_without_training"] == 1
    assert report["metrics"]["accuracy"] == report["metrics"]["top_5_accuracy"] == 0.75
    assert report["metrics_survey_weighted"]["accuracy"] == 7 / 8
    assert (report["n_classes"], report["synthetic"], cohort["classification_groups"]) == (2, False, None)
    assert cohort["same_text"] == {"texts": 34, "rows_repeated": 4, "rows_conflicting": 2, "ceiling": 35 / 36}
    assert command("baseline", *words, "kind=majority", "run_dir=majority") == 0
    assert load(here / "majority" / "report.json")["metrics"]["accuracy"] == 0.25
    prob = pd.read_parquet("majority/predictions.parquet")[["prob_1", "prob_2", "prob_3"]].to_numpy()
    assert np.allclose(prob[0, :2], [20 / 32, 12 / 32]) and np.isnan(prob[:, 2]).all()


def test_a_finished_baseline_is_skipped_and_an_interrupted_one_done_anew(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = table(here)
    assert command("baseline", *words) == 0
    (run,) = (here / "runs" / "svm").iterdir()
    before = (run / "predictions.parquet").read_bytes()
    assert "finished already" not in capsys.readouterr().out
    assert command("baseline", *words) == 0
    assert "finished already, skipped" in capsys.readouterr().out
    for name in ("DONE", "report.json", "predictions.parquet"):
        (run / name).unlink()
    assert command("baseline", *words) == 0
    assert (run / "DONE").is_file() and (run / "predictions.parquet").read_bytes() == before
    assert "resuming" not in (run / "train.log").read_text(encoding="utf-8")
    assert command("baseline", *words, "seed=1", f"run_dir={run}") == 1  # another seed is another run
    assert "holds another run" in capsys.readouterr().err
    assert command("baseline", *words, "C=0.5", "ngrams=[2,3]", "experiment=k_jcm") == 0  # and keeps its own name
    assert len(list((here / "runs" / "svm").iterdir())) == 2


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("kind=knn", "kind=knn: choose one of svm, majority"),
        ("ngrams=[4,1]", "ngrams=[4, 1]"),
        ("ngrams=[0,4]", "ngrams=[0, 4]"),
        ("ngrams=[4]", "ngrams=[4]"),
        ("C=0", "C=0.0: use above 0."),
        ("seed=-1", "use at least 0"),
    ],
)
def test_what_cannot_work_is_said(word: str, says: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command("baseline", word) == 2
    error = capfd.readouterr().err
    assert says in error and "Traceback" not in error
    assert not list(here.iterdir())


def test_the_largest_groups_code_nothing(made: Path, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "in.csv").write_text("workplace,position,task\n은행,,예금\n", encoding="utf-8")
    for words in (("predict", "input=in.csv", "output=out.csv"), ("evaluate",), ("triage",)):
        assert command(*words, f"run={made / 'majority'}") == 1
        assert "has no model" in capfd.readouterr().err
    assert sorted(path.name for path in here.iterdir()) == ["in.csv"]


def test_an_svm_is_used_like_a_run(made: Path, side: Side, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run, test = made / "svm", side("test")
    card = (run / "model" / "README.md").read_text(encoding="utf-8")
    assert "linear classifier of char n-grams of text" in card and "Temperature" in card
    test[["id", "workplace", "position", "task"]].to_csv("in.csv", index=False)
    assert command("predict", f"run={run}", "input=in.csv", "output=out.csv", "triage.threshold=0.5") == 0
    coded, predictions = pd.read_csv("out.csv", dtype=str), pd.read_parquet(run / "predictions.parquet")
    assert coded["code_1"].tolist() == predictions["code_1"].tolist()
    assert command("triage", f"run={run}", "out=rules.csv") == 0
    begin_review(run, "out.csv")
    assert command("review", f"run={run}", "input=out.csv", "export=reviewed.csv") == 0
    assert command("evaluate", f"run={run}", "out=again") == 0
    assert load(Path("again", "metrics.json"))["metrics"] == load(run / "report.json")["metrics"]
    assert command("diff", str(run), str(made / "majority"), "out=diff") == 0
    capfd.readouterr()
    assert command("export", f"run={run}") == 1 and "a linear model has no ONNX export" in capfd.readouterr().err
    assert command("push", f"run={run}", "repo=a/b", "dry_run=true") == 0
    assert command("train", "model=ensemble", f"model.members=[{run}]", *TWIN[::2]) == 1
    assert "a baseline cannot be a member" in capfd.readouterr().err


def test_an_svm_that_does_not_converge_says_so(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words, train = table(here), pd.read_csv("train.csv", dtype=str)
    train.assign(task="빵 굽는 일").to_csv("train.csv", index=False)  # the same text has both codes
    assert command("baseline", *words, "C=1e7", "ngrams=[1,2]") == 0
    assert "did not converge in 1000 iterations; a smaller C (now 1e+07)" in "".join(capfd.readouterr())


def test_runs_of_the_folds_are_one_line(here: Path) -> None:
    folds = ("data.folds=3", "data.fold=0,1,2", "data.scale=0.01", "kind=majority")
    assert command("baseline", "-m", *folds) == 0
    assert command("runs", "group=fold", "out=folds.csv") == 0 and command("runs", "group=seed", "out=seeds.csv") == 0
    found, apart = pd.read_csv("folds.csv"), pd.read_csv("seeds.csv")
    assert found["n"].tolist() == [3] and apart["n"].tolist() == [1, 1, 1]
    assert found["accuracy_mean"].item() == pytest.approx(apart["accuracy_mean"].mean())
    tested = pd.concat(pd.read_parquet(path)["id"] for path in Path("runs").rglob("predictions.parquet"))
    assert len(tested) == tested.nunique() > 1000


BAD = (*SMALL, *TWIN, "trainer.max_epochs=1", "optim.lr=1e-9", "logger=[]", "cache=cache")
BETTER = "A linear SVM trained on the same rows"


def checked(run: str, *words: str) -> tuple[Any, str]:
    """Train an encoder; return its report, which must be valid, and its log."""
    assert command("train", *words, f"run_dir={run}") == 0
    report = load(Path(run, "report.json"))
    validate(report, load(ROOT / "docs" / "schemas" / "report.schema.json"))
    return report, Path(run, "train.log").read_text(encoding="utf-8")


def test_an_encoder_that_the_svm_beats_is_warned_about(made: Path, here: Path) -> None:
    report, log = checked("run", *BAD, "svm_check=5000")
    svm, found = load(made / "svm" / "report.json"), report["svm_check"]
    assert (found["side"], found["n"]) == ("validation", report["n_validation"])
    assert found["svm_accuracy"] == pytest.approx(svm["validation"]["accuracy"], abs=1e-6)
    assert found["accuracy"] == pytest.approx(report["validation"]["accuracy"], abs=1e-6)
    assert found["svm_accuracy"] - found["accuracy"] > found["standard_error"] > 0
    assert log.count(BETTER) == 1 and "model=linear" in log and f"{found['svm_accuracy']:.4f}" in log
    assert 0 < report["seconds"]["svm_check"] < report["seconds"]["total"]

    rows = report["n_train"] + report["n_augmented"]
    rest = {name: value for name, value in report.items() if name not in ("seconds", "svm_check")}
    for run, limit in (("never", 0), ("larger", rows - 1)):
        other, log = checked(run, *BAD, f"svm_check={limit}")
        assert "svm_check" not in other.pop("seconds") and BETTER not in log
        assert other == rest
        assert pd.read_parquet(f"{run}/predictions.parquet").equals(pd.read_parquet("run/predictions.parquet"))


def test_the_svm_is_compared_on_test_rows_without_validation_rows(here: Path) -> None:
    words = (*BAD, "data.validation=0")
    report, _ = checked("run", *words, "svm_check=5000")
    assert command("baseline", *TWIN, "data.validation=0", "run_dir=svm") == 0
    predictions = [pd.read_parquet(f"{run}/predictions.parquet") for run in ("svm", "run")]
    svm, own = (frame["code_1"].eq(frame["code"]).to_numpy(float) for frame in predictions)
    assert report["svm_check"] == {
        "side": "test", "n": report["n_test"], "svm_accuracy": svm.mean(), "accuracy": own.mean(),
        "standard_error": pytest.approx((svm - own).std(ddof=1) / len(own) ** 0.5),
    }  # fmt: skip
    unmeasured, log = checked("unmeasured", *words, "svm_check=5000", "evaluate=false")
    assert "svm_check" not in unmeasured and BETTER not in log


def test_an_encoder_as_good_as_the_svm_is_not_warned_about(here: Path) -> None:
    words = table(here)
    report, log = checked(
        "run", *SMALL[1:], *words, "tokenizer.vocab_size=100", "trainer.max_epochs=20", "optim.lr=0.003",
        "data.batch_size=4", "svm_check=32", "logger=[]", "cache=cache",
    )  # fmt: skip
    found = report["svm_check"]
    assert found["accuracy"] == found["svm_accuracy"] == 0.75 and BETTER not in log
