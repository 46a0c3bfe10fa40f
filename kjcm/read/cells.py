"""Cells of any stored type as text."""

import math

import pandas as pd


def code_text(value: object) -> str:
    """Return a cell as text, whatever its stored type: '' for missing, `111` for 111, 111.0 and '111.0'."""
    if not isinstance(value, str):
        if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
            return ""
        value = str(value)
    text = value.strip()
    head, point, zeros = text.partition(".")
    return head if point and head.isdigit() and not zeros.strip("0") else text


def code_texts(cells: pd.Series) -> list[str]:
    """Return each cell of a column as `code_text` has it; a list is read much faster than a column of strings."""
    return list(map(code_text, cells.tolist()))
