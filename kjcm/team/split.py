"""`kjcm team split`: divide a coded file into one file per coder; two coders get a random share, blind."""

import logging
import re
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from omegaconf import DictConfig

from kjcm.errors import CUT, ConfigError, KjcmError, counted, require_columns, some
from kjcm.files import atomic, require_file, sha256, write_json
from kjcm.keys.commands.team import TeamSplitConfig
from kjcm.keys.composition import typed
from kjcm.read.cells import NOTHING, code_texts, text_cells, tidy
from kjcm.read.columns import meant_columns
from kjcm.read.labelled import value_labels
from kjcm.read.table import read_table
from kjcm.review.files import NEEDED, REVIEWED
from kjcm.review.names import reviewer
from kjcm.team.note import Note, note_of, read_note, require_free, write_note
from kjcm.team.shares import divide
from kjcm.triage.rules import DECISIONS
from kjcm.write.table import Added, writer

KINDS = (".csv", ".tsv", ".parquet", ".xlsx")  # of the coders' files
ROW, TEXT = "team_row", "team_text"
ADDED = {ROW: "Number of the row in the divided file", TEXT: "Number of the row's text"}

log = logging.getLogger("kjcm")


def split(cfg: DictConfig) -> None:
    """Write a file for each coder, and split.json, to the folder `output`.

    Raises:
        ConfigError: a coder's name, a decision or the overlap cannot be used, the text columns are not known, or a file
            would replace the input.
        KjcmError: the coded file is not usable, has no row for the coders, or a file exists.
    """
    config = typed(cfg, TeamSplitConfig)
    coders = _coders(config.coders)
    if strange := [name for name in config.decisions if name not in DECISIONS]:
        raise ConfigError(f"decisions={strange[0]}: no such decision; the decisions are {', '.join(DECISIONS)}.")
    source, folder = require_file(config.input, "coded file"), Path(config.output).expanduser()
    kind = source.suffix.lower() if source.suffix.lower() in KINDS else ".csv"
    files = {coder: folder / f"{coder}{kind}" for coder in coders}
    record = folder / "split.json"
    require_free([*files.values(), *map(note_of, files.values()), record], [source], overwrite=config.overwrite)
    note = read_note(source)
    frame, texts = _rows(source, config, note)
    doubles = round(config.overlap * len(frame))
    if config.overlap and not doubles:
        raise ConfigError(f"overlap={config.overlap}: is less than one of {counted(len(frame), 'row')}. Raise it.")
    generator = np.random.Generator(np.random.PCG64(config.seed))
    shares, pairs = divide(texts, len(coders), doubles, generator)
    # The numbers are drawn: a number that named the text's first row would show which rows come from another's share.
    frame[TEXT] = generator.permutation(texts.max() + 1)[texts] + 1
    with ExitStack() as stack:  # no file gets its name before all are written
        for coder, own in zip(coders, shares.T, strict=True):
            temporary = stack.enter_context(atomic(files[coder], config.overwrite))
            with writer(temporary, None, Added(ADDED)) as out:
                out.write(frame[own].reset_index(drop=True))
    for file in files.values():
        if note:
            write_note(file, note)
        else:
            note_of(file).unlink(missing_ok=True)
    write_json(record, {
        "input": sha256(source), "seed": config.seed, "overlap": config.overlap, "decisions": list(config.decisions),
        "rows": len(frame), "texts": int(texts.max()) + 1, "double_rows": doubles,
        "coders": {
            coder: {"file": file.name, "rows": int(own.sum()), "sha256": sha256(file)}
            for (coder, file), own in zip(files.items(), shares.T, strict=True)
        },
        "double_rows_of": [
            {"coders": [coders[one], coders[other]], "rows": int(pairs[one, other])}
            for one, other in combinations(range(len(coders)), 2)
        ],
    })  # fmt: skip
    log.info("%s, %s of them to two coders:", counted(len(frame), "row"), f"{doubles:,}")
    for (coder, file), own in zip(files.items(), shares.T, strict=True):
        log.info("%s: %s: %s", coder, counted(int(own.sum()), "row"), file)


def _coders(names: Sequence[str]) -> list[str]:
    """Return the coders' names.

    Raises:
        ConfigError: fewer than two, the same twice, or a name that is not a reviewer's or not a file's.
    """
    found = []
    for name in names:
        try:
            found.append(reviewer(str(name)))
        except ValueError as error:
            raise ConfigError(f"coders={str(name)[:CUT]!r}: {error}.") from None
        if not re.fullmatch(r"\w[\w .-]*", found[-1]) or found[-1].endswith("."):
            raise ConfigError(
                f"coders={found[-1][:CUT]!r}: names a file too. Use letters, digits, blanks, `.`, `-` and `_` only."
            )
    folded = [name.casefold() for name in found]
    if twice := sorted({name for name in folded if folded.count(name) > 1}):
        raise ConfigError(f"coders: {some(twice)} is there twice. Give every coder a name of their own.")
    if "split" in folded:
        raise ConfigError("coders='split': split.json is the record. Use another name.")
    if len(found) < 2:
        raise ConfigError("coders: name at least two, as coders=[kim,lee].")
    return found


def _rows(source: Path, config: TeamSplitConfig, note: Note | None) -> tuple[pd.DataFrame, NDArray[np.intp]]:
    """Return the rows for the coders, with their numbers, and the number of each row's text."""
    names = list(config.texts) if config.texts is not None else [*(note.columns.values() if note else ())]
    if not names:
        raise ConfigError(f"{note_of(source)} does not name the text columns. Add texts=[COLUMN,...].")
    frame = read_table(source).reset_index(drop=True)
    require_columns(source, frame, NEEDED, lambda: "Use a file that `kjcm predict` wrote.")
    if twice := [name for name in (*ADDED, *REVIEWED) if name in frame]:
        raise KjcmError(f"{source}: already has columns {some(twice)}. Divide the file that `kjcm predict` wrote.")
    own = meant_columns(frame.columns, dict(zip(names, names, strict=True)), str(source), "Set texts=[COLUMN,...].")
    labels = value_labels(source)
    texts = {name: text_cells(frame[name], labels.get(name, NOTHING))[0] for name in own.values()}
    if source.suffix.lower() not in KINDS:  # CSV has no value labels
        frame = frame.assign(**texts)
    decisions = code_texts(frame["decision"])
    chosen = np.array([decision in config.decisions for decision in decisions], bool)
    if not chosen.any():
        there = ", ".join(f"{name} {rows:,}" for name, rows in pd.Series(decisions).value_counts().items())
        raise KjcmError(
            f"{source}: no row has one of the decisions {', '.join(config.decisions)}. Its rows: {there or 'none'}. "
            "decisions=[...] names others."
        )
    if left := int((~chosen).sum()):
        log.info("%s with other decisions: not divided", counted(left, "row"))
    frame[ROW] = np.arange(1, len(frame) + 1)
    keys = ["\x1f".join(map(tidy, row)) for row in zip(*texts.values(), strict=True)]
    numbers, _ = pd.factorize(pd.Series(keys, dtype=object)[chosen])
    return frame[chosen].reset_index(drop=True), numbers.astype(np.intp)
