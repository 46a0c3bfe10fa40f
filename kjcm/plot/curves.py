"""Pictures of probabilities: the reliability diagram, and accuracy against acceptance."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from kjcm.plot.style import BLUE, GREY, ORANGE, SYNTHETIC, WIDTH, Array, canvas, picture

DASHES = ("-", "--", ":", "-.")


@picture
def reliability(tables: Mapping[str, pd.DataFrame], synthetic: bool) -> Figure:
    """Draw accuracy against probability, a mark a bin, above the rows in each bin.

    Args:
        tables: name -> low, high, confidence, accuracy, rows of each bin.
        synthetic: of the twin.
    """
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    if synthetic:
        figure.suptitle(SYNTHETIC, x=0.01, ha="left", fontsize=8, color="#a03000")
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
def acceptance(lines: Mapping[str, tuple[Array, Array]], synthetic: bool) -> Figure:
    """Draw accuracy against the share of rows that are accepted, the surest first.

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
