"""The finished runs of a cross-validation: one setting, one run per fold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kjcm.analysis.selection import Run, differing, read_run
from kjcm.comparison.sides import runs_at
from kjcm.errors import ConfigError, KjcmError, some
from kjcm.run_folder.model_folder import finished_run

FOLD = "data.fold"


@dataclass(frozen=True)
class Folds:
    """The runs of a cross-validation.

    Attributes:
        count: data.folds.
        runs: fold -> the run that tests it, sorted.
    """

    count: int
    runs: Mapping[int, Run]

    @property
    def missing(self) -> list[int]:
        """Return the folds without a run."""
        return [fold for fold in range(self.count) if fold not in self.runs]


def folds_of(places: Sequence[str], *, incomplete: bool) -> Folds:
    """Return the runs of a cross-validation.

    Args:
        places: run folders; folders with runs in them, up to two folders deep; folders of sweeps, with a jobs.csv.
        incomplete: whether folds may lack a run.

    Raises:
        ConfigError: the runs are no cross-validation, differ in more than their fold, or test a fold twice.
        KjcmError: a fold has no run, a run is damaged, or a run has no model.
    """
    paths = dict.fromkeys(path.resolve() for place in places for path in runs_at(place))
    unique = {run.hashes["run"]: run for run in map(read_run, reversed(paths))}  # a run under two names counts once
    first, *others = reversed(unique.values())
    for run in others:
        if keys := [key for key in differing(first, run) if key != FOLD]:
            raise ConfigError(
                f"{run.path} differs from {first.path} in {some(keys)}. Name the runs of one setting: kjcm audit RUN_DIR "
                "RUN_DIR ..."
            )
    if (count := first.config["data"].get("folds")) is None:
        raise ConfigError(
            f"{first.path}: not a run of a cross-validation (data.folds). Train with data.folds=5 -m 'data.fold=range(5)'."
        )
    found: dict[int, Run] = {}
    for run in (first, *others):
        fold = run.config["data"].get("fold") or 0
        if fold in found:
            raise ConfigError(
                f"fold {fold} has several runs: {found[fold].path} (seed {found[fold].seed}) and {run.path} (seed {run.seed}). "
                "Name one run of each fold: kjcm audit RUN_DIR RUN_DIR ..."
            )
        finished_run(str(run.path))
        found[fold] = run
    folds = Folds(count, dict(sorted(found.items())))
    if folds.missing and not incomplete:
        raise KjcmError(
            f"runs: no finished run of fold {', '.join(map(str, folds.missing))} of {count}. Train it, or add "
            "incomplete=true to leave the rows of these folds out."
        )
    return folds
