"""Draw groups: precision by training rows (Fig. 2), and training rows by precision (Supplementary Fig. 1)."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from kjcm.analysis.formats import show
from kjcm.analysis.statistics import Regression
from kjcm.errors import counted
from kjcm.plot.style import BLUE, GREY, INK, ORANGE, Array, canvas, name_points, picture

# Tol's muted scheme: ten colours that colour-blind readers can distinguish; in black and white the shapes differ.
COLOURS = ("#332288", "#cc6677", "#117733", "#aa4499", "#44aa99", "#882255", "#999933", "#88ccee", "#ddcc77", "#777777")
MARKERS = "osD^vP<Xph"
LABELLED = 6  # groups named in the scatter plot
BAND = 0.2  # height of the band of groups with precision 0
GOLDEN = 0.618034  # its multiples modulo 1 are spread evenly
THRESHOLD = 0.5  # of precision: Supplementary Fig. 1


@picture
def draw_precision_by_size(points: pd.DataFrame, fit: Regression | None, *, synthetic: bool) -> Figure:
    """Draw each group's precision against its training rows (log axis) with the regression: Fig. 2.

    Groups with precision 0 would overlap, so they are spread out in a band below 0. The title states their number.
    The six groups farthest from the line are named if a name fits.

    Args:
        points: code, title, n_train (> 0), precision, major (the legend's text) of each group.
        fit: the regression line; None draws no line and names no group.
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
        said = f"Grey band: {int(zero.sum())} of {counted(len(points), 'group')} with precision 0"
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
    """Return a height in the band for each group with precision 0; groups of equal size are far apart."""
    order = sizes.sort_values(kind="stable").index
    return pd.Series(-BAND + 0.025 + (BAND - 0.06) * (np.arange(len(order)) * GOLDEN % 1), index=order)


def _legend(figure: Figure) -> None:
    """Write the major groups below the figure, in two columns; cut long titles."""
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
    """Draw the regression line from the smallest to the largest group, where it is between 0 and 1, and write R² and p."""
    sizes = np.geomspace(least, most, 200)
    line = fit.intercept + fit.slope * np.log10(sizes)
    inside = (line >= 0) & (line <= 1)
    axes.plot(sizes[inside], line[inside], color=INK, linewidth=1, zorder=2)
    axes.set_title(f"R² = {show(fit.r_squared, 'share')}, p {chance(fit.p)}", loc="right", fontsize=9)


def chance(p: float) -> str:
    """Return a p-value with its relation, to write after 'p': '= 0.012' or '< 0.001'."""
    shown = show(p, "p")
    return shown if shown.startswith("<") else f"= {shown}"


@picture
def draw_sizes_by_precision(
    models: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, synthetic: bool
) -> Figure:
    """Draw the training sizes of the groups below and above a precision of 0.5, two boxes per model: Suppl. Fig. 1.

    Boxes are quartiles (linear interpolation, R type 7), whiskers reach 1.5 box lengths; each third quartile has its number.

    Args:
        models: name -> training rows of the groups with precision below 0.5, and of the groups with at least 0.5.
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
    axes.set_xticks(range(len(boxes)), [f"{name}\n{counted(len(sizes), 'group')}" for name, sizes in boxes], color=INK)
    axes.tick_params(axis="x", length=0)
    _count_rows(axes.yaxis)
    axes.grid(axis="y")
    return figure


def _draw_box(axes: Axes, place: int, sizes: Array, colour: str) -> None:
    """Draw one box, a point for every group, and the value of the third quartile."""
    line = {"color": colour, "linewidth": 1.1}
    axes.boxplot(
        sizes, positions=[place], widths=0.5, showfliers=False, manage_ticks=False,
        boxprops=line, whiskerprops=line, capprops=line, medianprops={**line, "linewidth": 2},
    )  # fmt: skip
    spread = (np.arange(len(sizes)) * GOLDEN % 1 - 0.5) * 0.4  # side by side, without randomness
    axes.scatter(place + spread, np.sort(sizes), s=10, color=colour, alpha=0.4, linewidths=0)
    third = float(np.quantile(sizes, 0.75))
    axes.annotate(f"Q3 = {show(third, 'number')}", (place + 0.29, third), va="center", fontsize=8, color=colour)
