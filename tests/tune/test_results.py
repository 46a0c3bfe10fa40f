"""What a study leaves: rows and their order, counts, importance, and pictures that say what they show."""

import csv
import io
from pathlib import Path

import optuna
import pytest
from matplotlib.figure import Figure as Canvas
from optuna import Study
from optuna.trial import TrialState, create_trial

from kjcm.analysis.formats import as_csv
from kjcm.errors import KjcmError
from kjcm.files import write_json
from kjcm.tune.goals import Goals
from kjcm.tune.measures import value_of_run
from kjcm.tune.page import history, importance, importance_of
from kjcm.tune.results import StudyReport, best_of, conclude, record_of, table_of
from kjcm.tune.samplers import AGAIN, SAME, SURPLUS
from kjcm.tune.search import REASON, RUN
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
