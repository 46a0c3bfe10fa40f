"""Parquet files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from kjcm.errors import KjcmError, first_line
from kjcm.read.columns import header_names


def parquet_chunks(path: Path, rows: int | None) -> Iterator[pd.DataFrame]:
    """Yield frames of at most `rows` rows (None: one frame) of Arrow types, in which whole numbers with gaps stay whole.

    Raises:
        KjcmError: two columns have one name, or a column is damaged, as text that is not UTF-8.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        header_names(path, file.schema_arrow.names)
        if rows is None or not file.metadata.num_rows:
            yield _frame(path, file.read())
            return
        for batch in file.iter_batches(batch_size=rows):
            yield _frame(path, batch)


def _frame(path: Path, table: Any) -> pd.DataFrame:
    """Return an Arrow table or batch as a frame; what pandas noted in the file is not needed, and an index is a column too."""
    import pyarrow as pa

    for name in table.schema.names:
        try:
            table.column(name).validate(full=True)
        except pa.ArrowInvalid as error:
            raise KjcmError(
                f"{path}, column {name!r}: is damaged ({first_line(error)}). Write the file anew."
            ) from None
    table = table.replace_schema_metadata(None)  # pandas reads its note even so, and a broken one stops it
    return table.to_pandas(types_mapper=pd.ArrowDtype, ignore_metadata=True)  # type: ignore[no-any-return]
