"""`kjcm order`: number the rows of a coded file that reviewers should decide first."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from omegaconf import DictConfig

from kjcm.errors import CUT, ConfigError, KjcmError, counted
from kjcm.files import atomic, require_file, write_json
from kjcm.keys.commands.exposures import OrderConfig
from kjcm.keys.composition import typed
from kjcm.ordering.choice import chosen
from kjcm.read.cells import NOTHING, code_texts, text_cells
from kjcm.read.columns import meant_columns
from kjcm.read.labelled import value_labels
from kjcm.read.table import read_chunks
from kjcm.records import read_json
from kjcm.survey.texts import TEXT_COLUMNS
from kjcm.triage.rules import DECISIONS
from kjcm.write.table import Added, open_input, target_of, writer

ROWS = 8192  # read at a time
ORDER = "review_order"
ADDED = Added({ORDER: "Place in the order of review, 1 for the first"})
REMEDY = "Use a file that `kjcm predict` wrote."
NOTE = {"classes_hash": str, "made_by": {"columns": {str: (str, None)}}}

log = logging.getLogger("kjcm")


def order(cfg: DictConfig) -> None:
    """Write `input` with the column review_order to `output`, and its record with the order's settings to `output`.json.

    Raises:
        ConfigError: a key needs another.
        KjcmError: a file is not usable, or the output exists.
    """
    config = typed(cfg, OrderConfig)
    if strange := [name for name in config.decisions if name not in DECISIONS]:
        raise ConfigError(
            f"decisions={strange[0]}: there is no such decision; the decisions are {', '.join(DECISIONS)}."
        )
    target = target_of(config.output, [config.input, config.reviewed], overwrite=config.overwrite)
    source = require_file(config.input, "coded file")
    note = _note(source)
    names = [name for role in TEXT_COLUMNS if (name := note["made_by"]["columns"].get(role))]
    texts, uncertainty, asked = _rows(source, names, config.decisions)
    if not asked.any():
        raise KjcmError(f"{source}: no row has text and a decision to review ({', '.join(config.decisions)}).")
    known = _texts(require_file(config.reviewed, "reviewed file"), names) if config.reviewed else []
    places = np.flatnonzero(asked)
    rows = places[chosen([texts[place] for place in places], uncertainty[places], config.rows, config.seed, known)]
    numbers = pd.array([pd.NA] * len(texts), "Int64")
    numbers[rows] = np.arange(1, len(rows) + 1)
    _write(source, target, numbers, overwrite=config.overwrite)
    about = {"input": str(source), "rows": len(rows), "of": int(asked.sum()), "decisions": [*config.decisions]}
    write_json(Path(f"{target}.json"), {**note, "order": {**about, "reviewed": config.reviewed, "seed": config.seed}})
    log.info("%s of %s to review ordered: %s", f"{len(rows):,}", counted(int(asked.sum()), "row"), target)


def _note(source: Path) -> dict[str, Any]:
    """Return the record that `kjcm predict` wrote next to a coded file."""
    file = source.with_name(f"{source.name}.json")
    if not file.is_file():
        raise KjcmError(
            f"{file}: is missing, and names the columns of the texts. Keep it next to the file that `kjcm predict` wrote."
        )
    return dict(read_json(file, NOTE))


def _rows(source: Path, names: Sequence[str], decisions: Sequence[str]) -> tuple[list[str], NDArray[Any], NDArray[Any]]:
    """Return each row's text, its uncertainty (1 minus the margin of the two likeliest codes), and whether it is asked."""
    texts: list[str] = []
    margins: list[NDArray[np.float64]] = []
    asked: list[bool] = []
    for frame, own in _frames(source, names):
        needed = meant_columns(frame.columns, {name: name for name in ("decision", "prob_1")}, str(source), REMEDY)
        if ORDER in frame:
            raise KjcmError(f"{source}: already has the column {ORDER!r}. {REMEDY}")
        first = _probabilities(source, frame[needed["prob_1"]], len(texts))
        second = _probabilities(source, frame["prob_2"], len(texts)) if "prob_2" in frame else np.zeros(len(frame))
        margins.append(first - second)
        asked += [
            decision in decisions and bool(text)
            for decision, text in zip(code_texts(frame[needed["decision"]]), own, strict=True)
        ]
        texts += own
    return texts, 1 - np.concatenate(margins), np.array(asked, bool)


def _texts(source: Path, names: Sequence[str]) -> list[str]:
    """Return the texts that reviewers have decided."""
    found: list[str] = []
    for frame, texts in _frames(source, names):
        own = meant_columns(
            frame.columns, {"code": "reviewed_code"}, str(source), "Use a file that `kjcm review` exported."
        )
        found += [text for text, code in zip(texts, code_texts(frame[own["code"]]), strict=True) if text and code]
    return found


def _frames(source: Path, names: Sequence[str]) -> Iterator[tuple[pd.DataFrame, list[str]]]:
    """Yield a file's rows in chunks, and their texts."""
    labels = value_labels(source)
    for frame in read_chunks(source, ROWS):
        own = meant_columns(frame.columns, {name: name for name in names}, str(source), REMEDY)
        cells = [text_cells(frame[own[name]], labels.get(own[name], NOTHING))[0] for name in names]
        yield frame, [" ".join(filter(None, row)) for row in zip(*cells, strict=True)]


def _probabilities(source: Path, cells: pd.Series, done: int) -> NDArray[np.float64]:
    """Return a column's probabilities, 0 for an empty cell: [rows]."""
    texts = code_texts(cells)
    values = pd.to_numeric(pd.Series([text or "0" for text in texts], dtype=object), errors="coerce").to_numpy(float)
    fine = (values >= 0) & (values <= 1)
    if not fine.all():
        row = int((~fine).argmax())
        raise KjcmError(
            f"{source}, column {cells.name!r}, data row {done + row + 1:,}: {texts[row][:CUT]!r} is not a probability. {REMEDY}"
        )
    return values


def _write(source: Path, target: Path, numbers: pd.api.extensions.ExtensionArray, *, overwrite: bool) -> None:
    """Write the file with the order's numbers [rows]."""
    begin = 0
    with atomic(target, overwrite) as temporary, writer(temporary, source, ADDED) as out:
        for frame in open_input(source, target, ADDED.labels, ROWS).chunks:
            own = numbers[begin : begin + len(frame)]
            out.write(frame.reset_index(drop=True).assign(**{ORDER: own}))
            begin += len(frame)
    if begin != len(numbers):
        raise KjcmError(f"{source}: changed while kjcm read it. Run the command again.")
