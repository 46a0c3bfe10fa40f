"""A Pareto search and a search with constraints, whole; and the measures of a finished model by themselves."""

import csv
import html
import json
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from sklearn.metrics import f1_score

from kjcm.coding.ensemble import coder_of
from kjcm.keys.commands.search import SpeedConfig
from kjcm.survey.rows import Rows, rows_of
from kjcm.tune.goals import Constraint, Goals
from kjcm.tune.measures import Meter, _ready, tail_of
from kjcm.tune.page import _staircase, front
from kjcm.tune.results import StudyReport, best_table
from kjcm.tune.search import SEEDS
from tests.conftest import LEARNS, command, config_of
from tests.tune.test_tune import rows_in, search, summary

NAMES = ("f1_weighted", "f1_tail", "seconds_per_1000_rows")


@pytest.fixture(scope="module")
def rows() -> Rows:
    """The rows of the run `calibrated`."""
    words = ("experiment=k_jcm", *LEARNS, "data.scale=0.04", "data.validation=0.5")
    return rows_of(config_of("train", *words), test=False, cache=None)


def test_the_rare_groups_are_the_smallest_with_their_share_of_the_training_rows(rows: Rows) -> None:
    sizes = {code: rows.learnt.count(code) for code in {*rows.cohort.classes, *rows.sides["validation"]["code"]}}
    tail = tail_of(rows, 0.2)
    assert 0 < sum(sizes[code] for code in tail) <= 0.2 * len(rows.learnt)
    assert max(sizes[code] for code in tail) <= min(size for code, size in sizes.items() if code not in tail)
    assert tail < tail_of(rows, 0.4) and tail_of(rows, 1.0) == set(sizes)


def test_a_finished_model_is_measured_on_the_validation_rows(calibrated: Path, rows: Rows, tmp_path: Path) -> None:
    tail, side = tail_of(rows, 0.4), rows.sides["validation"]
    meter = Meter(side, tail, SpeedConfig("cpu", "32-true", 40, 3), tmp_path)
    found = meter.measure(calibrated, NAMES)
    coder = coder_of(calibrated / "model", None, "auto", "auto", 1.0, compiled=False)
    first = np.array(coder.settings.classes)[coder.probabilities(_ready(coder, side)).argmax(axis=1)]
    validation = json.loads((calibrated / "report.json").read_text())["validation"]
    codes = side["code"].to_numpy(str)
    assert float(np.mean(first == codes)) == pytest.approx(validation["accuracy"], abs=0.01)
    assert found["f1_weighted"] == validation["f1_weighted"]
    expected = f1_score(codes, first, labels=sorted(tail & set(codes)), average="weighted", zero_division=0)
    assert found["f1_tail"] == pytest.approx(expected)
    assert 0 < found["seconds_per_1000_rows"] < 1000 and "CPU" in found["device"] and "32-true" in found["device"]
    whole = Meter(side, tail_of(rows, 1.0), meter.speed, tmp_path).measure(calibrated, ("f1_tail",))
    assert whole == {"f1_tail": pytest.approx(validation["f1_weighted"], abs=0.01)}


@pytest.mark.usefixtures("unrendered")
def test_a_pareto_search_has_a_front(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """At a rate of 1e-9 nothing is learnt, so the loss stays too great."""
    words = (
        "study=s", "+space.optim.lr=[0.003,0.002,1e-9]", "objectives=[f1_weighted,seconds_per_1000_rows]",
        "speed.rows=64", "speed.repeats=1", "constraints={loss: '<=4.7'}",
    )  # fmt: skip
    search(*words)
    study, out = here / "runs" / "s", capfd.readouterr().out
    rows, found = rows_in(study), summary(study)
    done = [row for row in rows if row["state"] == "complete"]
    infeasible = [row for row in rows if row["state"] == "infeasible"]
    assert len(rows) == 3 and [row["optim.lr"] for row in infeasible] == ["1e-09"]
    points = {row["trial"]: (float(row["f1_weighted"]), float(row["seconds_per_1000_rows"])) for row in done}
    best = {
        number for number, (up, across) in points.items()
        if not any(other[0] >= up and other[1] <= across and other != (up, across) for other in points.values())
    }  # fmt: skip
    assert {row["trial"] for row in rows if row["front"] == "yes"} == best
    assert [str(one["trial"]) for one in found["front"]] == [row["trial"] for row in rows[: len(best)]]
    assert found["trials"]["infeasible"] == 1 and "best" not in found and found["pruner"] == "none"
    assert "Pareto front" in out and "device" in found["front"][0]["seeds"][0]
    assert (study / "figures" / "front.png").is_file()
    with (study / "tables" / "front.csv").open(encoding="utf-8-sig", newline="") as stream:
        assert len(list(csv.DictReader(stream))) == len(best)


@pytest.mark.usefixtures("unrendered")
def test_a_study_none_of_whose_trials_meets_the_constraints_is_a_failure(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """With a model that reads answers rather than texts, and the measured metric as the objective."""
    words = (
        "data.scale=0.02",
        "data.validation=0.2",
        "logger=none",
        "tune=none",
        "model=linear",
        "+space.model.C=[1.0]",
    )
    more = ("study=s", "metric=f1_tail", "constraints={seconds_per_1000_rows: '<=1e-9'}", "speed.repeats=1")
    assert command("tune", *words, *more) == 1
    said = capfd.readouterr()
    assert "meets the constraints (seconds_per_1000_rows <= 1e-09)" in said.err and "pruner=median is off" in said.out
    (row,) = rows_in(here / "runs" / "s")
    assert row["state"] == "infeasible" and 0 < float(row["f1_tail"]) <= 1 and row["epochs"] == ""
    assert summary(here / "runs" / "s")["best"] is None
    shown = html.unescape((here / "runs" / "s" / "report.html").read_text(encoding="utf-8"))
    assert "No best trial" in shown and "meets the constraints (seconds_per_1000_rows <= 1e-09)" in shown


def test_the_picture_of_a_front_shows_all_completed_trials(tmp_path: Path) -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    for values, excess in (((0.5, 2.0), 0), ((0.6, 4.0), 0), ((0.4, 3.0), 0), ((0.9, 1.0), 1)):
        trial = study.ask({"model": CategoricalDistribution(["가", "나"])})
        trial.set_constraint("loss <= 1", excess)
        trial.set_user_attr(SEEDS, [{"seed": 0, "run": "a", "loss": 1.0 + excess}])
        study.tell(trial, values)
    goals = Goals(("accuracy", "seconds_per_1000_rows"), ("maximize", "minimize"), (Constraint("loss", "<=", 1.0),))
    about = StudyReport(study, tmp_path, "0" * 64, 4, ("model",), (), True, {}, goals, 2)
    picture = front(about)
    assert picture.data.rows == ((0, 0.5, 2.0, "yes"), (1, 0.6, 4.0, "yes"), (2, 0.4, 3.0, ""), (3, 0.9, 1.0, ""))
    others, infeasible, best, line = picture.draw().axes[0].lines
    assert others.get_xydata().tolist() == [[3, 0.4]] and infeasible.get_xydata().tolist() == [[1, 0.9]]
    assert best.get_xydata().tolist() == [[2, 0.5], [4, 0.6]]
    assert line.get_xydata().tolist() == _staircase([(2, 0.5), (4, 0.6)], better_left=True).tolist()
    assert [row[:4] for row in best_table(about).rows] == [(1, 0.6, 4.0, "1.0000, met"), (0, 0.5, 2.0, "1.0000, met")]


@pytest.mark.parametrize(
    ("ends", "better_left", "corner"),
    [([(2, 0.5), (4, 0.6)], True, [4, 0.5]), ([(2, 0.6), (4, 0.5)], False, [2, 0.5])],
)
def test_the_line_of_a_front_has_its_corners_where_no_trial_is_better(
    ends: list[tuple[float, float]], better_left: bool, corner: list[float]
) -> None:
    line = _staircase(ends, better_left=better_left).tolist()
    assert line[0] == list(ends[0]) and line[-1] == list(ends[1]) and corner in line
    assert all(x == corner[0] or y == corner[1] for x, y in line)
