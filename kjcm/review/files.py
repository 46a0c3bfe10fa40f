"""Make a review from a coded file, and export the reviewed file."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kjcm.errors import CUT, ConfigError, KjcmError, some
from kjcm.files import atomic, digest, require_file
from kjcm.ksco.classification import Classification
from kjcm.read.cells import NOTHING, code_text, code_texts, text_cells
from kjcm.read.columns import meant_columns
from kjcm.read.labelled import value_labels
from kjcm.read.table import read_chunks
from kjcm.records import read_json
from kjcm.review.records import KINDS, MOST_ORDER, require_alone
from kjcm.review.store import Store, create
from kjcm.run_folder.model_folder import Settings
from kjcm.survey.texts import TEXT_COLUMNS
from kjcm.write.table import OUTPUTS, Added, open_input, writer

ROWS = 8192  # read at a time
NEEDED = ("decision", "decision_code", "pick_list", "code_1", "title_1", "prob_1")
REVIEWED = {
    "reviewed_code": "Code that the reviewer chose",
    "reviewed_title": "Title of reviewed_code",
    "reviewed_by": "Name of the reviewer",
    "reviewed_at": "Time of the review",
    "final_code": "reviewed_code, else decision_code",
    "flagged_by": "Reviewer who flagged the row",
    "skipped_by": "Reviewer who skipped the row",
    "review_comment": "Comment on the row",
    "commented_by": "Reviewer who wrote the comment",
}
ORDER = "review_order"  # column of `kjcm order`
COMMENTS = "coders_comments"  # column of rows on which coders disagree, see `kjcm team agreement`
SHOWN = 5


@dataclass(frozen=True)
class Further:
    """Further columns of the coded file that the page shows.

    Attributes:
        shown: column -> text of each row.
        ids: id of each row; empty without ids.
    """

    shown: Mapping[str, Sequence[str]] = field(default_factory=dict)
    ids: Sequence[str] = ()


def read_further(coded: Path, show: Sequence[str], identity: str | None) -> Further:
    """Read the columns of the coded file that the page shows besides the texts.

    Args:
        coded: the coded file.
        show: columns to show, with their value labels.
        identity: column with the rows' ids; None: there are no ids.

    Raises:
        KjcmError: there is no such column.
    """
    wanted = {name: name for name in (*show, *([identity] if identity else []))}
    if not wanted:
        return Further()
    labels, cells = value_labels(coded), {name: list[str]() for name in wanted}
    remedy = "Name columns of the coded file with show=[...] and id=NAME."
    for frame in read_chunks(coded, ROWS):
        own = meant_columns(frame.columns, wanted, str(coded), remedy)
        for name in wanted:
            cells[name] += text_cells(frame[own[name]], labels.get(own[name], NOTHING))[0]
    return Further({name: cells[name] for name in show}, cells[identity] if identity else ())


def identity_column(coded: Path, settings: Settings) -> str | None:
    """Return the run's id column if the coded file has it."""
    name = settings.columns.get("id")
    return name if name and name in next(read_chunks(coded, ROWS)) else None


def opened(coded: Path, file: Path, named: Classification, settings: Settings) -> Store:
    """Open the review of a coded file, or create it.

    Args:
        coded: the coded file.
        file: of the review.
        named: the codes' classification.
        settings: of the model.

    Raises:
        KjcmError: `kjcm predict` did not write the file with this model, or the review belongs to another file.
    """
    sha = digest(coded)
    require_alone(file)
    if not file.exists():
        columns = _columns(coded.with_name(coded.name + ".json"), coded, settings)
        mode = coded.stat().st_mode & 0o666
        create(file, {"input": sha, "classes": settings.classes_hash}, _items(coded, named, columns), mode)
    store = Store(file)
    try:
        store.check()
    except KjcmError:
        store.close()
        raise
    if (store.about["input"], store.about["classes"]) != (sha, settings.classes_hash):
        store.close()
        raise KjcmError(f"{file}: is the review of another file or model. Choose another with db=FILE.")
    return store


def _columns(note: Path, coded: Path, settings: Settings) -> dict[str, str]:
    """Return role -> column of the texts, from the coding's note, else from the run.

    Raises:
        KjcmError: the note is damaged, or a model with other classes wrote it.
    """
    columns: dict[str, str | None] = settings.columns
    if note.is_file():
        told = read_json(note, {"classes_hash": str, "made_by?": {"columns?": {str: (str, None)}}})
        columns = told.get("made_by", {}).get("columns", columns)
        if told["classes_hash"] != settings.classes_hash:
            raise KjcmError(
                f"{coded}: was coded by a model with other classes. Set run=DIR to the run that coded it ({note})."
            )
    return {role: name for role in TEXT_COLUMNS if (name := columns.get(role))}


def _items(coded: Path, named: Classification, names: Mapping[str, str]) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Yield each row's number, decision and what the page shows."""
    begin, labels = 0, value_labels(coded)
    for frame in read_chunks(coded, ROWS):
        shown = [k for k in range(1, SHOWN + 1) if f"code_{k}" in frame]
        needed = [*NEEDED, *(f"{kind}_{k}" for k in shown for kind in ("title", "prob"))]
        remedy = "Use a file that `kjcm predict` wrote."
        own = meant_columns(frame.columns, {**dict(zip(needed, needed, strict=True)), **names}, str(coded), remedy)
        if twice := [name for name in REVIEWED if name in frame]:
            raise KjcmError(f"{coded}: already has columns {some(twice)}. Review the file that `kjcm predict` wrote.")
        ranked = [ORDER] if ORDER in frame else []
        cells = {name: code_texts(frame[name]) for name in {*needed, *(f"code_{k}" for k in shown), *ranked}}
        texts = {role: text_cells(frame[own[role]], labels.get(own[role], NOTHING))[0] for role in names}
        for place in range(len(frame)):
            cell = {name: values[place] for name, values in cells.items()}
            first = [
                {"code": cell[f"code_{k}"], "title": cell[f"title_{k}"], "prob": probability}
                for k in shown
                if cell[f"code_{k}"]
                for probability in [
                    _number(cell[f"prob_{k}"], f"{coded}, column 'prob_{k}', data row {begin + place + 1:,}")
                ]
            ]
            picks = cell["pick_list"].split()
            further = [code for code in picks if code not in {one["code"] for one in first}]
            body: dict[str, Any] = {
                "text": {role: values[place] for role, values in texts.items()},
                "first": first,
                "further": [{"code": code, "title": named.title(code)} for code in further],
                "picks": picks,
                "given": cell["decision_code"],
            }
            if cell.get(ORDER):
                body["order"] = _place(cell[ORDER], f"{coded}, column {ORDER!r}, data row {begin + place + 1:,}")
            if COMMENTS in frame:
                body["disputed"] = True
            yield begin + place, cell["decision"], body
        begin += len(frame)


def _number(cell: str, place: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise KjcmError(
            f"{place}: {cell[:CUT]!r} is not a probability. Use the unchanged file that `kjcm predict` wrote."
        )
    return value


def _place(cell: str, place: str) -> int:
    if not cell.isdecimal() or not 0 < int(cell) < MOST_ORDER:
        raise KjcmError(f"{place}: {cell[:CUT]!r} is not a place in an order. Use the unchanged file of `kjcm order`.")
    return int(cell)


def export(coded: Path, target: Path, store: Store, classification: Classification, overwrite: bool) -> dict[str, int]:
    """Write the coded file with each row's decision, and return counts of the reviewed rows.

    Raises:
        KjcmError: the target exists, or cannot hold the table, or the coded file has changed since its review began.
        ConfigError: the target's kind is unknown, or the target is the coded file or the review's file.
    """
    if target.resolve() in (coded.resolve(), store.file.resolve()):
        raise ConfigError(f"export={target}: is the file under review. Name another.")
    if digest(require_file(coded, "coded file")) != store.about["input"]:
        raise KjcmError(
            f"{coded}: has changed since its review began, so the decisions are for other rows. Restore the original file."
        )
    if target.suffix.lower() not in OUTPUTS:
        raise ConfigError(f"export={target}: write one of {', '.join(OUTPUTS)}.")
    choices, marks = dict(store.choices()), store.marks()
    begin = agreed = 0
    source = open_input(coded, target, REVIEWED, ROWS)
    with atomic(target, overwrite) as temporary, writer(temporary, coded, Added(REVIEWED)) as out:
        for frame in source.chunks:
            frame = frame.reset_index(drop=True)
            rows = range(begin, begin + len(frame))
            own = [choices.get(row) for row in rows]
            marked = {kind: [marks.get(row, {}).get(kind) for row in rows] for kind in KINDS}
            codes = [choice.code if choice else "" for choice in own]
            agreed += sum(code == first for code, first in zip(codes, code_texts(frame["code_1"]), strict=True) if code)
            given = map(code_text, frame["decision_code"])
            out.write(
                frame.assign(
                    reviewed_code=codes,
                    reviewed_title=[classification.title(code) for code in codes],
                    reviewed_by=[choice.who if choice else "" for choice in own],
                    reviewed_at=[choice.at if choice else "" for choice in own],
                    final_code=[code or before for code, before in zip(codes, given, strict=True)],
                    flagged_by=[mark.who if mark else "" for mark in marked["flag"]],
                    skipped_by=[mark.who if mark else "" for mark in marked["skip"]],
                    review_comment=[mark.note if mark else "" for mark in marked["comment"]],
                    commented_by=[mark.who if mark else "" for mark in marked["comment"]],
                )
            )
            begin += len(frame)
    return {"rows": begin, "settled": len(choices), "as_the_model": agreed}
