"""What a study leaves: rows and their order, counts, importance, and pictures that say what they show."""

import csv
import html
import io
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from matplotlib.figure import Figure as Canvas
from optuna import Study
from optuna.trial import TrialState, create_trial

from kjcm.analysis.content import Estimate
from kjcm.analysis.formats import as_csv
from kjcm.errors import KjcmError
from kjcm.files import write_json
from kjcm.tune.goals import Constraint, Goals
from kjcm.tune.measures import value_of_run
from kjcm.tune.page import conclude, devices_warning, history, importance, importance_of, last_lines, write_all
from kjcm.tune.results import StudyReport, best_of, best_table, record_of, seeds_table, table_of
from kjcm.tune.samplers import AGAIN, SAME, SURPLUS
from kjcm.tune.search import REASON, RUN, SEEDS
from kjcm.tune.space import distributions_of

SPACE = distributions_of({"optim.lr": {"low": 1e-5, "high": 1.0, "log": True}, "seed": [0, 1]})


def about(study: Study, folder: Path, direction: str = "maximize") -> StudyReport:
    how = {"metric": "accuracy", "direction": direction, "sampler": "tpe", "sampler_seed": 0, "pruner": "median"}
    goals = Goals(("accuracy",), (direction,))
    return StudyReport(study, folder, "0" * 64, 9, tuple(SPACE), ("experiment=k_jcm",), True, how, goals, 8)


def add(study: Study, state: TrialState, value: float | None = None, rate: float = 0.01, **attrs: object) -> None:
    steps = {1: 0.1, 2: value or 0.2} if state != TrialState.FAIL else {}
    study.add_trial(
        create_trial(
            state=state, value=value if state == TrialState.COMPLETE else None, params={"optim.lr": rate, "seed": 1},
            distributions=dict(SPACE), user_attrs=attrs, intermediate_values=steps,
        )
    )  # fmt: skip


@pytest.fixture
def study() -> Study:
    made = optuna.create_study(direction="maximize")
    add(made, TrialState.COMPLETE, 0.3, 0.0123456, **{RUN: "a"})
    add(made, TrialState.PRUNED, 0.25)
    add(made, TrialState.FAIL, None, **{REASON: "out of memory"})
    add(made, TrialState.FAIL, None)  # left
    add(made, TrialState.COMPLETE, 0.5, 0.1, **{AGAIN: 3, RUN: "b"})
    add(made, TrialState.FAIL, None, **{SAME: 0})
    add(made, TrialState.FAIL, None, **{SURPLUS: True})
    made.enqueue_trial({"seed": 0})
    add(made, TrialState.RUNNING)
    return made


def test_rows_have_the_best_first_and_no_trial_of_the_values_of_another(study: Study, tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(table_of(about(study, tmp_path))))))
    assert [(row["trial"], row["state"]) for row in rows] == [
        ("4", "complete"), ("0", "complete"), ("1", "pruned"), ("2", "failed"), ("3", "left"), ("8", "running"),
    ]  # fmt: skip
    assert [row["accuracy"] for row in rows] == ["0.5", "0.3", "0.25", "", "", "0.2"]
    assert rows[1]["optim.lr"] == "0.01235" and rows[1]["run"] == "a" and rows[3]["reason"] == "out of memory"
    assert [row["epochs"] for row in rows] == ["2", "2", "2", "", "", "2"]
    turned = optuna.create_study(direction="minimize")
    add(turned, TrialState.COMPLETE, 0.3)
    add(turned, TrialState.COMPLETE, 0.5)
    assert [row[0] for row in table_of(about(turned, tmp_path, "minimize")).rows] == [0, 1]


def test_the_record_counts_and_names_the_best(study: Study, tmp_path: Path) -> None:
    found = record_of(about(study, tmp_path))
    assert found["trials"] == {"complete": 2, "pruned": 1, "failed": 1, "left": 1, "running": 1, "same": 1}
    assert found["best"] == {
        "trial": 4, "accuracy": 0.5, "values": {"optim.lr": 0.1, "seed": 1}, "run": str(tmp_path / "b"),
        "command": "kjcm train experiment=k_jcm optim.lr=0.1 seed=1",
    }  # fmt: skip
    assert best_of(study) == "0.5000 (trial 4)"


def test_each_training_is_listed_once_for_the_trial_that_has_it_last(tmp_path: Path) -> None:
    """Trial 1 was left after its second of three trainings; trial 2 repeats it and has these two and its own."""
    seeds = [{"seed": seed, "run": f"run{seed}", "accuracy": 0.1 * seed} for seed in (1, 2, 3)]
    made = optuna.create_study(direction="maximize")
    add(made, TrialState.COMPLETE, 0.3, 0.1, **{SEEDS: [{"seed": 1, "run": "other", "accuracy": 0.3}]})
    add(made, TrialState.FAIL, None, **{SEEDS: seeds[:2]})
    left = seeds_table(about(made, tmp_path)).rows
    assert [(row[0], row[1], row[-1]) for row in left] == [(0, 1, "other"), (1, 1, "run1"), (1, 2, "run2")]
    add(made, TrialState.COMPLETE, 0.2, **{AGAIN: 1, SEEDS: seeds})
    whole = seeds_table(about(made, tmp_path)).rows
    assert whole == ((0, 1, 0.3, "other"), *((2, seed, 0.1 * seed, f"run{seed}") for seed in (1, 2, 3)))


@pytest.fixture
def limited(tmp_path: Path) -> StudyReport:
    """A study of two seeds a trial, whose best value misses the constraint."""
    made = optuna.create_study(direction="maximize")
    for values, macro in (((0.5, 0.7), 0.3), ((0.8, 0.9), 0.1)):
        trial = made.ask(dict(SPACE))
        trial.set_constraint("f1_macro >= 0.2", 0.2 - macro)
        parts = [{"seed": seed, "run": f"{trial.number}{seed}", "accuracy": value, "f1_macro": macro, "device": f"CPU {value}"}
                 for seed, value in enumerate(values)]  # fmt: skip
        trial.set_user_attr(SEEDS, parts)
        trial.set_user_attr(RUN, parts[0]["run"])
        made.tell(trial, sum(values) / 2)
    add(made, TrialState.PRUNED, 0.99)
    goals = Goals(("accuracy",), ("maximize",), (Constraint("f1_macro", ">=", 0.2),), seeds=(0, 1))
    return replace(about(made, tmp_path), goals=goals)


def test_the_best_trials_have_spread_and_constraints(limited: StudyReport) -> None:
    table = best_table(limited)
    assert [column.name for column in table.columns] == ["trial", "accuracy", "f1_macro >= 0.2", *SPACE]
    (number, accuracy, limit, *_), (other, better, missed, *_) = table.rows
    assert (number, limit, other, missed) == (0, "0.3000, met", 1, "0.1000, missed")
    assert isinstance(accuracy, Estimate) and isinstance(better, Estimate)
    assert (accuracy.mean, accuracy.sd) == pytest.approx((0.6, 0.2 / 2**0.5)) and better.mean == pytest.approx(0.85)
    bound = best_table(replace(limited, goals=replace(limited.goals, errors=1.0)))
    assert bound.columns[2].name == "accuracy, bound" and bound.rows[0][2] == pytest.approx(0.6)  # the trial's value


@pytest.mark.usefixtures("unrendered")
def test_the_page_ends_like_the_command(limited: StudyReport, caplog: pytest.LogCaptureFixture) -> None:
    write_all(limited)
    with caplog.at_level("INFO"):
        conclude(limited)
    logged = [record.getMessage() for record in caplog.records]
    shown = html.unescape((limited.folder / "report.html").read_text(encoding="utf-8"))
    assert logged[-1] == devices_warning(limited) and "CPU 0.5; CPU 0.7; CPU 0.8; CPU 0.9" in logged[-1]
    assert logged[:-1] == last_lines(limited) and "\n".join(last_lines(limited)) in shown and logged[-1] in shown
    assert logged[1] == f"best: trial 0, accuracy 0.6000 ({limited.folder / '00'})"
    assert "0.1000, missed" in shown


def test_without_a_completed_trial(tmp_path: Path) -> None:
    made = optuna.create_study(direction="maximize")
    add(made, TrialState.RUNNING)
    conclude(about(made, tmp_path))  # another process may complete one
    failed = optuna.create_study(direction="maximize")
    add(failed, TrialState.FAIL, None, **{REASON: "x"})
    with pytest.raises(KjcmError, match="No trial of"):
        conclude(about(failed, tmp_path))
    assert record_of(about(failed, tmp_path))["best"] is None and best_of(failed) == "none yet"


def test_importance_finds_what_the_values_depend_on() -> None:
    made = optuna.create_study(direction="maximize")
    for number in range(3):
        add(made, TrialState.COMPLETE, 0.1 * number, 10.0 ** -(number + 1))
    assert importance_of(made) is None  # too few
    made = optuna.create_study(direction="maximize")
    for number in range(30):
        params = {"optim.lr": 10.0 ** -(1 + number / 10), "seed": number % 2}
        made.add_trial(create_trial(value=number % 2 + 0.01 * number, params=params, distributions=dict(SPACE)))
    found = importance_of(made)
    assert found is not None and list(found) == ["seed", "optim.lr"] and found["seed"] > 0.8
    assert sum(found.values()) == pytest.approx(1)
    alike = optuna.create_study(direction="maximize")
    for number in range(6):
        add(alike, TrialState.COMPLETE, 0.5, 10.0 ** -(number / 2 + 0.5))
    assert importance_of(alike) is None


def test_pictures_show_every_trial_and_share(study: Study) -> None:
    drawn = history(study, "accuracy", True)
    assert drawn.data.rows == ((0, 0.3, "complete"), (1, 0.25, "pruned"), (4, 0.5, "complete"))
    canvas = drawn.draw()
    assert isinstance(canvas, Canvas)
    best, done, pruned = canvas.axes[0].lines
    assert best.get_xydata().tolist() == [[0, 0.3], [4, 0.5], [4, 0.5]]
    assert done.get_xydata().tolist() == [[0, 0.3], [4, 0.5]] and pruned.get_xydata().tolist() == [[1, 0.25]]
    assert "SYNTHETIC" in canvas.get_suptitle() and "best is 0.5000" in drawn.alt
    shares = importance({"optim.lr": 0.75, "seed": 0.25}, "accuracy", False)
    axes = shares.draw().axes[0]
    assert [bar.get_width() for bar in axes.patches] == [0.75, 0.25]  # type: ignore[attr-defined]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["optim.lr", "seed"]


def test_a_metric_that_is_no_number_is_a_failure(tmp_path: Path) -> None:
    write_json(tmp_path / "report.json", {"validation": {"accuracy": 0.5}})
    assert value_of_run(tmp_path, "accuracy") == 0.5
    with pytest.raises(KjcmError, match="loss of the validation rows is no number"):
        value_of_run(tmp_path, "loss")
