"""Rows of a file to code: which can be coded, and who says that they manage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kjcm.errors import KjcmError, some
from kjcm.files import code_texts
from kjcm.survey.responses import TEXT_COLUMNS
from kjcm.survey.wording import without_workplace
from kjcm.triage.managers import says_words, yes_or_no


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
        if frame[name].dtype == object:  # a worksheet's dates, lists of a Parquet file
            strange |= np.array([not isinstance(cell, str | int | float | None) for cell in frame[name]], dtype=bool)
    return [
        "empty" if not text else "" if fine else "not text"
        for text, fine in zip(texts, (written & ~strange).tolist(), strict=True)
    ]


def manages_of(frame: pd.DataFrame, texts: Sequence[str], reading: Reading) -> NDArray[np.bool_]:
    """Return which rows say that they manage; all of one kind where no rule asks."""
    if reading.managers == "words":
        return says_words([without_workplace(text) for text in texts], reading.words)
    if reading.managers == "none":
        return np.zeros(len(frame), bool)
    name = reading.columns["manages"]
    cells = code_texts(frame[name])
    answers = [yes_or_no(cell) for cell in cells]
    neither = [cell for cell, answer in zip(cells, answers, strict=True) if answer is None]
    if neither:
        raise KjcmError(
            f"{reading.source}, column {name!r}: {some(dict.fromkeys(neither))} are neither yes nor no. Write 1 and 0, yes and "
            "no, or 예 and 아니오; empty is no."
        )
    return np.array(answers, dtype=bool)


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
