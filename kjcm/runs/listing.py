"""Runs as a table: for the screen, and as CSV; one line a run, or one a setting with mean and SD over its seeds."""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from kjcm.errors import ConfigError, counted, some
from kjcm.metrics import METRICS, Metric, metric_of
from kjcm.runs.folder import read_identity
from kjcm.runs.states import Entry, State, leaves, same_but_seeds

RANKED = (  # on a narrow screen the first of these stay longest
    "validation_f1_weighted", "f1_weighted", "accuracy", "validation_loss", "top_5_accuracy", "validation_accuracy",
)  # fmt: skip
VALIDATED = (
    "validation_f1_weighted",
    "validation_accuracy",
    "validation_loss",
)  # a sweep is sorted by the first it has
FOLDED = 24  # characters of a folder's line at least
STATES: tuple[str, ...] = get_args(State)
NOT_A_SETTING = ("state", "name", "seconds", "folder", "reason")

log = logging.getLogger("kjcm")


def frame_of(entries: Sequence[Entry], more: Sequence[str] = ()) -> pd.DataFrame:
    """Return a table with a line a run: state, name, what its command gave, metrics, seconds, folder, reason.

    Its `attrs["metrics"]` names the columns of metrics.

    Args:
        entries: the runs.
        more: config keys that become columns too.

    Raises:
        ConfigError: no run has one of `more`.
    """
    flat = [dict(leaves(entry.config)) for entry in entries]
    _require_known(more, entries, flat)
    given = list(dict.fromkeys(key for entry in entries for key in entry.given))
    metrics = list(dict.fromkeys(name for entry in entries for name in entry.metrics))
    keys = [*given, *(key for key in more if key not in given and key not in metrics)]
    rows = [
        {
            "state": entry.state,
            "name": entry.name,
            **{key: own.get(key, entry.given.get(key)) for key in keys},
            **{name: entry.metrics.get(name) for name in metrics},
            "seconds": entry.seconds,
            "folder": "" if entry.path == Path() else str(entry.path),
            "reason": entry.reason,
        }
        for entry, own in zip(entries, flat, strict=True)
    ]
    frame = pd.DataFrame(rows, columns=["state", "name", *keys, *metrics, "seconds", "folder", "reason"], dtype=object)
    frame.attrs["metrics"] = metrics
    return frame.astype(dict.fromkeys([*metrics, "seconds"], float))


def _is_metric(frame: pd.DataFrame, column: str) -> bool:
    return re.sub("_(mean|sd)$", "", column) in frame.attrs.get("metrics", ())


def _is_measured(frame: pd.DataFrame, column: str) -> bool:
    """Tell whether a column contains metrics or seconds, and not settings."""
    return _is_metric(frame, column) or column.startswith("seconds")


def _metric(column: str) -> Metric:
    return metric_of(column.removesuffix("_mean").removeprefix("validation_"))


def _require_known(keys: Iterable[str], entries: Sequence[Entry], flat: Sequence[Mapping[str, Any]]) -> None:
    for key in keys:
        known = {*NOT_A_SETTING, *(name for entry in entries for name in (*entry.metrics, *entry.given))}
        if entries and key not in known and not any(key in own for own in flat):
            near = sorted(name for own in flat[:1] for name in (*own, *known))
            raise ConfigError(f"{key}: no run has such a key, metric or column. There are {', '.join(near)}.")


def chosen(entries: Sequence[Entry], where: Mapping[str, Any]) -> list[Entry]:
    """Return the runs whose state, name, command, metrics or config has each value of `where`; a list: any of its values.

    Raises:
        ConfigError: `where` is no mapping, or no run has one of its keys.
    """
    if not isinstance(where, Mapping):
        raise ConfigError(
            f"where={where}: give keys and values, as 'where={{state: failed, data.batch_size: [32, 64]}}'."
        )
    where = {key_of(key, entries): value for key, value in where.items()}
    _require_known(where, entries, [dict(leaves(entry.config)) for entry in entries])
    states = where.get("state", [])
    if unknown := [state for state in (states if isinstance(states, list) else [states]) if state not in STATES]:
        raise ConfigError(f"where: no state {some(unknown)}; choose among {', '.join(STATES)}.")
    return [entry for entry in entries if all(_has(entry, key, value) for key, value in where.items())]


def _has(entry: Entry, key: str, wanted: Any) -> bool:
    own = {**dict(leaves(entry.config)), **entry.metrics, "state": entry.state, "name": entry.name}
    found = [own[key]] if key in own else []
    found += [entry.given[key]] if key in entry.given else []
    one_of = wanted if isinstance(wanted, list) else [wanted]
    return any(value == other or str(value) == str(other) for value in found for other in one_of)


def over_seeds(entries: Sequence[Entry], more: Sequence[str] = ()) -> pd.DataFrame:
    """Return a table with a line for all finished runs that differ in their seeds alone: n, and each metric's mean and SD.

    The SD is that of a sample (n - 1), empty for one run. A run that is there twice, under two names, counts once.
    """
    finished = [entry for entry in entries if entry.state == "finished"]
    done = list({read_identity(entry.path) or entry.path: entry for entry in reversed(finished)}.values())[::-1]
    if copies := len(finished) - len(done):
        log.info("%s of a run under another name or in another place left out", counted(copies, "copy", "copies"))
    frame = frame_of(done, more).drop(columns=["state", "folder", "reason"])
    group = pd.Series([same_but_seeds(entry.path, entry.config) for entry in done], dtype=str)
    lines = []
    for _, rows in frame.groupby(group, sort=False):
        line: dict[str, Any] = {"name": rows["name"].iloc[0]}
        for column in rows.columns[1:]:
            if _is_measured(frame, column):
                line |= {f"{column}_mean": rows[column].mean(), f"{column}_sd": rows[column].std()}
            elif not column.startswith("seed"):  # where and how they ran may differ
                line[column] = rows[column].iloc[0] if rows[column].astype(str).nunique() == 1 else None
        lines.append({**line, "n": len(rows)})
    found = pd.DataFrame(lines)
    found.attrs = frame.attrs
    return found


def ordered(frame: pd.DataFrame, key: str | None) -> pd.DataFrame:
    """Return the table with the best first by a metric (losses and seconds: the least), or sorted by another column.

    Raises:
        ConfigError: there is no such column.
    """
    if key is None or frame.empty:
        return frame
    column = column_of(frame, key)
    if column is None:
        near = get_close_matches(key, map(str, frame.columns), n=3, cutoff=0.5)
        meant = f"Near it are {', '.join(near)}. " if near else ""
        raise ConfigError(f"sort={key}: no such column. {meant}There are {', '.join(frame.columns)}.")
    best_first = _is_metric(frame, column) and not _metric(column).lower_is_better
    return frame.sort_values(column, ascending=not best_first, na_position="last", kind="stable", key=_comparable)


def column_of(frame: pd.DataFrame, key: str | None) -> str | None:
    """Return the column that a sort key names, a metric's mean over seeds by the metric's name; None where there is none."""
    if key is None:
        return None
    own = [str(name) for name in frame.columns if not str(name).endswith("_sd")]
    return next((name for name in (key, f"{key}_mean") if name in frame), None) or _meant(key, own)


def key_of(key: str, entries: Sequence[Entry]) -> str:
    """Return the config key or metric that a name or a heading of the table means; the name itself where it means none.

    Raises:
        ConfigError: several keys have this last part.
    """
    first = {name: None for entry in entries for name in (*entry.given, *entry.metrics)}
    others = {name: None for entry in entries for name, _ in leaves(entry.config)}
    if key in first or key in others:
        return key
    return _meant(key, list(first)) or _meant(key, list(others)) or key


def _meant(key: str, names: Sequence[str]) -> str | None:
    """Return the one of `names` that is spelt or headed so, None where there is none.

    Raises:
        ConfigError: there are several.
    """
    found = [name for name in names if _plain(key) in _headings(name)]
    if len(found) > 1:
        raise ConfigError(f"{key} may be {' or '.join(found)}. Give one of them.")
    return found[0] if found else None


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").split())


def _headings(name: str) -> set[str]:
    """Return what a column may be called: a metric's name or label, or a key or its last part."""
    name = name.removesuffix("_mean")
    if "." in name:
        return {_plain(name), _plain(name.rpartition(".")[2])}
    metric = _metric(name)
    leads = ("", "test ") if metric.name == name else ("val ", "validation ")
    return {_plain(lead + form) for lead in leads for form in (metric.name, metric.label)}


def validated(frame: pd.DataFrame) -> str | None:
    """Return the validation metric to sort a sweep by, None where its runs have none: test rows choose nothing."""
    return next((name for name in VALIDATED if name in frame and frame[name].notna().any()), None)


def _comparable(values: pd.Series) -> pd.Series:
    """Return a column's values as numbers, or all as texts where some are no numbers."""
    numbers = pd.to_numeric(values, errors="coerce")
    return numbers if numbers.notna().equals(values.notna()) else values.astype(str).where(values.notna())


def for_a_screen(frame: pd.DataFrame, keep: Sequence[str] = ()) -> pd.DataFrame:
    """Return the columns that tell lines apart, the first metrics, those of `keep`, and the folder."""
    always = {"n", "seconds", "seconds_mean", "folder", *keep}

    def is_shown(name: str) -> bool:
        if _is_metric(frame, name) and name not in always:
            return _rank(name) <= len(RANKED) and bool(frame[name].notna().any())
        alone = len(frame) == 1 and name in ("state", "name")
        return name in always or alone or (name != "reason" and frame[name].astype(str).nunique() > 1)

    return frame[[name for name in frame.columns if is_shown(name)]]


def _rank(column: str) -> int:
    """Return which metrics stay longest on a narrow screen: least first, metrics of the user's own after RANKED."""
    name = re.sub("_(mean|sd)$", "", column)
    return RANKED.index(name) if name in RANKED else len(RANKED) + (_metric(name).name in METRICS)


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
        told = frame[frame["reason"].ne("") & frame["state"].ne("finished")]
        lines = (
            ": ".join(filter(None, line)) for line in zip(told["state"], told["folder"], told["reason"], strict=True)
        )
        for text, count in Counter(lines).items():
            console.print(text + (f" ({count} jobs)" if count > 1 else ""), soft_wrap=True)


def _cells(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the cells as texts, each mean with its SD."""
    names = [str(name) for name in frame.columns if not str(name).endswith("_sd")]
    columns = {name: [_cell(line, name, _is_measured(frame, name)) for _, line in frame.iterrows()] for name in names}
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
        (name for name in names if _is_metric(cells, name)), key=lambda name: (int(empty[name]), _rank(name))
    )
    seconds = [name for name in names if name.startswith("seconds")]
    kept = [name for name in cells.columns if _is_metric(cells, str(name)) and name in keep]
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
    if _is_metric(among, name):
        return f"{'test' if _metric(name).name == name else 'val'} {_metric(name).label}"
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
