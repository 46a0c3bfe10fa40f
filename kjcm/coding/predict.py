"""`kjcm predict`: a finished run codes a file, chunk by chunk; all columns and the row order stay.

A hidden folder next to the output stores each chunk's codes until the output is complete. After a kill the same command
resumes: it reads the input again and codes only the missing chunks.
"""

import logging
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from kjcm import __version__
from kjcm.coding.chunks import Store, code_shard, coded_chunks
from kjcm.coding.decisions import Decider
from kjcm.coding.ensemble import AnyCoder, coder_of, device_of, require_explainer
from kjcm.coding.parts import Merged, Parts, Shard, parts_of, shard_from, shard_parts, shards_of
from kjcm.coding.rows import Reading, needs_seen_levels, reads_answers, require_readable, require_seen_levels
from kjcm.coding.run_rules import basis_of, say, warn
from kjcm.engine.device import require_device
from kjcm.errors import ConfigError, KjcmError
from kjcm.files import digest, require_file, write_json
from kjcm.hub.models import model_folder
from kjcm.keys.coding import PredictConfig
from kjcm.keys.composition import typed
from kjcm.read.labelled import value_labels
from kjcm.read.options import PLAIN, read_options
from kjcm.read.table import read_chunks
from kjcm.records import read_json
from kjcm.run_folder.model_folder import Settings, load_settings
from kjcm.survey.covariates import roles_of
from kjcm.triage.rules import DECISIONS, VERSION, Options
from kjcm.write.table import OUTPUTS, Input, open_input, writer

# keys that coded rows depend on
KEYS = (
    "encoding", "sheet", "header_row", "top_k", "chunk_rows", "batch_size", "compile", "formulas", "triage", "levels", "explain",
    "unseen_levels",
)  # fmt: skip

EVERY = 30.0  # seconds between two lines off a terminal

log = logging.getLogger("kjcm")


def predict(cfg: DictConfig) -> None:
    """Write `input` with codes and decisions to `output`, and a record of model and rules to `output`.json.

    Raises:
        KjcmError: the run is not finished, the input is not usable, or the output exists.
    """
    began = time.perf_counter()
    config = typed(cfg, PredictConfig)
    require_device("accelerator", config.accelerator)
    folder, target = model_folder(config.run), Path(config.output).expanduser()
    if target.suffix.lower() not in OUTPUTS:
        raise ConfigError(f"output={target}: write one of {', '.join(OUTPUTS)}.")
    source = require_file(config.input, "input file")
    settings = load_settings(folder)
    columns = columns_of(settings, config)
    what = _what(folder, source, config, columns)
    coding = partial(_coding, config, folder, source, settings, columns)
    if config.shard:
        if config.merge:
            raise ConfigError("shard and merge: code the shards first, then merge them. Give one of the two.")
        return _code_shard(coding, target, shard_from(config.shard), what, overwrite=config.overwrite)
    if config.merge and not config.overwrite:
        Parts(target).require_unwritten()
    shards = shards_of(target, config.merge) if config.merge else []
    if shards:  # a machine without a GPU may merge what GPUs have coded
        what |= {name: read_json(shards[0].made_by)[name] for name in ("precision", "accelerator")}
        if not shards[0].is_of(what):
            raise KjcmError(
                f"merge={config.merge}: the shards have another input or other keys. Use the shards' command."
            )
    with parts_of(target, what, config.overwrite) as parts:
        if not parts.is_complete():  # else killed before output and note were in place
            record = _code(coding(), parts, Merged(shards) if shards else parts)
            record |= {"precision": what["precision"], "seconds_with_loading": round(time.perf_counter() - began, 3)}
            parts.finish({"run": config.run, **record, "made_by": what})
        record = parts.place()
    for shard in shards:
        shard.remove()
    _say(record, target)


def columns_of(settings: Settings, config: PredictConfig) -> dict[str, str | None]:
    """Return role -> column, with the run's own name for '@run'; manages only if the rule needs it."""
    found = {
        role: settings.columns.get(role) if name == "@run" else name for role, name in vars(config.columns).items()
    }
    if config.triage.managers != "column":
        found["manages"] = None
    elif found["manages"] is None:
        raise ConfigError("triage.managers=column needs columns.manages=NAME, a column of yes and no.")
    return found


def _what(folder: Path, source: Path, config: PredictConfig, columns: Mapping[str, str | None]) -> dict[str, Any]:
    """Return what coded rows depend on; stored chunks are reused only if all of it matches."""
    precision, gpu = device_of(folder, config.accelerator, config.precision, compiled=config.compile)
    return {
        "kjcm": __version__,
        "rules": VERSION,
        "input": digest(source),
        "model": digest(folder),
        "columns": dict(columns),
        "precision": precision,
        "accelerator": "gpu" if gpu else "cpu",
        **{key: value for key, value in asdict(config).items() if key in KEYS},
    }


@dataclass(frozen=True)
class _Coding:
    """The model, the rules and the input of a coding.

    Attributes:
        config: the keys.
        reading: how the rows are read.
        coder: the model.
        decider: makes the columns.
        outlook: the promises of the decisions.
        settings: of the model.
    """

    config: PredictConfig
    reading: Reading
    coder: AnyCoder
    decider: Decider
    outlook: dict[str, Any]
    settings: Settings

    @property
    def source(self) -> Path:
        return Path(self.reading.source)

    def input(self, target: Path) -> Input:
        """Open the file; raise KjcmError if it is not usable, or the target cannot store its rows."""
        check = partial(require_readable, reading=self.reading)
        options = self.reading.options or PLAIN
        return open_input(self.source, target, self.reading.added, self.config.chunk_rows, options, check)


def _coding(
    config: PredictConfig, folder: Path, source: Path, settings: Settings, columns: Mapping[str, str | None]
) -> _Coding:
    """Load the model and its rules, and check the file's covariates before any row is coded."""
    options = read_options(config, "", [source], {**columns, **roles_of(settings.covariates.kinds)})
    labels = value_labels(source, options)
    basis = basis_of(Options(**vars(config.triage)), folder, settings)
    triage = basis.triage()
    outlook = basis.outlook(triage)
    warn(outlook)
    how = (config.batch_size, config.accelerator, config.precision, triage.temperature)
    coder = coder_of(folder, *how, compiled=config.compile)
    explainer = require_explainer(coder) if config.explain else None
    decider = Decider(settings, triage, config.top_k, explainer, config.levels)
    reading = Reading(
        str(source), columns, config.triage.managers, settings.manager_words, list(decider.added.labels), labels, options,
        settings.wording, settings.covariates, reads_answers(settings), config.unseen_levels,
    )  # fmt: skip
    if needs_seen_levels(reading):
        for frame in read_chunks(source, config.chunk_rows, options):
            require_seen_levels(frame, reading)
    return _Coding(config, reading, coder, decider, outlook, settings)


def _code(coding: _Coding, parts: Parts, store: Store) -> dict[str, Any]:
    """Write the coded file and return its record; the store has the chunks."""
    begin, resumed = time.perf_counter(), 0
    counts = np.zeros(len(DECISIONS), np.int64)
    given, decider, formulas = coding.input(parts.target), coding.decider, coding.config.formulas
    with (
        closing(Progress(given.rows)) as progress,
        closing(coded_chunks(given.chunks, coding.reading, coding.coder, decider, store)) as chunks,
        parts.output() as file,
        writer(file, coding.source, decider.added, formulas, coding.reading.options or PLAIN) as out,
    ):
        for chunk in chunks:
            out.write(chunk.frame)
            resumed += len(chunk.frame) if chunk.stored else 0
            counts += np.bincount(chunk.decision, minlength=len(DECISIONS))
            progress.add(len(chunk.frame), coded=not chunk.stored)
    return {
        "classes_hash": coding.settings.classes_hash,
        "synthetic": coding.settings.synthetic,
        "rows": progress.done,
        "rows_resumed": resumed,
        "decisions": {name: int(count) for name, count in zip(DECISIONS, counts, strict=True)},
        "top_k": decider.top_k,
        "seconds": round(time.perf_counter() - begin, 3),
        "triage": coding.outlook,
    }


def _code_shard(
    coding: Callable[[], _Coding], target: Path, shard: Shard, what: Mapping[str, Any], *, overwrite: bool
) -> None:
    """Code the chunks of a shard, which wait next to the output for the merge."""
    with shard_parts(target, shard, what, overwrite) as parts:
        if not parts.about.is_file():
            made = coding()
            given = made.input(target)
            found = code_shard(given.chunks, made.reading, made.coder, made.decider, parts, shard)
            with closing(Progress(given.rows // shard.count)) as progress, closing(found) as chunks:
                for rows, stored in chunks:
                    progress.add(rows, coded=not stored)
            parts.require_held()
            write_json(parts.about, {"rows": progress.done})
        rows = read_json(parts.about, {"rows": int})["rows"]
    log.info(
        "shard %d of %d: %s rows coded. When all shards are done, run the same command with merge=%d.",
        shard.number, shard.count, f"{rows:,}", shard.count,
    )  # fmt: skip


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


class Progress:
    """Shows rows done, rows per second and time left: in one line on a terminal, else in a log line every 30 seconds.

    Args:
        total: approximate number of rows.
    """

    def __init__(self, total: int) -> None:
        self.total, self.done, self.new = total, 0, 0
        self.begin = self.said = time.monotonic()
        self.terminal = sys.stderr.isatty()

    def add(self, rows: int, coded: bool) -> None:
        """Count rows; `coded`: this process coded them, so they count for the time left."""
        self.done += rows
        self.new += rows * coded
        if self.terminal:
            print(f"\r\x1b[K{self}", end="", file=sys.stderr, flush=True)
        elif (now := time.monotonic()) - self.said >= EVERY:
            self.said = now
            log.info("%s", self)

    def close(self) -> None:
        """Clear the terminal line."""
        if self.terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def __str__(self) -> str:
        total, spent = max(self.total, self.done), time.monotonic() - self.begin
        shown = f"{self.done:,} of {total:,} rows"
        if not self.new:
            return shown
        left = round((total - self.done) * spent / self.new)
        minutes, seconds = divmod(left, 60)
        return (
            f"{shown}, {self.new / max(spent, 1e-3):,.0f} rows/s, {minutes // 60}:{minutes % 60:02}:{seconds:02} left"
        )
