"""Tabulate runs for the screen and as CSV: one line per run, or one per setting with mean and SD over its seeds."""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from kjcm.errors import ConfigError, counted, some
from kjcm.metrics import Metric, metric_of
from kjcm.run_folder.folder import read_identity
from kjcm.run_folder.states import Entry, State, leaves, same_but_seeds

VALIDATED = (
    "validation_f1_weighted",
    "validation_accuracy",
    "validation_loss",
)  # a sweep is sorted by the first one present
STATES: tuple[str, ...] = get_args(State)
NOT_A_SETTING = ("state", "name", "seconds", "folder", "reason")

log = logging.getLogger("kjcm")


def frame_of(entries: Sequence[Entry], more: Sequence[str] = ()) -> pd.DataFrame:
    """Return a table with one line per run: state, name, overrides, metrics, seconds, folder, reason.

    Its `attrs["metrics"]` names the columns of metrics.

    Args:
        entries: the runs.
        more: further config keys to show as columns.

    Raises:
        ConfigError: no run has a key of `more`.
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


def is_metric(frame: pd.DataFrame, column: str) -> bool:
    """Return whether a column contains a metric, or its mean or SD."""
    return re.sub("_(mean|sd)$", "", column) in frame.attrs.get("metrics", ())


def is_measured(frame: pd.DataFrame, column: str) -> bool:
    """Return whether a column contains metrics or seconds rather than settings."""
    return is_metric(frame, column) or column.startswith("seconds")


def record_of(column: str) -> Metric:
    """Return the record of a column's metric."""
    return metric_of(column.removesuffix("_mean").removeprefix("validation_"))


def _require_known(keys: Iterable[str], entries: Sequence[Entry], flat: Sequence[Mapping[str, Any]]) -> None:
    for key in keys:
        known = {*NOT_A_SETTING, *(name for entry in entries for name in (*entry.metrics, *entry.given))}
        if entries and key not in known and not any(key in own for own in flat):
            near = sorted(name for own in flat[:1] for name in (*own, *known))
            raise ConfigError(f"{key}: no run has such a key, metric or column. There are {', '.join(near)}.")


def chosen(entries: Sequence[Entry], where: Mapping[str, Any]) -> list[Entry]:
    """Return the runs that match every value of `where`: state, name, overrides, metrics or config; a list matches any item.

    Raises:
        ConfigError: `where` is not a mapping, or no run has a key of `where`.
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


def over_seeds(entries: Sequence[Entry], more: Sequence[str] = (), *, folds: bool = False) -> pd.DataFrame:
    """Return a table with one line per group of finished runs that differ only in seeds: n, each metric's mean and SD.

    With `folds` the runs of a group may also differ in their fold. The sample SD (n - 1) is empty for one run. A run that
    exists twice, under two names, counts once.
    """
    finished = [entry for entry in entries if entry.state == "finished"]
    done = list({read_identity(entry.path) or entry.path: entry for entry in reversed(finished)}.values())[::-1]
    if copies := len(finished) - len(done):
        log.info("%s of a run under another name or in another place left out", counted(copies, "copy", "copies"))
    frame = frame_of(done, more).drop(columns=["state", "folder", "reason"])
    group = pd.Series([same_but_seeds(entry.path, entry.config, folds=folds) for entry in done], dtype=str)
    lines = []
    for _, rows in frame.groupby(group, sort=False):
        line: dict[str, Any] = {"name": rows["name"].iloc[0]}
        for column in rows.columns[1:]:
            if is_measured(frame, column):
                line |= {f"{column}_mean": rows[column].mean(), f"{column}_sd": rows[column].std()}
            elif not column.startswith("seed"):  # overrides of where and how may differ
                line[column] = rows[column].iloc[0] if rows[column].astype(str).nunique() == 1 else None
        lines.append({**line, "n": len(rows)})
    found = pd.DataFrame(lines)
    found.attrs = frame.attrs
    return found


def ordered(frame: pd.DataFrame, key: str | None) -> pd.DataFrame:
    """Return the table sorted by a metric, best first (losses and seconds: lowest first), or by another column.

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
    best_first = is_metric(frame, column) and not record_of(column).lower_is_better
    return frame.sort_values(column, ascending=not best_first, na_position="last", kind="stable", key=_comparable)


def column_of(frame: pd.DataFrame, key: str | None) -> str | None:
    """Return the column that a sort key names, None if none does; a metric's name also names its mean over seeds."""
    if key is None:
        return None
    own = [str(name) for name in frame.columns if not str(name).endswith("_sd")]
    return next((name for name in (key, f"{key}_mean") if name in frame), None) or _meant(key, own)


def key_of(key: str, entries: Sequence[Entry]) -> str:
    """Return the config key or metric that a name or a table heading means; the name itself if it matches none.

    Raises:
        ConfigError: several keys have this last part.
    """
    first = {name: None for entry in entries for name in (*entry.given, *entry.metrics)}
    others = {name: None for entry in entries for name, _ in leaves(entry.config)}
    if key in first or key in others:
        return key
    return _meant(key, list(first)) or _meant(key, list(others)) or key


def _meant(key: str, names: Sequence[str]) -> str | None:
    """Return the name among `names` whose spelling or heading matches `key`, None without a match.

    Raises:
        ConfigError: several names match.
    """
    found = [name for name in names if _plain(key) in _headings(name)]
    if len(found) > 1:
        raise ConfigError(f"{key} may be {' or '.join(found)}. Give one of them.")
    return found[0] if found else None


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").split())


def _headings(name: str) -> set[str]:
    """Return the accepted names of a column: a metric's name or label, or a key or its last part."""
    name = name.removesuffix("_mean")
    if "." in name:
        return {_plain(name), _plain(name.rpartition(".")[2])}
    metric = record_of(name)
    leads = ("", "test ") if metric.name == name else ("val ", "validation ")
    return {_plain(lead + form) for lead in leads for form in (metric.name, metric.label)}


def validated(frame: pd.DataFrame) -> str | None:
    """Return the validation metric to sort a sweep by, None if its runs have none; test rows never choose a run."""
    return next((name for name in VALIDATED if name in frame and frame[name].notna().any()), None)


def _comparable(values: pd.Series) -> pd.Series:
    """Return a column's values as numbers, or all as texts if some are not numbers."""
    numbers = pd.to_numeric(values, errors="coerce")
    return numbers if numbers.notna().equals(values.notna()) else values.astype(str).where(values.notna())
