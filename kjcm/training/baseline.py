"""`kjcm baseline`: train and test a simple model on the same rows, for comparison with the encoders."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from kjcm.engine.device import device_name
from kjcm.keys.commands.train import BaselineConfig, TrainConfig
from kjcm.keys.overrides import config_folder
from kjcm.linear.model import fit_and_warn
from kjcm.metrics import SHOWN_CODES
from kjcm.run_folder.results import Outcome, prediction_frame
from kjcm.survey.rows import Rows, rows_of
from kjcm.training.run import claimed_run, finish, report_record, run_to_make, write_predictions

if TYPE_CHECKING:
    from kjcm.engine.module import Predictions
    from kjcm.engine.scores import Scores

PACKAGES = ("torch", "torchmetrics", "scikit-learn", "hydra-core")
CHUNK = 4096  # rows per update of the metrics

Matrix = NDArray[np.floating[Any]]
Scorer = Callable[[pd.DataFrame], Matrix]  # rows -> [rows, classes]; higher is likelier

log = logging.getLogger("kjcm")


def baseline(cfg: DictConfig) -> None:
    """Fit and test the baseline that `cfg` defines, and write its run folder; skip a finished run.

    It reads and checks the input before it writes or overwrites any file.

    Raises:
        KjcmError: the input or the folder is unusable.
    """
    wanted = run_to_make(cfg, BaselineConfig)
    if wanted is None:
        return
    config, folder = wanted
    begin = time.perf_counter()
    rows = rows_of(config, test=True, cache=None)
    ready = time.perf_counter()
    with claimed_run(folder, cfg, config, rows):
        log.info("baseline %s", config.kind)
        scorer = _fitted(config, rows)
        fitted = time.perf_counter()
        probability = (lambda shares: shares) if config.kind == "majority" else None
        outcome = outcome_of(scorer, rows.sides, rows.labels, rows.unseen, probability)
        write_predictions(folder.path, rows, outcome)
        no_model = dict.fromkeys(("unknown_share", "precision", "engine", "epochs", "parameters"))
        report = {**report_record(config, folder, rows, outcome, config.kind, PACKAGES), **no_model}
        seconds = {"prepare": ready - begin, "fit": fitted - ready, "total": time.perf_counter() - begin}
        finish(folder, report, seconds)


def _fitted(config: BaselineConfig, rows: Rows) -> Scorer:
    if config.kind == "majority":
        return majority(rows.learnt, rows.cohort.classes)
    return _svm_on(rows, config.ngrams, config.C, config.seeds.svm)


def _svm_on(rows: Rows, ngrams: Sequence[int], strength: float, seed: int) -> Scorer:
    first, last = ngrams
    texts = rows.sides["train"]["text"].tolist()
    return svm(texts, rows.labels["train"], ngrams=(first, last), strength=strength, seed=seed)


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
    scorer = _svm_on(rows, default.ngrams, default.C, config.seed)
    svm_right = order_of(scorer(frame))[:, 0] == rows.labels[side]
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


def svm(
    texts: Sequence[str], labels: NDArray[np.int64], *, ngrams: tuple[int, int], strength: float, seed: int
) -> Scorer:
    """Return a scorer with the decision values of a one-vs-rest linear SVM on character n-grams.

    The n-grams do not cross words. Their weights are TF-IDF with a logarithmic term frequency.

    Args:
        texts: training texts.
        labels: [texts], class indices, with each class at least once.
        ngrams: lowest and highest number of characters in an n-gram.
        strength: LinearSVC's C.
        seed: seed for the order in which the solver visits the rows.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.svm import LinearSVC

    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=ngrams, sublinear_tf=True)
    # The dual solver is used for any number of rows: on 70,000 rows the primal one takes four times as long.
    model = LinearSVC(C=strength, dual=True, random_state=seed)
    fit_and_warn(model, vectorizer.fit_transform(texts), labels)

    def scores(frame: pd.DataFrame) -> Matrix:
        values: Matrix = model.decision_function(vectorizer.transform(frame["text"].tolist()))
        # For two classes scikit-learn returns only the second one's values.
        return np.column_stack([-values, values]) if values.ndim == 1 else values

    return scores


def outcome_of(
    scorer: Scorer,
    sides: Mapping[str, pd.DataFrame],
    labels: Mapping[str, NDArray[np.int64]],
    unseen: Mapping[str, Sequence[str]],
    probability: Callable[[Matrix], Matrix] | None,
) -> Outcome:
    """Return a scorer's metrics and predictions on the test rows and on any validation rows.

    Args:
        scorer: function that scores rows.
        sides: side -> rows.
        labels: side -> [rows], class indices, beyond the last class for unseen codes.
        unseen: side -> unseen codes.
        probability: function that turns scores into probabilities; None: the predictions have none.
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


def first_by_score(scores: Matrix, probability: Callable[[Matrix], Matrix] | None) -> "Predictions":
    """Return each row's best codes with their probabilities, or with NaN if scores have none."""
    import torch

    from kjcm.engine.module import Predictions

    top = order_of(scores)[:, :SHOWN_CODES]
    prob = np.take_along_axis(probability(scores), top, axis=1) if probability else np.full(top.shape, np.nan)
    return Predictions(
        torch.arange(len(scores)),
        torch.from_numpy(top),
        torch.from_numpy(prob.astype(np.float32)),
        torch.from_numpy(scores),
    )
