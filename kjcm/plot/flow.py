"""The flow chart of the rows, from the files to training and test."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from kjcm.analysis.formats import show
from kjcm.errors import counted
from kjcm.plot.style import GREY, WIDTH, canvas, picture

FILES = {"wave5": "5th KWCS", "wave6": "6th KWCS", "path": "data file", "test_path": "test file"}
SIDES = {"train": "Training rows", "validation": "Validation rows", "unused": "Rows left unused", "test": "Test rows"}


@dataclass(frozen=True)
class _Box:
    """A box of the flow chart: its centre and width in inches, from the upper left corner of the figure."""

    x: float
    y: float
    text: str
    width: float = 2.1

    @property
    def half(self) -> float:
        """Half the height."""
        return 0.1 + 0.09 * (self.text.count("\n") + 1)


@dataclass
class _Chart:
    """Boxes and the arrows between them; each arrow is a line of points."""

    boxes: list[_Box]
    arrows: list[tuple[tuple[float, float], ...]]

    def below(self, above: _Box, box: _Box) -> _Box:
        """Add a box with an arrow from the box above: down, across at half height, down."""
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
def draw_flow(flow: Mapping[str, Any], synthetic: bool, model: str = "K-JCM") -> Figure:
    """Draw the flow of rows from the files to training and test (Fig. 1); a step without rows has no box.

    Args:
        flow: the flow in cohort.json.
        synthetic: of the twin.
        model: name of the model that the training rows train.
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
    """Add the files, the excluded rows and the cohort; return the cohort's box."""
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
        chart.boxes.pop()  # added once per file; keep one
    losses = {
        "Left out: cannot be used": flow["invalid"],
        "Left out: no single code in conversion": flow["unresolved"],
        f"Left out: {counted(flow['below_cutoff_groups'], 'group')} of {flow['cutoff']} rows or fewer": flow[
            "below_cutoff"
        ],
    }
    y = last.y + 0.05
    for text, rows in losses.items():
        if rows:
            y += 0.62
            chart.beside(main, _Box(5.75, y, _counted(text, rows), 2.8))
    return chart.below(
        last, _Box(main, max(y, last.y) + 0.75, _counted(f"Cohort, {counted(flow['groups'], 'group')}", flow["cohort"]))
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
