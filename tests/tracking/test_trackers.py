"""Several loggers at once: what each has of a run, of a resumed run, and of one whose tracker fails."""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kjcm.tracking import loggers, mlflow_run, trackio_run
from kjcm.tracking.description import Description
from kjcm.tracking.tracker import Tracker
from tests.conftest import ROOT, SMALL, command
from tests.forking import Forked
from tests.tracking.offline import of_run

ALL = ("csv", "tensorboard", "wandb", "mlflow", "trackio")
Points = dict[str, dict[int, float]]
Out = pytest.CaptureFixture[str]


def points(rows: list[dict[str, Any]]) -> Points:
    """Return metric -> step -> value of rows with a step."""
    found: Points = {}
    for row in rows:
        for name, value in row.items():
            if isinstance(value, float | int) and value == value and name != "step":
                found.setdefault(name, {})[int(row["step"])] = value
    return found


def mlflow_client(uri: str) -> Any:
    from mlflow.tracking import MlflowClient

    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # as its viewer wants it too
    return MlflowClient(uri)


def of_mlflow(folder: Path) -> tuple[Any, dict[str, list[tuple[int, float]]]]:
    """Return a run as MLflow has it, and each metric's steps and values."""
    record = json.loads((folder / "logs" / "mlflow.json").read_text())
    client = mlflow_client(record["uri"])
    run = client.get_run(record["run"])
    return run, {
        name: [(point.step, point.value) for point in client.get_metric_history(record["run"], name)]
        for name in run.data.metrics
    }


def of_trackio(folder: Path, project: str = "kjcm") -> list[dict[str, Any]]:
    from trackio.sqlite_storage import SQLiteStorage

    rows: list[dict[str, Any]] = SQLiteStorage.get_logs(project, run_id=(folder / "logs" / "trackio").read_text())
    return rows


@pytest.mark.usefixtures("unrendered")
def test_five_loggers_at_once_have_the_same_points(here: Path, capfd: Out) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from trackio.sqlite_storage import SQLiteStorage

    assert command("train", *SMALL, "data.validation=0.1", f"logger=[{','.join(ALL)}]", "run_dir=run") == 0
    said = capfd.readouterr()
    assert "without it" not in said.out and "Trackio" not in said.out + said.err
    run = here / "run"
    wanted = points(pd.read_csv(run / "logs/csv/version_0/metrics.csv").to_dict("records"))
    assert {"train_loss_step", "val_loss", "epoch", "test_accuracy"} <= set(wanted)
    report = json.loads((run / "report.json").read_text())
    assert list(wanted["test_accuracy"].values()) == pytest.approx([report["metrics"]["accuracy"]])

    events = EventAccumulator(str(run / "logs/tensorboard/version_0")).Reload()
    found = {name: {event.step: event.value for event in events.Scalars(name)} for name in events.Tags()["scalars"]}
    assert found.keys() == wanted.keys()
    for name, curve in wanted.items():
        assert found[name] == pytest.approx(curve, rel=1e-6), name
    assert events.Tags()["tensors"] == ["config/text_summary"]

    tracked, curves = of_mlflow(run)
    assert tracked.info.status == "FINISHED" and tracked.data.params["optim.lr"] == "0.001"
    assert tracked.info.run_name == f"custom-{report['hashes']['run'][:12]}"
    assert {name: dict(curve) for name, curve in curves.items()} == wanted
    assert list((here / "runs" / "mlruns").glob("*/*/meta.yaml"))

    assert points(of_trackio(run)) == wanted
    config = SQLiteStorage.get_run_config("kjcm", tracked.info.run_name)
    assert config["optim"]["lr"] == 0.001 and config["kjcm"]["cohort"] == report["hashes"]["cohort"]

    history = points([row for row in of_run(run).history if "step" in row])
    outcome = {name: curve for name, curve in wanted.items() if name.startswith("test_")}
    assert history.keys() >= wanted.keys() - outcome.keys()
    last = max(wanted["test_accuracy"])
    for name in wanted.keys() - outcome.keys():
        assert history[name] == {step: value for step, value in wanted[name].items() if step != last}, name


def described(folder: Path) -> Description:
    config = {"optim": {"lr": 0.1}, "space": {}, "kjcm": {"run": "a" * 64}, "logger": {"mlflow": {}}}
    return Description(folder, "a" * 12, "k_jcm-aaaaaaaaaaaa", "k_jcm", ("k_jcm", "tiny"), config)


BEGIN: dict[str, Callable[[Path], Any]] = {
    "mlflow": lambda folder: mlflow_run.MlflowRun(described(folder), str(folder.parent / "한글 store"), "night"),
    "trackio": lambda folder: trackio_run.TrackioRun(described(folder), "night", None, None),
}


def curve_of(name: str, folder: Path) -> list[tuple[int, float]]:
    if name == "mlflow":
        return of_mlflow(folder)[1]["loss"]
    return [(row["step"], row["loss"]) for row in of_trackio(folder, "night") if "loss" in row]


@pytest.mark.parametrize("name", BEGIN)
def test_a_resumed_run_has_each_point_once(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "logs").mkdir(parents=True)
    first = BEGIN[name](folder)
    for step in range(6):
        first.log({"loss": 1.0 - step / 10}, step)
    first.save()  # and is killed
    second = BEGIN[name](folder)
    assert name != "mlflow" or of_mlflow(folder)[0].info.status == "RUNNING"
    for step in range(3, 8):
        second.log({"loss": 2.0, "val_loss": 3.0}, step)
    second.end(143)
    assert name != "mlflow" or of_mlflow(folder)[0].info.status == "KILLED"
    assert curve_of(name, folder) == [
        *((step, pytest.approx(1.0 - step / 10)) for step in range(6)), *((step, 2.0) for step in (6, 7)),
    ]  # fmt: skip
    third = BEGIN[name](folder)
    third.log({"val_loss": 4.0}, 5)
    third.log({"val_loss": 4.0}, 8)
    third.end(0)
    if name == "mlflow":
        run, curves = of_mlflow(folder)
        assert run.info.status == "FINISHED" and run.data.params["kjcm.run"] == "a" * 64
        assert curves["val_loss"] == [*((step, 3.0) for step in range(3, 8)), (8, 4.0)]
        assert run.data.tags["kjcm.group"] == "k_jcm"


@pytest.mark.parametrize("name", BEGIN)
def test_a_run_that_begins_anew_is_another_run(name: str, tmp_path: Path) -> None:
    for folder in (tmp_path / "a", tmp_path / "b"):
        (folder / "logs").mkdir(parents=True)
        run = BEGIN[name](folder)
        run.log({"loss": 1.0}, 0)
        run.end(1)
    assert curve_of(name, tmp_path / "a") == curve_of(name, tmp_path / "b") == [(0, 1.0)]
    if name == "mlflow":
        one, other = (of_mlflow(tmp_path / folder)[0].info for folder in "ab")
        assert one.run_id != other.run_id and one.experiment_id == other.experiment_id and one.status == "FAILED"


@pytest.mark.slow
def test_jobs_that_begin_at_once_share_one_experiment(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tests.tracking.test_trackers import BEGIN\n"
        "run = BEGIN['mlflow'](Path(sys.argv[1])); run.log({'loss': 1.0}, 0); run.end(0)"
    )
    children = []
    for number in range(4):
        (tmp_path / str(number) / "logs").mkdir(parents=True)
        children.append(Forked([sys.executable, "-c", program, tmp_path / str(number)], cwd=ROOT))
    assert [child.wait(120) for child in children] == [0] * 4
    infos = [of_mlflow(tmp_path / str(number))[0].info for number in range(4)]
    assert len({info.experiment_id for info in infos}) == 1 and len({info.run_id for info in infos}) == 4


class Recorded:
    """A tracked run that notes its calls, and fails or hangs where it is told to."""

    def __init__(self, fails: tuple[int, ...] = (), hangs: threading.Event | None = None) -> None:
        self.calls: list[Any] = []
        self.fails, self.hangs = fails, hangs

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        if self.hangs:
            self.hangs.wait()
        if step in self.fails:
            raise OSError(28, "No space left on device")
        self.calls.append((dict(metrics), step))

    def save(self) -> None:
        self.calls.append("save")

    def end(self, code: int) -> None:
        self.calls.append(code)


def test_a_call_that_fails_is_left_out_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    run = Recorded(fails=(1, 2))
    tracker = Tracker("mine", lambda: run)
    for step in range(4):
        tracker.log_metrics({"loss": 1.0}, step)
    tracker.save()
    assert run.calls == [({"loss": 1.0}, 0), ({"loss": 1.0}, 3), "save"]
    tracker.finish(1)
    assert run.calls[-1] == 1 and [record.levelname for record in caplog.records] == ["WARNING"]
    assert "mine" in caplog.text and "No space left" in caplog.text


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what kjcm has logged; a thread of W&B's from an earlier test may log at any time."""
    return [record.message for record in caplog.records if record.name == "kjcm"]


def test_a_tracker_that_cannot_begin_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    def begin() -> Recorded:
        raise ValueError("no such project")

    tracker = Tracker("mine", begin)
    tracker.log_metrics({"loss": 1.0}, 0)
    tracker.save()
    tracker.finish(0)
    assert [message.count("no such project") for message in logged(caplog)] == [1]


def test_a_tracker_that_hangs_delays_no_step_and_is_ended_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    free = threading.Event()
    run = Recorded(hangs=free)
    tracker = Tracker("mine", lambda: run, wait=0.2)
    begun = time.monotonic()
    for step in range(1000):
        tracker.log_metrics({"loss": 1.0}, step)
    assert time.monotonic() - begun < 0.2
    tracker.save()
    tracker.save()  # it is not waited for again
    tracker.finish(0)
    assert time.monotonic() - begun < 5 and run.calls[-1] == 0 and len(logged(caplog)) == 1
    free.set()


@pytest.mark.parametrize("name", loggers.EXTRAS)
def test_a_logger_whose_package_is_missing_names_the_extra(
    name: str, here: Path, capfd: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loggers, "find_spec", lambda _: None)
    assert command("train", *SMALL, "trainer.max_epochs=1", f"logger={name}", "run_dir=run") == 1
    assert f"kjcm[{name}]" in capfd.readouterr().err
