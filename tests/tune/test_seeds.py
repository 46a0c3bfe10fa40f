"""`kjcm tune` with several seeds a trial, whole: run folders, records, early ends, a stop and the same command again."""

import csv
import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from kjcm.training import train as training
from tests.conftest import command
from tests.tune.test_tune import Run, rows_in, run_folders, search, summary

TWO = ("study=s", "+space.optim.lr=[0.003,0.001]", "seeds_per_trial=2", "trainer.max_epochs=1", "seed=3", "metric=loss")


def trainings_in(folder: Path) -> list[Run]:
    with (folder / "seeds.csv").open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def loss_of(run: Path) -> float:
    value: float = json.loads((run / "report.json").read_text())["validation"]["loss"]
    return value


@pytest.mark.usefixtures("unrendered")
def test_a_stopped_study_goes_on_with_the_seeds_that_are_missing(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It stops as the second seed of the second trial begins; the same command trains this seed alone."""
    train, begun = training.train, []

    def counted(cfg: Any, callbacks: Any = ()) -> None:
        begun.append(cfg.seed)
        if len(begun) == 4:
            raise KeyboardInterrupt
        train(cfg, callbacks=callbacks)

    study = here / "runs" / "s"
    monkeypatch.setattr(training, "train", counted)
    search(*TWO, code=130)
    assert begun == [3, 4, 3, 4] and len(run_folders(study)) == 3
    finished = {run: (study / run / "DONE").stat().st_mtime_ns for run in run_folders(study)}
    search(*TWO)
    assert len(run_folders(study)) == 4
    assert {run: (study / run / "DONE").stat().st_mtime_ns for run in finished} == finished
    rows = [row for row in rows_in(study) if row["state"] == "complete"]
    assert len(rows) == 2
    for row in rows:
        own = [one for one in trainings_in(study) if one["trial"] == row["trial"]]
        values = [loss_of(study / one["run"]) for one in own]
        assert [one["seed"] for one in own] == ["3", "4"] and values[0] != values[1] and row["seeds"] == "2"
        assert [float(one["loss"]) for one in own] == values and row["run"] == own[0]["run"]
        assert float(row["loss"]) == pytest.approx(statistics.mean(values))
        assert float(row["loss_sd"]) == pytest.approx(statistics.stdev(values))
        assert row["epochs"] == "1"
    assert sorted(one["run"] for one in trainings_in(study)) == sorted(run_folders(study))  # each once
    best = summary(study)["best"]
    assert best["command"].startswith("kjcm train -m ") and best["command"].endswith(" seed=3,4")
    assert [one["seed"] for one in best["seeds"]] == [3, 4]
    capfd.readouterr()
    assert command("runs", "runs=runs/s", "group=seed", "columns=[optim.lr]", "out=groups.csv") == 0
    groups = list(csv.DictReader((here / "groups.csv").open(encoding="utf-8-sig", newline="")))
    assert [row["n"] for row in groups] == ["2", "2"] and len({row["optim.lr"] for row in groups}) == 2


@pytest.mark.usefixtures("unrendered")
def test_a_hopeless_trial_ends_between_seeds(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A learning rate that changes nothing is far worse than one that learns; its loss is known after one seed."""
    words = ("study=s", "+space.optim.lr=[0.003,1e-9]", "trainer.max_epochs=2", "seeds_per_trial=3", "metric=loss")
    search(*words, "pruner=asha", "prune_from=50", "prune_after=1", "sampler_seed=1")
    good, bad = rows_in(here / "runs" / "s")
    assert (good["state"], good["seeds"], bad["state"], bad["seeds"]) == ("complete", "3", "pruned", "1")
    assert len(run_folders(here / "runs" / "s")) == 4
    assert float(bad["loss"]) > float(good["loss"]) and bad["loss_sd"] == "" and bad["epochs"] == "2"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("seeds_per_trial=2", "seeds.init=1", "seeds.batches=1", "seeds.dropout=1"), "other keys set every seed"),
        (("seeds_per_trial=2", "+space.seed=[0,1]"), "cannot be searched with seeds_per_trial=2"),
        (("over_seeds=bound",), "over_seeds"),
        (("tail_share=0.5",), "tail_share"),
        (("speed.repeats=2",), "speed"),
        (("metric=f1_tail", "tail_share=1e-6"), "no validation row"),
        (("objectives=[loss,seconds_per_1000_rows]", "metric=loss"), "metric"),
        (("objectives=[loss,seconds_per_1000_rows]", "pruner=asha"), "pruner"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_trained(
    words: tuple[str, ...], said: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    search("+space.optim.lr=[0.001]", *words, code=2)
    assert said in capfd.readouterr().err
    assert not [path for path in here.glob("runs/*") if path.name != ".cache"]
