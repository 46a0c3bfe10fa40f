"""SPSS and Stata files."""

from pathlib import Path
from typing import Any

import pandas as pd

EXACT = 2**53  # whole numbers below it are exact as decimals


def read_whole(path: Path) -> pd.DataFrame:
    """Read SPSS or Stata without value labels; whole numbers, which SPSS keeps as decimals, become whole again."""
    frame = read_labelled(path)[0]
    decimals = frame.select_dtypes("float")
    whole = {
        str(name): decimals[name].astype("Int64")
        for name in decimals
        if (decimals[name].isna() | ((decimals[name] % 1 == 0) & (decimals[name].abs() < EXACT))).all()
    }
    return frame.assign(**whole)


def read_labelled(path: Path, **options: Any) -> tuple[pd.DataFrame, Any]:
    """Return what pyreadstat reads of an SPSS or Stata file: its values, and what it says about its columns."""
    import pyreadstat

    reader = pyreadstat.read_dta if path.suffix.lower() == ".dta" else pyreadstat.read_sav
    return reader(str(path), apply_value_formats=False, **options)
