"""Read coders' files, as `kjcm review` exports them: their rows, and who coded which row with which code and when."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from kjcm.errors import KjcmError, counted, require_columns, some
from kjcm.read.cells import code_texts
from kjcm.read.table import read_table
from kjcm.review.files import NEEDED
from kjcm.team.split import TEXT

CHOSEN = ("reviewed_code", "reviewed_title", "reviewed_by", "reviewed_at")
MARKS = ("flagged_by", "skipped_by", "review_comment", "commented_by")
SAME = ("code_1", "pick_list")  # all files with a row must share these; decimals depend on the file's kind
SUGGESTED = (*SAME, "prob_1")


@dataclass(frozen=True)
class Codings:
    """The coders' files.

    Attributes:
        rows: each row once, with its id as the index, all columns of the files, and all cells of NEEDED as text.
        codes: a line for each row and coder: id, coder, code, title, at, and the number of the row's text.
        shared: number of rows that are in several files.
        marks: a line for each row and file: id, and the coder's MARKS.
    """

    rows: pd.DataFrame
    codes: pd.DataFrame
    shared: int
    marks: pd.DataFrame


def read_codings(files: Sequence[Path], name: str) -> Codings:
    """Read coders' files.

    Args:
        files: the files.
        name: column of the row ids.

    Raises:
        KjcmError: a column is missing, an id is missing or twice in a file, a coder coded a row in two files, or files
            have another suggestion of the model for the same row.
    """
    rows, codes = zip(*(_read(file, name) for file in files), strict=True)
    every = pd.concat(rows)
    _require_same(every, name)
    code = pd.concat(codes, ignore_index=True)
    if (twice := code.duplicated(["id", "coder"])).any():
        one = code[twice].iloc[0]
        both = code.loc[(code["id"] == one["id"]) & (code["coder"] == one["coder"]), "file"]
        raise KjcmError(
            f"{both.iloc[0]} and {both.iloc[1]}: {_rows(twice)} two codes by one coder, such as "
            f"{name}={one['id']} by {one['coder']}. Give each coder's last export only."
        )
    once = every[~every.index.duplicated()].drop(columns="file")
    order = sorted(once.index, key=lambda id: (not id.isdecimal(), int(id) if id.isdecimal() else 0, id))
    marks = every[[*MARKS]].reset_index()
    return Codings(once.loc[order], code, int(every.index[every.index.duplicated()].nunique()), marks)


def _rows(which: pd.Series) -> str:
    """Return the number of rows, `which` [rows], with a verb: '1 row has', '2 rows have'."""
    return counted(int(which.sum()), "row has", "rows have")


def _read(file: Path, name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a file's rows with their ids as the index, and its codes."""
    frame = read_table(file).reset_index(drop=True)
    remedy = "Use a file that `kjcm review export=FILE` wrote from a file of `kjcm team split`, or set id=COLUMN."
    require_columns(file, frame, [name, *NEEDED, *CHOSEN], lambda: remedy)
    ids = pd.Series(code_texts(frame[name]), dtype=object)
    if (empty := ids == "").any():
        raise KjcmError(
            f"{file}, column {name!r}: {_rows(empty)} no id, the first is data row {int(empty.argmax()) + 1:,}. "
            "Restore the ids."
        )
    if (twice := ids.duplicated()).any():
        raise KjcmError(
            f"{file}, column {name!r}: {some(ids[twice])} is there twice. Every row needs an id of its own."
        )
    frame = frame.assign(**{column: code_texts(frame[column]) for column in {*NEEDED, *CHOSEN}})
    frame = frame.assign(**{column: code_texts(frame[column]) if column in frame else "" for column in MARKS})
    frame.index = pd.Index(ids, name="id")
    done = frame["reviewed_code"] != ""
    if (nameless := done & (frame["reviewed_by"] == "")).any():
        raise KjcmError(
            f"{file}, column 'reviewed_by': {_rows(nameless)} a code without a coder, such as "
            f"{name}={ids[nameless.argmax()]}. Fill in the coder's name."
        )
    own = frame[done]
    codes = pd.DataFrame({
        "id": own.index, "coder": own["reviewed_by"].to_numpy(), "code": own["reviewed_code"].to_numpy(),
        "title": own["reviewed_title"].to_numpy(), "at": own["reviewed_at"].to_numpy(),
        # without the column of texts, every row is a text of its own
        "text": [f"text {text}" if text else f"row {id}" for id, text in zip(own.index, _texts(own), strict=True)],
    })  # fmt: skip
    return frame.assign(file=str(file)), codes.assign(file=str(file))


def _texts(frame: pd.DataFrame) -> list[str]:
    return code_texts(frame[TEXT]) if TEXT in frame else [""] * len(frame)


def _require_same(every: pd.DataFrame, name: str) -> None:
    """Raise KjcmError unless all files have the same suggestion of the model for a row."""
    first = every[~every.index.duplicated()].loc[every.index]
    wrong = (every[[*SAME]].to_numpy() != first[[*SAME]].to_numpy()).any(axis=1)
    if wrong.any():
        at = int(wrong.argmax())
        raise KjcmError(
            f"{every['file'].iloc[at]}: {_rows(pd.Series(wrong))} another suggestion of the model than in "
            f"{first['file'].iloc[at]}, such as {name}={every.index[at]}. Use files of one `kjcm team split`."
        )


def long_table(codings: Codings, name: str) -> pd.DataFrame:
    """Return a line for each row and coder: the code, its time, and what the model suggested."""
    codes = codings.codes
    shown = codings.rows.loc[codes["id"], [*SUGGESTED]]
    picks = [cell.split() for cell in shown["pick_list"]]
    table = pd.DataFrame({
        name: codes["id"], "coder": codes["coder"], "code": codes["code"], "at": codes["at"],
        "model_code": shown["code_1"].to_numpy(), "model_probability": shown["prob_1"].to_numpy(),
        "pick_list": shown["pick_list"].to_numpy(),
        "on_pick_list": [int(code in own) for code, own in zip(codes["code"], picks, strict=True)],
    })  # fmt: skip
    place = {id: number for number, id in enumerate(codings.rows.index)}
    return table.sort_values([name, "coder"], key=lambda cells: cells.map(place) if cells.name == name else cells)
