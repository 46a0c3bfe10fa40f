"""`kjcm expose`: a coded file's exposures by a job-exposure matrix, or the agreement of two codings in exposure."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from omegaconf import DictConfig

from kjcm.coding.distributions import DistributionReader, Distributions
from kjcm.errors import ConfigError, KjcmError, counted, some
from kjcm.exposure.agreement import NAMES, agreement
from kjcm.exposure.comparison import exposures_of, log_agreement, matched
from kjcm.exposure.matrix import Matrix, read_matrix
from kjcm.exposure.record import Totals, log_record
from kjcm.exposure.rows import AgentRows, agent_rows, measures
from kjcm.files import atomic, require_file, write_json
from kjcm.keys.commands.exposures import ExposeConfig
from kjcm.keys.composition import typed
from kjcm.read.options import PLAIN, ReadOptions, read_options
from kjcm.read.table import read_chunks, table_columns
from kjcm.write.excel import EXCEL_ROWS
from kjcm.write.table import Added, open_input, target_of, writer

CHUNK = 8192
HIDDEN = "mass_not_shown"
WITHOUT = "mass_without_data"


def expose(cfg: DictConfig) -> None:
    """Write `input` with its exposures to `output`, and a record of the counts to `output`.json.

    With `compare`, write how far both files agree in exposure instead.

    Raises:
        ConfigError: a key needs another.
        KjcmError: a file is not usable, or the output exists.
    """
    config = typed(cfg, ExposeConfig)
    target = target_of(config.output, [config.input, config.compare, config.jem], overwrite=config.overwrite)
    source = require_file(config.input, "input file")
    other = require_file(config.compare, "file to compare") if config.compare else None
    if other is not None and other.samefile(source) and config.columns.code == config.columns.compare:
        raise ConfigError(
            "compare: is the same coding as input. Set columns.compare=NAME to the other coding's column."
        )
    matrix = read_matrix(config.jem, config.categories, unexposed=config.absent == "unexposed")
    options = read_options(config, "", [source, other], {})
    made_of = {
        "input": str(source), "jem": matrix.name, "columns": dict(vars(config.columns)), "settled": config.settled,
        "categories": config.categories, "absent": config.absent,
    }  # fmt: skip
    if other is not None:
        _compare(source, other, target, matrix, config, options, made_of)
        return
    totals, whole = _write(source, target, matrix, config, options)
    record = {**made_of, "whole_distribution": whole, "draws": config.draws, "seed": config.seed, **totals.record()}
    write_json(Path(f"{target}.json"), record)
    log_record(record, matrix, whole=whole, target=target)


def _write(
    source: Path, target: Path, matrix: Matrix, config: ExposeConfig, options: ReadOptions
) -> tuple[Totals, bool]:
    """Write the exposures; return their sums, and whether the file has the probabilities of all classes."""
    wide = config.shape == "wide"
    added = _added(matrix, config.draws) if wide else _long_columns(matrix, config)
    totals, whole = Totals(matrix), False
    frames = (
        open_input(source, target, added.labels, CHUNK, options).chunks if wide else read_chunks(source, CHUNK, options)
    )
    generator = np.random.Generator(np.random.PCG64(config.seed))
    with (
        atomic(target, config.overwrite) as file,
        writer(file, source if wide else None, added, "own", options if wide else PLAIN) as out,
    ):
        reader = None
        for frame in frames:
            frame = frame.reset_index(drop=True)
            if reader is None:
                _require_new(source, frame, added, wide=wide)
                reader = DistributionReader(source, frame.columns, options, config.columns.code, config.settled)
                whole = reader.whole
            rows = reader.read(frame)
            found = list(agent_rows(rows, matrix, config.draws, generator))
            part = _wide(frame, rows, found, added) if wide else _long(frame, rows, found, matrix, config, totals.rows)
            _require_room(target, (totals.rows + len(frame)) * (1 if wide else len(matrix.agents)))
            out.write(part)
            totals.add(rows, found)
        totals.require_matches(source)
    return totals, whole


def _require_new(source: Path, frame: pd.DataFrame, added: Added, *, wide: bool) -> None:
    """Raise KjcmError if the file has a column that would be added."""
    if wide and (twice := [name for name in added.labels if name in frame]):
        raise KjcmError(f"{source}: already has columns {some(twice)}, which would be overwritten. Rename them.")


def _require_room(target: Path, rows: int) -> None:
    if target.suffix.lower() == ".xlsx" and rows > EXCEL_ROWS:
        raise KjcmError(f"{target}: a worksheet can hold {EXCEL_ROWS:,} rows. Write .csv, .tsv or .parquet.")


def _added(matrix: Matrix, draws: int) -> Added:
    """Return the columns that a wide file gets."""
    labels = {HIDDEN: "Probability of codes that are not shown"}
    names = measures(draws, prevalence=matrix.has_prevalence)
    for agent in matrix.agents:
        labels |= {f"{agent}_{name}": f"{agent}: {name}" for name in names}
        labels[f"{agent}_{WITHOUT}"] = f"{agent}: probability without exposure data"
    if len(labels) < 1 + len(matrix.agents) * (len(names) + 1):
        raise KjcmError(f"{matrix.name}: names of agents give equal columns. Rename an agent, or use shape=long.")
    return Added(labels, [name for name in labels if name.endswith(("_expected", HIDDEN, WITHOUT))])


def _wide(frame: pd.DataFrame, rows: Distributions, found: Sequence[AgentRows], added: Added) -> pd.DataFrame:
    """Return rows with a column for each agent and measure."""
    columns = [rows.hidden]
    for own in found:
        columns += [*own.values.values(), own.without_data]
    return pd.concat([frame, pd.DataFrame(dict(zip(added.labels, columns, strict=True)))], axis=1)


def _long_columns(matrix: Matrix, config: ExposeConfig) -> Added:
    """Return the columns of a long file."""
    own = [config.columns.id] if config.columns.id else []
    names = measures(config.draws, prevalence=matrix.has_prevalence)
    labels = dict.fromkeys(["row", *own, "agent", *names, HIDDEN, WITHOUT], "")
    if len(labels) < len(own) + len(names) + 4:
        raise ConfigError(f"columns.id={config.columns.id}: shape=long has a column of this name. Rename the file's.")
    return Added(labels, [name for name in labels if name.endswith(("expected", HIDDEN, WITHOUT))])


def _long(
    frame: pd.DataFrame,
    rows: Distributions,
    found: Sequence[AgentRows],
    matrix: Matrix,
    config: ExposeConfig,
    before: int,
) -> pd.DataFrame:
    """Return a line for each row and agent; before: number of rows of earlier frames."""
    count, agents = len(frame), len(matrix.agents)
    parts: dict[str, Any] = {"row": np.repeat(np.arange(before + 1, before + count + 1), agents)}
    if config.columns.id:
        own = table_columns(config.input, frame.columns, {"id": config.columns.id}, None, "Set columns.id=NAME.")
        parts[config.columns.id] = frame[own["id"]].repeat(agents).reset_index(drop=True)
    parts["agent"] = np.tile(np.array(matrix.agents, object), count)
    for name in measures(config.draws, prevalence=matrix.has_prevalence):
        parts[name] = _interleaved([each.values[name] for each in found])
    parts[HIDDEN] = np.repeat(rows.hidden, agents)
    parts[WITHOUT] = _interleaved([each.without_data for each in found])
    return pd.DataFrame(parts)


def _interleaved(columns: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the agents' columns [rows] as one, with the agents of a row together: [rows * agents]."""
    return np.stack(columns, axis=1).ravel()


def _frames(source: Path, options: ReadOptions) -> Iterator[pd.DataFrame]:
    yield from (frame.reset_index(drop=True) for frame in read_chunks(source, CHUNK, options))


def _compare(
    source: Path,
    other: Path,
    target: Path,
    matrix: Matrix,
    config: ExposeConfig,
    options: ReadOptions,
    made_of: dict[str, Any],
) -> None:
    """Write the agreement of two files in the exposure of each row's most likely code, a line for each agent."""
    columns = config.columns
    one, two = (
        exposures_of(file, _frames(file, options), matrix, options, code, columns.id, config.settled, key)
        for file, code, key in (
            (source, columns.code, "columns.code"),
            (other, columns.compare, "columns.compare"),
        )
    )
    pairs = matched(one, two)
    generator = np.random.Generator(np.random.PCG64(config.seed))
    lines = []
    for number, agent in enumerate(matrix.agents):
        found = agreement(pairs[0][:, number], pairs[1][:, number], config.replicates, generator)
        line: dict[str, Any] = {"agent": agent, "rows": found.rows}
        line |= {"rows_left_out": found.left_out, "levels": found.levels}
        for name in NAMES:
            line |= dict(zip((name, f"{name}_low", f"{name}_high"), found.values[name], strict=True))
        lines.append(line)
    table = pd.DataFrame(lines)
    names = list(map(str, table))
    added = Added(dict.fromkeys(names, ""), [name for name in names if name.startswith(NAMES)])
    with atomic(target, config.overwrite) as file, writer(file, None, added) as out:
        out.write(table)
    made_of |= {"compare": str(other), "rows": len(pairs[0]), "replicates": config.replicates, "seed": config.seed}
    write_json(Path(f"{target}.json"), made_of)
    log_agreement(lines, counted(len(pairs[0]), "row"), target)
