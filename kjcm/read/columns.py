"""Which columns a table has."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from kjcm.errors import KjcmError, some


def column_names(path: Path, header: Sequence[object]) -> list[str]:
    """Return the names of a header's cells.

    Raises:
        KjcmError: two columns have one name.
    """
    names = ["" if cell is None or cell is pd.NA or cell != cell else str(cell) for cell in header]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise KjcmError(f"{path}: several columns are named {some(twice)}. Give every column a name of its own.")
    return names
