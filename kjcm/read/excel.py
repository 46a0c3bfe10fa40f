"""Read XLSX files."""

import re
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from kjcm.errors import KjcmError, some
from kjcm.read.cells import tidy
from kjcm.read.columns import FIRST_ROW, ROWS_SEEN, header_hint, header_names
from kjcm.read.options import PLAIN, ReadOptions

# an XLSX file that unpacks to more bytes than LARGE, and to more than DENSE times its size, is refused
LARGE, DENSE = 2**30, 100


def read_excel(path: Path, options: ReadOptions = PLAIN) -> pd.DataFrame:
    """Return a worksheet without its empty columns, with the values of formulas and with errors as missing.

    Raises:
        KjcmError: the worksheet is missing or empty, two columns have the same name, or a formula has no stored value.
    """
    with _worksheet(path, options) as sheet:
        rows = list(_rows(sheet))
        if _has_formulas(sheet):
            with _worksheet(path, replace(options, sheet=sheet.title), values=False) as formulas:
                _require_values(path, sheet, formulas)
    while rows and not _filled(rows[-1]):
        rows.pop()
    top = options.header_row or next((number for number, row in enumerate(rows, 1) if _filled(row)), 1)
    if len(rows) < top:
        raise KjcmError(
            f"{path}: the worksheet has no cells from row {top} on."
            if options.header_row
            else f"{path}: the file is empty."
        )
    places = sorted({place for row in rows[top - 1 :] for place, value in enumerate(row) if value is not None})
    cells = [[row[place] if place < len(row) else None for place in places] for row in rows[top - 1 :]]
    names = header_names(path, cells[0], lambda: header_hint(rows, top, options))
    frame = pd.DataFrame(cells[1:], columns=names, dtype=object)
    frame.attrs[FIRST_ROW] = top + 1
    return frame


def first_excel_rows(path: Path, options: ReadOptions) -> list[list[Any]]:
    """Return the cells of a worksheet's first rows."""
    with _worksheet(path, options) as sheet:
        return list(islice(_rows(sheet), ROWS_SEEN))


def worksheet_titles(path: Path) -> list[str]:
    """Return the titles of a file's worksheets."""
    with _worksheet(path, PLAIN) as sheet:
        return [one.title for one in sheet.parent.worksheets]


def excel_grids(path: Path, options: ReadOptions = PLAIN) -> list[tuple[str, list[list[Any]]]]:
    """Return title and cells of each visible worksheet, or of the named one; each cell of a merged range has its value.

    Raises:
        KjcmError: the named worksheet is missing, or a formula has no stored value.
    """
    found = []
    with _worksheets(path, options) as sheets:
        for sheet in sheets:
            rows = list(_rows(sheet))
            if _has_formulas(sheet):
                with _worksheet(path, replace(options, sheet=sheet.title), values=False) as formulas:
                    _require_values(path, sheet, formulas)
            _fill_merged(rows, sheet)
            found.append((str(sheet.title), rows))
    return found


def _fill_merged(rows: list[list[Any]], sheet: Any) -> None:
    """Give all cells of a merged range the value of its first cell, the only one that is stored."""
    from openpyxl.utils import range_boundaries

    with sheet.parent._archive.open(sheet._worksheet_path) as stream:
        ranges = re.findall(rb"""[<:]mergeCell\s[^>]*?ref=["']([A-Z0-9:]+)["']""", stream.read())
    width = max(map(len, rows), default=0)
    for one in ranges:
        left, top, right, bottom = range_boundaries(one.decode())
        for row in rows[top - 1 : bottom]:
            value = rows[top - 1][left - 1] if len(rows[top - 1]) >= left else None
            end = min(right, width)
            row += [None] * (end - len(row))
            row[left - 1 : end] = [value] * (end - left + 1)


def _has_formulas(sheet: Any) -> bool:
    """Return whether a worksheet's XML has a formula, without parsing it."""
    with sheet.parent._archive.open(sheet._worksheet_path) as stream:
        return re.search(rb"[<:]f[ />]", stream.read()) is not None  # some programs write <x:f>


def _require_values(path: Path, sheet: Any, formulas: Any) -> None:
    """Raise KjcmError if a formula was never computed: its cell would look empty."""
    for computed, written in zip(sheet.iter_rows(), formulas.iter_rows(), strict=False):
        for value, formula in zip(computed, written, strict=False):
            if formula.data_type == "f" and value.value is None and value.data_type == "n":
                raise KjcmError(
                    f"{path}, cell {formula.coordinate}: contains a formula without a stored value. Open the file in a "
                    "spreadsheet program and save it there."
                )


def sheet_title(path: Path, options: ReadOptions) -> str:
    """Return the name of the worksheet to read."""
    with _worksheet(path, options) as sheet:
        return str(sheet.title)


@contextmanager
def _worksheet(path: Path, options: ReadOptions, *, values: bool = True) -> Iterator[Any]:
    """Open the named worksheet, or the first visible one with cells; with formulas or their values."""
    with _worksheets(path, options, values=values) as sheets:
        found = [sheet for sheet in sheets if len(sheets) == 1 or any(map(_filled, _rows(sheet)))]
        if not found:
            raise KjcmError(f"{path}: no worksheet has cells.")
        yield found[0]


@contextmanager
def _worksheets(path: Path, options: ReadOptions, *, values: bool = True) -> Iterator[list[Any]]:
    """Open the visible worksheets, or the named one alone; with formulas or their values."""
    from openpyxl.reader.excel import ExcelReader

    class Reader(ExcelReader):  # type: ignore[misc]
        def read_chartsheet(self, sheet: Any, rel: Any) -> None:
            """Skip chart sheets, which have no cells."""

    _require_reasonable(path)
    reader = Reader(path, read_only=True, data_only=values, keep_links=False)
    with closing(reader.archive), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="openpyxl")  # about drop-down lists, styles and the like
        reader.read()
        sheets = reader.wb.worksheets
        if not sheets:
            raise KjcmError(f"{path}: has no readable worksheet. Save it again as .xlsx, not as Strict Open XML.")
        for sheet in sheets:
            sheet.reset_dimensions()  # the file's own figures may be wrong
        titles = [sheet.title for sheet in sheets]
        if options.sheet is None:
            yield [sheet for sheet in sheets if sheet.sheet_state == "visible"]
            return
        found = [sheet for sheet in sheets if tidy(sheet.title) == tidy(options.sheet)]
        if not found:
            raise KjcmError(f"{path}: has no worksheet {options.sheet!r}; it has {some(titles)}.")
        yield found[:1]


def _require_reasonable(path: Path) -> None:
    """Raise KjcmError if the unpacked file would fill the memory."""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(part.file_size for part in archive.infolist())
    if unpacked > LARGE and unpacked > DENSE * path.stat().st_size:
        raise KjcmError(
            f"{path}: unpacks to {unpacked / 2**30:,.0f} GiB, more than any usual worksheet. If you trust the file, save its "
            "cells as CSV."
        )


def _rows(sheet: Any) -> Iterator[list[Any]]:
    """Yield the values of each row."""
    for row in sheet.iter_rows():
        yield [_value(cell) for cell in row]


def _value(cell: Any) -> Any:
    """Return a cell's value: integers as int, escaped characters (_x000D_) decoded, errors as None."""
    value = cell.value
    if isinstance(value, str):
        if cell.data_type == "e" or not value:
            return None
        return _unescaped(value) if "_x" in value else value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _unescaped(text: str) -> str:
    from openpyxl.utils.escape import unescape

    # two escapes may be halves of one character
    return str(unescape(text)).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _filled(row: list[Any]) -> bool:
    return any(value is not None for value in row)
