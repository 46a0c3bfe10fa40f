"""Run folders of a report: find them, choose those of one study, and refuse others."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from kjcm.analysis.models import Model
from kjcm.analysis.scores import Answers, answers_of
from kjcm.errors import KjcmError, some
from kjcm.keys.identity import INPUTS
from kjcm.run_folder.contents import run_cohort, run_config, run_identity, run_overrides, run_predictions, run_report
from kjcm.run_folder.states import leaves, run_paths, setting_of


@dataclass(frozen=True)
class Run:
    """A finished run."""

    path: Path
    config: Mapping[str, Any]
    cohort: Mapping[str, Any]
    report: Mapping[str, Any]
    inputs: Mapping[str, str]
    results_version: int
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        """The run's name."""
        return str(self.config["name"])

    @property
    def hashes(self) -> Mapping[str, str]:
        """Hashes of run, cohort, split and classes."""
        hashes: Mapping[str, str] = self.report["hashes"]
        return hashes

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.config["seed"])

    @property
    def source(self) -> str:
        """synthetic, kwcs or table."""
        return str(self.config["data"]["source"])

    @cached_property
    def setting(self) -> dict[str, Any]:
        """Dotted key -> value of everything that defines the run except its seeds; input files by digest."""
        return setting_of(self.config, self.inputs, self.results_version)

    @cached_property
    def answers(self) -> Answers:
        """The run's predictions for the test rows.

        Raises:
            KjcmError: predictions.parquet is missing or damaged, or its rows are not those of the run's report.
        """
        file = self.path / "predictions.parquet"
        frame = run_predictions(self.path)
        if len(frame) != self.report["n_test"]:
            raise KjcmError(
                f"{file}: {len(frame):,} rows, where report.json has {self.report['n_test']:,}. Retrain the run."
            )
        return answers_of(frame, str(file))

    @cached_property
    def trained(self) -> dict[str, int]:
        """Group -> training rows, including reviewed rows, for the groups that a tested run can predict, sorted."""
        classes = set(self.cohort["classes"])
        return {row["code"]: int(row["n_train"]) for row in self.report["per_class"] if row["code"] in classes}


@dataclass(frozen=True)
class Listed:
    """A run folder and its status in the report."""

    path: Path
    name: str
    state: str
    seed: int | None = None
    differs: str = ""


def find_runs(folder: Path) -> tuple[list[Run], list[Listed]]:
    """Return the finished runs in `folder`, up to two folders deep and sorted by path, and the other folders.

    Raises:
        KjcmError: the folder does not exist.
    """
    found: list[Run] = []
    others: list[Listed] = []
    for path in run_paths(folder):
        if not (path / "DONE").is_file():
            others.append(Listed(path, path.parent.name, "not finished (no DONE)"))
            continue
        try:
            found.append(read_run(path))
        except KjcmError as error:
            others.append(Listed(path, path.parent.name, f"damaged: {error}"))
    return found, others


def read_run(path: Path) -> Run:
    """Return a finished run.

    Raises:
        KjcmError: a file of it is missing or damaged.
    """
    identity = run_identity(path)
    return Run(
        path,
        run_config(path),
        run_cohort(path),
        run_report(path),
        identity["inputs"],
        identity["results_version"],
        tuple(run_overrides(path)),
    )


# Keys of data in which models of one study may differ.
OF_A_MODEL = (
    "data.classes",
    "data.cutoff",
    "data.higher_cutoff",
    "data.train_fraction",
    "data.validation",
    "data.inner_folds",
    "data.inner_fold",
    "data.batch_size",
    "data.train_wave",
)
LEVEL = ("data.level",)


def study_hash(config: Mapping[str, Any], inputs: Mapping[str, str], without: Sequence[str] = ()) -> str:
    """Return the SHA-256 of what a study's models share: data and classification, with input files by digest.

    Args:
        config: config of a run.
        inputs: key -> digest of the run's input files.
        without: keys to ignore.
    """
    shared = {
        key: value
        for name in ("data", "classification")
        for key, value in leaves(config[name], name)
        if key not in (*OF_A_MODEL, *INPUTS, *without)
    }
    shared |= {key: digest for key, digest in inputs.items() if key.startswith(("data.", "classification."))}
    return hashlib.sha256(json.dumps(shared, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def differing(one: Run, other: Run) -> list[str]:
    """Return the keys in which the settings of two runs differ, sorted."""
    keys = {*one.setting, *other.setting}
    missing = object()
    return sorted(key for key in keys if one.setting.get(key, missing) != other.setting.get(key, missing))


def choose_anchor(
    runs: Sequence[Run], models: Mapping[str, Model], like: str | None, others: Sequence[Listed] = ()
) -> Run:
    """Return the run that defines the report's data and setting: the first model that has runs, its lowest seed.

    Args:
        runs: finished runs.
        models: the models that a report knows, K-JCM first.
        like: a run's folder, or None.
        others: unfinished and damaged runs, for the message.

    Raises:
        KjcmError: there is no such run, or it has several settings and `like` names none.
    """
    if like is not None:
        named = [run for run in runs if run.path.resolve() == Path(like).expanduser().resolve()]
        if not named:
            raise KjcmError(f"like={like}: not a finished run under runs=DIR. Give the folder of a finished run.")
        if named[0].name not in models or not named[0].report["n_test"]:
            raise KjcmError(
                f"like={like}: the run is named {named[0].name} and has {named[0].report['n_test']:,} test rows. Give a run "
                f"with test rows of one of the study's models ({some(models)})."
            )
        return named[0]
    own = next(
        (found for key in models if (found := [run for run in runs if run.name == key and run.report["n_test"]])), []
    )
    if not own:
        names = sorted({run.name for run in runs})
        raise KjcmError(
            f"No finished run of the study's models ({some(models)})"
            + (f"; there are runs named {some(names)}" if names else "")
            + "".join(f"; {one.path}: {one.state}" for one in others[:3])
            + (f"; and {len(others) - 3} folders more" if len(others) > 3 else "")
            + ". Train them with `kjcm reproduce`, or only K-JCM with `kjcm train experiment=k_jcm`; "
            "overwrite=true retrains a damaged run."
        )
    settings: dict[str, list[Run]] = {}
    for run in own:
        settings.setdefault(_setting_key(run), []).append(run)
    if len(settings) > 1:
        first, *rest = (min(group, key=lambda run: run.seed) for group in settings.values())
        raise KjcmError(
            f"{own[0].name} has runs of {len(settings)} settings, which one report cannot mix: "
            + "; ".join(f"{run.path} differs from {first.path} in {some(differing(first, run))}" for run in rest[:3])
            + ". Choose one setting: give a run of it as like=DIR."
        )
    return min(own, key=lambda run: (run.seed, str(run.path)))


def _setting_key(run: Run) -> str:
    return json.dumps({**run.setting, "cohort": run.hashes["cohort"], "split": run.hashes["split"]}, sort_keys=True)


def refusal(run: Run, anchor: Run, check: str) -> str:
    """Return why a run cannot be compared with the anchor's; '' if it can."""
    for what in {"split": ("cohort", "split"), "cohort": ("cohort",), "files": ()}[check]:
        own, other = anchor.hashes[what], run.hashes[what]
        if own != other:
            return f"refused: {what}_hash {other[:12]}, and this report's is {own[:12]}"
    same_data = study_hash(run.config, run.inputs, LEVEL) == study_hash(anchor.config, anchor.inputs, LEVEL)
    return "" if check != "files" or same_data else "refused: other data files, or read and split in another way"


def select(
    runs: Sequence[Run], models: Mapping[str, Model], anchor: Run
) -> tuple[dict[str, tuple[Run, ...]], list[Listed]]:
    """Return model key -> its runs by seed, and the status of every run.

    Of a model's settings, choose the one that differs from the anchor in the fewest keys.
    """
    chosen: dict[str, tuple[Run, ...]] = {}
    listed: list[Listed] = []
    for run in runs:
        if run.name not in models:
            listed.append(
                Listed(run.path, run.name, "left out: no model of experiments/models.yaml has its name", run.seed)
            )
    for key, model in models.items():
        able: dict[str, list[Run]] = {}
        for run in (run for run in runs if run.name == key):
            why = refusal(run, anchor, model.check)
            if not why and not run.report["n_test"] and not model.is_sweep:
                why = "left out: it has no test rows (evaluate=false)"
            if why:
                listed.append(Listed(run.path, key, why, run.seed))
            else:
                able.setdefault("" if model.is_sweep else _setting_key(run), []).append(run)
        groups = sorted(
            able.values(), key=lambda group: (len(differing(anchor, group[0])), -len(group), str(group[0].path))
        )
        for number, group in enumerate(groups):
            used = group if model.is_sweep else _one_a_seed(group)
            if number == 0:
                chosen[key] = tuple(used)
            for run in group:
                state = "left out: another setting" if number else "used" if run in used else "left out: a copy"
                differs = [] if model.command == "baseline" else differing(anchor, run)  # baselines share few keys
                listed.append(Listed(run.path, key, state, run.seed, ", ".join(differs)))
    return chosen, listed


def _one_a_seed(group: Sequence[Run]) -> list[Run]:
    by_seeds: dict[tuple[int, str], Run] = {}
    for run in sorted(group, key=lambda run: str(run.path)):
        by_seeds.setdefault((run.seed, json.dumps(run.config["seeds"], sort_keys=True)), run)
    return [by_seeds[seeds] for seeds in sorted(by_seeds)]
