"""Read records that may be damaged or forged: regular files of a limited size, whose shape is checked."""

import json
import math
import os
import stat
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from kjcm.errors import KjcmError, first_line, require_columns, some

MOST = 64 << 20  # bytes of a record
MOST_FRAME = 2 << 30  # bytes of a Parquet record, both compressed and unpacked
MOST_ROWS = 10**7  # of a Parquet record
UNCHANGED = "Use an unchanged copy, or recreate the file."
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Count(int):
    """A shape: a whole number of at least 0."""


# What a value must be: a type (`object`: anything), None, a tuple of alternatives, [shape of each item], {str: shape of each
# value}, or {key: shape} for a mapping that has at least these keys; a key that ends in '?' may be missing.
Shape = Any


def read_bytes(file: Path, most: int = MOST) -> bytes:
    """Return the content of a regular file.

    Raises:
        KjcmError: the file is missing, is a folder, pipe or device, or has more than `most` bytes.
    """
    try:
        with os.fdopen(os.open(file, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:  # does not wait for a pipe's writer
            _require_regular(os.fstat(stream.fileno()), most)
            content = stream.read(most + 1)
        if len(content) > most:
            raise ValueError(f"it has more than {most:,} bytes")
        return content
    except (OSError, ValueError) as error:
        raise damaged(file, error) from None


def require_regular(file: Path, most: int = MOST_FRAME) -> None:
    """Raise KjcmError unless `file` is a regular file of at most `most` bytes, for libraries that open files themselves."""
    try:
        _require_regular(file.stat(), most)
    except (OSError, ValueError) as error:
        raise damaged(file, error) from None


def _require_regular(state: os.stat_result, most: int) -> None:
    if not stat.S_ISREG(state.st_mode):
        raise ValueError("it is not a regular file")
    if state.st_size > most:
        raise ValueError(f"it has {state.st_size:,} bytes, more than {most:,}")


def damaged(file: Path, error: BaseException | str) -> KjcmError:
    """Return the error of a record that is missing or damaged."""
    why = error if isinstance(error, str) else (isinstance(error, OSError) and error.strerror) or first_line(error)
    return KjcmError(f"{file}: missing or damaged ({why}). {UNCHANGED}")


def read_json(file: Path, shape: Shape = object) -> Any:
    """Return the value of a JSON file after checking its shape.

    Raises:
        KjcmError: the file is missing, damaged or of another shape.
    """
    content = read_bytes(file)
    try:
        return _checked(json.loads(content.decode("utf-8")), shape)
    except (ValueError, TypeError, RecursionError) as error:
        raise damaged(file, error) from None


def read_yaml(file: Path, shape: Shape = object) -> Any:
    """Return the value of a YAML file without aliases after checking its shape.

    Raises:
        KjcmError: the file is missing, damaged or of another shape.
    """
    content = read_bytes(file, MOST >> 4)
    try:
        loader = LOADER(content.decode("utf-8"))
        try:
            node = loader.get_single_node()
            _require_no_alias(node)
            value = None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
        return _checked(value, shape)
    except (ValueError, TypeError, RecursionError, AttributeError, yaml.YAMLError) as error:
        raise damaged(file, " ".join(first_line(error).split())) from None


def _require_no_alias(node: yaml.Node | None) -> None:
    """Raise ValueError if a document uses an alias: a few nested aliases can expand to billions of values."""
    met: set[int] = set()
    left = [node] if node is not None else []
    while left:
        one = left.pop()
        if id(one) in met:
            raise ValueError("it has an alias (*name)")
        met.add(id(one))
        if isinstance(one, yaml.MappingNode):
            left += [part for pair in one.value for part in pair]
        elif isinstance(one, yaml.SequenceNode):
            left += one.value


def _checked(value: Any, shape: Shape) -> Any:
    """Return a value after checking its shape.

    Raises:
        ValueError: the shape differs, or JSON cannot represent the value: a number is not finite, a text is not Unicode.
        TypeError: the value contains a type that JSON lacks.
    """
    json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True).encode()
    if wrong := next(faults(value, shape), ""):
        raise ValueError(wrong)
    return value


def faults(value: Any, shape: Shape, at: str = "") -> Iterator[str]:
    """Yield where a value differs from a shape, and what the shape requires there; never show the value itself."""
    if isinstance(shape, tuple):
        if all(next(faults(value, one, at), "") for one in shape):
            yield f"{at or 'it'} is not {' or '.join(map(_name, shape))}"
    elif not _is_kind(value, shape):
        yield f"{at or 'it'} is not {_name(shape)}"
    elif isinstance(shape, list):
        for number, part in enumerate(value):
            yield from faults(part, shape[0], f"{at}[{number}]")
    elif isinstance(shape, dict) and str in shape:
        for key, part in value.items():
            if not isinstance(key, str):
                yield f"{at or 'it'} has a key that is not a text"
            yield from faults(part, shape[str], f"{at}.{str(key)[:40]}".lstrip("."))
    elif isinstance(shape, dict):
        for name, part in shape.items():
            key = name.removesuffix("?")
            if key in value:
                yield from faults(value[key], part, f"{at}.{key}".lstrip("."))
            elif key == name:
                yield f"{at or 'it'} has no {key}"


def _is_kind(value: Any, shape: Shape) -> bool:
    if shape is object:
        return True
    if shape is None:
        return value is None
    if isinstance(shape, list | dict):
        return isinstance(value, list if isinstance(shape, list) else dict)
    if shape in (int, Count):
        return type(value) is int and (0 if shape is Count else -(2**63)) <= value < 2**63
    if shape is float:
        return type(value) in (int, float) and math.isfinite(value) and abs(value) < 2**63
    return isinstance(value, shape)


def _name(shape: Shape) -> str:
    names: dict[Hashable, str] = {
        str: "a text", int: "a whole number", Count: "a count", float: "a number", bool: "true or false", None: "null",
    }  # fmt: skip
    return "a list" if isinstance(shape, list) else "a mapping" if isinstance(shape, dict) else names[shape]


def read_frame(file: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return a Parquet record from its columns alone; ignore the pandas metadata, which may be forged.

    Raises:
        KjcmError: the file is missing, damaged, too large or without one of `columns`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    require_regular(file)
    try:
        with pq.ParquetFile(file) as stored:
            require_columns(file, stored.schema_arrow.names, columns or (), lambda: UNCHANGED)
            if nested := [field.name for field in stored.schema_arrow if pa.types.is_nested(field.type)]:
                raise ValueError(f"the cells of {some(nested)} are lists or mappings")
            about = stored.metadata
            size = sum(about.row_group(number).total_byte_size for number in range(about.num_row_groups))
            if about.num_rows > MOST_ROWS or size > MOST_FRAME:
                raise ValueError(f"it has {about.num_rows:,} rows of {size:,} bytes")
            table = stored.read(columns=list(columns) if columns is not None else None)
        table.validate(full=True)  # texts that are not UTF-8
        return table.to_pandas(ignore_metadata=True, date_as_object=True)  # type: ignore[no-any-return]
    except KjcmError:
        raise
    except Exception as error:  # pyarrow and pandas have an exception for each kind of damage
        raise damaged(file, error) from None
