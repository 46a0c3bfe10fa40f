"""Further training rows: the classification's own words (Models 3 and 4 of the article), and what a person has reviewed."""

from collections.abc import Collection, Mapping, Sequence

import pandas as pd

from kjcm.errors import KjcmError, some
from kjcm.ksco.classification import Classification
from kjcm.read.cells import code_texts
from kjcm.read.table import read_table
from kjcm.survey.responses import TEXT_COLUMNS, sentences
from kjcm.survey.wording import tidy


def augmentation(
    classification: Classification, classes: Sequence[str], *, titles: bool, descriptions: bool
) -> pd.DataFrame:
    """Return training rows (text, code) from the titles and descriptions of each class and all codes beneath it.

    The same text under one class is taken once. Only classes that the cohort trains on get rows, so that the class
    list does not depend on augmentation.
    """
    rows: dict[tuple[str, str], None] = {}  # a dict keeps the order and drops what is said twice
    for code in classes:
        for one in classification.below(code):
            for wanted, texts in ((titles, classification.titles), (descriptions, classification.descriptions)):
                if wanted and (text := tidy(texts.get(one, ""))):
                    rows[text, code] = None
    return pd.DataFrame(list(rows), columns=["text", "code"], dtype=str)


def reviewed_rows(
    path: str, columns: Mapping[str, str | None], classes: Collection[str], held: Collection[str]
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return text and code of the rows that a person has settled, and how many others were left out by reason.

    Args:
        path: what `kjcm review` exported: the text columns and reviewed_code.
        columns: role -> column.
        classes: codes that a model can learn; rows of others are left out.
        held: texts of test and validation rows, which are not learnt from.

    Raises:
        KjcmError: the file or a column is missing.
    """
    table = read_table(path)
    mapped = {role: name for role, name in columns.items() if role in TEXT_COLUMNS and name is not None}
    if missing := [name for name in (*mapped.values(), "reviewed_code") if name not in table]:
        raise KjcmError(
            f"data.reviewed={path}: has no column {some(missing)}; its columns are {some(table.columns)}. Give a file that "
            "`kjcm review` exported, with the names of data.columns."
        )
    frame = pd.DataFrame({"text": sentences(table, mapped, path), "code": code_texts(table["reviewed_code"])})
    frame = frame[frame["code"] != ""]
    left = {
        "empty text": frame["text"] == "",
        "code is no class": ~frame["code"].isin(list(classes)),
        "text of a test or validation row": frame["text"].isin(list(held)),
    }
    out = pd.Series(False, index=frame.index)
    counts = {}
    for reason, rows in left.items():
        counts[reason] = int((rows & ~out).sum())
        out |= rows
    return frame[~out].reset_index(drop=True), counts
