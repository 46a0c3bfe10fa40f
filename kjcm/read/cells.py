"""Turn cells of any stored type into text, by one rule for training and coding."""

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kjcm.errors import KjcmError, first_line

NOTHING: Mapping[Any, str] = {}
FLOAT32 = ("float32", "float[pyarrow]")  # pandas' names

# Invisible characters (Unicode's Cf and Cc), and letters that look like blanks (Hangul fillers, an empty Braille cell).
_INVISIBLE = re.compile(
    "[\0-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u0600-\u0605\u061c\u06dd\u070f\u180e\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0001-\U000e007f\u115f\u1160]"
)
_BLANK = re.compile("[\u2800\u3164\uffa0]")


def tidy(text: str) -> str:
    """Return text in NFC without invisible characters, with white space and line breaks as single blanks."""
    if not (text.isascii() and text.isprintable()):
        text = _BLANK.sub(" ", _INVISIBLE.sub("", unicodedata.normalize("NFC", text)))
    return " ".join(text.split())


def code_text(value: object) -> str:
    """Return a cell as text, whatever its stored type: '' for missing, `111` for 111 and 111.0; text stays unchanged."""
    text = _text(value)
    return str(value).strip() if text is None else text


def code_texts(cells: pd.Series) -> list[str]:
    """Return each cell of a column by `code_text`."""
    return list(map(code_text, values_of(cells)))


def values_of(column: pd.Series) -> list[Any]:
    """Return a column's cells as a list of Python values, float32 with only its own digits; lists are faster to read.

    Raises:
        KjcmError: see `readable`.
    """
    if str(column.dtype).lower() in FLOAT32:  # 36.1, and not 36.099998474121094, the nearest float64
        column = pd.Series(column.to_numpy(np.float32, na_value=np.nan).astype(str).astype(float))
    with readable(column):
        cells = column.tolist()
    return cells


@contextmanager
def readable(column: pd.Series) -> Iterator[None]:
    """Raise KjcmError if Python has no value for a cell, such as a time after the year 9999 or in an unknown zone."""
    try:
        yield
    except Exception as error:  # each Arrow type has its own exceptions
        kind = f"{type_name(column)}: {first_line(error)}"
        raise KjcmError(f"column {column.name!r}: its values cannot be read ({kind}). Save it as text.") from None


def without_decimals(text: str) -> str:
    """Return `111` for '111.0' and '111.00', `-1` for '-1.0': integers written by programs; other text unchanged."""
    head, point, zeros = text.partition(".")
    return head if point and head.removeprefix("-").isdigit() and not zeros.strip("0") else text


def text_cells(column: pd.Series, labels: Mapping[Any, str] = NOTHING) -> tuple[list[str], NDArray[np.bool_]]:
    """Return a column's cells as text ('' for none), and which cells are neither text, a number nor missing.

    Args:
        column: the cells [rows]; UTF-8 in binary cells is decoded.
        labels: value -> text to read instead.
    """
    if _never_text(column.dtype):
        return [""] * len(column), column.notna().to_numpy(bool)
    values = values_of(column)
    found = [_text(cell) for cell in values]
    strange = np.array([text is None for text in found], dtype=bool)
    if labels:
        found = [
            text and (labels.get(cell) or labels.get(text) or text) for cell, text in zip(values, found, strict=True)
        ]
    return [text or "" for text in found], strange


def type_name(column: pd.Series) -> str:
    """Return the type of a column without text, by the file kind's name."""
    if column.dtype != object:
        return str(getattr(column.dtype, "pyarrow_dtype", column.dtype))
    return ", ".join(sorted({type(cell).__name__ for cell in column.tolist() if _text(cell) is None}))


def _text(cell: object) -> str | None:
    """Return a cell as text, '' if it is missing, None if it is neither text nor a number."""
    if isinstance(cell, str):
        return cell.strip()
    if cell is None or cell is pd.NA or cell is pd.NaT:
        return ""
    if isinstance(cell, bool | np.bool_):
        return None
    if isinstance(cell, int | float | Decimal | np.number):
        return "" if math.isnan(cell) else without_decimals(str(cell))
    if isinstance(cell, bytes | bytearray | memoryview):
        try:
            return bytes(cell).decode("utf-8-sig").strip("\0").strip()
        except UnicodeDecodeError:
            return None
    return None


@lru_cache
def _never_text(dtype: Any) -> bool:
    """Return whether a column of this type has no text or numbers; cells of type object may be anything."""
    import pyarrow.types as arrow

    if isinstance(dtype, pd.CategoricalDtype):
        return _never_text(dtype.categories.dtype)
    if not isinstance(dtype, pd.ArrowDtype):
        types = pd.api.types
        return not (
            types.is_object_dtype(dtype)
            or types.is_string_dtype(dtype)
            or (types.is_numeric_dtype(dtype) and not types.is_bool_dtype(dtype))
        )
    kind = dtype.pyarrow_dtype
    kind = kind.value_type if arrow.is_dictionary(kind) else kind
    tests = (
        arrow.is_string, arrow.is_large_string, arrow.is_string_view, arrow.is_binary, arrow.is_large_binary,
        arrow.is_binary_view, arrow.is_fixed_size_binary, arrow.is_integer, arrow.is_floating, arrow.is_decimal,
        arrow.is_null,
    )  # fmt: skip
    return not any(test(kind) for test in tests)
