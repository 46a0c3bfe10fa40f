"""Draw a search: each trial's metric, and the importance of each key."""

from collections.abc import Mapping

from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator
from optuna import Study
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from kjcm.analysis.content import Column, Figure, Table
from kjcm.metrics import metric_of
from kjcm.plot.style import BLUE, GREY, INK, ORANGE, canvas, picture


def value_of(trial: FrozenTrial) -> float | None:
    """Return a completed trial's metric, or the metric after the last epoch of any other trial."""
    return trial.value if trial.state == TrialState.COMPLETE else trial.intermediate_values.get(trial.last_step or 0)


def history(study: Study, metric: str, synthetic: bool) -> Figure:
    """Return a picture of the trials' metrics in order, with the best metric so far."""
    best = max if study.direction == StudyDirection.MAXIMIZE else min
    done: list[tuple[int, float]] = []
    pruned: list[tuple[int, float]] = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)):
        value = value_of(trial)
        if value is not None:
            (done if trial.state == TrialState.COMPLETE else pruned).append((trial.number, value))
    so_far = [(number, best(value for _, value in done[: place + 1])) for place, (number, _) in enumerate(done)]

    last = max(number for number, _ in done + pruned)

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
                *zip(*pruned, strict=True), "o", color=GREY, markersize=5, label="pruned: its last epoch"
            )
            hollow.set_markerfacecolor("white")
        axes.set(xlabel="trial", ylabel=f"{metric_of(metric).label} of the validation rows")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(0.03, 0.08)
        axes.grid(axis="y")
        figure.legend(loc="outside upper right", ncols=3)
        return figure

    rows = sorted([(*point, "complete") for point in done] + [(*point, "pruned") for point in pruned])
    data = Table(
        "history", "History", (Column("trial", "count"), Column(metric, "value"), Column("state")), tuple(rows)
    )
    alt = f"{metric} of {len(done)} completed and {len(pruned)} pruned trials; the best is {so_far[-1][1]:.4f}."
    return Figure("history", f"{metric} of each trial, in the order in which they started", draw, alt, data)


def importance(shares: Mapping[str, float], metric: str, synthetic: bool) -> Figure:
    """Return a picture of the variance that each key explains; `shares` has the largest first."""

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
    return Figure("importance", f"What {metric} depended on", draw, alt, data, notes)
