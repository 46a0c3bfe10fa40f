"""The sides of a comparison: each has the finished runs of one setting, which differ only in their seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import ascii_uppercase

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kjcm.analysis.scores import Answers
from kjcm.analysis.selection import Run, read_run
from kjcm.errors import ConfigError, KjcmError, counted, some
from kjcm.files import existing
from kjcm.run_folder.states import run_paths, same_but_seeds

JOBS = "jobs.csv"  # a sweep's table
MOST = len(ascii_uppercase)


@dataclass(frozen=True)
class Side:
    """Finished runs of one setting.

    Attributes:
        label: 'A', 'B', ... in the order of comparison.
        runs: by seed.
    """

    label: str
    runs: tuple[Run, ...]

    @property
    def first(self) -> Run:
        """Return the run with the lowest seed."""
        return self.runs[0]

    @cached_property
    def answers(self) -> tuple[Answers, ...]:
        """Return each run's answers to its test rows; () if a run has no test rows."""
        return tuple(run.answers for run in self.runs) if all(run.report.get("n_test") for run in self.runs) else ()


@dataclass(frozen=True)
class Common:
    """The test rows that two sides have in common.

    Attributes:
        first: the first side's answers to them, one entry per run.
        second: the second side's.
        only: test rows of only one side, or of only some of its runs.
        other_codes: rows left out because their true codes differ.
    """

    first: tuple[Answers, ...]
    second: tuple[Answers, ...]
    only: int
    other_codes: int

    def __len__(self) -> int:
        return len(self.first[0]) if self.first else 0


def tested_data(run: Run) -> tuple[str, ...]:
    """Return what tells the data that a run's test rows come from: equal ids in other data are other people."""
    test = run.inputs.get("data.test_path")
    if test:
        return (test,)
    files = (run.inputs.get(f"data.{name}", "") for name in ("path", "wave5", "wave6"))
    twin = (str(run.config["data"].get(name)) for name in ("scale", "twin_seed"))
    return (run.source, *files, *twin)


def common_rows(one: Side, other: Side) -> Common:
    """Return the test rows that all runs of two sides have, with the same true codes, in the order of the first run.

    There are none if the sides' test rows come from other data.
    """
    runs = [*one.answers, *other.answers]
    if not (one.answers and other.answers) or len({tested_data(run) for run in (*one.runs, *other.runs)}) > 1:
        return Common((), (), 0, 0)
    known = [pd.Series(run.truth, index=run.ids) for run in runs]
    everywhere = np.logical_and.reduce([known[0].index.isin(truth.index) for truth in known])
    shared = known[0].index[everywhere]
    same = np.logical_and.reduce([(truth[shared] == known[0][shared]).to_numpy() for truth in known])
    ids: NDArray[np.object_] = shared[same].to_numpy(object)
    found = [run.on(ids) for run in runs] if len(ids) else []
    every = set().union(*(truth.index for truth in known))
    count = len(one.answers) if len(ids) else 0
    return Common(tuple(found[:count]), tuple(found[count:]), len(every) - len(shared), int((~same).sum()))


def sides_of(places: Sequence[str]) -> list[Side]:
    """Return the sides in the order of the places; see `settings_of`.

    Raises:
        ConfigError: there are fewer than two sides, or too many.
        KjcmError: a place has no finished run, or a run is damaged.
    """
    settings = settings_of(places)
    if not 2 <= len(settings) <= MOST:
        few = "Runs that differ only in their seeds are one setting. " if len(settings) < 2 else ""
        raise ConfigError(
            f"{some(places)}: {counted(len(settings), 'setting')} of finished runs, where 2 to {MOST} can be compared. {few}Name "
            "the runs or sweeps to compare."
        )
    return [Side(label, runs) for label, runs in zip(ascii_uppercase, settings, strict=False)]


def settings_of(places: Sequence[str]) -> list[tuple[Run, ...]]:
    """Return the finished runs of each setting, by seed: runs of one setting differ only in their seeds.

    Args:
        places: run folders; folders with runs in them, up to two folders deep; folders of sweeps, with a jobs.csv.

    Raises:
        KjcmError: a place has no finished run, or a run is damaged.
    """
    paths = dict.fromkeys(path.resolve() for place in places for path in runs_at(place))
    runs = {run.hashes["run"]: run for run in map(read_run, reversed(paths))}  # a run under two names counts once
    grouped: dict[str, list[Run]] = {}
    for run in reversed(runs.values()):
        grouped.setdefault(same_but_seeds(run.path, run.config), []).append(run)
    return [tuple(sorted(found, key=lambda run: run.seed)) for found in grouped.values()]


def runs_at(place: str) -> list[Path]:
    """Return the finished runs of a place: a run folder, a folder with runs in it, or the folder of a sweep.

    Raises:
        KjcmError: the place has no finished run.
    """
    folder = existing(place)
    if (folder / "identity.json").is_file():
        if not (folder / "DONE").is_file():
            raise KjcmError(f"{place}: not a finished run (no DONE). Start the same `kjcm train` again to finish it.")
        return [folder]
    found = _jobs(folder) if (folder / JOBS).is_file() else run_paths(folder)
    done = [path for path in found if (path / "DONE").is_file()]
    if not done:
        raise KjcmError(f"{place}: no finished run in it. Name run folders, or folders that contain runs.")
    return done


def _jobs(folder: Path) -> list[Path]:
    """Return the run folders of a sweep's table, whose paths are relative to the folder where the sweep was started."""
    try:
        column = pd.read_csv(folder / JOBS, dtype=str, keep_default_na=False).get("folder")
    except ValueError:  # empty, not UTF-8, or no table
        column = None
    if column is None:
        raise KjcmError(f"{folder / JOBS}: no column folder, so it is not a sweep's table. Name the run folders.")
    return [Path(path) for path in column if path]
