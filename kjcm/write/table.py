"""Write tables in chunks, in the kind of a path's ending."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from kjcm.errors import ConfigError, KjcmError
from kjcm.files import require_no_input
from kjcm.read.excel import sheet_title
from kjcm.read.options import PLAIN, ReadOptions
from kjcm.read.parquet import parquet_rows
from kjcm.read.table import STREAMED, read_chunks, read_table
from kjcm.read.text import line_count
from kjcm.write.cells import as_text
from kjcm.write.excel import EXCEL_ROWS, ExcelWriter, require_worksheet
from kjcm.write.labelled import LABELLED, require_labelled, write_labelled
from kjcm.write.text import TextWriter

OUTPUTS = (".csv", ".tsv", ".parquet", ".xlsx", *LABELLED)
CHUNK = 1 << 16


@dataclass(frozen=True)
class Added:
    """The columns that a command adds to its input's columns.

    Attributes:
        labels: column -> label, for SPSS and Stata.
        rounded: columns with six decimals in a text file.
    """

    labels: Mapping[str, str] = field(default_factory=dict)
    rounded: Collection[str] = ()


@dataclass(frozen=True)
class Input:
    """A file to read, whose rows the target's kind can store.

    Attributes:
        rows: number of rows; for CSV and TSV the number of line ends outside quotes.
        chunks: its rows as frames.
    """

    rows: int
    chunks: Iterator[pd.DataFrame]


def target_of(output: str, inputs: Iterable[str | Path | None], *, overwrite: bool) -> Path:
    """Return the path of an output whose record is next to it; inputs: what the command reads.

    Raises:
        ConfigError: its kind is unknown, or it would replace an input.
        KjcmError: the output or its record exists.
    """
    target = Path(output).expanduser()
    if target.suffix.lower() not in OUTPUTS:
        raise ConfigError(f"output={target}: write one of {', '.join(OUTPUTS)}.")
    require_no_input(target, inputs)
    for file in (target, Path(f"{target}.json")):
        if file.exists() and not overwrite:
            raise KjcmError(f"{file} exists. Choose another output, or add overwrite=true.")
    return target


def open_input(
    source: Path,
    target: Path,
    added: Collection[str],
    rows: int,
    options: ReadOptions = PLAIN,
    check: Callable[[pd.DataFrame], None] = lambda frame: None,
) -> Input:
    """Open a file for reading in frames of at most `rows` rows.

    Args:
        source: the file.
        target: what will be written.
        added: columns that will be added.
        rows: of a frame.
        options: how the file is read.
        check: called once, with the first frame, which is the whole table for kinds that are read whole.

    Raises:
        KjcmError: the file is not readable, or the target's kind cannot store its rows.
    """
    ending = source.suffix.lower()
    if ending not in STREAMED:
        table = read_table(source, options)
        check(table)
        count = _require_fits(source, target, added, [table], options)
        return Input(count, (table.iloc[begin : begin + rows] for begin in range(0, max(count, 1), rows)))
    if target.suffix.lower() in (".xlsx", *LABELLED):
        count = _require_fits(source, target, added, read_chunks(source, CHUNK, options), options)
    else:
        count = parquet_rows(source) if ending == ".parquet" else line_count(source)
    return Input(count, read_chunks(source, rows, options, check))


def _require_fits(
    source: Path, target: Path, added: Collection[str], frames: Iterable[pd.DataFrame], options: ReadOptions
) -> int:
    """Return a file's number of rows; raise KjcmError if the target's kind cannot store them."""
    kind, ending, rows = target.suffix.lower(), source.suffix.lower(), 0
    for frame in frames:
        if kind in LABELLED:
            require_labelled(source, frame, added, kind, options)
        elif kind == ".xlsx" != ending:
            require_worksheet(source, frame, rows + 1)
        rows += len(frame)
    if kind == ".xlsx" and rows > EXCEL_ROWS:
        raise KjcmError(
            f"{source}: has {rows:,} rows; a worksheet can hold {EXCEL_ROWS:,}. Write .csv, .tsv or .parquet."
        )
    return rows


class Writer(Protocol):
    """The interface of writers, which take frames one by one."""

    def write(self, frame: pd.DataFrame) -> None:
        """Add rows."""

    def close(self) -> None:
        """Finish the file."""

    def abandon(self) -> None:
        """Close the file, finished or not."""


class _ParquetWriter:
    """Writes Arrow's types without pandas' metadata, which pandas cannot read for some types."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: Any = None
        self.schema: Any = None

    def write(self, frame: pd.DataFrame) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.Table.from_pandas(frame, schema=self.schema, preserve_index=False)
        if self.file is None:
            self.schema = table.schema.remove_metadata()
            self.file = pq.ParquetWriter(self.path, self.schema, compression="zstd")
        self.file.write_table(table.cast(self.schema))

    def close(self) -> None:
        self.file.close()

    def abandon(self) -> None:
        if self.file is not None and self.file.is_open:
            try:
                self.file.close()
            except OSError:  # it was raised already
                self.file.is_open = False


class _WholeWriter:
    """Collects all frames, and passes them to `save` as one frame."""

    def __init__(self, save: Callable[[pd.DataFrame], None]) -> None:
        self.save, self.frames = save, list[pd.DataFrame]()

    def write(self, frame: pd.DataFrame) -> None:
        self.frames.append(frame)

    def close(self) -> None:
        self.save(pd.concat(self.frames, ignore_index=True))

    def abandon(self) -> None:
        self.frames.clear()


def _save_parquet(path: Path, frame: pd.DataFrame) -> None:
    """Write a table whose column types need all cells, such as a worksheet's."""
    file = _ParquetWriter(path)
    try:
        file.write(frame.apply(_of_one_type))
        file.close()
    finally:
        file.abandon()


def _of_one_type(column: pd.Series) -> pd.Series:
    """Return a column with several types of cells, as in a worksheet, as numbers or else as text."""
    kinds = {type(cell) for cell in column.dropna()} if column.dtype == object else set()
    if len(kinds) < 2:
        return column
    return pd.to_numeric(column) if kinds == {int, float} else column.map(as_text, na_action="ignore")


@contextmanager
def writer(
    path: Path,
    source: Path | None = None,
    added: Added = Added(),
    formulas: str = "own",
    options: ReadOptions = PLAIN,
) -> Iterator[Writer]:
    """Yield the writer for a path's ending; after an error the file is incomplete or empty.

    Args:
        path: what to write.
        source: the file with exactly these rows in the same order, and with the first columns.
        added: the columns that are added.
        formulas: cells of CSV and TSV that must not run as formulas: 'own' (the added columns), 'all' or 'keep' (none).
        options: how the source is read.
    """
    streamed = source is None or source.suffix.lower() in STREAMED
    title = sheet_title(source, options) if source and source.suffix.lower() == ".xlsx" else "Sheet1"
    guarded = {"own": added.labels, "all": None, "keep": ()}[formulas]
    labelled = lambda: _WholeWriter(lambda frame: write_labelled(path, frame, source, added.labels, options))  # noqa: E731
    kinds: dict[str, Callable[[], Writer]] = {
        ".parquet": lambda: (
            _ParquetWriter(path) if streamed else _WholeWriter(lambda frame: _save_parquet(path, frame))
        ),
        ".xlsx": lambda: ExcelWriter(path, title),
        **dict.fromkeys(LABELLED, labelled),
    }
    made = kinds.get(path.suffix.lower(), lambda: TextWriter(path, added.rounded, guarded))()
    try:
        yield made
        made.close()
    finally:
        made.abandon()
