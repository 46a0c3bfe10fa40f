"""Runs and reports read back without the package, and figures recomputed from predictions with scikit-learn."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from tests.conftest import ROOT

NONE = "none"  # an empty prediction, for scikit-learn
INTERVAL = "an interval"  # of a cell: a number that only has to lie on its side of the estimate
NOT_RUN = "not run"
MODELS: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "experiments" / "models.yaml").read_text(encoding="utf-8"))
KSCO = pd.read_csv(ROOT / "kjcm" / "ksco" / "ksco7.tsv", sep="\t", dtype=str, keep_default_na=False)
TITLES = dict(zip(KSCO["code"], KSCO["title_ko"], strict=True))
ENGLISH = dict(zip(KSCO["code"], KSCO["title_en"], strict=True))
METRICS = {"Accuracy": "accuracy", "Precision": "precision", "Recall": "recall", "F1": "f1", "Macro F1": "macro"}
Row = dict[str, Any]


@dataclass(frozen=True)
class Finished:
    """A run as its files have it."""

    path: Path

    @cached_property
    def frame(self) -> pd.DataFrame:
        """predictions.parquet; code_1 of a row without prediction is NONE."""
        found = pd.read_parquet(self.path / "predictions.parquet")
        return found.assign(code_1=found["code_1"].fillna(NONE))

    @cached_property
    def cohort(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.path / "cohort.json").read_text(encoding="utf-8"))
        return found

    @cached_property
    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.path / "report.json").read_text(encoding="utf-8"))
        return found

    @cached_property
    def config(self) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load((self.path / "config.yaml").read_text(encoding="utf-8"))
        return found

    @property
    def trained(self) -> dict[str, int]:
        """Group that it can predict -> its training rows."""
        return {group["code"]: group["train"] for group in self.cohort["groups"] if group["train"]}


@dataclass(frozen=True)
class Study:
    """The runs of a study: folder of the survey's files, and folder of all runs."""

    data: Path
    runs: Path

    def of(self, key: str) -> list[Finished]:
        """Return the runs of a model by seed."""
        return finished_runs(self.runs).get(key, [])

    def survey(self) -> pd.DataFrame:
        """Return id, group, text of every row of the survey that has a single code."""
        waves = []
        for wave in ("5", "6"):
            rows = pd.read_csv(self.data / f"wave{wave}.csv", dtype=str)
            rows = rows.assign(id=f"{wave}-" + rows["id"], group=rows["code"].str[:3])
            waves.append(rows[rows["code"] != "2990"] if wave == "5" else rows)
        both = pd.concat(waves, ignore_index=True)
        return both.assign(text=both["workplace"] + "/" + both["position"] + "/" + both["task"])


@cache
def finished_runs(runs: Path) -> dict[str, list[Finished]]:
    found: dict[str, list[Finished]] = {}
    for done in sorted(runs.glob("*/*/DONE")):
        one = Finished(done.parent)
        found.setdefault(one.config["name"], []).append(one)
    return {key: sorted(own, key=lambda one: one.report["seed"]) for key, own in found.items()}


def label(key: str) -> str:
    """Return what tables call a model."""
    return str(MODELS[key]["label"])


def models_of(experiment: str) -> list[str]:
    """Return the models that an experiment shows."""
    found: list[str] = yaml.safe_load((ROOT / "experiments" / f"{experiment}.yaml").read_text(encoding="utf-8"))["runs"]
    return found


def scores(truth: Sequence[str], first: Sequence[str]) -> dict[str, float]:
    """Return accuracy, weighted precision, recall and F1, and macro F1, by scikit-learn."""
    labels = sorted({*truth, *first} - {NONE})
    given: dict[str, Any] = {"labels": labels, "zero_division": 0}
    precision, recall, f1, _ = precision_recall_fscore_support(truth, first, average="weighted", **given)
    macro = precision_recall_fscore_support(truth, first, average="macro", **given)[2]
    accuracy = accuracy_score(truth, first)
    return {"accuracy": accuracy, "precision": precision, "recall": recall, "f1": f1, "macro": macro}


def scores_of(frame: pd.DataFrame) -> dict[str, float]:
    return scores(frame["code"].tolist(), frame["code_1"].tolist())


def by_group(one: Finished) -> pd.DataFrame:
    """Return precision, recall, f1, n_test, n_predicted and n_train of each group that a run can predict."""
    codes = sorted(one.trained)
    truth, first = one.frame["code"].tolist(), one.frame["code_1"].tolist()
    precision, recall, f1, n_test = precision_recall_fscore_support(truth, first, labels=codes, zero_division=0)
    values = {"precision": precision, "recall": recall, "f1": f1, "n_test": n_test}
    counts = {"n_predicted": [first.count(code) for code in codes], "n_train": [one.trained[code] for code in codes]}
    return pd.DataFrame({**values, **counts}, index=codes)


def estimate(name: str, values: Sequence[float], interval: bool = True) -> Row:
    """Return the four cells of an estimate: mean and SD over seeds, and the ends of an interval."""
    end = INTERVAL if interval else None
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {name: float(np.mean(values)), f"{name} sd": sd, f"{name} low": end, f"{name} high": end}


def metric_cells(runs: Sequence[dict[str, float]]) -> Row:
    """Return the cells of METRICS for one model; runs: the scores of each seed."""
    return {
        name: value
        for column, metric in METRICS.items()
        for name, value in estimate(column, [run[metric] for run in runs]).items()
    }


def model_rows(study: Study, experiment: str, row: Callable[[str, list[Finished]], Row]) -> list[Row]:
    """Return one row a model of an experiment: what `row` gives, or 'not run'."""
    return [
        {"Model": label(key), "Seeds": len(own), **row(key, own)}
        if (own := study.of(key))
        else {"Model": label(key), "Seeds": NOT_RUN}
        for key in models_of(experiment)
    ]


def read_csv(file: Path) -> list[dict[str, str]]:
    """Return the rows of a report's CSV file."""
    with file.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def same_rows(found: Sequence[Mapping[str, str]], expected: Sequence[Row]) -> None:
    """Assert that a CSV file has these rows and no other columns; a column that an expected row lacks is empty.

    Args:
        found: the file's rows.
        expected: column -> value: a text or number, None for an empty cell, INTERVAL.
    """
    wanted = dict.fromkeys(name for row in expected for name in row)
    if found:
        assert set(found[0]) == set(wanted)
    assert len(found) == len(expected)
    for number, (cells, row) in enumerate(zip(found, expected, strict=True)):
        for name, cell in cells.items():
            assert _agrees(cell, row.get(name)), f"row {number}, {name}: {cell!r}, not {row.get(name)!r}"
        _require_order(cells)


def _agrees(cell: str, value: Any) -> bool:
    if value is None or (isinstance(value, str) and value != INTERVAL):
        return cell == (value or "")
    try:
        number = float(cell)
    except ValueError:
        return False
    return bool(np.isfinite(number)) if value == INTERVAL else number == _near(float(value))


def _near(value: float) -> Any:
    import pytest

    return pytest.approx(value, rel=1e-9, abs=1e-12)


def _require_order(cells: Mapping[str, str]) -> None:
    """Assert that intervals have their low end below the high one, and hold the accuracy."""
    for name in [name.removesuffix(" low") for name in cells if name.endswith(" low") and cells[name]]:
        low, high = float(cells[f"{name} low"]), float(cells[f"{name} high"])
        assert low <= high, name
        if name.startswith(("Accuracy", "Recall", "Top-")):
            assert low <= float(cells[name]) <= high, name
