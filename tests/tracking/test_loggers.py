"""What a run logs: W&B read back from disk against report.json, what never leaves, and failures that stop no run."""

import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

import kjcm
from kjcm.analysis import findings
from kjcm.tracking import wandb_run
from kjcm.triage.calibration import calibration_error
from tests.conftest import LEARNS, SMALL, command
from tests.tracking.offline import of_run, read

Out = pytest.CaptureFixture[str]
FEW = (*SMALL, "trainer.max_epochs=1", "logger=wandb")
SECRET = "비밀작업표지"
KEY = "0" * 40


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with an offline W&B run in it."""
    place = tmp_path_factory.mktemp("logged")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(place)
        patched.setenv("WANDB_MODE", "offline")
        words = ("experiment=k_jcm", "model=tiny", "tokenizer=trained", *LEARNS, "schedule=constant",
                 "data.validation=0.1", "logger=wandb")  # fmt: skip
        assert command("train", *words, "logger.wandb.tags=[night]", "run_dir=run") == 0
    return place / "run"


def load(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def table(run: Path, name: str) -> pd.DataFrame:
    (file,) = run.glob(f"wandb/offline-run-*/files/media/table/test/{name}_*.table.json")
    found = load(file)
    return pd.DataFrame(found["data"], columns=found["columns"])


def test_the_run_is_named_by_its_hash_and_knows_config_code_and_cohort(logged: Path) -> None:
    found, report = of_run(logged), load(logged / "report.json")
    assert found.run.run_id == report["hashes"]["run"][:12] == found.run.display_name.removeprefix("k_jcm-")
    assert (found.run.run_group, found.run.job_type, found.exit_code) == ("k_jcm", "train", 0)
    assert list(found.run.tags) == ["k_jcm", "synthetic", "3 digits", "tiny", "night"]
    config = {key: value for key, value in found.config.items() if key not in ("_wandb", "kjcm")}
    assert config == yaml.safe_load((logged / "config.yaml").read_text())  # once, and nested as it is
    about = found.config["kjcm"]
    assert about["version"] == kjcm.__version__ and about["cohort"] == report["hashes"]["cohort"] and about["synthetic"]


def test_what_is_logged_is_what_the_report_says(logged: Path) -> None:
    found, report = of_run(logged), load(logged / "report.json")
    assert found.axes["train_loss_step"] == found.axes["tokens_per_second"] == "step" and found.axes["val_*"] == "epoch"
    epochs = [row for row in found.history if "val_loss" in row]
    assert [row["epoch"] for row in epochs] == list(range(1, 7))
    assert epochs[-1]["val_loss"] == pytest.approx(report["validation"]["loss"], abs=1e-6)
    steps = [row for row in found.history if "rows_per_second" in row]
    assert steps and all(row["rows_per_second"] > 0 and row["tokens_per_second"] > 0 and row["lr"] > 0 for row in steps)
    assert all(row["step"] == steps[0]["step"] + 10 * number for number, row in enumerate(steps[:5]))
    for name, value in report["metrics"].items():
        assert found.summary[f"test_{name}"] == pytest.approx(value, abs=1e-7), name
    for name, value in report["validation"].items():
        assert found.summary[f"val_{name}"] == pytest.approx(value, abs=1e-6), name
    assert found.summary["n_test"] == report["n_test"] and found.summary["engine"] == report["engine"]


def test_tables_are_those_of_the_test_rows(logged: Path) -> None:
    report, predictions = load(logged / "report.json"), pd.read_parquet(logged / "predictions.parquet")
    groups = table(logged, "groups")
    for name in ("code", "precision", "recall", "f1", "n_train", "n_test", "n_predicted"):
        assert groups[name].tolist() == [row[name] for row in report["per_class"]], name
    right = predictions["code"].str[0] == predictions["code_1"].str[0]
    confusion = table(logged, "confusion_table")
    assert confusion["rows"].sum() == len(predictions)
    assert confusion.loc[confusion["code"] == confusion["predicted"], "rows"].sum() == right.sum()
    pairs = table(logged, "confused_pairs")
    first = pairs.iloc[0]
    of_pair = predictions.query(f"code == '{first['code']}' and code_1 == '{first['predicted']}'")
    assert len(of_pair) == first["rows"] == pairs["rows"].max()
    reliable = table(logged, "reliability_table")
    assert reliable["rows"].sum() == len(predictions)
    hits = (reliable["accuracy"] * reliable["rows"]).sum()
    assert hits == pytest.approx((predictions["code"] == predictions["code_1"]).sum())
    errors = table(logged, "errors")
    assert "text" not in errors and errors["prob"].is_monotonic_decreasing
    assert (predictions["code"].iloc[errors["row"]].tolist(), True) == (errors["code"].tolist(), len(errors) > 0)
    pictures = {file.name.split("_")[0] for file in logged.glob("wandb/offline-run-*/files/media/images/test/*.png")}
    assert pictures == {"confusion", "reliability", "size"}


def test_the_model_is_an_artifact_that_comes_of_the_cohort(logged: Path) -> None:
    artifacts = of_run(logged).artifacts
    cohort, model = artifacts["dataset"], artifacts["model"]
    assert [entry.path for entry in cohort.manifest.contents] == ["cohort.json"] and cohort.use_after_commit
    assert model.name == "model-k_jcm"
    # a trained tokenizer holds words of answers
    assert sorted(entry.path for entry in model.manifest.contents) == ["config.json", "kjcm.json", "model.safetensors"]


def test_a_run_of_the_time_when_a_run_had_one_logger_still_opens(logged: Path, here: Path, capfd: Out) -> None:
    run = shutil.copytree(logged, here / "runs" / "k_jcm" / "old")
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["logger"] = {"kind": "wandb", **config["logger"]["wandb"]}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert command("evaluate", f"run={run}", "out=out") == 0
    assert command("runs", "where={logger.kind: wandb}") == 0 and "1 finished" in capfd.readouterr().out


def test_csv_and_tensorboard_have_the_scalars_too(here: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    wanted = {"train_loss_step", "rows_per_second", "tokens_per_second", "val_loss", "test_accuracy"}
    words = (*SMALL, "data.validation=0.1")
    assert command("train", *words, "logger=csv", "run_dir=a") == 0
    points = pd.read_csv(here / "a" / "logs" / "csv" / "version_0" / "metrics.csv")
    assert wanted <= set(points.columns)
    assert points["epoch"].dropna().unique().tolist() == [1, 2]  # as on the screen
    of_outcome, steps = points["test_accuracy"].notna(), load(here / "a" / "report.json")["n_train"] // 64 + 1
    assert points["epoch"].isna().equals(of_outcome) and of_outcome.sum() == 1
    assert points["step"].is_monotonic_increasing and points["step"].iloc[-1] == 2 * steps
    assert points["val_loss"].count() == 3  # of each epoch, and of the trained model
    assert command("train", *words, "logger=tensorboard", "run_dir=b") == 0
    events = EventAccumulator(str(here / "b" / "logs" / "tensorboard" / "version_0"))
    events.Reload()
    assert wanted <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("test_accuracy")] == [2 * steps]
    assert [event.step for event in events.Scalars("val_loss")] == [steps - 1, 2 * steps - 1, 2 * steps]
    assert {event.value for event in events.Scalars("epoch")} == {1, 2}


@pytest.mark.parametrize("share", [False, True])
def test_answers_stay_here_unless_they_are_to_be_shared(
    share: bool, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = pd.DataFrame(
        {
            "id": map(str, range(60)),
            "workplace": [f"{SECRET} {number % 7}" for number in range(60)],
            "position": "",
            "task": [f"{SECRET}{'가' * (number % 5)} 일" for number in range(60)],
            "code": ["710" if number % 2 else "942" for number in range(60)],
        }
    )
    frame.to_csv("in.csv", index=False)
    words = (
        *FEW[1:-1],
        "logger=[wandb,mlflow,trackio]",
        "data=table",
        "data.path=in.csv",
        "data.cutoff=0",
        "run_dir=run",
        f"logger.wandb.share_text={share}",
    )
    assert command("train", *words) == 0
    marks = [SECRET.encode(), json.dumps(SECRET).strip('"').encode()]  # as it is, or escaped
    held = [file for file in (here / "run" / "wandb").rglob("*") if file.is_file()]
    assert held
    assert any(mark in file.read_bytes() for file in held for mark in marks) is share
    others = [file for name in ("runs/mlruns", "trackio") for file in (here / name).rglob("*") if file.is_file()]
    assert len(others) > 50 and not any(mark in file.read_bytes() for file in others for mark in marks)
    sent = {entry.path for entry in of_run(here / "run").artifacts["model"].manifest.contents}
    assert ("tokenizer.json" in sent) is share


def test_a_run_that_goes_on_keeps_its_id_and_a_sweep_is_a_group(here: Path) -> None:
    assert command("train", "-m", "seed=0,1", *FEW) == 0
    folders = sorted(path.parent for path in here.glob("runs/custom/*/DONE"))
    groups = {of_run(folder).run.run_group for folder in folders}
    assert len(folders) == 2 and len(groups) == 1 and groups.pop().startswith("sweep-20")
    (folders[0] / "DONE").unlink()
    assert command("train", "-m", "seed=0,1", *FEW) == 0
    found = [read(file) for file in folders[0].glob("wandb/offline-run-*/*.wandb")]
    assert len(found) == 2 and {one.run.run_id for one in found} == {folders[0].name}
    assert [one.exit_code for one in found] == [0, 0]


@pytest.fixture
def refusing() -> Iterator[str]:
    """The address of a server that knows no key."""

    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(401)
            self.end_headers()
            self.wfile.write(b'{"errors": [{"message": "permission denied"}]}')

        do_GET = do_POST

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def online(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_BASE_URL", address)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr(wandb_run, "CONNECT", 5)


def test_a_wrong_key_leaves_the_run_offline(
    here: Path, capfd: Out, monkeypatch: pytest.MonkeyPatch, refusing: str
) -> None:
    online(monkeypatch, refusing)
    assert command("train", *FEW, "run_dir=run") == 0
    said = capfd.readouterr().out
    assert said.count("the run is logged offline") == 1 and of_run(here / "run").exit_code == 0


def test_a_server_that_is_not_there_leaves_the_run_offline(
    here: Path, capfd: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    online(monkeypatch, "http://127.0.0.1:9")
    assert command("train", *FEW, "run_dir=run") == 0
    assert capfd.readouterr().out.count("the run is logged offline") == 1
    assert (here / "run" / "DONE").is_file() and of_run(here / "run").exit_code == 0


@pytest.mark.parametrize("where", ["init", "log", "log_artifact", "finish"])
def test_whatever_fails_in_wandb_stops_no_run_and_is_said_once(
    where: str, here: Path, capfd: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb
    from wandb.sdk.wandb_run import Run

    def broken(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*(wandb, "init") if where == "init" else (Run, where), broken)
    assert command("train", *FEW, "run_dir=run") == 0
    said = capfd.readouterr()
    assert said.out.count("No space left on device") == 1 and "Traceback" not in said.out + said.err
    assert (here / "run" / "DONE").is_file()


def test_a_failed_run_is_finished_as_failed(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kjcm.training import fit

    def broken(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(fit, "measure", broken)
    assert command("train", *FEW, "run_dir=run") == 1
    assert of_run(here / "run").exit_code == 1


def test_findings_of_a_few_rows() -> None:
    from kjcm.ksco.classification import load_classification

    named = load_classification("ksco7")
    rows = pd.DataFrame(
        {
            "code": ["111", "111", "942", "942", "942"],
            "code_1": ["111", "942", "942", "111", "111"],
            "prob_1": [0.95, 0.5, 0.9, 0.7, 0.6],
        }
    )
    assert findings.major_confusion(rows, named).to_numpy().tolist() == [[1, 1], [2, 1]]
    pairs = findings.confused_pairs(rows, named)
    assert pairs[["code", "predicted", "rows"]].to_numpy().tolist() == [["942", "111", 2], ["111", "942", 1]]
    assert pairs["share"].tolist() == pytest.approx([2 / 3, 1 / 2])
    reliable = findings.reliability(rows, bins=2)
    assert reliable["rows"].tolist() == [1, 4] and reliable["accuracy"].tolist() == [0, 0.5]
    wanted = abs(0 - 0.5) * 1 / 5 + abs(0.5 - (0.95 + 0.9 + 0.7 + 0.6) / 4) * 4 / 5
    assert calibration_error(reliable) == pytest.approx(wanted)
    errors = findings.error_examples(rows, named, ["a", "b", "c", "d", "e"])
    assert errors["row"].tolist() == [3, 4, 1] and errors["text"].tolist() == ["d", "e", "b"]
