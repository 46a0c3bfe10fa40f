"""`kjcm baseline`: train and test a simple model on the same rows, for comparison with the encoders."""

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from kjcm import __version__
from kjcm.errors import ConfigError
from kjcm.keys.commands.train import BaselineConfig, TrainConfig
from kjcm.keys.models import LinearConfig, ViewConfig
from kjcm.keys.overrides import config_folder
from kjcm.run_folder.folder import RunFolder
from kjcm.run_folder.model_card import write_card
from kjcm.run_folder.results import Outcome, prediction_frame
from kjcm.survey.covariates import NO_COVARIATES
from kjcm.survey.rows import Rows, rows_of
from kjcm.training.linear import PACKAGES, Scorer, fitted, keep_model, order_of, outcome_of, views_record
from kjcm.training.run import claimed_run, finish, report_record, run_to_make, write_predictions

log = logging.getLogger("kjcm")


def baseline(cfg: DictConfig) -> None:
    """Fit and test the baseline that `cfg` defines, and write its run folder; skip a finished run.

    It reads and checks the input before it writes or overwrites any file.

    Raises:
        ConfigError: the data have no test rows.
        KjcmError: the input or the folder is unusable.
    """
    wanted = run_to_make(cfg, BaselineConfig)
    if wanted is None:
        return
    config, folder = wanted
    if config.data.source == "titles":
        raise ConfigError("data=titles has no test rows, so a baseline cannot be tested. Use kjcm train from=titles.")
    begin = time.perf_counter()
    rows = replace(rows_of(config, test=True, cache=None), covariates=NO_COVARIATES)
    ready = time.perf_counter()
    with claimed_run(folder, cfg, config, rows):
        log.info("baseline %s", config.kind)
        report, done = (_majority_run if config.kind == "majority" else _svm_run)(config, rows, folder)
        seconds = {"prepare": ready - begin, "fit": done - ready, "total": time.perf_counter() - begin}
        finish(folder, report, seconds)


def _majority_run(config: BaselineConfig, rows: Rows, folder: RunFolder) -> tuple[dict[str, Any], float]:
    """Test the largest groups and write the predictions; return report.json, and when it was fitted. It keeps no model."""
    scorer = majority(rows.learnt, rows.cohort.classes)
    done = time.perf_counter()
    outcome = outcome_of(scorer, rows.sides, rows.labels, rows.unseen, lambda shares: shares)
    write_predictions(folder.path, rows, outcome)
    no_model = dict.fromkeys(("unknown_share", "precision", "engine", "epochs", "parameters"))
    return {**report_record(config, folder, rows, outcome, config.kind, PACKAGES), **no_model}, done


def _svm_run(config: BaselineConfig, rows: Rows, folder: RunFolder) -> tuple[dict[str, Any], float]:
    """Fit and test the SVM, and write predictions and model; return report.json, and when it was fitted."""
    made_by = svm_config(config.ngrams, config.C)
    model = fitted(made_by, made_by.views, rows, config.seeds.svm, config.data.split_seed)
    done = time.perf_counter()
    outcome = keep_model(model, config, made_by, rows, folder)
    report = {
        **report_record(config, folder, rows, outcome, config.kind, PACKAGES),
        **views_record(model, made_by.views),
    }
    write_card(folder.path, config, made_by, rows, report, __version__)
    return report, done


def svm_config(ngrams: Sequence[int], strength: float, folds: int = 2) -> LinearConfig:
    """Return the config of the linear model that `kind=svm` is: character n-grams of the whole text, equal rows, one level.

    Args:
        ngrams: fewest and most characters of an n-gram.
        strength: LinearSVC's C.
        folds: folds of the training rows that set the temperature of the probabilities; 0: none.
    """
    return LinearConfig(
        name="svm",
        kind="linear",
        views={"text": ViewConfig("char", "text", list(ngrams), 1.0)},
        covariates=1.0,
        pretrained=None,
        prefix="",
        max_length=0,
        classifier="svm",
        C=strength,
        balance=0.0,
        above=[],
        saturation=4.0,
        calibration_folds=folds,
    )


def svm_check(config: TrainConfig, rows: Rows, outcome: Outcome) -> dict[str, Any] | None:
    """Compare an encoder with the default `kjcm baseline kind=svm` on the same rows; warn if the SVM is better.

    Both code the validation rows, or the test rows of a run without validation rows. The SVM counts as better if its
    accuracy is higher by more than the standard error of the difference, which is paired by row.

    Returns:
        The node `svm_check` of report.json; None where no check is due.
    """
    side = "validation" if outcome.validated else "test"
    if not check_is_due(config, rows, side):
        return None
    frame, predictions = rows.sides[side], outcome.validated or outcome.predictions
    default = OmegaConf.load(config_folder() / "baseline.yaml")
    made_by = svm_config(default.ngrams, default.C, folds=0)  # accuracy needs no temperature
    own = replace(rows, covariates=NO_COVARIATES)
    svm = fitted(made_by, made_by.views, own, config.seed, config.data.split_seed)
    svm_right = order_of(svm.logits(frame))[:, 0] == rows.labels[side]
    found = prediction_frame(frame, predictions, rows.cohort.classes)
    right = found["code_1"].eq(found["code"]).to_numpy()
    difference = svm_right.astype(float) - right
    error = float(difference.std(ddof=1) / np.sqrt(len(frame)))
    svm_accuracy, accuracy = float(svm_right.mean()), float(right.mean())
    if difference.mean() > error:
        log.warning(
            "A linear SVM trained on the same rows has accuracy %.4f, this run %.4f (%s %s rows). Use model=linear or "
            "experiment=best_offline (docs/linear.md), or try other values of optim.lr and trainer.max_epochs.",
            svm_accuracy,
            accuracy,
            f"{len(frame):,}",
            side,
        )
    return {
        "side": side,
        "n": len(frame),
        "svm_accuracy": svm_accuracy,
        "accuracy": accuracy,
        "standard_error": error,
    }


def check_is_due(config: TrainConfig, rows: Rows, side: str) -> bool:
    """Return whether a run has few enough training rows for `svm_check`, and at least two rows to compare on."""
    return len(rows.sides["train"]) <= config.svm_check and len(rows.sides.get(side, ())) > 1


def majority(codes: Sequence[str], classes: Sequence[str]) -> Scorer:
    """Return a scorer that gives every text each class's share of the training `codes`."""
    found = Counter(codes)
    counts = np.array([found[code] for code in classes], float)
    shares = counts / counts.sum()
    return lambda frame: np.tile(shares, (len(frame), 1))
