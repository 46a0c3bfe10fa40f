"""A study's page and last lines: best trials, each trial's metric, the Pareto front, the importance of each key."""

import itertools
import logging
import math
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from optuna import Study
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.study import StudyDirection
from optuna.trial import TrialState

from kjcm.analysis.content import Column, Figure, Table
from kjcm.analysis.formats import print_table
from kjcm.errors import KjcmError
from kjcm.files import write_text
from kjcm.metrics import metric_of
from kjcm.plot.style import BLUE, GREY, INK, ORANGE, canvas, name_points, picture
from kjcm.reporting.build import write_content
from kjcm.reporting.page import Header, Section, page
from kjcm.tune.results import (
    PAGE,
    StudyReport,
    best_table,
    best_trials,
    command_of,
    counts_of,
    counts_text,
    is_feasible,
    run_of,
    seeds_of,
    seeds_table,
    state_of,
    table_of,
    trials_of,
    value_of,
    value_text,
    write_results,
)

LEAST = 4  # completed trials needed to compute importances
NAMED = 12  # trials of the front that the picture names
STEPS = 60  # points of each line between two trials of the front, which the names keep clear of

log = logging.getLogger("kjcm")


def importance_of(study: Study, objective: int = 0) -> dict[str, float] | None:
    """Return key -> share of an objective's variance that the key explains (fANOVA), largest first.

    Return None with fewer than `LEAST` completed trials, or if all have the same value.
    """
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(done) < LEAST or len({trial.values[objective] for trial in done}) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = get_param_importances(
            study, evaluator=FanovaImportanceEvaluator(seed=0), target=lambda trial: trial.values[objective]
        )
    return {key: float(share) for key, share in found.items()} if all(map(math.isfinite, found.values())) else None


def history(study: Study, metric: str, synthetic: bool) -> Figure:
    """Return a picture of the trials' metrics in order, with the best metric so far."""
    best = max if study.direction == StudyDirection.MAXIMIZE else min
    points: dict[str, list[tuple[int, float]]] = {"complete": [], "pruned": [], "infeasible": []}
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)):
        value = value_of(trial)
        if value is not None:
            points[state_of(trial)].append((trial.number, value))
    done, pruned, infeasible = points.values()
    so_far = [(number, best(value for _, value in done[: place + 1])) for place, (number, _) in enumerate(done)]

    last = max(number for number, _ in done + pruned + infeasible)

    @picture
    def draw() -> Canvas:
        figure, axes = canvas(3.2, synthetic)
        axes.step(
            *zip(*so_far, (last, so_far[-1][1]), strict=True),
            where="post",
            color=ORANGE,
            linewidth=1.2,
            label="best so far",
        )
        axes.plot(*zip(*done, strict=True), "o", color=BLUE, markersize=5, label="completed")
        if pruned:
            (hollow,) = axes.plot(
                *zip(*pruned, strict=True), "o", color=GREY, markersize=5, label="pruned: its last metric"
            )
            hollow.set_markerfacecolor("white")
        if infeasible:
            axes.plot(*zip(*infeasible, strict=True), "x", color=GREY, markersize=5, label="infeasible")
        axes.set(xlabel="trial", ylabel=f"{metric_of(metric).label} of the validation rows")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(0.03, 0.08)
        axes.grid(axis="y")
        figure.legend(loc="outside upper right", ncols=4)
        return figure

    rows = sorted((*point, state) for state, some in points.items() for point in some)
    data = Table(
        "history", "History", (Column("trial", "count"), Column(metric, "value"), Column("state")), tuple(rows)
    )
    counts = f"{len(done)} completed, {len(pruned)} pruned and {len(infeasible)} infeasible trials"
    alt = f"{metric} of {counts}; the best is {so_far[-1][1]:.4f}."
    return Figure("history", f"{metric} of each trial, in the order in which they started", draw, alt, data)


def front(about: StudyReport) -> Figure:
    """Return a picture of the completed trials by both objectives, with the Pareto front."""
    up, across = about.goals.metrics
    done = about.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    best = sorted(best_trials(about.study), key=lambda trial: trial.values[1])
    others = [trial for trial in done if is_feasible(trial) and trial not in best]
    infeasible = [trial for trial in done if not is_feasible(trial)]

    @picture
    def draw() -> Canvas:
        figure, axes = canvas(4.2, about.synthetic)
        for trials, mark, colour, label in (
            (others, "o", GREY, "other trials"),
            (infeasible, "x", GREY, "infeasible"),
            (best, "o", ORANGE, "Pareto front"),
        ):
            if trials:
                points = [trial.values[::-1] for trial in trials]
                axes.plot(*zip(*points, strict=True), mark, color=colour, markersize=5, label=label)
        line = _staircase([trial.values[::-1] for trial in best], better_left=about.goals.directions[1] == "minimize")
        axes.plot(*line.T, color=ORANGE, linewidth=0.8)
        axes.set(xlabel=metric_of(across).label, ylabel=metric_of(up).label)
        axes.margins(0.08, 0.1)
        axes.grid()
        figure.legend(loc="outside upper right", ncols=3)
        names = [(place, f"trial {trial.number}") for place, trial in enumerate(best)]
        dots = np.array([trial.values[::-1] for trial in (*best, *others, *infeasible)])
        name_points(axes, np.concatenate([dots, line]), names, NAMED)
        return figure

    heads = (Column("trial", "count"), Column(up, "value"), Column(across, "value"), Column("on the front"))
    rows = tuple((trial.number, *trial.values, "yes" if trial in best else "") for trial in done)
    alt = f"{up} against {across} of {len(done)} completed trials, {len(best)} of them on the Pareto front."
    title = f"{metric_of(up).heading} and {metric_of(across).label} of each completed trial"
    return Figure("front", title, draw, alt, Table("front_trials", "Front", heads, rows))


def _staircase(points: Sequence[Sequence[float]], *, better_left: bool) -> NDArray[np.float64]:
    """Return the line around what a front reaches, as close points [points, 2]; no trial reaches beyond its corners.

    Args:
        points: the front, from left to right.
        better_left: whether smaller values on the x-axis are better.
    """
    corners = [points[0]]
    for last, point in itertools.pairwise(points):
        corners += [(point[0], last[1]) if better_left else (last[0], point[1]), point]
    parts = [np.linspace(one, other, STEPS, endpoint=False) for one, other in itertools.pairwise(corners)]
    return np.concatenate([*parts, [corners[-1]]])


def importance(shares: Mapping[str, float], metric: str, synthetic: bool, key: str = "importance") -> Figure:
    """Return a picture of the variance that each key explains; `shares` has the largest first, `key` names the files."""

    @picture
    def draw() -> Canvas:
        figure, axes = canvas(0.9 + 0.34 * len(shares), synthetic)
        for place, share in enumerate(shares.values()):
            axes.barh(place, share, height=0.6, color=BLUE)
            axes.annotate(f"{share:.2f}", (share, place), (5, 0), textcoords="offset points", va="center", color=INK)
        axes.set_yticks(range(len(shares)), list(shares))
        axes.invert_yaxis()
        axes.tick_params(axis="y", length=0)
        axes.set(xlim=(0, 1.08), xlabel=f"share of the variance of {metric} (fANOVA)")
        axes.grid(axis="x")
        return figure

    data = Table("importance", "Importance", (Column("key"), Column("share", "share")), tuple(shares.items()))
    alt = "; ".join(f"{key} {share:.2f}" for key, share in shares.items())
    notes = ("From completed trials only; with a few dozen trials this is a hint, not a finding.",)
    return Figure(key, f"What {metric} depended on", draw, alt, data, notes)


def write_all(about: StudyReport) -> None:
    """Write the results, and the study's page with its figures and tables, into the study's folder."""
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    shares = [importance_of(about.study, place) for place in range(len(about.goals.metrics))]
    by_metric = dict(zip(about.goals.metrics, shares, strict=True))
    write_results(about, by_metric if about.goals.is_pareto else shares[0])
    tables = [table_of(about), *([seeds_table(about)] if about.goals.many_seeds else [])]
    sections = [*_of_the_best(about, by_metric), Section("trials", "Trials", "", tables)]
    title = f"Search for hyperparameters: {about.study.study_name}"
    text = page(Header(title, _lead(about), paper=False), about.synthetic, sections)
    for section in sections:
        for content in section.content:
            write_content(about.folder, content)
    write_text(about.folder / PAGE, text)


def _of_the_best(about: StudyReport, shares: Mapping[str, Mapping[str, float] | None]) -> list[Section]:
    """Return the sections above the trials: the best trials with the last lines, and the figures."""
    ends = tuple(filter(None, (*last_lines(about), failure_of_study(about))))
    if not best_trials(about.study):
        return [Section("best", "No best trial", "", [], lines=ends)]
    found = {metric: own for metric, own in shares.items() if own}
    if about.goals.is_pareto:
        pictures = [importance(own, name, about.synthetic, f"importance_{name}") for name, own in found.items()]
        heading, key = "The Pareto front", "front"
        figures = [front(about)]
    else:
        pictures = [importance(own, name, about.synthetic) for name, own in found.items()]
        heading, key = "The best trials", "best"
        figures = [history(about.study, about.goals.metrics[0], about.synthetic)]
    sections = [Section(key, heading, "", [best_table(about), *figures], lines=ends)]
    return [*sections, *([Section("importance", "Importance of the keys", "", pictures)] if pictures else [])]


def _lead(about: StudyReport) -> list[str]:
    how, goals = about.how, about.goals
    objectives = zip(goals.metrics, goals.directions, strict=True)
    judged = " and ".join(f"{metric} ({direction}d)" for metric, direction in objectives)
    lead = [
        f"Trials: {counts_text(counts_of(about))}, of {about.wanted} wanted; sampler {how['sampler']}, seed "
        f"{how['sampler_seed']}; pruner {how['pruner']}.",
        f"Judged by {judged} of the validation rows. No test row was read. The best of many trials looks better on the "
        "validation rows than on new rows.",
    ]
    if goals.many_seeds:
        less = f", made worse by {goals.errors:g} standard errors" if goals.errors else ""
        lead.append(f"A trial's value is the mean over {len(goals.seeds)} seeds{less}.")
    if goals.constraints:
        lead.append(f"Constraints: {', '.join(map(str, goals.constraints))}.")
    if warning := devices_warning(about):
        lead.append(warning)
    return lead


def conclude(about: StudyReport) -> None:
    """Log the best trials, and the command that trains and evaluates with their values.

    Raises:
        KjcmError: no trial is complete and meets the constraints, and none is running.
    """
    if about.goals.is_pareto and best_trials(about.study):
        print_table(best_table(about), f"{PAGE} shows them.")
    for line in last_lines(about):
        log.info("%s", line)
    if warning := devices_warning(about):
        log.warning("%s", warning)
    if reason := failure_of_study(about):
        raise KjcmError(reason)


def last_lines(about: StudyReport) -> list[str]:
    """Return the lines that end the command's output: counts, the best trial, and the command that trains with its values."""
    lines, best = [f"{counts_text(counts_of(about))}; report in {about.folder / PAGE}"], best_trials(about.study)
    if not best:
        return lines
    number, values = best[0].number, f"the values of trial {best[0].number}"
    if not about.goals.is_pareto:
        metric, value, values = about.goals.metrics[0], value_text(best[0].value), "its values"
        lines.append(f"best: trial {number}, {metric} {value} ({run_of(about, best[0])})")
    return [*lines, f"to train with {values} and evaluate on the test rows:\n  {command_of(about, best[0])}"]


def devices_warning(about: StudyReport) -> str:
    """Return a warning if the coding speed was measured on several devices, else ''."""
    devices = {seed["device"] for trial in trials_of(about.study) for seed in seeds_of(trial) if "device" in seed}
    if len(devices) < 2:
        return ""
    return (
        f"The coding speed was measured on several devices: {'; '.join(sorted(devices))}. Do not compare these speeds."
    )


def failure_of_study(about: StudyReport) -> str:
    """Return why a study has no best trial; '' if it has one, or a trial is still running."""
    counts = counts_of(about)
    if best_trials(about.study) or counts.get("running"):
        return ""
    if counts.get("infeasible"):
        limits = ", ".join(map(str, about.goals.constraints))
        return (
            f"No trial of {about.folder} meets the constraints ({limits}); trials.csv lists the values. Set a larger trials=, "
            "or other constraints with another study=NAME."
        )
    return (
        f"No trial of {about.folder} was completed; trials.csv lists the reasons. Remove the causes, then run the same "
        "command with sweep.retry=failed."
    )
