"""Draw models' results: intervals, confusion, reliability, and accuracy against acceptance."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from kjcm.analysis.content import Estimate
from kjcm.analysis.formats import show
from kjcm.plot.style import BLUE, GREY, INK, NARROW, ORANGE, WIDTH, Array, blank, canvas, picture

DASHES = ("-", "--", ":", "-.")


@picture
def draw_reliability(tables: Mapping[str, pd.DataFrame], synthetic: bool) -> Figure:
    """Draw accuracy against probability, one marker per bin, above a histogram of the rows.

    Args:
        tables: name -> low, high, confidence, accuracy, rows of each bin.
        synthetic: of the twin.
    """
    figure = blank(4.6, synthetic)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":", label="accuracy equals probability")
    for number, (name, table) in enumerate(tables.items()):
        colour, marker = ((ORANGE, "s"), (BLUE, "o"))[number % 2]
        above.plot(
            table["confidence"], table["accuracy"], color=colour, marker=marker, markersize=4, label=name, clip_on=False
        )
        width = (table["high"] - table["low"]) / (len(tables) + 0.4)
        below.bar(table["low"] + number * width, table["rows"], width=width, align="edge", color=colour)
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="Accuracy")
    above.grid()
    above.legend(loc="upper left")
    below.set(xlabel="Probability of the top-1 code", ylabel="Rows")
    below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    return figure


@picture
def draw_acceptance(lines: Mapping[str, tuple[Array, Array]], synthetic: bool) -> Figure:
    """Draw accuracy against the share of accepted rows, the most probable first.

    Args:
        lines: name -> shares and accuracies.
        synthetic: of the twin.
    """
    figure, axes = canvas(3.6, synthetic)
    for number, (name, (share, accuracy)) in enumerate(lines.items()):
        axes.plot(
            share, accuracy, color=(BLUE, ORANGE, GREY)[number % 3], linestyle=DASHES[number // 3 % 4], label=name
        )
    lowest = min(float(accuracy.min()) for _, accuracy in lines.values())
    axes.set(
        xlim=(0, 1.005),
        ylim=(max(0.0, lowest - 0.05), 1.005),
        xlabel="Rows accepted, the surest first",
        ylabel="Accuracy",
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    axes.grid()
    axes.legend(loc="lower left")
    return figure


@picture
def draw_intervals(rows: Sequence[tuple[str, Estimate]], *, synthetic: bool, narrow: bool = False) -> Figure:
    """Draw the accuracy of each model, the first at the top, with its 95 % interval and its numbers.

    Args:
        rows: name and accuracy (0 to 1); a model without interval is a dot.
        synthetic: of the twin.
        narrow: draw for a narrow screen, with names and numbers above the intervals rather than at their sides.
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


@picture
def draw_confusion(counts: pd.DataFrame, synthetic: bool) -> Figure:
    """Draw a confusion matrix; a cell's colour is its share of the true group's rows, its number their count.

    Args:
        counts: rows by true group (index) and predicted group (columns).
        synthetic: of the twin.
    """
    side = min(2 * WIDTH, max(4.5, 1.6 + 0.45 * len(counts)))
    figure, axes = canvas(side, synthetic, side)
    numbers = counts.to_numpy()
    shares = numbers / numbers.sum(axis=1, keepdims=True).clip(min=1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(counts)), counts.columns)
    axes.set_yticks(range(len(counts)), counts.index)
    axes.set(xlabel="Predicted major group", ylabel="True major group")
    if len(counts) <= 30:  # more numbers would touch
        for row, column in np.ndindex(counts.shape):
            if value := int(numbers[row, column]):
                colour = "white" if shares[row, column] > 0.6 else INK
                axes.text(column, row, f"{value:,}", ha="center", va="center", fontsize=7, color=colour)
    figure.colorbar(image, ax=axes, shrink=0.7, label="Share of the true group's rows")
    return figure
