"""Find which rows of a file can be coded, and which people say that they manage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kjcm.errors import KjcmError, some
from kjcm.read.labelled import value_labels
from kjcm.read.options import PLAIN, ReadOptions
from kjcm.read.table import read_chunks, table_columns
from kjcm.run_folder.model_folder import Settings
from kjcm.survey.covariates import NO_COVARIATES, Covariates, cells_of, roles_of
from kjcm.survey.responses import manages_in
from kjcm.survey.texts import TEXT_COLUMNS, Labels, Texts, require_texts, texts_of
from kjcm.triage.managers import says_words
from kjcm.triage.titles import Match, TitleIndex, job_titles

COLUMN_KEY = "columns."


@dataclass(frozen=True)
class Reading:
    """How rows of a file are read.

    Attributes:
        source: the file, or what a table in memory is called, for messages.
        columns: role -> column.
        managers: triage.managers.
        words: a manager's key words.
        added: columns that will be added.
        labels: value labels of the columns.
        options: how the file is opened; None for a table in memory.
        wording: the model's, see `worded`.
        covariates: the model's.
        by_field: whether the model takes answers, see `reads_answers`.
        unseen: unseen_levels.
        index: of job titles; None: none.
        key: begins the names of the keys that name the columns.
    """

    source: str
    columns: Mapping[str, str | None]
    managers: str
    words: Sequence[str]
    added: Sequence[str]
    labels: Labels
    options: ReadOptions | None
    wording: str | None
    covariates: Covariates = NO_COVARIATES
    by_field: bool = False
    unseen: str = "error"
    index: TitleIndex | None = None
    key: str = COLUMN_KEY


def manages_of(
    frame: pd.DataFrame, texts: Texts, columns: Mapping[str, str], reading: Reading
) -> tuple[NDArray[np.bool_], list[str]]:
    """Return which rows say that they manage (all False without a rule), and why a row cannot be coded, else ''."""
    fine = [""] * len(frame)
    if reading.managers == "words":
        return says_words(texts.persons, reading.words), fine
    if reading.managers == "none":
        return np.zeros(len(frame), bool), fine
    name = columns["manages"]
    answers = manages_in(frame[name], reading.labels)
    reasons = [f"{name}: neither yes nor no" if answer is None else "" for answer in answers]
    return np.array([bool(answer) for answer in answers], dtype=bool), reasons


def matches_of(
    texts: Texts, manages: NDArray[np.bool_], reasons: Sequence[str], reading: Reading
) -> list[Match] | None:
    """Return what the index has for each row's job title, nothing for invalid rows; None without an index.

    With a rule for managers, a title with a manager's code has no match if the person does not say that they manage.
    """
    if reading.index is None:
        return None
    titles = ["" if reason else title for title, reason in zip(job_titles(*texts.cells), reasons, strict=True)]
    return reading.index.matches(titles, None if reading.managers == "none" else manages)


def require_readable(frame: pd.DataFrame, reading: Reading) -> None:
    """Raise KjcmError if a column is missing or has no text, or if the codes would overwrite a column.

    Args:
        frame: the whole table, or its first rows if every column has one type.
        reading: how it is read.
    """
    require_texts(frame, own_columns(frame, reading), reading.source, reading.key)
    twice = [name for name in reading.added if name in frame]
    if twice:
        raise KjcmError(
            f"{reading.source}: already has columns {some(twice)}, which the codes would overwrite. Rename them."
        )


def own_columns(frame: pd.DataFrame, reading: Reading) -> dict[str, str]:
    """Return role -> column, as the file spells it.

    Raises:
        KjcmError: a column is missing.
    """
    remedy = f"Set {reading.key}{{role}}=NAME, or {reading.key}{{role}}=null if there is none."
    own = table_columns(reading.source, frame.columns, reading.columns, reading.options, remedy)
    remedy = "The run has this covariate. Rename the file's column, or add an empty column of this name."
    roles = roles_of(reading.covariates.kinds)
    return own | table_columns(reading.source, frame.columns, roles, reading.options, remedy)


def needs_seen_levels(reading: Reading) -> bool:
    """Return whether a level of a category that no training row has is an error."""
    return reading.unseen == "error" and bool(reading.covariates.levels)


def require_seen_levels(frame: pd.DataFrame, reading: Reading) -> None:
    """Raise KjcmError if a category has a level that no training row has."""
    cells, _ = cells_of(frame, own_columns(frame, reading), reading.covariates.kinds)
    reading.covariates.require_seen(pd.DataFrame(cells), reading.source)


def covariates_in(
    frame: pd.DataFrame, columns: Mapping[str, str], reading: Reading
) -> tuple[list[tuple[str, ...]], list[str]]:
    """Return each row's covariates, and why it cannot be coded, else ''."""
    cells, reasons = cells_of(frame, columns, reading.covariates.kinds)
    return list(zip(*cells.values(), strict=True)) if cells else [()] * len(frame), reasons


def reads_answers(settings: Settings) -> bool:
    """Return whether a model takes answers, see `answers_frame`, rather than only their texts."""
    return settings.kind != "encoder" or bool(settings.covariates)


def answers_frame(answers: Sequence[tuple[str, ...]], covariates: Covariates) -> pd.DataFrame:
    """Return answers as rows: each has its text, workplace, position and task, and the covariates."""
    return pd.DataFrame(list(answers), columns=["text", *TEXT_COLUMNS, *roles_of(covariates.kinds)], dtype=object)


def first_texts(source: Path, rows: int | None, settings: Settings, options: ReadOptions = PLAIN) -> list[str]:
    """Return the texts of a file's first rows (None: of all), read like the run's own data; '' for rows without text.

    Raises:
        KjcmError: a column that the run's texts come from is missing.
    """
    frame = next(read_chunks(source, rows, options))
    wanted = {role: settings.columns.get(role) for role in TEXT_COLUMNS}
    remedy = "The run's texts come from these columns. Rename the file's columns."
    own = table_columns(str(source), frame.columns, wanted, options, remedy)
    return texts_of(frame, own, str(source), value_labels(source, options), settings.wording).sentences
