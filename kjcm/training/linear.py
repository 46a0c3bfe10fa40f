"""Train a linear or nearest-neighbour model (`kjcm train model=linear`), and evaluate the scores of any model."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from omegaconf import DictConfig

from kjcm.engine.device import device_name
from kjcm.keys.commands.train import RunConfig, TrainConfig
from kjcm.keys.models import LinearConfig, NearestConfig, ViewConfig, ViewsConfig
from kjcm.linear.embedding import Embedder, pretrained_embedder
from kjcm.linear.files import write_linear, write_nearest
from kjcm.linear.model import Labels, LinearModel, fit_linear
from kjcm.linear.nearest import NearestModel, fit_nearest
from kjcm.linear.views import MORPHEMES, installed
from kjcm.metrics import SHOWN_CODES
from kjcm.run_folder.folder import RunFolder
from kjcm.run_folder.model_folder import save_folder
from kjcm.run_folder.results import Outcome
from kjcm.survey.rows import Rows, rows_of
from kjcm.survey.split import ranks_of
from kjcm.tracking.loggers import log_outcome, make_loggers, require_loggers
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

if TYPE_CHECKING:
    from kjcm.engine.module import Predictions
    from kjcm.engine.scores import Scores

PACKAGES = ("torch", "torchmetrics", "scikit-learn", "hydra-core")
OF_VIEWS = {"morpheme": (MORPHEMES,), "encoder": ("transformers", "tokenizers")}  # further packages by kind of view

CHUNK = 4096  # rows per update of the metrics

Matrix = NDArray[np.floating[Any]]
Scorer = Callable[[pd.DataFrame], Matrix]  # rows -> [rows, classes]; higher is likelier

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
            model = fitted(config.model, views, rows, config.seeds.batches, config.data.split_seed, embedder)
            done = time.perf_counter()
            outcome = keep_model(model, config, config.model, rows, folder)
            used = {view.of for view in views.values()}
            packages = [*PACKAGES, *(package for of, extra in OF_VIEWS.items() if of in used for package in extra)]
            report = {
                **report_record(config, folder, rows, outcome, config.model.kind, packages),
                **views_record(model, views),
                **({"precision": embedder.precision} if embedder else {}),
            }
            log_outcome(loggers, outcome, 0)
            publish(config, folder, rows, report, loggers)
        seconds = {"prepare": ready - begin, "fit": done - ready, "total": time.perf_counter() - begin}
        finish(folder, report, seconds)


def keep_model(
    model: LinearModel | NearestModel, config: RunConfig, made_by: ViewsConfig, rows: Rows, folder: RunFolder
) -> Outcome:
    """Evaluate a model, and write predictions, model folder and calibration into its run folder.

    Args:
        model: the model.
        config: of the run.
        made_by: config of the model.
        rows: of the run.
        folder: of the run.
    """
    outcome = outcome_of(model.logits, rows.sides, rows.labels, rows.unseen, probabilities)
    write_predictions(folder.path, rows, outcome)
    folder.require_held()
    settings = settings_of(config, made_by, rows)
    save_folder(folder.path / "model", settings, _writer(model))
    keep_held_rows(folder.path, config, rows, outcome, settings, stopped=False)
    return outcome


def views_record(model: LinearModel | NearestModel, views: Mapping[str, ViewConfig]) -> dict[str, Any]:
    """Return the part of report.json that all models of n-grams share."""
    return {
        "unknown_share": None,
        "precision": "32-true",
        "engine": None,
        "epochs": None,
        "parameters": model.parameters,
        "views": {name: view.of for name, view in views.items()},
    }


def _writer(model: LinearModel | NearestModel) -> Callable[[Path], None]:
    return partial(write_linear, model) if isinstance(model, LinearModel) else partial(write_nearest, model)


def fitted(
    model: ViewsConfig,
    views: Mapping[str, ViewConfig],
    rows: Rows,
    seed: int,
    split_seed: int,
    embedder: Embedder | None = None,
) -> LinearModel | NearestModel:
    """Return a model that has learnt the training rows.

    Args:
        model: its config.
        views: its views, see `installed`.
        rows: of the run.
        seed: of what is random in the training.
        split_seed: data.split_seed, for the folds that calibrate the model.
        embedder: of views of an encoder.
    """
    frame, classes = rows.sides["train"], len(rows.cohort.classes)
    if isinstance(model, NearestConfig):
        titles = frame["unit"].isna().to_numpy() & (np.arange(len(frame)) >= len(rows.learnt))
        return fit_nearest(model, views, frame, rows.labels["train"], classes, titles, seed, embedder, rows.covariates)
    assert isinstance(model, LinearConfig)
    parents = [np.arange(classes), *map(partial(_groups_above, rows), range(1, len(model.above) + 1))]
    folds = _folds(frame, model.calibration_folds, split_seed)
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


def outcome_of(
    scorer: Scorer,
    sides: Mapping[str, pd.DataFrame],
    labels: Mapping[str, NDArray[np.int64]],
    unseen: Mapping[str, Sequence[str]],
    probability: Callable[[Matrix], Matrix],
) -> Outcome:
    """Return a scorer's metrics and predictions on the test rows and on any validation rows.

    Args:
        scorer: function that scores rows.
        sides: side -> rows.
        labels: side -> [rows], class indices, beyond the last class for unseen codes.
        unseen: side -> unseen codes.
        probability: function that turns scores into probabilities.
    """
    import torch

    scores = {side: scorer(frame) for side, frame in sides.items() if side != "train"}
    found = {side: _scores_of(scores[side], labels[side], len(unseen[side])).summary() for side in scores}
    first = {side: [first_by_score(one, probability)] for side, one in scores.items()}
    metrics, per_class = found.get("test", ({}, {}))
    return Outcome(
        metrics=metrics,
        per_class=per_class,
        validation=found["validation"][0] if "validation" in found else {},
        predictions=first.get("test", []),
        validated=first.get("validation", []),
        device=device_name(torch.device("cpu")),
    )


def order_of(scores: Matrix) -> NDArray[np.int64]:
    """Return each row's class indices, best first, ties in class order; scores: [rows, classes]."""
    return np.argsort(-scores, axis=1, kind="stable")


def _scores_of(scores: Matrix, labels: NDArray[np.int64], unseen: int) -> "Scores":
    """Return the metrics for one side's scores: [rows, classes].

    They are computed from ranks rather than scores. Scores may tie, or become equal in float32; ranks keep the order of
    the codes in predictions.parquet.
    """
    import torch

    from kjcm.engine.scores import Scores

    found, truth = Scores(scores.shape[1], unseen), torch.from_numpy(labels)
    for begin in range(0, len(scores), CHUNK):
        rank = np.argsort(order_of(scores[begin : begin + CHUNK]), axis=1)
        found.update(torch.from_numpy(-rank.astype(np.float32)), truth[begin : begin + CHUNK])
    return found


def first_by_score(scores: Matrix, probability: Callable[[Matrix], Matrix]) -> "Predictions":
    """Return each row's best codes with their probabilities."""
    import torch

    from kjcm.engine.module import Predictions

    top = order_of(scores)[:, :SHOWN_CODES]
    prob = np.take_along_axis(probability(scores), top, axis=1)
    return Predictions(
        torch.arange(len(scores)),
        torch.from_numpy(top),
        torch.from_numpy(prob.astype(np.float32)),
        torch.from_numpy(scores),
    )
