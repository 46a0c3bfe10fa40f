"""Out-of-fold predictions: each row has the probabilities of the run that did not learn from it."""

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kjcm.audit.folds import Folds
from kjcm.errors import KjcmError, some
from kjcm.keys.survey import DataConfig
from kjcm.keys.training import TrainerConfig
from kjcm.ksco.classification import Classification, load_classification
from kjcm.run_folder.contents import recorded_data
from kjcm.run_folder.model_folder import Settings, load_settings
from kjcm.run_folder.results import prediction_frame
from kjcm.survey.inputs import cohort_of, source_of
from kjcm.training.ensemble import scorer_of
from kjcm.training.linear import first_by_score
from kjcm.triage.calibration import probabilities

log = logging.getLogger("kjcm")


@dataclass(frozen=True)
class OutOfFold:
    """The rows of a cross-validation, in the cohort's order.

    Attributes:
        rows: columns of a cohort's rows.
        predictions: id, code, code_1..code_10, prob_1..prob_10 as in predictions.parquet, fold, and run (first twelve
            characters of its hash).
        classes: sorted codes that a fold's run can predict.
        probability: [rows, classes], float32; 0 for a code that the row's run cannot predict.
        known: [rows], whether the row's run can predict the row's code.
        left: rows of the cohort without a prediction, because their fold has no run.
        data: data node of the first fold's run.
        classification: of the codes.
        model: settings of the model with the most classes.
        run: folder of this model's run.
        synthetic: whether the rows come from the synthetic twin.
    """

    rows: pd.DataFrame
    predictions: pd.DataFrame
    classes: tuple[str, ...]
    probability: NDArray[np.float32]
    known: NDArray[np.bool_]
    left: int
    data: DataConfig
    classification: Classification
    model: Settings
    run: Path
    synthetic: bool

    @property
    def frame(self) -> pd.DataFrame:
        """Return the predictions with a column p_CODE for each class."""
        whole = pd.DataFrame(self.probability, columns=[f"p_{code}" for code in self.classes])
        return pd.concat([self.predictions, whole], axis=1)


def out_of_fold(folds: Folds, trainer: TrainerConfig, batch_size: int) -> OutOfFold:
    """Score the test rows of each fold's run with its model.

    Args:
        folds: the runs.
        trainer: device of encoders.
        batch_size: texts that an encoder scores at a time.

    Raises:
        KjcmError: the data have changed since the training, or a row is tested twice or never.
    """
    first = next(iter(folds.runs.values()))
    data, node = recorded_data(first.path, first.config)
    classification = load_classification(node.name, node.path)
    source = source_of(data, classification)
    models = {fold: load_settings(run.path / "model") for fold, run in folds.runs.items()}
    classes = tuple(sorted({code for settings in models.values() for code in settings.classes}))
    parts, scores = [], []
    for fold, run in folds.runs.items():
        own, _ = recorded_data(run.path, run.config)
        cohort = cohort_of(own, classification, source)
        for what, found in (("cohort", cohort.cohort_hash), ("split", cohort.split_hash)):
            if found != run.hashes[what]:
                raise KjcmError(
                    f"{run.path}: the data files have changed since the training ({what} {found[:12]}, then "
                    f"{run.hashes[what][:12]}). Restore them, or train the folds again."
                )
        rows, settings = cohort.side("test"), models[fold]
        log.info("fold %s: %s rows", fold, f"{len(rows):,}")
        with tempfile.TemporaryDirectory() as out:
            logits = scorer_of(run.path, trainer, batch_size, Path(out))(rows)
        predicted = prediction_frame(rows, [first_by_score(logits, probabilities)], settings.classes)
        parts.append(rows.join(predicted.drop(columns=["id", "code"])).assign(fold=fold, run=run.hashes["run"][:12]))
        scores.append(_spread(probabilities(logits), settings.classes, classes))
    every, probability = pd.concat(parts, ignore_index=True), np.concatenate(scores)
    place = pd.Index(cohort.rows["id"]).get_indexer(pd.Index(every["id"]))
    if len(twice := every["id"][every["id"].duplicated()]):
        raise KjcmError(f"rows {some(twice)} are tested by several folds. Train the folds again.")
    if len(every) < len(cohort.rows) and not folds.missing:
        never = cohort.rows["id"][~cohort.rows["id"].isin(every["id"])]
        raise KjcmError(f"rows {some(never)} are tested by no fold. Train the folds again.")
    order = np.argsort(place)
    every, probability = every.iloc[order].reset_index(drop=True), probability[order]
    learnt = {fold: set(settings.classes) for fold, settings in models.items()}
    widest = max(models, key=lambda fold: len(models[fold].classes))
    columns = [name for name in every if name not in cohort.rows]
    return OutOfFold(
        every[list(cohort.rows)],
        every[["id", "code", *columns]],
        classes,
        probability,
        np.array([code in learnt[fold] for code, fold in zip(every["code"], every["fold"], strict=True)], bool),
        len(cohort.rows) - len(every),
        data,
        classification,
        models[widest],
        folds.runs[widest].path,
        cohort.synthetic,
    )


def _spread(own: NDArray[np.float64], codes: Sequence[str], classes: Sequence[str]) -> NDArray[np.float32]:
    """Return probabilities [rows, codes] as [rows, classes], 0 for the other classes."""
    found = np.zeros((len(own), len(classes)), np.float32)
    found[:, np.searchsorted(classes, codes)] = own
    return found
