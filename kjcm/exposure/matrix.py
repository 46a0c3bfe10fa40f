"""Read a job-exposure matrix: the level of exposure to each agent in each occupation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kjcm.errors import CUT, ConfigError, KjcmError, some
from kjcm.files import require_file
from kjcm.read.cells import code_texts, tidy
from kjcm.read.columns import meant_columns
from kjcm.read.table import read_table

COLUMNS = ("code", "agent", "level")
PREVALENCE = "prevalence"
OWN, PARENT, ABSENT = range(3)  # where a code's exposure comes from: its row, the row of a group above, or none


@dataclass(frozen=True)
class Exposures:
    """The matrix's rows of some codes.

    Attributes:
        level: [codes, agents]; where `absent`, 0 with `unexposed`, else nan.
        prevalence: [codes, agents]; all nan if the matrix has none.
        from_parent: [codes, agents], whether the row is that of a group above.
        absent: [codes, agents], whether the matrix has no row for the code or a group above it.
    """

    level: NDArray[np.float64]
    prevalence: NDArray[np.float64]
    from_parent: NDArray[np.bool_]
    absent: NDArray[np.bool_]


@dataclass(frozen=True)
class Matrix:
    """A job-exposure matrix.

    Attributes:
        name: its file, for messages.
        agents: the agents, in the order of the file.
        cells: agent -> code -> level and prevalence (nan without one).
        has_prevalence: whether it has that column.
        unexposed: whether a code without a row has level 0 instead of none.
        empty: number of its rows without a level, which are left out.
    """

    name: str
    agents: tuple[str, ...]
    cells: Mapping[str, Mapping[str, tuple[float, float]]]
    has_prevalence: bool
    unexposed: bool = False
    empty: int = 0
    _found: dict[str, list[tuple[float, float, int]]] = field(default_factory=dict, repr=False)

    @property
    def codes(self) -> set[str]:
        """Return the codes."""
        return set().union(*self.cells.values())

    def of(self, codes: Sequence[str]) -> Exposures:
        """Return the exposures of codes."""
        for code in codes:
            if code not in self._found:
                self._found[code] = [self._cell(code, agent) for agent in self.agents]
        found = np.array([self._found[code] for code in codes], np.float64).reshape(len(codes), len(self.agents), 3)
        return Exposures(found[..., 0], found[..., 1], found[..., 2] == PARENT, found[..., 2] == ABSENT)

    def _cell(self, code: str, agent: str) -> tuple[float, float, int]:
        """Return level and prevalence of a code, or of the longest beginning of it that has a row; and which of them."""
        own = self.cells[agent]
        row = next((code[:end] for end in range(len(code), 0, -1) if code[:end] in own), None)
        if row is None:
            return (0.0, 0.0, ABSENT) if self.unexposed else (np.nan, np.nan, ABSENT)
        return (*own[row], OWN if row == code else PARENT)


def read_matrix(path: str | Path, categories: Sequence[str] | None, *, unexposed: bool) -> Matrix:
    """Read a matrix: columns code, agent, level and perhaps prevalence.

    Args:
        path: CSV, TSV, XLSX or another table.
        categories: levels in words, lowest first, which count 0, 1, 2, ...; None: levels are numbers.
        unexposed: whether a code without a row has level 0.

    Raises:
        ConfigError: two categories are equal.
        KjcmError: the file is not usable, a column or an agent is missing, a level is no number or category, a prevalence is
            not between 0 and 1, two columns are named prevalence, or two rows of a code and agent differ.
    """
    source = require_file(Path(path).expanduser(), "matrix")
    frame = read_table(source)
    remedy = "A matrix has the columns code, agent, level and, if known, prevalence."
    names = meant_columns(frame.columns, dict(zip(COLUMNS, COLUMNS, strict=True)), str(source), remedy)
    codes, agents, texts = ([tidy(cell) for cell in code_texts(frame[names[name]])] for name in COLUMNS)
    for name, cells in (("code", codes), ("agent", agents)):
        _require(source, frame[names[name]], cells, [cell != "" for cell in cells], "is empty. Fill it in")
    levels = _levels(source, frame[names["level"]], texts, categories)
    shares = np.full(len(frame), np.nan)
    shared = [name for name in frame.columns if tidy(str(name)).lower() == PREVALENCE]
    if len(shared) > 1:
        raise KjcmError(f"{source}: several columns are named {some(shared)}. Keep one.")
    if shared:
        cells = [tidy(cell) for cell in code_texts(frame[shared[0]])]
        shares = pd.to_numeric(pd.Series(cells, dtype=object), errors="coerce").to_numpy(np.float64)
        fine = [text == "" or 0 <= share <= 1 for text, share in zip(texts, shares, strict=True)]
        _require(source, frame[shared[0]], cells, fine, "is not between 0 and 1. Give the share of exposed workers")
    found: dict[str, dict[str, tuple[float, float]]] = {agent: {} for agent in agents}
    filled = [text != "" for text in texts]
    rows = zip(codes, agents, levels.tolist(), shares.tolist(), filled, strict=True)
    for number, (code, agent, level, share, has_level) in enumerate(rows, 1):
        before = found[agent].get(code)
        if has_level and before is not None and not np.array_equal(before, (level, share), equal_nan=True):
            raise KjcmError(
                f"{source}, data row {number:,}: code {code[:CUT]!r} and agent {agent[:CUT]!r} occur before with another "
                "level or prevalence. Keep one row for each pair."
            )
        if has_level:
            found[agent][code] = level, share
    if not any(found.values()):
        raise KjcmError(f"{source}: has no row with a level. Give the level of each code and agent.")
    return Matrix(str(source), tuple(found), found, bool(shared), unexposed, filled.count(False))


def _levels(
    source: Path, column: pd.Series, cells: Sequence[str], categories: Sequence[str] | None
) -> NDArray[np.float64]:
    """Return the levels as numbers: [rows], nan for empty cells."""
    if categories is None:
        values = pd.to_numeric(pd.Series(cells, dtype=object), errors="coerce").to_numpy(np.float64)
        fine = [cell == "" or bool(np.isfinite(value)) for cell, value in zip(cells, values, strict=True)]
        remedy = "is not a number. For levels in words, give their order: categories=[none,low,high]"
        _require(source, column, cells, fine, remedy)
        return values
    order = {tidy(str(name)): float(place) for place, name in enumerate(categories)}
    if len(order) < len(categories):
        raise ConfigError(f"categories={categories}: name each category once.")
    fine = [cell == "" or cell in order for cell in cells]
    _require(source, column, cells, fine, f"is none of the categories {some(order)}. Add it to categories")
    return np.array([order.get(cell, np.nan) for cell in cells])


def _require(source: Path, column: pd.Series, cells: Sequence[str], fine: Sequence[bool], fault: str) -> None:
    """Raise KjcmError about the first cell that is not fine."""
    if not all(fine):
        row = list(fine).index(False)
        raise KjcmError(f"{source}, column {column.name!r}, data row {row + 1:,}: {cells[row][:CUT]!r} {fault}.")
