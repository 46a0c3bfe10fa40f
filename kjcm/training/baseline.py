"""`kjcm baseline`: what the models are to be compared with, measured on the same rows by the same code."""

import logging
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig

from kjcm.config.commands import BaselineConfig
from kjcm.engine.device import device_name
from kjcm.metrics import SHOWN_CODES
from kjcm.runs.results import Outcome
from kjcm.survey.rows import Rows, rows_of
from kjcm.training.run import at_work, finish, report_record, run_to_make, write_predictions

if TYPE_CHECKING:
    from kjcm.engine.module import Predictions
    from kjcm.engine.scores import Scores

PACKAGES = ("torch", "torchmetrics", "scikit-learn", "hydra-core")
CHUNK = 4096  # rows measured at a time

Matrix = NDArray[np.float64]
Scorer = Callable[[Sequence[str]], Matrix]  # texts -> [texts, classes], the higher the likelier

log = logging.getLogger("kjcm")


def baseline(cfg: DictConfig) -> None:
    """Fit and measure the baseline that `cfg` defines, and write its run folder; skip it if it is done.

    Nothing is written, and nothing overwritten, before the input has been read and found usable.

    Raises:
        KjcmError: input or folder are not usable.
    """
    wanted = run_to_make(cfg, BaselineConfig)
    if wanted is None:
        return
    config, folder = wanted
    begin = time.perf_counter()
    rows = rows_of(config, test=True, cache=None)
    ready = time.perf_counter()
    with at_work(folder, cfg, config, rows):
        log.info("baseline %s", config.kind)
        scorer = _fitted(config, rows)
        fitted = time.perf_counter()
        outcome = measured(scorer, rows, probable=config.kind == "majority")
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
    """Return a scorer that gives every text the share of each class among the training `codes`."""
    found = Counter(codes)
    counts = np.array([found[code] for code in classes], float)
    shares = counts / counts.sum()
    return lambda texts: np.tile(shares, (len(texts), 1))


def svm(
    texts: Sequence[str], labels: NDArray[np.int64], *, ngrams: tuple[int, int], strength: float, seed: int
) -> Scorer:
    """Return a scorer that gives the decision values of a linear SVM, one class against the rest, on character n-grams.

    The n-grams are those within words, weighted by TF-IDF with a logarithmic term frequency.

    Args:
        texts: training texts.
        labels: [texts] their class indices, each class at least once.
        ngrams: fewest and most characters of an n-gram.
        strength: LinearSVC's C.
        seed: of the order in which the solver takes the rows.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.svm import LinearSVC

    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=ngrams, sublinear_tf=True)
    # whatever the sizes, the dual solver: on 70,000 rows the other one takes four times as long
    model = LinearSVC(C=strength, dual=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # said in our own words
        model.fit(vectorizer.fit_transform(texts), labels)
    if model.n_iter_ >= model.max_iter:
        log.warning("the SVM did not converge in %d iterations; a smaller C (now %g) helps", model.max_iter, strength)

    def scores(texts: Sequence[str]) -> Matrix:
        values: Matrix = model.decision_function(vectorizer.transform(texts))
        return np.column_stack([-values, values]) if values.ndim == 1 else values  # of two classes it gives one value

    return scores


def measured(scorer: Scorer, rows: Rows, *, probable: bool) -> Outcome:
    """Return what a scorer does on the test rows, and on the validation rows where there are any.

    Args:
        scorer: of the texts.
        rows: the rows of the run.
        probable: whether the scores are probabilities; the predictions have none otherwise.
    """
    import torch

    scores = {side: scorer(rows.sides[side]["text"].tolist()) for side in rows.sides if side != "train"}
    found = {side: _scores_of(scores[side], rows, side).summary() for side in scores}
    metrics, per_class = found["test"]
    return Outcome(
        metrics=metrics,
        per_class=per_class,
        validation=found["validation"][0] if "validation" in found else {},
        predictions=[first_by_score(scores["test"], probable)],
        validated=[],
        device=device_name(torch.device("cpu")),
    )


def order_of(scores: Matrix) -> NDArray[np.int64]:
    """Return each row's class indices, best first and equals in class order; scores: [rows, classes]."""
    return np.argsort(-scores, axis=1, kind="stable")


def _scores_of(scores: Matrix, rows: Rows, side: str) -> "Scores":
    """Return the metrics of one side's scores, [rows, classes].

    They are measured by place, not by value: values that are equal, or become so in 32 bits, keep the order of the codes
    in predictions.parquet.
    """
    import torch

    from kjcm.engine.scores import Scores

    found = Scores(scores.shape[1], len(rows.unseen[side]))
    labels = torch.from_numpy(rows.labels[side])
    for begin in range(0, len(scores), CHUNK):
        place = np.argsort(order_of(scores[begin : begin + CHUNK]), axis=1)
        found.update(torch.from_numpy(-place.astype(np.float32)), labels[begin : begin + CHUNK])
    return found


def first_by_score(scores: Matrix, probable: bool) -> "Predictions":
    """Return the first ten codes of each row, with their scores as probabilities where they are some, else NaN."""
    import torch

    from kjcm.engine.module import Predictions

    top = order_of(scores)[:, :SHOWN_CODES]
    prob = np.take_along_axis(scores, top, axis=1) if probable else np.full(top.shape, np.nan)
    return Predictions(
        torch.arange(len(scores)),
        torch.from_numpy(top),
        torch.from_numpy(prob.astype(np.float32)),
        torch.from_numpy(scores),
    )
