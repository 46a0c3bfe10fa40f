"""Write SPSS (.sav, .zsav) and Stata (.dta); from the same kind, the input's columns keep their storage."""

import logging
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kjcm.errors import CUT, DiskError, KjcmError, first_line, some
from kjcm.read.labelled import encodings, read_labelled, stata_format
from kjcm.read.options import ReadOptions
from kjcm.read.stata import LAYOUTS, StataFile, Variable, read_stata
from kjcm.write.cells import Cells, plain
from kjcm.write.stata import numbers_variable, texts_variable, write_stata

ValueLabels = Mapping[str, Mapping[Any, str]]  # column -> value -> label

log = logging.getLogger("kjcm")

SPSS = (".sav", ".zsav")
LABELLED = (*SPSS, ".dta")
SPSS_BYTES = 32_767  # of a text
STATA_NAME = re.compile(r"[^\W\d]\w{0,31}")
STATA_WORDS = {
    "_all", "_b", "byte", "_coef", "_cons", "double", "float", "if", "in", "int", "long", "_n", "_N", "_pi", "_pred", "_rc",
    "_skip", "strL", "using", "with",
}  # fmt: skip
STATA_LABEL = 80  # characters
STATA_EPOCH = np.datetime64("1960-01-01")
SPSS_EPOCH = np.datetime64("1582-10-14")
END = np.datetime64("10000-01-01", "us")  # Python has no later time
SECOND, MILLISECOND = 1_000_000, 1000  # microseconds


def require_labelled(
    path: Path, frame: pd.DataFrame, added: Collection[str], suffix: str, options: ReadOptions
) -> None:
    """Raise KjcmError if SPSS or Stata cannot store columns of the file `path`, or a Stata file is damaged.

    Args:
        path: the source file, also named in messages.
        frame: rows of the source file.
        added: columns that will be added.
        suffix: ending of the file to write.
        options: how the source file is read.
    """
    kind, names = suffix[1:].upper(), [*map(str, frame), *added]
    folded = [name.casefold() for name in names]
    if suffix in SPSS and (twice := [name for name in names if folded.count(name.casefold()) > 1]):
        raise KjcmError(f"{path}: {kind} reads {some(twice)} as one name. Rename them, or write .csv or .parquet.")
    if _same_kind(path, suffix):  # its columns keep their storage
        if suffix == ".dta":
            _read_stata(path, options)
        return
    wrong = [name for name in names if not _is_name(name, suffix)]
    if wrong:
        rule = "letters, digits and _, at most 32" if suffix == ".dta" else "a letter first, no blank, at most 64 bytes"
        raise KjcmError(
            f"{path}: {kind} cannot hold columns named {some(wrong)} ({rule}). Rename them, or write .csv or .parquet."
        )
    for name in frame:
        cells = plain(frame[name])
        if cells.kind == "number" and (~np.isfinite(cells.values[~cells.missing])).any():
            raise KjcmError(
                f"{path}, column {name!r}: has infinite numbers, which {kind} cannot hold. Write .csv or .parquet."
            )
        if suffix in SPSS and cells.kind == "text":
            for row, text in enumerate(cells.values.tolist(), 1):
                if len(text) * 4 > SPSS_BYTES and len(text.encode()) > SPSS_BYTES:
                    raise KjcmError(
                        f"{path}, column {name!r}, row {row:,}: {text[:CUT]!r}... has more than the {SPSS_BYTES:,} bytes "
                        "that SPSS can store. Write .csv or .parquet."
                    )


def _same_kind(source: Path | None, suffix: str) -> bool:
    """Return whether a file's columns can keep their storage."""
    ending = source.suffix.lower() if source else ""
    if source and suffix == ending == ".dta":
        return stata_format(source) in LAYOUTS
    return suffix in SPSS and ending in SPSS


def _is_name(name: str, suffix: str) -> bool:
    if suffix == ".dta":
        return bool(STATA_NAME.fullmatch(name)) and name not in STATA_WORDS and not re.fullmatch(r"str\d+", name)
    words = ("ALL", "AND", "BY", "EQ", "GE", "GT", "LE", "LT", "NE", "NOT", "OR", "TO", "WITH")
    return (
        bool(re.fullmatch(r"[^\W\d_][\w.@#$]*|[@][\w.@#$]*", name))
        and len(name.encode()) <= 64
        and name.upper() not in words
    )


def write_labelled(
    path: Path, frame: pd.DataFrame, source: Path | None, labels: Mapping[str, str], options: ReadOptions
) -> None:
    """Write a frame as SPSS or Stata.

    Args:
        path: what to write.
        frame: the source's columns in order, then the added columns.
        source: the file with exactly these rows, in the same order.
        labels: added column -> label.
        options: how the source is read.
    """
    suffix = path.suffix.lower()
    if source and _same_kind(source, suffix):
        write = _stata_to_stata if suffix == ".dta" else _spss_to_spss
        write(path, frame, source, labels, options)
        return
    values: ValueLabels = {}
    if source and source.suffix.lower() in LABELLED:
        own, found = read_labelled(source, options)
        frame = pd.concat([own, frame[frame.columns[own.shape[1] :]]], axis=1)
        named = {name: label for name, label in found.column_names_to_labels.items() if label}
        labels, values = {**named, **labels}, found.variable_value_labels
    (_write_stata if suffix == ".dta" else _write_spss)(path, frame, labels, values)


def _stata_to_stata(
    path: Path, frame: pd.DataFrame, source: Path, labels: Mapping[str, str], options: ReadOptions
) -> None:
    """Write the source's variables unchanged, and the added variables."""
    own = _read_stata(source, options)
    names = map(str, frame.columns[len(own.variables) :])
    added = [_variable(name, frame[name], labels.get(name, "")) for name in names]
    write_stata(path, replace(own, variables=[*own.variables, *added]))


def _read_stata(path: Path, options: ReadOptions) -> StataFile:
    """Read a file that pyreadstat has read, in the first encoding that fits its texts.

    Raises:
        KjcmError: the file has damage that pyreadstat does not see.
    """
    errors = []
    for encoding in encodings(path, options):
        try:
            return read_stata(path, encoding or "utf-8")
        except (ValueError, LookupError) as error:
            errors.append(first_line(error))
    raise KjcmError(f"{path}: not a readable DTA file ({errors[-1]}). Save it again, or as CSV.")


def _variable(name: str, column: pd.Series, label: str, values: str = "") -> Variable:
    """Return a column as a Stata variable."""
    cells = plain(column)
    if cells.kind == "text":
        return texts_variable(name, cells.values.tolist(), label)
    numbers, shown = cells.values, ""
    if cells.kind == "date":
        numbers, shown = (numbers - STATA_EPOCH).astype(np.int64), "%td"
    elif cells.kind == "stamp":
        numbers, shown = _since(STATA_EPOCH, numbers, MILLISECOND), "%tc"
    elif cells.kind == "time":
        numbers, shown = numbers / MILLISECOND, "%tcHH:MM:SS"
    return replace(numbers_variable(name, numbers, cells.missing, label, shown), values=values)


def _since(epoch: np.datetime64, stamps: NDArray[Any], unit: int) -> NDArray[np.float64]:
    """Return times since an epoch, in units of so many microseconds; none is rounded up to the year 10000."""
    end = np.nextafter((END - epoch).astype(np.int64) / unit, 0)
    return np.minimum((stamps - epoch).astype(np.int64) / unit, end)


def _write_stata(path: Path, frame: pd.DataFrame, labels: Mapping[str, str], values: ValueLabels) -> None:
    tables = dict[str, dict[int, str]]()
    for name, own in values.items():
        if whole := {int(value): label for value, label in _of_numbers(own).items() if value % 1 == 0}:
            tables[name] = whole
    variables = []
    for name in map(str, frame):
        variable = _variable(name, frame[name], labels.get(name, ""))
        if name in tables and variable.kind in ("str", "strL"):
            del tables[name]
        variables.append(replace(variable, values=name if name in tables else ""))
    if long := [name for name, label in labels.items() if len(label) > STATA_LABEL]:
        log.warning("Stata shows the first %d characters of the labels of %s", STATA_LABEL, some(long))
    write_stata(path, StataFile(variables, len(frame), tables=tables))


def _spss_to_spss(
    path: Path, frame: pd.DataFrame, source: Path, labels: Mapping[str, str], options: ReadOptions
) -> None:
    """Write the source's columns unchanged, and the added columns."""
    own, found = read_labelled(source, options, user_missing=True, disable_datetime_conversion=True)
    added = _SpssColumns(frame[frame.columns[own.shape[1] :]])
    formats = dict(found.original_variable_types)
    _save_spss(
        path,
        pd.concat([_widened(own, formats), added.frame], axis=1),
        {
            "column_labels": {**found.column_names_to_labels, **labels},
            "variable_value_labels": found.variable_value_labels,
            "missing_ranges": found.missing_ranges,
            "variable_measure": {**found.variable_measure, **added.measures},
            "variable_display_width": found.variable_display_width,
            "variable_format": {**formats, **added.formats},
            "file_label": found.file_label or "",
            "note": found.notes or None,
        },
    )


def _widened(frame: pd.DataFrame, formats: Mapping[str, str]) -> pd.DataFrame:
    """Return the frame with each column's first text padded with blanks to the declared width; SPSS ignores the blanks."""
    if not len(frame):
        return frame
    wider = frame.copy(deep=False)
    for name in frame:
        width = re.fullmatch(r"A(\d+)", formats[str(name)] or "")
        if width and isinstance(first := frame[name].iloc[0], str):
            column = frame[name].astype(object)
            column.iloc[0] = first + " " * (int(width[1]) - len(first.encode()))
            wider[name] = column
    return wider


def _of_numbers(labels: Mapping[Any, str]) -> dict[int | float, str]:
    return {value: label for value, label in labels.items() if isinstance(value, int | float)}


def _write_spss(path: Path, frame: pd.DataFrame, labels: Mapping[str, str], values: ValueLabels) -> None:
    columns = _SpssColumns(frame)
    named = {
        name: own
        for name, texts in values.items()
        if columns.measures.get(name) == "scale" and (own := _of_numbers(texts))
    }
    about = {
        "column_labels": dict(labels),
        "variable_value_labels": named,
        "variable_measure": {**columns.measures, **dict.fromkeys(named, "nominal")},
        "variable_format": columns.formats,
    }
    _save_spss(path, columns.frame, about)


class _SpssColumns:
    """Columns for SPSS: numbers with a format for their meaning, and text."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.formats, self.measures = dict[str, str](), dict[str, str]()
        columns = {str(name): self._column(str(name), plain(frame[name])) for name in frame}
        self.frame = pd.DataFrame(columns, index=pd.RangeIndex(len(frame)))

    def _column(self, name: str, cells: Cells) -> NDArray[Any]:
        self.measures[name] = "nominal" if cells.kind == "text" else "scale"
        if cells.kind == "text":  # SPSS ends a text at a NUL
            return np.array([text.replace("\0", "") for text in cells.values.tolist()], dtype=object)
        values, self.formats[name] = cells.values, "F8.0"
        if cells.kind == "date":
            values, self.formats[name] = (values - SPSS_EPOCH).astype(np.int64) * 86_400, "DATE11"
        elif cells.kind == "stamp":
            values, self.formats[name] = _since(SPSS_EPOCH, values, SECOND), "DATETIME23.2"
        elif cells.kind == "time":
            values, self.formats[name] = values / SECOND, "TIME11.2"
        elif values.dtype.kind == "f":
            there = values[~cells.missing]
            self.formats[name] = "F12.0" if (there % 1 == 0).all() else "F12.6"
        return np.where(cells.missing, np.nan, values.astype(np.float64))


def _save_spss(path: Path, frame: pd.DataFrame, about: Mapping[str, Any]) -> None:
    """Write an SPSS file, and read a column of it again: a full disk may cut it off without an error.

    Raises:
        DiskError: the file could not be written completely.
        KjcmError: SPSS cannot store the table.
    """
    import pyreadstat

    try:
        pyreadstat.write_sav(frame, str(path), compress=path.suffix.lower() == ".zsav", **about)
    except Exception as error:  # each reason has its own type
        said = first_line(error)
        if isinstance(error, OSError) or "Unable to write" in said:
            raise DiskError(f"{path.parent}: cannot be written ({said}). Check the space on its disk.") from None
        raise KjcmError(f"SPSS cannot hold this table ({said}). Write .csv or .parquet.") from None
    with suppress(pyreadstat.ReadstatError):
        if len(pyreadstat.read_sav(str(path), usecols=[str(frame.columns[-1])])[0]) == len(frame):
            return
    raise DiskError(f"{path.parent}: the file was cut off. Check the space on its disk.")
