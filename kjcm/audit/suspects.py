"""Find labels that are probably wrong: confident learning (cleanlab) on out-of-fold probabilities.

Northcutt et al., Confident Learning: Estimating Uncertainty in Dataset Labels, JAIR 2021.
"""

import warnings
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kjcm.audit.out_of_fold import OutOfFold
from kjcm.errors import ConfigError, KjcmError


@dataclass(frozen=True)
class Suspects:
    """Rows whose label is probably wrong.

    Attributes:
        order: numbers of the rows, the most suspicious first.
        quality: [order] label quality from 0 (surely wrong) to 1.
        audited: rows that were judged.
        not_known: rows left out because their fold's run cannot predict their code.
        estimate: cleanlab's estimate of the number of wrong labels.
        accuracy: share of the judged rows whose label is the top-1 code.
    """

    order: NDArray[np.int64]
    quality: NDArray[np.float64]
    audited: int
    not_known: int
    estimate: int
    accuracy: float


def require_cleanlab() -> None:
    """Raise ConfigError if cleanlab is not installed."""
    if find_spec("cleanlab") is None:
        raise ConfigError(
            "output: the audit needs cleanlab: pip install 'kjcm[audit]'. out_of_fold=FILE alone does not."
        )


def suspects_of(found: OutOfFold, rule: str, score: str) -> Suspects:
    """Return the rows whose label is probably wrong.

    Args:
        found: the rows with out-of-fold probabilities.
        rule: which rows are suspected: a `filter_by` of cleanlab's `find_label_issues`.
        score: what sorts them: a `method` of cleanlab's `get_label_quality_scores`.

    Raises:
        KjcmError: no row can be judged, or the rows have only one code.
    """
    rows = np.flatnonzero(found.known)
    codes = found.rows["code"].to_numpy(object)[rows]
    if len(set(codes)) < 2:
        raise KjcmError("runs: fewer than two codes among the rows that can be judged. Use folds with more rows.")
    labels, probability = np.searchsorted(found.classes, codes.astype(str)), found.probability[rows]
    probability = probability / probability.sum(axis=1, keepdims=True)  # float32 sums to 1 only nearly
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cleanlab warns of every group with few rows
        from cleanlab.count import num_label_issues
        from cleanlab.filter import find_label_issues
        from cleanlab.rank import get_label_quality_scores

        suspected = find_label_issues(labels, probability, filter_by=rule, n_jobs=1)
        quality = get_label_quality_scores(labels, probability, method=score)
        estimate = int(num_label_issues(labels, probability))
    order = np.argsort(quality, kind="stable")
    order = order[suspected[order]]
    accuracy = float((probability.argmax(axis=1) == labels).mean())
    return Suspects(rows[order], quality[order], len(rows), len(found.rows) - len(rows), estimate, accuracy)


def pairs_of(found: OutOfFold, suspects: Suspects) -> pd.DataFrame:
    """Return given, suggested and rows of each pair of codes among the suspected rows, the most frequent first."""
    rows = found.predictions.iloc[suspects.order]
    pairs = rows.groupby(["code", "code_1"]).size().rename("rows").reset_index()
    pairs = pairs.set_axis(["given", "suggested", "rows"], axis=1)
    return pairs.sort_values(["rows", "given", "suggested"], ascending=[False, True, True], ignore_index=True)
