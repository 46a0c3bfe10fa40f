"""Rows of a file to code: which can be coded, and who says that they manage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kjcm.errors import KjcmError, some
from kjcm.read.cells import code_texts
from kjcm.survey.responses import TEXT_COLUMNS
from kjcm.survey.wording import without_workplace
from kjcm.triage.managers import says_words, yes_or_no

CELLS = str | int | float | None | type(pd.NA)


@dataclass(frozen=True)
class Reading:
    """How rows of a file are read.

    Attributes:
        source: the file.
        columns: role -> column.
        managers: triage.managers.
        words: a manager's key words.
        added: columns that will be added.
    """

    source: Path
    columns: Mapping[str, str | None]
    managers: str
    words: Sequence[str]
    added: Sequence[str]


def reasons_of(
    frame: pd.DataFrame, columns: Mapping[str, str | None], cells: Sequence[Sequence[str]], texts: Sequence[str]
) -> list[str]:
    """Return why each row cannot be coded, '' where it can: nothing is written in it, or what is written is no text.

    Args:
        frame: the rows as read.
        columns: role -> column.
        cells: workplace, position and task as text, each [rows].
        texts: the sentences made of them.
    """
    written = np.array([any(map(str.isalpha, "".join(row))) for row in zip(*cells, strict=True)], dtype=bool)
    strange = np.zeros(len(frame), bool)
    for name in filter(None, (columns[role] for role in TEXT_COLUMNS)):
        strange |= _no_texts(frame[name])
    return [
        "empty" if not text else "" if fine else "not text"
        for text, fine in zip(texts, (written & ~strange).tolist(), strict=True)
    ]


def _no_texts(column: pd.Series) -> NDArray[np.bool_]:
    """Return which cells [rows] are neither text nor a number nor empty: a worksheet's dates, lists of a Parquet file."""
    import pyarrow.types as arrow

    if column.dtype == object:
        return np.array([isinstance(cell, bool) or not isinstance(cell, CELLS) for cell in column], dtype=bool)
    if not isinstance(column.dtype, pd.ArrowDtype):
        return np.zeros(len(column), bool)
    kind = column.dtype.pyarrow_dtype
    kind = kind.value_type if arrow.is_dictionary(kind) else kind
    tests = (
        arrow.is_string,
        arrow.is_large_string,
        arrow.is_string_view,
        arrow.is_integer,
        arrow.is_floating,
        arrow.is_decimal,
    )
    return np.zeros(len(column), bool) if any(test(kind) for test in tests) else column.notna().to_numpy(bool)


def manages_of(frame: pd.DataFrame, texts: Sequence[str], reading: Reading) -> tuple[NDArray[np.bool_], list[str]]:
    """Return which rows say that they manage (all of one kind where no rule asks), and why a row cannot be coded, else ''."""
    fine = [""] * len(frame)
    if reading.managers == "words":
        return says_words([without_workplace(text) for text in texts], reading.words), fine
    if reading.managers == "none":
        return np.zeros(len(frame), bool), fine
    name = reading.columns["manages"]
    answers = [yes_or_no(cell) for cell in code_texts(frame[name])]
    reasons = [f"{name}: neither yes nor no" if answer is None else "" for answer in answers]
    return np.array([bool(answer) for answer in answers], dtype=bool), reasons


def require_columns(frame: pd.DataFrame, reading: Reading) -> None:
    """Raise KjcmError if a column is not there, or a column that the codes would overwrite is."""
    missing = {role: name for role, name in reading.columns.items() if name and name not in frame}
    if missing:
        role = next(iter(missing))
        raise KjcmError(
            f"{reading.source}: has no column {some(missing.values())}; its columns are {some(frame.columns)}. Set "
            f"columns.{role}=NAME, or columns.{role}=null if there is none."
        )
    twice = [name for name in reading.added if name in frame]
    if twice:
        raise KjcmError(
            f"{reading.source}: has columns {some(twice)} already, which the codes would overwrite. Rename them."
        )
