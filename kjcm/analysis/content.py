"""What a report is made of: estimates, tables and figures, before any file format."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from kjcm.metrics import metric_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

Kind = Literal["text", "code", "figure", "count", "percent", "share", "number", "value", "p"]
NOT_RUN = "not run"  # what a cell of a run that is missing says


@dataclass(frozen=True)
class Estimate:
    """A figure with its uncertainty.

    Attributes:
        mean: over seeds.
        sd: standard deviation over seeds (ddof 1), None with one seed.
        low: lower end of the 95 % bootstrap interval over test rows, None where there is none.
        high: its upper end.
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
        name: its heading.
        kind: how its values are shown: count `1,234`; percent `84.44 %` of 0.8444; share `0.83`; number `39.1`;
            value `0.8312`; p `< 0.001`; text; code, a command; figure, a number formatted already, aligned as numbers are.
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
        key: its file name without ending, as `table_3`.
        title: what it shows.
        columns: its columns.
        rows: a value for each column; None is an empty cell, NOT_RUN one of a run that is missing.
        notes: sentences beneath it.
        missing: row label and the command that makes its run, for rows that are not run.
        summary: what the page shows in place of the table until a reader opens it; '' shows the table.
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
        """The rows without those of runs that are missing."""
        return tuple(row for row in self.rows if NOT_RUN not in row[:2])


@dataclass(frozen=True)
class Figure:
    """A picture with the table of what it shows.

    Attributes:
        key: its file name without ending, as `figure_2`.
        title: what it shows.
        draw: makes the picture anew.
        alt: what it says, in words, for those who cannot see it.
        data: every drawn number.
        notes: sentences beneath it.
        draw_narrow: makes it for a narrow screen; None: `draw`'s is shown there, and scrolls sideways.
    """

    key: str
    title: str
    draw: "Callable[[], Canvas]"
    alt: str
    data: Table
    notes: tuple[str, ...] = ()
    draw_narrow: "Callable[[], Canvas] | None" = None
