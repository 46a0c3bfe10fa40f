"""Train a linear or nearest-neighbour model (`kjcm train model=linear`): rows in, a run folder with a model out."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from kjcm.keys.commands.train import TrainConfig
from kjcm.keys.models import LinearConfig, NearestConfig, ViewConfig, ViewsConfig
from kjcm.linear.embedding import Embedder, pretrained_embedder
from kjcm.linear.files import write_linear, write_nearest
from kjcm.linear.model import Labels, LinearModel, fit_linear
from kjcm.linear.nearest import NearestModel, fit_nearest
from kjcm.linear.views import MORPHEMES, installed
from kjcm.run_folder.folder import RunFolder
from kjcm.run_folder.model_folder import save_folder
from kjcm.survey.rows import Rows, rows_of
from kjcm.survey.split import ranks_of
from kjcm.tracking.loggers import log_outcome, make_loggers, require_loggers
from kjcm.training.baseline import PACKAGES, outcome_of
from kjcm.training.run import (
    claimed_run,
    finish,
    keep_held_rows,
    publish,
    report_record,
    settings_of,
    write_predictions,
)
from kjcm.triage.calibration import probabilities

OF_VIEWS = {"morpheme": (MORPHEMES,), "encoder": ("transformers", "tokenizers")}  # further packages by kind of view

log = logging.getLogger("kjcm")


def train_linear(cfg: DictConfig, config: TrainConfig, folder: RunFolder, sweep: str | None) -> None:
    """Train, evaluate and write the run folder of a model of views.

    A run that was killed starts again: it takes minutes.

    Raises:
        KjcmError: the input is not usable, or an extra is missing.
    """
    assert isinstance(config.model, ViewsConfig)
    begin = time.perf_counter()
    require_loggers(config.logger)
    views = installed(config.model.views)
    embedder = pretrained_embedder(config.model, config.cache) if config.model.embeds else None
    rows = rows_of(config, test=config.evaluate, cache=config.cache)
    ready = time.perf_counter()
    with claimed_run(folder, cfg, config, rows):
        log.info("model %s: %s", config.model.name, ", ".join(view.title for view in views.values()))
        with make_loggers(asdict(config), folder, rows.cohort, sweep=sweep) as loggers:
            model = _fitted(config, config.model, views, rows, embedder)
            done = time.perf_counter()
            outcome = outcome_of(model.logits, rows.sides, rows.labels, rows.unseen, probabilities)
            write_predictions(folder.path, rows, outcome)
            folder.require_held()
            settings = settings_of(config, rows)
            save_folder(folder.path / "model", settings, _writer(model))
            keep_held_rows(folder.path, config, rows, outcome, settings, stopped=False)
            used = {view.of for view in views.values()}
            packages = [*PACKAGES, *(package for of, extra in OF_VIEWS.items() if of in used for package in extra)]
            report = {
                **report_record(config, folder, rows, outcome, config.model.kind, packages),
                "unknown_share": None,
                "precision": embedder.precision if embedder else "32-true",
                "engine": None,
                "epochs": None,
                "parameters": model.parameters,
                "views": {name: view.of for name, view in views.items()},
            }
            log_outcome(loggers, outcome, 0)
            publish(config, folder, rows, report, loggers)
        seconds = {"prepare": ready - begin, "fit": done - ready, "total": time.perf_counter() - begin}
        finish(folder, report, seconds)


def _writer(model: LinearModel | NearestModel) -> Callable[[Path], None]:
    return partial(write_linear, model) if isinstance(model, LinearModel) else partial(write_nearest, model)


def _fitted(
    config: TrainConfig, model: ViewsConfig, views: Mapping[str, ViewConfig], rows: Rows, embedder: Embedder | None
) -> LinearModel | NearestModel:
    frame, seed, classes = rows.sides["train"], config.seeds.batches, len(rows.cohort.classes)
    if isinstance(model, NearestConfig):
        titles = frame["unit"].isna().to_numpy() & (np.arange(len(frame)) >= len(rows.learnt))
        return fit_nearest(model, views, frame, rows.labels["train"], classes, titles, seed, embedder, rows.covariates)
    assert isinstance(model, LinearConfig)
    parents = [np.arange(classes), *map(partial(_groups_above, rows), range(1, len(model.above) + 1))]
    folds = _folds(frame, model.calibration_folds, config.data.split_seed)
    return fit_linear(
        model, views, frame, rows.labels["train"], parents, folds, seed, embedder, rows.weights, rows.covariates
    )


def _groups_above(rows: Rows, levels: int) -> Labels:
    """Return [classes] the number of the group that is so many levels above each class, of the top one at most."""
    codes = [
        above[max(0, len(above) - levels)] if above else code
        for code, above in zip(rows.cohort.classes, rows.ancestors, strict=True)
    ]
    return np.asarray(pd.factorize(np.array(codes, object))[0], np.int64)


def _folds(frame: pd.DataFrame, folds: int, seed: int) -> Labels:
    """Return [rows] the part of the calibration in which a survey row is scored, as `fit_linear` takes it."""
    found = np.full(len(frame), -1, np.int64)
    survey = frame["unit"].notna().to_numpy()
    if folds > 1:
        ranks = ranks_of(frame["unit"][survey], seed)
        found[survey] = ranks * folds // (ranks.max() + 1)
        alone = survey & frame["row_weight"].notna().to_numpy()  # positions alone
        found[alone] = -2 - found[alone]
    return found
