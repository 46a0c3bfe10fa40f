"""The paper's printed figures, and whether ours agree.

Source: Kim T-Y et al., Ann Occup Environ Med 2024;36:e19. The figures are in experiments/paper.yaml, which no code writes.
"""

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from math import isfinite
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from kjcm.analysis.content import NOT_RUN, Column, Estimate, Kind, Table, Value
from kjcm.analysis.formats import show
from kjcm.errors import KjcmError, some

VERDICTS = ("match", "off", "not comparable", NOT_RUN, "not printed", "for reference")
ROUND_OFF = 1e-9  # floating-point error at a border
NOT_COMPARABLE = (
    "Not comparable: our figures come from other data than the paper's. The table shows no differences, because they would "
    "not say how close the models are."
)
MANNER = (
    "Match: the paper's figure equals ours or is in our 95 % interval, within half of its last printed digit (counts: exactly).",
    "Differences are ours minus the paper's; differences of percentages are in percentage points.",
)
COLUMNS = (
    Column("where"), Column("row"), Column("metric"), Column("paper", "figure"), Column("ours", "figure"),
    Column("SD over seeds", "figure"), Column("95 % interval", "figure"), Column("difference", "figure"), Column("verdict"),
    Column("remark"),
)  # fmt: skip
VERDICT = [column.name for column in COLUMNS].index("verdict")


@dataclass(frozen=True)
class Printed:
    """A figure of the paper.

    Attributes:
        id: name of the figure, as `table_3.accuracy`.
        table: table, figure or section of the paper.
        row: row of that table, as a model or a group.
        metric: what was counted or measured.
        printed: the paper's own characters; None if the figure is in the supplement, which is not at hand.
        value: the figure in plain units: 0.8444 for 84.44 %.
        places: where the paper prints the figure.
        tolerance: rounding of the printed figure.
        why: reason for the tolerance, and remarks.
        kind: format of the figure.
        bound: 'below' if the paper prints only an upper bound.
        compared: False if no run can give the figure, as for a setting.
    """

    id: str
    table: str
    row: str
    metric: str
    printed: str | None
    value: float | None
    places: tuple[str, ...]
    tolerance: float
    why: str
    kind: Kind = "number"
    bound: Literal["below"] | None = None
    compared: bool = True


NEEDED = {field.name for field in fields(Printed) if field.default is MISSING}
KNOWN = {field.name for field in fields(Printed)}


def load_paper(path: Path) -> dict[str, Printed]:
    """Return id -> figure of the paper, in the order of the file.

    Raises:
        KjcmError: the file is not a list of figures, an id occurs twice, or a figure has an unknown, missing or wrong key.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise KjcmError(f"{path}: cannot be read as YAML ({error}). Restore it from the repository.") from None
    entries = content.get("figures") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise KjcmError(f"{path}, key 'figures': must be a list of mappings, one per figure of the paper.")
    paper: dict[str, Printed] = {}
    for number, entry in enumerate(entries, 1):
        figure = _printed(entry, f"{path}, {entry.get('id', f'figure {number}')}")
        if figure.id in paper:
            raise KjcmError(f"{path}, {figure.id}, key 'id': occurs twice. Give each figure its own id.")
        paper[figure.id] = figure
    return paper


def _printed(entry: Mapping[str, Any], where: str) -> Printed:
    if missing := NEEDED - set(entry):
        raise KjcmError(f"{where}: key {some(sorted(missing))} is missing. Add it.")
    if unknown := set(entry) - KNOWN:
        raise KjcmError(
            f"{where}: key {some(sorted(map(str, unknown)))} is unknown. Known: {', '.join(sorted(KNOWN))}."
        )
    for key, fine, remedy in _checks(entry):
        if not fine:
            raise KjcmError(f"{where}, key '{key}': {entry.get(key)!r} {remedy}.")
    return Printed(**{**entry, "places": tuple(entry["places"])})


def _checks(entry: Mapping[str, Any]) -> list[tuple[str, bool, str]]:
    """Return each key, whether its value is valid, and the rest of the error message."""
    printed, value, tolerance, places = (entry[key] for key in ("printed", "value", "tolerance", "places"))
    texts = [
        (key, isinstance(entry[key], str), "must be text; quote it") for key in ("id", "table", "row", "metric", "why")
    ]
    return [
        *texts,
        ("printed", printed is None or isinstance(printed, str), "must be text as the paper prints it; quote it"),
        ("value", value is None or _is_number(value), "must be a number or null"),
        ("value", (value is None) == (printed is None), "contradicts 'printed': give both, or null for both"),
        ("tolerance", _is_number(tolerance) and tolerance >= 0, "must be a number, 0 or more"),
        ("places", isinstance(places, list) and all(isinstance(one, str) for one in places), "must be a list of texts"),
        ("kind", entry.get("kind", "number") in get_args(Kind), f"must be one of {', '.join(get_args(Kind))}"),
        ("bound", entry.get("bound") in (None, "below"), "must be 'below' or left out"),
        ("compared", isinstance(entry.get("compared", True), bool), "must be true or false"),
    ]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def verdict(printed: Printed, ours: Estimate | None, comparable: bool) -> str:
    """Return the verdict on our figure compared with the paper's: one of VERDICTS.

    The figures match if `value` is our mean or within our interval, plus or minus `tolerance`. If the paper prints only
    an upper bound, our mean must be below the bound.
    """
    if printed.value is None:
        return "not printed"
    if not printed.compared:
        return "for reference"
    if ours is None:
        return NOT_RUN
    if not comparable:
        return "not comparable"
    return "match" if _agrees(printed.value, printed, ours) else "off"


def _agrees(value: float, printed: Printed, ours: Estimate) -> bool:
    if printed.bound == "below":
        return ours.mean < value
    ends = [
        end for end in (ours.mean, ours.low, ours.high) if end is not None
    ]  # a bootstrap interval can miss the mean
    slack = printed.tolerance + ROUND_OFF
    return min(ends) - slack <= value <= max(ends) + slack


def verdict_table(paper: Mapping[str, Printed], ours: Mapping[str, Estimate], comparable: bool) -> Table:
    """Return the paper's figures next to ours, one row per figure, in the order of `paper`.

    Args:
        paper: id -> figure of the paper.
        ours: id -> our figure; a missing id means not run.
        comparable: whether ours come from the paper's data.

    Raises:
        KjcmError: `ours` has an id that `paper` does not have.
    """
    if unknown := set(ours) - set(paper):
        raise KjcmError(f"figures {some(sorted(unknown))} are ours but not in paper.yaml. Correct their ids.")
    rows = tuple(_row(printed, ours.get(name), comparable) for name, printed in paper.items())
    return Table(
        key="verdicts",
        title="The paper and this study, figure by figure",
        columns=COLUMNS,
        rows=rows,
        notes=MANNER if comparable else (NOT_COMPARABLE,),
    )


def _row(printed: Printed, ours: Estimate | None, comparable: bool) -> tuple[Value, ...]:
    """Return a row as text, because each row has its own kind."""
    said = verdict(printed, ours, comparable)
    mine = NOT_RUN if printed.compared else None
    sd = interval = difference = None
    if ours is not None:
        mine = show(ours.mean, printed.kind)
        sd = None if ours.sd is None else show(ours.sd, printed.kind)
        interval = _interval(ours, printed.kind)
    if ours is not None and printed.value is not None and said in ("match", "off") and printed.bound is None:
        difference = show(ours.mean - printed.value, printed.kind)
    as_printed = spaced(printed.printed) if printed.printed else "not at hand"
    return (
        printed.table, printed.row, printed.metric, as_printed, mine, sd, interval, difference, said, printed.why,
    )  # fmt: skip


def spaced(printed: str) -> str:
    """Return a printed figure with the spaces of this report: '84.44 %', '< 0.001'."""
    return re.sub(r"^<(?=\d)", "< ", re.sub(r"(?<=\d)%", " %", printed))


def _interval(ours: Estimate, kind: Kind) -> str | None:
    if ours.low is None or ours.high is None:
        return None
    return f"{show(ours.low, kind)} to {show(ours.high, kind)}"


def counts_of_verdicts(table: Table) -> dict[str, int]:
    """Return the number of rows of `verdict_table` with each verdict, in the order of VERDICTS, zeros included."""
    said = [row[VERDICT] for row in table.rows]
    return {name: said.count(name) for name in VERDICTS}
