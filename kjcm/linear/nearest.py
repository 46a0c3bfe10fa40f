"""A nearest-neighbour model: compare a row with each class's titles and training rows, view by view."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kjcm.keys.models import NearestConfig, ViewConfig
from kjcm.linear.embedding import Embedder
from kjcm.linear.logit import fit_logit
from kjcm.linear.model import AnyView, Labels, made_views
from kjcm.linear.views import input_of
from kjcm.survey.covariates import NO_COVARIATES, Covariates

Floats = NDArray[np.float32]
Booleans = NDArray[np.bool_]

CHUNK = 256  # rows compared at a time
BEST_TITLES = 3  # highest different similarities to a class's titles, whose mean is a feature
SHARPNESS, FLOOR = 20.0, 10.0  # a neighbour votes exp(SHARPNESS * similarity); no vote counts exp(-FLOOR) of the best
GROUP_FOLDS = 10  # parts of the classes that lose their training rows together in the fit
MOST_FEATURES = 3 * 10**7  # numbers from which the weights are fitted
L2 = 0.1
TINY = 1e-9
# before any training row: weights of a view's best title, mean of the best titles, best row and votes, times its share
OF_A_VIEW = (8.0, 16.0, 8.0, 8.0)
HAS_TITLES, HAS_ROWS = -4.0, -4.0


@dataclass(frozen=True)
class Examples:
    """Coded texts that rows are compared with, ordered by class.

    Attributes:
        labels: [examples], class indices, ascending.
        vectors: view -> [examples, columns], sparse rows of unit length.
        texts: [examples]; None: they are not kept.
    """

    labels: Labels
    vectors: Mapping[str, Any]
    texts: Sequence[str] | None

    @cached_property
    def classes(self) -> Labels:
        """Return the classes that have examples."""
        return np.unique(self.labels)

    @cached_property
    def starts(self) -> Labels:
        """Return the first example of each of `classes`."""
        return np.searchsorted(self.labels, self.classes)

    @cached_property
    def _turned(self) -> dict[str, Any]:
        """Return view -> [columns, examples]; dense if few columns make most of them not zero."""
        return {name: one.T.tocsr() if is_sparse(one) else one.T.toarray() for name, one in self.vectors.items()}

    def similarities(self, rows: Mapping[str, Any], view: str) -> Floats:
        """Return the cosines of rows [rows, columns] and examples in a view, [rows, examples]."""
        turned, own = self._turned[view], rows[view]
        found = (own @ turned).toarray() if is_sparse(self.vectors[view]) else own.toarray() @ turned
        return np.asarray(found, np.float32)

    def by_class(self, of: Any, values: Floats, classes: int, empty: float) -> Floats:
        """Return a ufunc's reduction of values [rows, examples] over the examples of each class, [rows, classes]."""
        found = np.full((len(values), classes), empty, np.float32)
        if len(self.labels):
            found[:, self.classes] = of.reduceat(values, self.starts, axis=1)
        return found


def is_sparse(vectors: Any) -> bool:
    """Return whether at least half of a sparse matrix's numbers are zeros; a matrix without rows is sparse."""
    return bool(2 * vectors.nnz <= vectors.shape[0] * vectors.shape[1])


class NearestModel:
    """Scores of rows from their similarities to the titles and training rows of each class.

    Args:
        views: name -> view.
        titles: titles of the classes.
        rows: training rows.
        weights: [4 features of each view, then 2 of all], see `features`.
        neighbours: number of training rows that vote.
        classes: number of classes.
    """

    def __init__(
        self,
        views: Mapping[str, AnyView],
        titles: Examples,
        rows: Examples,
        weights: NDArray[np.float64],
        neighbours: int,
        classes: int,
    ) -> None:
        self.views, self.titles, self.rows, self.weights = views, titles, rows, weights
        self.neighbours, self.classes = neighbours, classes

    @property
    def parameters(self) -> int:
        """Return the number of weights."""
        return self.weights.size

    def logits(self, frame: pd.DataFrame) -> Floats:
        """Return the scores of rows (text, and perhaps workplace, position, task, covariates), [rows, classes].

        softmax of the scores gives probabilities.
        """
        found = [np.empty((0, self.classes), np.float32)]
        for begin in range(0, len(frame), CHUNK):
            features = self.features(self._vectors(frame.iloc[begin : begin + CHUNK]))
            found.append((features @ self.weights).astype(np.float32))
        return np.concatenate(found)

    def nearest(self, frame: pd.DataFrame, examples: Examples, count: int) -> tuple[NDArray[np.int32], Floats]:
        """Return the places [rows, count] of the most similar examples, the nearest first, and their similarities.

        The similarity is the cosine of all views side by side, by their weights. Where there are fewer than `count` examples
        the places are -1.
        """
        places = np.full((len(frame), count), -1, np.int32)
        similar = np.full((len(frame), count), np.nan, np.float32)
        most = min(count, len(examples.labels))
        for begin in range(0, len(frame) if most else 0, CHUNK):
            vectors = self._vectors(frame.iloc[begin : begin + CHUNK])
            parts = [share * examples.similarities(vectors, name) for name, share in self._shares.items()]
            lengths = np.outer(self._lengths(vectors), self._lengths(examples.vectors))
            whole = np.sum(parts, axis=0, dtype=np.float32) / np.maximum(lengths, TINY)
            some = np.argpartition(-whole, most - 1, axis=1)[:, :most]
            value = np.take_along_axis(whole, some, axis=1)
            order = np.lexsort((some, -value))
            places[begin : begin + CHUNK, :most] = np.take_along_axis(some, order, axis=1)
            similar[begin : begin + CHUNK, :most] = np.take_along_axis(value, order, axis=1)
        return places, similar

    def features(self, vectors: Mapping[str, Any], hidden: Booleans | None = None) -> Floats:
        """Return the features [rows, classes, features] of rows.

        Four of each view: similarity to the class's best title, mean of the three highest different similarities to its
        titles, similarity to its best training row, and the logarithm of the votes that the nearest training rows give
        it. Then two of all views: whether the class has titles, and whether it has training rows. What a class lacks
        is 0.

        Args:
            vectors: view -> [rows, columns].
            hidden: [rows, training rows] that are left out of the comparison with a row.
        """
        found: list[Any] = []
        for name in self.views:
            title, titles = self._of_titles(self.titles.similarities(vectors, name))
            similar = self.rows.similarities(vectors, name)
            row, votes = self._of_rows(similar if hidden is None else np.where(hidden, -np.inf, similar))
            there = [np.isfinite(title), np.isfinite(row)]  # the same in every view
            found += [np.where(there[0], one, 0) for one in (title, titles)]
            found += [np.where(there[1], one, 0) for one in (row, votes)]
        return np.stack([*found, *there], axis=2, dtype=np.float32)

    def prior(self) -> NDArray[np.float64]:
        """Return the weights of a model without training rows."""
        return np.array([*(share * one for share in self._shares.values() for one in OF_A_VIEW), HAS_TITLES, HAS_ROWS])

    @cached_property
    def _shares(self) -> dict[str, float]:
        weights = {name: view.config.weight for name, view in self.views.items()}
        return {name: weight / sum(weights.values()) for name, weight in weights.items()}

    def _lengths(self, vectors: Mapping[str, Any]) -> Floats:
        """Return the lengths of rows with all views side by side, [rows]; a row without a part in a view has zeros there."""
        parts = [share * (vectors[name].getnnz(axis=1) > 0) for name, share in self._shares.items()]
        return np.sqrt(np.sum(parts, axis=0, dtype=np.float32))

    def _vectors(self, frame: pd.DataFrame) -> dict[str, Any]:
        return {name: view.rows(input_of(frame, view)).astype(np.float32) for name, view in self.views.items()}

    def _of_titles(self, similar: Floats) -> tuple[Floats, Floats]:
        """Return similarity to the best title and mean of the best titles, [rows, classes]; -inf without titles."""
        titles = self.titles
        best = last = titles.by_class(np.maximum, similar, self.classes, -np.inf)
        total, count = best, np.ones_like(best)
        for _ in range(BEST_TITLES - 1):
            similar = np.where(similar >= last[:, titles.labels], -np.inf, similar)
            last = titles.by_class(np.maximum, similar, self.classes, -np.inf)
            more = np.isfinite(last)
            total, count = total + np.where(more, last, 0), count + more
        return best, total / count

    def _of_rows(self, similar: Floats) -> tuple[Floats, Floats]:
        """Return similarity to the best row and logarithm of the votes, [rows, classes]; -inf without rows."""
        rows = self.rows
        best = rows.by_class(np.maximum, similar, self.classes, -np.inf)
        if not len(rows.labels):
            return best, best
        top = best.max(axis=1, keepdims=True)
        top = np.where(np.isfinite(top), top, 0)
        most = len(rows.labels) - min(self.neighbours, len(rows.labels))
        least = np.partition(similar, most, axis=1)[:, most, None]
        votes = np.where(similar >= least, np.exp(SHARPNESS * (similar - top)), 0)
        votes = rows.by_class(np.add, votes, self.classes, 0)
        return best, np.log(votes + np.exp(-FLOOR)) / SHARPNESS + top


def fit_nearest(
    config: NearestConfig,
    views: Mapping[str, ViewConfig],
    frame: pd.DataFrame,
    labels: Labels,
    classes: int,
    titles: Booleans,
    seed: int,
    embedder: Embedder | None = None,
    covariates: Covariates = NO_COVARIATES,
) -> NearestModel:
    """Train a model.

    Args:
        config: of the model.
        views: name -> view to use.
        frame: training rows and titles: text, and perhaps workplace, position, task, and unit, which rows that the
            split never divides share.
        labels: [rows], class indices.
        classes: number of classes.
        titles: [rows] whether a row is a title.
        seed: of the rows that stand for groups without training rows.
        embedder: of views of an encoder.
        covariates: of the rows.
    """
    made = made_views(config, views, embedder, covariates, whiten=False)
    vectors = {name: view.fit(input_of(frame, view)).astype(np.float32) for name, view in made.items()}
    texts, sorted_rows = frame["text"].to_numpy(object), np.argsort(labels, kind="stable")
    order = sorted_rows[~titles[sorted_rows]], sorted_rows[titles[sorted_rows]]
    kept = [texts[order[0]].tolist() if config.keep_texts else None, texts[order[1]].tolist()]
    rows, named = (
        Examples(labels[places], {name: one[places] for name, one in vectors.items()}, some)
        for places, some in zip(order, kept, strict=True)
    )
    read = {name: view.as_read() for name, view in made.items()}
    model = NearestModel(read, named, rows, np.empty(0), config.neighbours, classes)
    unit = frame["unit"] if "unit" in frame else pd.Series(np.nan, frame.index)
    unit = unit.where(unit.notna(), pd.Series(range(len(frame)), frame.index))  # each reviewed row is a unit
    model.weights = _weights(model, pd.factorize(unit.to_numpy(object)[order[0]])[0], config.unseen, seed)
    return model


def _weights(model: NearestModel, units: Labels, unseen: float, seed: int) -> NDArray[np.float64]:
    """Return the weights that fit the training rows, each compared with rows of other units only.

    A share `unseen` of the rows is compared with no training row of its own class and of some other classes, so that
    the weights also suit groups without training rows.
    """
    prior, rows, generator = model.prior(), model.rows, np.random.default_rng(seed)
    part = generator.permutation(model.classes) % GROUP_FOLDS
    most = MOST_FEATURES // (model.classes * len(prior))
    chosen = np.sort(generator.permutation(len(rows.labels))[:most])
    is_unseen = (generator.random(len(rows.labels)) < unseen) & np.isin(rows.labels, model.titles.classes)
    found = [np.empty((0, model.classes, len(prior)), np.float32)]
    for begin in range(0, len(chosen), CHUNK):
        those = chosen[begin : begin + CHUNK]
        hidden = units[those][:, None] == units
        hidden |= is_unseen[those][:, None] & (part[rows.labels[those]][:, None] == part[rows.labels])
        found.append(model.features({name: one[those] for name, one in rows.vectors.items()}, hidden))
    return fit_logit(np.concatenate(found), rows.labels[chosen], L2, prior)
