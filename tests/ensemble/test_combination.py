"""The combination of members' scores: weights that fit, in one step or two, and the mean of probabilities."""

import numpy as np
import pytest
from scipy.special import log_softmax as scipy_log_softmax
from scipy.special import softmax

from kjcm.ensemble.combination import Combination, fit_combination, log_prior

ROWS, CLASSES = 4000, 5
N_TRAIN = (50, 40, 5, 4, 1)


def drawn(weights: tuple[float, ...], prior: float, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Draw members' scores, and labels from their conditional logit."""
    random = np.random.default_rng(seed)
    scores = [scipy_log_softmax(2 * random.normal(size=(ROWS, CLASSES)), axis=1).astype(np.float32) for _ in weights]
    share = (np.array(N_TRAIN) + 0.5) / (sum(N_TRAIN) + 0.5 * CLASSES)
    logits = sum(w * one for w, one in zip(weights, scores, strict=True)) + prior * np.log(share)
    cumulated = softmax(logits, axis=1).cumsum(axis=1)
    return scores, (random.random((ROWS, 1)) > cumulated).sum(axis=1).clip(max=CLASSES - 1)


def test_the_logit_finds_the_weights() -> None:
    scores, labels = drawn((0.8, 0.3), -0.5)
    found = fit_combination("logit", scores, np.ones((ROWS, 2), bool), [False, False], labels, N_TRAIN)
    assert found.weights == pytest.approx((0.8, 0.3), abs=0.08) and found.prior == pytest.approx(-0.5, abs=0.08)
    expected = 0.8 * scores[0] + 0.3 * scores[1] - 0.5 * log_prior(N_TRAIN)
    made = Combination("logit", (0.8, 0.3), -0.5)([scores[0] + 3, scores[1]], N_TRAIN)  # a constant changes nothing
    assert made == pytest.approx(expected, abs=1e-4) and made.dtype == np.float32


def test_a_given_weight_of_the_prior_is_kept() -> None:
    scores, labels = drawn((0.8, 0.3), 0.0)
    settings = (np.ones((ROWS, 2), bool), [False, False], labels, N_TRAIN)
    found = fit_combination("logit", scores, *settings, prior=-0.2)
    assert found.weights == pytest.approx((0.8, 0.3), abs=0.08) and found.prior == -0.2
    assert fit_combination("logit", scores, *settings, prior=0.0) == Combination("logit", found.weights, 0.0)


def test_a_member_with_scores_of_some_rows_is_added_in_a_second_step() -> None:
    scores, labels = drawn((0.6, 0.4, 0.5), 0.3)
    scored = np.ones((ROWS, 3), bool)
    scored[ROWS // 2 :, 2] = False
    scores[2][ROWS // 2 :] = 0
    found = fit_combination("logit", scores, scored, [False, False, True], labels, N_TRAIN)
    assert found.weights == pytest.approx((0.6, 0.4, 0.5), abs=0.12) and found.prior == pytest.approx(0.3, abs=0.12)
    alone = fit_combination("logit", scores[2:], scored[:, 2:], [True], labels, N_TRAIN)
    same = fit_combination(
        "logit", [scores[2][: ROWS // 2]], scored[: ROWS // 2, 2:], [False], labels[: ROWS // 2], N_TRAIN
    )
    assert alone == same  # rows without scores count for nothing


def test_no_member_has_a_negative_weight() -> None:
    scores, labels = drawn((1.0, -0.5, 0.5), 0.0)
    scored = np.ones((ROWS, 3), bool)
    assert fit_combination("logit", scores, scored, [False] * 3, labels, N_TRAIN).weights[1] == 0
    found = fit_combination("logit", scores, scored, [False, True, False], labels, N_TRAIN)
    assert found.weights[1] == 0 and min(found.weights[0], found.weights[2]) > 0.3


def test_the_average_is_the_mean_probability_at_a_temperature() -> None:
    scores, labels = drawn((1.0, 0.0), 0.0)
    found = fit_combination("average", scores, np.ones((ROWS, 2), bool), [False, False], labels, N_TRAIN)
    mean = (softmax(scores[0], axis=1) + softmax(scores[1], axis=1)) / 2
    assert found.weights == (0.5, 0.5) and 0.8 < found.temperature < 1.5
    assert softmax(found(scores, N_TRAIN) * found.temperature, axis=1) == pytest.approx(mean, abs=1e-5)
