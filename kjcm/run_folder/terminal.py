"""Runs as a table in a terminal, with the columns for which there is room."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pandas as pd

from kjcm.metrics import METRICS
from kjcm.run_folder.listing import is_measured, is_metric, record_of

RANKED = (  # on a narrow screen the first of these stay longest
    "validation_f1_weighted", "f1_weighted", "accuracy", "validation_loss", "top_5_accuracy", "validation_accuracy",
)  # fmt: skip
FOLDED = 24  # characters of a folder's line at least


def for_a_screen(frame: pd.DataFrame, keep: Sequence[str] = ()) -> pd.DataFrame:
    """Return the columns that tell lines apart, the first metrics, those of `keep`, and the folder."""
    always = {"n", "seconds", "seconds_mean", "folder", *keep}

    def is_shown(name: str) -> bool:
        if is_metric(frame, name) and name not in always:
            return _rank(name) <= len(RANKED) and bool(frame[name].notna().any())
        alone = len(frame) == 1 and name in ("state", "name")
        return name in always or alone or (name != "reason" and frame[name].astype(str).nunique() > 1)

    return frame[[name for name in frame.columns if is_shown(name)]]


def _rank(column: str) -> int:
    """Return which metrics stay longest on a narrow screen: least first, metrics of the user's own after RANKED."""
    name = re.sub("_(mean|sd)$", "", column)
    return RANKED.index(name) if name in RANKED else len(RANKED) + (record_of(name).name in METRICS)


def show(frame: pd.DataFrame, title: str, keep: Sequence[str] = ()) -> None:
    """Print a table of runs, as many of its columns as there is room for, and beneath it the reasons of those that have one."""
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console = Console(markup=False, highlight=False, width=240)  # a log file has no edge
    cells, left_out = _fitting(_cells(for_a_screen(frame, keep)), console.width, keep)
    table = Table(title=title, title_justify="left")
    for name, column in cells.items():
        numbers = pd.to_numeric(column.str.partition(" ")[0].str.replace(",", "").replace("", None), errors="coerce")
        number = numbers.notna().eq(column.ne("")).all()
        table.add_column(_label(str(name), cells), justify="right" if number else "left", overflow="fold")
    for line in cells.itertuples(index=False):
        table.add_row(*line)
    console.print(table)
    if left_out:
        console.print(
            f"no room for {', '.join(left_out)}: a wider terminal, or out=FILE (kjcm runs), shows them", soft_wrap=True
        )
    if "reason" in frame:
        told = frame[frame["reason"].ne("")]
        lines = (
            ": ".join(filter(None, line)) for line in zip(told["state"], told["folder"], told["reason"], strict=True)
        )
        for text, count in Counter(lines).items():
            console.print(text + (f" ({count} jobs)" if count > 1 else ""), soft_wrap=True)


def _cells(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the cells as texts, each mean with its SD."""
    names = [str(name) for name in frame.columns if not str(name).endswith("_sd")]
    columns = {name: [_cell(line, name, is_measured(frame, name)) for _, line in frame.iterrows()] for name in names}
    cells = pd.DataFrame(columns, dtype=str)
    cells.attrs = frame.attrs
    return cells


def _fitting(cells: pd.DataFrame, width: int, keep: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """Return the columns that fit beside each other, and the names of those for which there is no room."""
    from rich.cells import cell_len

    def wide(name: str) -> int:
        whole = max(map(cell_len, [_label(name, cells), *cells[name]]))
        return 3 + (min(whole, FOLDED) if name == "folder" else whole)

    names = [str(name) for name in cells.columns if name not in keep]
    empty = (cells == "").sum()  # a metric that most runs have stays before one that few have
    metrics = sorted(
        (name for name in names if is_metric(cells, name)), key=lambda name: (int(empty[name]), _rank(name))
    )
    seconds = [name for name in names if name.startswith("seconds")]
    kept = [name for name in cells.columns if is_metric(cells, str(name)) and name in keep]
    shown, left_out = [str(name) for name in cells.columns], list[str]()
    # one metric stays, and so do all columns that tell runs apart
    for name in (*seconds, *(metrics if kept else metrics[1:])[::-1], *(["folder"] if "folder" in names else [])):
        if sum(map(wide, shown)) < width:
            break
        shown.remove(name)
        left_out.append(name)
    for name in left_out[::-1]:  # a column that was too wide may leave room for narrower ones
        if sum(map(wide, [*shown, name])) < width:
            shown.append(name)
            left_out.remove(name)
    return cells[[name for name in cells.columns if name in shown]], left_out


def _label(name: str, among: pd.DataFrame) -> str:
    """Return what a column is called on the screen: a metric's label, or a key's last part where no other has it."""
    name = name.removesuffix("_mean")
    if is_metric(among, name):
        return f"{'test' if record_of(name).name == name else 'val'} {record_of(name).label}"
    end = name.rpartition(".")[2]
    return end if sum(str(other).rpartition(".")[2] == end for other in among.columns) == 1 else name


def _cell(line: "pd.Series[Any]", name: str, measured: bool) -> str:
    value = line[name]
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return ""
    if not isinstance(value, float):
        return str(value)
    if not measured:
        return f"{value:g}"
    text = f"{value:,.1f}" if name.startswith("seconds") else f"{value:.4f}"
    spread = line.get(f"{name.removesuffix('_mean')}_sd") if name.endswith("_mean") else None
    return text if spread is None or pd.isna(spread) else f"{text} ± {spread:.4f}"
