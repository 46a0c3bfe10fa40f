"""The content of a report: estimates, tables and figures, independent of any file format."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from kjcm.metrics import metric_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

Kind = Literal["text", "code", "figure", "count", "percent", "share", "number", "value", "p"]
NOT_RUN = "not run"  # cell of a missing run


@dataclass(frozen=True)
class Estimate:
    """A figure with its uncertainty.

    Attributes:
        mean: mean over seeds.
        sd: standard deviation over seeds (ddof 1); None with one seed.
        low: lower end of the 95 % bootstrap interval over test rows; None without an interval.
        high: upper end of the interval.
    """

    mean: float
    sd: float | None = None
    low: float | None = None
    high: float | None = None


Value = str | int | float | Estimate | None


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: the heading.
        kind: the format of the values: count `1,234`; percent `84.44 %` for 0.8444; share `0.83`; number `39.1`;
            value `0.8312`; p `< 0.001`; text; code for a command; figure for a formatted number, aligned to the right.
    """

    name: str
    kind: Kind = "text"


def metric_column(name: str) -> Column:
    """Return the column of a metric."""
    metric = metric_of(name)
    return Column(metric.heading, metric.kind)


@dataclass(frozen=True)
class Table:
    """A table, row by row.

    Attributes:
        key: file name without ending, as `table_3`.
        title: title of the table.
        columns: columns.
        rows: one value per column; None is an empty cell, NOT_RUN a cell of a missing run.
        notes: sentences below the table.
        missing: label and command of each row that is not run.
        summary: text that the page shows until a reader opens the table; '' shows the table.
    """

    key: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]
    notes: tuple[str, ...] = ()
    missing: tuple[tuple[str, str], ...] = ()
    summary: str = ""

    @property
    def rows_run(self) -> tuple[tuple[Value, ...], ...]:
        """Rows of runs that exist."""
        return tuple(row for row in self.rows if NOT_RUN not in row[:2])


@dataclass(frozen=True)
class Figure:
    """A picture with the table of its numbers.

    Attributes:
        key: file name without ending, as `figure_2`.
        title: title of the picture.
        draw: draws the picture.
        alt: description for readers who cannot see the picture.
        data: every drawn number.
        notes: sentences below the picture.
        draw_narrow: draws the picture for a narrow screen; None: the wide picture scrolls sideways.
    """

    key: str
    title: str
    draw: "Callable[[], Canvas]"
    alt: str
    data: Table
    notes: tuple[str, ...] = ()
    draw_narrow: "Callable[[], Canvas] | None" = None
