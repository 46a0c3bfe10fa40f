"""Train an ensemble (`kjcm train model=ensemble`): members' runs, out-of-fold scores, and a run folder with all models."""

import gc
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from omegaconf import DictConfig

from kjcm.engine.device import require_device
from kjcm.ensemble.combination import Combination, Scores, fit_combination, log_softmax
from kjcm.ensemble.files import load_ensemble, write_ensemble
from kjcm.ensemble.members import KEY, Member, augmentation_of, members_of, require_same
from kjcm.errors import ConfigError, KjcmError
from kjcm.keys.commands.train import TrainConfig
from kjcm.keys.models import EnsembleConfig, ViewsConfig
from kjcm.keys.training import TrainerConfig
from kjcm.linear.embedding import pretrained_embedder
from kjcm.run_folder.contents import run_cohort, run_measured
from kjcm.run_folder.folder import RunFolder
from kjcm.run_folder.held_out import OUT_OF_FOLD, calibrate_out_of_fold, with_logits
from kjcm.run_folder.model_folder import load_linear, load_settings, save_folder
from kjcm.screen import quietly
from kjcm.survey.cohort import hash_of
from kjcm.survey.inputs import cached_cohort
from kjcm.survey.rows import Rows, rows_of
from kjcm.tracking.loggers import log_outcome, make_loggers, require_loggers
from kjcm.training.fit import coded_by_encoder
from kjcm.training.linear import PACKAGES, outcome_of
from kjcm.training.parts import (
    chooses_weights,
    require_fitting_tokenizer,
    require_one_device,
    require_parts,
    require_weights,
)
from kjcm.training.run import (
    claimed_run,
    finish,
    keep_held_rows,
    publish,
    report_record,
    settings_of,
    with_index,
    write_predictions,
)
from kjcm.triage.calibration import probabilities
from kjcm.triage.logits import load_scored

BATCH = 256  # texts that an encoder scores at a time

Train = Callable[[DictConfig], None]
Scorer = Callable[[pd.DataFrame], NDArray[np.float32]]  # rows -> logits [rows, classes]

log = logging.getLogger("kjcm")


def train_ensemble(cfg: DictConfig, config: TrainConfig, folder: RunFolder, sweep: str | None, train: Train) -> None:
    """Train the members, combine them, evaluate, and write the run folder.

    Each member's runs are in members/N-NAME of the run folder. After a kill the finished ones are not trained again.

    Args:
        cfg: the run's Hydra config.
        config: the same, typed.
        folder: of the run.
        sweep: name of the run's multirun, or None.
        train: trains the run of a member's config.

    Raises:
        KjcmError: the input or a member is not usable.
    """
    model = config.model
    assert isinstance(model, EnsembleConfig)
    begin = time.perf_counter()
    require_loggers(config.logger)
    require_one_device(config.trainer, "a member trains on one device. Use trainer=cpu or trainer=gpu.")
    members = members_of(config)
    for member in members:
        with _naming(f"{KEY}, {member.name}"):
            _require_trainable(member)
    rows = rows_of(replace(config, augment=augmentation_of(members)), test=config.evaluate, cache=config.cache)
    for member in members:
        require_same(member, rows.cohort, config)
        if config.data.classes == "all":
            with _naming(f"{KEY}, {member.name}"):
                rows_of(member.config, test=False, cache=config.cache)  # without titles of its own it lacks classes
    ready = time.perf_counter()
    with claimed_run(folder, cfg, config, rows):
        log.info("ensemble of %s", ", ".join(member.name for member in members))
        with make_loggers(asdict(config), folder, rows.cohort, sweep=sweep) as loggers:
            trained = [_trained(member, len(members), model, rows, folder.path, train) for member in members]
            settings = settings_of(config, model, rows)
            combination, measured, held, logits = _combined(model, trained, rows, settings.n_train)
            done = time.perf_counter()
            folder.require_held()
            runs = {one.member.name: one.run for one in trained}
            save_folder(folder.path / "model", settings, partial(write_ensemble, combination, runs))
            scorer = scorer_of(folder.path, config.trainer, BATCH, folder.path)
            outcome = outcome_of(scorer, rows.sides, rows.labels, rows.unseen, probabilities)
            write_predictions(folder.path, rows, outcome)
            keep_held_rows(folder.path, config, rows, outcome, settings, stopped=False)
            if not outcome.validated:
                learnt, labels = rows.cohort.side("train")[held], rows.labels["train"][: len(held)][held]
                found = with_logits(learnt, labels, logits, settings.manager_words)
                found = with_index(found, learnt, rows)
                calibrate_out_of_fold(folder.path / "model", learnt, found, settings)
            reports = [run_measured(run) for run in runs.values()]
            precisions = {one.get("precision") for one in reports}
            report = {
                **report_record(config, folder, rows, outcome, "ensemble", PACKAGES),
                "unknown_share": None,
                "precision": precisions.pop() if len(precisions) == 1 else "mixed",
                "engine": None,
                "epochs": None,
                "parameters": sum(int(one.get("parameters") or 0) for one in reports),
                **measured,
            }
            log_outcome(loggers, outcome, 0)
            publish(config, folder, rows, report, loggers)
        seconds = {"prepare": ready - begin, "fit": done - ready, "total": time.perf_counter() - begin}
        finish(folder, report, seconds)


@contextmanager
def _naming(what: str) -> Iterator[None]:
    """Put what an error concerns before its message."""
    try:
        yield
    except KjcmError as error:
        raise type(error)(f"{what}: {error}") from error


def _require_trainable(member: Member) -> None:
    """Check a member's pretrained weights, and an encoder's device, parts and tokenizer, before any member trains.

    Raises:
        ConfigError: they are not usable, or early stopping would choose weights by the rows that the member scores.
        KjcmError: the weights cannot be loaded.
    """
    model = member.config.model
    if isinstance(model, ViewsConfig):
        if model.embeds:
            pretrained_embedder(model, None)
        return
    require_device("trainer.accelerator", member.config.trainer.accelerator)
    require_parts(member.config)
    require_fitting_tokenizer(member.config)
    require_weights(member.config)
    if chooses_weights(member.config):
        raise ConfigError(
            "early stopping would choose weights by the rows that the member scores out of fold. Remove the callback, and "
            "set trainer.max_epochs."
        )


@dataclass(frozen=True)
class Trained:
    """A trained member.

    Attributes:
        member: the member.
        run: the run folder of its final model.
        scores: [survey's training rows, classes] out-of-fold log-probabilities.
        held: [survey's training rows] which rows have scores.
        scored: [survey's training rows] which of them have a code that the scoring model knows.
        partly: whether only some of the folds were scored.
        seconds: of training.
    """

    member: Member
    run: Path
    scores: Scores
    held: NDArray[np.bool_]
    scored: NDArray[np.bool_]
    partly: bool
    seconds: float


def _trained(member: Member, members: int, model: EnsembleConfig, rows: Rows, path: Path, train: Train) -> Trained:
    """Train a member on each fold's other rows and on all training rows."""
    begin, folder = time.perf_counter(), path / "members" / member.name
    ids = rows.cohort.side("train")["id"]
    scores = np.zeros((len(ids), len(rows.cohort.classes)), np.float32)
    reached, scored = np.zeros(len(ids), bool), np.zeros(len(ids), bool)
    folds = min(model.costly_folds, model.folds) if member.is_costly else model.folds
    what = f"member {member.name} of {members}"
    for fold in range(folds):
        data = replace(member.config.data, inner_folds=model.folds, inner_fold=fold)
        config = replace(member.config, data=data, run_dir=str(folder / f"fold-{fold}"))
        if not (held := _held_ids(config, rows)).empty:
            _train(member, config, train, f"{what}: fold {fold + 1} of {folds}")
            reached |= (own := ids.isin(held).to_numpy())
            _add_scores(folder / f"fold-{fold}", own, rows, scores, scored)
    run = member.run
    if run is None:
        run = folder / "all"
        _train(member, replace(member.config, run_dir=str(run)), train, f"{what}: all training rows")
    return Trained(member, run, scores, reached, scored, folds < model.folds, time.perf_counter() - begin)


def _held_ids(config: TrainConfig, rows: Rows) -> "pd.Series[str]":
    """Return the ids of the rows that a fold holds out, in the cohort's order."""
    return cached_cohort(config.data, rows.classification, config.cache).side("validation")["id"]


def _train(member: Member, config: TrainConfig, train: Train, what: str) -> None:
    """Train a run of a member, unless it is finished, and log its time."""
    begin, finished = time.perf_counter(), (Path(str(config.run_dir)) / "DONE").is_file()
    with _naming(what), quietly(), member.running(config) as cfg:
        train(cfg)
    gc.collect()  # an encoder's trainer is in a reference cycle
    log.info("%s: %s", what, "finished before" if finished else f"{time.perf_counter() - begin:.1f} s")


def _add_scores(run: Path, held: NDArray[np.bool_], rows: Rows, scores: Scores, scored: NDArray[np.bool_]) -> None:
    """Add the out-of-fold scores of a fold's run, and remove the fold's model.

    A class that the fold's other rows lack gets the row's lowest score.
    """
    classes = run_cohort(run)["classes"]
    found = load_scored(run / OUT_OF_FOLD, len(classes), hash_of(classes))
    known, own = log_softmax(found.logits), np.isin(rows.cohort.classes, classes)
    own_scores = np.repeat(known.min(axis=1, keepdims=True), len(own), axis=1)
    own_scores[:, own] = known
    scores[held] = own_scores
    scored[held] = found.labels < len(classes)
    shutil.rmtree(run / "model", ignore_errors=True)


def _combined(
    model: EnsembleConfig, trained: list[Trained], rows: Rows, n_train: tuple[int, ...]
) -> tuple[Combination, dict[str, Any], NDArray[np.bool_], Scores]:
    """Return the combination, what report.json says of it, which survey rows have scores, and the scores."""
    scores, scored = [one.scores for one in trained], np.stack([one.scored for one in trained], axis=1)
    labels = rows.labels["train"][: len(scored)]
    every = np.asarray(scored.all(axis=1), bool)
    if not every.any():
        raise ConfigError(
            "The members have no out-of-fold row in common. Provide more rows, or raise model.costly_folds."
        )
    combination = fit_combination(
        model.combine, scores, scored, [one.partly for one in trained], labels, n_train, model.prior
    )
    right = [float((one[every].argmax(axis=1) == labels[every]).mean()) for one in scores]
    # a row whose code its scoring models do not know counts as an error in triage, but sets no weight
    held = np.asarray(np.all([one.held for one in trained], axis=0), bool)
    combined = combination([one[held] for one in scores], n_train)
    whole = combined.argmax(axis=1)[every[held]] == labels[every]
    members = [
        {"name": one.member.name, "kind": load_settings(one.run / "model").kind, "weight": weight, "accuracy": accuracy,
         "rows": int(one.scored.sum()), "seconds": round(one.seconds, 3)}
        for one, weight, accuracy in zip(trained, combination.weights, right, strict=True)
    ]  # fmt: skip
    for one in members:
        log.info("%s: weight %.3f, out-of-fold accuracy %.4f", one["name"], one["weight"], one["accuracy"])
    log.info("combined: accuracy %.4f on the %s rows that set the weights", whole.mean(), f"{int(every.sum()):,}")
    about = {
        "combine": combination.how,
        "prior_weight": combination.prior,
        "rows": int(every.sum()),
        "accuracy": float(whole.mean()),
    }
    return combination, {"members": members, "ensemble": about}, held, combined


def scorer_of(run: Path, node: TrainerConfig, batch_size: int, out: Path) -> Scorer:
    """Return the function that scores rows with a finished run's model.

    Args:
        run: the run folder, or one of an ensemble's members.
        node: device of encoders.
        batch_size: texts that an encoder scores at a time.
        out: folder for files of Lightning's.
    """
    kind = load_settings(run / "model").kind
    if kind not in ("encoder", "ensemble"):
        return load_linear(run / "model")[0].logits
    if kind == "ensemble":
        combination, members, settings = load_ensemble(run / "model")
        scorers = [scorer_of(member, node, batch_size, out) for member in members]
        return lambda frame: combination([score(frame) for score in scorers], settings.n_train)

    def scores(frame: pd.DataFrame) -> NDArray[np.float32]:
        labels = np.zeros(len(frame), np.int64)
        found = coded_by_encoder(run, frame, labels, 0, node, batch_size, out).predictions
        numbers, logits = (np.concatenate([getattr(one, name).numpy() for one in found]) for name in ("rows", "logits"))
        return np.asarray(logits[np.argsort(numbers)], np.float32)

    return scores
