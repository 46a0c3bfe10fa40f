"""A linear model: weights for the columns of several views, trained level by level."""

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kjcm.keys.models import LinearConfig, ViewConfig, ViewsConfig
from kjcm.linear.embedding import Embedder
from kjcm.linear.encoder_view import EncoderView
from kjcm.linear.views import COVARIATES, CovariatesView, View, input_of
from kjcm.survey.covariates import NO_COVARIATES, Covariates
from kjcm.triage.calibration import fit_temperature

AnyView = View | EncoderView | CovariatesView
Matrix = NDArray[np.float64]
Labels = NDArray[np.int64]

CHUNK = 1024  # rows scored at a time
MIDDLE = -0.5  # margin at which the sigmoid is 1/2

log = logging.getLogger("kjcm")


class LinearModel:
    """Scores of rows: a weight for each column of each view and each class.

    Args:
        views: name -> view.
        weights: [columns of all views, classes], float32.
        bias: [classes], float32.
        saturation: see `saturated`.
        temperature: divides the scores.
    """

    def __init__(
        self,
        views: Mapping[str, AnyView],
        weights: NDArray[np.float32],
        bias: NDArray[np.float32],
        saturation: float = 0.0,
        temperature: float = 1.0,
    ) -> None:
        self.views, self.weights, self.bias = views, weights, bias
        self.saturation, self.temperature = saturation, temperature

    @property
    def parameters(self) -> int:
        """Return the number of weights."""
        return self.weights.size + self.bias.size

    def logits(self, frame: pd.DataFrame) -> NDArray[np.float32]:
        """Return the scores of rows (text, and perhaps workplace, position, task, covariates), [rows, classes].

        softmax of the scores gives probabilities.
        """
        found = [np.empty((0, len(self.bias)), np.float32)]
        for begin in range(0, len(frame), CHUNK):
            part = frame.iloc[begin : begin + CHUNK]
            rows = stacked({name: view.rows(input_of(part, view)) for name, view in self.views.items()}, self.views)
            margins = np.asarray(rows.astype(np.float32) @ self.weights + self.bias)
            found.append((saturated(margins, self.saturation) / self.temperature).astype(np.float32))
        return np.concatenate(found)


def saturated(margins: NDArray[Any], slope: float) -> NDArray[np.float64]:
    """Return log sigmoid(slope * (margin - MIDDLE)), the log-probability of Platt (1999); with slope 0 the margins.

    Training ignores how far a margin exceeds 1, but the softmax of margins does not: its probabilities then fit the error
    rate badly.
    """
    wide = margins.astype(np.float64)
    return -np.logaddexp(0, -slope * (wide - MIDDLE)) if slope else wide


def stacked(parts: Mapping[str, Any], views: Mapping[str, AnyView]) -> Any:
    """Return the views' rows side by side, each times the square root of the view's share of all weights."""
    from scipy.sparse import hstack

    total = sum(view.config.weight for view in views.values())
    return hstack([part * np.sqrt(views[name].config.weight / total) for name, part in parts.items()], format="csr")


def fit_linear(
    config: LinearConfig,
    views: Mapping[str, ViewConfig],
    frame: pd.DataFrame,
    labels: Labels,
    parents: Sequence[Labels],
    folds: Labels,
    seed: int,
    embedder: Embedder | None = None,
    row_weights: NDArray[np.float32] | None = None,
    covariates: Covariates = NO_COVARIATES,
) -> LinearModel:
    """Train a model.

    Args:
        config: of the model.
        views: name -> view to use.
        frame: training rows: text, and perhaps workplace, position and task.
        labels: [rows] class indices, each class at least once.
        parents: [classes] numbers of the classes themselves, then for each level of `config.above` of the groups above
            them.
        folds: [rows] the part of a cross-validation in which a row is scored; -1: in none; -2 - PART: in none, and not
            learnt from where that part is scored.
        seed: of the solver's order of rows.
        embedder: of views of an encoder.
        row_weights: [rows] weights in the classifier's loss; None: all 1.
        covariates: of the rows.
    """
    made = made_views(config, views, embedder, covariates)
    rows = stacked({name: view.fit(input_of(frame, view)) for name, view in made.items()}, made)
    fit = _solver(config, seed)
    each = np.ones(len(labels), np.float32) if row_weights is None else row_weights
    weights, bias = _levels(config, rows, labels, each, parents, fit)
    slope = config.saturation if config.classifier == "svm" else 0.0
    temperature = _temperature(config, rows, labels, each, parents, folds, fit, slope)
    read = {name: view.as_read() for name, view in made.items()}
    return LinearModel(read, weights.astype(np.float32), bias.astype(np.float32), slope, temperature)


def made_views(
    config: ViewsConfig,
    views: Mapping[str, ViewConfig],
    embedder: Embedder | None,
    covariates: Covariates,
    *,
    whiten: bool = True,
) -> dict[str, AnyView]:
    """Return views that have learnt nothing yet, with that of the covariates if there are any; see `EncoderView`."""
    made: dict[str, AnyView] = {}
    for name, view in views.items():
        if view.of == "encoder":
            assert embedder is not None
            made[name] = EncoderView(view, embedder, whiten=whiten)
        else:
            made[name] = View(view)
    return {**made, **({COVARIATES: CovariatesView(config.covariates, covariates)} if covariates else {})}


# rows, labels, weights of the rows, number of labels -> weights, bias
Solver = Callable[[Any, Labels, NDArray[np.float32], int], tuple[Matrix, Matrix]]


def _levels(
    config: LinearConfig,
    rows: Any,
    labels: Labels,
    each: NDArray[np.float32],
    parents: Sequence[Labels],
    fit: Solver,
) -> tuple[Matrix, Matrix]:
    """Return weights [columns, classes] and bias [classes]: those of the class plus those of the groups above it."""
    weights, bias = np.zeros((rows.shape[1], len(parents[0]))), np.zeros(len(parents[0]))
    for groups, share in zip(parents, (1.0, *config.above), strict=True):
        own, constant = fit(rows, groups[labels], each, int(groups.max()) + 1)
        weights += share * own[:, groups]
        bias += share * constant[groups]
    return weights, bias


def _temperature(
    config: LinearConfig,
    rows: Any,
    labels: Labels,
    each: NDArray[np.float32],
    parents: Sequence[Labels],
    folds: Labels,
    fit: Solver,
    slope: float,
) -> float:
    """Return the temperature of the scores, fitted on rows that the scored model has not learnt from."""
    scores, truth = [], []
    for fold in range(int(folds.max()) + 1):
        scored = folds == fold
        held = scored | (folds == -2 - fold)
        asked = scored & np.isin(labels, labels[~held])  # the model cannot score a class that it has not learnt
        if not asked.any():
            continue
        weights, bias = _levels(config, rows[~held], labels[~held], each[~held], parents, fit)
        scores.append(saturated(np.asarray(rows[asked] @ weights + bias), slope))
        truth.append(labels[asked])
    if not truth:
        return 1.0
    return float(fit_temperature(np.concatenate(scores), np.concatenate(truth)))


def _solver(config: LinearConfig, seed: int) -> Solver:
    """Return the function that fits one level; a label without rows gets the lowest bias and no weights."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    def fit(rows: Any, labels: Labels, each: NDArray[np.float32], size: int) -> tuple[Matrix, Matrix]:
        weights, bias = np.zeros((rows.shape[1], size)), np.zeros(size)
        present, counts = np.unique(labels, return_counts=True)
        if len(present) == 1:
            return weights, bias
        share = (len(labels) / (len(present) * counts)) ** config.balance
        weighted = dict(zip(present.tolist(), share.tolist(), strict=True))
        if config.classifier == "svm":
            # for many labels the dual solver is four times as fast
            model: Any = LinearSVC(C=config.C, dual=True, class_weight=weighted, random_state=seed)
        else:
            model = LogisticRegression(C=config.C, class_weight=weighted, max_iter=1000)
        fit_and_warn(model, rows, labels, each)
        coef, constant = model.coef_, model.intercept_
        if len(coef) == 1:  # of two labels scikit-learn keeps one
            # the probability of a logistic regression is sigmoid(z) = softmax of -z / 2 and z / 2
            half = 0.5 if config.classifier == "logistic" else 1.0
            coef, constant = half * np.vstack([-coef, coef]), half * np.concatenate([-constant, constant])
        bias[:] = constant.min() - 1.0
        weights[:, model.classes_], bias[model.classes_] = coef.T, constant
        return weights, bias

    return fit


def fit_and_warn(model: Any, rows: Any, labels: Labels, each: NDArray[np.float32] | None = None) -> None:
    """Fit a scikit-learn model, with the rows' weights `each` if given, and log where it did not converge."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "The number of unique classes")  # from titles each group has few rows
        model.fit(rows, labels, sample_weight=each)
    if np.max(model.n_iter_) >= model.max_iter:
        log.warning(
            "the classifier did not converge in %d iterations; a smaller C (now %g) helps", model.max_iter, model.C
        )
