"""The table of metrics names all that a run measures, and a metric of the user's own is shown wherever metrics are."""

from pathlib import Path

import pytest
import torch

from kjcm.engine.scores import Scores
from kjcm.metrics import METRICS, metric_of, shown
from kjcm.run_folder.listing import frame_of, ordered, over_seeds
from kjcm.run_folder.results import result_lines
from kjcm.run_folder.states import Entry
from kjcm.run_folder.terminal import show
from kjcm.tune.goals import direction_of

OWN = {"matthews_corr": 0.25, "hinge_loss": 1.5}
ENTRIES = [
    Entry(
        Path(f"run-{number}"), "finished", "", "k_jcm", config={"seed": number}, given={"seed": str(number)},
        metrics={"accuracy": 0.5, **OWN, "hinge_loss": 2.0 - number, "validation_matthews_corr": number / 10}, seconds=1.0,
    )
    for number in range(2)
]  # fmt: skip


def test_the_table_has_every_metric_that_a_run_measures() -> None:
    scores = Scores(6)
    scores.update(torch.eye(6), torch.arange(6))
    assert {"loss", *scores.summary()[0]} == set(METRICS)
    assert all(name == metric.name and metric.label for name, metric in METRICS.items())
    assert len({metric.label for metric in METRICS.values()}) == len(METRICS)
    assert [name for name, metric in METRICS.items() if metric.lower_is_better] == ["loss"]


@pytest.mark.parametrize(
    ("name", "lower"), [("matthews_corr", False), ("hinge_loss", True), ("CalibrationError", True)]
)
def test_a_metric_of_the_users_own_has_a_record(name: str, lower: bool) -> None:
    metric = metric_of(name)
    assert (metric.name, metric.kind, metric.lower_is_better) == (name, "value", lower)
    assert direction_of(name, None, [name]) == ("minimize" if lower else "maximize")
    assert direction_of(name, "maximize", [name]) == "maximize"


def test_a_summary_shows_metrics_of_the_users_own_after_ours() -> None:
    assert [metric.name for metric in shown({**OWN, "f1_macro": 0.1, "accuracy": 0.5, "recall_macro": 0.1})] == [
        "accuracy", "f1_macro", *OWN,
    ]  # fmt: skip
    report = {"metrics": {"accuracy": 0.5, **OWN}, "validation": {"loss": 2.0, **OWN}, "n_test": 9,
              "n_test_without_training": 0, "synthetic": False}  # fmt: skip
    assert result_lines(report) == [
        "9 test rows: accuracy 0.5000, matthews corr 0.2500, hinge loss 1.5000",
        "validation: loss 2.0000, matthews corr 0.2500, hinge loss 1.5000",
    ]


def test_the_list_of_runs_shows_and_sorts_metrics_of_the_users_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("kjcm.run_folder.listing.same_but_seeds", lambda *_, **__: "one setting")
    frame = frame_of(ENTRIES)
    show(frame, "2 runs")
    said = capsys.readouterr().out
    assert "test matthews corr" in said and "val matthews corr" in said and "0.2500" in said
    assert list(ordered(frame, "val matthews corr").index) == [1, 0]
    assert list(ordered(frame, "hinge loss")["hinge_loss"]) == [1.0, 2.0]
    means = over_seeds(ENTRIES)
    assert means["hinge_loss_mean"].tolist() == [1.5] and means["n"].tolist() == [2]
    show(means, "1 setting")
    assert "1.5000 ± 0.7071" in capsys.readouterr().out
