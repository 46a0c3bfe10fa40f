"""Write Stata files (.dta): format 118, or 119 with more than 32,767 variables. Source: `help dta` of Stata.

No library can store what `kjcm.read.stata` reads: pyreadstat stores every integer as long.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kjcm.read.stata import BYTE, KINDS, LAYOUTS, LONG, NUMBERS, STRL_CODE, TEXT, StataFile, Variable, texts_of

MOST_FIXED = 32_767  # variables of format 118


def texts_variable(name: str, texts: Sequence[str], label: str = "") -> Variable:
    """Return a variable of texts: str if all have at most 2,045 bytes, else strL."""
    kind, cells = texts_of(texts)
    width = 40 if kind == LONG else min(max(cells.itemsize, 9), 40)
    return Variable(name, kind, cells, f"%-{width}s", "", label)


def numbers_variable(
    name: str, numbers: NDArray[Any], missing: NDArray[np.bool_], label: str = "", shown: str = ""
) -> Variable:
    """Return a variable of numbers, integers in the smallest Stata type that fits.

    Args:
        name: of the variable.
        numbers: [rows]; integers, float32 or float64, exact in float64.
        missing: [rows], which are missing.
        label: of the variable.
        shown: its format; '': the type's own.
    """
    there = numbers[~missing]
    kind = "float" if numbers.dtype == np.float32 else "double"
    if numbers.dtype.kind in "iub":
        least, most = (int(there.min()), int(there.max())) if len(there) else (0, 0)
        sizes = ((name, NUMBERS[name][1]) for name in ("byte", "int", "long"))
        kind = next((fits for fits, dot in sizes if -dot - 27 < least and most < dot), "double")
    code, dot, own = NUMBERS[kind]
    cells = np.where(missing, dot, np.where(missing, 0, numbers)).astype(code)
    return Variable(name, kind, cells, shown or own, "", label)


def write_stata(path: Path, file: StataFile) -> None:
    """Write a .dta file of format 118, or 119 if it has too many variables for 118."""
    release = 118 if len(file.variables) <= MOST_FIXED else 119
    layout, variables = LAYOUTS[release], file.variables
    label, saved = _padded(file.label, layout.label).rstrip(b"\0"), file.saved.encode()[:17]
    header = b"<stata_dta>" + _tagged(
        "header",
        _tagged("release", str(release).encode()),
        _tagged("byteorder", b"LSF"),
        _tagged("K", _bytes(len(variables), layout.variables)),
        _tagged("N", _bytes(file.rows, layout.rows)),
        _tagged("label", _bytes(len(label), layout.length), label),
        _tagged("timestamp", _bytes(len(saved), 1), saved),
    )
    places = [place + 1 for place in file.sorted_by] + [0] * (len(variables) + 1 - len(file.sorted_by))
    sections = [
        _tagged("variable_types", *(_bytes(_code(variable), 2) for variable in variables)),
        _tagged("varnames", *(_padded(variable.name, layout.name) for variable in variables)),
        _tagged("sortlist", *(_bytes(place, layout.variables) for place in places)),
        _tagged("formats", *(_padded(variable.format, layout.format) for variable in variables)),
        _tagged("value_label_names", *(_padded(variable.values, layout.name) for variable in variables)),
        _tagged("variable_labels", *(_padded(variable.label, layout.label) for variable in variables)),
        _tagged("characteristics", *(_characteristic(*note, layout.name) for note in file.notes)),
        _tagged("data", _records(variables, file.rows, 8 * layout.reference)),
        _tagged("strls", *_stored(variables)),
        _tagged("value_labels", *(_labels(*table, layout.name) for table in file.tables.items())),
    ]
    end, empty_map = b"</stata_dta>", _tagged("map", bytes(14 * 8))
    begins = np.cumsum([0, *map(len, (header, empty_map, *sections, end))])
    with path.open("wb") as stream:
        stream.writelines([header, _tagged("map", begins.astype("<u8").tobytes()), *sections, end])


def _tagged(name: str, *contents: bytes) -> bytes:
    return b"".join([f"<{name}>".encode(), *contents, f"</{name}>".encode()])


def _bytes(number: int, size: int) -> bytes:
    return number.to_bytes(size, "little")


def _padded(text: str, size: int) -> bytes:
    """Return a text in UTF-8 padded to a field's bytes, and cut only between characters."""
    return text.encode()[: size - 1].decode(errors="ignore").encode().ljust(size, b"\0")


def _code(variable: Variable) -> int:
    if variable.kind == LONG:
        return STRL_CODE
    return BYTE - KINDS.index(variable.kind) if variable.kind in NUMBERS else variable.cells.dtype.itemsize


def _records(variables: Sequence[Variable], rows: int, bits: int) -> bytes:
    """Return the rows, one after another."""
    kinds = ["<u8" if variable.kind == LONG else variable.cells.dtype.newbyteorder("<") for variable in variables]
    records = np.zeros(rows, np.dtype([(str(place), kind) for place, kind in enumerate(kinds)]))
    for place, variable in enumerate(variables):
        cells = variable.cells
        if variable.kind == LONG:
            cells = np.array([place + 1 | row + 1 << bits if cell[1] else 0 for row, cell in enumerate(cells)], "<u8")
        records[str(place)] = cells
    return records.tobytes()


def _stored(variables: Sequence[Variable]) -> Iterator[bytes]:
    """Yield the cells of strL variables row by row, in Stata's form."""
    long = [(place, variable.cells) for place, variable in enumerate(variables, 1) if variable.kind == LONG]
    for row in range(len(long[0][1]) if long else 0):
        for place, cells in long:
            kind, contents = cells[row]
            if contents:
                contents += b"\0" * (kind == TEXT)
                yield b"GSO" + _bytes(place, 4) + _bytes(row + 1, 8) + _bytes(kind, 1) + _bytes(len(contents), 4)
                yield contents


def _characteristic(variable: str, name: str, contents: str, size: int) -> bytes:
    whole = _padded(variable, size) + _padded(name, size) + contents.encode() + b"\0"
    return _tagged("ch", _bytes(len(whole), 4), whole)


def _labels(name: str, labels: Mapping[int, str], size: int) -> bytes:
    """Return a table of value labels."""
    texts = [label.encode() + b"\0" for label in labels.values()]
    begins = np.cumsum([0, *map(len, texts)])
    table = [
        _bytes(len(texts), 4), _bytes(int(begins[-1]), 4), begins[:-1].astype("<u4").tobytes(),
        np.array(list(labels), "<i4").tobytes(), *texts,
    ]  # fmt: skip
    return _tagged("lbl", _bytes(sum(map(len, table)), 4), _padded(name, size), bytes(3), *table)
