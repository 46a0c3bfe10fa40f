"""Read each row's probabilities of codes from a file that `kjcm predict` wrote, or from a column of codes."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count, dropwhile, takewhile
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kjcm.errors import CUT, KjcmError, some
from kjcm.read.cells import code_texts, tidy
from kjcm.read.options import ReadOptions
from kjcm.read.table import table_columns

PREFIX = "probability_"  # begins the columns that all_probabilities=true adds
SETTLED: Mapping[str, tuple[str, ...]] = {  # the first of these columns that a file has
    "reviewed": ("reviewed_code",),
    "decided": ("final_code", "decision_code"),
    "none": (),
}
SLACK = 0.01  # by which rounded probabilities may sum to more than 1, or all of them to less
REMEDY = "Use a file that `kjcm predict` wrote, or set {key}=NAME to a column of codes."
UNCHANGED = "Use the probabilities that `kjcm predict` wrote, unchanged."


@dataclass(frozen=True)
class Distributions:
    """Rows' probabilities of codes.

    Attributes:
        codes: the codes, sorted.
        probability: [rows, codes]; a row sums to 1 or, if its file only shows some codes, to less; to 0 if it is not coded.
        top: [rows], place of the most likely code; 0 for rows that are not coded.
        settled: [rows], whether the row has one code, with probability 1.
        whole: whether the rows have the probabilities of all classes.
    """

    codes: tuple[str, ...]
    probability: NDArray[np.float64]
    top: NDArray[np.intp]
    settled: NDArray[np.bool_]
    whole: bool

    @property
    def coded(self) -> NDArray[np.bool_]:
        """Return which rows have a code: [rows]."""
        return np.asarray(self.probability.any(axis=1), bool)

    @property
    def hidden(self) -> NDArray[np.float64]:
        """Return the probability of the codes that a row does not show: [rows]; nan for rows without a code."""
        return np.where(self.coded, np.clip(1 - self.probability.sum(axis=1), 0, 1), np.nan)


class DistributionReader:
    """Reads the probabilities of a file's rows, frame by frame.

    Args:
        source: the file.
        columns: its columns.
        options: how it is read.
        code: a column of codes with probability 1, instead of what `kjcm predict` wrote; None: none.
        settled: which decisions give the row's code, or the group that has its code; see SETTLED.
        key: the config key of `code`, for messages.

    Attributes:
        whole: whether the file has the probabilities of all classes.

    Raises:
        KjcmError: a column is missing.
    """

    def __init__(
        self,
        source: Path,
        columns: pd.Index,
        options: ReadOptions,
        code: str | None,
        settled: str,
        key: str = "columns.code",
    ) -> None:
        self.source, self._done = source, 0
        own = [str(name) for name in columns]
        self._class_columns = [] if code else _class_columns(own)
        self.whole = bool(self._class_columns)
        self._others = set() if code or self.whole else {name for name in own if _is_probability(name)}
        shown = takewhile(lambda rank: f"code_{rank}" in own and f"prob_{rank}" in own, count(1))
        ranks = [] if code or self.whole else list(shown)
        self._settled = next((name for name in SETTLED[settled] if name in own and not code), None)
        if code:
            found = table_columns(str(source), columns, {"code": code}, options, f"Set {key}=NAME.")
            self._settled = found["code"]
        elif "code_1" not in own or not (ranks or self.whole):
            wanted = {name: name for name in ("code_1", "prob_1")}
            table_columns(str(source), columns, wanted, options, REMEDY.format(key=key))
        elif settled == "decided" and self._settled is None:
            wanted = {"decision_code": "decision_code"}
            table_columns(str(source), columns, wanted, options, "Or use settled=none.")
        self._first = None if code else "code_1"
        self._ranks = [(f"code_{k}", f"prob_{k}") for k in ranks]

    def read(self, frame: pd.DataFrame) -> Distributions:
        """Return the probabilities of the file's next rows.

        Raises:
            KjcmError: a cell is no probability, or a row's probabilities do not sum to 1.
        """
        settled = _codes(frame[self._settled]) if self._settled else [""] * len(frame)
        ranked = [_codes(frame[code]) for code, _ in self._ranks]
        classes = [name.removeprefix(PREFIX) for name in self._class_columns]
        first = _codes(frame[self._first]) if self._first else [""] * len(frame)
        codes = sorted({*first, *settled, *classes, *(code for column in ranked for code in column)} - {""})
        self._require_class_columns(first, classes)
        place = {code: number for number, code in enumerate(codes)}
        places = [np.array([place.get(code, -1) for code in column], np.intp) for column in (settled, *ranked)]
        found, rows = np.zeros((len(frame), len(codes))), np.arange(len(frame))
        for name, code in zip(self._class_columns, classes, strict=True):
            found[:, place[code]] = self._probabilities(frame[name], np.zeros(len(frame), bool))
        for where, (_, name) in zip(places[1:], self._ranks, strict=True):
            shown = where >= 0
            found[rows[shown], where[shown]] += self._probabilities(frame[name], shown)[shown]
        self._require_sums(found)
        given = places[0] >= 0
        found[given] = _given_code(found[given], np.array(codes, str), np.array(settled, str)[given])
        self._done += len(frame)
        best = np.array([place.get(code, -1) for code in first], np.intp)
        most = found.argmax(axis=1) if codes else np.zeros(len(frame), np.intp)
        top = np.where(~given & (best >= 0), best, most)
        return Distributions(tuple(codes), found, top, given & (found == 1).any(axis=1), self.whole)

    def _probabilities(self, cells: pd.Series, needed: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return a column's probabilities: [rows], 0 for empty cells; needed: [rows], which may not be empty."""
        if pd.api.types.is_numeric_dtype(cells):  # much faster than by way of text
            filled, values = cells.notna().to_numpy(bool), cells.to_numpy(np.float64, na_value=np.nan)
        else:
            texts = pd.Series(code_texts(cells), dtype=object)
            filled, values = (texts != "").to_numpy(bool), pd.to_numeric(texts, errors="coerce").to_numpy(np.float64)
        wrong = (needed | filled) & ~((values >= 0) & (values <= 1))
        if wrong.any():
            row = int(wrong.argmax())
            text = code_texts(cells.iloc[row : row + 1])[0]
            raise KjcmError(
                f"{self.source}, column {cells.name!r}, data row {self._done + row + 1:,}: {text[:CUT]!r} is not a "
                f"probability. {UNCHANGED}"
            )
        return np.nan_to_num(np.asarray(values, np.float64))

    def _require_class_columns(self, first: list[str], classes: list[str]) -> None:
        """Raise KjcmError if a row's most likely code has no column of a class, or only one before code_1."""
        if moved := sorted({f"{PREFIX}{code}" for code in first if code} & self._others):
            raise KjcmError(
                f"{self.source}: the columns {some(moved)} are before code_1. If they are your own, rename them. If they are "
                "from `kjcm predict`, use its file unchanged."
            )
        known = {"", *classes}
        if self.whole and (row := next((row for row, code in enumerate(first) if code not in known), None)) is not None:
            raise KjcmError(
                f"{self.source}, data row {self._done + row + 1:,}: code_1 is {first[row][:CUT]!r}, but the columns of "
                f"probabilities are {some(self._class_columns)}. Rename columns of your own that begin with {PREFIX!r}, or use "
                "the file that `kjcm predict` wrote, unchanged."
            )

    def _require_sums(self, found: NDArray[np.float64]) -> None:
        """Raise KjcmError if probabilities [rows, codes] sum to more than 1, or those of all classes to less."""
        sums = found.sum(axis=1)
        wrong = (sums > 1 + SLACK) | (self.whole & (sums > 0) & (sums < 1 - SLACK))
        if wrong.any():
            row = int(wrong.argmax())
            own = self._class_columns if self.whole else [name for _, name in self._ranks]
            names = f"the columns {own[0]!r} to {own[-1]!r}"
            raise KjcmError(
                f"{self.source}, data row {self._done + row + 1:,}: {names} sum to {sums[row]:.3g}. {UNCHANGED}"
            )


def _class_columns(columns: list[str]) -> list[str]:
    """Return the columns of all classes' probabilities: of those after code_1 the first that stand together.

    A survey's own columns may have such names too. They come before code_1.
    """
    after = columns[columns.index("code_1") :] if "code_1" in columns else []
    return list(takewhile(_is_probability, dropwhile(lambda name: not _is_probability(name), after)))


def _is_probability(name: str) -> bool:
    return name.startswith(PREFIX)


def _given_code(
    probability: NDArray[np.float64], codes: NDArray[np.str_], settled: NDArray[np.str_]
) -> NDArray[np.float64]:
    """Return probabilities [rows, codes] given each row's settled code: of the codes that begin with it, scaled to 1.

    The settled code has probability 1 if the row shows it, or shows no code that begins with it.
    """
    same = codes == settled[:, None]
    shown = (probability * same).any(axis=1, keepdims=True)  # where groups are no prefixes, 10 is not in a class 1
    within = probability * np.where(shown, same, np.char.startswith(codes[None, :], settled[:, None]))
    sums = within.sum(axis=1, keepdims=True)
    return np.where(sums > 0, within / np.where(sums > 0, sums, 1), same)


def _codes(cells: pd.Series) -> list[str]:
    """Return a column's codes, '' for none."""
    return [tidy(code) for code in code_texts(cells)]
