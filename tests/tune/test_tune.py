"""`kjcm tune`, whole: trials as run folders, pruning, failures, kills, several processes, and test rows left alone."""

import csv
import errno
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from optuna import Study, load_study
from optuna.trial import TrialState

from kjcm.ksco.classification import load_classification
from kjcm.run_folder.lease import holder_of
from kjcm.run_folder.states import state_of
from kjcm.survey.cohort import Cohort, build_cohort
from kjcm.survey.responses import Source, table_source
from kjcm.survey.twin import synthetic_source
from kjcm.tune.search import storage_of
from tests.conftest import COLUMNS, ROOT, SMALL, command, config_of
from tests.forking import Forked

WORDS = (
    "tune", "experiment=k_jcm", *SMALL, "logger=none", "tune=none", "sampler=grid", "pruner=none",
    "data.validation=0.2",
)  # fmt: skip
Run = dict[str, str]


def search(*words: object, code: int = 0) -> None:
    assert command(*WORDS, *words) == code


def rows_in(folder: Path) -> list[Run]:
    with (folder / "trials.csv").open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def summary(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "study.json").read_text())
    return found


def opened(folder: Path) -> Study:
    return load_study(study_name=folder.name, storage=storage_of(None, folder))


def run_folders(folder: Path) -> set[str]:
    return {file.parent.name for file in folder.glob("*/identity.json")}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of four trials, two of which fail; tests must not change it."""
    folder = tmp_path_factory.mktemp("made")
    search("study=first", f"runs={folder}", "+space.optim.lr=[0.003,0.001]", "+space.model.max_length=[32,4096]")
    return folder / "first"


def test_each_trial_is_an_ordinary_run_without_a_test(made: Path) -> None:
    done = [row for row in rows_in(made) if row["state"] == "complete"]
    assert len(done) == 2
    for row in done:
        run = made / row["run"]
        assert (run / "DONE").is_file() and not (run / "predictions.parquet").exists()
        report = json.loads((run / "report.json").read_text())
        assert report["metrics"] == {} and report["validation"]["f1_weighted"] == float(row["f1_weighted"])
        assert f"optim.lr={row['optim.lr']}" in (run / "hydra" / "overrides.yaml").read_text()
        assert row["epochs"] == "2" and float(row["seconds"]) > 0


def test_a_failed_trial_has_its_reason_and_the_others_go_on(made: Path) -> None:
    rows = rows_in(made)
    assert [row["state"] for row in rows] == ["complete"] * 2 + ["failed"] * 2
    for row in rows[2:]:
        assert row["model.max_length"] == "4096" and "max_length" in row["reason"] and row["f1_weighted"] == ""
        assert state_of(made / row["run"]) == ("failed", row["reason"])


def test_what_the_study_says_of_itself(made: Path) -> None:
    found, rows = summary(made), rows_in(made)
    assert found["trials"] == {"complete": 2, "pruned": 0, "failed": 2, "left": 0, "running": 0, "same": 0}
    best = max(rows[:2], key=lambda row: float(row["f1_weighted"]))
    assert rows[0] == best and found["best"]["trial"] == int(best["trial"])
    assert found["best"]["f1_weighted"] == float(best["f1_weighted"]) and found["best"]["run"].endswith(best["run"])
    assert found["best"]["values"] == {"model.max_length": 32, "optim.lr": float(best["optim.lr"])}
    assert found["synthetic"] and found["importance"] is None
    page = (made / "report.html").read_text()
    assert (
        "SYNTHETIC" in page and found["best"]["command"].partition(" ")[2] in page and 'alt="f1_weighted of 2' in page
    )
    assert (made / "figures" / "history.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_of_the_best_makes_the_same_run_with_a_test(made: Path, here: Path) -> None:
    from kjcm.run_folder.folder import identity_of

    program, *words = shlex.split(summary(made)["best"]["command"])
    assert (program, words[0]) == ("kjcm", "train")
    assert command(*words, "--cfg", "job") == 0
    config = config_of("train", *words[1:])
    assert config.evaluate is True and config.name == "k_jcm"
    own = json.loads((made / Path(summary(made)["best"]["run"]).name / "identity.json").read_text())
    assert identity_of(asdict(config)).hash != own["hash"]
    assert identity_of(asdict(replace(config, evaluate=False))).hash == own["hash"]


@pytest.mark.usefixtures("unrendered")
def test_a_study_that_has_its_trials_trains_nothing_more(
    made: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("kjcm.training.train.train", never)
    before = (made / "trials.csv").read_text()
    search("study=first", f"runs={made.parent}", "+space.optim.lr=[0.003,0.001]", "+space.model.max_length=[32,4096]")
    assert (made / "trials.csv").read_text() == before
    assert "kjcm train experiment=k_jcm" in capfd.readouterr().out


@pytest.mark.usefixtures("unrendered")
def test_no_trial_is_begun_after_its_hours_and_the_same_command_goes_on(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for done in (1, 2):
        search("study=s", "+space.seed=[0,1]", "hours=1e-9")
        assert "hours=1e-09 have passed" in capfd.readouterr().out
        assert summary(here / "runs" / "s")["trials"]["complete"] == done
    search("study=s", "+space.seed=[0,1]", "hours=1e-9")
    assert "have passed" not in capfd.readouterr().out
    search("study=s", "+space.seed=[0,1]", "hours=0", code=2)
    assert "hours=0" in capfd.readouterr().err


@pytest.mark.usefixtures("unrendered")
def test_an_unpromising_trial_is_ended_early(here: Path) -> None:
    search(
        "study=s", "trainer.max_epochs=3", "pruner=median", "prune_after=1", "prune_from=2", "sampler_seed=1",
        "+space.optim.lr=[0.003,1e-9]", "metric=loss", "logger=csv",
    )  # fmt: skip
    good, bad = rows_in(here / "runs" / "s")
    assert (good["trial"], good["optim.lr"], good["state"], good["epochs"]) == ("0", "0.003", "complete", "3")
    assert (bad["trial"], bad["optim.lr"], bad["state"], bad["epochs"]) == ("1", "1e-09", "pruned", "2")
    assert float(bad["loss"]) > float(good["loss"])
    run = here / "runs" / "s" / bad["run"]
    logged = pd.read_csv(run / "logs" / "csv" / "version_0" / "metrics.csv")["val_loss"].dropna()
    assert len(logged) == 2 and float(bad["loss"]) == pytest.approx(logged.iloc[-1], rel=1e-6)
    assert state_of(run) == ("pruned", f"ended after epoch 2 by pruner=median: loss {float(bad['loss']):.4f}")
    assert summary(here / "runs" / "s")["trials"]["pruned"] == 1


def table(file: Path) -> pd.DataFrame:
    """Write the twin's rows as a plain table, and return it."""
    source = synthetic_source(0.02, 0, COLUMNS, load_classification("ksco7"))
    rows = cohort_of(source).rows
    names = [f"r{number}" for number in range(len(rows))]
    frame = pd.DataFrame({"id": names, "task": rows["text"], "code": rows["code"]})
    frame.to_csv(file, index=False)
    return frame


def cohort_of(source: Source, validation: float = 0.0) -> Cohort:
    return build_cohort(
        source, load_classification("ksco7"), level=3, cutoff=10, split_seed=0, train_share=0.7, train_fraction=1.0,
        validation=validation, drop_invalid=False,
    )  # fmt: skip


@pytest.mark.usefixtures("unrendered")
def test_the_test_rows_are_never_read(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other texts and codes in them change nothing, to the bit; and who asks for them gets an error."""
    asked, side = set(), Cohort.side

    def watched(self: Cohort, name: str) -> pd.DataFrame:
        asked.add(name)
        assert name != "test", "the test rows are asked for"
        return side(self, name)

    frame = table(here / "a.csv")
    columns = {**COLUMNS, "workplace": None, "position": None}
    is_test = frame["id"].isin(cohort_of(table_source("a.csv", None, columns), 0.2).side("test")["id"])
    assert 0.25 < is_test.mean() < 0.35
    poisoned = frame.copy()
    poisoned.loc[is_test, "task"] = "poison " + frame.loc[is_test, "id"]
    poisoned.loc[is_test, "code"] = frame.loc[is_test, "code"].sample(frac=1, random_state=0).to_numpy()
    poisoned.to_csv(here / "b.csv", index=False)

    words = [word for word in WORDS if not word.startswith("data.scale")]
    words += [
        "data=table",
        "data.columns.workplace=null",
        "data.columns.position=null",
        "+space.optim.lr=[0.003,0.001]",
    ]
    monkeypatch.setattr(Cohort, "side", watched)
    for name in "ab":
        assert command(*words, f"study={name}", f"data.path={name}.csv") == 0
    assert asked == {"train", "validation"}
    own, other = rows_in(here / "runs" / "a"), rows_in(here / "runs" / "b")
    assert len(own) == 2
    for one, two in zip(own, other, strict=True):
        assert one["run"] != two["run"]  # the file counts with its content
        files = [here / "runs" / name / row["run"] / "model" for name, row in (("a", one), ("b", two))]
        for file in ("model.safetensors", "kjcm.json"):
            assert (files[0] / file).read_bytes() == (files[1] / file).read_bytes()
        pieces = [json.loads((file / "tokenizer.json").read_text())["model"] for file in files]
        assert pieces[0] == pieces[1]
        for row in (one, two):
            row.pop("run"), row.pop("seconds")
        assert one == two and one["state"] == "complete"


def started(folder: Path, *words: str) -> "subprocess.Popen[str]":
    return Forked(
        [sys.executable, "-m", "kjcm", *WORDS, "trainer.save_every=0", *words], cwd=folder, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def at_a_checkpoint(study: Path, several: list["subprocess.Popen[str]"]) -> int:
    """Wait until all processes are at work on the study, and return one (its place) that has a run with a checkpoint."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for one in several:
            assert one.poll() is None, one.communicate()
        if len(list((study / "workers").glob("*"))) == len(several):
            for run in {file.parents[1] for file in study.glob("*/checkpoints/step-*.ckpt")}:
                if (holder := holder_of(run)) and not holder.released:
                    return [one.pid for one in several].index(holder.pid)
        time.sleep(0.005)
    raise AssertionError("no process made a checkpoint in 120 s")


@pytest.mark.slow
def test_two_processes_share_a_study_and_one_takes_up_what_the_other_left(here: Path) -> None:
    words = ("study=s", "+space.optim.lr=[0.001,0.002,0.003]", "trainer.max_epochs=4")
    study = here / "runs" / "s"
    several = [started(here, *words) for _ in range(2)]
    killed = several.pop(at_a_checkpoint(study, several))
    killed.kill()
    killed.communicate()
    (other,) = several
    said = other.communicate(timeout=300)
    assert other.returncode == 0, said
    rows = rows_in(study)
    assert sorted(row["state"] for row in rows) == ["complete"] * 3 + ["left"]
    assert {row["optim.lr"] for row in rows if row["state"] == "complete"} == {"0.001", "0.002", "0.003"}
    assert len(run_folders(study)) == 3
    (left,) = (row for row in rows if row["state"] == "left")
    assert "resuming" in (study / left["run"] / "train.log").read_text()
    told = [trial.intermediate_values for trial in opened(study).get_trials(states=(TrialState.COMPLETE,))]
    assert [sorted(values) for values in told] == [[1, 2, 3, 4]] * 3  # of the epochs before the kill too
    (again,) = (row for row in rows if row["state"] == "complete" and row["run"] == left["run"])
    assert again["optim.lr"] == left["optim.lr"] and again["epochs"] == "4"


@pytest.mark.slow
def test_told_to_leave_it_exits_with_its_code_and_the_trial_goes_on_later(here: Path) -> None:
    words = ("study=s", "+space.optim.lr=[0.003]", "trainer.max_epochs=4", "storage=sqlite:///study.db")
    child = started(here, *words)
    at_a_checkpoint(here / "runs" / "s", [child])
    child.send_signal(signal.SIGTERM)
    said = child.communicate(timeout=120)
    assert child.returncode == 128 + signal.SIGTERM, said
    assert "the same command again to resume" in said[1] and "Traceback" not in said[1]
    search("trainer.save_every=0", *words)
    rows = rows_in(here / "runs" / "s")
    assert [row["state"] for row in rows] == ["complete", "left"] and rows[0]["run"] == rows[1]["run"]
    assert "resuming" in (here / "runs" / "s" / rows[0]["run"] / "train.log").read_text()
    assert (here / "study.db").is_file() and not (here / "runs" / "s" / "journal.log").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("metric=loss", "direction=maximize"), "direction=minimize"),
        (("name=x",), "`kjcm tune` sets these keys"),
        (("optim.lr=0.1",), "both set and searched"),
        (("trainer=ddp",), "on one device"),
        (
            ("+space.optim.weight_decay=[0.1,-1]",),
            "space, optim.weight_decay=-1: optim: torch.optim.Adam refuses its arguments",
        ),
        (("+space.optim.speed=[1]",), "space, optim.speed=1: optim.speed: torch.optim.Adam has no such argument"),
        (("+space.model=[nosuch]",), "space, model=nosuch: "),
        (("+space.model=[null]",), "space, model=null: "),
        (("+space.model.shape.x.y=[1]",), "no key model.shape.x.y"),
        (("+space.seeds.init=[a]",), "space, seeds.init=a: Value 'a'"),
        (("+space.schedule.warmup={low: 0, high: 0.5, step: 1e-300}",), "space, schedule.warmup: step"),
        (("study=a/b",), "study=a/b: must be"),
        (("data.validation=0",), "data.validation=0.1"),
        (("sampler=grid", "+space.schedule.warmup={low:0.1,high:0.2}"), "choices or a step for schedule.warmup"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_trained(
    words: tuple[str, ...], said: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    search("+space.optim.lr=[0.001]", *words, code=2)
    assert re.search(re.escape(said), capfd.readouterr().err)
    assert not [path for path in here.glob("runs/*") if path.name != ".cache"]


@pytest.mark.usefixtures("unrendered")
def test_a_study_without_a_completed_trial_is_a_failure_that_can_be_tried_again(
    here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    words = ("study=s", "+space.seed=[0]")
    with monkeypatch.context() as patched:
        patched.setattr("kjcm.training.train.train", full)
        search(*words, code=1)
    assert "No trial of runs/s was completed" in capfd.readouterr().err
    (row,) = rows_in(here / "runs" / "s")
    assert row["state"] == "failed" and row["reason"].startswith("No space left on device")
    search(*words, code=1)  # it is not begun again unasked
    search(*words, "sweep.retry=failed")
    assert [row["state"] for row in rows_in(here / "runs" / "s")] == ["complete", "failed"]
    assert "sweep" not in summary(here / "runs" / "s")["best"]["command"]


def test_a_folder_of_other_runs_is_no_study(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "runs" / "k_jcm" / "0123").mkdir(parents=True)
    search("study=k_jcm", "+space.seed=[0]", code=2)
    assert "runs/k_jcm contains no study" in capfd.readouterr().err


def test_ranks_of_one_job_and_a_missing_extra_are_told(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        patched.setenv("WORLD_SIZE", "2")
        search("+space.optim.lr=[0.001]", code=2)
        assert "several jobs with one process each" in capfd.readouterr().err
    monkeypatch.setattr("kjcm.tune.tune.find_spec", lambda _: None)
    search("+space.optim.lr=[0.001]", code=1)
    assert "pip install 'kjcm[tune]'" in capfd.readouterr().err
