"""Tables in chunks: read as a stream where the kind allows, and written in the kind that a path's ending names."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from kjcm.errors import KjcmError, first_line
from kjcm.files import SEPARATORS, code_text, read_table, text_chunks

EXCEL_ROWS = 1_048_575  # below the header
LABELLED = (".sav", ".dta")
OUTPUTS = (".csv", ".tsv", ".parquet", ".xlsx", *LABELLED)


def read_chunks(path: Path, rows: int) -> Iterator[pd.DataFrame]:
    """Yield a file in frames of at most `rows` rows: CSV, TSV and Parquet as a stream, other kinds read whole."""
    suffix = path.suffix.lower()
    if suffix in SEPARATORS:
        yield from text_chunks(path, rows)
    elif suffix == ".parquet":
        yield from _parquet_chunks(path, rows)
    else:
        table = read_table(path)
        yield from (table.iloc[begin : begin + rows] for begin in range(0, max(len(table), 1), rows))


def _parquet_chunks(path: Path, rows: int) -> Iterator[pd.DataFrame]:
    """Yield frames of Arrow types, in which whole numbers with gaps stay whole numbers."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=rows):
                yield batch.to_pandas(types_mapper=pd.ArrowDtype, ignore_metadata=True)  # an index is a column too
            if not file.metadata.num_rows:
                yield file.schema_arrow.empty_table().to_pandas(types_mapper=pd.ArrowDtype, ignore_metadata=True)
    except pa.ArrowInvalid as error:
        raise KjcmError(f"{path}: not a readable Parquet file ({first_line(error)}).") from None


class Writer(Protocol):
    """Takes frames one after another."""

    def write(self, frame: pd.DataFrame) -> None:
        """Add rows."""

    def close(self) -> None:
        """Finish the file."""

    def abandon(self) -> None:
        """Let go of the file, finished or not."""


class _TextWriter:
    def __init__(self, path: Path) -> None:
        self.stream = path.open("w", encoding="utf-8-sig", newline="")  # spreadsheet programs want the BOM for Hangul
        self.separator, self.header = SEPARATORS[path.suffix.lower()], True

    def write(self, frame: pd.DataFrame) -> None:
        import pyarrow.compute as pc

        if self.header:
            frame[:0].to_csv(self.stream, sep=self.separator, index=False)
            self.header = False
        if len(frame):
            lines = pc.binary_join_element_wise(
                *(_shown(frame[name], self.separator) for name in frame), self.separator
            )
            self.stream.write("\n".join(lines.to_pylist()) + "\n")

    def close(self) -> None:
        self.stream.close()

    def abandon(self) -> None:
        self.stream.close()


def _shown(column: pd.Series, separator: str) -> Any:
    """Return an Arrow array of a column's cells as a text file has them: as pandas writes them, in about half the time."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if str(column.name).startswith("prob_") and pd.api.types.is_float_dtype(column.dtype):
        column = column.map("{:.6f}".format, na_action="ignore")
    elif column.dtype.kind in "biufcmM":  # numbers, dates
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

        table = pa.Table.from_pandas(_of_one_type(frame), schema=self.schema, preserve_index=False)
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


class _ExcelWriter(_WholeWriter):
    def close(self) -> None:
        from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

        frame = pd.concat(self.frames)
        if len(frame) > EXCEL_ROWS:
            raise KjcmError(f"{len(frame):,} rows are more than a worksheet holds. Write .csv, .tsv or .parquet.")
        # a worksheet cannot hold control characters
        frame.map(lambda cell: ILLEGAL_CHARACTERS_RE.sub("", cell) if isinstance(cell, str) else cell).to_excel(
            self.path, index=False
        )


def _of_one_type(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with columns of numbers and words together (as a worksheet may have them) as text."""
    mixed = {
        str(name): frame[name].map(code_text, na_action="ignore")
        for name in frame
        if frame[name].dtype == object and len({type(cell) for cell in frame[name].dropna()}) > 1
    }
    return frame.assign(**mixed)


def _without_null_types(schema: Any) -> Any:
    """Give a column that is empty in the first chunk a type that later chunks can fill."""
    import pyarrow as pa

    fields = [field.with_type(pa.string()) if pa.types.is_null(field.type) else field for field in schema]
    return pa.schema(fields, metadata=schema.metadata)


class _LabelledWriter(_WholeWriter):
    """SPSS or Stata; labels and formats of the input's own columns are kept where it is of such a kind."""

    def __init__(self, path: Path, source: Path | None) -> None:
        super().__init__(path)
        self.source = source

    def close(self) -> None:
        import pyreadstat

        frame = pd.concat(self.frames)
        for name in frame:
            if pd.api.types.is_numeric_dtype(frame[name]) and not pd.api.types.is_bool_dtype(frame[name]):
                frame[name] = frame[name].astype("float64")
            else:
                frame[name] = frame[name].map(code_text)
        try:
            if self.path.suffix.lower() == ".sav":
                pyreadstat.write_sav(frame, str(self.path), **self._labels("variable_measure", "variable_format"))
            else:
                pyreadstat.write_dta(frame, str(self.path), version=15, **self._labels())
        except Exception as error:  # names of columns that the kind does not allow, texts too long: each in its own way
            raise KjcmError(
                f"{self.path.suffix[1:].upper()} cannot hold this table ({first_line(error)}). Write .csv or .parquet."
            ) from None

    def _labels(self, *more: str) -> dict[str, Any]:
        """Return the input's labels of columns and values, and `more` of what pyreadstat tells of its columns."""
        import pyreadstat

        if self.source is None or self.source.suffix.lower() not in (".sav", ".zsav", ".dta"):
            return {}
        reader = pyreadstat.read_dta if self.source.suffix.lower() == ".dta" else pyreadstat.read_sav
        about = reader(str(self.source), metadataonly=True)[1]
        found = {"column_labels": about.column_names_to_labels, "variable_value_labels": about.variable_value_labels}
        if self.source.suffix.lower() != ".dta":
            found |= {"variable_measure": about.variable_measure, "variable_format": about.original_variable_types}
        return {
            name: value for name, value in found.items() if name in ("column_labels", "variable_value_labels", *more)
        }


@contextmanager
def writer(path: Path, source: Path | None = None) -> Iterator[Writer]:
    """Give the writer of the kind that the path's ending names; after an error the file is not finished.

    Args:
        path: what to write.
        source: the file that the rows come from; SPSS and Stata files keep its labels.
    """
    kinds: dict[str, Callable[[], Writer]] = {
        ".parquet": lambda: _ParquetWriter(path),
        ".xlsx": lambda: _ExcelWriter(path),
        ".sav": lambda: _LabelledWriter(path, source),
        ".dta": lambda: _LabelledWriter(path, source),
    }
    made = kinds.get(path.suffix.lower(), lambda: _TextWriter(path))()
    try:
        yield made
        made.close()
    finally:
        made.abandon()
