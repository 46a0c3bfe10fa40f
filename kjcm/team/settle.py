"""Settle the coders' codes: the rows on which they agree, those to adjudicate, and all rows with the settled code."""

from pathlib import Path

import numpy as np
import pandas as pd

from kjcm.errors import KjcmError, some
from kjcm.read.cells import code_texts, text_cells
from kjcm.read.labelled import value_labels
from kjcm.read.table import read_table
from kjcm.review.files import COMMENTS, REVIEWED
from kjcm.team.codings import CHOSEN, MARKS, SAME, Codings
from kjcm.team.note import read_note
from kjcm.team.split import ROW, TEXT

AGREED, SINGLE, ADJUDICATED, DISAGREED, MODEL, OPEN = "agreed", "single", "adjudicated", "disagreed", "model", "open"
KINDS = (AGREED, SINGLE, ADJUDICATED, DISAGREED, MODEL, OPEN)
MERGED = {**REVIEWED, "settled": "How the code was settled"}


def settle(codings: Codings, adjudicated: Codings | None) -> pd.DataFrame:
    """Return each coded row's kind, code, title, coder and time, with its id as the index.

    Raises:
        KjcmError: a row was adjudicated on which the coders do not disagree.
    """
    groups = codings.codes.sort_values("coder", kind="stable").groupby("id", sort=False)
    found = groups.agg(
        reviewed_code=("code", "first"), reviewed_title=("title", "first"), reviewed_by=("coder", ", ".join),
        reviewed_at=("at", "max"), codes=("code", "nunique"), coders=("coder", "size"),
    )  # fmt: skip
    differs = found["codes"] > 1
    found["settled"] = np.select([differs, found["coders"] > 1], [DISAGREED, AGREED], SINGLE)
    found.loc[differs, [*CHOSEN]] = ""
    if adjudicated is not None:
        judged = adjudicated.codes.set_index("id")
        if strange := [id for id in adjudicated.rows.index if id not in found.index[differs]]:
            raise KjcmError(
                f"adjudicated: the coders do not disagree on the rows {some(strange)}. Use the export of the review of "
                "adjudication.csv."
            )
        found.loc[judged.index, [*CHOSEN]] = judged[["code", "title", "coder", "at"]].to_numpy()
        found.loc[judged.index, "settled"] = ADJUDICATED
    return found[[*CHOSEN, "settled"]]


def adjudication(codings: Codings) -> pd.DataFrame:
    """Return the rows on which coders disagree, as `kjcm predict` writes them, with the coders' codes and comments, unnamed.

    The codes are the pick list. Codes and comments are sorted, so that their order does not say whose they are.
    """
    codes = codings.codes.groupby("id")["code"].agg(lambda own: sorted(set(own)))
    codes = codes[codes.map(len) > 1]
    rows = codings.rows[codings.rows.index.isin(codes.index)]
    comments = codings.marks.groupby("id")["review_comment"].agg(lambda own: " | ".join(sorted({*own} - {""})))
    return rows.drop(columns=[*REVIEWED, TEXT, COMMENTS], errors="ignore").assign(
        decision="choose",
        decision_code="",
        **dict.fromkeys({"decision_title"} & {*rows}, ""),
        pick_list=[" ".join(codes[id]) for id in rows.index],
        **{COMMENTS: comments.loc[rows.index]},
    )


def joined_marks(codings: Codings, adjudicated: Codings | None) -> pd.DataFrame:
    """Return the marks of all coders and the adjudicator, in the columns MARKS, with the rows' ids as the index.

    Each name and each comment is there once. Comments are in the order of their writers' names.
    """
    marks = pd.concat([one.marks for one in (codings, adjudicated) if one]).sort_values("commented_by", kind="stable")

    def names(own: pd.Series) -> str:
        return ", ".join(sorted({name for name in own if name}))

    def notes(own: pd.Series) -> str:
        return " | ".join(dict.fromkeys(filter(None, own)))

    return marks.groupby("id").agg({name: notes if name == "review_comment" else names for name in MARKS})


def merged(rows: pd.DataFrame, settled: pd.DataFrame, marks: pd.DataFrame) -> pd.DataFrame:
    """Return all rows, indexed by id, with the settled code, its kind and the marks."""
    table = rows.drop(columns=[*REVIEWED, TEXT], errors="ignore")
    found = settled.reindex(table.index).fillna("")
    given = code_texts(table["decision_code"])
    kinds = [kind or (MODEL if code else OPEN) for kind, code in zip(found["settled"], given, strict=True)]
    final = [
        code or ("" if kind == DISAGREED else before)
        for code, before, kind in zip(found["reviewed_code"], given, kinds, strict=True)
    ]
    chosen = {name: found[name] for name in CHOSEN}
    marked = marks.reindex(table.index).fillna("")
    return table.assign(**chosen, final_code=final, **{name: marked[name] for name in MARKS}, settled=kinds)


def divided(source: Path, codings: Codings, name: str) -> pd.DataFrame:
    """Return the rows of the file that was divided, with their ids as the index.

    Raises:
        KjcmError: the coders' rows are not in it, or the model suggested something else there.
    """
    frame = read_table(source).reset_index(drop=True)
    labels, note = value_labels(source), read_note(source)
    for column in note.columns.values() if note else ():
        if column in frame and column in labels:
            frame[column] = text_cells(frame[column], labels[column])[0]  # CSV has no value labels
    if name == ROW and ROW not in frame:
        frame.insert(len(frame.columns), ROW, np.arange(1, len(frame) + 1))
    remedy = "Give the file that was divided, unchanged."
    missing = [column for column in (name, *SAME, "decision_code") if column not in frame]
    if missing:
        raise KjcmError(f"{source}: has no column {some(missing)}. {remedy}")
    frame.index = pd.Index(code_texts(frame[name]), name="id")
    if not frame.index.is_unique or (absent := codings.rows.index.difference(frame.index)).size:
        what = "an id is there twice" if not frame.index.is_unique else f"it has no row {name}={absent[0]}"
        raise KjcmError(f"{source}: {what}. {remedy}")
    own = frame.loc[codings.rows.index]
    for column in SAME:
        if (wrong := np.array(code_texts(own[column])) != codings.rows[column].to_numpy()).any():
            id = own.index[int(wrong.argmax())]
            raise KjcmError(f"{source}, column {column!r}: differs from the coders' files at {name}={id}. {remedy}")
    return frame
