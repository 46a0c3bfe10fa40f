"""Write files atomically, and cache results that are costly to compute."""

import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kjcm.errors import ConfigError, DiskError, KjcmError

# Spreadsheet programs run such a cell as a formula; some also accept the full-width signs.
FORMULA = re.compile(r"^[=+\-@\t\r\n＝＋－＠]")
PLAIN_NUMBER = re.compile(r"^[+-]?([0-9]+([.,][0-9]+)*[.,]?|[.,][0-9]+)([eE][+-]?[0-9]+)?%?$")

T = TypeVar("T")


def existing(path: str | Path) -> Path:
    """Return the existing path that equals `path` in another Unicode form (macOS decomposes Hangul), else `path`."""
    typed = Path(path).expanduser()
    if os.path.lexists(typed):
        return typed
    found = Path(typed.anchor)
    for part in typed.parts[len(found.parts) :]:
        alike = [part]
        if not os.path.lexists(found / part):
            with suppress(OSError):
                alike = [entry.name for entry in found.iterdir() if _nfc(entry.name) == _nfc(part)]
        if len(alike) != 1:
            return typed
        found /= alike[0]
    return found


def _nfc(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def require_file(path: str | Path, what: str = "file") -> Path:
    """Return `path`, which must be an existing file.

    Raises:
        KjcmError: the file is missing, or is a folder.
    """
    found = existing(path)
    if not found.is_file():
        raise KjcmError(f"{found}: no such {what} (seen from {Path.cwd()}). Check the path.")
    return found


def require_no_input(output: str | Path, inputs: Iterable[str | Path | None], key: str = "output") -> None:
    """Check that an output replaces no input.

    Args:
        output: file or folder to write.
        inputs: files that the command reads, and folders whose files it reads; None: none.
        key: of the output, for the message.

    Raises:
        ConfigError: `output` is one of the inputs, is in an input folder, or is a folder with an input.
    """
    target = existing(output)
    for source in [existing(one) for one in inputs if one]:
        if not (target.exists() and source.exists()):
            continue
        if target.samefile(source):
            raise ConfigError(f"{key}={output}: is an input of this command. Name another path.")
        if source.resolve() in target.resolve().parents:
            raise ConfigError(f"{key}={output}: is in the input {source}. Name another path.")
        if target.resolve() in source.resolve().parents:
            raise ConfigError(f"{key}={output}: contains the input {source}. Name another path.")


@contextmanager
def atomic(path: str | Path, overwrite: bool = True) -> Iterator[Path]:
    """Yield a temporary path next to `path`; replace `path` with it on success, remove it on failure.

    Raises:
        KjcmError: `path` exists and `overwrite` is false, or its folder cannot be written.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise KjcmError(f"{path} exists. Choose another output, or add overwrite=true.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except OSError as error:
        raise DiskError(f"{path.parent}: cannot be written ({error.strerror}).") from None
    mode = stat.S_IMODE(os.fstat(handle).st_mode)  # 0o666 minus the umask
    os.close(handle)
    try:
        yield temporary
        temporary.chmod(mode)  # safetensors replaces it by a file of mode 600
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder next to `folder`; replace `folder` with it on success, so that it is whole or not there."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    yield part
    write_text(mark := part / UNFINISHED, "")
    mode = mark.stat().st_mode
    mark.unlink()
    for file in part.rglob("*"):
        if file.is_file():
            file.chmod(mode)  # safetensors makes files of mode 600 whatever the umask
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


UNFINISHED = ".unfinished"  # marks a folder that a command is writing, or was writing when killed


@contextmanager
def filling(folder: Path) -> Iterator[None]:
    """Mark a folder as unfinished until the context ends without an error; remove temporary files of a killed process."""
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / UNFINISHED
    if mark.exists():
        for file in folder.glob(".*.????????.*"):  # as `atomic` names them
            file.unlink(missing_ok=True)
    mark.touch()
    yield
    mark.unlink(missing_ok=True)


def without_formula(text: str) -> str:
    """Return a cell, with a leading ' if a spreadsheet program would run the cell as a formula; numbers stay unchanged."""
    return f"'{text}" if FORMULA.search(text) and not PLAIN_NUMBER.fullmatch(text) else text


def without_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame without texts that a spreadsheet program would run as a formula, see `without_formula`."""
    return frame.map(lambda cell: without_formula(cell) if isinstance(cell, str) else cell)


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: object) -> None:
    """Write JSON (Hangul unescaped, NaN refused) atomically."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def write_parquet(path: str | Path, frame: pd.DataFrame, note: str = "") -> None:
    """Write a frame as Parquet atomically; `note` goes into the file's metadata under 'kjcm'."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), b"kjcm": note.encode()})
    with atomic(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def digest(path: str | Path) -> str:
    """Return what identifies the content of a file or folder, for comparisons within kjcm: a hash over the files' SHA-256.

    It is not the file's SHA-256, which other programs print: see `sha256`.
    """
    path = Path(path)
    found = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        if path.is_dir():
            found.update(f"{file.relative_to(path).as_posix()}\0".encode())
        with file.open("rb") as stream:
            found.update(hashlib.file_digest(stream, "sha256").digest())
    return found.hexdigest()


def sha256(file: str | Path) -> str:
    """Return a file's SHA-256, as `sha256sum` prints it."""
    with Path(file).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def key_of(what: object, texts: Sequence[str] = ()) -> str:
    """Return the name of a cache entry: 32 digits of the SHA-256 of a JSON value and of texts."""
    whole = json.dumps(what, sort_keys=True) + "".join(f"{len(text)}\0{text}" for text in texts)
    return hashlib.sha256(whole.encode()).hexdigest()[:32]


def cached(
    file: Path | None,
    make: Callable[[], T],
    to_arrays: Callable[[T], Mapping[str, NDArray[Any]]],
    from_arrays: Callable[[Mapping[str, NDArray[Any]]], T],
) -> T:
    """Return the content of the cache entry `file` (.npz; None: no cache), else the result of `make`, and store it.

    The entry's name must cover everything that its content depends on (`key_of`). Entries are written atomically, so
    processes may share a cache.
    """
    if file and file.is_file():
        with (
            suppress(Exception),
            np.load(file, allow_pickle=False) as stored,
        ):  # any damage: recompute the entry
            return from_arrays({name: stored[name] for name in stored.files})
    made = make()
    if file:
        with atomic(file) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **to_arrays(made))  # type: ignore[arg-type]
    return made
