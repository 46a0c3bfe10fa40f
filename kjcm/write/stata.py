"""Read and write Stata files (.dta) with every number, format, label and note unchanged.

No library does this: pandas drops formats, notes and the missing values .a to .z; pyreadstat stores every integer as long
and returns wrong values for .a to .z. This module reads formats 113 to 115 and 117 to 119 (Stata 8 to 18). It writes 118,
or 119 with more than 32,767 variables. Source: `help dta` of Stata.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kjcm.read.labelled import stata_format

FIXED, MOST_FIXED = 2045, 32_767  # bytes of a str variable; variables of format 118
LONG = "strL"
# variable type -> how numpy stores it, the missing value ".", its usual format
NUMBERS = {
    "byte": ("i1", 101, "%8.0g"),
    "int": ("i2", 32_741, "%8.0g"),
    "long": ("i4", 2_147_483_621, "%12.0g"),
    "float": ("f4", 2.0**127, "%9.0g"),
    "double": ("f8", 2.0**1023, "%10.0g"),
}
KINDS = list(NUMBERS)
BYTE, OLD_BYTE = 65_530, 251  # code of the first type; the others count down, before format 117 up
STRL_CODE, TEXT = 32_768, 130
LONGEST_LABEL = 32_000  # bytes of a value label


class _Layout(NamedTuple):
    """Bytes of each field in a format."""

    name: int
    format: int
    label: int
    variables: int  # the number of variables
    rows: int  # the number of rows
    length: int  # the length of the file's label; 0: the label has a fixed width, and there are no tags
    reference: int  # the variable's part of a strL reference


LAYOUTS = {
    113: _Layout(33, 12, 81, 2, 4, 0, 0),
    114: _Layout(33, 49, 81, 2, 4, 0, 0),
    115: _Layout(33, 49, 81, 2, 4, 0, 0),
    117: _Layout(33, 49, 81, 2, 4, 1, 4),
    118: _Layout(129, 57, 321, 2, 8, 2, 2),
    119: _Layout(129, 57, 321, 4, 8, 2, 3),
}


@dataclass(frozen=True)
class Variable:
    """A variable and its cells.

    Attributes:
        name: its name.
        kind: byte, int, long, float, double, str or strL.
        cells: [rows]; numbers with Stata's missing values as they are stored; bytes of str; (type, bytes) of strL.
        format: how Stata shows it.
        values: the name of its value labels, or ''.
        label: its label.
    """

    name: str
    kind: str
    cells: NDArray[Any]
    format: str
    values: str = ""
    label: str = ""


@dataclass(frozen=True)
class StataFile:
    """The contents of a .dta file.

    Attributes:
        variables: in their order.
        rows: how many.
        label: of the file.
        saved: time of saving, as Stata writes it, or ''.
        sorted_by: places of the variables that it is sorted by.
        notes: (variable or _dta, name, contents) of its characteristics, of which notes are one kind.
        tables: name -> value -> label.
    """

    variables: Sequence[Variable]
    rows: int
    label: str = ""
    saved: str = ""
    sorted_by: Sequence[int] = ()
    notes: Sequence[tuple[str, str, str]] = ()
    tables: Mapping[str, Mapping[int, str]] = field(default_factory=dict)


class _Source:
    """A file's bytes, read field by field, with texts in `encoding`."""

    def __init__(self, path: Path, encoding: str) -> None:
        release = stata_format(path)
        if release not in LAYOUTS:
            raise ValueError(f"its format {release} is none of {', '.join(map(str, LAYOUTS))}")
        self.layout, self.encoding = LAYOUTS[release], encoding
        self.whole, self.tagged, self.section = path.read_bytes(), bool(self.layout.length), "map"
        big = b"<byteorder>MSF" in self.whole[:64] if self.tagged else self.whole[1] == 1
        self.order, self.numpy_order = ("big", ">") if big else ("little", "<")
        self.at = self.whole.index(b"<K>") if self.tagged else 4

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.whole):
            raise ValueError("it ends early")
        self.at += count
        return self.whole[self.at - count : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), self.order)  # type: ignore[arg-type]

    def array(self, code: str, count: int) -> NDArray[Any]:
        kind = np.dtype(self.numpy_order + code)
        return np.frombuffer(self.take(kind.itemsize * count), kind)

    def text(self, size: int) -> str:
        return self.take(size).partition(b"\0")[0].decode(self.encoding)

    def tags(self, *names: str) -> None:
        """Skip tags, which must be next where there are tags."""
        for name in names if self.tagged else ():
            if self.take(len(name) + 2) != f"<{name}>".encode():
                raise ValueError(f"<{name}> is not where it should be")

    def begin(self, section: str) -> None:
        """Skip the end of the last section and the beginning of the next."""
        self.tags(f"/{self.section}", section)
        self.section = section

    def texts(self, section: str, size: int, count: int) -> list[str]:
        """Return the texts of a section."""
        self.begin(section)
        return [self.text(size) for _ in range(count)]

    def ahead(self, tag: bytes) -> bool:
        return self.whole.startswith(tag, self.at)


def read_stata(path: Path, encoding: str = "utf-8") -> StataFile:
    """Return the contents of a .dta file of format 113 or later.

    Args:
        path: the file.
        encoding: of its texts; formats below 118 do not declare it.

    Raises:
        ValueError, KeyError: the file is damaged, has an earlier format, or another encoding.
    """
    source = _Source(path, encoding)
    layout, tagged = source.layout, source.tagged
    source.tags("K")
    count = source.number(layout.variables)
    source.tags("/K", "N")
    rows = source.number(layout.rows)
    source.tags("/N", "label")
    label = source.text(source.number(layout.length) if tagged else layout.label)
    source.tags("/label", "timestamp")
    saved = source.text(source.number(1) if tagged else 18)
    source.tags("/timestamp", "/header", "map")
    source.take(14 * 8 if tagged else 0)
    source.begin("variable_types")
    kinds = [_kind(code, tagged) for code in source.array("u2" if tagged else "u1", count).tolist()]
    names = source.texts("varnames", layout.name, count)
    source.begin("sortlist")
    places = source.array(f"u{layout.variables}", count + 1).tolist()
    formats = source.texts("formats", layout.format, count)
    values = source.texts("value_label_names", layout.name, count)
    labels = source.texts("variable_labels", layout.label, count)
    source.begin("characteristics")
    notes = list(_notes(source))
    source.begin("data")
    record = np.dtype([(str(place), source.numpy_order + stored) for place, (_, stored) in enumerate(kinds)])
    records = np.frombuffer(source.take(record.itemsize * rows), record)
    source.begin("strls")
    long = {(0, 0): (TEXT, b""), **dict(_long_texts(source))}
    source.begin("value_labels")
    tables = dict(_tables(source))
    cells = [_cells(source, kind, records[str(place)], long) for place, (kind, _) in enumerate(kinds)]
    variables = [
        Variable(name, *column, *about)
        for name, column, *about in zip(names, cells, formats, values, labels, strict=True)
    ]
    sorted_by = [place - 1 for place in places[: places.index(0) if 0 in places else count]]
    return StataFile(variables, rows, label, saved, sorted_by, notes, tables)


def _kind(code: int, tagged: bool) -> tuple[str, str]:
    """Return a type code's type, and the NumPy type of its cells."""
    place = BYTE - code if tagged else code - OLD_BYTE
    if 0 <= place < len(KINDS):
        return KINDS[place], NUMBERS[KINDS[place]][0]
    if code == STRL_CODE:
        return LONG, "u8"
    if not 0 < code <= FIXED:
        raise ValueError(f"there is no type {code}")
    return "str", f"S{code}"


def _notes(source: _Source) -> Iterator[tuple[str, str, str]]:
    while source.ahead(b"<ch>") if source.tagged else source.whole[source.at : source.at + 5].strip(b"\0"):
        source.tags("ch")
        known = source.tagged or source.number(1) == 1
        end = source.number(4) + source.at
        if known:
            yield source.text(source.layout.name), source.text(source.layout.name), source.text(end - source.at)
        source.at = end
        source.tags("/ch")
    source.take(0 if source.tagged else 5)


def _long_texts(source: _Source) -> Iterator[tuple[tuple[int, int], tuple[int, bytes]]]:
    """Yield (variable, row) and (type, bytes) of each strL cell that is stored."""
    while source.tagged and source.ahead(b"GSO"):
        source.take(3)
        key = source.number(4), source.number(source.layout.rows)
        kind, contents = source.number(1), source.take(source.number(4))
        if kind == TEXT:
            contents = contents.removesuffix(b"\0").decode(source.encoding).encode()
        yield key, (kind, contents)


def _tables(source: _Source) -> Iterator[tuple[str, dict[int, str]]]:
    """Yield the name and the labels of each table of value labels."""
    while source.ahead(b"<lbl>") if source.tagged else source.at < len(source.whole):
        source.tags("lbl")
        source.number(4)
        name = source.text(source.layout.name)
        source.take(3)
        count, length = source.number(4), source.number(4)
        begins, values = source.array("u4", count).tolist(), source.array("i4", count).tolist()
        texts = source.take(length)
        labels = [texts[begin : begin + LONGEST_LABEL].partition(b"\0")[0].decode(source.encoding) for begin in begins]
        yield name, dict(zip(values, labels, strict=True))
        source.tags("/lbl")


def _cells(
    source: _Source, kind: str, stored: NDArray[Any], long: Mapping[tuple[int, int], tuple[int, bytes]]
) -> tuple[str, NDArray[Any]]:
    """Return a variable's type and cells; texts become UTF-8, perhaps too long for str."""
    if kind in NUMBERS:
        return kind, stored.astype(NUMBERS[kind][0])
    if kind == LONG:
        big, bits = source.order == "big", 8 * source.layout.reference
        low = 64 - bits if big else bits
        parts = (stored & (2**low - 1)).tolist(), (stored >> low).tolist()
        keys = zip(*(parts[::-1] if big else parts), strict=True)  # (variable, row); both are 0 for ''
        return LONG, np.fromiter(map(long.__getitem__, keys), object, len(stored))
    return _texts([cell.partition(b"\0")[0].decode(source.encoding) for cell in stored.tolist()], stored.itemsize)


def _texts(texts: Sequence[str], width: int = 1) -> tuple[str, NDArray[Any]]:
    """Return type and cells of texts: str of at least `width` bytes if possible, else strL; a NUL ends a text."""
    cells = [text.replace("\0", "").encode() for text in texts]
    longest = max(map(len, cells), default=0)
    if longest <= FIXED:
        return "str", np.array(cells, f"S{max(longest, width)}")
    return LONG, np.fromiter(((TEXT, cell) for cell in cells), object, len(cells))


def texts_variable(name: str, texts: Sequence[str], label: str = "") -> Variable:
    """Return a variable of texts: str if all have at most 2,045 bytes, else strL."""
    kind, cells = _texts(texts)
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
