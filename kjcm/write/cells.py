"""Turn cells of any type into text, numbers, dates or times, for file kinds with few types."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import time
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kjcm.read.cells import FLOAT32, values_of
from kjcm.read.labelled import EXACT

DIGITS = 15  # of a decimal number, exact in float64
EPOCH = np.datetime64("1970-01-01")


@dataclass(frozen=True)
class Cells:
    """A column's cells in one of five types.

    Attributes:
        kind: number, date, stamp (date and time of day), time (of day) or text.
        values: [rows]; numbers as in NumPy, dates as datetime64[D], stamps as datetime64[us], times as microseconds,
            texts as str.
        missing: [rows], which are missing; no text is missing, it is ''.
    """

    kind: str
    values: NDArray[Any]
    missing: NDArray[np.bool_]


def as_text(cell: object) -> str:
    """Return a cell as text: text verbatim, '' for a missing cell, bytes as UTF-8 or else in hexadecimal digits."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bytes):
        try:
            return cell.decode()
        except UnicodeDecodeError:
            return cell.hex()
    return "" if is_missing(cell) else str(cell)


def is_missing(cell: object) -> bool:
    """Return whether a cell is None, NaN, NA or NaT."""
    return cell is None or cell is pd.NA or cell is pd.NaT or (isinstance(cell, float) and cell != cell)


def texts(column: pd.Series) -> list[str]:
    """Return a column's cells as text, '' for missing ones."""
    return list(map(as_text, values_of(column)))


def plain(column: pd.Series) -> Cells:
    """Return a column's cells in their common type, else as text.

    Durations, lists, times with a zone and numbers that are not exact in float64 become text.
    """
    types = pd.api.types
    missing = column.isna().to_numpy(bool)
    if types.is_bool_dtype(column.dtype) or (types.is_numeric_dtype(column.dtype) and not _is_decimal(column)):
        return _numbers(column, missing)
    if types.is_datetime64_dtype(column.dtype):
        return _stamps(column.to_numpy(), missing)
    cells = values_of(column)
    there = [cell for cell, gap in zip(cells, missing, strict=True) if not gap]
    found = types.infer_dtype(there, skipna=False)
    if found in ("integer", "floating", "mixed-integer-float", "boolean"):
        return _numbers(pd.to_numeric(pd.Series(cells, dtype=object).where(~missing, None)), missing)
    if found == "decimal" and all(len(cell.as_tuple().digits) <= DIGITS for cell in there):
        return _numbers(
            pd.Series([np.nan if gap else float(cell) for cell, gap in zip(cells, missing, strict=True)]), missing
        )
    if found in ("datetime", "datetime64") and not any(cell.tzinfo for cell in there):
        return _stamps(_filled(cells, missing, EPOCH, "datetime64[us]"), missing)
    if found == "date":
        return Cells("date", _filled(cells, missing, EPOCH, "datetime64[D]"), missing)
    if found == "time":
        return Cells(
            "time",
            np.array([0 if gap else _microseconds(cell) for cell, gap in zip(cells, missing, strict=True)]),
            missing,
        )
    return Cells("text", np.array(texts(column), dtype=object), np.zeros(len(column), bool))


def _is_decimal(column: pd.Series) -> bool:
    import pyarrow as pa

    return isinstance(column.dtype, pd.ArrowDtype) and pa.types.is_decimal(column.dtype.pyarrow_dtype)


def _numbers(column: pd.Series, missing: NDArray[np.bool_]) -> Cells:
    kind = column.dtype.kind
    if kind == "c":
        return Cells("text", np.array(texts(column), dtype=object), np.zeros(len(column), bool))
    if kind == "f":
        width = np.float32 if str(column.dtype).lower() in FLOAT32 else np.float64
        numbers = column.to_numpy(width, na_value=np.nan)
        return Cells("number", numbers, missing | np.isnan(numbers))  # in Arrow NaN is not a missing cell
    whole = column.to_numpy(np.uint64 if kind == "u" else np.int64, na_value=False if kind == "b" else 0)
    if len(whole) and max(abs(int(whole.min())), abs(int(whole.max()))) > EXACT:
        return Cells("text", np.array(texts(column), dtype=object), np.zeros(len(column), bool))
    return Cells("number", whole.astype(np.int64), missing)


def _stamps(values: NDArray[Any], missing: NDArray[np.bool_]) -> Cells:
    return Cells("stamp", np.where(missing, EPOCH, values).astype("datetime64[us]"), missing)


def _filled(cells: Sequence[Any], missing: NDArray[np.bool_], instead: object, kind: str) -> NDArray[Any]:
    return np.array([instead if gap else cell for cell, gap in zip(cells, missing, strict=True)], dtype=kind)


def _microseconds(cell: time) -> int:
    return ((cell.hour * 60 + cell.minute) * 60 + cell.second) * 1_000_000 + cell.microsecond
