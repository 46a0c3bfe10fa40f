"""Tables written in chunks, in the kind that a path's ending names."""

import math
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell
from openpyxl.cell.cell import ERROR_CODES, ILLEGAL_CHARACTERS_RE, TIME_TYPES

from kjcm.errors import CUT, KjcmError, first_line
from kjcm.read.cells import code_text
from kjcm.read.labelled import EXACT, read_labelled
from kjcm.read.options import PLAIN, ReadOptions
from kjcm.read.table import read_chunks
from kjcm.read.text import SEPARATORS

EXCEL_ROWS, EXCEL_LETTERS, EXCEL_DIGITS = 1_048_575, 32_767, 10**15  # rows below the header; letters of a cell
LABELLED = (".sav", ".dta")
STREAMED = (*SEPARATORS, ".parquet")
OUTPUTS = (".csv", ".tsv", ".parquet", ".xlsx", *LABELLED)


def require_fits(source: Path, target: Path, options: ReadOptions = PLAIN) -> None:
    """Raise KjcmError if the rows of a file are more than the target's kind holds, before they have cost anything."""
    if target.suffix.lower() == ".xlsx" != source.suffix.lower():
        rows = sum(len(frame) for frame in read_chunks(source, 1 << 16, options))
        if rows > EXCEL_ROWS:
            raise KjcmError(
                f"{source}: has {rows:,} rows, and a worksheet holds {EXCEL_ROWS:,}. Write .csv, .tsv or .parquet."
            )


class Writer(Protocol):
    """Takes frames one after another."""

    def write(self, frame: pd.DataFrame) -> None:
        """Add rows."""

    def close(self) -> None:
        """Finish the file."""

    def abandon(self) -> None:
        """Let go of the file, finished or not."""


class _TextWriter:
    def __init__(self, path: Path, rounded: Collection[str]) -> None:
        self.stream = path.open("wb")
        self.separator, self.header, self.rounded = SEPARATORS[path.suffix.lower()], True, rounded

    def write(self, frame: pd.DataFrame) -> None:
        import pyarrow.compute as pc

        if self.header:  # spreadsheet programs want the BOM for Hangul
            frame[:0].to_csv(self.stream, sep=self.separator, index=False, encoding="utf-8-sig")
            self.header = False
        if len(frame):
            cells = [
                _rounded(frame[name]) if name in self.rounded else _shown(frame[name], self.separator) for name in frame
            ]
            lines = pc.binary_join_element_wise(*cells, self.separator)
            self.stream.write(_bytes(pc.binary_join_element_wise(lines, "", "\n")))

    def close(self) -> None:
        self.stream.close()

    def abandon(self) -> None:
        self.stream.close()


def _bytes(texts: Any) -> memoryview:
    """Return the bytes of an Arrow array of texts, one after another."""
    import pyarrow as pa

    whole = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    offsets = np.frombuffer(whole.buffers()[1], np.int32)[whole.offset : whole.offset + len(whole) + 1]
    return memoryview(whole.buffers()[2])[offsets[0] : offsets[-1]]


def _rounded(column: pd.Series) -> Any:
    """Return an Arrow array of probabilities with six digits; of a missing one nothing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    values = column.to_numpy(np.float64, na_value=np.nan)
    missing = np.isnan(values)
    millionths = np.rint(np.where(missing, 0, values) * 1e6).astype(np.int64)  # exact: float32 has few enough digits
    digits = pc.utf8_lpad(pc.cast(pa.array(millionths), pa.string()), 7, "0")
    shown = pc.binary_join_element_wise(
        pc.utf8_slice_codeunits(digits, 0, -6), pc.utf8_slice_codeunits(digits, -6), "."
    )
    return pc.if_else(pa.array(missing), "", shown)


def _shown(column: pd.Series, separator: str) -> Any:
    """Return an Arrow array of a column's cells as a text file has them: as pandas writes them, in about half the time."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.dtype.kind in "biufcmM":  # numbers, dates
        lines = column.to_csv(index=False, header=False).splitlines()
        return pa.array(["" if line == '""' else line for line in lines], pa.string())  # a missing one is quoted
    if not isinstance(column.dtype, pd.StringDtype):
        column = column.astype(object).map(str, na_action="ignore")
    cells = pa.array(column, pa.string(), from_pandas=True).fill_null("")
    special = pc.match_substring_regex(cells, f'["{separator}\r\n]')
    if not pc.any(special).as_py():
        return cells
    quoted = pc.binary_join_element_wise('"', pc.replace_substring(cells, '"', '""'), '"', "")
    return pc.if_else(special, quoted, cells)


class _ParquetWriter:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: Any = None
        self.schema: Any = None

    def write(self, frame: pd.DataFrame) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.Table.from_pandas(frame, schema=self.schema, preserve_index=False)
        if self.file is None:
            self.schema = _without_null_types(table.schema)
            table = table.cast(self.schema)
            self.file = pq.ParquetWriter(self.path, self.schema, compression="zstd")
        self.file.write_table(table)

    def close(self) -> None:
        self.abandon()

    def abandon(self) -> None:
        if self.file is not None:
            self.file.close()


class _WholeWriter:
    """Keeps all frames until the file is written."""

    def __init__(self, path: Path) -> None:
        self.path, self.frames = path, list[pd.DataFrame]()

    def write(self, frame: pd.DataFrame) -> None:
        self.frames.append(frame)

    def abandon(self) -> None:
        self.frames.clear()


class _WholeParquetWriter(_WholeWriter):
    """For worksheets and the like, where only all cells of a column tell its type."""

    def close(self) -> None:
        file = _ParquetWriter(self.path)
        file.write(pd.concat(self.frames).apply(_of_one_type))
        file.close()


def _of_one_type(column: pd.Series) -> pd.Series:
    """Return a column of cells of several types (as a worksheet may have them) as numbers, or else as text."""
    kinds = {type(cell) for cell in column.dropna()} if column.dtype == object else set()
    if len(kinds) < 2:
        return column
    return pd.to_numeric(column) if kinds == {int, float} else column.map(_text, na_action="ignore")


def _text(cell: object) -> str:
    """Return a cell as text, what is text as it stands."""
    return cell if isinstance(cell, str) else code_text(cell)


class _ExcelWriter:
    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, 0
        self.book = Workbook(write_only=True)
        self.sheet = self.book.create_sheet("Sheet1")

    def write(self, frame: pd.DataFrame) -> None:
        if not self.rows:
            self.sheet.append([self._cell(name, "its header", 0) for name in frame])
        columns = [[self._cell(cell, name, row) for row, cell in enumerate(frame[name].tolist(), 1)] for name in frame]
        for cells in zip(*columns, strict=True):
            self.sheet.append(cells)
        self.rows += len(frame)

    def _cell(self, value: Any, name: object, row: int) -> Any:
        """Return what a worksheet has of a value: numbers and dates as they are if it can hold them, all else as text."""
        if code_text(value) == "":
            return value if isinstance(value, str) else None
        if isinstance(value, TIME_TYPES) and getattr(value, "tzinfo", None) is None:
            return value
        if isinstance(value, bool) or (isinstance(value, int) and abs(value) < EXCEL_DIGITS):
            return value
        if isinstance(value, float) and math.isfinite(value):
            return value
        text = ILLEGAL_CHARACTERS_RE.sub("", str(value))  # a worksheet cannot hold control characters
        if len(text) > EXCEL_LETTERS:
            raise KjcmError(
                f"column {name!r}, data row {self.rows + row:,}: {text[:CUT]!r}... has {len(text):,} characters, and a cell of "
                f"a worksheet holds {EXCEL_LETTERS:,}. Write .csv or .parquet."
            )
        if not text.startswith("=") and text not in ERROR_CODES:
            return text
        cell = WriteOnlyCell(self.sheet, text)  # what looks like a formula is none
        cell.data_type = "s"
        return cell

    def close(self) -> None:
        self.book.save(self.path)

    def abandon(self) -> None:
        if not self.sheet.closed:
            self.sheet.close()  # else its rows are written when they are collected, and complain


def _without_null_types(schema: Any) -> Any:
    """Give a column that is empty in the first chunk a type that later chunks can fill."""
    import pyarrow as pa

    fields = [field.with_type(pa.string()) if pa.types.is_null(field.type) else field for field in schema]
    return pa.schema(fields, metadata=schema.metadata)


class _LabelledWriter(_WholeWriter):
    """SPSS or Stata; what the input has stays as it is there, labels and missing values too, if it is of such a kind."""

    def __init__(self, path: Path, source: Path | None, options: ReadOptions) -> None:
        super().__init__(path)
        self.options = options
        self.source = source if source and source.suffix.lower() in (*LABELLED, ".zsav") else None

    def write(self, frame: pd.DataFrame) -> None:
        if not self.frames:
            self._save(frame[:0].apply(_as_labelled), {})  # names that the kind does not allow are found at once
        super().write(frame)

    def close(self) -> None:
        frame, about = pd.concat(self.frames, ignore_index=True), dict[str, Any]()
        own = pd.DataFrame(index=frame.index)
        if self.source:
            ending = self.source.suffix.lower().replace(".zsav", ".sav")
            same = ending == self.path.suffix.lower()  # neither can hold the missing values of the other
            own, found = read_labelled(self.source, self.options, user_missing=same)
            about = {
                "column_labels": found.column_names_to_labels,
                "variable_value_labels": found.variable_value_labels,
            }
            if same and ending == ".sav":
                about["missing_ranges"], about["variable_measure"] = found.missing_ranges, found.variable_measure
                about["variable_format"] = found.original_variable_types
            elif same:
                about["missing_user_values"] = found.missing_user_values
        added = frame[[name for name in frame if name not in own]].apply(_as_labelled)
        self._save(pd.concat([own, added], axis=1), about)

    def _save(self, frame: pd.DataFrame, about: dict[str, Any]) -> None:
        import pyreadstat

        try:
            if self.path.suffix.lower() == ".sav":
                pyreadstat.write_sav(frame, str(self.path), **about)
            else:
                pyreadstat.write_dta(frame, str(self.path), version=15, **about)
        except Exception as error:  # names of columns that the kind does not allow, texts too long: each in its own way
            raise KjcmError(
                f"{self.path.suffix[1:].upper()} cannot hold this table ({first_line(error)}). Write .csv or .parquet."
            ) from None


def _as_labelled(column: pd.Series) -> pd.Series:
    """Return a column as SPSS and Stata can hold it: decimals, times, or text."""
    types = pd.api.types
    if types.is_datetime64_dtype(column.dtype):
        return column
    numbers = types.is_numeric_dtype(column.dtype) and not types.is_bool_dtype(column.dtype)
    if numbers and not (types.is_integer_dtype(column.dtype) and (column.abs() > EXACT).any()):
        return column.astype("float64")
    return column.map(_text).astype(object)


@contextmanager
def writer(
    path: Path, source: Path | None = None, rounded: Collection[str] = (), options: ReadOptions = PLAIN
) -> Iterator[Writer]:
    """Give the writer of the kind that the path's ending names; after an error the file holds some of the rows, or none.

    Args:
        path: what to write.
        source: the file that the rows come from: all of them, in its order, with its columns.
        rounded: columns of which a text file shows six decimals.
        options: how the source is read.

    Raises:
        KjcmError: the kind cannot hold the table.
    """
    if source is not None:
        require_fits(source, path, options)
    streamed = source is None or source.suffix.lower() in STREAMED
    kinds: dict[str, Callable[[], Writer]] = {
        ".parquet": lambda: _ParquetWriter(path) if streamed else _WholeParquetWriter(path),
        ".xlsx": lambda: _ExcelWriter(path),
        ".sav": lambda: _LabelledWriter(path, source, options),
        ".dta": lambda: _LabelledWriter(path, source, options),
    }
    made = kinds.get(path.suffix.lower(), lambda: _TextWriter(path, rounded))()
    try:
        yield made
        made.close()
    finally:
        made.abandon()
