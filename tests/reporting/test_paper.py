"""The paper's figures: as printed, adding up, and compared with ours to the digit."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from kjcm.analysis.content import Estimate, Table
from kjcm.errors import KjcmError
from kjcm.reporting.paper import VERDICTS, Printed, counts_of_verdicts, load_paper, verdict, verdict_table
from tests.conftest import ROOT

FILE = ROOT / "experiments" / "paper.yaml"
PAPER = load_paper(FILE)
AT_HAND = [figure for figure in PAPER.values() if figure.printed is not None]
WORDS = {"one": 1.0, "five": 5.0, "eight": 8.0}
CELLS = ("groups", "train", "average", "min", "max", "median", "q1", "q3")

NAMES = [
    *(f"figure_1.{name}" for name in ["wave5", "wave6", "read", "unresolved", "below_cutoff"]),
    "figure_1.cohort", "figure_1.train", "figure_1.test",
    *(f"methods.{name}" for name in ["groups_in_classification", "groups_in_data", "groups", "below_cutoff_groups"]),
    *(f"methods.{name}" for name in ["groups_left_out", "unresolved_share", "below_cutoff_share"]),
    *(f"methods.{name}" for name in ["batch_size", "learning_rate", "epochs"]), "abstract.test",
    *(f"table_2.{place}.probability" for place in range(1, 6)),
    *(f"table_3.{name}" for name in ["accuracy", "precision_weighted", "recall_weighted", "f1_weighted"]),
    "figure_2.r_squared", "figure_2.p",
    *(f"table_4.{major}.{name}" for major in range(1, 10) for name in CELLS),
    *(f"supplementary_table_2.top_{k}" for k in range(2, 6)),
    "supplementary_figure_1.k_jcm.q3", "supplementary_figure_1.k_jcm_half.q3",
    *(
        f"supplementary_table_3.{model}.{name}"
        for model in ["k_jcm", "model_2", "model_3", "model_4"]
        for name in ["accuracy", "precision_weighted", "recall_weighted", "f1_weighted"]
    ),
]  # fmt: skip


def value(name: str) -> float:
    found = PAPER[name].value
    assert found is not None
    return found


def parsed(printed: str) -> float:
    """Return the number that a printed string stands for."""
    number = WORDS.get(printed) or float(re.sub(r"[<,%\s]", "", printed))
    return number / 100 if printed.endswith("%") else number


def flat(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def occurs(printed: str, text: str) -> bool:
    """Whether `printed` stands in `text`, not as a part of a longer number or word."""
    return re.search(rf"(?<![\w.,]){re.escape(printed)}(?!\w|[.,]\d)", text) is not None


# The file


def test_ids_are_unique_and_all_there() -> None:
    written = re.findall(r"^ *- \{id: ([^,]+),", FILE.read_text(encoding="utf-8"), re.MULTILINE)
    assert written == list(PAPER)
    assert set(NAMES) <= set(PAPER) and len(set(NAMES)) == len(NAMES) == 124


def test_every_figure_stands_in_the_article(shared: Callable[[str], Path]) -> None:
    text = flat(shared("paper/k-jcm-2024.txt").read_text(encoding="utf-8"))
    assert len(AT_HAND) > 100
    assert not [figure.id for figure in AT_HAND if not occurs(figure.printed or "", text)]


def test_every_figure_stands_where_it_is_said_to(shared: Callable[[str], Path]) -> None:
    """Tables and figures float in the sections' text, so those are looked for from their heading on."""
    text = flat(shared("paper/k-jcm-2024.txt").read_text(encoding="utf-8"))
    heads = ("ABSTRACT", "BACKGROUND", "METHODS", "RESULTS", "DISCUSSION", "CONCLUSIONS")
    starts = [re.search(rf"(?<!\w){head} (?=[A-Z])", text) for head in heads]
    bounds = [start.start() for start in starts if start]
    assert len(bounds) == len(heads) and bounds == sorted(bounds)
    spans = {head.title(): text[a:b] for head, a, b in zip(heads, bounds, [*bounds[1:], len(text)], strict=True)}
    for table in ("Table 2", "Table 3", "Table 4"):
        spans[table] = text[text.index(f"{table}. ") :]
    spans["Figure 1"], spans["Figure 2"] = spans["Methods"], spans["Results"]
    for figure in AT_HAND:
        for place in figure.places:
            assert occurs(figure.printed or "", spans[place]), f"{figure.id}: {figure.printed} is not in {place}"


def test_table_4_reads_as_in_the_article(shared: Callable[[str], Path]) -> None:
    text = flat(shared("paper/k-jcm-2024.txt").read_text(encoding="utf-8"))
    for major in range(1, 10):
        row = PAPER[f"table_4.{major}.groups"].row
        groups, train, average, low, high, median, q1, q3 = (PAPER[f"table_4.{major}.{name}"].printed for name in CELLS)
        line = f"{row[0]}.{row[1:]} {groups} {train} {average} {low}–{high} {median} ({q1}–{q3})"
        assert line in text
        assert {PAPER[f"table_4.{major}.{name}"].row for name in CELLS} == {row}


def test_table_2_reads_as_in_the_article(shared: Callable[[str], Path]) -> None:
    text = shared("paper/k-jcm-2024.txt").read_text(encoding="utf-8")
    table = flat(text[text.index("Table 2. Example") : text.index("Table 3. Eval")])
    for place in range(1, 6):
        figure = PAPER[f"table_2.{place}.probability"]
        assert re.search(rf" {figure.row} [A-Z][A-Za-z -]+ {figure.printed}", table), figure.id


@pytest.mark.parametrize("figure", AT_HAND, ids=lambda figure: figure.id)
def test_value_and_tolerance_follow_from_the_printing(figure: Printed) -> None:
    printed = figure.printed or ""
    assert figure.value == pytest.approx(parsed(printed), abs=1e-12)
    assert (figure.kind == "percent") == printed.endswith("%")
    assert (figure.bound == "below") == printed.startswith("<")
    decimals = len(printed.rstrip("%").partition(".")[2])
    half = 0.5 * 10**-decimals / (100 if figure.kind == "percent" else 1)
    exact = figure.kind == "count" or figure.bound == "below"
    assert figure.tolerance == (0 if exact else pytest.approx(half))
    assert figure.kind != "count" or float(figure.value or 0).is_integer()


def test_what_is_not_at_hand_says_so() -> None:
    gone = [figure for figure in PAPER.values() if figure.printed is None]
    assert {figure.id for figure in gone} >= {f"supplementary_table_2.top_{k}" for k in (2, 3, 4)}
    for figure in gone:
        assert figure.value is None and figure.tolerance == 0 and "not at hand" in figure.why, figure.id


def test_the_flow_adds_up() -> None:
    assert value("figure_1.wave5") + value("figure_1.wave6") == value("figure_1.read")
    left = value("figure_1.read") - value("figure_1.unresolved") - value("figure_1.below_cutoff")
    assert left == value("figure_1.cohort") == value("figure_1.train") + value("figure_1.test")
    assert value("figure_1.cohort") * value("methods.train_share") == pytest.approx(value("figure_1.train"), abs=0.51)
    for name in ("unresolved", "below_cutoff"):
        share = PAPER[f"methods.{name}_share"]
        assert value(share.id) == pytest.approx(value(f"figure_1.{name}") / value("figure_1.read"), abs=share.tolerance)


def test_the_groups_add_up() -> None:
    absent = value("methods.groups_in_classification") - value("methods.groups_in_data")
    assert absent + value("methods.below_cutoff_groups") == value("methods.groups_left_out")
    assert value("methods.groups_in_data") - value("methods.below_cutoff_groups") == value("methods.groups")


def test_table_4_adds_up() -> None:
    groups, train = (sum(value(f"table_4.{major}.{name}") for major in range(1, 10)) for name in ("groups", "train"))
    assert (groups, train) == (140, 69_693)
    assert "sum to 140" in PAPER["methods.groups"].why and "other 2" in PAPER["methods.groups"].why
    assert "69,693" in PAPER["figure_1.train"].why and value("figure_1.train") - train == 73
    for major in range(1, 10):
        average = PAPER[f"table_4.{major}.average"]
        exact = value(f"table_4.{major}.train") / value(f"table_4.{major}.groups")
        assert value(average.id) == pytest.approx(exact, abs=average.tolerance)
        five = [value(f"table_4.{major}.{name}") for name in ("min", "q1", "median", "q3", "max")]
        assert five == sorted(five)


def test_contradictions_are_named_where_they_stand() -> None:
    abstract, methods = PAPER["abstract.test"], PAPER["figure_1.test"]
    assert abstract.value != methods.value
    assert "29,899" in abstract.why and "28,996" in methods.why
    assert value("figure_1.train") + value("abstract.test") == 98_762 and "98,762" in abstract.why
    failing = PAPER["discussion.failing_share"]
    assert abs(1 - value("table_3.accuracy") - value(failing.id)) > failing.tolerance and "15.56 %" in failing.why
    assert value("table_3.recall_weighted") == pytest.approx(value("table_3.accuracy"), abs=0.005)
    for model in ("k_jcm", "k_jcm_half"):
        below, above = (PAPER[f"supplementary_figure_1.{model}.{name}"] for name in ("q3", "q3_above"))
        assert below.printed == above.printed and "above 0.5" in below.why and "very likely" in below.why
    assert sum(value(f"table_2.{place}.probability") for place in range(1, 6)) == pytest.approx(0.9187)
    assert "91.87" in PAPER["table_2.1.probability"].why


def test_the_k_jcm_row_of_the_supplement_is_table_3() -> None:
    for name in ("accuracy", "precision_weighted", "recall_weighted", "f1_weighted"):
        first, second = PAPER[f"table_3.{name}"], PAPER[f"supplementary_table_3.k_jcm.{name}"]
        assert (first.printed, first.value, first.kind) == (second.printed, second.value, second.kind)


# The verdict

ACCURACY = Printed(
    id="a", table="Table 3", row="K-JCM", metric="accuracy", printed="84.44%", value=0.8444, places=("Table 3",),
    tolerance=0.00005, why="two decimals", kind="percent",
)  # fmt: skip
ROWS = replace(ACCURACY, id="n", metric="rows", printed="29,899", value=29_899, tolerance=0, kind="count")
P = replace(ACCURACY, id="p", metric="p", printed="< 0.001", value=0.001, tolerance=0, kind="p", bound="below")


@pytest.mark.parametrize(
    ("printed", "ours", "said"),
    [
        (ACCURACY, Estimate(0.8444), "match"),
        (ACCURACY, Estimate(0.84445), "match"),  # the border, on which floating point falls either way
        (ACCURACY, Estimate(0.84435), "match"),
        (ACCURACY, Estimate(0.844451), "off"),
        (ACCURACY, Estimate(0.844349), "off"),
        (ACCURACY, Estimate(0.84, 0.01), "off"),  # a standard deviation is no interval
        (ACCURACY, Estimate(0.85, 0.01, 0.84445, 0.86), "match"),
        (ACCURACY, Estimate(0.85, 0.01, 0.844451, 0.86), "off"),
        (ACCURACY, Estimate(0.83, 0.01, 0.82, 0.84435), "match"),
        (ACCURACY, Estimate(0.83, 0.01, 0.82, 0.844349), "off"),
        (ACCURACY, Estimate(0.8444, None, 0.8446, 0.86), "match"),  # an interval that misses its own mean
        (ACCURACY, Estimate(0.8444, None, 0.82, 0.8441), "match"),
        (ROWS, Estimate(29_899), "match"),
        (ROWS, Estimate(29_898), "off"),
        (ROWS, Estimate(29_900), "off"),
        (P, Estimate(0.00099), "match"),
        (P, Estimate(0.001), "off"),
        (P, Estimate(0.002, None, 0.0001, 0.003), "off"),
    ],
)
def test_match_or_off_at_the_borders(printed: Printed, ours: Estimate, said: str) -> None:
    assert verdict(printed, ours, True) == said


def test_borders_hold_for_every_figure_of_the_article() -> None:
    for figure in AT_HAND:
        if figure.compared and figure.bound is None and figure.value is not None:
            step = figure.tolerance / 100 or 0.01
            for side in (-1, 1):
                border = figure.value + side * figure.tolerance
                assert verdict(figure, Estimate(border), True) == "match", figure.id
                assert verdict(figure, Estimate(border + side * step), True) == "off", figure.id


def test_a_verdict_is_given_only_where_there_is_something_to_compare() -> None:
    ours = Estimate(0.8444)
    gone = replace(ACCURACY, printed=None, value=None)
    setting = replace(ACCURACY, compared=False)
    assert verdict(ACCURACY, None, True) == verdict(ACCURACY, None, False) == "not run"
    assert verdict(ACCURACY, ours, False) == "not comparable"
    assert {verdict(gone, one, able) for one in (ours, None) for able in (True, False)} == {"not printed"}
    assert {verdict(setting, one, able) for one in (ours, None) for able in (True, False)} == {"for reference"}


# The table

GIVEN = {
    "table_3.accuracy": Estimate(0.8461, 0.0012, 0.8421, 0.8502),
    "figure_1.test": Estimate(29_899),
    "table_3.f1_weighted": Estimate(0.81, None, 0.80, 0.82),
    "table_4.3.average": Estimate(1_127.8),
    "figure_2.p": Estimate(1e-20),
    "supplementary_table_2.top_2": Estimate(0.91),
}


def rows_of(table: Table) -> dict[str, dict[str, Any]]:
    heads = [column.name for column in table.columns]
    return {name: dict(zip(heads, row, strict=True)) for name, row in zip(PAPER, table.rows, strict=True)}


def test_table_with_figures_that_can_be_compared() -> None:
    table = verdict_table(PAPER, GIVEN, True)
    rows = rows_of(table)
    assert table.key == "verdicts" and table.title == "The paper and this study, figure by figure"
    assert list(rows["table_3.accuracy"].values()) == [
        "Table 3", "K-JCM", "accuracy", "84.44 %", "84.61 %", "0.12 %", "84.21 % to 85.02 %", "0.17 %", "match",
        "two decimals of a percentage",
    ]  # fmt: skip
    assert list(rows["figure_1.test"].values())[3:9] == ["29,899", "29,899", None, None, "0", "match"]
    assert list(rows["table_3.f1_weighted"].values())[3:9] == ["0.83", "0.81", None, "0.80 to 0.82", "−0.02", "off"]
    assert list(rows["table_4.3.average"].values())[3:9] == ["1,128", "1,127.8", None, None, "−0.2", "match"]
    assert list(rows["figure_2.p"].values())[3:9] == ["< 0.001", "< 0.001", None, None, None, "match"]
    assert list(rows["supplementary_table_2.top_2"].values())[3:9] == [
        "not at hand", "91.00 %", None, None, None, "not printed",
    ]  # fmt: skip
    assert list(rows["table_3.recall_weighted"].values())[3:9] == ["0.84", "not run", None, None, None, "not run"]
    assert list(rows["methods.epochs"].values())[3:9] == ["eight", None, None, None, None, "for reference"]


def test_table_with_figures_that_cannot_be_compared() -> None:
    table = verdict_table(PAPER, GIVEN, False)
    rows = rows_of(table)
    assert rows["table_3.accuracy"]["ours"] == "84.61 %" and rows["table_3.accuracy"]["SD over seeds"] == "0.12 %"
    assert {row["difference"] for row in rows.values()} == {None}
    assert {row["verdict"] for row in rows.values()} == {"not comparable", "not run", "not printed", "for reference"}
    assert "other data than the paper's" in table.notes[0]
    assert "other data" not in " ".join(verdict_table(PAPER, GIVEN, True).notes)


def test_counts_of_verdicts() -> None:
    never = sum(not figure.compared and figure.printed is not None for figure in PAPER.values())
    gone = sum(figure.printed is None for figure in PAPER.values())
    rest = len(PAPER) - never - gone
    counts = counts_of_verdicts(verdict_table(PAPER, GIVEN, True))
    assert counts == {
        "match": 4, "off": 1, "not comparable": 0, "not run": rest - 5, "not printed": gone, "for reference": never,
    }  # fmt: skip
    assert tuple(counts) == VERDICTS
    assert counts_of_verdicts(verdict_table(PAPER, GIVEN, False))["not comparable"] == 5


def test_a_figure_of_ours_that_the_article_has_not_is_refused() -> None:
    with pytest.raises(KjcmError, match=r"'table_3\.acuracy'"):
        verdict_table(PAPER, {"table_3.acuracy": Estimate(0.8)}, True)


# Loading

GOOD: Mapping[str, Any] = {
    "id": "table_3.accuracy", "table": "Table 3", "row": "K-JCM", "metric": "accuracy", "printed": "84.44%",
    "value": 0.8444, "places": ["Table 3"], "tolerance": 0.00005, "why": "two decimals", "kind": "percent",
}  # fmt: skip


def written(path: Path, *entries: Mapping[str, Any]) -> Path:
    path.write_text(yaml.safe_dump({"figures": [dict(entry) for entry in entries]}), encoding="utf-8")
    return path


def test_load_fills_in_what_is_left_out(tmp_path: Path) -> None:
    bare = {key: one for key, one in GOOD.items() if key != "kind"}
    figure = load_paper(written(tmp_path / "paper.yaml", bare))["table_3.accuracy"]
    assert (figure.kind, figure.bound, figure.compared, figure.places) == ("number", None, True, ("Table 3",))


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"colour": "red"}, "'colour'"),
        ({"printed": None}, "'value'"),
        ({"value": None}, "'value'"),
        ({"value": "0.8444"}, "'value'"),
        ({"value": float("nan")}, "'value'"),
        ({"printed": 84.44}, "'printed'"),
        ({"tolerance": -0.1}, "'tolerance'"),
        ({"tolerance": None}, "'tolerance'"),
        ({"kind": "ratio"}, "'kind'"),
        ({"bound": "above"}, "'bound'"),
        ({"compared": "no"}, "'compared'"),
        ({"places": "Table 3"}, "'places'"),
        ({"row": 1}, "'row'"),
    ],
)
def test_a_broken_figure_is_refused_by_file_id_and_key(tmp_path: Path, change: dict[str, Any], key: str) -> None:
    path = written(tmp_path / "paper.yaml", {**GOOD, **change})
    with pytest.raises(KjcmError) as caught:
        load_paper(path)
    assert str(path) in str(caught.value) and "table_3.accuracy" in str(caught.value) and key in str(caught.value)


@pytest.mark.parametrize("key", [key for key in GOOD if key not in ("kind", "id")])
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    path = written(tmp_path / "paper.yaml", {name: one for name, one in GOOD.items() if name != key})
    with pytest.raises(KjcmError, match=rf"paper\.yaml, table_3\.accuracy: key '{key}' is missing"):
        load_paper(path)


def test_a_figure_without_an_id_is_named_by_its_number(tmp_path: Path) -> None:
    path = written(tmp_path / "paper.yaml", GOOD, {name: one for name, one in GOOD.items() if name != "id"})
    with pytest.raises(KjcmError, match="figure 2: key 'id' is missing"):
        load_paper(path)


def test_an_id_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "paper.yaml", GOOD, GOOD)
    with pytest.raises(KjcmError, match=r"paper\.yaml, table_3\.accuracy, key 'id'"):
        load_paper(path)


@pytest.mark.parametrize("text", ["", "figures: 3", "- 1", "figures: [1]", "figures: [", "other: []"])
def test_a_file_of_another_shape_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "paper.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(KjcmError, match=re.escape(str(path))):
        load_paper(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(KjcmError, match=r"absent\.yaml"):
        load_paper(tmp_path / "absent.yaml")
