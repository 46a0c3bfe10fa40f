"""A linear model's probabilities, and its temperature where the training rows leave little to cross-validate."""

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from kjcm.keys.models import LinearConfig, ViewConfig
from kjcm.linear import model
from kjcm.linear.model import LinearModel, fit_linear, saturated
from kjcm.linear.views import View

VIEWS = {"text": ViewConfig("word", "text", [1, 1], 1.0)}
CONFIG = LinearConfig("linear", "linear", VIEWS, 1.0, None, "", 128, "svm", 1.0, 0.0, [], 4.0, 2)


@pytest.mark.parametrize("labels", [[0, 1, 0, 1], [0, 1, 0, 2]])
def test_probabilities_of_a_logistic_regression_are_scikit_learns(labels: list[int]) -> None:
    frame = pd.DataFrame({"text": ["은행", "병원", "은행 창구", "병원 환자"]})
    config = replace(CONFIG, classifier="logistic", C=10.0)
    classes = [np.arange(max(labels) + 1)]
    found = fit_linear(config, VIEWS, frame, np.array(labels), classes, np.full(4, -1), 0).logits(frame)
    rows = View(VIEWS["text"]).fit(frame["text"].tolist())
    expected = LogisticRegression(C=10.0, max_iter=1000).fit(rows, labels).predict_proba(rows)
    assert softmax(found, axis=1) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("folds", [[0, 0, 0, 0], [0, 1, 0, 1]])
def test_folds_that_leave_nothing_to_learn_from_set_no_temperature(folds: list[int]) -> None:
    frame, labels = pd.DataFrame({"text": ["은행", "병원", "은행 창구", "병원 환자"]}), np.array([0, 1, 0, 1])
    one, none = (
        fit_linear(CONFIG, CONFIG.views, frame, labels, [np.arange(2)], np.array(parts), 0)
        for parts in (folds, [-1] * 4)
    )
    assert (one.logits(frame) == none.logits(frame)).all() and one.logits(frame).argmax(axis=1).tolist() == [0, 1, 0, 1]


def test_saturated_scores_are_log_probabilities_and_keep_the_order() -> None:
    margins = np.array([-3.0, -1.2, -0.5, 0.0, 1.5, 4.0], np.float32)
    assert saturated(margins, 4.0) == pytest.approx(np.log(1 / (1 + np.exp(-4 * (margins.astype(float) + 0.5)))))
    assert (np.diff(saturated(margins, 4.0)) > 0).all() and (saturated(margins, 0.0) == margins).all()


@pytest.mark.parametrize("classifier", ["svm", "logistic"])
def test_only_the_scores_of_an_svm_are_saturated(classifier: str) -> None:
    frame, labels = pd.DataFrame({"text": ["은행", "병원", "은행 창구", "병원 환자"]}), np.array([0, 1, 0, 1])
    own, plain = (
        fit_linear(config, VIEWS, frame, labels, [np.arange(2)], np.full(4, -1), 0).logits(frame)
        for config in (replace(CONFIG, classifier=classifier), replace(CONFIG, classifier=classifier, saturation=0.0))
    )
    assert own == pytest.approx(saturated(plain, 4.0) if classifier == "svm" else plain, abs=1e-6)


def test_the_temperature_divides_the_scores() -> None:
    views = {"text": View(VIEWS["text"])}
    weights = views["text"].fit(["은행", "병원"]).toarray().T.astype(np.float32)
    frame = pd.DataFrame({"text": ["은행", "병원"]})
    hot, cold = (LinearModel(views, weights, np.zeros(2, np.float32), 4.0, one).logits(frame) for one in (2.0, 1.0))
    assert 2 * hot == pytest.approx(cold)


def test_a_row_of_weight_two_counts_as_two_rows() -> None:
    frame, labels = (
        pd.DataFrame({"text": ["은행", "병원", "은행 창구", "병원 은행", "창구"]}),
        np.array([0, 1, 0, 1, 0]),
    )
    twice, classes = np.array([0, 1, 2, 3, 3, 4]), [np.arange(2)]
    rows = View(CONFIG.views["text"]).fit(frame["text"].tolist())  # the terms' weights are those of single rows
    each, ones = np.array([1, 1, 1, 2, 1], np.float32), np.ones(6, np.float32)
    fit = model._solver(CONFIG, 0)
    once = model._levels(CONFIG, rows, labels, each, classes, fit)
    expected = model._levels(CONFIG, rows[twice], labels[twice], ones, classes, fit)
    for found, wanted in zip(once, expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-2)


def test_a_row_that_is_only_left_out_of_a_part_is_not_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.DataFrame({"text": ["은행", "병원", "은행 창구", "병원 환자", "은행", "병원"]})
    labels, parts, scored = np.array([0, 1, 0, 1, 1, 0]), np.array([0, 0, 1, 1, -2, -3]), []
    monkeypatch.setattr(model, "fit_temperature", lambda scores, truth: scored.append(truth.tolist()) or 1.0)
    fit_linear(CONFIG, CONFIG.views, frame, labels, [np.arange(2)], parts, 0)
    assert scored == [[0, 1, 0, 1]]


@pytest.mark.parametrize("classifier", ["logistic", "svm"])
def test_few_rows_of_a_class_print_no_warning(classifier: str) -> None:
    """scikit-learn warns of more than 20 classes with fewer than two rows each, as titles have."""
    rows, labels = np.eye(30, dtype=np.float32), np.arange(30)
    made = LogisticRegression() if classifier == "logistic" else LinearSVC()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit_and_warn(made, rows, labels)
