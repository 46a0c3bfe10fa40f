"""The common style of all figures, names next to points, and reproducible image files."""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, wraps
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from kjcm.plot.font import FAMILY, font_path

P = ParamSpec("P")
Array = NDArray[np.float64]
WIDTH = 7.2  # inches: a page's text width
NARROW = 3.6  # inches: the text width of a phone screen
INK, GREY, BLUE, ORANGE = "#222222", "#555555", "#2b5c8a", "#b8551a"
NAME_SIZE = 7.5  # in points, of names next to dots
SYNTHETIC = "SYNTHETIC twin: invented answers, not survey data"
LOOK: dict[Any, Any] = {
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "legend.frameon": False,
    "text.parse_math": False,  # print a dollar sign in a title verbatim
    "svg.fonttype": "path",  # the figure needs no typeface
    "svg.hashsalt": "kjcm",
}


@cache
def _family() -> list[str]:
    """Register the report's typeface with matplotlib once; matplotlib's own shows characters that it lacks."""
    fontManager.addfont(font_path())
    return [FAMILY, "DejaVu Sans"]


@contextmanager
def style() -> Iterator[None]:
    """Apply the style while the context lasts, independent of the user's settings, which are restored."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update({**LOOK, "font.family": _family()})
        yield


def picture(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Apply the style to a drawing function, and fix the figure's layout so that saving moves nothing."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with style():
            figure = draw(*args, **kwargs)
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
        return figure

    return drawn


def blank(height: float, synthetic: bool, width: float = WIDTH) -> Figure:
    """Return an empty figure, sizes in inches; a synthetic figure is marked at the top."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)  # measures texts
    if synthetic:
        figure.suptitle(SYNTHETIC, x=0.01, ha="left", fontsize=8, color="#a03000")
    return figure


def canvas(height: float, synthetic: bool, width: float = WIDTH) -> tuple[Figure, Axes]:
    """Return an empty figure (see `blank`) and its axes."""
    figure = blank(height, synthetic, width)
    return figure, figure.add_subplot()


def svg(figure: Figure) -> bytes:
    """Return a figure as SVG with letters as outlines; equal figures give equal bytes."""
    return _saved(figure, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))


def png(figure: Figure) -> bytes:
    """Return a figure as PNG at 200 dots per inch; equal figures give equal bytes."""
    return _saved(figure, format="png", dpi=200, metadata={"Software": None})


@style()
def _saved(figure: Figure, **options: Any) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, **options)
    return stream.getvalue()


def name_points(axes: Axes, points: Array, names: Sequence[tuple[int, str]], most: int) -> None:
    """Write at most `most` names next to points, clear of points, lines and other names; skip a name that does not fit.

    Args:
        axes: axes with the points drawn.
        points: [points, 2] in data coordinates.
        names: row number and name of a point, the most important first.
        most: maximum number of names.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # settles the layout
    taken: list[Bbox] = []
    dots: Array = axes.transData.transform(points)
    lines = [axes.transData.transform(line.get_xydata()) for line in axes.lines]
    drawn = np.concatenate([dots, *lines])
    for row, name in names:
        if len(taken) == most:
            break
        measured = axes.text(0, 0, name, fontsize=NAME_SIZE)
        size = measured.get_window_extent()
        measured.remove()
        for corner, nearest in _places(size.width, size.height, figure.dpi / 72):
            x, y = dots[row] + corner
            box = Bbox.from_bounds(x, y, size.width, size.height)
            if _free(box, axes.bbox, taken, drawn):
                line = {
                    "arrowstyle": "-",
                    "color": GREY,
                    "linewidth": 0.5,
                    "shrinkA": 0,
                    "shrinkB": 3,
                    "relpos": nearest,
                }
                axes.annotate(
                    name, tuple(points[row]), tuple(corner * 72 / figure.dpi), textcoords="offset points", va="bottom", zorder=4,
                    fontsize=NAME_SIZE, arrowprops=line,
                )  # fmt: skip
                taken.append(box)
                break


def _places(width: float, height: float, point: float) -> Iterator[tuple[Array, tuple[float, float]]]:
    """Yield positions for a text next to a dot, nearest first: lower left corner in pixels, and the part next to the dot.

    Args:
        width: width of the text in pixels.
        height: height of the text in pixels.
        point: pixels per typographic point.
    """
    for gap in (5 * point, 9 * point, 14 * point, 20 * point):
        for across, up in ((1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1), (0, 1), (0, -1)):
            x = gap if across > 0 else -gap - width if across < 0 else -width / 2
            y = gap if up > 0 else -gap - height if up < 0 else -height / 2
            yield np.array([x, y]), ((1 - across) / 2, (1 - up) / 2)


def _free(box: Bbox, inside: Any, taken: Sequence[Bbox], dots: Array) -> bool:
    """Return whether a text's box is inside the axes and clear of other texts, dots and lines."""
    within = inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1
    return within and not any(map(box.overlaps, taken)) and not box.padded(3).count_contains(dots)
