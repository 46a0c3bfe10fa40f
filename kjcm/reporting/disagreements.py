"""Disagreements between model and coders: written for a reviewer to judge, and read with the reviewer's verdicts."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from kjcm.analysis.content import Column, Table, Value
from kjcm.analysis.experiments import Experiment
from kjcm.analysis.formats import FORMULA
from kjcm.analysis.study import MAIN, Study
from kjcm.errors import KjcmError, some
from kjcm.read.cells import code_text
from kjcm.read.columns import meant_columns
from kjcm.read.table import read_table
from kjcm.reporting.tables import HIDDEN, Content, text_notes

FILE = "disagreements.csv"
VERDICTS = ("data error", "model error", "both defensible")
SHOWN = 20  # rows in a table
COLUMNS = (
    Column("id"), Column("text"), Column("code"), Column("title"), Column("predicted"), Column("predicted_title"),
    Column("probability", "percent"), Column("verdict"),
)  # fmt: skip
SHOWN_COLUMNS = (
    Column("Text"), Column("Code"), Column("Title"), Column("Predicted"), Column("Title of the prediction"),
    Column("Probability", "percent"),
)  # fmt: skip
Verdicts = Mapping[tuple[str, str, str], str]  # id, code, predicted -> verdict


def disagreements(study: Study, verdicts: Verdicts) -> Table:
    """Return the test rows where K-JCM's first run and the coders disagree, highest probability first."""
    run = study.runs[MAIN][0].answers
    wrong = np.flatnonzero(run.coded.rank != 0)
    order = wrong[np.lexsort((run.ids[wrong].astype(str), -run.prob[wrong, 0]))]
    texts = {} if study.texts is None else dict(zip(study.texts["id"], study.texts["text"], strict=True))
    rows: list[tuple[Value, ...]] = []
    for row in order:
        name, code, predicted = str(run.ids[row]), str(run.truth[row]), str(run.codes[row, 0])
        rows.append(
            (
                name, texts.get(name, HIDDEN), code, study.titles.get(code, ""), predicted, study.titles.get(predicted, ""),
                float(run.prob[row, 0]), verdicts.get((name, code, predicted), ""),
            )
        )  # fmt: skip
    return Table(
        "disagreements", "Disagreements between K-JCM and coders, highest probability first", COLUMNS, tuple(rows)
    )


def read_verdicts(file: Path) -> dict[tuple[str, str, str], str]:
    """Return the verdicts in a file of disagreements; skip rows without a verdict.

    Raises:
        KjcmError: a column is missing, a verdict is unknown, or a disagreement has two verdicts.
    """
    table = read_table(file)
    names = ("id", "code", "predicted", "verdict")
    own = meant_columns(table.columns, dict(zip(names, names, strict=True)), str(file))
    table = table[list(own.values())].set_axis(list(own), axis=1).map(_text)
    given = table[table["verdict"] != ""].drop_duplicates()
    wrong = [verdict for verdict in given["verdict"].unique() if verdict not in VERDICTS]
    if wrong:
        raise KjcmError(f"{file}, column 'verdict': unknown verdict {some(wrong)}. Choose among {', '.join(VERDICTS)}.")
    twice = given["id"][given.duplicated(["id", "code", "predicted"])]
    if len(twice):
        raise KjcmError(f"{file}, column 'verdict': two verdicts for id {some(twice)}. Keep one.")
    keys = zip(given["id"], given["code"], given["predicted"], strict=True)
    return dict(zip(keys, given["verdict"], strict=True))


def _text(cell: object) -> str:
    """Return a cell without the apostrophe that `as_csv` writes before formulas."""
    text = code_text(cell)
    return text[1:] if text.startswith("'") and text[1:].startswith(FORMULA) else text


def require_known(verdicts: Verdicts, table: Table, file: Path) -> None:
    """Raise KjcmError if a verdict belongs to no disagreement: it would be lost silently."""
    known = {(row[0], row[2], row[4]) for row in table.rows}
    lost = [
        f"{row}: {code}, predicted {predicted}"
        for row, code, predicted in verdicts
        if (row, code, predicted) not in known
    ]
    if lost:
        raise KjcmError(
            f"{file}: {len(lost):,} verdicts belong to no disagreement of this K-JCM run ({some(lost)}). They come from "
            "another training. Give that run as like=DIR, or move the file away."
        )


def require_kept(file: Path, verdicts: Verdicts) -> None:
    """Raise KjcmError if `file`, which will be replaced, has a verdict that is not in `verdicts`."""
    earlier = read_verdicts(file) if file.is_file() else {}
    lost = [
        f"{row}: {code}, predicted {predicted}: {said}"
        for (row, code, predicted), said in earlier.items()
        if verdicts.get((row, code, predicted)) != said
    ]
    if lost:
        raise KjcmError(
            f"{file}: {len(lost):,} of its verdicts are not in review=FILE and would be lost ({some(lost)}). Add the "
            "verdicts to review=FILE, or move this file away."
        )


def judged(study: Study, this: Experiment, verdict: str, verdicts: Verdicts) -> Sequence[Content]:
    """Return Supplementary Table 4 or 5: disagreements with this verdict, highest probability first.

    Before any verdict, the first table shows the disagreements to judge, and the others have no rows.
    """
    first = 2 if study.texts is None else 1  # skips the column of texts
    columns = SHOWN_COLUMNS[first - 1 :]
    if MAIN not in study.runs:
        return [Table(this.key, this.heading, columns, (), (), study.missing((MAIN,)))]
    whole = disagreements(study, verdicts)
    counts = {name: sum(row[-1] == name for row in whole.rows) for name in VERDICTS}
    reviewed = sum(counts.values())
    if reviewed:
        rows, title = [row for row in whole.rows if row[-1] == verdict], this.heading
        said = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        notes = [f"{len(whole.rows):,} disagreements; {reviewed:,} judged: {said}."]
    else:
        rows, title = (
            list(whole.rows if verdict == VERDICTS[0] else ()),
            "Not judged yet: disagreements between K-JCM and coders",
        )
        choice = " or ".join([", ".join(map(repr, VERDICTS[:-1])), repr(VERDICTS[-1])])
        notes = [
            f"{len(whole.rows):,} disagreements, none judged yet. Write {choice} into the column 'verdict' of {FILE} and build "
            "the report again."
        ]
    if len(rows) > SHOWN:
        notes.append(f"The {SHOWN} disagreements of highest probability; {FILE} has all.")
    shown = tuple(row[first:-1] for row in rows[:SHOWN])
    return [Table(this.key, title, columns, shown, (*notes, *text_notes(study)))]
