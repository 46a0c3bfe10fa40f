"""Read the exposures of two codings, and match their rows."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kjcm.coding.distributions import DistributionReader
from kjcm.errors import KjcmError, counted, some
from kjcm.exposure.matrix import Matrix
from kjcm.exposure.record import SHOWN, Totals
from kjcm.exposure.rows import agent_rows
from kjcm.read.cells import code_texts, tidy
from kjcm.read.options import ReadOptions
from kjcm.read.table import table_columns

log = logging.getLogger("kjcm")


@dataclass(frozen=True)
class Coding:
    """A coding's exposures.

    Attributes:
        source: the file.
        levels: [rows, agents], of each row's most likely code; nan without one.
        ids: [rows], None if rows are matched by their order.
    """

    source: Path
    levels: NDArray[np.float64]
    ids: list[str] | None


def exposures_of(
    source: Path,
    frames: Iterable[pd.DataFrame],
    matrix: Matrix,
    options: ReadOptions,
    code: str | None,
    id_column: str | None,
    settled: str,
    key: str,
) -> Coding:
    """Return the exposures of a file's rows; arguments as in `DistributionReader`.

    Raises:
        KjcmError: a column is missing, ids are empty or not unique, or hardly any code is in the matrix.
    """
    reader, totals, generator = None, Totals(matrix), np.random.default_rng(0)
    parts: list[NDArray[np.float64]] = []
    ids: list[str] = []
    for frame in frames:
        reader = reader or DistributionReader(source, frame.columns, options, code, settled, key)
        rows = reader.read(frame)
        found = list(agent_rows(rows, matrix, 0, generator))
        totals.add(rows, found)
        parts.append(np.stack([own.values["top"] for own in found], axis=1))
        if id_column:
            own = table_columns(str(source), frame.columns, {"id": id_column}, options, "Set columns.{role}=NAME.")
            ids += [tidy(cell) for cell in code_texts(frame[own["id"]])]
    totals.require_matches(source)
    if "" in ids:
        raise KjcmError(
            f"{source}, column {id_column!r}, data row {ids.index('') + 1:,}: is empty. Give each row an id."
        )
    if len(set(ids)) < len(ids):
        twice = sorted(name for name, number in Counter(ids).items() if number > 1)
        raise KjcmError(
            f"{source}, column {id_column!r}: ids occur more than once: {some(twice)}. Give each row its own id."
        )
    return Coding(source, np.concatenate(parts), ids if id_column else None)


def matched(one: Coding, two: Coding) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both codings' exposures in the order of the first: [rows, agents] each.

    Raises:
        KjcmError: the codings have other rows.
    """
    if one.ids is None or two.ids is None:
        if len(one.levels) != len(two.levels):
            raise KjcmError(
                f"{two.source}: has {counted(len(two.levels), 'row')}, {one.source} has {len(one.levels):,}. Give two codings "
                "of the same rows, or match them by columns.id=NAME."
            )
        return one.levels, two.levels
    place = {name: number for number, name in enumerate(two.ids)}
    if differing := sorted({*one.ids} ^ {*two.ids}):
        raise KjcmError(
            f"{two.source}: {counted(len(differing), 'id is', 'ids are')} in only one of the two files. Keep the rows that "
            "both have."
        )
    return one.levels, two.levels[[place[name] for name in one.ids]]


def log_agreement(lines: Sequence[Mapping[str, Any]], rows: str, target: Path) -> None:
    """Log each agent's agreement."""
    log.info("%s coded twice", rows)
    for line in lines[:SHOWN]:
        values = ", ".join(
            f"{label} {_value(line, name)}"
            for name, label in (("agreement", "agreement"), ("kappa", "kappa"), ("weighted_kappa", "weighted"))
        )
        log.info("%s: %s, %s", line["agent"], counted(line["rows"], "row"), values)
    log.info("agreement of %s: %s", counted(len(lines), "agent"), target)


def _value(line: Mapping[str, Any], name: str) -> str:
    """Return a statistic as text, with its interval if it has one."""
    value, low, high = (line[f"{name}{end}"] for end in ("", "_low", "_high"))
    if np.isnan(value):
        return "undefined"
    return f"{value:.3f}" if np.isnan(low) else f"{value:.3f} ({low:.3f} to {high:.3f})"
