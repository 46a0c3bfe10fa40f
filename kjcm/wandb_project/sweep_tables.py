"""The tables of a report of a sweep: settings with means over seeds, overrides, and confusions; no text of an answer."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from kjcm.analysis.content import Column, Estimate, Table, Value
from kjcm.analysis.findings import confused_pairs, major_confusion
from kjcm.analysis.selection import Run
from kjcm.comparison.sides import settings_of
from kjcm.errors import ConfigError, counted
from kjcm.ksco.classification import Classification, load_classification
from kjcm.metrics import SUMMARY
from kjcm.run_folder.contents import recorded_data, run_predictions
from kjcm.run_folder.listing import VALIDATED, record_of
from kjcm.run_folder.states import given_by, metrics_of

MOST = 100  # settings of a table
PAIRS = 20  # lines of the commonest errors
MAJORS = 30  # most groups of a confusion matrix; a classification without major groups has more
# an absolute path in an override's value; no relative path, no address like https://...
PATH = re.compile(
    r"""(?:^|(?<=[=,:\[{('"])|(?<=[,:] ))(?!(?<=:)//)(?:(?:file:|~[\w.-]*)?/|[A-Za-z]:[/\\])"""
    r"""(?:(?! [+~]*[\w./@-]+=)[^,\[\]{}'"])+"""  # up to the next override
)


@dataclass(frozen=True)
class Setting:
    """Finished runs that differ only in their seeds.

    Attributes:
        runs: by seed.
    """

    runs: tuple[Run, ...]

    @property
    def first(self) -> Run:
        """Return the run with the lowest seed."""
        return self.runs[0]

    @cached_property
    def metrics(self) -> dict[str, Estimate]:
        """Metric -> mean and SD (n - 1) over the runs; validation metrics with the prefix `validation_`."""
        found = [metrics_of(run.report) for run in self.runs]
        return {name: _estimate([one[name] for one in found]) for name in found[0] if all(name in one for one in found)}

    @cached_property
    def overrides(self) -> dict[str, str]:
        """Key -> value of the overrides, without seeds and without where and how the runs happened."""
        return {key: value for key, value in given_by(self.first.words).items() if not key.startswith("seed")}

    def shown(self, key: str) -> str:
        """Return an override as the report shows it, without this machine's folders."""
        return f"{key}={without_folders(self.overrides[key])}"


def without_folders(text: str) -> str:
    """Return a text with only the last name of each absolute path."""
    return PATH.sub(lambda path: re.split(r"[/\\]", path[0].rstrip("/\\"))[-1], text)


def _estimate(values: Sequence[float]) -> Estimate:
    return Estimate(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None)


def ranked(place: str, metric: str | None) -> tuple[list[Setting], str | None]:
    """Return the settings of a sweep, the best first, and the metric that ranks them; unranked, None without one.

    Args:
        place: a sweep's folder, a run folder, or a folder that contains runs.
        metric: None: the first of VALIDATED that a run has; test rows rank settings only if the user names their metric.

    Raises:
        ConfigError: no run has the metric.
        KjcmError: there is no finished run, or a run is damaged.
    """
    settings = [Setting(runs) for runs in settings_of([place])]
    known = sorted({name for setting in settings for name in setting.metrics})
    if metric is not None and metric not in known:
        raise ConfigError(f"metric={metric}: no run has this metric. There are {', '.join(known)}.")
    metric = metric or next((name for name in VALIDATED if name in known), None)
    if metric is None:
        return settings, None
    sign = 1 if record_of(metric).lower_is_better else -1
    last = float("inf")  # for a setting without the metric

    def rank(setting: Setting) -> float:
        found = setting.metrics.get(metric)
        return last if found is None else sign * found.mean

    return sorted(settings, key=rank), metric


def setting_table(settings: Sequence[Setting], metric: str | None) -> Table:
    """Return one line per setting: the overrides in which settings differ, number of runs, and metrics over seeds."""
    known = {name for setting in settings for name in setting.metrics}
    wanted = dict.fromkeys(([metric] if metric else []) + [*VALIDATED, *SUMMARY])
    names = [name for name in wanted if name in known]
    rows: list[tuple[Value, ...]] = [
        (number, setting.first.name, _differing(setting, settings), len(setting.runs), *map(setting.metrics.get, names))
        for number, setting in enumerate(settings[:MOST], 1)
    ]
    columns = (
        Column("", "count"), Column("name"), Column("overrides that differ"), Column("runs", "count"), *map(_column, names),
    )  # fmt: skip
    notes = ["Mean ± SD (n - 1) over the runs of a setting, which differ only in their seeds."]
    if (more := len(settings) - MOST) > 0:
        notes.append(f"{counted(more, 'more setting')}.")
    how = (
        f"Sorted by {_column(metric).name}, best first." if metric else "Not ranked: the runs have no validation rows."
    )
    return Table("settings", "Means over seeds", columns, tuple(rows), (*notes, how))


def _column(metric: str) -> Column:
    record, lead = record_of(metric), "validation " if metric.startswith("validation_") else "test "
    return Column(lead + record.label, record.kind)


def _differing(setting: Setting, settings: Sequence[Setting]) -> str:
    own = setting.overrides
    return ", ".join(
        setting.shown(key) for key, value in own.items() if any(one.overrides.get(key) != value for one in settings)
    )


def confusion_tables(setting: Setting) -> list[Table]:
    """Return the confusion of major groups and the commonest errors on the test rows, summed over the runs of a setting."""
    runs = [run for run in setting.runs if run.report.get("n_test")]
    if not runs:
        return []
    rows = pd.concat([run_predictions(run.path, ["code", "code_1"]) for run in runs], ignore_index=True)
    named = _classification(setting.first)
    note = f"Setting 1: test rows{f', summed over {len(runs)} runs' if len(runs) > 1 else ''}."
    matrix = major_confusion(rows, named)
    tables = []
    if len(matrix) <= MAJORS:
        lines: list[tuple[Value, ...]] = [
            (f"{code} {_title(named, code)}".strip(), *map(int, line))
            for code, line in zip(matrix.index, matrix.to_numpy(), strict=True)
        ]
        columns = (Column("true \\ predicted"), *(Column(str(code), "count") for code in matrix.columns))
        tables.append(Table("confusion", "Confusion of major groups", columns, tuple(lines), (note,)))
    pairs = confused_pairs(rows, named, PAIRS)
    errors: list[tuple[Value, ...]] = [
        (code, _title(named, code), predicted, _title(named, predicted), count, share)
        for code, predicted, count, share in zip(
            *(pairs[name].tolist() for name in ("code", "predicted", "rows", "share")), strict=True
        )
    ]
    columns = (
        Column("code"), Column("title"), Column("predicted"), Column("title of predicted"), Column("rows", "count"),
        Column("of the code's rows", "percent"),
    )  # fmt: skip
    tables.append(Table("pairs", "Commonest errors", columns, tuple(errors), (note,)))
    return tables


def _title(named: Classification, code: str) -> str:
    return named.title(code, "en") or named.title(code)


def _classification(run: Run) -> Classification:
    """Return the run's classification, with the titles that its report has."""
    _, node = recorded_data(run.path, run.config, own=False)
    path = node.path if node.path and Path(node.path).is_file() else None
    named = load_classification(node.name, path)
    titles = {row["code"]: row["title"] for row in run.report["per_class"]}
    return replace(named, titles={**titles, **named.titles})
