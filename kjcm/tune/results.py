"""Write a study's results: study.json, trials.csv, and a page with its history and the importance of its keys."""

import logging
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna import Study
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from kjcm import __version__
from kjcm.analysis.content import Column, Table, Value
from kjcm.analysis.formats import as_csv
from kjcm.errors import KjcmError
from kjcm.files import write_json, write_text
from kjcm.keys.overrides import literal
from kjcm.reporting.build import write_content
from kjcm.reporting.page import Header, Section, page
from kjcm.tune.figures import history, importance, value_of
from kjcm.tune.samplers import SAME, SURPLUS
from kjcm.tune.search import REASON, RUN, is_left
from kjcm.tune.space import values_of
from kjcm.tune.trial_config import train_command

PAGE = "report.html"
LEAST = 4  # completed trials needed to compute importances
NAMES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}  # others: running

log = logging.getLogger("kjcm")


@dataclass(frozen=True)
class StudyReport:
    """A study and its settings, for the report.

    Attributes:
        study: the study.
        folder: the study's folder, which contains the trials' run folders.
        definition: hash of the settings that define the study.
        wanted: number of trials wanted.
        keys: the config keys searched.
        base: overrides that all trials share.
        synthetic: whether the data are the synthetic twin.
        how: metric, direction, sampler, pruner and their settings.
    """

    study: Study
    folder: Path
    definition: str
    wanted: int
    keys: tuple[str, ...]
    base: tuple[str, ...]
    synthetic: bool
    how: Mapping[str, Any]


def trials_of(study: Study) -> list[FrozenTrial]:
    """Return the started trials, except those that repeat another trial's values."""
    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state != TrialState.WAITING and not {SAME, SURPLUS} & set(trial.user_attrs)
    ]


def state_of(trial: FrozenTrial) -> str:
    """Return the state of a trial: complete, pruned, failed, left (restarted as another trial), or running."""
    return "left" if is_left(trial) else NAMES.get(trial.state, "running")


def best_trial(study: Study) -> FrozenTrial | None:
    """Return the best completed trial, None without one."""
    done = any(trial.state == TrialState.COMPLETE for trial in study.get_trials(deepcopy=False))
    return study.best_trial if done else None


def best_of(study: Study) -> str:
    """Return the best value and its trial as text for the log."""
    best = best_trial(study)
    return "none yet" if best is None else f"{value_text(best.value)} (trial {best.number})"


def value_text(value: float | None) -> str:
    """Return a metric with four decimals."""
    return "" if value is None else f"{value:.4f}"


def conclude(about: StudyReport) -> None:
    """Log the best trial, and the command that trains and evaluates with its values.

    Raises:
        KjcmError: no trial is complete, and none is running.
    """
    counts, best = counts_of(about.study), best_trial(about.study)
    log.info("%s; report in %s", _said(counts), about.folder / PAGE)
    if best is None:
        if counts.get("running"):
            return
        raise KjcmError(
            f"No trial of {about.folder} was completed; trials.csv lists the reasons. Remove the causes, then run the same "
            "command with sweep.retry=failed."
        )
    log.info(
        "best: trial %d, %s %s (%s)", best.number, about.how["metric"], value_text(best.value), _run_of(about, best)
    )
    log.info(
        "to train with its values and evaluate on the test rows:\n  %s", train_command(about.base, values_of(best))
    )


def counts_of(study: Study) -> dict[str, int]:
    """Return state -> number of trials."""
    states = [state_of(trial) for trial in trials_of(study)]
    return {state: states.count(state) for state in ("complete", "pruned", "failed", "left", "running")}


def _said(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "no trials"


def _run_of(about: StudyReport, trial: FrozenTrial) -> str:
    name = trial.user_attrs.get(RUN)
    return str(about.folder / name) if name else ""


def write_results(about: StudyReport, importance: Mapping[str, float] | None = None) -> None:
    """Write study.json and trials.csv.

    Write again while trials change, so that the last of several parallel processes writes all trials.

    Args:
        about: the study.
        importance: see `importance_of`; None while the search runs, because the computation is slow.
    """
    seen = None
    while seen != (now := [trial.state for trial in about.study.get_trials(deepcopy=False)]):
        seen = now
        write_json(about.folder / "study.json", record_of(about, importance))
        write_text(about.folder / "trials.csv", "\ufeff" + as_csv(table_of(about)))


def record_of(about: StudyReport, importance: Mapping[str, float] | None = None) -> dict[str, Any]:
    """Return the content of study.json."""
    best = best_trial(about.study)
    every = about.study.get_trials(deepcopy=False)
    return {
        "study": about.study.study_name,
        "definition": about.definition,
        "synthetic": about.synthetic,
        **about.how,
        "searched": list(about.keys),
        "wanted": about.wanted,
        "trials": {**counts_of(about.study), "same": sum(SAME in trial.user_attrs for trial in every)},
        "best": None
        if best is None
        else {
            "trial": best.number,
            about.how["metric"]: best.value,
            "values": values_of(best),
            "run": _run_of(about, best),
            "command": train_command(about.base, values_of(best)),
        },
        "importance": importance,
        "versions": {"kjcm": __version__, "optuna": optuna.__version__},
    }


def importance_of(study: Study) -> dict[str, float] | None:
    """Return key -> share of the metric's variance that the key explains (fANOVA), largest first.

    Return None with fewer than `LEAST` completed trials, or if all have the same metric.
    """
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(done) < LEAST or len({trial.value for trial in done}) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return {key: float(share) for key, share in found.items()} if all(map(math.isfinite, found.values())) else None


def table_of(about: StudyReport) -> Table:
    """Return all trials as a table: completed trials first, the best on top."""
    sign = -1 if about.how["direction"] == "maximize" else 1

    def place(trial: FrozenTrial) -> tuple[bool, float, int]:
        done = trial.state == TrialState.COMPLETE
        return not done, sign * (trial.value or 0.0) if done else 0.0, trial.number

    def row(trial: FrozenTrial) -> tuple[Value, ...]:
        known = values_of(trial)
        values = (literal(known[key]) if key in known else None for key in about.keys)
        seconds = trial.duration.total_seconds() if trial.duration else None
        run, reason = trial.user_attrs.get(RUN, ""), trial.user_attrs.get(REASON, "")
        return (trial.number, state_of(trial), value_of(trial), trial.last_step, *values, seconds, run, reason)

    metric = Column(about.how["metric"], "value")
    heads = (Column("trial", "count"), Column("state"), metric, Column("epochs", "count"), *map(Column, about.keys))
    return Table(
        key="trials",
        title="Trials, the best first",
        columns=(*heads, Column("seconds", "number"), Column("run"), Column("reason")),
        rows=tuple(map(row, sorted(trials_of(about.study), key=place))),
        notes=("The metric of an incomplete trial is the metric after its last epoch.",),
    )


def write_all(about: StudyReport) -> None:
    """Write the results, and the study's page with its figures and tables, into the study's folder."""
    for package in ("fontTools", "matplotlib"):
        logging.getLogger(package).setLevel(logging.WARNING)
    shares = importance_of(about.study)
    write_results(about, shares)
    sections = [*_of_the_best(about, shares), Section("trials", "Trials", "", [table_of(about)])]
    title = f"Search for hyperparameters: {about.study.study_name}"
    text = page(Header(title, _lead(about), paper=False), about.synthetic, sections)
    for section in sections:
        for content in section.content:
            write_content(about.folder, content)
    write_text(about.folder / PAGE, text)


def _of_the_best(about: StudyReport, shares: Mapping[str, float] | None) -> list[Section]:
    """Return the sections that need a completed trial."""
    best, metric = best_trial(about.study), about.how["metric"]
    if best is None:
        return []
    figures = [history(about.study, metric, about.synthetic)]
    figures += [importance(shares, metric, about.synthetic)] if shares else []
    command = train_command(about.base, values_of(best))
    return [
        Section("best", "The best trial", "", [_values(about, best)], command),
        Section("search", "The search", "", figures),
    ]


def _values(about: StudyReport, best: FrozenTrial) -> Table:
    """Return the values of the best trial."""
    rows = tuple((key, literal(value)) for key, value in values_of(best).items())
    title = f"Trial {best.number}: {about.how['metric']} {value_text(best.value)} of the validation rows"
    return Table("best", title, (Column("key"), Column("value")), rows)


def _lead(about: StudyReport) -> list[str]:
    how = about.how
    return [
        f"Trials: {_said(counts_of(about.study))}, of {about.wanted} wanted; sampler {how['sampler']}, seed "
        f"{how['sampler_seed']}; pruner {how['pruner']}.",
        f"Judged by {how['metric']} of the validation rows ({how['direction']}d). No test row was read. The best of many "
        "trials looks better on the validation rows than on new rows.",
    ]
