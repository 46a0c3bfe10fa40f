"""Read Parquet files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from kjcm.errors import KjcmError, first_line
from kjcm.read.columns import header_names


def parquet_chunks(path: Path, rows: int | None) -> Iterator[pd.DataFrame]:
    """Yield frames of at most `rows` rows (None: one frame) of Arrow types, in which integers with gaps stay integers.

    Raises:
        KjcmError: two columns have the same name, or a column is damaged, such as text that is not UTF-8.
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
    """Return an Arrow table or batch as a frame, without pandas' metadata; an index becomes a column."""
    import pyarrow as pa

    for name in table.schema.names:
        try:
            table.column(name).validate(full=True)
        except pa.ArrowInvalid as error:
            raise KjcmError(
                f"{path}, column {name!r}: is damaged ({first_line(error)}). Write the file again."
            ) from None
    plain = pa.table({name: _plain(table.column(name)) for name in table.schema.names})
    return plain.to_pandas(types_mapper=pd.ArrowDtype, ignore_metadata=True)  # type: ignore[no-any-return]


def _plain(column: Any) -> Any:
    """Return an Arrow column without views."""
    import pyarrow as pa

    kind = _without_views(column.type)
    if kind == column.type:
        return column
    cast = column.cast(kind)
    try:
        cast.validate()
    except pa.ArrowInvalid:  # Arrow itself damages views of lists
        return pa.array(column.to_pylist(), kind)
    return cast


def _without_views(kind: Any) -> Any:
    """Return an Arrow type with views of texts and lists as plain texts and lists, for pandas."""
    import pyarrow as pa

    types = pa.types
    if types.is_string_view(kind):
        return pa.large_string()
    if types.is_binary_view(kind):
        return pa.large_binary()
    if types.is_struct(kind):
        return pa.struct([one.with_type(_without_views(one.type)) for one in kind])
    if types.is_map(kind):
        return pa.map_(_without_views(kind.key_type), _without_views(kind.item_type))
    if types.is_fixed_size_list(kind):
        return pa.list_(_without_views(kind.value_type), kind.list_size)
    if types.is_list(kind) or types.is_list_view(kind):
        return pa.list_(kind.value_field.with_type(_without_views(kind.value_type)))
    if types.is_large_list(kind) or types.is_large_list_view(kind):
        return pa.large_list(kind.value_field.with_type(_without_views(kind.value_type)))
    return kind


def parquet_rows(path: Path) -> int:
    """Return how many rows a Parquet file has.

    Raises:
        KjcmError: it is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError) as error:
        raise KjcmError(f"{path}: not a readable PARQUET file ({first_line(error)}).") from None
