"""Score one run's answers: metrics over test rows, by group and at a coarser level."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kjcm.confusion import Counts, averages, counts, precision_recall_f1
from kjcm.errors import KjcmError, require_columns, some
from kjcm.metrics import SHOWN_CODES, TOP

Strings = NDArray[np.object_]
Integers = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

AGAIN = "Remove the run and run it again."


@dataclass(frozen=True, eq=False)
class CodeNumbers:
    """Answers as whole numbers, so that a resample needs four counts and compares no text.

    Attributes:
        codes: [codes] every true or top-1 code, sorted.
        truth: [rows] index of the true code.
        first: [rows] index of the top-1 code, `len(codes)` if there is none.
        rank: [rows] rank of the true code among the predicted codes from 0, `width` if it is not among them.
        width: predicted codes per row.
    """

    codes: Strings
    truth: NDArray[np.intp]
    first: NDArray[np.intp]
    rank: NDArray[np.intp]
    width: int

    def by_code(self, weights: Integers | Floats | None = None) -> Counts:
        """Return each code's [codes] weighted counts: true rows, predicted rows and correctly predicted rows."""
        return counts(self.truth, self.first, len(self.codes), weights)

    def within(self, weights: Floats | None = None) -> Floats:
        """Return [width] the weighted share of rows whose true code is among the top 1, 2, ... predicted codes."""
        ranks = np.bincount(self.rank, weights, minlength=self.width + 1)
        shares: Floats = np.cumsum(ranks)[: self.width] / ranks.sum()
        return shares


@dataclass(frozen=True, eq=False)
class Answers:
    """A run's answers to its test rows. Do not change the arrays: counts of them are cached.

    Attributes:
        ids: [rows] str, unique.
        truth: [rows] str, the true codes.
        codes: [rows, k] str, the predicted codes, most probable first; None if there are fewer classes.
        prob: [rows, k] their probabilities; NaN if missing.
        clusters: [rows] str, the row's interviewer or household, for example; None if the data name none.
        seen: [rows] whether the row's text occurs among the run's training texts; None if unknown.
        texts: [rows] rows with the same number have the same text; None if unknown.
        place: the file of the answers, for messages.
    """

    ids: Strings
    truth: Strings
    codes: Strings
    prob: Floats
    clusters: Strings | None = None
    seen: Flags | None = None
    texts: Integers | None = None
    place: str = "predictions"

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def coded(self) -> CodeNumbers:
        """The answers as whole numbers, computed once."""
        numbers, codes = pd.factorize(np.concatenate([self.truth, self.codes[:, 0]]), sort=True)
        truth, first = np.split(numbers, 2)
        hits = self.codes == self.truth[:, None]
        width = self.codes.shape[1]
        rank = np.where(hits.any(axis=1), hits.argmax(axis=1), width)
        return CodeNumbers(codes, truth, np.where(first < 0, len(codes), first), rank, width)

    def take(self, rows: Flags | Integers) -> "Answers":
        """Return the answers of `rows`, a mask [rows] or row numbers."""
        kept: dict[str, Any] = {
            name: value[rows] for name, value in vars(self).items() if isinstance(value, np.ndarray)
        }
        return replace(self, **kept)

    def on(self, ids: Sequence[str] | Strings) -> "Answers":
        """Return the answers of the rows `ids`, in the order of `ids`.

        Raises:
            KjcmError: an id has no answer.
        """
        wanted = np.asarray(ids, dtype=object)
        rows = pd.Index(self.ids).get_indexer(pd.Index(wanted))
        if (rows < 0).any():
            lacking = wanted[rows < 0]
            raise KjcmError(
                f"{self.place}: {len(lacking):,} of {len(wanted):,} requested rows have no answer (id {some(lacking)}). "
                "Compare runs on rows that both have answered."
            )
        return self.take(rows)


def answers_of(frame: pd.DataFrame, place: str) -> Answers:
    """Return the answers in predictions.parquet.

    Args:
        frame: id, code, code_1..code_10, prob_1..prob_10, and, if known, cluster, seen (bool), text (int).
        place: the file, for messages.

    Raises:
        KjcmError: a column is missing or of another type, there are no rows, an id occurs twice, or an id, code,
            cluster, seen or text is empty.
    """
    codes, prob = ([f"{name}_{k}" for k in range(1, SHOWN_CODES + 1)] for name in ("code", "prob"))
    known = [name for name in ("cluster", "seen", "text") if name in frame]
    require_columns(place, frame.columns, ["id", "code", *codes, *prob], lambda: AGAIN)
    if frame.empty:
        raise KjcmError(f"{place}: no rows. Give the run test rows and run it again.")
    require_filled(frame, ["id", "code", *known], place)
    require_types(frame, prob, place)
    ids = frame["id"].astype(str)
    if ids.duplicated().any():
        raise KjcmError(f"{place}: column id: {some(ids[ids.duplicated()].unique())} more than once. {AGAIN}")
    return Answers(
        ids=ids.to_numpy(object),
        truth=frame["code"].astype(str).to_numpy(object),
        codes=np.stack([text_or_none(frame[name]) for name in codes], axis=1),
        prob=frame[prob].to_numpy(float),
        clusters=frame["cluster"].astype(str).to_numpy(object) if "cluster" in known else None,
        seen=frame["seen"].to_numpy(bool) if "seen" in known else None,
        texts=frame["text"].to_numpy(np.int64) if "text" in known else None,
        place=place,
    )


def text_or_none(column: "pd.Series[Any]") -> Strings:
    """Return a column [rows] as str, None for empty cells."""
    values: Strings = column.astype(str).to_numpy(object, copy=True)
    values[column.isna().to_numpy()] = None
    return values


def require_filled(frame: pd.DataFrame, names: Sequence[str], place: str) -> None:
    """Raise KjcmError if a column of `names` has an empty cell."""
    for name in names:
        if (empty := frame[name].isna()).any():
            ids = some(frame.loc[empty, "id"])
            raise KjcmError(f"{place}: column {name}: empty in {int(empty.sum()):,} rows (id {ids}). {AGAIN}")


def require_types(frame: pd.DataFrame, prob: Sequence[str], place: str) -> None:
    """Raise KjcmError unless seen is bool, text whole numbers and `prob` numbers or empty."""
    wanted = {"seen": "true or false", "text": "whole numbers"} | dict.fromkeys(prob, "numbers")
    is_type = {"seen": pd.api.types.is_bool_dtype, "text": pd.api.types.is_integer_dtype}
    for name in [name for name in wanted if name in frame]:
        column = frame[name]
        if not is_type.get(name, pd.api.types.is_numeric_dtype)(column) and not column.isna().all():
            raise KjcmError(f"{place}: column {name}: {wanted[name]} wanted, not {some(column.unique())}. {AGAIN}")


def metrics(answers: Answers, weights: Integers | Floats | None = None) -> dict[str, float]:
    """Return the metrics of REPORTED and Top-k accuracy for every k up to the codes per row.

    They equal scikit-learn's with zero_division=0: averages are weighted by a group's true rows, macro F1 is over all
    true or top-1 codes.

    Args:
        answers: answers to at least one row.
        weights: [rows] how often a resample draws each row; once each by default.

    Raises:
        KjcmError: no row counts.
    """
    each = None if weights is None else np.asarray(weights, float)
    if not len(answers) or (each is not None and not each.sum() > 0):
        raise KjcmError(f"{answers.place}: no rows to measure. Leave this selection of rows out.")
    within = answers.coded.within(each)
    return {
        "accuracy": float(within[0]),
        **averages(*answers.coded.by_code(each)),
        **{f"top_{k}_accuracy": float(within[k - 1]) for k in TOP if k <= len(within)},
    }


def per_group(answers: Answers) -> pd.DataFrame:
    """Return code, precision, recall, f1, n_test and n_predicted of every true or top-1 code."""
    true, predicted, both = answers.coded.by_code()
    precision, recall, f1 = precision_recall_f1(true, predicted, both)
    return pd.DataFrame(
        {
            "code": answers.coded.codes,
            "precision": precision,
            "recall": recall,
            "f1": f1,
            "n_test": true.astype(int),
            "n_predicted": predicted.astype(int),
        }
    )


def predicted_right(answers: Answers) -> Flags:
    """Return [rows] whether the top-1 code is the true code."""
    right: Flags = answers.coded.rank == 0
    return right


def at_level(answers: Answers, to: Callable[[str], str | None]) -> Answers:
    """Return the answers with true and top-1 codes at a coarser level, for the accuracy at that level.

    Only each row's top-1 code remains, because others may share its coarser code. Its probability is NaN.

    Args:
        answers: answers at the finer level.
        to: returns a code's coarser code, or None; a prediction without a coarser code counts as an error.

    Raises:
        KjcmError: a true code has no coarser code.
    """
    coarse = {code: to(code) for code in answers.coded.codes}
    truth = np.array([coarse[code] for code in answers.truth], dtype=object)
    if lacking := sorted({fine for fine, code in zip(answers.truth, truth, strict=True) if code is None}):
        raise KjcmError(
            f"{answers.place}: column code: {some(lacking)} have no code at the coarser level. Leave it out."
        )
    first = np.array([coarse.get(code) for code in answers.codes[:, 0]], dtype=object)
    return replace(answers, truth=truth, codes=first[:, None], prob=np.full((len(answers), 1), np.nan))
