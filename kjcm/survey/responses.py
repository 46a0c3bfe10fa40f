"""Turn raw survey tables into answers: mapped columns, one sentence per row, and reasons for unusable rows.

An answer frame has the columns id, wave, text, person_at (where the workplace ends in the text), workplace, position,
task, code (as in the file), reason ('' for a usable row), and weight, cluster and manages (whether the person says so)
where they are mapped; and the role of each covariate (`covariates.NAME`, '' if missing). All values except person_at,
weight and manages are str.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from kjcm.errors import ConfigError, KjcmError, some
from kjcm.files import require_file
from kjcm.parts import TARGET, build
from kjcm.read.cells import code_texts, text_cells, tidy, values_of, without_decimals
from kjcm.read.columns import FIRST_ROW
from kjcm.read.labelled import value_labels
from kjcm.read.options import PLAIN, ReadOptions
from kjcm.read.table import read_table, table_columns
from kjcm.survey.covariates import NO_NUMBER, cells_of, roles_of
from kjcm.survey.texts import EMPTY, NO_LABELS, NO_TEXT, TEXT_COLUMNS, Labels, require_texts, texts_of
from kjcm.triage.managers import yes_or_no

TWIN_IDS = "synthetic-"  # the twin's ids begin so: they mark its rows everywhere
COLUMN_KEY = "data.columns."
NO_COVARIATE_KINDS: Mapping[str, str] = {}
REASONS = {  # why a row is unusable -> the role of the column
    "empty text": "text",
    "not text": "text",
    "empty code": "code",
    "unknown code": "code",
    "code with fewer digits than data.level": "code",
    "weight is no number of 0 or more": "weight",
    "empty cluster": "cluster",
    "neither yes nor no": "manages",
    "empty id": "id",
    "duplicate id": "id",
}


@dataclass(frozen=True)
class Survey:
    """One table of answers.

    Attributes:
        table: the raw rows.
        name: the file, for messages.
        wave: '5', '6', or '' without waves.
        ksco6: codes are KSCO-6 and need the crosswalk.
        test: all its rows are test rows, not drawn.
        of_titles: it is no file, but the classification's titles and an index of job titles.
        labels: value labels of its columns.
        options: how the file was read.
    """

    table: pd.DataFrame
    name: str
    wave: str = ""
    ksco6: bool = False
    test: bool = False
    of_titles: bool = False
    labels: Labels = field(default_factory=lambda: NO_LABELS)
    options: ReadOptions = PLAIN

    @property
    def label(self) -> str:
        """Return its name in the flow counts: its config key, or 'titles'."""
        if self.of_titles:
            return "titles"
        return f"wave{self.wave}" if self.wave else "test_path" if self.test else "path"


@dataclass(frozen=True)
class Source:
    """The tables of a study, with the tables that KSCO-6 codes need.

    Attributes:
        surveys: the tables of answers.
        columns: role -> column name.
        crosswalk: KSCO-6 to KSCO-7, one pair per row.
        crosswalk_name: its file, for messages.
        resolutions: id -> KSCO-7.
        resolutions_name: its file, for messages.
        synthetic: it is the synthetic twin.
        wording: see `worded`.
        covariates: name -> 'category' or 'number'.
    """

    surveys: tuple[Survey, ...]
    columns: Mapping[str, str | None]
    crosswalk: pd.DataFrame | None = None
    crosswalk_name: str = ""
    resolutions: pd.DataFrame | None = None
    resolutions_name: str = ""
    synthetic: bool = False
    wording: str | None = "korean"
    covariates: Mapping[str, str] = field(default_factory=dict)


def table_source(
    path: str | None,
    test_path: str | None,
    columns: Mapping[str, str | None],
    options: ReadOptions = PLAIN,
    reader: Mapping[str, Any] | None = None,
) -> Source:
    """Return the source of `data=table`: one file to split, a file for training and one for the test, or only a test file.

    Args:
        path: file to split, or to train on.
        test_path: file of test rows.
        columns: role -> column name.
        options: how kjcm reads the files.
        reader: node of a function that reads them instead: it takes a path and returns a table.
    """
    if path is None and test_path is None:
        raise ConfigError("data=table needs data.path=FILE (and, for test rows of their own, data.test_path=FILE).")
    surveys = [_read(path, options, reader)] if path else []
    if test_path:
        surveys.append(replace(_read(test_path, options, reader), test=True))
    return Source(tuple(surveys), columns)


def _read(path: str, options: ReadOptions, reader: Mapping[str, Any] | None = None) -> Survey:
    """Return the survey in a file."""
    if reader:
        table = build("data.reader", reader, require_file(path))
        if not isinstance(table, pd.DataFrame):
            raise ConfigError(f"data.reader: {reader[TARGET]} returned a {type(table).__name__}, not a pandas table.")
        return Survey(table.reset_index(drop=True), path, options=options)
    table = read_table(path, options)
    return Survey(table, path, labels=value_labels(require_file(path), options), options=options)


def kwcs_source(
    wave5: str | None,
    wave6: str | None,
    crosswalk: str | None,
    resolutions: str | None,
    columns: Mapping[str, str | None],
    options: ReadOptions = PLAIN,
) -> Source:
    """Return the source of `data=kwcs`: wave 5 (KSCO-6, with its crosswalk) and wave 6 (KSCO-7)."""
    if wave5 is None and wave6 is None:
        raise ConfigError("data=kwcs needs data.wave5=FILE and data.wave6=FILE (at least one of them).")
    if wave5 is not None and crosswalk is None:  # raised before any file is read
        raise ConfigError(
            "data.wave5 is coded in KSCO-6: give data.crosswalk=FILE (columns ksco6, ksco7, one pair per row)."
        )
    surveys = [replace(_read(wave5, options), wave="5", ksco6=True)] if wave5 else []
    if wave6:
        surveys.append(replace(_read(wave6, options), wave="6"))
    return Source(
        tuple(surveys),
        columns,
        read_table(crosswalk) if crosswalk else None,
        str(crosswalk),
        read_table(resolutions) if resolutions else None,
        str(resolutions),
    )


def answers_of(
    survey: Survey,
    columns: Mapping[str, str | None],
    wording: str | None = "korean",
    covariates: Mapping[str, str] = NO_COVARIATE_KINDS,
) -> pd.DataFrame:
    """Return the answer frame of one survey table.

    Raises:
        KjcmError: a mapped column is missing, no text column is mapped, or a text column has no text.
    """
    mapped = _mapped(survey, columns, covariates)
    if not len(survey.table):
        raise KjcmError(f"{survey.name}: has a header but no rows.")
    require_texts(survey.table, mapped, survey.name, COLUMN_KEY)
    texts = texts_of(survey.table, mapped, survey.name, survey.labels, wording)
    frame = pd.DataFrame({"text": texts.sentences, "person_at": texts.person_at, **texts.fields})
    frame["wave"] = survey.wave
    frame["code"] = code_texts(survey.table[mapped["code"]]) if "code" in mapped else ""
    frame["id"] = _ids(survey, mapped.get("id"), frame)
    frame["reason"] = [{EMPTY: "empty text"}.get(reason, reason) for reason in texts.reasons]
    if "code" in mapped:
        frame.loc[text_cells(survey.table[mapped["code"]])[1], "reason"] = "unknown code"  # a date, a list
    frame.loc[frame["code"].map(tidy) == "", "reason"] = "empty code"
    if "weight" in mapped:
        weights = pd.Series(
            text_cells(survey.table[mapped["weight"]])[0], dtype=object
        )  # a date or the like has no weight
        frame["weight"] = pd.to_numeric(weights, errors="coerce").to_numpy(float)
        frame.loc[~((frame["weight"] >= 0) & np.isfinite(frame["weight"])), "reason"] = (
            "weight is no number of 0 or more"
        )
    if "cluster" in mapped:
        frame["cluster"] = list(map(without_decimals, code_texts(survey.table[mapped["cluster"]])))
        frame.loc[frame["cluster"] == "", "reason"] = "empty cluster"
    if "manages" in mapped:
        answers = manages_in(survey.table[mapped["manages"]], survey.labels)
        frame["manages"] = [bool(answer) for answer in answers]
        frame.loc[[answer is None for answer in answers], "reason"] = "neither yes nor no"
    cells, reasons = cells_of(survey.table, mapped, covariates)
    frame = frame.assign(**cells).assign(reason=frame["reason"].where(frame["reason"] != "", reasons))
    frame.loc[frame["id"] == "", "reason"] = "empty id"
    frame.loc[frame["id"].duplicated(keep=False) & (frame["id"] != ""), "reason"] = "duplicate id"
    return frame


def _mapped(survey: Survey, columns: Mapping[str, str | None], covariates: Mapping[str, str]) -> dict[str, str]:
    """Return role -> column, as the survey table spells it."""
    remedy = f"Set {COLUMN_KEY}{{role}}=NAME, or {COLUMN_KEY}{{role}}=null if there is none."
    mapped = table_columns(survey.name, survey.table.columns, columns, survey.options, remedy)
    remedy = f"Rename the file's column, or train with another {COLUMN_KEY}covariates."
    return mapped | table_columns(survey.name, survey.table.columns, roles_of(covariates), survey.options, remedy)


def manages_in(column: pd.Series, labels: Labels) -> list[bool | None]:
    """Return whether each row's author says that they manage, None for neither; labels count before values."""
    answers = list(map(yes_or_no, code_texts(column)))
    if not (own := labels.get(str(column.name))):
        return answers
    by_label = map(yes_or_no, text_cells(column, own)[0])
    return [answer if labelled is None else labelled for answer, labelled in zip(answers, by_label, strict=True)]


def _ids(survey: Survey, column: str | None, frame: pd.DataFrame) -> list[str]:
    """Return ids that are unique in the study, with the wave before them; without an id column, ids come from the content.

    An id from content (and the count of equal rows so far) keeps the split independent of the file's row order.
    """
    lead = f"{survey.wave}-" if survey.wave else ""
    if column is not None:
        return [f"{lead}{text}" if text else "" for text in ids_in(survey.table[column])]
    contents = frame["text"] + "\t" + frame["code"]
    seen = contents.groupby(contents).cumcount()
    side = "test-" if survey.test else ""
    return [
        f"{lead}{side}{hashlib.sha256(text.encode()).hexdigest()[:16]}-{count}"
        for text, count in zip(contents, seen, strict=True)
    ]


def ids_in(column: pd.Series) -> list[str]:
    """Return a column's ids: whole numbers without decimals, and texts without surrounding blanks."""
    return [tidy(without_decimals(text)) for text in code_texts(column)]


def _strange(table: pd.DataFrame) -> dict[str, list[str]]:
    """Return column -> its cells that are neither text nor numbers, for columns with such cells."""
    found = {str(name): list(map(str, values_of(table[name][text_cells(table[name])[1]]))) for name in table}
    return {name: cells for name, cells in found.items() if cells}


def has_twin_ids(ids: "pd.Series[str]") -> bool:
    """Return whether a row is of the synthetic twin, with or without the wave before its id."""
    return bool(ids.str.match(rf"(\d-)?{TWIN_IDS}").any())


def require_valid(
    frame: pd.DataFrame,
    survey: Survey,
    columns: Mapping[str, str | None],
    covariates: Mapping[str, str] = NO_COVARIATE_KINDS,
) -> None:
    """Raise KjcmError for the first reason of unusable rows, with its column and the first such values."""
    bad = frame[frame["reason"] != ""]
    if not len(bad):
        return
    columns = _mapped(survey, columns, covariates)
    reason = bad["reason"].iloc[0]
    bad = bad[bad["reason"] == reason]
    role = REASONS.get(reason, reason.removesuffix(NO_NUMBER))
    names = [name for part in TEXT_COLUMNS if (name := columns.get(part))] if role == "text" else [columns[role]]
    cells = survey.table[columns[role]].iloc[bad.index] if role in ("weight", "manages") else bad[role]
    seen = list(map(str, values_of(cells)))
    if reason == NO_TEXT and (strange := _strange(survey.table.iloc[bad.index][names])):
        names, seen = list(strange), [cell for cells in strange.values() for cell in cells]
    shown = f": {some(dict.fromkeys(seen))}" if any(seen) else f": ids {some(bad['id'])}" if role != "id" else ""
    first = survey.table.attrs.get(FIRST_ROW, 2)
    lines = ", ".join(f"{index + first:,}" for index in bad.index[:3])
    raise KjcmError(
        f"{survey.name}, column {some(names)}: {reason} in {len(bad):,} of {len(frame):,} rows{shown} (first at lines "
        f"{lines}). Correct them, or add data.drop_invalid=true to leave such rows out and count them."
    )
