"""Read Stata files (.dta) with every number, format, label and note unchanged, for `kjcm.write.stata`.

No library does this: pandas drops formats, notes and the missing values .a to .z; pyreadstat returns wrong values for .a to
.z. This module reads formats 113 to 115 and 117 to 119 (Stata 8 to 18). Source: `help dta` of Stata.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kjcm.read.labelled import stata_format

FIXED = 2045  # bytes of a str variable
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
    return texts_of([cell.partition(b"\0")[0].decode(source.encoding) for cell in stored.tolist()], stored.itemsize)


def texts_of(texts: Sequence[str], width: int = 1) -> tuple[str, NDArray[Any]]:
    """Return type and cells of texts: str of at least `width` bytes if possible, else strL; a NUL ends a text."""
    cells = [text.replace("\0", "").encode() for text in texts]
    longest = max(map(len, cells), default=0)
    if longest <= FIXED:
        return "str", np.array(cells, f"S{max(longest, width)}")
    return LONG, np.fromiter(((TEXT, cell) for cell in cells), object, len(cells))
