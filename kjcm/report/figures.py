"""The report's pictures, each drawn from its numbers alone; every one of synthetic data says so."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullLocator

from kjcm.analysis.content import Estimate
from kjcm.analysis.formats import show
from kjcm.analysis.statistics import Regression
from kjcm.plot.style import BLUE, GREY, INK, NARROW, ORANGE, WIDTH, Array, canvas, name_points, picture

# Tol's muted scheme: ten colours that the colour-blind tell apart; the shapes do so in black and white.
COLOURS = ("#332288", "#cc6677", "#117733", "#aa4499", "#44aa99", "#882255", "#999933", "#88ccee", "#ddcc77", "#777777")
MARKERS = "osD^vP<Xph"
LABELLED = 6  # groups named in the scatter plot
BAND = 0.2  # height of the band of groups with precision 0
GOLDEN = 0.618034  # its multiples modulo 1 are spread evenly
THRESHOLD = 0.5  # of precision: Supplementary Fig. 1
FILES = {"wave5": "5th KWCS", "wave6": "6th KWCS", "path": "data file", "test_path": "test file"}
SIDES = {"train": "Training rows", "validation": "Validation rows", "unused": "Rows left unused", "test": "Test rows"}


@dataclass(frozen=True)
class _Box:
    """A box of the flow chart: its middle and width in inches, from the upper left corner of the picture."""

    x: float
    y: float
    text: str
    width: float = 2.1

    @property
    def half(self) -> float:
        """Half of the height."""
        return 0.1 + 0.09 * (self.text.count("\n") + 1)


@dataclass
class _Chart:
    """Boxes and the arrows between them, each a line of points."""

    boxes: list[_Box]
    arrows: list[tuple[tuple[float, float], ...]]

    def below(self, above: _Box, box: _Box) -> _Box:
        """Add a box with an arrow from the one above: down, across half way, down."""
        middle = (above.y + above.half + box.y - box.half) / 2
        start, end = (above.x, above.y + above.half), (box.x, box.y - box.half)
        across = ((above.x, middle), (box.x, middle)) if above.x != box.x else ()
        self.boxes.append(box)
        self.arrows.append((start, *across, end))
        return box

    def beside(self, x: float, box: _Box) -> None:
        """Add a box with an arrow from its left, from `x`."""
        self.boxes.append(box)
        self.arrows.append(((x, box.y), (box.x - box.width / 2, box.y)))


@picture
def flow_chart(flow: Mapping[str, Any], synthetic: bool, model: str = "K-JCM") -> Figure:
    """Draw the way of the rows from the files to training and test: Fig. 1. A step without rows has no box.

    Args:
        flow: that of cohort.json.
        synthetic: of the twin.
        model: what the training rows train.
    """
    chart = _Chart([], [])
    cohort = _flow_to_cohort(chart, flow, "Twin of the " if synthetic else "")
    _flow_to_evaluation(chart, cohort, flow, model)
    height = max(box.y + box.half for box in chart.boxes) + 0.1
    figure, axes = canvas(height + 0.3 * synthetic, synthetic)
    axes.set(xlim=(0, WIDTH), ylim=(height, 0))
    axes.axis("off")
    for box in chart.boxes:
        corner = (box.x - box.width / 2, box.y - box.half)
        axes.add_patch(Rectangle(corner, box.width, 2 * box.half, facecolor="white", edgecolor=GREY, linewidth=0.8))
        axes.text(box.x, box.y, box.text, ha="center", va="center", linespacing=1.4)
    for arrow in chart.arrows:
        axes.plot(*zip(*arrow[:-1], strict=True), color=GREY, linewidth=0.8)
        tip = {"arrowstyle": "-|>", "color": GREY, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", arrow[-1], arrow[-2], arrowprops=tip)
    return figure


def _flow_to_cohort(chart: _Chart, flow: Mapping[str, Any], lead: str) -> _Box:
    """Add the files, what leaves, and the cohort, which is returned."""
    files, main = flow["read_by_file"], 2.5
    places = (main,) if len(files) == 1 else (1.3, 3.7)
    tops = [
        _Box(x, 0.35, _counted(lead + FILES[file], rows)) for x, (file, rows) in zip(places, files.items(), strict=True)
    ]
    chart.boxes += tops
    last = tops[0]
    if len(tops) > 1:
        last = _Box(main, 1.2, _counted("All rows", flow["read"]))
        for top in tops:
            chart.below(top, last)
        chart.boxes.pop()  # it stands there once
    losses = {
        "Left out: cannot be used": flow["invalid"],
        "Left out: no single code in conversion": flow["unresolved"],
        f"Left out: {_groups(flow['below_cutoff_groups'])} of {flow['cutoff']} rows or fewer": flow["below_cutoff"],
    }
    y = last.y + 0.05
    for text, rows in losses.items():
        if rows:
            y += 0.62
            chart.beside(main, _Box(5.75, y, _counted(text, rows), 2.8))
    return chart.below(
        last, _Box(main, max(y, last.y) + 0.75, _counted(f"Cohort, {_groups(flow['groups'])}", flow["cohort"]))
    )


def _flow_to_evaluation(chart: _Chart, cohort: _Box, flow: Mapping[str, Any], model: str) -> None:
    """Add the parts that the cohort is split into, the model and its evaluation."""
    sides = [side for side in SIDES if flow[side]]
    step, width = (2.4, 2.1) if len(sides) <= 2 else (1.75, 1.6)
    first = cohort.x - step / 2 * (len(sides) - 1) if len(sides) <= 2 else 0.95
    parts = {
        side: chart.below(cohort, _Box(first + step * place, cohort.y + 0.9, _counted(SIDES[side], flow[side]), width))
        for place, side in enumerate(sides)
    }
    y = cohort.y + 1.75
    if "train" in parts:
        trained = chart.below(parts["train"], _Box(parts["train"].x, y, model, width))
        if "test" in parts:
            test = chart.below(parts["test"], _Box(parts["test"].x, y, "Evaluation", width))
            chart.arrows.append(((trained.x + width / 2, y), (test.x - width / 2, y)))


def _counted(text: str, rows: int) -> str:
    return f"{text[0].upper()}{text[1:]}\n(n = {show(rows, 'count')})"


def _groups(number: int) -> str:
    return f"{show(number, 'count')} group{'s' * (number != 1)}"


@picture
def precision_by_size(points: pd.DataFrame, fit: Regression | None, *, synthetic: bool) -> Figure:
    """Draw each group's precision against its training rows (log axis) with the regression: Fig. 2.

    Groups with precision 0 would hide each other: they are spread out in a band beneath 0, which says how many they are.
    The six groups farthest from the line are named, where a name finds room.

    Args:
        points: code, title, n_train (> 0), precision, major (the legend's text) of each group.
        fit: the line; None draws and names none.
        synthetic: of the twin.
    """
    figure, axes = canvas(6.2, synthetic)
    zero = points["precision"] == 0
    bottom = -BAND - 0.02 if zero.any() else -0.04
    at = points["precision"].where(~zero, _spread(points["n_train"][zero]))
    for place, (major, group) in enumerate(points.groupby("major", sort=True)):
        axes.scatter(
            group["n_train"], at[group.index], s=np.where(zero[group.index], 14, 30), label=str(major), linewidths=0.4,
            edgecolors="white", color=COLOURS[place % len(COLOURS)], marker=MARKERS[place % len(MARKERS)], zorder=3,
        )  # fmt: skip
    axes.set(xscale="log", ylim=(bottom, 1.04), xlabel="Training rows of the group (log scale)", ylabel="Precision")
    axes.set_yticks(np.linspace(0, 1, 6))
    _count_rows(axes.xaxis)
    axes.grid()
    if zero.any():
        axes.axhspan(-BAND, -0.012, color="#f0f0f0", zorder=0.5)
        said = f"Grey band: {int(zero.sum())} of {_groups(len(points))} with precision 0"
        axes.set_title(said, loc="left", fontsize=9)
    _legend(figure)
    if fit is not None:
        _draw_line(axes, fit, points["n_train"].min(), points["n_train"].max())
        residual = points["precision"] - fit.intercept - fit.slope * np.log10(points["n_train"])
        farthest = np.argsort(-residual.abs().to_numpy(), kind="stable")[: 2 * LABELLED]
        names = [(int(row), f"{points['code'].iloc[row]} {points['title'].iloc[row]}".strip()) for row in farthest]
        dots = np.column_stack([points["n_train"], at]).astype(float)
        name_points(axes, dots, names, LABELLED)
    return figure


def _spread(sizes: "pd.Series[Any]") -> "pd.Series[float]":
    """Return a height in the band for each of the groups with precision 0; groups of one size are far from each other."""
    order = sizes.sort_values(kind="stable").index
    return pd.Series(-BAND + 0.025 + (BAND - 0.06) * (np.arange(len(order)) * GOLDEN % 1), index=order)


def _legend(figure: Figure) -> None:
    """Write the major groups beneath the picture, in two columns; long titles are cut."""
    axes = figure.axes[0]
    marks, labels = axes.get_legend_handles_labels()
    short = [textwrap.shorten(label, 56, placeholder="…") for label in labels]
    legend = figure.legend(
        marks, short, title="Major group", loc="outside lower center", ncols=2, fontsize=8, handletextpad=0.2
    )
    for mark in legend.legend_handles:
        mark.set_sizes([30])  # type: ignore[union-attr]  # of a scatter


def _count_rows(axis: Axis) -> None:
    """Write 1, 3, 10, 30, ... on a log axis."""
    axis.set_major_locator(LogLocator(subs=(1, 3)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: show(value, "count"))


def _draw_line(axes: Axes, fit: Regression, least: float, most: float) -> None:
    """Draw the regression from the smallest to the largest group, as far as it is between 0 and 1, and say how well it fits."""
    sizes = np.geomspace(least, most, 200)
    line = fit.intercept + fit.slope * np.log10(sizes)
    inside = (line >= 0) & (line <= 1)
    axes.plot(sizes[inside], line[inside], color=INK, linewidth=1, zorder=2)
    axes.set_title(f"R² = {show(fit.r_squared, 'share')}, p {chance(fit.p)}", loc="right", fontsize=9)


def chance(p: float) -> str:
    """Return a p-value as it follows 'p': '= 0.012' or '< 0.001'."""
    shown = show(p, "p")
    return shown if shown.startswith("<") else f"= {shown}"


@picture
def sizes_by_precision(models: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, synthetic: bool) -> Figure:
    """Draw the training sizes of the groups below and above a precision of 0.5, a pair of boxes a model: Suppl. Fig. 1.

    Boxes are quartiles (linear interpolation, R type 7), whiskers reach 1.5 box lengths; each third quartile has its number.

    Args:
        models: name -> training rows of the groups with precision below 0.5, and of those at or above it.
        synthetic: of the twin.
    """
    figure, axes = canvas(4.2, synthetic)
    sides = [f"precision < {THRESHOLD}", f"precision ≥ {THRESHOLD}"]
    boxes = [
        (f"{model}\n{side}", sizes) for model, pair in models.items() for side, sizes in zip(sides, pair, strict=True)
    ]
    for place, (_, sizes) in enumerate(boxes):
        if len(sizes):
            _draw_box(axes, place, np.asarray(sizes, float), BLUE if place % 2 else ORANGE)
        else:
            axes.annotate("no group", (place, 0.5), xycoords=("data", "axes fraction"), ha="center", color=GREY)
    axes.set(yscale="log", xlim=(-0.6, len(boxes) - 0.25), ylabel="Training rows of the group (log scale)")
    axes.set_xticks(range(len(boxes)), [f"{name}\n{_groups(len(sizes))}" for name, sizes in boxes], color=INK)
    axes.tick_params(axis="x", length=0)
    _count_rows(axes.yaxis)
    axes.grid(axis="y")
    return figure


def _draw_box(axes: Axes, place: int, sizes: Array, colour: str) -> None:
    """Draw one box, every group as a point within, and the number of its third quartile."""
    line = {"color": colour, "linewidth": 1.1}
    axes.boxplot(
        sizes, positions=[place], widths=0.5, showfliers=False, manage_ticks=False,
        boxprops=line, whiskerprops=line, capprops=line, medianprops={**line, "linewidth": 2},
    )  # fmt: skip
    spread = (np.arange(len(sizes)) * GOLDEN % 1 - 0.5) * 0.4  # next to each other, without chance
    axes.scatter(place + spread, np.sort(sizes), s=10, color=colour, alpha=0.4, linewidths=0)
    third = float(np.quantile(sizes, 0.75))
    axes.annotate(f"Q3 = {show(third, 'number')}", (place + 0.29, third), va="center", fontsize=8, color=colour)


@picture
def model_intervals(rows: Sequence[tuple[str, Estimate]], *, synthetic: bool, narrow: bool = False) -> Figure:
    """Draw the accuracy of each model, the first at the top, with its 95 % interval and its numbers.

    Args:
        rows: name and accuracy (0 to 1); one without interval is a dot.
        synthetic: of the twin.
        narrow: draw it for a narrow screen, with names and numbers above the intervals rather than at their sides.
    """
    height, width = (0.42, NARROW) if narrow else (0.3, WIDTH)
    figure, axes = canvas(0.9 + height * len(rows), synthetic, width)
    for place, (name, accuracy) in enumerate(rows):
        if accuracy.low is not None and accuracy.high is not None:
            axes.plot([accuracy.low, accuracy.high], [place, place], color=BLUE, linewidth=1.4, solid_capstyle="butt")
        text = show(Estimate(accuracy.mean, None, accuracy.low, accuracy.high), "percent")
        label, start, offset = (f"{name}: {text}", 0, (0, 9)) if narrow else (text, 1, (6, 0))
        axes.annotate(
            label, (start, place), offset, xycoords=("axes fraction", "data"), textcoords="offset points", va="center",
            fontsize=8,
        )  # fmt: skip
    axes.scatter([accuracy.mean for _, accuracy in rows], range(len(rows)), s=14, color=BLUE, zorder=3)
    axes.set(xlabel="Accuracy, 95 % interval", ylim=(len(rows) - 0.5, -0.5))
    axes.set_yticks(range(len(rows)), [name for name, _ in rows], color=INK)
    axes.tick_params(axis="y", length=0, labelleft=not narrow)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_formatter(lambda value, _: f"{show(value * 100, 'number')} %")
    axes.grid(axis="x")
    return figure
