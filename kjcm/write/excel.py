"""Writing XLSX: numbers and dates where a worksheet can hold them, all else as text, never as a formula."""

import math
import re
from contextlib import suppress
from datetime import date, datetime, time
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell
from openpyxl.cell.cell import ERROR_CODES, ILLEGAL_CHARACTERS_RE

from kjcm.errors import CUT, KjcmError
from kjcm.read.cells import values_of
from kjcm.write.cells import DIGITS, as_text, is_missing, texts

EXCEL_ROWS, LETTERS = 1_048_575, 32_767  # rows below the header; letters of a cell
MOST_ESCAPED = 7  # letters that one may become
LIKE_ESCAPED = re.compile("_(?=x[0-9A-Fa-f]{4}_)")  # what spreadsheet programs take for an escaped character
EPOCH = date(1900, 3, 1)  # a worksheet counts days before it otherwise, and none before 1900


def require_worksheet(path: Path, frame: pd.DataFrame, begin: int) -> None:
    """Raise KjcmError if a worksheet cannot hold rows of the file `path`, of which the first is row `begin`."""
    for name in frame:
        for row, text in enumerate(texts(frame[name]), begin):
            long = len(text) * MOST_ESCAPED > LETTERS
            if long and (length := len(_escaped(text))) > LETTERS:
                raise KjcmError(
                    f"{path}, column {name!r}, data row {row:,}: {text[:CUT]!r}... has {length:,} characters; a worksheet's "
                    f"cell can hold {LETTERS:,}. Write .csv or .parquet."
                )


class ExcelWriter:
    """Writes frames as they come.

    Args:
        path: what to write.
        title: of the worksheet.
    """

    def __init__(self, path: Path, title: str) -> None:
        self.path, self.empty = path, True
        self.book = Workbook(write_only=True)
        self.sheet = self.book.create_sheet(title)

    def write(self, frame: pd.DataFrame) -> None:
        """Add rows."""
        if self.empty:
            self.sheet.append([self._cell(str(name)) for name in frame])
            self.empty = False
        for cells in zip(*(map(self._cell, values_of(frame[name])) for name in frame), strict=True):
            self.sheet.append(cells)

    def _cell(self, value: Any) -> Any:
        """Return what a worksheet has of a value."""
        if is_missing(value):
            return None
        if isinstance(value, Decimal) and value.is_finite() and len(value.as_tuple().digits) <= DIGITS:
            value = float(value)
        if _is_own(value):
            return value
        text = _escaped(as_text(value))
        if not text.startswith("=") and text not in ERROR_CODES:
            return text
        cell = WriteOnlyCell(self.sheet, text)  # what looks like a formula is none
        cell.data_type = "s"
        return cell

    def close(self) -> None:
        """Finish the file."""
        whole = BytesIO()  # a ZIP file that its disk refuses would complain again when it is collected
        self.book.save(whole)
        self.path.write_bytes(whole.getbuffer())

    def abandon(self) -> None:
        """Let go of the file."""
        if not self.sheet.closed:
            with suppress(OSError):  # its rows are in a temporary file, whose disk may be full
                self.sheet.close()  # else they are written when they are collected, and complain


def _escaped(text: str) -> str:
    """Return a text as a worksheet stores it: control characters left out, and \\r escaped, which XML reads as \\n."""
    return LIKE_ESCAPED.sub("_x005F_", ILLEGAL_CHARACTERS_RE.sub("", text)).replace("\r", "_x000D_")


def _is_own(value: object) -> bool:
    """Tell whether a worksheet holds a value exactly as what it is; of times it holds milliseconds."""
    if isinstance(value, time):
        return value.tzinfo is None and value.microsecond % 1000 == 0
    if isinstance(value, datetime):
        fine = value.microsecond % 1000 == 0 and getattr(value, "nanosecond", 0) == 0
        return value.tzinfo is None and fine and bool(value.date() >= EPOCH)
    if isinstance(value, date):
        return value >= EPOCH
    if isinstance(value, bool):
        return True
    if isinstance(value, int):
        return bool(abs(value) < 10**DIGITS)
    return isinstance(value, float) and math.isfinite(value)
