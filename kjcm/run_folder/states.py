"""Read the state of runs from their folders: why they failed, their settings and their metrics."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kjcm.errors import KjcmError
from kjcm.keys.identity import LEGACY, WHERE_AND_HOW
from kjcm.run_folder.contents import run_config, run_identity, run_measured, run_overrides
from kjcm.run_folder.failures import read_failure
from kjcm.run_folder.folder import read_identity
from kjcm.run_folder.lease import SILENCE, holder_of, seems_held, silent_for

DEPTHS = ("", "*/", "*/*/")  # depths searched for run folders
# Overrides that set a run's name, and where and how it runs.
ELSEWHERE = (
    "name", "runs", "run_dir", "overwrite", "cache", "logger", "sweep", "hydra", "trainer.progress", "trainer.save_every",
    "trainer.keep_checkpoints",
)  # fmt: skip

State = Literal["finished", "running", "failed", "pruned", "resumable", "new", "damaged"]


@dataclass(frozen=True)
class Entry:
    """The content of a run's folder.

    Attributes:
        path: the folder.
        state: finished; running (a process holds the lease); failed; pruned (by a search); resumable; new (absent, empty);
            damaged (a file cannot be read).
        reason: why the run failed or stopped, which process runs it, or which file is damaged; else ''.
        name: the run's name.
        given: key -> value of its overrides, except those that set where and how it runs.
        config: its resolved config; empty if missing.
        metrics: name -> value on the test rows, and on the validation rows with the prefix `validation_`.
        seconds: duration; None if the run is not finished.
    """

    path: Path
    state: State
    reason: str
    name: str = ""
    given: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float | None = None


def state_of(path: Path) -> tuple[State, str]:
    """Return the state of a run's folder, and the reason for it."""
    if (path / "DONE").is_file():
        return "finished", ""
    holder = holder_of(path)
    if seems_held(path):
        quiet = silent_for(path)
        since = f" (no heartbeat for {quiet / 60:,.0f} minutes)" if quiet > 10 * SILENCE else ""
        return "running", f"{holder or 'another process'}{since}"
    if failure := read_failure(path):
        return ("pruned" if failure.kind == "pruned" else "failed"), failure.reason
    if read_identity(path) is None:
        return "new", ""
    return "resumable", f"{holder} is gone" if holder and not holder.released else "it was stopped"


def run_paths(folder: Path) -> list[Path]:
    """Return the run folders in `folder` and two folders deep, sorted.

    Raises:
        KjcmError: no such folder.
    """
    if not folder.is_dir():
        raise KjcmError(
            f"runs={folder}: no such folder (seen from {Path.cwd()}). Give the folder that contains the runs."
        )
    return sorted(file.parent for depth in DEPTHS for file in folder.glob(f"{depth}identity.json"))


def entry_of(path: Path, config: Mapping[str, Any] | None = None, words: Sequence[str] | None = None) -> Entry:
    """Return the content of a run's folder; its state is damaged if a file is damaged, or missing from a finished run.

    Args:
        path: the folder.
        config: the run's config, if already known.
        words: the run's overrides, if already known.
    """
    state, reason = state_of(path)
    done, wrong = state == "finished", []

    def read(file: str, reader: Callable[[Path], Any], otherwise: Any) -> Any:
        if not (done or os.path.lexists(path / file)):  # not written yet
            return otherwise
        try:
            return reader(path)
        except KjcmError as error:
            wrong.append(str(error))
            return otherwise

    read("identity.json", run_identity, None)
    config = read("config.yaml", run_config, {}) if config is None else config
    words = read("hydra/overrides.yaml", run_overrides, []) if words is None else words
    report = read("report.json", run_measured, {}) if done else {}
    if wrong:
        state, reason = "damaged", wrong[0]
    elif done and report.get("data") == "titles":
        reason = "not validated on your answers"
    name = str(config.get("name", path.parent.name))
    return Entry(path, state, reason, name, given_by(words), config, metrics_of(report), _seconds(report))


def given_by(words: Sequence[str]) -> dict[str, str]:
    """Return key -> value of overrides, except those that set where and how the run executes."""
    pairs = (str(word).lstrip("+~").partition("=") for word in words)
    return {key: value for key, _, value in pairs if not any(f"{key}.".startswith(f"{other}.") for other in ELSEWHERE)}


def metrics_of(report: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of a report.json."""
    validation = {f"validation_{name}": value for name, value in report.get("validation", {}).items()}
    return {name: float(value) for name, value in {**report.get("metrics", {}), **validation}.items()}


def setting_of(config: Mapping[str, Any], inputs: Mapping[str, str], results_version: int) -> dict[str, Any]:
    """Return dotted key -> value of everything except seeds that defines a run; input files by their digests."""
    flat = {key: value for key, value in leaves(config) if not _is_left_out(key, value)}
    return {**flat, **inputs, "results_version": results_version}


def leaves(node: Any, lead: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted key and value of everything that is not a mapping, sorted by key."""
    if isinstance(node, Mapping):
        for key in sorted(node):
            yield from leaves(node[key], f"{lead}.{key}" if lead else str(key))
    else:
        yield lead, node


def same_but_seeds(path: Path, config: Mapping[str, Any], *, folds: bool = False) -> str:
    """Return a text that is equal for runs that differ only in their seeds, or with `folds` also in their fold."""
    try:
        identity = run_identity(path)
    except KjcmError:
        return str(path)
    setting = setting_of(config, identity["inputs"], identity["results_version"])
    if folds:
        setting.pop("data.fold", None)
    return json.dumps(setting, sort_keys=True)


def _is_left_out(key: str, value: object) -> bool:
    if key in LEGACY and value == LEGACY[key]:
        return True
    return key.startswith("seeds.") or any(key == other or key.startswith(f"{other}.") for other in WHERE_AND_HOW)


def _seconds(report: Mapping[str, Any]) -> float | None:
    found: float | None = report.get("seconds", {}).get("total")
    return found
