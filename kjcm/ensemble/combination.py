"""Combine the scores of several models: a conditional logit on out-of-fold scores, or the mean of their
probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kjcm.linear.logit import fit_logit
from kjcm.triage.calibration import fit_temperature

Scores = NDArray[np.float32]  # [rows, classes]
Labels = NDArray[np.int64]

L2 = 1.0  # penalty of the conditional logit, in rows
SMOOTHING = 0.5  # rows added to each class, so that a class without training rows has a prior


@dataclass(frozen=True)
class Combination:
    """How the members' scores become one score of each class.

    Attributes:
        how: 'logit': the weighted sum of the members' log-probabilities and of the classes' log-prior; 'average': the
            log of the mean probability.
        weights: of the members.
        prior: weight of the log-prior.
        temperature: divides the sum.
    """

    how: str
    weights: tuple[float, ...]
    prior: float = 0.0
    temperature: float = 1.0

    def __call__(self, logits: Sequence[NDArray[Any]], n_train: Sequence[int]) -> Scores:
        """Return the combined logits [rows, classes].

        Args:
            logits: each member's, [rows, classes].
            n_train: [classes] training rows.
        """
        scores = [log_softmax(one) for one in logits]
        if self.how == "average":
            found = np.logaddexp.reduce([one + np.log(w) for one, w in zip(scores, self.weights, strict=True)])
        else:
            found = sum(w * one for one, w in zip(scores, self.weights, strict=True)) + self.prior * log_prior(n_train)
        return np.asarray(found / self.temperature, np.float32)


def fit_combination(
    how: str,
    scores: Sequence[Scores],
    scored: NDArray[np.bool_],
    partly: Sequence[bool],
    labels: Labels,
    n_train: Sequence[int],
    prior: float | None = None,
) -> Combination:
    """Return the combination under which out-of-fold scores fit the labels best.

    The logit has two steps if some members have scores of only some rows: first the other members on all rows, then
    their sum and the rest on the rows that all members have scored. No weight of a member is negative: a poor member
    with few scored rows could otherwise do harm.

    Args:
        how: see `Combination`.
        scores: each member's log-probabilities [rows, classes].
        scored: [rows, members] whether a member has scored a row.
        partly: [members] whether the member's scores of only some rows are wanted.
        labels: [rows] class indices.
        n_train: [classes] training rows.
        prior: weight of the log-prior of a logit, whose other weights are fitted without it; None: it is fitted too.
    """
    members = range(len(scores))
    every = np.all(scored, axis=1)
    if how == "average":
        equal = Combination(how, (1 / len(members),) * len(members))
        mean = equal([one[every] for one in scores], n_train)
        return Combination(how, equal.weights, temperature=fit_temperature(mean, labels[every]))
    prior_part = np.broadcast_to(log_prior(n_train), scores[0].shape)
    tail = [prior_part] if prior is None else []  # fitted too
    first = [member for member in members if not partly[member]] or [*members]
    rest = [member for member in members if member not in first]
    weights = np.zeros(len(members))
    rows = np.all(scored[:, first], axis=1)
    start = [1 / len(first)] * len(first) + [0.0] * len(tail)
    found = _fit([*(scores[one] for one in first), *tail], rows, labels, start, len(first))
    weights[first], of_prior = found[: len(first)], sum(found[len(first) :])
    if rest:
        whole = sum(weights[one] * scores[one] for one in first) + of_prior * prior_part
        parts = [whole, *(scores[one] for one in rest), *tail]
        scale, *found = _fit(parts, every, labels, [1.0] + [0.0] * (len(parts) - 1), 1 + len(rest))
        weights[first] *= scale
        weights[rest], of_prior = found[: len(rest)], scale * of_prior + sum(found[len(rest) :])
    return Combination(how, tuple(weights.tolist()), of_prior if prior is None else prior)


def _fit(
    parts: Sequence[NDArray[Any]], rows: NDArray[np.bool_], labels: Labels, start: list[float], members: int
) -> list[float]:
    """Return the weights of the parts [rows, classes] on some rows; those of the first `members` parts are not negative."""
    features = np.stack([np.asarray(part[rows], np.float32) for part in parts], axis=2)
    least = [0.0] * members + [None] * (len(parts) - members)
    found: list[float] = fit_logit(features, labels[rows], L2, np.array(start), least).tolist()
    return found


def log_softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Return the log-probabilities [rows, classes]."""
    from scipy.special import log_softmax as own

    found: NDArray[np.float64] = own(logits.astype(np.float64), axis=1)
    return found


def log_prior(n_train: Sequence[int]) -> NDArray[np.float64]:
    """Return the log of each class's share of the training rows, [classes]."""
    counts = np.asarray(n_train, np.float64) + SMOOTHING
    found: NDArray[np.float64] = np.log(counts / counts.sum())
    return found
