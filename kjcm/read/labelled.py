"""Read SPSS and Stata files: values, labels and encoding."""

import codecs
import mmap
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from kjcm.errors import KjcmError, first_line
from kjcm.read.options import PLAIN, ReadOptions

EXACT = 2**53  # integers below it are exact as float64
SUFFIXES = (".sav", ".zsav", ".dta")
STATA_DECLARES = 118  # from this format on Stata's text is UTF-8; older formats do not declare an encoding
ASCII = (0, 1, 2, 3)  # SPSS character codes without an encoding


def read_labelled(path: Path, options: ReadOptions = PLAIN, **more: Any) -> tuple[pd.DataFrame, Any]:
    """Return an SPSS or Stata file's values and metadata, as pyreadstat reads them.

    Text is read in the given encoding, else in the file's declared encoding, else as UTF-8, else as CP949.

    Raises:
        KjcmError: the text has none of these encodings, or the file is damaged.
    """
    import pyreadstat

    reader = pyreadstat.read_dta if path.suffix.lower() == ".dta" else pyreadstat.read_sav
    errors = []
    for encoding in encodings(path, options):
        try:
            frame, about = reader(str(path), apply_value_formats=False, encoding=encoding, **more)
        except Exception as error:  # damage raises errors of many types
            errors.append(first_line(error))
            continue
        if None not in about.column_names:
            return frame, about
        errors.append("a column's name is in another encoding")
    if all("character set" in error for error in errors) and options.encoding is not None:
        raise KjcmError(
            f"{path}: SPSS and Stata files cannot be read in {options.keys}encoding={options.encoding}. Save the file as CSV "
            "and set that file's encoding."
        )
    if not any("encoding" in error or "character set" in error or "decode" in error for error in errors):
        raise KjcmError(f"{path}: not a readable {path.suffix[1:].upper()} file ({errors[-1]}).")
    where = f"{options.keys}encoding={options.encoding}" if options.encoding else None
    if where is None:
        where = (
            "the encoding that the file declares" if len(errors) == 1 else "UTF-8 or CP949, and the file declares none"
        )
    remedy = options.advice("encoding", "NAME, as latin-1") if options.encoding is None else " Give another or none."
    raise KjcmError(f"{path}: its text is not in {where}.{remedy}")


def value_labels(path: Path, options: ReadOptions = PLAIN) -> Mapping[str, Mapping[Any, str]]:
    """Return column -> value -> label of an SPSS or Stata file, {} for files of other kinds."""
    if path.suffix.lower() not in SUFFIXES:
        return {}
    found = read_labelled(path, options, metadataonly=True)[1].variable_value_labels
    return {
        name: {value.strip() if isinstance(value, str) else value: label.strip() for value, label in labels.items()}
        for name, labels in found.items()
    }


def read_whole(path: Path, options: ReadOptions = PLAIN) -> pd.DataFrame:
    """Read SPSS or Stata without value labels.

    Integers, which SPSS stores as decimals, become integers, and Stata's floats become float32.
    """
    frame, about = read_labelled(path, options)
    decimals = frame.select_dtypes("float")
    whole = decimals.isna() | ((decimals % 1 == 0) & (decimals.abs() < EXACT))
    kinds = {name: "float32" for name, kind in about.readstat_variable_types.items() if kind == "float"}
    return frame.astype(kinds | dict.fromkeys(decimals.columns[whole.all()], "Int64"))


def encodings(path: Path, options: ReadOptions) -> list[str | None]:
    """Return the encodings to try; None means the declared encoding. One encoding has several spellings."""
    if options.encoding is not None:
        own, python = options.encoding, codecs.lookup(options.encoding).name
        return list(dict.fromkeys((own, python, python.replace("_", "-"), python.replace("-", ""))))
    stata = path.suffix.lower() == ".dta"
    declared = stata_format(path) >= STATA_DECLARES if stata else _spss_declares(path)
    return [None] if declared else ["UTF-8", "CP949"]


def stata_format(path: Path) -> int:
    """Return the format's number (in old files the first byte), or a large number if it is not a Stata file."""
    with path.open("rb") as stream:
        begin = stream.read(64)
    if begin.startswith(b"<stata_dta>"):
        number = begin.partition(b"<release>")[2][:3]
        return int(number) if number.isdigit() else STATA_DECLARES
    return begin[0] if begin else STATA_DECLARES


def _spss_declares(path: Path) -> bool:
    """Return whether an SPSS file declares its encoding: in record 7.20, or as a character code in record 7.3."""
    if not path.stat().st_size:
        return True
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        for order in "<>":
            if whole.find(struct.pack(f"{order}3i", 7, 20, 1)) >= 0:
                return True
            record = struct.pack(f"{order}4i", 7, 3, 4, 8)
            at = whole.find(record) + len(record)
            if at >= len(record) and at + 32 <= len(whole):
                return struct.unpack(f"{order}i", whole[at + 28 : at + 32])[0] not in ASCII
    return False
