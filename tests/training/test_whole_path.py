"""From a command line to a run folder, and what comes after it."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from jsonschema import validate
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support

from tests import forking
from tests.conftest import LEARNS, LINEAR, ROOT, SMALL, Run, command, config_of

# `torchrun --nproc-per-node 2 -m kjcm ...`, its processes forked instead of begun anew
TORCHRUN = """
import sys
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from kjcm.cli import main
config = LaunchConfig(1, 1, 2, rdzv_backend="c10d", rdzv_endpoint="localhost:0", max_restarts=0, start_method="fork")
elastic_launch(config, main)(sys.argv[1:])
"""


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_run_folder_is_whole_and_its_metrics_are_those_of_its_predictions(finished: Path) -> None:
    report, cohort = load(finished / "report.json"), load(finished / "cohort.json")
    for record, name in ((report, "report"), (cohort, "cohort")):
        validate(record, load(ROOT / "docs" / "schemas" / f"{name}.schema.json"))
    assert not list((finished / "checkpoints").glob("step-*"))  # nothing reads them any more
    for name in ("config.yaml", "identity.json", "predictions.parquet", "checkpoints/fitted.json", "model/model.safetensors",
                 "model/tokenizer.json", "model/kjcm.json", "hydra/overrides.yaml", "train.log", "DONE"):  # fmt: skip
        assert (finished / name).is_file(), name
    assert report["synthetic"] is cohort["synthetic"] is True
    predictions = pd.read_parquet(finished / "predictions.parquet")
    assert list(predictions) == [
        "id",
        "code",
        *(f"code_{k}" for k in range(1, 11)),
        *(f"prob_{k}" for k in range(1, 11)),
        "text",
        "seen",
    ]
    assert report["kind"] == "encoder"
    assert None not in [report[name] for name in ("unknown_share", "precision", "epochs", "parameters")]
    assert sum(row["train"] + row["test"] for row in cohort["left_groups"]) == cohort["flow"]["below_cutoff"] == 52
    assert cohort["classification_groups"] == 156 and len(cohort["left_groups"]) == 10
    assert len(predictions) == report["n_test"] == cohort["flow"]["test"]
    assert report["n_train"] == cohort["flow"]["train"] and report["n_augmented"] == 0
    assert report["n_classes"] == len(cohort["classes"]) == 142
    truth, first = predictions["code"], predictions["code_1"]
    precision, recall, f1, _ = precision_recall_fscore_support(truth, first, average="weighted", zero_division=0)
    expected = {
        "accuracy": accuracy_score(truth, first),
        "precision_weighted": precision,
        "recall_weighted": recall,
        "f1_weighted": f1,
        "f1_macro": f1_score(truth, first, average="macro", zero_division=0),
    }
    for k in range(2, 6):
        hits = predictions[[f"code_{i}" for i in range(1, k + 1)]].eq(truth, axis=0).any(axis=1)
        expected[f"top_{k}_accuracy"] = hits.mean()
    for name, value in expected.items():
        assert report["metrics"][name] == pytest.approx(value, abs=1e-6), name
    assert report["metrics"]["accuracy"] > 0.15  # it has learnt: the largest group has a share of about 0.07
    assert sum(row["n_test"] for row in report["per_class"]) == report["n_test"]
    assert sum(row["n_predicted"] for row in report["per_class"]) == report["n_test"]
    prob = predictions[[f"prob_{k}" for k in range(1, 11)]].to_numpy()
    assert (np.diff(prob, axis=1) <= 0).all() and (prob.sum(axis=1) <= 1 + 1e-5).all()


def test_evaluate_gives_the_same_figures_as_training(
    finished: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("evaluate", f"run={finished}", "out=again") == 0
    trained, again = load(finished / "report.json"), load(here / "again" / "metrics.json")
    validate(again, load(ROOT / "docs" / "schemas" / "metrics.schema.json"))
    assert again["metrics"] == pytest.approx(trained["metrics"], abs=1e-6)
    assert again["hashes"]["cohort"] == trained["hashes"]["cohort"]
    before = (here / "again" / "metrics.json").read_bytes()
    assert command("evaluate", f"run={finished}", "out=again") == 0
    assert (here / "again" / "metrics.json").read_bytes() == before
    assert "evaluated already" in capsys.readouterr().out


def test_predictions_say_which_rows_have_one_text_and_which_were_learnt(finished: Path, here: Path) -> None:
    assert command("prepare", "data.scale=0.02", "out=cohort") == 0
    rows = pd.read_parquet("cohort/cohort.parquet")
    learnt, test = set(rows["text"][rows["side"] == "train"]), rows[rows["side"] == "test"]
    predictions = pd.read_parquet(finished / "predictions.parquet")
    assert predictions["id"].tolist() == test["id"].tolist()
    assert predictions["seen"].tolist() == [text in learnt for text in test["text"]]
    assert predictions["text"].tolist() == pd.factorize(test["text"])[0].tolist()
    assert (predictions["text"].dtype, predictions["seen"].dtype) == (np.int32, bool)


@pytest.mark.parametrize(("wave", "other"), [("5", "6"), ("6", "5")])
def test_a_wave_of_the_twin_trains_and_the_other_tests(wave: str, other: str, here: Path) -> None:
    assert command("prepare", "data.scale=0.02", "data.cutoff=0", "out=plain") == 0
    assert command("prepare", "data.scale=0.02", f"data.train_wave={wave}", "out=out") == 0
    every, rows = (pd.read_parquet(f"{name}/cohort.parquet") for name in ("plain", "out"))
    plain, cohort = (load(here / name / "cohort.json") for name in ("plain", "out"))
    assert rows.groupby("wave")["side"].unique().map(list).to_dict() == {wave: ["train"], other: ["test"]}
    assert set(rows["id"][rows["wave"] == other]) == set(every["id"][every["wave"] == other])
    own = every[every["wave"] == wave]
    sizes = own["code"].value_counts()
    assert set(rows["id"][rows["wave"] == wave]) == set(own["id"][own["code"].map(sizes) > 10])
    assert {row["code"]: (row["train"], row["test"]) for row in cohort["left_groups"]} == {
        code: (rows, 0) for code, rows in sizes[sizes <= 10].items()
    }
    assert cohort["flow"]["read_by_file"] == plain["flow"]["read_by_file"] == {"wave5": 1414, "wave6": 1432}
    assert cohort["hashes"]["cohort"] == plain["hashes"]["cohort"]


def test_a_model_of_one_wave_is_evaluated_again_on_the_other(here: Path) -> None:
    assert command("train", *LEARNS, "trainer.max_epochs=1", "data.train_wave=6", "run_dir=run") == 0
    assert command("evaluate", "run=run", "out=again") == 0
    trained, again = load(here / "run" / "report.json"), load(here / "again" / "metrics.json")
    assert again["n_test"] == trained["n_test"] == load(here / "run" / "cohort.json")["flow"]["test"]
    assert again["metrics"] == pytest.approx(trained["metrics"], abs=1e-6)
    assert list(pd.read_parquet("again/predictions.parquet"))[-1] == "prob_10"


def test_training_on_a_wave_needs_both(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ("data=kwcs", "data.wave5=nowhere.csv", "data.crosswalk=nowhere.csv", "data.train_wave=5")
    assert command("prepare", *words) == 2
    assert "data.train_wave=5 trains on one wave" in capfd.readouterr().err
    assert command("prepare", "data.train_wave=4") == 2
    assert "data.train_wave=4: choose one of 5, 6" in capfd.readouterr().err


def test_evaluate_uses_its_batch_size(finished: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kjcm.engine.data import TokenBatches

    sizes, whole = [], TokenBatches.__getitem__
    monkeypatch.setattr(
        TokenBatches, "__getitem__", lambda self, item: (sizes.append(len(item[0])), whole(self, item))[1]
    )
    assert command("evaluate", f"run={finished}", "out=out", "batch_size=100") == 0
    assert sizes == [100] * 8 + [32]


def test_evaluate_on_a_file_counts_unseen_groups_as_errors(finished: Path, here: Path) -> None:
    predictions = pd.read_parquet(finished / "predictions.parquet")
    code = predictions["code"].iloc[0]
    rows = pd.DataFrame(
        {"nr": [1, 2, 3], "was": ["편의점에서 물건 판매", "국회의원", "택시 운전"], "ksco": [code, "A09", "872"]}
    )
    rows.to_csv("new.csv", index=False)
    assert command(
        "evaluate", f"run={finished}", "data=table", "data.test_path=new.csv", "data.columns.id=nr", "data.columns.task=was",
        "data.columns.workplace=null", "data.columns.position=null", "data.columns.code=ksco", "out=new",
    ) == 0  # fmt: skip
    metrics = load(here / "new" / "metrics.json")
    assert metrics["n_test"] == 3 and metrics["n_test_without_training"] == 2
    assert metrics["codes_without_training"] == ["872", "A09"]
    assert metrics["metrics"]["accuracy"] <= 1 / 3 + 1e-6


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet", "xlsx"])
def test_predict_keeps_columns_and_order(finished: Path, here: Path, kind: str) -> None:
    rows = pd.DataFrame(
        {
            "번호": ["007", "2", "10", "3"],
            "workplace": ["은행", "", "○○초등학교", "논"],
            "position": ["대리", "기사", "", ""],
            "task": ["예금 상담", "택시 운전", "학생 가르침", "벼농사"],
            "note": ['a "b", c', "", "줄\n바꿈", "x"],
        }
    )
    {
        "csv": lambda: rows.to_csv("in.csv", index=False),
        "tsv": lambda: rows.to_csv("in.tsv", index=False, sep="\t"),
        "parquet": lambda: rows.to_parquet("in.parquet"),
        "xlsx": lambda: rows.to_excel("in.xlsx", index=False),
    }[kind]()
    words = (f"run={finished}", f"input=in.{kind}", "precision=32-true")
    assert command("predict", *words, "output=out.parquet", "top_k=3", "chunk_rows=3") == 0
    coded = pd.read_parquet("out.parquet")
    codes = [f"{name}_{k}" for name in ("code", "title", "prob") for k in (1, 2, 3)]
    assert list(coded) == [*rows, *codes, "decision", "decision_code", "decision_title", "pick_list", "reason"]
    pd.testing.assert_frame_equal(coded[list(rows)].fillna("").astype(str), rows, check_dtype=False)
    assert load(here / "out.parquet.json")["synthetic"] is True
    # every row is coded as it would be alone, whatever its chunk and batch
    assert command("predict", *words, "output=one.csv", "batch_size=1", "top_k=10") == 0
    one = pd.read_csv("one.csv", dtype={"code_1": str})
    assert one["code_1"].tolist() == coded["code_1"].tolist()
    assert np.allclose(one["prob_1"], coded["prob_1"], atol=2e-6)


def test_predict_leaves_numbers_and_odd_cells_as_they_are(finished: Path, here: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    roles = {"workplace": ["은행", None], "position": ["", ""], "task": ["예금 상담", "차 수리\x07"]}
    table = pa.table({**roles, "n": pa.array([None, 9007199254740993], pa.int64()), "codes": [111, 112]})
    pq.write_table(table, "in.parquet")
    for kind in ("parquet", "csv", "xlsx"):
        assert command("predict", f"run={finished}", "input=in.parquet", f"output=out.{kind}") == 0
    out = pq.read_table("out.parquet")
    assert out["n"].to_pylist() == [None, 9007199254740993] and out.schema.field("n").type == pa.int64()
    assert "9007199254740993" in (here / "out.csv").read_text(encoding="utf-8-sig")
    pq.write_table(table.slice(0, 0), "none.parquet")
    assert command("predict", f"run={finished}", "input=none.parquet", "output=none.csv") == 0
    assert pd.read_csv("none.csv").columns[:4].tolist() == ["workplace", "position", "task", "n"]
    mixed = pd.DataFrame({"workplace": "은행", "position": "", "task": "예금", "code": [111, "A01"]})
    mixed.to_excel("mixed.xlsx", index=False)
    assert command("predict", f"run={finished}", "input=mixed.xlsx", "output=mixed.parquet") == 0
    assert pd.read_parquet("mixed.parquet")["code"].tolist() == ["111", "A01"]


def test_probabilities_of_all_classes_sum_to_one(finished: Path) -> None:
    from kjcm.coding.coder import Coder

    prob = Coder(finished / "model", batch_size=2).code(["은행(에서) 예금 상담", "택시 운전", "x"])
    assert prob.shape == (3, 142)
    assert np.allclose(prob.sum(axis=1), 1, atol=1e-5)


def test_finished_runs_are_skipped_other_folders_refused(
    finished: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = here / "copy"
    shutil.copytree(finished, copy)
    same = (*LEARNS, "experiment=k_jcm", f"run_dir={copy}")
    marked = (copy / "DONE").read_text()
    assert command("train", *same) == 0
    assert "finished already, skipped" in capsys.readouterr().out and (copy / "DONE").read_text() == marked
    assert command("train", *same, "seed=1") == 1
    assert "holds another run" in capsys.readouterr().err and (copy / "DONE").is_file()
    (here / "mine").mkdir()
    (here / "mine" / "thesis.txt").write_text("years of work")
    assert command("train", *SMALL, "run_dir=mine", "overwrite=true") == 1
    assert (here / "mine" / "thesis.txt").read_text() == "years of work"
    assert command("train", "-m", *SMALL, "run_dir=mine", "seed=0,1") == 2


def test_two_processes_in_a_sweep_learn_and_measure_what_one_does(tmp_path: Path, kjcm: Run) -> None:
    dropout = ("dropout", "attention_dropout", "seq_classif_dropout")
    learns = (*SMALL, "experiment=k_jcm", *(f"+model.shape.{name}=0" for name in dropout))
    one = tmp_path / "one [a] b"
    assert command("train", *learns, f"run_dir='{one}'", f"cache='{tmp_path / 'two' / '.cache'}'") == 0
    ddp = (
        "trainer=ddp",
        "trainer.accelerator=cpu",
        "trainer.devices=2",
        "trainer.deterministic=true",
        "trainer.num_workers=0",
    )
    kjcm("train", "-m", *learns, "seed=1,0", *ddp, "trainer.precision=32-true", f"runs='{tmp_path / 'two'}'")
    reports = {load(path)["seed"]: (path.parent, load(path)) for path in tmp_path.glob("two/k_jcm/*/report.json")}
    assert sorted(reports) == [0, 1] and reports[0][1]["hashes"]["run"] != reports[1][1]["hashes"]["run"]
    run, two = reports[0]
    single = load(one / "report.json")
    assert two["hashes"] == single["hashes"]  # the same run, wherever and however it is computed
    assert two["n_test"] == single["n_test"] == len(pd.read_parquet(run / "predictions.parquet")["id"].unique())
    assert two["metrics"] == pytest.approx(single["metrics"], abs=0.005)  # a rounding may turn a few of 832 rows
    here, there = (pd.read_parquet(folder / "predictions.parquet").set_index("id") for folder in (one, run))
    assert np.allclose(here["prob_1"], there["prob_1"].reindex(here.index), atol=2e-3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one [a] b", "two"]  # no child has strayed


def test_a_finished_run_under_torchrun_is_skipped_by_all_processes(tmp_path: Path) -> None:
    words = (*SMALL, "trainer.max_epochs=1", "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2",
             "trainer.num_workers=0", "trainer.precision=32-true", "run_dir=run")  # fmt: skip
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT)}
    for said in ("results in", "finished already, skipped"):
        done = forking.run([sys.executable, "-c", TORCHRUN, "train", *words], 240, cwd=tmp_path, env=surroundings)
        assert done.returncode == 0 and done.stdout.count(said) == 1, done.stdout + done.stderr


@pytest.mark.usefixtures("unrendered")
def test_sweep_with_wandb_offline_logs_what_the_reports_say(here: Path) -> None:
    assert command(
        "train", "-m", *SMALL, "experiment=k_jcm,model_3", "seed=0,1", "logger=wandb", "data.validation=0.1", "trainer=cpu",
    ) == 0  # fmt: skip
    runs = sorted(path.parent for path in here.glob("runs/*/*/DONE"))
    assert [run.parent.name for run in runs] == ["k_jcm", "k_jcm", "model_3", "model_3"]
    tables = [load(run / "report.json") for run in runs]
    assert {table["hashes"]["split"] for table in tables} == {tables[0]["hashes"]["split"]}
    assert [table["n_augmented"] > 0 for table in tables] == [False, False, True, True]
    for run, table in zip(runs, tables, strict=True):
        (log,) = run.glob("wandb/offline-run-*/*.wandb")
        shown = subprocess.run(
            [Path(sys.executable).with_name("wandb"), "leet", "inspect", "--summary", "--json", log],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        record = json.loads(shown.stdout)
        assert record["name"].startswith(run.parent.name) and record["state"] == "finished"
        for name, value in table["metrics"].items():
            assert record["summary"][f"test_{name}"] == pytest.approx(value, abs=1e-6)
        text = log.read_bytes().decode("utf-8", "ignore")
        assert "(에서)" not in text  # no row's text leaves


@pytest.mark.parametrize(
    "flag", ["limit_train_batches=0", "limit_train_batches=0.0001", "max_steps=0", "limit_val_batches=0.0001"]
)
def test_a_training_without_a_step_or_a_validation_batch_is_no_run(
    flag: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ("evaluate=false", "run_dir=run", "logger=none", "data.validation=0.2", f"trainer.flags.{flag}")
    assert command("train", *SMALL, *words) == 2
    assert "trainer.flags" in capfd.readouterr().err and not (here / "run" / "DONE").exists()


def test_test_rows_are_left_alone_and_validation_is_held_back(here: Path, recwarn: pytest.WarningsRecorder) -> None:
    assert (
        command("train", *SMALL, "evaluate=false", "data.validation=0.2", "run_dir=run", "optim=adamw", "logger=none")
        == 0
    )
    report = load(here / "run" / "report.json")
    assert report["metrics"] == {} and report["n_test"] == 0 and not (here / "run" / "predictions.parquet").exists()
    flow = load(here / "run" / "cohort.json")["flow"]
    assert report["n_validation"] == flow["validation"] == round(0.2 * (flow["train"] + flow["validation"]))
    assert 0 < report["validation"]["accuracy"] < 1
    assert not [str(warning.message) for warning in recwarn if "no logger" in str(warning.message)]


def test_early_stopping_keeps_the_best_epoch(here: Path) -> None:
    stopping = ("callbacks=early_stopping", "callbacks.early_stopping.patience=1", "trainer.max_epochs=30")
    words = ("data.validation=0.2", *stopping, "optim.lr=0.05", "evaluate=false")
    assert command("train", *SMALL, *words, "run_dir=run") == 0
    report = load(here / "run" / "report.json")
    log = pd.read_csv(next(here.glob("run/logs/csv/*/metrics.csv")))
    assert report["epochs"] < 30
    assert report["validation"]["loss"] == pytest.approx(log["val_loss"].min(), abs=1e-5)
    said, best = (here / "run" / "train.log").read_text(), int(log["epoch"][log["val_loss"].idxmin()])
    assert f"stopped early after epoch {report['epochs']} of 30: val_loss did not improve for 1 epoch" in said
    assert f"the model has the weights of epoch {best}, the best by val_loss" in said and best == report["epochs"] - 1
    for name in ("DONE", "report.json"):  # interrupted after the stop: it does not train past it
        (here / "run" / name).unlink()
    assert command("train", *SMALL, *words, "run_dir=run") == 0
    assert {**load(here / "run" / "report.json"), "seconds": 0} == {**report, "seconds": 0}


def test_tensorboard_gets_the_scalars(here: Path) -> None:
    assert command("train", *SMALL, "logger=tensorboard", "run_dir=run") == 0
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(here / "run" / "logs" / "tensorboard" / "version_0")).Reload()
    report = load(here / "run" / "report.json")
    assert accumulator.Scalars("test_accuracy")[-1].value == pytest.approx(report["metrics"]["accuracy"], abs=1e-6)
    assert len(accumulator.Scalars("train_loss")) == 2


def test_identity_is_what_defines_the_run_not_where_it_runs(here: Path) -> None:
    from kjcm.run_folder.folder import identity_of

    def identity(*words: str) -> str:
        return identity_of(asdict(config_of("train", *words))).hash

    table = "id,workplace,position,task,code\n1,a,b,c,111\n"
    for name in ("a.csv", "b.csv"):
        (here / name).write_text(table)
    base = identity("data=table", "data.path=a.csv")
    assert identity("data=table", "data.path=b.csv") == base  # the same content elsewhere
    same = (
        "trainer=gpu",
        "trainer.deterministic=true",
        "logger=wandb",
        "runs=/elsewhere",
        "experiment=k_jcm",
        "overwrite=true",
    )
    assert identity("data=table", "data.path=a.csv", *same) == base
    assert identity("data=table", "data.path=a.csv", "seed=1") != base
    assert identity("data=table", "data.path=a.csv", "optim.lr=0.5") != base
    (here / "b.csv").write_text(table + "2,a,b,c,112\n")
    assert identity("data=table", "data.path=b.csv") != base


# in place of pretrained weights
LAYERS = (*SMALL, "model=tiny", "model.pooling=mean", "model.shape.n_layers=2", "param_groups.freeze_layers=1")
MEMBERS = ("model.folds=2", "model.members=[linear_encoder model.calibration_folds=0,best_nearest,encoder_cpu "
           "param_groups.freeze_layers=0 param_groups.cache_frozen=false "
           "tokenizer.max_unknown=1 trainer.max_epochs=1]")  # fmt: skip


def test_every_experiment_trains(here: Path) -> None:
    names = sorted(file.stem for file in (ROOT / "conf" / "experiment").glob("*.yaml") if file.stem != "search")
    names.sort(key=lambda name: name != "k_jcm")  # some start from its weights
    assert set(names) >= {"k_jcm", "k_jcm_half", "model_2", "model_3", "model_4"}
    for name in names:
        small = [SMALL[0]] if f"experiment={name}" in LINEAR else [*SMALL, "trainer.max_epochs=1"]
        if name == "encoder_cpu":
            small = [*LAYERS, "trainer.max_epochs=1"]
        if name in ("linear_encoder", "best_nearest", "best"):
            small = [SMALL[0], "model.pretrained=k_jcm/model", *(MEMBERS if name == "best" else ())]
        assert command("train", *small, f"experiment={name}", f"run_dir={name}") == 0
    reports = {name: load(here / name / "report.json") for name in names}
    full, half = reports["k_jcm"], reports["k_jcm_half"]
    assert half["n_train"] == int(full["n_train"] / 2 + 0.5) and half["n_test"] == full["n_test"]
    assert half["hashes"]["split"] == full["hashes"]["split"]
    assert reports["model_2"]["n_classes"] == reports["model_4"]["n_classes"] < full["n_classes"]
    config = yaml.safe_load((here / "model_2" / "config.yaml").read_text())
    assert config["data"]["cutoff"] == 11  # the twin's own higher cutoff, shown
    small = {row["code"] for row in full["per_class"]} - {row["code"] for row in reports["model_2"]["per_class"]}
    groups = {row["code"]: row for row in load(here / "k_jcm" / "cohort.json")["groups"]}
    assert small == {code for code, row in groups.items() if row["train"] + row["test"] <= 11}
    assert reports["model_3"]["n_augmented"] > 142 and reports["model_3"]["n_train"] == full["n_train"]
