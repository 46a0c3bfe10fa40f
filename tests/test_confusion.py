"""Precision, recall and F1 from counts: those of scikit-learn, and those that training measures on the device."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import precision_recall_fscore_support

from kjcm.confusion import averages, counts, precision_recall_f1
from kjcm.engine.scores import Scores
from kjcm.run_folder.results import survey_weighted

CLASSES = 40


def drawn(seed: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return true and predicted classes of rows; some classes have no rows, some are never predicted."""
    chance = np.random.default_rng(seed)
    truth = chance.integers(2, CLASSES, 400)
    return truth, np.where(chance.random(400) < 0.6, truth, chance.integers(0, CLASSES - 2, 400))


@pytest.mark.parametrize("seed", range(8))
def test_to_the_bit_those_of_scikit_learn(seed: int) -> None:
    truth, first = drawn(seed)
    found = counts(truth, first, CLASSES)
    given: dict[str, Any] = {"labels": range(CLASSES), "zero_division": 0}
    theirs = precision_recall_fscore_support(truth, first, **given)
    assert [part.tolist() for part in precision_recall_f1(*found)] == [part.tolist() for part in theirs[:3]]
    weighted = precision_recall_fscore_support(truth, first, average="weighted", **given)[:3]
    macro = precision_recall_fscore_support(
        truth, first, average="macro", labels=np.unique([truth, first]), zero_division=0
    )[2]
    assert list(averages(*found).values()) == [*weighted, pytest.approx(macro, abs=1e-15)]


@pytest.mark.parametrize("seed", range(8))
def test_those_that_training_measures(seed: int) -> None:
    truth, first = drawn(seed)
    scores = Scores(CLASSES)
    scores.update(torch.eye(CLASSES)[torch.from_numpy(first)], torch.from_numpy(truth))
    metrics, per_class = scores.summary()
    found = counts(truth, first, CLASSES)
    for name, part in zip(("precision", "recall", "f1"), precision_recall_f1(*found), strict=True):
        assert per_class[name] == part.tolist()
    assert {name: metrics[name] for name in averages(*found)} == pytest.approx(averages(*found), abs=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_survey_weighted_metrics_are_those_of_scikit_learn(seed: int) -> None:
    truth, first = (part.astype(str) for part in drawn(seed))
    weights = np.random.default_rng(seed).gamma(1, size=len(truth))
    found = survey_weighted(truth.tolist(), first.tolist(), weights.tolist())
    theirs = precision_recall_fscore_support(truth, first, average="weighted", sample_weight=weights, zero_division=0)
    assert found == pytest.approx(
        {
            "accuracy": theirs[1],
            "precision_weighted": theirs[0],
            "recall_weighted": theirs[1],
            "f1_weighted": theirs[2],
        },
        abs=1e-15,
    )


def test_nothing_to_divide_by() -> None:
    assert [float(part) for part in precision_recall_f1(3, 0, 0)] == [0, 0, 0]
    precision, recall, f1 = precision_recall_f1(3, 0, 0, empty=np.nan)
    assert np.isnan(precision) and (recall, f1) == (0, 0)
    assert counts(np.array([0, 1]), np.array([2, 1]), 2)[1].tolist() == [0, 1]  # a row without a prediction
