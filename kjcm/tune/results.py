"""Write a study's results: study.json, and tables of its trials and their trainings."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna import Study
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from kjcm import __version__
from kjcm.analysis.content import Column, Estimate, Table, Value
from kjcm.analysis.formats import as_csv
from kjcm.errors import counted
from kjcm.files import write_json, write_text
from kjcm.keys.overrides import literal
from kjcm.metrics import metric_of
from kjcm.tune.goals import Constraint, Goals, Seed, mean_of
from kjcm.tune.samplers import SAME, SURPLUS
from kjcm.tune.search import REASON, RUN, SEEDS, is_left
from kjcm.tune.space import values_of
from kjcm.tune.trial_config import train_command

PAGE = "report.html"
BEST = 10  # trials of the table of the best trials
NAMES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}  # others: running


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
        goals: what judges the trials.
        epochs: largest number of epochs of a trial.
    """

    study: Study
    folder: Path
    definition: str
    wanted: int
    keys: tuple[str, ...]
    base: tuple[str, ...]
    synthetic: bool
    how: Mapping[str, Any]
    goals: Goals
    epochs: int


def trials_of(study: Study) -> list[FrozenTrial]:
    """Return the started trials, except those that repeat another trial's values."""
    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state != TrialState.WAITING and not {SAME, SURPLUS} & set(trial.user_attrs)
    ]


def state_of(trial: FrozenTrial) -> str:
    """Return a trial's state: complete, infeasible (it misses a constraint), pruned, failed, left, or running.

    `left` means that its process ended and another trial repeats it.
    """
    if trial.state == TrialState.COMPLETE and not is_feasible(trial):
        return "infeasible"
    return "left" if is_left(trial) else NAMES.get(trial.state, "running")


def is_feasible(trial: FrozenTrial) -> bool:
    """Return whether a completed trial meets all constraints."""
    return all(excess <= 0 for excess in trial.constraints.values())


def best_trials(study: Study) -> list[FrozenTrial]:
    """Return the best trial that meets the constraints; of a Pareto search the front, the first objective's best on top."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not any(map(is_feasible, done)):
        return []
    if len(study.directions) == 1:
        return [study.best_trial]
    sign = -1 if study.directions[0] == StudyDirection.MAXIMIZE else 1
    return sorted(study.best_trials, key=lambda trial: (sign * trial.values[0], trial.number))


def best_of(study: Study) -> str:
    """Return the best value and its trial as text for the log; of a Pareto search the size of the front."""
    best = best_trials(study)
    if not best:
        return "none yet"
    if len(study.directions) > 1:
        return f"{counted(len(best), 'trial')} on the front"
    return f"{value_text(best[0].value)} (trial {best[0].number})"


def value_of(trial: FrozenTrial) -> float | None:
    """Return a completed trial's value, or the last value that any other trial reported."""
    return trial.value if trial.state == TrialState.COMPLETE else trial.intermediate_values.get(trial.last_step or 0)


def seeds_of(trial: FrozenTrial) -> Sequence[Seed]:
    """Return the finished trainings of a trial; trials of earlier versions have none."""
    found: Sequence[Seed] = trial.user_attrs.get(SEEDS, ())
    return found


def value_text(value: float | None) -> str:
    """Return a metric with four decimals."""
    return "" if value is None else f"{value:.4f}"


def command_of(about: StudyReport, trial: FrozenTrial) -> str:
    """Return the command that trains with a trial's values and seeds, and evaluates on the test rows."""
    return train_command(about.base, values_of(trial), about.goals.seeds if about.goals.many_seeds else ())


def counts_of(about: StudyReport) -> dict[str, int]:
    """Return state -> number of trials."""
    states = [state_of(trial) for trial in trials_of(about.study)]
    constrained = ("infeasible",) if about.goals.constraints else ()
    return {state: states.count(state) for state in ("complete", *constrained, "pruned", "failed", "left", "running")}


def counts_text(counts: Mapping[str, int]) -> str:
    """Return the counts as text."""
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "no trials"


def run_of(about: StudyReport, trial: FrozenTrial) -> str:
    """Return the path of a trial's first run folder, '' if the trial has none."""
    name = trial.user_attrs.get(RUN)
    return str(about.folder / name) if name else ""


def write_results(about: StudyReport, importance: Mapping[str, Any] | None = None) -> None:
    """Write study.json, trials.csv, and with several seeds a trial seeds.csv.

    Write again while trials change, so that the last of several parallel processes writes all trials.

    Args:
        about: the study.
        importance: of each key; None while the search runs, because the computation is slow.
    """
    seen = None
    while seen != (now := [trial.state for trial in about.study.get_trials(deepcopy=False)]):
        seen = now
        write_json(about.folder / "study.json", record_of(about, importance))
        tables = [table_of(about), *([seeds_table(about)] if about.goals.many_seeds else [])]
        for table in tables:
            write_text(about.folder / f"{table.key}.csv", "\ufeff" + as_csv(table))


def record_of(about: StudyReport, importance: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the content of study.json."""
    best = [_record(about, trial) for trial in best_trials(about.study)]
    every = about.study.get_trials(deepcopy=False)
    return {
        "study": about.study.study_name,
        "definition": about.definition,
        "synthetic": about.synthetic,
        **about.how,
        "searched": list(about.keys),
        "wanted": about.wanted,
        "trials": {**counts_of(about), "same": sum(SAME in trial.user_attrs for trial in every)},
        **({"front": best} if about.goals.is_pareto else {"best": best[0] if best else None}),
        "importance": importance,
        "versions": {"kjcm": __version__, "optuna": optuna.__version__},
    }


def _record(about: StudyReport, trial: FrozenTrial) -> dict[str, Any]:
    """Return what study.json says of one of the best trials."""
    return {
        "trial": trial.number,
        **dict(zip(about.goals.metrics, trial.values, strict=True)),
        "values": values_of(trial),
        "run": run_of(about, trial),
        "command": command_of(about, trial),
        **({"seeds": list(seeds)} if (seeds := seeds_of(trial)) else {}),
    }


def _ranked(about: StudyReport) -> list[FrozenTrial]:
    """Return all trials: completed trials by the first objective, the front on top, infeasible trials last; then others."""
    goals, best = about.goals, [trial.number for trial in best_trials(about.study)]
    sign = -1 if goals.directions[0] == "maximize" else 1

    def rank(trial: FrozenTrial) -> tuple[bool, bool, bool, float, int]:
        done = trial.state == TrialState.COMPLETE
        value = sign * trial.values[0] if done else 0.0
        on_front = goals.is_pareto and trial.number in best
        return not done, done and not is_feasible(trial), not on_front, value, trial.number

    return sorted(trials_of(about.study), key=rank)


def table_of(about: StudyReport) -> Table:
    """Return all trials as a table, the best first."""
    goals, best = about.goals, [trial.number for trial in best_trials(about.study)]

    def row(trial: FrozenTrial) -> tuple[Value, ...]:
        known, seeds = values_of(trial), seeds_of(trial)
        values = (literal(known[key]) if key in known else None for key in about.keys)
        seconds = trial.duration.total_seconds() if trial.duration else None
        run, reason = trial.user_attrs.get(RUN, ""), trial.user_attrs.get(REASON, "")
        front = ("yes" if trial.number in best else "",) if goals.is_pareto else ()
        found = _objectives(about, trial)
        spread = (len(seeds), _spread(seeds, goals.metrics[0])) if goals.many_seeds else ()
        limits = (mean_of(seeds, name) if len(seeds) == len(goals.seeds) else None for name in _only_limits(goals))
        epochs = max((step for step in trial.intermediate_values if step <= about.epochs), default=None)
        return (trial.number, state_of(trial), *front, *found, *spread, *limits, epochs, *values, seconds, run, reason)

    heads = [Column("trial", "count"), Column("state"), *([Column("front")] if goals.is_pareto else [])]
    heads += [Column(metric, "value") for metric in goals.metrics]
    heads += [Column("seeds", "count"), Column(f"{goals.metrics[0]}_sd", "value")] if goals.many_seeds else []
    heads += [Column(name, "value") for name in _only_limits(goals)]
    heads += [Column("epochs", "count"), *map(Column, about.keys)]
    return Table(
        key="trials",
        title="Trials, the best first",
        columns=(*heads, Column("seconds", "number"), Column("run"), Column("reason")),
        rows=tuple(map(row, _ranked(about))),
        notes=("The metric of an incomplete trial is the last metric that the trial reported.",),
    )


def _objectives(about: StudyReport, trial: FrozenTrial) -> Sequence[float | None]:
    """Return a trial's value of each objective."""
    if not about.goals.is_pareto:
        return [value_of(trial)]
    return trial.values if trial.state == TrialState.COMPLETE else [None] * len(about.goals.metrics)


def _only_limits(goals: Goals) -> list[str]:
    """Return the metrics that only constraints name."""
    return [name for name in goals.names if name not in goals.metrics]


def _spread(seeds: Sequence[Seed], metric: str) -> float | None:
    """Return the standard deviation (n - 1) over seeds."""
    return statistics.stdev(seed[metric] for seed in seeds) if len(seeds) > 1 else None


def seeds_table(about: StudyReport) -> Table:
    """Return the finished trainings of all trials as a table, each once: a trial that repeats another has its trainings."""
    found = {seed["run"]: (trial.number, seed) for trial in trials_of(about.study) for seed in seeds_of(trial)}
    has_device = any("device" in seed for _, seed in found.values())
    heads = (*about.goals.names, "run", *(["device"] if has_device else []))
    measured = tuple(Column(name, "value") for name in about.goals.names)
    rows = sorted((number, seed["seed"], *(seed.get(head) for head in heads)) for number, seed in found.values())
    return Table(
        key="seeds",
        title="Trainings of each trial",
        columns=(Column("trial", "count"), Column("seed", "count"), *measured, *map(Column, heads[len(measured) :])),
        rows=tuple(rows),
    )


def best_table(about: StudyReport) -> Table:
    """Return the best completed trials as a table, or the whole Pareto front: objectives, constraints and values."""
    goals = about.goals
    done = [trial for trial in _ranked(about) if trial.state == TrialState.COMPLETE]
    shown = best_trials(about.study) if goals.is_pareto else done[:BEST]
    heads = [head for metric in goals.metrics for head in _objective_heads(metric, goals)]
    limits = [Column(str(one), "figure") for one in goals.constraints]
    rows = tuple(
        (
            trial.number,
            *(cell for place in range(len(goals.metrics)) for cell in _objective_cells(trial, place, goals)),
            *(_limit_text(trial, one) for one in goals.constraints),
            *(literal(values_of(trial).get(key)) for key in about.keys),
        )
        for trial in shown
    )
    notes = [f"± is the SD (n - 1) over the {len(goals.seeds)} seeds of a trial."] if goals.many_seeds else []
    notes += ["Trials that miss a constraint come last."] if any(not is_feasible(trial) for trial in shown) else []
    labels = " and ".join(metric_of(metric).label for metric in goals.metrics)
    key, title = ("front", f"Pareto front of {labels}") if goals.is_pareto else ("best", f"Best trials by {labels}")
    return Table(key, title, (Column("trial", "count"), *heads, *limits, *map(Column, about.keys)), rows, tuple(notes))


def _objective_heads(metric: str, goals: Goals) -> list[Column]:
    return [Column(metric, "value"), *([Column(f"{metric}, bound", "value")] if goals.errors else [])]


def _objective_cells(trial: FrozenTrial, place: int, goals: Goals) -> list[Value]:
    """Return a completed trial's mean and SD over seeds, and its bound if the bound counts; without seeds the value."""
    seeds, metric = seeds_of(trial), goals.metrics[place]
    if not (goals.many_seeds and seeds):
        return [trial.values[place]]
    return [Estimate(mean_of(seeds, metric), _spread(seeds, metric)), *([trial.values[place]] if goals.errors else [])]


def _limit_text(trial: FrozenTrial, limit: Constraint) -> str:
    """Return a completed trial's metric that a constraint limits, and whether the trial meets the constraint."""
    verdict = "met" if trial.constraints[str(limit)] <= 0 else "missed"
    return f"{value_text(mean_of(seeds_of(trial), limit.metric))}, {verdict}"
