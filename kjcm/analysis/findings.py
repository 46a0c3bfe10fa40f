"""What a run found, as small tables to look at: confusions, reliability, size and precision, examples of errors."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from kjcm.ksco.classification import Classification
from kjcm.triage.calibration import BINS, reliability_of

MOST = 100  # lines of a table of pairs or of examples


def group_table(per_class: Sequence[Mapping[str, Any]], classification: Classification) -> pd.DataFrame:
    """Return report.json's `per_class` as a table, with the major group of each: code, major, titles, metrics, rows."""
    names = ("code", "title", "title_en", "precision", "recall", "f1", "n_train", "n_test", "n_predicted")
    table = pd.DataFrame(list(per_class), columns=list(names))
    table.insert(1, "major", [classification.top(code) for code in table["code"]])
    return table


def major_confusion(predictions: pd.DataFrame, classification: Classification) -> pd.DataFrame:
    """Return how many rows of each major group (index) were given each major group (columns), both sorted.

    Args:
        predictions: code, code_1 of each test row.
        classification: what the codes are of.
    """
    codes = pd.unique(pd.concat([predictions["code"], predictions["code_1"]]))
    major = {code: classification.top(code) for code in codes}
    groups = sorted(set(major.values()))
    counts = pd.crosstab(predictions["code"].map(major), predictions["code_1"].map(major))
    return counts.reindex(index=groups, columns=groups, fill_value=0)


def as_rows(counts: pd.DataFrame) -> pd.DataFrame:
    """Return a confusion matrix as a table: code, predicted, rows; pairs without rows left out."""
    long = counts.rename_axis("code").reset_index().melt("code", var_name="predicted", value_name="rows")
    return long[long["rows"] > 0].sort_values(["code", "predicted"]).reset_index(drop=True)


def confused_pairs(predictions: pd.DataFrame, classification: Classification, most: int = MOST) -> pd.DataFrame:
    """Return the commonest errors: code, predicted, their titles, rows, and their share of the rows of `code`."""
    wrong = predictions[predictions["code"] != predictions["code_1"]]
    pairs = wrong.groupby(["code", "code_1"]).size().rename("rows").reset_index()
    pairs = pairs.sort_values(["rows", "code", "code_1"], ascending=[False, True, True]).head(most)
    sizes = predictions["code"].value_counts()
    return pd.DataFrame(
        {
            "code": pairs["code"],
            "title": pairs["code"].map(classification.title),
            "predicted": pairs["code_1"],
            "title_predicted": pairs["code_1"].map(classification.title),
            "rows": pairs["rows"],
            "share": pairs["rows"] / pairs["code"].map(sizes),
        }
    ).reset_index(drop=True)


def reliability(predictions: pd.DataFrame, bins: int = BINS) -> pd.DataFrame:
    """Return the table of `reliability_of`; predictions: code, code_1, prob_1 of each test row."""
    right = predictions["code"].eq(predictions["code_1"]).to_numpy(bool)
    return reliability_of(predictions["prob_1"].to_numpy(float), right, bins)


def error_examples(
    predictions: pd.DataFrame, classification: Classification, texts: Sequence[str] | None, most: int = MOST
) -> pd.DataFrame:
    """Return the errors that the model was surest of: row, code, predicted, their titles, prob, and the text if given.

    Args:
        predictions: code, code_1, prob_1 of each test row.
        classification: what the codes are of.
        texts: of the test rows; None leaves them out.
        most: lines.

    Returns:
        Among the columns, `row` is the place in predictions.parquet, counted from 0.
    """
    wrong = predictions[predictions["code"] != predictions["code_1"]]
    wrong = wrong.sort_values("prob_1", ascending=False, kind="stable").head(most)
    found = pd.DataFrame(
        {
            "row": wrong.index,
            "code": wrong["code"],
            "title": wrong["code"].map(classification.title),
            "predicted": wrong["code_1"],
            "title_predicted": wrong["code_1"].map(classification.title),
            "prob": wrong["prob_1"].astype(float),
        }
    )
    return (found if texts is None else found.assign(text=[texts[row] for row in wrong.index])).reset_index(drop=True)
