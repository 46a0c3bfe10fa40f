"""Tables of any common kind."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from kjcm.errors import KjcmError, first_line
from kjcm.files import require_file
from kjcm.read.columns import column_names
from kjcm.read.labelled import read_whole
from kjcm.read.text import SEPARATORS, text_chunks


def read_table(path: str | Path) -> pd.DataFrame:
    """Read CSV, TSV, XLSX, Parquet, SPSS (.sav) or Stata (.dta); values, never value labels.

    Raises:
        KjcmError: no such file, an unknown kind, an unreadable or empty file.
    """
    path = require_file(path)
    suffix = path.suffix.lower()
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {
        ".xlsx": _read_excel,
        ".parquet": lambda p: pd.read_parquet(p),
        ".sav": read_whole,
        ".zsav": read_whole,
        ".dta": read_whole,
    }
    if suffix in SEPARATORS:
        return next(text_chunks(path, None))
    if suffix not in readers:
        kinds = " ".join([*SEPARATORS, *readers])
        raise KjcmError(f"{path}: files of kind {suffix or '(none)'} cannot be read; the kinds are {kinds}.")
    try:
        return readers[suffix](path)
    except KjcmError:
        raise
    except Exception as error:  # each reader has exceptions of its own; all mean that the file is broken
        raise KjcmError(
            f"{path}: not a readable {suffix[1:].upper()} file ({type(error).__name__}: {error})."
        ) from None


def _read_excel(path: Path) -> pd.DataFrame:
    whole = pd.read_excel(path, header=None, dtype=object, keep_default_na=False, na_values=[""], engine="openpyxl")
    if not len(whole):
        raise KjcmError(f"{path}: the file is empty.")
    return whole.iloc[1:].reset_index(drop=True).set_axis(column_names(path, whole.iloc[0].tolist()), axis=1)


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
            column_names(path, file.schema_arrow.names)
            for batch in file.iter_batches(batch_size=rows):
                yield batch.to_pandas(types_mapper=pd.ArrowDtype, ignore_metadata=True)  # an index is a column too
            if not file.metadata.num_rows:
                yield file.schema_arrow.empty_table().to_pandas(types_mapper=pd.ArrowDtype, ignore_metadata=True)
    except pa.ArrowInvalid as error:
        raise KjcmError(f"{path}: not a readable Parquet file ({first_line(error)}).") from None
