"""`kjcm train model=ensemble`: members' runs, out-of-fold scores, and an ordinary run folder."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from jsonschema import validate
from scipy.special import log_softmax

from kjcm.coding.ensemble import EnsembleCoder, device_of
from kjcm.ensemble.combination import log_prior
from kjcm.ensemble.command import as_training
from kjcm.ensemble.files import load_ensemble
from kjcm.errors import KjcmError
from kjcm.files import digest
from kjcm.reporting.result import described
from kjcm.run_folder.contents import run_cohort, run_config
from kjcm.run_folder.held_out import TEST, calibration_of, held_rows
from kjcm.run_folder.model_folder import load_linear, load_settings
from kjcm.survey.cohort import hash_of
from kjcm.survey.texts import TEXT_COLUMNS
from kjcm.training.fit import coded_by_encoder
from kjcm.triage.logits import load_scored
from tests.conftest import ROOT, command, config_of

# three trainings of some milliseconds, and an encoder's of a second
SVM = "model=linear ~model.views.position model.views.text.ngrams=[2,3] model.calibration_folds=0 model.above=[]"
LOGISTIC = f"{SVM} model.classifier=logistic augment=titles"
ENCODER = (
    "model=tiny model.shape.n_layers=1 model.shape.dim=32 model.shape.n_heads=2 model.shape.hidden_dim=64 "
    "trainer.max_epochs=2 trainer.precision=32-true data.batch_size=16 optim.lr=0.003"
)
DATA = ("data.scale=0.01", "data.level=1", "data.validation=0.2", "logger=[]")


def members(*texts: str) -> str:
    return f"model.members={json.dumps(texts)}"


TWO = ("model=ensemble", members(SVM, LOGISTIC), "model.folds=2", *DATA)


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished ensemble of two linear models and an encoder; tests must not write into it."""
    folder = tmp_path_factory.mktemp("ensemble")
    words = ("model=ensemble", members(SVM, LOGISTIC, ENCODER), "model.folds=3", *DATA, f"cache={folder}/cache")
    assert command("train", *words, f"run_dir={folder}/run") == 0
    assert command("prepare", *DATA[:3], f"out={folder}/cohort") == 0
    return folder / "run"


@pytest.fixture(scope="module")
def rows(run: Path) -> pd.DataFrame:
    return pd.read_parquet(run.parent / "cohort" / "cohort.parquet")


def test_the_run_folder_is_an_ordinary_one_with_a_run_of_each_member_and_fold(run: Path, rows: pd.DataFrame) -> None:
    report = load(run / "report.json")
    validate(report, load(ROOT / "docs" / "schemas" / "report.schema.json"))
    assert (report["kind"], report["n_augmented"] > 0, report["metrics"]["accuracy"] > 0.5) == ("ensemble", True, True)
    assert [one["kind"] for one in report["members"]] == ["linear", "linear", "encoder"]
    made = sorted(path.parent.relative_to(run / "members").as_posix() for path in (run / "members").rglob("DONE"))
    linear = [f"{name}/{part}" for name in ("1-linear", "2-linear") for part in ("all", "fold-0", "fold-1", "fold-2")]
    assert made == [*linear, "3-tiny/all", "3-tiny/fold-0"]
    predictions = pd.read_parquet(run / "predictions.parquet")
    assert predictions["id"].tolist() == rows["id"][rows["side"] == "test"].tolist()
    assert (calibration_of(run / "model") or {})["n"] > 10


def test_out_of_fold_scores_belong_to_their_rows_and_no_held_row_is_learnt(run: Path, rows: pd.DataFrame) -> None:
    sides = dict(zip(rows["id"], rows["side"], strict=True))
    fold = load(run / "members" / "1-linear" / "fold-0" / "report.json")
    assert fold["n_train"] + fold["n_validation"] == (rows["side"] == "train").sum() and not fold["n_test"]
    for number, one in enumerate(load(run / "report.json")["members"]):  # the encoder scored fold 0 alone
        folder = run / "members" / one["name"] / "fold-0"
        own = load(folder / "report.json")
        assert one["accuracy"] == pytest.approx(own["validation"]["accuracy"])
        assert one["rows"] == (own["n_validation"] if number == 2 else (rows["side"] == "train").sum())
        assert not (folder / "model").exists() and set(sides.values()) == {"train", "validation", "test"}
        assert (
            load(run / "members" / one["name"] / "all" / "cohort.json")["flow"]["train"] == one["rows"] or number == 2
        )


def test_the_scores_are_the_combination_of_the_members(run: Path, rows: pd.DataFrame) -> None:
    combination, folders, settings = load_ensemble(run / "model")
    test = rows[rows["side"] == "test"].reset_index(drop=True)
    logits = [load_linear(folder / "model")[0].logits(test) for folder in folders[:2]]
    trainer, labels = config_of("evaluate", "run=x").trainer, np.zeros(len(test), np.int64)
    coded = coded_by_encoder(folders[2], test, labels, 0, trainer, 64, run).predictions
    order = np.argsort(np.concatenate([one.rows.numpy() for one in coded]))
    logits.append(np.concatenate([one.logits.numpy() for one in coded])[order])
    weighted = sum(w * log_softmax(one, axis=1) for w, one in zip(combination.weights, logits, strict=True))
    expected = weighted + combination.prior * log_prior(settings.n_train)
    found = load_scored(run / TEST, len(settings.classes), settings.classes_hash)
    assert found.logits == pytest.approx(expected, abs=1e-4)
    predictions = pd.read_parquet(run / "predictions.parquet")
    assert [settings.classes[k] for k in expected.argmax(axis=1)] == predictions["code_1"].tolist()
    assert load(run / "report.json")["ensemble"]["prior_weight"] == combination.prior


def test_evaluate_repeats_the_test(run: Path, here: Path) -> None:
    assert command("evaluate", f"run={run}", "out=evaluated") == 0
    assert load(Path("evaluated/metrics.json"))["metrics"] == load(run / "report.json")["metrics"]


def test_predict_triage_and_export(
    run: Path, rows: pd.DataFrame, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    test = rows[rows["side"] == "test"].reset_index(drop=True)
    test[["id", *TEXT_COLUMNS]].to_csv("in.csv", index=False)
    words = ("predict", f"run={run}", "input=in.csv", "triage.calibrated=false", "chunk_rows=100")
    assert command(*words, "output=out.csv", "precision=32-true") == 0
    coded, predictions = pd.read_csv("out.csv", dtype={"code_1": str}), pd.read_parquet(run / "predictions.parquet")
    assert coded["code_1"].tolist() == predictions["code_1"].tolist()
    assert coded["prob_1"].to_numpy() == pytest.approx(predictions["prob_1"].to_numpy(), abs=1e-4)
    assert command("triage", f"run={run}", "out=triage.csv") == 0 and len(pd.read_csv("triage.csv")) > 3
    assert command(*words, "output=x.csv", "precision=int8") == 2 and "int8" in capsys.readouterr().err
    assert command("export", f"run={run}") == 1
    assert f"run={run / 'members' / '3-tiny' / 'all'}" in capsys.readouterr().err


def test_out_of_fold_scores_set_the_rules_without_validation_rows(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ("data.scale=0.02", "data.level=1", "data.cutoff=0")
    words = ("model=ensemble", members(SVM, ENCODER), "model.folds=2", *data, "logger=[]")
    assert command("train", *words, "run_dir=run", "cache=cache") == 0
    settings, calibration = load_settings(Path("run/model")), calibration_of(Path("run/model"))
    held = held_rows(Path("run/model"), settings)
    assert held is not None and calibration is not None
    assert calibration["out_of_fold"] is True and calibration["temperature"] == 1.0
    assert command("prepare", *data, "data.inner_folds=2", "out=cohort") == 0
    cohort = pd.read_parquet("cohort/cohort.parquet")
    rows = cohort[cohort["side"] == "validation"]  # the encoder scores this fold only
    assert [settings.classes[label] for label in held.labels] == rows["code"].tolist()
    assert len(held.labels) == calibration["n_held"] >= load(Path("run/report.json"))["ensemble"]["rows"] > 100
    assert 0 < held.words.mean() < 0.5  # managers' words
    assert f"{len(held.labels):,} training rows" in Path("run/model/README.md").read_text(encoding="utf-8")
    assert command("triage", "run=run", "out=table.csv") == 0 and len(pd.read_csv("table.csv")) > 3
    capsys.readouterr()
    coded = ("input=cohort/twin/wave6.csv", "output=out.csv", "triage.target_error=0.7", "precision=32-true")
    assert command("predict", "run=run", *coded) == 0
    assert "data.validation=0.3" in capsys.readouterr().out
    record = load(Path("out.csv.json"))["triage"]
    assert record["out_of_fold"] is True and record["validation_rows"] == len(held.labels)
    assert record["threshold"] is not None and pd.read_csv("out.csv")["decision"].eq("accept").any()


def test_a_row_whose_code_only_its_own_fold_has_counts_as_an_error_in_triage(here: Path) -> None:
    codes = ["111", "251"] * 20 + ["320"]
    rows = [f"{number},{code} 일 {number % 3},{code}" for number, code in enumerate(codes)]
    Path("in.csv").write_text("\n".join(["id,task,code", *rows]), encoding="utf-8")
    words = ("data=table", "data.path=in.csv", "data.cutoff=0", "data.columns.workplace=null", "data.columns.position=null",
             "data.train_share=0.9", "data.split_seed=1", "evaluate=false", "logger=[]")  # fmt: skip
    assert command("train", "model=ensemble", members(SVM), "model.folds=2", *words, "run_dir=run") == 0
    settings = load_settings(Path("run/model"))
    held, report = held_rows(Path("run/model"), settings), load(Path("run/report.json"))
    assert held is not None and len(held.labels) == sum(settings.n_train) == report["ensemble"]["rows"] + 1
    alone = settings.classes.index("320")
    assert held.logits[held.labels == alone].argmax(axis=1).tolist() != [alone]


def test_an_ensembles_files_are_hashed_once_for_coding(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Path] = []
    monkeypatch.setattr("kjcm.ensemble.files.require_intact", lambda folder, settings: hashed.append(folder))
    assert device_of(run / "model", "cpu", "bf16", compiled=False) == ("bf16", False) and not hashed
    assert EnsembleCoder(run / "model", None, "cpu", "bf16", 1.0, compiled=False).precision == "bf16"
    assert hashed == [run / "model"]


def test_a_group_with_one_training_row_is_unknown_in_its_own_fold(here: Path) -> None:
    lines = [f"{n},shop,clerk,{'sells bread' if n % 2 else 'cuts hair'} {n},{'AB'[n % 2]}" for n in range(40)]
    Path("a.csv").write_text("\n".join(["id,workplace,position,task,code", *lines, "99,ship,sailor,sails,C"]))
    Path("test.csv").write_text("id,workplace,position,task,code\nt1,shop,clerk,cuts hair,A\nt2,farm,farmer,sows,D\n")
    data = (
        "data=table", "data.path=a.csv", "data.test_path=test.csv", "data.cutoff=0", "data.level=null", "data.wording=plain",
        "classification=from_data", "logger=[]",
    )  # fmt: skip
    words = ("model=ensemble", members(SVM, f"{SVM} seed=1"), "model.folds=4", *data)
    assert command("train", *words, "run_dir=run") == 0
    report, predictions = load(Path("run/report.json")), pd.read_parquet("run/predictions.parquet")
    assert [one["rows"] for one in report["members"]] == [40, 40] and report["n_train"] == 41
    assert [len(load(file)["classes"]) for file in sorted(Path("run/members").glob("1-linear/*/cohort.json"))].count(
        2
    ) == 1
    assert predictions["code"].tolist() == ["A", "D"] and predictions["code_1"][0] == "A"
    assert report["n_test_without_training"] == 1 and report["metrics"]["accuracy"] == 0.5


def test_a_multirun_trains_ensembles_and_the_list_of_runs_and_trackers_know_them(here: Path) -> None:
    words = [word for word in TWO if not word.startswith("logger")]
    assert command("train", "-m", *words, "seed=0,1", "runs=runs", "name=both", "logger=[csv,wandb]") == 0
    assert command("runs", "runs=runs", "out=runs.csv") == 0
    listed = pd.read_csv("runs.csv")
    assert listed["state"].tolist() == ["finished"] * 2 and listed["accuracy"].notna().all()
    folders = [Path(folder) for folder in listed["folder"]]
    assert [load(folder / "report.json")["seed"] for folder in folders] in ([0, 1], [1, 0])
    for folder in folders:
        assert {load(file)["seed"] for file in folder.rglob("report.json")} == {load(folder / "report.json")["seed"]}
        assert "combined by\na conditional logit" in (folder / "model" / "README.md").read_text()
        run = SimpleNamespace(report=load(folder / "report.json"), config=run_config(folder), cohort=run_cohort(folder))
        assert described(cast(Any, run)).startswith("ensemble of 2 members, model=linear ~model.views.position")
        assert list((folder / "wandb").glob("offline-run-*"))


def test_kjcm_ensemble_takes_the_data_of_its_first_run(run: Path, here: Path) -> None:
    svm = run / "members" / "1-linear" / "all"
    own = [members(str(svm), f"{SVM} seed=7").removeprefix("model."), "folds=2", "logger=[]"]
    words = as_training(own)
    assert words[:3] == ["model=ensemble", "data=synthetic", "classification=ksco7"] and words[-3].startswith(
        "model.members="
    )
    assert sorted(words[3:-3]) == ["data.level=1", "data.scale=0.01", "data.validation=0.2"]
    assert as_training(["members=[a]", "data=table", "--cfg"]) == [
        "model=ensemble",
        "model.members=[a]",
        "data=table",
        "--cfg",
    ]
    assert as_training([own[0], "data=table", "classification=ksco7"])[1:2] == [f"model.{own[0]}"]
    assert as_training(["++members=[a=1 b]", "++folds=3", "~prior"])[1:] == [
        "++model.members=[a=1 b]",
        "++model.folds=3",
        "~model.prior",
    ]
    encoder = as_training([members(str(run / "members" / "3-tiny" / "all")).removeprefix("model.")])
    assert sorted(encoder[3:-1]) == ["data.level=1", "data.scale=0.01", "data.validation=0.2"]  # no data.batch_size
    assert command("ensemble", *own, "run_dir=run") == 0
    assert load(Path("run/cohort.json"))["hashes"] == load(run / "cohort.json")["hashes"]


@pytest.mark.parametrize("damage", ["weights", "how", "name", "classes", "member", "nested"])
def test_a_damaged_or_forged_model_is_refused(run: Path, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(run / "model", folder)
    record, own = load(folder / "ensemble.json"), folder / "members" / "1-linear" / "model"
    settings = load(folder / "kjcm.json")
    if damage == "weights":
        record["weights"].pop()
    elif damage == "how":
        record["how"] = "product"
    elif damage == "name":
        record["members"][0] = "../members/1-linear"
    elif damage == "classes":
        classes = settings["classes"][::-1]
        (own / "kjcm.json").write_text(
            json.dumps({**load(own / "kjcm.json"), "classes": classes, "classes_hash": hash_of(classes)})
        )
    elif damage == "member":
        (own / "linear.json").write_text("{}")
    elif damage == "nested":
        shutil.rmtree(own)
        shutil.copytree(run / "model", own)
    (folder / "ensemble.json").write_text(json.dumps(record))
    if damage != "member":  # a forger writes fitting digests
        settings["files"] = {name: digest(folder / name) for name in settings["files"]}
        (folder / "kjcm.json").write_text(json.dumps(settings))
    with pytest.raises(KjcmError, match=r"ensemble\.json|members"):
        load_ensemble(folder)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("torch.optim.Adam", "os.system", "os.system"),
        ("torch.optim.Adam", "kjcm.files.os.system", "kjcm.files.os.system"),
        ("torch.optim.Adam", "torch.load", "torch.load"),
        ("torch.optim.Adam", "torch.optim.adam.os.system", "torch.optim"),
        ("torch.optim.Adam", "torch.nn.init.normal_", "torch.nn.init.normal_"),
        ("callbacks: {}", "callbacks: {a: '${oc.decode:\"{_target_: os.system}\"}'}", "${...}"),
        ("rows: {}", "rows: {_target_: torch.optim.Adam}", "augment.rows"),
    ],
)
def test_a_run_folder_that_names_code_is_not_trained(
    run: Path, here: Path, old: str, new: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run / "members" / "3-tiny" / "all", "other")
    config = Path("other/config.yaml")
    assert old in config.read_text()
    config.write_text(config.read_text().replace(old, new))
    assert command("train", "model=ensemble", members("./other"), *DATA, "run_dir=x") in (1, 2)
    assert named in capsys.readouterr().err and not Path("x").exists()


def test_finished_members_are_not_trained_again(
    run: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kjcm.training.ensemble.save_folder", full)
    assert command("train", *TWO, "run_dir=run") == 1
    monkeypatch.undo()
    monkeypatch.chdir(here)
    done = {path: path.stat().st_mtime_ns for path in Path("run/members").rglob("DONE")}
    (Path("run/members/2-linear/all") / "DONE").unlink()
    assert len(done) == 6 and command("train", *TWO, "run_dir=run") == 0
    after = {path: path.stat().st_mtime_ns for path in Path("run/members").rglob("DONE")}
    assert [str(path) for path in done if done[path] != after[path]] == ["run/members/2-linear/all/DONE"]
    assert capsys.readouterr().out.count("finished before") == 5


def test_members_may_be_finished_runs_and_seeds_of_one_experiment(run: Path, here: Path) -> None:
    svm, own = run / "members" / "1-linear" / "all", f"{SVM} seed=7"
    words = ("model=ensemble", members(str(svm), own), "model.folds=2", "model.combine=average", *DATA, "seed=3")
    assert command("train", *words, "run_dir=run") == 0
    report, (combination, folders, _) = load(Path("run/report.json")), load_ensemble(Path("run/model"))
    assert (
        combination.how == "average" and combination.weights == (0.5, 0.5) and report["ensemble"]["prior_weight"] == 0
    )
    assert [one["name"] for one in report["members"]] == ["1-1-linear", "2-linear"]
    assert not Path("run/members/1-1-linear/all").exists()
    assert load_settings(folders[0] / "model") == load_settings(svm / "model")
    seeds = [load(Path(f"run/members/{name}/fold-0/report.json"))["seed"] for name in ("1-1-linear", "2-linear")]
    assert seeds == [0, 7]


@pytest.mark.parametrize(
    ("texts", "more", "words"),
    [
        ([], (), "model.members=[]"), ([" "], (), "Name one"), (["nonesuch"], (), "experiment=nonesuch"),
        (["k_jcm", "k_jcm_half"], (), "data.train_fraction=0.5"), (["model_2"], (), "data.cutoff"),
        (["best_offline"], (), "data.classes=all"),
        ([SVM, "model=linear model.pretrained=./none model.views.a={of:encoder,field:text,ngrams:[]}"], (), "./none"),
        ([SVM, "model=e5_small model.pretrained=./none"], (), "./none"),
        ([LOGISTIC, SVM], ("data.classes=all", "data.level=3"), "2-linear"),
        (["model=linear cutoff=5"], (), "cutoff"),
        (["model=ensemble"], (), "this is an ensemble"), (["model=linear model.C=0"], (), "model.C"),
        (["no/such/run"], (), "no such folder"), (["RUN"], (), "this is an ensemble"),
        (["RUN/members/1-linear/all"], ("data.split_seed=1",), "split hash"),
        (["RUN/members/1-linear/all"], ("data.scale=0.02",), "cohort hash"),
        (["RUN/members/1-linear/all"], ("data.validation=0",), "data.validation"),
        (["RUN/members/1-linear/all"], ("data.train_fraction=0.5",), "data.train_fraction"),
        (["RUN/members/1-linear/fold-0"], (), "has no model"), (["model=linear model.prefix='a"], (), "Quote"),
        ([SVM], ("trainer.devices=2",), "trainer.devices"), ([SVM], ("optim.lr=1",), "optim.lr"),
        ([SVM], ("data.inner_folds=3",), "data.inner_folds"), (["model=linear optim.lr=1"], (), "optim.lr=1"),
        ([f"{ENCODER} trainer=cpu"], (), "trainer"), ([f"{ENCODER} trainer.devices=1"], (), "trainer.devices"),
        ([f"{ENCODER} svm_check=9"], (), "svm_check"),
        ([SVM, f"{ENCODER} callbacks=early_stopping"], (), "2-tiny"),
        ([SVM, f"{ENCODER} optim.nonesuch=1"], (), "2-tiny: optim.nonesuch"), ([SVM], ("svm_check=9",), "svm_check"),
        (["RUN/members/1-linear/all"], ("data.classes=all", "data.cutoff=9"), "data.cutoff"),
    ],
)  # fmt: skip
def test_wrong_members_are_named(
    run: Path, here: Path, texts: list[str], more: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    own = [text.replace("RUN", str(run)) for text in texts]
    assert command("train", "model=ensemble", members(*own), *DATA, *more, "run_dir=x") in (1, 2)
    assert words in capsys.readouterr().err
    assert not Path("x/members").exists()  # no member was trained


def test_an_ensembles_identity_counts_its_members(run: Path, here: Path) -> None:
    from kjcm.training.run import folder_of

    def hash_of(*words: str) -> str:
        return folder_of(config_of("train", "model=ensemble", *DATA[:3], *words)).identity.hash

    svm = str(run / "members" / "1-linear" / "all")
    moved = here / "moved"
    moved.symlink_to(svm)
    assert hash_of(members(svm)) == hash_of(members(str(moved))) != hash_of(members(SVM))
    assert hash_of(members(SVM)) == hash_of(members(SVM), "augment=titles", "optim=sgd")
    weights, words = here / "weights.txt", members("model=e5_small model.pretrained='weights.txt'")
    hashes = {hash_of(words), hash_of(members("~model.views.position"))}
    for text in ("a", "b"):
        weights.write_text(text)
        hashes.add(hash_of(words))
    assert len(hashes) == 4
