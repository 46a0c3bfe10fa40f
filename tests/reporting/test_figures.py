"""The pictures show their numbers, all of them, the same way each time."""

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from fontTools.ttLib import TTFont
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from PIL import Image

from kjcm.analysis.content import Estimate
from kjcm.analysis.statistics import Regression
from kjcm.plot.curves import draw_intervals
from kjcm.plot.flow import draw_flow
from kjcm.plot.font import FAMILY, font_path
from kjcm.plot.groups import draw_precision_by_size, draw_sizes_by_precision
from kjcm.plot.style import SYNTHETIC, WIDTH, png, svg

# The paper's Fig. 1.
FLOW: dict[str, Any] = {
    "read": 100_743, "read_by_file": {"wave5": 50_205, "wave6": 50_538}, "invalid": 0, "unresolved": 1_026,
    "converted": 99_717, "cutoff": 10, "below_cutoff": 52, "below_cutoff_groups": 10, "cohort": 99_665, "groups": 142,
    "train": 69_766, "validation": 0, "unused": 0, "test": 29_899,
}  # fmt: skip
ONE_FILE: dict[str, Any] = {
    "read": 5_000, "read_by_file": {"path": 5_000}, "invalid": 3, "unresolved": 0, "converted": 4_997, "cutoff": 5,
    "below_cutoff": 4, "below_cutoff_groups": 1, "cohort": 4_993, "groups": 30, "train": 2_000, "validation": 400,
    "unused": 1_100, "test": 1_493,
}  # fmt: skip
SIZES = {"K-JCM": ([12.0, 30, 114, 90], [40.0, 900, 2400]), "K-JCM-half": ([6.0, 15, 57], [20.0, 450, 1200, 30])}
ACCURACY = [
    ("K-JCM", Estimate(0.8444, 0.001, 0.8402, 0.849)),
    ("Model 2", Estimate(0.86, 0.002, 0.855, 0.866)),
    ("SVM", Estimate(0.79)),
]


FIT = Regression(slope=0.25, intercept=0.1, r_squared=0.4849, p=1e-9, n=60)


def points(groups: int = 60) -> pd.DataFrame:
    """Return made-up groups, two of them far from the line."""
    chance = np.random.default_rng(1)
    sizes = np.round(10 ** chance.uniform(0.8, 3.3, groups))
    precision = np.clip(0.1 + 0.25 * np.log10(sizes) + chance.normal(0, 0.05, groups), 0, 1)
    precision[:2] = (0.0, 1.0)
    sizes[:2] = (1500, 8)
    titles = [f"원예·조경 종사자 {place}" for place in range(groups)]
    codes = [f"{place % 10 or 'A'}{place:02}" for place in range(groups)]
    return pd.DataFrame(
        {"code": codes, "title": titles, "n_train": sizes, "precision": precision, "major": [code[0] for code in codes]}
    )


def drawings(synthetic: bool = False) -> dict[str, Callable[[], Figure]]:
    return {
        "flow": lambda: draw_flow(FLOW, synthetic),
        "points": lambda: draw_precision_by_size(points(), FIT, synthetic=synthetic),
        "sizes": lambda: draw_sizes_by_precision(SIZES, synthetic=synthetic),
        "models": lambda: draw_intervals(ACCURACY, synthetic=synthetic),
    }


def texts(figure: Figure) -> list[str]:
    """Return all that is written."""
    figure.draw_without_rendering()
    return [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text()]


def axes_of(figure: Figure) -> Axes:
    (axes,) = figure.axes
    return axes


def dots(axes: Axes) -> np.ndarray:
    """Return [dots, 2] of every scatter in order."""
    found = [part.get_offsets() for part in axes.collections if isinstance(part, PathCollection)]
    return np.concatenate([np.asarray(offsets) for offsets in found])


@pytest.mark.parametrize("name", drawings())
def test_same_bytes_twice_whatever_the_users_settings(name: str) -> None:
    first = drawings()[name]
    with mpl.rc_context({"font.size": 20, "lines.linewidth": 9, "svg.fonttype": "none"}):
        second = drawings()[name]()
        assert svg(second) == svg(first()) and png(second) == png(first())
        assert mpl.rcParams["font.size"] == 20  # and they stay as they were
    assert FAMILY not in mpl.rcParams["font.family"]


@pytest.mark.parametrize("name", drawings())
def test_every_picture_of_the_twin_says_so(name: str) -> None:
    assert SYNTHETIC in texts(drawings(synthetic=True)[name]())
    assert not [text for text in texts(drawings()[name]()) if "synthetic" in text.lower() or "Twin" in text]


@pytest.mark.parametrize("name", drawings())
def test_png_has_ink_and_svg_needs_no_font_and_no_network(name: str) -> None:
    figure = drawings()[name]()
    picture = np.asarray(Image.open(io.BytesIO(png(figure))).convert("L"))
    assert picture.shape[1] == round(WIDTH * 200)
    assert 0.005 < (picture < 128).mean() < 0.5
    assert picture[0].min() == picture[:, 0].min() == 255  # nothing runs out at the edges
    vector = svg(figure).decode()
    assert "<text" not in vector and "font-family" not in vector and "<image" not in vector
    assert "<dc:date>" not in vector and 'href="http' not in vector


def test_hangul_is_drawn_with_the_reports_own_typeface(recwarn: pytest.WarningsRecorder) -> None:
    """A glyph that no typeface has would draw a warning."""
    png(draw_precision_by_size(points(), FIT, synthetic=False))
    assert [str(warning.message) for warning in recwarn if "Glyph" in str(warning.message)] == []


def test_flow_chart_of_two_files_has_the_articles_numbers() -> None:
    assert sorted(texts(draw_flow(FLOW, False))) == sorted(
        [
            "5th KWCS\n(n = 50,205)",
            "6th KWCS\n(n = 50,538)",
            "All rows\n(n = 100,743)",
            "Left out: no single code in conversion\n(n = 1,026)",
            "Left out: 10 groups of 10 rows or fewer\n(n = 52)",
            "Cohort, 142 groups\n(n = 99,665)",
            "Training rows\n(n = 69,766)",
            "Test rows\n(n = 29,899)",
            "K-JCM",
            "Evaluation",
        ]
    )
    assert "Twin of the 5th KWCS\n(n = 50,205)" in texts(draw_flow(FLOW, True))


def test_flow_chart_of_one_file_leaves_out_what_has_no_rows() -> None:
    assert sorted(texts(draw_flow(ONE_FILE, False, model="SVM"))) == sorted(
        [
            "Data file\n(n = 5,000)",
            "Left out: cannot be used\n(n = 3)",
            "Left out: 1 group of 5 rows or fewer\n(n = 4)",
            "Cohort, 30 groups\n(n = 4,993)",
            "Training rows\n(n = 2,000)",
            "Validation rows\n(n = 400)",
            "Rows left unused\n(n = 1,100)",
            "Test rows\n(n = 1,493)",
            "SVM",
            "Evaluation",
        ]
    )


@pytest.mark.parametrize("flow", [FLOW, ONE_FILE, {**FLOW, "test": 0, "below_cutoff": 0}])
def test_flow_chart_has_room_for_every_text_and_box(flow: dict[str, Any]) -> None:
    figure = draw_flow(flow, True)
    figure.draw_without_rendering()
    axes = axes_of(figure)
    boxes = [patch.get_window_extent() for patch in axes.patches]
    words = [text.get_window_extent() for text in axes.texts if not isinstance(text, Annotation)]
    assert len(boxes) == len(words)
    for box, word in zip(boxes, words, strict=True):
        assert box.x0 < word.x0 and word.x1 < box.x1 and box.y0 < word.y0 and word.y1 < box.y1
        assert figure.bbox.x0 < box.x0 and box.x1 < figure.bbox.x1
        assert sum(box.overlaps(other) for other in boxes) == 1  # itself


def test_scatter_draws_every_group_and_the_line() -> None:
    frame = points()
    figure = draw_precision_by_size(frame, FIT, synthetic=False)
    axes = axes_of(figure)
    drawn = dots(axes)
    expected = frame.sort_values("major", kind="stable")[["n_train", "precision"]].to_numpy()
    zero = expected[:, 1] == 0
    np.testing.assert_array_equal(drawn[~zero], expected[~zero])
    np.testing.assert_array_equal(drawn[zero, 0], expected[zero, 0])
    assert (drawn[zero, 1] < 0).all() and (drawn[zero, 1] > axes.get_ylim()[0]).all()
    assert f"Grey band: {zero.sum()} of 60 groups with precision 0" in texts(figure)
    ((x, y),) = [np.asarray(line.get_data()) for line in axes.lines]
    np.testing.assert_allclose(y, 0.1 + 0.25 * np.log10(x))
    assert x[0] >= frame["n_train"].min() and x[-1] <= frame["n_train"].max() and axes.get_xscale() == "log"
    assert y.min() >= 0 and y.max() <= 1
    assert "R² = 0.48, p < 0.001" in texts(figure)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == sorted(set(frame["major"]))
    assert "p = 0.012" in " ".join(texts(draw_precision_by_size(frame, replace(FIT, p=0.0123), synthetic=False)))


def test_groups_of_one_size_with_precision_zero_do_not_hide_each_other() -> None:
    frame = points().assign(n_train=20.0, precision=0.0)
    heights = np.sort(dots(axes_of(draw_precision_by_size(frame, None, synthetic=False)))[:, 1])
    assert len(heights) == 60 and np.diff(heights).min() > 0


@pytest.mark.parametrize(("slope", "intercept"), [(0.9, -0.5), (-0.4, 1.2)])
def test_the_line_stays_between_nothing_and_one(slope: float, intercept: float) -> None:
    axes = axes_of(draw_precision_by_size(points(), replace(FIT, slope=slope, intercept=intercept), synthetic=False))
    (line,) = axes.lines
    heights = np.asarray(line.get_ydata(), float)
    assert len(heights) and heights.min() >= 0 and heights.max() <= 1


def test_less_and_greater_are_drawn_as_signs_and_not_as_brackets() -> None:
    """The typeface once had an angle bracket, higher than wide, where it has '<'."""
    font = TTFont(font_path())
    glyphs, names = font["glyf"], font.getBestCmap()
    for sign in "<>":
        shape = glyphs[names[ord(sign)]]
        assert shape.xMax - shape.xMin > 0.9 * (shape.yMax - shape.yMin)


def names_of(figure: Figure) -> list[Annotation]:
    """Return the names beside points, having seen that they cover no point and no other name."""
    figure.draw_without_rendering()
    axes = axes_of(figure)
    names = [text for text in axes.texts if isinstance(text, Annotation)]
    boxes = [Text.get_window_extent(name) for name in names]
    pixels = axes.transData.transform(dots(axes))
    for place, box in enumerate(boxes):
        assert box.count_contains(pixels) == 0, names[place]
        assert not any(box.overlaps(other) for other in boxes[:place]), names[place]
        assert axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1
    return names


def test_scatter_names_the_farthest_groups() -> None:
    frame = points()
    names = [name.get_text() for name in names_of(draw_precision_by_size(frame, FIT, synthetic=False))]
    assert len(names) == 6
    assert {f"{frame['code'][row]} {frame['title'][row]}" for row in (0, 1)} <= set(names)


def test_names_of_crowded_points_leave_each_other_room() -> None:
    frame = points()
    frame.loc[:15, "n_train"] = np.arange(800, 832, 2)
    frame.loc[:15, "precision"] = 0.0
    names = names_of(draw_precision_by_size(frame, FIT, synthetic=False))
    assert 2 <= len(names) <= 6


def test_scatter_without_a_line_names_none() -> None:
    figure = draw_precision_by_size(points(2), None, synthetic=False)
    assert not axes_of(figure).lines and not names_of(figure)
    assert not [text for text in texts(figure) if "R²" in text]


def test_titles_are_no_formulas_of_the_drawing_program() -> None:
    frame = points().assign(title="$\\frac{1}$ <b>")
    assert any("$\\frac{1}$ <b>" in text for text in texts(draw_precision_by_size(frame, FIT, synthetic=False)))
    png(draw_precision_by_size(frame, FIT, synthetic=False))


def test_boxes_show_sizes_and_third_quartiles() -> None:
    figure = draw_sizes_by_precision(SIZES, synthetic=False)
    axes = axes_of(figure)
    np.testing.assert_array_equal(
        dots(axes)[:, 1], np.concatenate([np.sort(part) for pair in SIZES.values() for part in pair])
    )
    quartiles = [float(np.quantile(part, 0.75)) for pair in SIZES.values() for part in pair]
    lines = [np.asarray(line.get_ydata(), float) for line in axes.lines]
    assert [float(line.max()) for line in lines if len(line) == 5] == quartiles  # the boxes
    assert [text.get_text() for text in axes.texts] == ["Q3 = 96", "Q3 = 1,650", "Q3 = 36", "Q3 = 637.5"]
    assert quartiles == [96, 1650, 36, 637.5]
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "K-JCM\nprecision < 0.5\n4 groups",
        "K-JCM\nprecision ≥ 0.5\n3 groups",
        "K-JCM-half\nprecision < 0.5\n3 groups",
        "K-JCM-half\nprecision ≥ 0.5\n4 groups",
    ]
    assert axes.get_yscale() == "log"


def test_a_side_without_groups_says_so() -> None:
    assert "no group" in texts(draw_sizes_by_precision({"K-JCM": ([], [10.0])}, synthetic=False))


def test_intervals_show_every_model_from_the_top() -> None:
    figure = draw_intervals(ACCURACY, synthetic=False)
    axes = axes_of(figure)
    np.testing.assert_array_equal(dots(axes), [(estimate.mean, place) for place, (_, estimate) in enumerate(ACCURACY)])
    assert [np.asarray(line.get_xdata(), float).tolist() for line in axes.lines] == [[0.8402, 0.849], [0.855, 0.866]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["K-JCM", "Model 2", "SVM"]
    assert axes.yaxis_inverted()
    assert [text.get_text() for text in axes.texts] == [
        "84.44 % [84.02, 84.90]",
        "86.00 % [85.50, 86.60]",
        "79.00 %",
    ]


def test_intervals_for_a_narrow_screen_name_the_models_above_them() -> None:
    figure = draw_intervals(ACCURACY, synthetic=True, narrow=True)
    wide = axes_of(draw_intervals(ACCURACY, synthetic=True))
    axes = axes_of(figure)
    np.testing.assert_array_equal(dots(axes), dots(wide))
    assert figure.get_figwidth() * 96 < 390 - 40  # a telephone's width in CSS pixels, without the page's margins
    names = [text.get_text() for text in axes.texts]
    assert names == ["K-JCM: 84.44 % [84.02, 84.90]", "Model 2: 86.00 % [85.50, 86.60]", "SVM: 79.00 %"]
    whole = figure.get_window_extent()
    for text in axes.texts:
        extent = text.get_window_extent()
        assert whole.x0 <= extent.x0 and extent.x1 <= whole.x1
