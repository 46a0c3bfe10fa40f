"""Temperature scaling and what it is measured by, against definitions written out."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss

from kjcm.triage.calibration import brier, fit_temperature, probabilities, probability_of


def drawn(rows: int, classes: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose labels are drawn from them at a temperature."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(rows, classes)) * 4
    chances = softmax(logits / temperature, axis=1)
    labels = (chances.cumsum(axis=1) < random.random((rows, 1))).sum(axis=1)
    return logits.astype(np.float32), labels.astype(np.int64)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_the_labels_were_drawn_at_is_found(temperature: float) -> None:
    logits, labels = drawn(20_000, 12, temperature)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(temperature, rel=0.03)
    losses = [
        log_loss(labels, probabilities(logits, at), labels=range(12)) for at in (found * 0.97, found, found * 1.03)
    ]
    assert losses[1] == min(losses)


def test_labels_that_are_no_class_tell_nothing() -> None:
    logits, labels = drawn(500, 5, 2.0)
    unseen = np.concatenate([labels, np.full(50, 5)])
    assert fit_temperature(np.concatenate([logits, logits[:50]]), unseen) == fit_temperature(logits, labels)
    assert fit_temperature(logits[:3], np.array([5, 6, 5])) == 1.0


def test_brier_is_the_mean_squared_distance_from_the_truth() -> None:
    logits, labels = drawn(200, 5, 1.0)
    found = probabilities(logits)
    truth = np.eye(5)[labels]
    assert brier(found, labels) == pytest.approx(((found - truth) ** 2).sum(axis=1).mean())
    assert brier(np.eye(3), np.arange(3)) == 0.0
    assert brier(np.eye(3), np.array([1, 2, 0])) == 2.0
    assert brier(np.eye(3), np.array([3, 4, 3])) == 2.0  # of no class: as wrong as can be
    assert probability_of(np.array([[0.2, 0.8]]), np.array([2])).tolist() == [0.0]
