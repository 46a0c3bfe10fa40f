"""Read tables of any common kind, whole or in chunks."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from kjcm.errors import KjcmError, first_line, some
from kjcm.files import require_file
from kjcm.read.columns import header_hint, meant_columns
from kjcm.read.excel import excel_grids, first_excel_rows, read_excel, worksheet_titles
from kjcm.read.labelled import SUFFIXES, read_whole
from kjcm.read.options import PLAIN, ReadOptions
from kjcm.read.parquet import parquet_chunks
from kjcm.read.text import SEPARATORS, first_text_rows, text_chunks, text_rows

STREAMED = (*SEPARATORS, ".parquet")
WHOLE: Mapping[str, Callable[[Path, ReadOptions], pd.DataFrame]] = {
    ".xlsx": read_excel,
    **dict.fromkeys(SUFFIXES, read_whole),
}
MAGIC = {  # first bytes of files of a kind
    b"PK\x03\x04": (".xlsx",),
    b"PAR1": (".parquet",),
    b"$FL2": (".sav",),
    b"$FL3": (".zsav", ".sav"),
    b"<stata_dta>": (".dta",),
}
OTHERS = {  # first bytes of files that kjcm cannot read
    b"\xd0\xcf\x11\xe0": "a workbook with a password, or of the old kind .xls. Save it as .xlsx without a password",
    b"\x1f\x8b": "compressed. Unpack it",
    b"%PDF": "a PDF. Save its table as CSV",
    b"{\\rtf": "a text document. Save its table as CSV",
}


def read_table(path: str | Path, options: ReadOptions = PLAIN) -> pd.DataFrame:
    """Read CSV, TSV, XLSX, Parquet, SPSS (.sav) or Stata (.dta); values, never value labels.

    Raises:
        KjcmError: the file is missing, unreadable or empty, or its kind is unknown.
    """
    return next(read_chunks(require_file(path), None, options))


def read_chunks(
    path: Path,
    rows: int | None,
    options: ReadOptions = PLAIN,
    check: Callable[[pd.DataFrame], None] = lambda frame: None,
) -> Iterator[pd.DataFrame]:
    """Yield a file in frames of at most `rows` rows (None: one): CSV, TSV and Parquet as a stream, other kinds read whole.

    Args:
        path: the file.
        rows: most rows of a frame.
        options: how it is read.
        check: called once, with the first frame, which is the whole table for kinds that are read whole.

    Raises:
        KjcmError: the file is unreadable or empty, or its kind is unknown.
    """
    suffix = path.suffix.lower()
    _require_kind(path, suffix)
    chunks = _chunks(path, suffix, rows, options)
    first = True
    while True:
        try:
            frame = next(chunks, None)
        except KjcmError:
            raise
        except Exception as error:  # each reader has its own exceptions; all mean a damaged file
            raise KjcmError(
                f"{path}: not a readable {suffix[1:].upper()} file ({type(error).__name__}: {first_line(error)})."
            ) from None
        if frame is None:
            return
        if first:
            check(frame)
        if first and suffix in WHOLE and rows:
            yield from (frame.iloc[begin : begin + rows] for begin in range(0, max(len(frame), 1), rows))
        else:
            yield frame
        first = False


def _chunks(path: Path, suffix: str, rows: int | None, options: ReadOptions) -> Iterator[pd.DataFrame]:
    if suffix in SEPARATORS:
        yield from text_chunks(path, rows, options)
    elif suffix == ".parquet":
        yield from parquet_chunks(path, rows)
    else:
        yield WHOLE[suffix](path, options)


def _require_kind(path: Path, suffix: str) -> None:
    """Raise KjcmError if a file's ending is unknown, or its content has another kind."""
    if suffix not in (*STREAMED, *WHOLE):
        kinds = " ".join([*STREAMED, *WHOLE])
        raise KjcmError(f"{path}: files of kind {suffix or '(none)'} cannot be read; the kinds are {kinds}.")
    with path.open("rb") as stream:
        begin = stream.read(16)
    for magic, what in OTHERS.items():
        if begin.startswith(magic):
            raise KjcmError(f"{path}: is {what}.")
    for magic, own in MAGIC.items():
        if begin.startswith(magic) and suffix not in own:
            raise KjcmError(f"{path}: its content is of kind {own[0]}, not {suffix}. Rename the file.")


def first_rows(path: Path, options: ReadOptions) -> list[list[Any]]:
    """Return the cells of a file's first rows, if another row than the first can be its header; else none."""
    suffix = path.suffix.lower()
    if suffix in SEPARATORS:
        return [list(row) for row in first_text_rows(path, options)]
    return first_excel_rows(path, options) if suffix == ".xlsx" else []


def read_grids(path: str | Path, options: ReadOptions = PLAIN) -> list[tuple[str, list[list[Any]]]]:
    """Return title and cells of an XLSX file's visible worksheets (or of the named one), or of a CSV or TSV file ('').

    Raises:
        KjcmError: the file is missing or unreadable, or has another kind.
    """
    path = require_file(path)
    suffix = path.suffix.lower()
    _require_kind(path, suffix)
    if suffix in SEPARATORS:
        return [("", [list(row) for row in text_rows(path, options)])]
    if suffix != ".xlsx":
        raise KjcmError(f"{path}: is no workbook. Give an .xlsx, .csv or .tsv file.")
    try:
        return excel_grids(path, options)
    except (KjcmError, MemoryError):
        raise
    except Exception as error:  # openpyxl has many exceptions; all mean a damaged file
        raise KjcmError(f"{path}: not a readable XLSX file ({type(error).__name__}: {first_line(error)}).") from None


def table_columns(
    path: str, columns: pd.Index, wanted: Mapping[str, str | None], options: ReadOptions | None, remedy: str
) -> dict[str, str]:
    """Return role -> column name in a survey file (see `meant_columns`).

    Args:
        path: the file, or what a table in memory is called.
        columns: all columns.
        wanted: role -> column; None: none.
        options: how the file is opened; None for a table in memory.
        remedy: for the message.

    Raises:
        KjcmError: a column is missing; the message names the row that looks like the header.
    """

    def hint() -> str:
        if options is None:
            return ""
        rows, names = first_rows(require_file(path), options), [str(name) for name in columns]
        used = next((number for number, row in enumerate(rows, 1) if [str(cell) for cell in row] == names), 0)
        found = header_hint(rows, used, options)
        if found or options.keys is None or options.sheet is not None or Path(path).suffix.lower() != ".xlsx":
            return found
        titles = worksheet_titles(require_file(path))
        return f" Its worksheets are {some(titles)}.{options.advice('sheet', 'NAME')}" if len(titles) > 1 else ""

    return meant_columns(columns, wanted, path, remedy, hint)
