"""The study's page: each trial's metric, the Pareto front, the importance of each key, and tables."""

import logging
import math
import warnings
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator
from optuna import Study
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from kjcm.analysis.content import Column, Figure, Table
from kjcm.files import write_text
from kjcm.keys.overrides import literal
from kjcm.metrics import metric_of
from kjcm.plot.style import BLUE, GREY, INK, ORANGE, canvas, name_points, picture
from kjcm.reporting.build import write_content
from kjcm.reporting.page import Header, Section, page
from kjcm.tune.results import (
    PAGE,
    StudyReport,
    best_trials,
    command_of,
    counts_of,
    front_table,
    is_feasible,
    said,
    seeds_table,
    state_of,
    table_of,
    value_of,
    value_text,
    write_results,
)
from kjcm.tune.space import values_of

LEAST = 4  # completed trials needed to compute importances
NAMED = 12  # trials of the front that the picture names


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
    alt = f"{metric} of {len(done)} completed and {len(pruned)} pruned trials; the best is {so_far[-1][1]:.4f}."
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
        # a step, because no trial is between two trials of the front
        axes.step(*zip(*(trial.values[::-1] for trial in best), strict=True), where="post", color=ORANGE, linewidth=0.8)
        axes.set(xlabel=metric_of(across).label, ylabel=metric_of(up).label)
        axes.margins(0.08, 0.1)
        axes.grid()
        figure.legend(loc="outside upper right", ncols=3)
        names = [(place, f"trial {trial.number}") for place, trial in enumerate(best)]
        name_points(axes, np.array([trial.values[::-1] for trial in (*best, *others, *infeasible)]), names, NAMED)
        return figure

    heads = (Column("trial", "count"), Column(up, "value"), Column(across, "value"), Column("on the front"))
    rows = tuple((trial.number, *trial.values, "yes" if trial in best else "") for trial in done)
    alt = f"{up} against {across} of {len(done)} completed trials, {len(best)} of them on the Pareto front."
    title = f"{metric_of(up).heading} and {metric_of(across).label} of each completed trial"
    return Figure("front", title, draw, alt, Table("front_trials", "Front", heads, rows))


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
    """Return the sections that need a completed trial which meets the constraints."""
    best = best_trials(about.study)
    if not best:
        return []
    found = {metric: own for metric, own in shares.items() if own}
    if about.goals.is_pareto:
        pictures = [importance(own, name, about.synthetic, f"importance_{name}") for name, own in found.items()]
        sections = [Section("front", "The Pareto front", "", [front_table(about), front(about)])]
        return [*sections, *([Section("search", "The search", "", pictures)] if pictures else [])]
    figures = [history(about.study, about.goals.metrics[0], about.synthetic)]
    figures += [importance(own, name, about.synthetic) for name, own in found.items()]
    return [
        Section("best", "The best trial", "", [_values(about, best[0])], command_of(about, best[0])),
        Section("search", "The search", "", figures),
    ]


def _values(about: StudyReport, best: FrozenTrial) -> Table:
    """Return the values of the best trial."""
    rows = tuple((key, literal(value)) for key, value in values_of(best).items())
    title = f"Trial {best.number}: {about.goals.metrics[0]} {value_text(best.value)} of the validation rows"
    return Table("best", title, (Column("key"), Column("value")), rows)


def _lead(about: StudyReport) -> list[str]:
    how, goals = about.how, about.goals
    objectives = zip(goals.metrics, goals.directions, strict=True)
    judged = " and ".join(f"{metric} ({direction}d)" for metric, direction in objectives)
    lead = [
        f"Trials: {said(counts_of(about))}, of {about.wanted} wanted; sampler {how['sampler']}, seed "
        f"{how['sampler_seed']}; pruner {how['pruner']}.",
        f"Judged by {judged} of the validation rows. No test row was read. The best of many trials looks better on the "
        "validation rows than on new rows.",
    ]
    if goals.many_seeds:
        less = f", made worse by {goals.errors:g} standard errors" if goals.errors else ""
        lead.append(f"A trial's value is the mean over {len(goals.seeds)} seeds{less}.")
    if goals.constraints:
        lead.append(f"Constraints: {', '.join(map(str, goals.constraints))}.")
    return lead
