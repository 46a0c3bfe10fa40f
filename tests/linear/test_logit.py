"""The conditional logit's weights: the best under its loss, and the prior without rows."""

import numpy as np
import pytest
from scipy.special import softmax

from kjcm.linear.logit import fit_logit


def test_it_finds_the_weights_that_made_the_labels() -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(4000, 7, 3))
    truth = np.array([2.0, -1.0, 0.0])
    chances = softmax(features @ truth, axis=1)
    labels = np.array([generator.choice(7, p=chance) for chance in chances])
    prior = np.zeros(3)
    assert fit_logit(features, labels, 0.0, prior) == pytest.approx(truth, abs=0.1)
    assert fit_logit(features.astype(np.float32), labels, 0.0, prior) == pytest.approx(truth, abs=0.1)


def test_the_penalty_draws_the_weights_to_the_prior() -> None:
    features, labels = np.random.default_rng(1).normal(size=(50, 4, 2)), np.zeros(50, np.int64)
    prior = np.array([0.5, -0.5])
    assert (fit_logit(features[:0], labels[:0], 1.0, prior) == prior).all()
    far, near = (np.abs(fit_logit(features, labels, l2, prior) - prior).max() for l2 in (0.1, 1e6))
    assert near < 1e-4 < far
