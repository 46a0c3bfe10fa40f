"""Reading tables of any common kind, writing files whole or not at all, and keeping what was costly to make."""

import csv
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kjcm.errors import KjcmError, first_line, some

ENCODINGS = ("utf-8-sig", "cp949")
EXACT = 2**53  # whole numbers below it are exact as decimals
SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}

T = TypeVar("T")


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


def encoding_of(path: Path) -> str:
    """Return the encoding of a text file: UTF-8 (with or without BOM), else CP949.

    Raises:
        KjcmError: it is neither; the message names the first line that is not CP949 either.
    """
    for encoding in ENCODINGS:
        try:
            with path.open(encoding=encoding, newline="") as stream:
                for _ in iter(lambda: stream.read(1 << 20), ""):
                    pass
            return encoding
        except UnicodeDecodeError:
            continue
    with path.open("rb") as raw:
        wrong = [
            {number for number, line in enumerate(raw, 1) if not _decodes(line, encoding)}
            for encoding in _rewinding(raw)
        ]
    both = min(wrong[0] & wrong[1], default=None)
    mixed = f"line {min(wrong[0])} is not UTF-8 and line {min(wrong[1])} not CP949"
    place = f"line {both}" if both else mixed
    raise KjcmError(f"{path}, {place}: the text is neither UTF-8 nor CP949. Save the whole file as UTF-8.")


def _rewinding(stream: BinaryIO) -> Iterator[str]:
    """Yield each encoding with the stream at its beginning."""
    for encoding in ENCODINGS:
        stream.seek(0)
        yield encoding


def _decodes(line: bytes, encoding: str) -> bool:
    try:
        line.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def require_file(path: str | Path, what: str = "file") -> Path:
    """Return `path`, which must be an existing file.

    Raises:
        KjcmError: it is not there, or is a folder.
    """
    found = Path(path).expanduser()
    if not found.is_file():
        raise KjcmError(f"{found}: no such {what} (seen from {Path.cwd()}). Check the path.")
    return found


def text_chunks(path: Path, rows: int | None) -> Iterator[pd.DataFrame]:
    """Yield a CSV or TSV file as frames of at most `rows` rows (None: one frame), every cell a str as it stands.

    A blank line is a row of empty cells, but at the file's end no row; where a row ends early its last cells are empty.

    Raises:
        KjcmError: the file is empty or not well formed, or its header does not give every column a name of its own.
    """
    with path.open(encoding=encoding_of(path), newline="") as stream:
        lines = _lines(path, csv.reader(stream, delimiter=SEPARATORS[path.suffix.lower()], strict=True))
        header = next(lines, None)
        if header is None:
            raise KjcmError(f"{path}: the file is empty.")
        names = column_names(path, header)
        chunk = list(islice(lines, rows))
        yield pd.DataFrame(chunk, columns=names, dtype=str)  # a header alone is a frame too
        while rows and (chunk := list(islice(lines, rows))):
            yield pd.DataFrame(chunk, columns=names, dtype=str)


def _lines(path: Path, reader: Any) -> Iterator[list[str]]:
    """Yield the cells of the header and of each row, as many as the header has."""
    kind, width, blanks, begin = path.suffix[1:].upper(), 0, 0, 1
    try:
        for cells in reader:
            if not cells:
                blanks += 1
                continue
            if width:
                yield from ([""] * width for _ in range(blanks))
            width, blanks = width or len(cells), 0
            if len(cells) > width:
                raise KjcmError(
                    f"{path}, line {begin:,}: the row has {len(cells)} cells, and the header names {width} columns. Name them "
                    "all in the header, or quote the cell that holds the separator."
                )
            if begin < reader.line_num and kind != "CSV" and _holds_rows(cells, width):
                raise KjcmError(
                    f'{path}, line {begin:,}: a cell begins with a quote mark (") that does not end with it, and takes in the '
                    "rows after it. Double the mark and quote the cell, or remove it."
                )
            yield cells if len(cells) == width else cells + [""] * (width - len(cells))
            begin = reader.line_num + 1
    except csv.Error as error:
        raise KjcmError(
            f"{path}, the row from line {begin:,} on: not a well-formed {kind} file ({error}). A cell that begins with a quote "
            'mark (") must end with one; marks within it are doubled.'
        ) from None


def _holds_rows(cells: list[str], width: int) -> bool:
    """Tell whether a tab-separated cell has swallowed rows: such files often do not quote, and a cell may begin with a quote."""
    return width > 1 and any(
        line.count("\t") == width - 1 for cell in cells if "\n" in cell for line in cell.split("\n")[1:-1]
    )


def column_names(path: Path, header: Sequence[object]) -> list[str]:
    """Return the names of a header's cells.

    Raises:
        KjcmError: two columns have one name.
    """
    names = ["" if cell is None or cell is pd.NA or cell != cell else str(cell) for cell in header]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise KjcmError(f"{path}: several columns are named {some(twice)}. Give every column a name of its own.")
    return names


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
        ".sav": _read_labelled,
        ".zsav": _read_labelled,
        ".dta": _read_labelled,
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


def _read_labelled(path: Path) -> pd.DataFrame:
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


@contextmanager
def atomic(path: str | Path, overwrite: bool = True) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it replaces `path`, on failure it goes without a trace.

    Raises:
        KjcmError: `path` exists and `overwrite` is false, or its folder cannot be written.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise KjcmError(f"{path} exists. Choose another output, or add overwrite=true.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    except OSError as error:
        raise KjcmError(f"{path.parent}: cannot be written ({error.strerror}).") from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: object) -> None:
    """Write JSON (Hangul as it is, NaN refused) atomically."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Return the value of a JSON file.

    Raises:
        KjcmError: it is missing or damaged.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise OSError("it is no file")
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise KjcmError(f"{path}: missing or damaged ({first_line(error)}).") from None


def write_parquet(path: str | Path, frame: pd.DataFrame, note: str = "") -> None:
    """Write a frame as Parquet atomically; `note` goes into the file's metadata under 'kjcm'."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), b"kjcm": note.encode()})
    with atomic(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def digest(path: str | Path) -> str:
    """Return the SHA-256 of a file, or of a folder's files with their names."""
    path = Path(path)
    found = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        if path.is_dir():
            found.update(f"{file.relative_to(path).as_posix()}\0".encode())
        with file.open("rb") as stream:
            found.update(hashlib.file_digest(stream, "sha256").digest())
    return found.hexdigest()


def key_of(what: object, texts: Sequence[str] = ()) -> str:
    """Return 32 digits of the SHA-256 of a JSON value and of texts: what a cache entry is named by."""
    whole = json.dumps(what, sort_keys=True) + "".join(f"{len(text)}\0{text}" for text in texts)
    return hashlib.sha256(whole.encode()).hexdigest()[:32]


def cached(
    file: Path | None,
    make: Callable[[], T],
    to_arrays: Callable[[T], Mapping[str, NDArray[Any]]],
    from_arrays: Callable[[Mapping[str, NDArray[Any]]], T],
) -> T:
    """Return what the cache entry `file` (.npz; None: no cache) holds; else what `make` makes, and keep it there.

    The entry's name must tell everything that its content depends on (`key_of`). It is written whole or not at all, so
    processes may share a cache.
    """
    if file and file.is_file():
        with (
            suppress(Exception),
            np.load(file, allow_pickle=False) as stored,
        ):  # however it is damaged, it is made again
            return from_arrays({name: stored[name] for name in stored.files})
    made = make()
    if file:
        with atomic(file) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **to_arrays(made))  # type: ignore[arg-type]
    return made
