"""Pictures of what a run found, for its W&B page."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from kjcm.plot.style import COLOURS, INK, MARKERS, canvas, picture


@picture
def confusion_picture(counts: pd.DataFrame, *, synthetic: bool) -> Figure:
    """Draw a confusion matrix, each cell's colour its share of the true group's rows and its number the rows.

    Args:
        counts: rows of each true group (index) that were given each group (columns).
        synthetic: of the twin.
    """
    side = min(14.0, max(4.5, 1.6 + 0.45 * len(counts)))
    figure, axes = canvas(side, synthetic, side)
    numbers = counts.to_numpy()
    shares = numbers / numbers.sum(axis=1, keepdims=True).clip(min=1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(counts)), counts.columns)
    axes.set_yticks(range(len(counts)), counts.index)
    axes.set(xlabel="Predicted major group", ylabel="True major group")
    if len(counts) <= 30:  # beyond that the numbers would touch
        for row, column in np.ndindex(counts.shape):
            if value := int(numbers[row, column]):
                colour = "white" if shares[row, column] > 0.6 else "black"
                axes.text(column, row, f"{value:,}", ha="center", va="center", fontsize=7, color=colour)
    figure.colorbar(image, ax=axes, shrink=0.7, label="Share of the true group's rows")
    return figure


@picture
def size_picture(groups: pd.DataFrame, *, synthetic: bool) -> Figure:
    """Draw each group's precision against its training rows on a log axis, with the regression: the paper's Fig. 2.

    Args:
        groups: code, major, n_train, precision of each group; groups without training rows have no place on the axis.
        synthetic: of the twin.
    """
    shown = groups[groups["n_train"] > 0]
    figure, axes = canvas(4.4, synthetic)
    for number, (major, group) in enumerate(shown.groupby("major")):
        axes.scatter(
            group["n_train"], group["precision"], s=26, color=COLOURS[number % len(COLOURS)], label=str(major),
            marker=MARKERS[number % len(MARKERS)], linewidths=0.3, edgecolors="white",
        )  # fmt: skip
    axes.set(xscale="log", ylim=(-0.04, 1.04), xlabel="Training rows of the group (log scale)", ylabel="Precision")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda rows, _: f"{rows:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid()
    size, precision = np.log10(shown["n_train"].to_numpy(float)), shown["precision"].to_numpy(float)
    if np.ptp(size) > 0 and np.ptp(precision) > 0:
        slope, intercept = np.polyfit(size, precision, 1)
        ends = np.array([size.min(), size.max()])
        axes.plot(10**ends, intercept + slope * ends, color=INK, linewidth=1)
        axes.set_title(f"R² = {np.corrcoef(size, precision)[0, 1] ** 2:.2f}", fontsize=9, loc="right")
    if shown["major"].nunique() <= len(COLOURS):
        figure.legend(title="Major group", fontsize=7, title_fontsize=7, loc="outside right upper")
    return figure
