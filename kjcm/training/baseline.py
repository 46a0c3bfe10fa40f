"""`kjcm baseline`: train and test a simple model on the same rows, for comparison with the encoders."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from omegaconf import DictConfig

from kjcm.config.commands import BaselineConfig
from kjcm.engine.device import device_name
from kjcm.linear.model import converge
from kjcm.metrics import SHOWN_CODES
from kjcm.runs.results import Outcome
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
    first, last = config.ngrams
    texts = rows.sides["train"]["text"].tolist()
    return svm(texts, rows.labels["train"], ngrams=(first, last), strength=config.C, seed=config.seeds.svm)


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
    converge(model, vectorizer.fit_transform(texts), labels)

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
