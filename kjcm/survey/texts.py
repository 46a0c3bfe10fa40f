"""Turn each row's three answers into text, by one rule for training and coding."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from kjcm.errors import ConfigError, KjcmError
from kjcm.read.cells import NOTHING, text_cells, tidy, type_name
from kjcm.survey.wording import worded

TEXT_COLUMNS = ("workplace", "position", "task")
EMPTY, NO_TEXT = "empty", "not text"

Labels = Mapping[str, Mapping[Any, str]]  # column -> value -> label, for files with labels
NO_LABELS: Labels = {}


@dataclass(frozen=True)
class Texts:
    """The texts of rows.

    Attributes:
        cells: workplace, position and task, each [rows]; '' if the column is not mapped.
        sentences: [rows], a model's input texts.
        person_at: [rows], where the workplace ends in the sentence and the text about the person begins.
        reasons: [rows], EMPTY for empty answers, NO_TEXT for answers that are not text, else ''.
    """

    cells: list[list[str]]
    sentences: list[str]
    person_at: list[int]
    reasons: list[str]

    @property
    def fields(self) -> dict[str, list[str]]:
        """Return workplace, position and task, each [rows]."""
        return dict(zip(TEXT_COLUMNS, self.cells, strict=True))

    @property
    def answers(self) -> list[tuple[str, ...]]:
        """Return each row's text, workplace, position and task."""
        return list(zip(self.sentences, *self.cells, strict=True))

    @property
    def persons(self) -> list[str]:
        """Return each text after the workplace, which is about the person."""
        return [text[at:] for text, at in zip(self.sentences, self.person_at, strict=True)]


def texts_of(
    frame: pd.DataFrame,
    columns: Mapping[str, str | None],
    place: str,
    labels: Labels = NO_LABELS,
    wording: str | None = "korean",
) -> Texts:
    """Return the texts of a frame's rows.

    A row without a letter (numbers, `-`) is not text; nor is a row with a date, a list or the like in a text column.

    Args:
        frame: the rows as read.
        columns: role -> column.
        place: the file, for messages.
        labels: read instead of values with a label.
        wording: see `worded`.

    Raises:
        ConfigError: none of the three columns is mapped.
    """
    names = [columns.get(role) for role in TEXT_COLUMNS]
    if not any(names):
        raise ConfigError(f"{place}: map at least one of the columns {', '.join(TEXT_COLUMNS)}; all are null.")
    strange = np.zeros(len(frame), bool)
    cells = [[""] * len(frame) for _ in names]
    for number, name in enumerate(names):
        if name:
            found, odd = text_cells(frame[name], labels.get(name, NOTHING))
            cells[number] = list(map(tidy, found))
            strange |= odd
    made = list(map(partial(worded, wording=wording), *cells))
    reasons = [
        NO_TEXT if odd else EMPTY if not text else "" if any(map(str.isalpha, text)) else NO_TEXT
        for text, odd in zip(map("".join, zip(*cells, strict=True)), strange.tolist(), strict=True)
    ]
    return Texts(cells, [text for text, _ in made], [at for _, at in made], reasons)


def require_texts(frame: pd.DataFrame, columns: Mapping[str, str | None], place: str, key: str) -> None:
    """Raise KjcmError if a text column of the table has dates, lists or the like instead of text.

    Args:
        frame: the whole table, or its first rows if every column has one type.
        columns: role -> column.
        place: the file, for messages.
        key: beginning of the config key, before the role.
    """
    for role in TEXT_COLUMNS:
        if name := columns.get(role):
            found, strange = text_cells(frame[name])
            if strange.any() and not any(found):
                raise KjcmError(
                    f"{place}, column {name!r}: contains no text, but {type_name(frame[name])}. Save it as text, or set "
                    f"{key}{role}=null to leave it out."
                )
