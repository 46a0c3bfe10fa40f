"""Pictures of what a run found, for its W&B page."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from kjcm.plot.font import font_path
from kjcm.triage.calibration import calibration_error

SYNTHETIC = "SYNTHETIC twin: says nothing of real answers"
BLUE, ORANGE, GREY, INK = "#2166ac", "#d6604d", "#777777", "#222222"
# Tol's muted scheme: ten colours that the colour-blind tell apart; the shapes do so in black and white
COLOURS = ("#332288", "#cc6677", "#117733", "#aa4499", "#44aa99", "#882255", "#999933", "#88ccee", "#ddcc77", "#777777")
MARKERS = "osD^vP<Xph"


@cache
def _family() -> list[str]:
    """Make the package's typeface known to matplotlib, once; what it lacks, matplotlib's own shows."""
    fontManager.addfont(font_path())
    return ["kjcm Hangul", "DejaVu Sans"]


@contextmanager
def style() -> Iterator[None]:
    """Set the look for what is drawn and saved within, whatever a user's own settings are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update({"font.family": _family(), "text.parse_math": False, "axes.axisbelow": True})
        yield


def _figure(width: float, height: float, synthetic: bool) -> Figure:
    """Return an empty figure that needs no display; one of the twin says so."""
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    if synthetic:
        figure.suptitle(SYNTHETIC, fontsize=8, color=ORANGE)
    return figure


def confusion_picture(counts: pd.DataFrame, *, synthetic: bool) -> Figure:
    """Draw a confusion matrix, each cell's colour its share of the true group's rows and its number the rows.

    Args:
        counts: rows of each true group (index) that were given each group (columns).
        synthetic: of the twin.
    """
    side = min(14.0, max(4.5, 1.6 + 0.45 * len(counts)))
    figure = _figure(side, side, synthetic)
    axes = figure.subplots()
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


def reliability_picture(table: pd.DataFrame, *, synthetic: bool) -> Figure:
    """Draw accuracy against confidence, a dot a bin, above the number of rows in each bin."""
    figure = _figure(4.8, 5.4, synthetic)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle="--", label="perfectly calibrated")
    above.plot(table["confidence"], table["accuracy"], color=BLUE, marker="o", label="model")
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="Accuracy")
    above.set_title(f"Expected calibration error {calibration_error(table):.3f}", fontsize=9, loc="right")
    above.legend(fontsize=8, frameon=False, loc="upper left")
    below.bar(table["low"], table["rows"], width=table["high"] - table["low"], align="edge", color=BLUE, alpha=0.6)
    below.set(xlabel="Probability of the first code", ylabel="Rows")
    below.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    return figure


def size_picture(groups: pd.DataFrame, *, synthetic: bool) -> Figure:
    """Draw each group's precision against its training rows on a log axis, with the regression: the paper's Fig. 2.

    Args:
        groups: code, major, n_train, precision of each group; groups without training rows have no place on the axis.
        synthetic: of the twin.
    """
    shown = groups[groups["n_train"] > 0]
    figure = _figure(6.6, 4.4, synthetic)
    axes = figure.subplots()
    for number, (major, group) in enumerate(shown.groupby("major")):
        axes.scatter(
            group["n_train"], group["precision"], s=26, color=COLOURS[number % len(COLOURS)], label=str(major),
            marker=MARKERS[number % len(MARKERS)], linewidths=0.3, edgecolors="white",
        )  # fmt: skip
    axes.set(xscale="log", ylim=(-0.04, 1.04), xlabel="Training rows of the group (log scale)", ylabel="Precision")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda rows, _: f"{rows:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
    size, precision = np.log10(shown["n_train"].to_numpy(float)), shown["precision"].to_numpy(float)
    if np.ptp(size) > 0 and np.ptp(precision) > 0:
        slope, intercept = np.polyfit(size, precision, 1)
        ends = np.array([size.min(), size.max()])
        axes.plot(10**ends, intercept + slope * ends, color=INK, linewidth=1)
        axes.set_title(f"R² = {np.corrcoef(size, precision)[0, 1] ** 2:.2f}", fontsize=9, loc="right")
    if shown["major"].nunique() <= len(COLOURS):
        figure.legend(title="Major group", fontsize=7, title_fontsize=7, loc="outside right upper", frameon=False)
    return figure
