"""`kjcm predict`: a finished run codes a file, chunk by chunk; all columns and the row order stay.

A hidden folder next to the output stores each chunk's codes until the output is complete. After a kill the same command
resumes: it reads the input again and codes only the missing chunks.
"""

import logging
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from omegaconf import DictConfig

from kjcm import __version__
from kjcm.coding.coder import ahead
from kjcm.coding.decisions import MOST_KNOWN, Coded, Decider, Known
from kjcm.coding.ensemble import AnyCoder, coder_of, device_of, explainer_of
from kjcm.coding.linear import Explainer, Near
from kjcm.coding.parts import Parts, parts_of
from kjcm.coding.progress import Progress
from kjcm.coding.rows import (
    Reading,
    covariates_in,
    manages_of,
    own_columns,
    reads_answers,
    require_readable,
    require_seen_levels,
)
from kjcm.coding.run_rules import basis_of, say, warn
from kjcm.engine.device import require_device
from kjcm.errors import ConfigError
from kjcm.files import digest, require_file
from kjcm.keys.coding import PredictConfig
from kjcm.keys.composition import typed
from kjcm.read.labelled import value_labels
from kjcm.read.options import read_options
from kjcm.run_folder.model_folder import Settings, finished_run, load_settings
from kjcm.survey.covariates import roles_of
from kjcm.survey.texts import texts_of
from kjcm.triage.rules import DECISIONS, VERSION, Options
from kjcm.write.table import OUTPUTS, open_input, writer

# keys that coded rows depend on
KEYS = (
    "encoding", "sheet", "header_row", "top_k", "chunk_rows", "batch_size", "compile", "formulas", "triage", "levels", "explain",
    "unseen_levels",
)  # fmt: skip

log = logging.getLogger("kjcm")


def predict(cfg: DictConfig) -> None:
    """Write `input` with codes and decisions to `output`, and a record of model and rules to `output`.json.

    Raises:
        KjcmError: the run is not finished, the input is not usable, or the output exists.
    """
    began = time.perf_counter()
    config = typed(cfg, PredictConfig)
    require_device("accelerator", config.accelerator)
    run, target = finished_run(config.run), Path(config.output).expanduser()
    if target.suffix.lower() not in OUTPUTS:
        raise ConfigError(f"output={target}: write one of {', '.join(OUTPUTS)}.")
    source = require_file(config.input, "input file")
    settings = load_settings(run / "model")
    columns = _columns(settings, config)
    what = _what(run, source, config, columns)
    with parts_of(target, what, config.overwrite) as parts:
        if not parts.is_complete():  # else killed before output and note were in place
            record = _code(config, run, source, settings, columns, parts)
            record["seconds_with_loading"] = round(time.perf_counter() - began, 3)
            parts.finish({"run": str(run), **record, "made_by": what})
        record = parts.place()
    _say(record, target)


def _columns(settings: Settings, config: PredictConfig) -> dict[str, str | None]:
    """Return role -> column, with the run's own name for '@run'; manages only if the rule needs it."""
    found = {
        role: settings.columns.get(role) if name == "@run" else name for role, name in vars(config.columns).items()
    }
    if config.triage.managers != "column":
        found["manages"] = None
    elif found["manages"] is None:
        raise ConfigError("triage.managers=column needs columns.manages=NAME, a column of yes and no.")
    return found


def _what(run: Path, source: Path, config: PredictConfig, columns: Mapping[str, str | None]) -> dict[str, Any]:
    """Return what coded rows depend on; stored chunks are reused only if all of it matches."""
    precision, gpu = device_of(run, config.accelerator, config.precision, compiled=config.compile)
    return {
        "kjcm": __version__,
        "rules": VERSION,
        "input": digest(source),
        "model": digest(run / "model"),
        "columns": dict(columns),
        "precision": precision,
        "accelerator": "gpu" if gpu else "cpu",
        **{key: value for key, value in asdict(config).items() if key in KEYS},
    }


def _code(
    config: PredictConfig,
    run: Path,
    source: Path,
    settings: Settings,
    columns: Mapping[str, str | None],
    parts: Parts,
) -> dict[str, Any]:
    """Write the coded file and return its record."""
    options = read_options(config, "", [source], {**columns, **roles_of(settings.covariates.kinds)})
    labels = value_labels(source, options)
    basis = basis_of(Options(**vars(config.triage)), run, settings)
    triage = basis.triage()
    outlook = basis.outlook(triage)
    warn(outlook)
    how = (config.batch_size, config.accelerator, config.precision, triage.temperature)
    coder = coder_of(run, *how, compiled=config.compile)
    explainer = explainer_of(coder) if config.explain else None
    if config.explain and explainer is None:
        raise ConfigError(
            "explain=true: the run's model compares no texts. Give a run of model=nearest, or of an ensemble with one."
        )
    decider = Decider(settings, triage, min(config.top_k, len(settings.classes)), explainer, config.levels)
    begin, resumed = time.perf_counter(), 0
    counts = np.zeros(len(DECISIONS), np.int64)
    added = decider.added
    managers = config.triage.managers
    reading = Reading(
        source, columns, managers, settings.manager_words, list(added.labels), labels, options, settings.wording,
        settings.covariates, reads_answers(settings), config.unseen_levels,
    )  # fmt: skip
    require_seen_levels(reading, config.chunk_rows)
    check = partial(require_readable, reading=reading)
    given = open_input(source, parts.target, reading.added, config.chunk_rows, options, check)
    # one thread reads and another tokenises (mostly outside Python) while this thread codes and writes
    chunks = ahead(_with_batches(ahead(_chunks(reading, given.chunks, parts)), coder, explainer))
    with (
        closing(Progress(given.rows)) as progress,
        closing(chunks),
        parts.output() as file,
        writer(file, source, added, config.formulas, options) as out,
    ):
        for chunk, ready, near in chunks:
            coded = _coded(chunk, ready, near, coder, decider, parts)
            frame = decider.frame(coded, chunk.reasons)
            out.write(pd.concat([chunk.frame.reset_index(drop=True), frame], axis=1))
            resumed += len(frame) if chunk.stored else 0
            counts += np.bincount(coded.decision, minlength=len(DECISIONS))
            progress.add(len(frame), coded=not chunk.stored)
    return {
        "classes_hash": settings.classes_hash,
        "synthetic": settings.synthetic,
        "rows": progress.done,
        "rows_resumed": resumed,
        "decisions": {name: int(count) for name, count in zip(DECISIONS, counts, strict=True)},
        "top_k": decider.top_k,
        "precision": coder.precision,
        "seconds": round(time.perf_counter() - begin, 3),
        "triage": outlook,
    }


def _say(record: Mapping[str, Any], target: Path) -> None:
    """Log the result."""
    rows = record["rows"]
    spent = f"{record['seconds']:.1f} s ({record['seconds_with_loading']:.1f} s with loading)"
    log.info("%s rows coded in %s: %s", f"{rows:,}", spent, target)
    if record["rows_resumed"]:
        log.info("%s of them were coded before", f"{record['rows_resumed']:,}")
    shares = [f"{name} {count:,} ({100 * count / rows:.0f} %)" for name, count in record["decisions"].items() if count]
    if shares:
        log.info("decisions: %s", ", ".join(shares))
    say(record["triage"])
    if record["synthetic"]:
        log.info("the model was trained on SYNTHETIC data: its codes are for trying kjcm out, not for use")


@dataclass(frozen=True)
class Chunk:
    """Rows of the input.

    Attributes:
        frame: the rows as read.
        reasons: [rows], why a row is invalid, else ''.
        manages: [new texts], whether their authors say that they manage.
        known: the texts met so far.
        numbers: [valid rows], their numbers in `known`.
        new: [new texts], places among the valid rows.
        texts: [new texts] as the coder takes them; empty if an earlier process coded the chunk.
        stored: the rows coded by an earlier process.
        number: of the chunk.
    """

    frame: pd.DataFrame
    reasons: list[str]
    manages: NDArray[np.bool_]
    known: Known
    numbers: NDArray[np.int64]
    new: NDArray[np.int64]
    texts: list[Any]
    stored: Coded | None
    number: int


def _chunks(reading: Reading, frames: Iterator[pd.DataFrame], parts: Parts) -> Generator[Chunk, None, None]:
    """Yield the input in chunks.

    Raises:
        KjcmError: a column is missing or would be overwritten.
    """
    known = Known()
    for number, frame in enumerate(frames):
        columns = own_columns(frame, reading)
        texts = texts_of(frame, columns, str(reading.source), reading.labels, reading.wording)
        manages, unclear = manages_of(frame, texts, columns, reading)
        covariates, wrong = covariates_in(frame, columns, reading)
        reasons = [next(filter(None, found), "") for found in zip(texts.reasons, unclear, wrong, strict=True)]
        valid = np.array([not reason for reason in reasons], dtype=bool)
        if len(known) > MOST_KNOWN:
            known = Known()
        inputs: Sequence[Any] = texts.sentences
        if reading.by_field:
            inputs = [(*answer, *more) for answer, more in zip(texts.answers, covariates, strict=True)]
        those = [inputs[row] for row in np.flatnonzero(valid).tolist()]
        numbers, new = known.meet(those, manages[valid])
        stored = parts.read(number, len(frame))
        to_code = [] if stored else [those[row] for row in new]
        yield Chunk(frame, reasons, manages[valid][new], known, numbers, new, to_code, stored, number)


def _with_batches(
    chunks: Generator[Chunk, None, None], coder: AnyCoder, explainer: Explainer | None
) -> Generator[tuple[Chunk, Any, Near | None], None, None]:
    """Yield each chunk with the batches of its new texts and their explanation."""
    with closing(chunks):
        for chunk in chunks:
            yield chunk, coder.ready(chunk.texts), explainer.near(chunk.texts) if explainer else None


def _coded(chunk: Chunk, ready: Any, near: Near | None, coder: AnyCoder, decider: Decider, parts: Parts) -> Coded:
    """Code a chunk's new texts, store its coded rows, and return them."""
    invalid = np.array([bool(reason) for reason in chunk.reasons], dtype=bool)
    if chunk.stored:
        chunk.known.add(chunk.stored.take(np.flatnonzero(~invalid)[chunk.new]))
        return chunk.stored
    chunk.known.add(decider.coded(coder.probabilities(ready), chunk.manages, near))
    whole = chunk.known.take(chunk.numbers).with_invalid(invalid)
    parts.write(chunk.number, whole)
    return whole
