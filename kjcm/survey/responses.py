"""Raw survey tables to answers: mapped columns, one sentence a row, and the rows that cannot be used.

An answer frame has the columns id, wave, text, code (as in the file), reason ('' for a usable row), and weight,
cluster and manages (whether the person says so) where they are mapped; every value but weight and manages is a str.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kjcm.errors import ConfigError, KjcmError, some
from kjcm.read.cells import code_texts
from kjcm.read.table import read_table
from kjcm.survey.wording import sentence, tidy
from kjcm.triage.managers import yes_or_no

TWIN_IDS = "synthetic-"  # how the twin's ids begin: they say what its rows are wherever they go
TEXT_COLUMNS = ("workplace", "position", "task")
REASONS = {  # why a row cannot be used -> the column it is about
    "empty text": "text",
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
        wave: '5', '6', or '' where there are no waves.
        ksco6: codes are KSCO-6 and need the crosswalk.
        test: its rows are test rows given as such, not drawn.
    """

    table: pd.DataFrame
    name: str
    wave: str = ""
    ksco6: bool = False
    test: bool = False

    @property
    def label(self) -> str:
        """What the flow counts call it: the config key that names it."""
        return f"wave{self.wave}" if self.wave else "test_path" if self.test else "path"


@dataclass(frozen=True)
class Source:
    """The tables of a study, with the tables that KSCO-6 codes need; `columns` maps roles to column names."""

    surveys: tuple[Survey, ...]
    columns: Mapping[str, str | None]
    crosswalk: pd.DataFrame | None = None
    crosswalk_name: str = ""
    resolutions: pd.DataFrame | None = None
    resolutions_name: str = ""
    synthetic: bool = False


def table_source(path: str | None, test_path: str | None, columns: Mapping[str, str | None]) -> Source:
    """Return the source of `data=table`: one file to split, or a file to train on and one to test on, or a test alone."""
    if path is None and test_path is None:
        raise ConfigError("data=table needs data.path=FILE (and, for test rows of their own, data.test_path=FILE).")
    surveys = [Survey(read_table(path), path)] if path else []
    if test_path:
        surveys.append(Survey(read_table(test_path), test_path, test=True))
    return Source(tuple(surveys), columns)


def kwcs_source(
    wave5: str | None,
    wave6: str | None,
    crosswalk: str | None,
    resolutions: str | None,
    columns: Mapping[str, str | None],
) -> Source:
    """Return the source of `data=kwcs`: wave 5 (KSCO-6, with its crosswalk) and wave 6 (KSCO-7)."""
    if wave5 is None and wave6 is None:
        raise ConfigError("data=kwcs needs data.wave5=FILE and data.wave6=FILE (at least one of them).")
    if wave5 is not None and crosswalk is None:  # said before any file is read
        raise ConfigError(
            "data.wave5 is coded in KSCO-6: give data.crosswalk=FILE (columns ksco6, ksco7, a row a pair)."
        )
    surveys = [Survey(read_table(wave5), wave5, "5", ksco6=True)] if wave5 else []
    if wave6:
        surveys.append(Survey(read_table(wave6), wave6, "6"))
    return Source(
        tuple(surveys),
        columns,
        read_table(crosswalk) if crosswalk else None,
        str(crosswalk),
        read_table(resolutions) if resolutions else None,
        str(resolutions),
    )


def answers_of(survey: Survey, columns: Mapping[str, str | None]) -> pd.DataFrame:
    """Return the answer frame of one survey table.

    Raises:
        KjcmError: a mapped column is missing or no text column is mapped.
    """
    mapped = {role: name for role, name in columns.items() if name is not None}
    missing = {role: name for role, name in mapped.items() if name not in survey.table}
    if missing:
        role = next(iter(missing))
        raise KjcmError(
            f"{survey.name}: has no column {some(missing.values())}; its columns are {some(survey.table.columns)}. "
            f"Set data.columns.{role}=NAME, or data.columns.{role}=null if there is none."
        )
    if not len(survey.table):
        raise KjcmError(f"{survey.name}: has a header but no rows.")
    frame = pd.DataFrame({"text": sentences(survey.table, columns, survey.name)})
    frame["wave"] = survey.wave
    frame["code"] = code_texts(survey.table[mapped["code"]]) if "code" in mapped else ""
    frame["id"] = _ids(survey, mapped.get("id"), frame)
    frame["reason"] = ""
    frame.loc[frame["text"] == "", "reason"] = "empty text"
    frame.loc[frame["code"] == "", "reason"] = "empty code"
    if "weight" in mapped:
        frame["weight"] = pd.to_numeric(survey.table[mapped["weight"]], errors="coerce").to_numpy(float)
        frame.loc[~((frame["weight"] >= 0) & np.isfinite(frame["weight"])), "reason"] = (
            "weight is no number of 0 or more"
        )
    if "cluster" in mapped:
        frame["cluster"] = code_texts(survey.table[mapped["cluster"]])
        frame.loc[frame["cluster"] == "", "reason"] = "empty cluster"
    if "manages" in mapped:
        answers = [yes_or_no(cell) for cell in code_texts(survey.table[mapped["manages"]])]
        frame["manages"] = [bool(answer) for answer in answers]
        frame.loc[[answer is None for answer in answers], "reason"] = "neither yes nor no"
    frame.loc[frame["id"] == "", "reason"] = "empty id"
    frame.loc[frame["id"].duplicated(keep=False) & (frame["id"] != ""), "reason"] = "duplicate id"
    return frame


def sentences(table: pd.DataFrame, columns: Mapping[str, str | None], name: str) -> list[str]:
    """Return one input sentence a row from the mapped workplace, position and task columns.

    Raises:
        ConfigError: none of the three is mapped.
    """
    return list(map(sentence, *text_cells(table, columns, name)))


def text_cells(table: pd.DataFrame, columns: Mapping[str, str | None], name: str) -> list[list[str]]:
    """Return the cells of workplace, position and task, each [rows]; '' where the column is not mapped.

    Raises:
        ConfigError: none of the three is mapped.
    """
    parts = [columns.get(role) for role in TEXT_COLUMNS]
    if not any(parts):
        raise ConfigError(f"{name}: map at least one of the columns {', '.join(TEXT_COLUMNS)}; all are null.")
    blank = [""] * len(table)
    return [code_texts(table[part]) if part else blank for part in parts]


def _ids(survey: Survey, column: str | None, frame: pd.DataFrame) -> list[str]:
    """Return ids unique over the study: the wave goes before them, and a row without an id column is named by content.

    A name by content (and the count of equal rows so far) keeps the split independent of the file's row order.
    """
    lead = f"{survey.wave}-" if survey.wave else ""
    if column is not None:
        return [f"{lead}{tidy(text)}" if text else "" for text in code_texts(survey.table[column])]
    contents = frame["text"] + "\t" + frame["code"]
    seen = contents.groupby(contents).cumcount()
    side = "test-" if survey.test else ""
    return [
        f"{lead}{side}{hashlib.sha256(text.encode()).hexdigest()[:16]}-{count}"
        for text, count in zip(contents, seen, strict=True)
    ]


def require_valid(frame: pd.DataFrame, survey: Survey, columns: Mapping[str, str | None]) -> None:
    """Raise KjcmError on the first kind of unusable row, with its column and the first offending values."""
    bad = frame[frame["reason"] != ""]
    if not len(bad):
        return
    reason = bad["reason"].iloc[0]
    bad = bad[bad["reason"] == reason]
    role = REASONS[reason]
    names = [columns[part] for part in TEXT_COLUMNS if columns.get(part)] if role == "text" else [columns[role]]
    seen = survey.table[columns[role]].iloc[bad.index].astype(str) if role in ("weight", "manages") else bad[role]
    shown = some(dict.fromkeys(seen)) if (seen != "").any() else f"ids {some(bad['id'])}"
    lines = ", ".join(f"{index + 2:,}" for index in bad.index[:3])
    raise KjcmError(
        f"{survey.name}, column {some(names)}: {reason} in {len(bad):,} of {len(frame):,} rows: {shown} (first at lines "
        f"{lines}). Correct them, or add data.drop_invalid=true to leave such rows out and count them."
    )
