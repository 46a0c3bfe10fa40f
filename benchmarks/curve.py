"""`benchmarks.curve`: what the first reviewed rows teach a model that was trained on titles, by the order of review."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from omegaconf import DictConfig

import kjcm
from benchmarks.command import CurveConfig
from kjcm.keys.commands.train import TrainConfig
from kjcm.keys.composition import typed
from kjcm.keys.models import LinearConfig
from kjcm.ksco.title_index import normalise
from kjcm.linear.model import LinearModel
from kjcm.ordering.choice import chosen
from kjcm.read.table import read_table
from kjcm.survey.rows import indices_of, rows_of
from kjcm.survey.texts import TEXT_COLUMNS, texts_of
from kjcm.training.linear import fitted, outcome_of
from kjcm.triage.calibration import probabilities

SHOWN = ("accuracy", "top_5_accuracy", "f1_macro")

log = logging.getLogger("kjcm")


@dataclass(frozen=True)
class Split:
    """Rows to choose from and rows to test on: the columns of the file and the model's text.

    Attributes:
        pool: the rows to choose from.
        test: the test rows.
        config: of a training on titles without those of the test rows.
        folder: for files.
    """

    pool: pd.DataFrame
    test: pd.DataFrame
    config: TrainConfig
    folder: Path

    def trained(self, rows: NDArray[np.int64], *, calibrated: bool) -> tuple[LinearModel, Sequence[str]]:
        """Return a model of titles and reviewed rows of the pool, and its classes; only probabilities need calibration."""
        config, model = self.config, self.config.model
        assert isinstance(model, LinearConfig)
        if len(rows):
            reviewed = self.folder / "reviewed.tsv"
            self.pool.iloc[rows][[*TEXT_COLUMNS, "reviewed_code"]].to_csv(reviewed, sep="\t", index=False)
            config = replace(config, data=replace(config.data, reviewed=str(reviewed)))
        model = model if calibrated else replace(model, calibration_folds=0)
        found = rows_of(config, test=False, cache=None)
        made = fitted(model, model.views, found, config.seeds.batches, config.data.split_seed)
        assert isinstance(made, LinearModel)
        return made, found.cohort.classes

    def figures(self, model: LinearModel, classes: Sequence[str]) -> list[float]:
        """Return SHOWN on the test rows."""
        level = self.config.data.level
        labels, unseen = indices_of([code[:level] for code in self.test["reviewed_code"]], classes)
        found = outcome_of(model.logits, {"test": self.test}, {"test": labels}, {"test": unseen}, probabilities)
        return [found.metrics[name] for name in SHOWN]


def measure(cfg: DictConfig) -> None:
    """Log the accuracy after each number of reviewed rows, for each rule and split.

    Raises:
        KjcmError: a file is not usable.
    """
    config = typed(cfg, CurveConfig)
    log.info("split  rule     rows  %s", "  ".join(f"{name:>14}" for name in SHOWN))
    for number in range(config.splits):
        seed = config.seed + number
        with TemporaryDirectory() as folder:
            split = _split(config, seed, Path(folder))
            start = split.trained(np.empty(0, np.int64), calibrated=True)
            _log(seed, "start", 0, split.figures(*start))
            for rule in config.rules:
                _curve(split, rule, start[0], config.sizes, seed)


def _split(config: CurveConfig, seed: int, folder: Path) -> Split:
    """Hold test rows out, and their positions out of the index of job titles."""
    table = read_table(config.input)
    texts = texts_of(table, {role: role for role in TEXT_COLUMNS}, config.input)
    frame = pd.DataFrame(dict(zip(TEXT_COLUMNS, texts.cells, strict=True)))
    joined = [" ".join(filter(None, cells)) for cells in zip(*texts.cells, strict=True)]  # as `kjcm order` reads them
    frame = frame.assign(text=texts.sentences, joined=joined, reviewed_code=table[config.code].astype(str))
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(frame))
    test, pool = (frame.iloc[np.sort(part)] for part in (order[: config.test_rows], order[config.test_rows :]))
    overrides = ["from=titles", f"run_dir={folder}/run", f"classification.name={config.classification.name}"]
    overrides += [f"classification.path={config.classification.path}"] if config.classification.path else []
    if config.classification.index:
        index = read_table(config.classification.index)
        hidden = set(map(normalise, test["position"]))
        kept = index[[normalise(str(title)) not in hidden for title in index["title"]]]
        kept.to_csv(folder / "index.tsv", sep="\t", index=False)
        overrides.append(f"classification.index={folder}/index.tsv")
        log.info("split %d: %d of %d titles of the index are test positions", seed, len(index) - len(kept), len(index))
    return Split(pool, test, typed(kjcm.config("train", overrides), TrainConfig), folder)


def _curve(split: Split, rule: str, start: LinearModel, sizes: Sequence[int], seed: int) -> None:
    """Log the figures after each number of rows; in steps, each model chooses the next rows."""
    steps = rule == "steps"
    rows = np.empty(0, np.int64) if steps else _order(split.pool, rule, start, max(sizes), seed)
    model = start
    for size in sizes:
        if steps:
            known = split.pool["joined"].iloc[rows].tolist()
            rows = np.concatenate([rows, _order(split.pool, "order", model, size - len(rows), seed, known)])
        model, classes = split.trained(rows[:size], calibrated=steps)
        _log(seed, rule, len(rows[:size]), split.figures(model, classes))


def _order(
    pool: pd.DataFrame, rule: str, model: LinearModel, count: int, seed: int, known: Sequence[str] = ()
) -> NDArray[np.int64]:
    """Return the places of the rows to review, the first first."""
    if rule == "random":
        return np.random.Generator(np.random.PCG64(seed)).permutation(len(pool))[:count]
    best = -np.sort(-probabilities(model.logits(pool)))[:, :2]
    uncertainty = 1 - (best[:, 0] - best[:, 1])
    if rule == "margin":
        return np.argsort(-uncertainty, kind="stable")[:count]
    return chosen(pool["joined"].tolist(), uncertainty, count, seed, known)


def _log(seed: int, rule: str, rows: int, figures: Sequence[float]) -> None:
    log.info("%5d  %-7s %5d  %s", seed, rule, rows, "  ".join(f"{figure:14.3f}" for figure in figures))


if __name__ == "__main__":
    from benchmarks.command import main

    main("benchmarks.curve")
