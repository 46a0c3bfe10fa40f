"""Temperature scaling, and measures of calibration.

Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Logits = NDArray[np.float32]
Probabilities = NDArray[np.float64]  # near 1, where thresholds are, float32 is too coarse
Labels = NDArray[np.int64]

BINS = 15  # of a reliability table
COLDEST, HOTTEST = 0.05, 20.0  # range of temperatures


def probabilities(logits: Logits, temperature: float = 1.0) -> NDArray[np.float64]:
    """Return softmax(logits / temperature): [rows, classes]."""
    from scipy.special import softmax

    found: NDArray[np.float64] = softmax(logits.astype(np.float64) / temperature, axis=1)
    return found


def fit_temperature(logits: Logits, labels: Labels) -> float:
    """Return the temperature with the highest likelihood of the labels; 1 without usable rows.

    Args:
        logits: [rows, classes].
        labels: [rows], class indices; rows whose label is not a class are left out.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    known = labels < logits.shape[1]
    z, y = logits[known].astype(np.float64), labels[known]
    if not len(y):
        return 1.0

    def loss(log_temperature: float) -> float:
        at = log_softmax(z / np.exp(log_temperature), axis=1)
        return float(-at[np.arange(len(y)), y].mean())

    found = minimize_scalar(loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def brier(probability: Probabilities, labels: Labels) -> float:
    """Return the Brier score over all classes: 0 at best, 2 at worst.

    A label that is not a class counts as a class of probability 0.
    """
    of_truth = probability_of(probability, labels)
    return float((np.square(probability).sum(axis=1) - 2 * of_truth + 1).mean())


def probability_of(probability: Probabilities, labels: Labels) -> NDArray[np.float64]:
    """Return each row's probability of its label, 0 if the label is not a class: [rows]."""
    known = labels < probability.shape[1]
    found = np.zeros(len(labels))
    found[known] = probability[known, labels[known]]
    return found


def reliability_of(confidence: NDArray[np.float64], right: NDArray[np.bool_], bins: int = BINS) -> pd.DataFrame:
    """Return how often the top-1 code is right for each confidence: one line for each of `bins` that has rows.

    Args:
        confidence: [rows] probability of the top-1 code.
        right: [rows] whether it is right.
        bins: of equal width over (0, 1].

    Returns:
        low and high (of the bin), confidence (the mean of its rows), accuracy, rows.
    """
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.digitize(confidence, edges, right=True) - 1, 0, bins - 1)
    rows = pd.DataFrame({"bin": place, "confidence": confidence, "accuracy": right})
    found = rows.groupby("bin").agg(
        confidence=("confidence", "mean"), accuracy=("accuracy", "mean"), rows=("accuracy", "size")
    )
    found.insert(0, "low", edges[found.index])
    found.insert(1, "high", edges[found.index + 1])
    return found.reset_index(drop=True)


def calibration_error(table: pd.DataFrame) -> float:
    """Return the expected calibration error of a reliability table: mean |accuracy - confidence|, weighted by rows."""
    gaps = (table["accuracy"] - table["confidence"]).abs()
    return float((gaps * table["rows"]).sum() / table["rows"].sum())
