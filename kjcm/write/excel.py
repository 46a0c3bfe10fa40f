"""Write XLSX: numbers and dates if a worksheet can store them, everything else as text, never as a formula."""

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

EXCEL_ROWS, LETTERS = 1_048_575, 32_767  # rows under the header; letters of a cell
MOST_ESCAPED = 7  # letters that one letter may become
LIKE_ESCAPED = re.compile("_(?=x[0-9A-Fa-f]{4}_)")  # an escaped character in spreadsheet programs
EPOCH = date(1900, 3, 1)  # worksheets count earlier days differently, and none before 1900


def require_worksheet(path: Path, frame: pd.DataFrame, begin: int) -> None:
    """Raise KjcmError if a worksheet cannot store these rows of the file `path`; the first is row `begin`."""
    for name in frame:
        for row, text in enumerate(texts(frame[name]), begin):
            long = len(text) * MOST_ESCAPED > LETTERS
            if long and (length := len(_escaped(text))) > LETTERS:
                raise KjcmError(
                    f"{path}, column {name!r}, data row {row:,}: {text[:CUT]!r}... has {length:,} characters; a worksheet's "
                    f"cell can hold {LETTERS:,}. Write .csv or .parquet."
                )


class ExcelWriter:
    """Writes frames one by one.

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
        """Return a worksheet's cell for a value."""
        if is_missing(value):
            return None
        if isinstance(value, Decimal) and value.is_finite() and len(value.as_tuple().digits) <= DIGITS:
            value = float(value)
        if _is_own(value):
            return value
        text = _escaped(as_text(value))
        if not text.startswith("=") and text not in ERROR_CODES:
            return text
        cell = WriteOnlyCell(self.sheet, text)  # text that looks like a formula stays text
        cell.data_type = "s"
        return cell

    def close(self) -> None:
        """Finish the file."""
        whole = BytesIO()  # an unwritable ZIP file would raise again when collected
        self.book.save(whole)
        self.path.write_bytes(whole.getbuffer())

    def abandon(self) -> None:
        """Close the file without finishing it."""
        if not self.sheet.closed:
            with suppress(OSError):  # its rows are in a temporary file; that disk may be full
                self.sheet.close()  # else the rows are written, and raise, when collected


def _escaped(text: str) -> str:
    """Return a text as a worksheet stores it: without control characters, and with \\r escaped, which XML reads as \\n."""
    return LIKE_ESCAPED.sub("_x005F_", ILLEGAL_CHARACTERS_RE.sub("", text)).replace("\r", "_x000D_")


def _is_own(value: object) -> bool:
    """Return whether a worksheet stores a value exactly and in its type; times have milliseconds."""
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
