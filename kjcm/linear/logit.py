"""A conditional logit: a few weights that turn features of each row and class into one score per class.

McFadden, Conditional Logit Analysis of Qualitative Choice Behavior, 1974.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.floating[Any]]  # [rows, classes, features]


def fit_logit(
    features: Features,
    labels: NDArray[np.int64],
    l2: float,
    prior: NDArray[np.float64],
    least: Sequence[float | None] | None = None,
) -> NDArray[np.float64]:
    """Return the weights [features] under which softmax(features @ weights) fits the labels best.

    The loss is the sum over the rows of -log(probability of the label), plus l2 times the squared distance of the weights
    from `prior`. Without rows the weights are `prior`.

    Args:
        features: [rows, classes, features], of similar size.
        labels: [rows], class indices.
        l2: strength of the penalty.
        prior: [features], weights to start from and to stay close to.
        least: [features], least value of each weight, None without a limit; None: no weight has one.
    """
    from scipy.optimize import minimize
    from scipy.special import logsumexp

    rows = np.arange(len(labels))
    of_truth = features[rows, labels].sum(axis=0, dtype=np.float64)

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scores = (features @ weights.astype(features.dtype)).astype(np.float64)
        log_p = scores - logsumexp(scores, axis=1, keepdims=True)
        expected = np.exp(log_p).ravel().astype(features.dtype) @ features.reshape(-1, len(prior))
        apart = weights - prior
        gradient = expected - of_truth + 2 * l2 * apart
        return float(-log_p[rows, labels].sum() + l2 * apart @ apart), gradient.astype(np.float64)

    if not len(labels):
        return prior.astype(np.float64)
    bounds = None if least is None else [(bound, None) for bound in least]
    start = prior.astype(np.float64)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 500})
    return np.asarray(found.x, np.float64)
