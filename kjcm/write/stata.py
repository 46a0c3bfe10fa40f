"""Stata files (.dta) as they are stored: every number, format, label and note goes through unchanged.

No library does this: pandas drops formats, notes and the missing values .a to .z; pyreadstat stores every whole number as
long and returns wrong values for .a to .z. Reads formats 113 to 115 and 117 to 119 (Stata 8 to 18), writes 118, or 119 where
there are more than 32,767 variables. Source: `help dta` of Stata.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kjcm.read.labelled import stata_format

OLDEST, OLD = 113, 117  # formats below 117 are not made of tags, and declare no encoding
FIXED, MOST_FIXED = 2045, 32_767  # bytes of a str variable; variables of format 118
LONG = "strL"
# variable type -> how numpy stores it, code since format 117, code before it, the missing value "."
NUMBERS = {
    "byte": ("i1", 65530, 251, 101),
    "int": ("i2", 65529, 252, 32_741),
    "long": ("i4", 65528, 253, 2_147_483_621),
    "float": ("f4", 65527, 254, 2.0**127),
    "double": ("f8", 65526, 255, 2.0**1023),
}
STRL_CODE, TEXT = 32_768, 130
SECTIONS = (
    "variable_types", "varnames", "sortlist", "formats", "value_label_names", "variable_labels", "characteristics", "data",
    "strls", "value_labels",
)  # fmt: skip


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
    cells: NDArray[np.generic]
    format: str
    values: str = ""
    label: str = ""


@dataclass(frozen=True)
class StataFile:
    """What a .dta file holds.

    Attributes:
        variables: in their order.
        rows: how many.
        label: of the file.
        saved: when it was saved, as Stata writes it, or ''.
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
    tables: dict[str, dict[int, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Sizes:
    """Fields that differ between formats.

    Attributes:
        name: bytes of a variable's name.
        format: bytes of its format.
        label: bytes of its label.
        count: struct code of the number of variables.
        rows: struct code of the number of rows.
        length: struct code of a length in the header.
        place: struct code of a place in the sorting.
        reference: bits of a strL reference that tell the variable.
    """

    name: int
    format: int
    label: int
    count: str
    rows: str
    length: str
    place: str
    reference: int


def _sizes(release: int) -> _Sizes:
    if release < OLD:
        return _Sizes(33, 12 if release == OLDEST else 49, 81, "H", "I", "", "H", 0)
    if release == OLD:
        return _Sizes(33, 49, 81, "H", "I", "B", "H", 32)
    return _Sizes(
        129, 57, 321, "H" if release == 118 else "I", "Q", "H", "H" if release == 118 else "I", 16 + 8 * (release > 118)
    )


class _Bytes:
    """The bytes of a file, taken one field after another."""

    def __init__(self, whole: bytes, order: str = "<") -> None:
        self.whole, self.at, self.order = whole, 0, order

    def take(self, count: int) -> bytes:
        if count < 0 or self.at + count > len(self.whole):
            raise ValueError("it ends early")
        self.at += count
        return self.whole[self.at - count : self.at]

    def number(self, code: str) -> int:
        return int(struct.unpack(self.order + code, self.take(struct.calcsize(self.order + code)))[0])

    def array(self, code: str, count: int) -> NDArray[np.generic]:
        kind = np.dtype(self.order + code)
        return np.frombuffer(self.take(kind.itemsize * count), kind)

    def fields(self, size: int, count: int) -> list[bytes]:
        return [self.take(size).partition(b"\0")[0] for _ in range(count)]

    def tag(self, name: str) -> None:
        tag = f"<{name}>".encode()
        if self.take(len(tag)) != tag:
            raise ValueError(f"{tag.decode()} is not where it should be")

    def ahead(self, tag: bytes) -> bool:
        return self.whole.startswith(tag, self.at)


def read_stata(path: Path, encoding: str = "utf-8") -> StataFile:
    """Return what a .dta file of format 113 or later holds.

    Args:
        path: the file.
        encoding: of its texts, which formats below 118 do not tell.

    Raises:
        ValueError: it is damaged, or of an earlier format.
    """
    release = stata_format(path)
    if not (OLDEST <= release <= 119 and release != 116):
        raise ValueError(f"its format {release} is none of 113 to 119")

    def text(cell: bytes) -> str:
        return cell.decode(encoding)

    whole = path.read_bytes()
    try:
        return _read_tagged(whole, release, text) if release >= OLD else _read_old(whole, release, text)
    except (struct.error, IndexError) as error:
        raise ValueError(str(error)) from None


def _read_old(whole: bytes, release: int, text: Callable[[bytes], str]) -> StataFile:
    source, sizes = _Bytes(whole, ">" if whole[1] == 1 else "<"), _sizes(release)
    source.take(4)
    count, rows = source.number(sizes.count), source.number(sizes.rows)
    (label,), (saved,) = source.fields(sizes.label, 1), source.fields(18, 1)
    kinds = [_kind(code, old=True) for code in source.take(count)]
    names, (*places, _) = source.fields(sizes.name, count), source.array("u2", count + 1).tolist()
    formats, values = source.fields(sizes.format, count), source.fields(sizes.name, count)
    labels, notes = source.fields(sizes.label, count), list[tuple[str, str, str]]()
    while any(header := struct.unpack(f"{source.order}BI", source.take(5))):
        about = _Bytes(source.take(header[1]))
        if header[0] == 1:
            notes.append((*map(text, about.fields(sizes.name, 2)), text(about.whole[about.at :].partition(b"\0")[0])))  # type: ignore[arg-type]
    cells = _cells(source, rows, kinds, 0, {}, text)
    tables = {}
    while source.at < len(whole):
        name, table = _table(source, sizes, text)
        tables[name] = table
    return _file(rows, label, saved, places, notes, tables, (names, kinds, cells, formats, values, labels), text)


def _read_tagged(whole: bytes, release: int, text: Callable[[bytes], str]) -> StataFile:
    source, sizes = _Bytes(whole), _sizes(release)
    source.at = whole.index(b"<byteorder>") + len("<byteorder>")
    source.order = ">" if source.take(3) == b"MSF" else "<"
    source.at = whole.index(b"<K>") + len("<K>")
    count = source.number(sizes.count)
    source.tag("/K")
    source.tag("N")
    rows = source.number(sizes.rows)
    source.tag("/N")
    source.tag("label")
    label = source.take(source.number(sizes.length))
    source.tag("/label")
    source.tag("timestamp")
    saved = source.take(source.number("B"))
    source.tag("/timestamp")
    source.tag("/header")
    source.tag("map")
    begins = dict(zip(SECTIONS, source.array("u8", 14).tolist()[2:], strict=False))

    def section(name: str) -> None:
        source.at = begins[name]
        source.tag(name)

    section("variable_types")
    kinds = [_kind(int(code), old=False) for code in source.array("u2", count).tolist()]
    section("varnames")
    names = source.fields(sizes.name, count)
    section("sortlist")
    *places, _ = source.array(sizes.place.replace("H", "u2").replace("I", "u4"), count + 1).tolist()
    section("formats")
    formats = source.fields(sizes.format, count)
    section("value_label_names")
    values = source.fields(sizes.name, count)
    section("variable_labels")
    labels = source.fields(sizes.label, count)
    section("characteristics")
    notes = list(_characteristics(source, sizes, text))
    section("strls")
    long = dict(_long_texts(source, release))
    section("data")
    cells = _cells(source, rows, kinds, sizes.reference, long, text)
    section("value_labels")
    tables = {}
    while source.ahead(b"<lbl>"):
        source.tag("lbl")
        name, table = _table(source, sizes, text)
        tables[name] = table
        source.tag("/lbl")
    return _file(rows, label, saved, places, notes, tables, (names, kinds, cells, formats, values, labels), text)


def _file(
    rows: int,
    label: bytes,
    saved: bytes,
    places: list[int],
    notes: list[tuple[str, str, str]],
    tables: dict[str, dict[int, str]],
    columns: tuple[list[bytes], list[str], list[NDArray[np.generic]], list[bytes], list[bytes], list[bytes]],
    text: Callable[[bytes], str],
) -> StataFile:
    names, kinds, cells, *rest = columns
    variables = [
        _of_a_type(Variable(text(name), kind.rstrip("0123456789"), column, *map(text, about)))
        for name, kind, column, *about in zip(names, kinds, cells, *rest, strict=True)
    ]
    sorted_by = [place - 1 for place in places[: places.index(0) if 0 in places else len(places)]]
    return StataFile(variables, rows, text(label), text(saved), sorted_by, notes, tables)


def _of_a_type(variable: Variable) -> Variable:
    """Return a variable whose texts fit its type: in UTF-8 they may have become too long for str."""
    if variable.kind != "str" or variable.cells.dtype.itemsize <= FIXED:
        return variable
    return replace(variable, kind=LONG, cells=_long(variable.cells.tolist()))


def _kind(code: int, old: bool) -> str:
    """Return the type that a code stands for, `str12` with its bytes."""
    for name, (_, new_code, old_code, _) in NUMBERS.items():
        if code == (old_code if old else new_code):
            return name
    if code == STRL_CODE:
        return LONG
    if not 0 < code <= (244 if old else FIXED):
        raise ValueError(f"there is no type {code}")
    return f"str{code}"


def _characteristics(source: _Bytes, sizes: _Sizes, text: Callable[[bytes], str]) -> Iterator[tuple[str, str, str]]:
    while source.ahead(b"<ch>"):
        source.tag("ch")
        about = _Bytes(source.take(source.number("I")))
        variable, name = about.fields(sizes.name, 2)
        yield text(variable), text(name), text(about.whole[about.at :].partition(b"\0")[0])
        source.tag("/ch")


def _long_texts(source: _Bytes, release: int) -> Iterator[tuple[tuple[int, int], tuple[int, bytes]]]:
    """Yield (variable, row) and (type, bytes) of each strL cell that is stored."""
    while source.ahead(b"GSO"):
        source.take(3)
        variable, row = source.number("I"), source.number("I" if release == OLD else "Q")
        kind, length = source.number("B"), source.number("I")
        contents = source.take(length)
        yield (variable, row), (kind, contents[:-1] if kind == TEXT and contents.endswith(b"\0") else contents)


def _cells(
    source: _Bytes,
    rows: int,
    kinds: Sequence[str],
    bits: int,
    long: dict[tuple[int, int], tuple[int, bytes]],
    text: Callable[[bytes], str],
) -> list[NDArray[np.generic]]:
    """Return each variable's cells; texts in UTF-8."""
    stored = [
        f"S{kind[3:]}" if kind[3:].isdigit() else f"{source.order}{NUMBERS[kind][0] if kind in NUMBERS else 'u8'}"
        for kind in kinds
    ]
    record = np.dtype([(str(place), code) for place, code in enumerate(stored)])
    records = np.frombuffer(source.take(record.itemsize * rows), record)
    found = list[NDArray[np.generic]]()
    for place, kind in enumerate(kinds):
        cells = records[str(place)]
        if kind in NUMBERS:
            found.append(cells.astype(NUMBERS[kind][0]))
        elif kind == LONG:
            found.append(_referred(cells.tolist(), source.order, bits, long, text))
        else:
            found.append(_fixed([text(cell.partition(b"\0")[0]).encode() for cell in cells.tolist()]))
    return found


def _referred(
    references: list[int],
    order: str,
    bits: int,
    long: dict[tuple[int, int], tuple[int, bytes]],
    text: Callable[[bytes], str],
) -> NDArray[np.generic]:
    """Return the (type, bytes) that a strL variable's references stand for."""
    found = np.empty(len(references), object)
    for row, reference in enumerate(references):
        low, high = reference & ((1 << bits) - 1), reference >> bits
        key = (low, high) if order == "<" else (reference >> (64 - bits), reference & ((1 << (64 - bits)) - 1))
        kind, contents = long[key] if any(key) else (TEXT, b"")
        found[row] = (kind, text(contents).encode() if kind == TEXT else contents)
    return found


def _table(source: _Bytes, sizes: _Sizes, text: Callable[[bytes], str]) -> tuple[str, dict[int, str]]:
    """Return a table of value labels and its name."""
    source.number("I")
    (name,) = source.fields(sizes.name, 1)
    source.take(3)
    count, length = source.number("I"), source.number("I")
    offsets, values = source.array("u4", count).tolist(), source.array("i4", count).tolist()
    texts = source.take(length)
    labels = [text(texts[begin : texts.find(b"\0", begin) % (length + 1)]) for begin in offsets]
    return text(name), dict(zip(values, labels, strict=True))


def _fixed(cells: list[bytes]) -> NDArray[np.generic]:
    """Return texts as numpy keeps them, at least one byte wide."""
    return np.array(cells, dtype=f"S{max(map(len, cells), default=0) or 1}")


def _long(cells: list[bytes]) -> NDArray[np.generic]:
    """Return texts as cells of a strL variable."""
    return np.fromiter(((TEXT, cell.replace(b"\0", b"")) for cell in cells), object, len(cells))


def texts_variable(name: str, texts: Sequence[str], label: str = "") -> Variable:
    """Return a variable of texts: str where they are of 2,045 bytes or fewer, else strL."""
    cells = [text.encode() for text in texts]
    longest = max(map(len, cells), default=0)
    if longest <= FIXED and not any(b"\0" in cell for cell in cells):
        return Variable(name, "str", _fixed(cells), f"%-{min(max(longest, 9), 40)}s", "", label)
    return Variable(name, LONG, _long(cells), "%-40s", "", label)


def numbers_variable(
    name: str, numbers: NDArray[np.generic], missing: NDArray[np.bool_], label: str = "", shown: str = ""
) -> Variable:
    """Return a variable of numbers, in the smallest of Stata's types that holds whole ones.

    Args:
        name: of the variable.
        numbers: [rows]; whole numbers, float32 or float64, exact in float64.
        missing: [rows], which have none.
        label: of the variable.
        shown: its format; '': the type's own.
    """
    there = numbers[~missing]
    kind = "float" if numbers.dtype == np.float32 else "double"
    if numbers.dtype.kind in "iub":
        least, most = (int(there.min()), int(there.max())) if len(there) else (0, 0)
        sizes = ((name, NUMBERS[name][3]) for name in ("byte", "int", "long"))
        kind = next((fits for fits, dot in sizes if -dot - 27 < least and most < dot), "double")
    code, _, _, dot = NUMBERS[kind]
    cells = np.where(missing, dot, np.where(missing, 0, numbers)).astype(code)
    own = {"byte": "%8.0g", "int": "%8.0g", "long": "%12.0g", "float": "%9.0g", "double": "%10.0g"}
    return Variable(name, kind, cells, shown or own[kind], "", label)


def _padded(text: str, size: int) -> bytes:
    """Return a text in UTF-8 in a field of so many bytes, cut between characters."""
    return text.encode()[: size - 1].decode(errors="ignore").encode().ljust(size, b"\0")


def write_stata(path: Path, file: StataFile) -> None:
    """Write a .dta file of format 118, or 119 where it has more variables than that allows."""
    release = 118 if len(file.variables) <= MOST_FIXED else 119
    sizes, variables = _sizes(release), file.variables
    label, saved = _padded(file.label, 321).rstrip(b"\0"), file.saved.encode()[:17]
    header = (
        f"<stata_dta><header><release>{release}</release><byteorder>LSF</byteorder><K>".encode()
        + struct.pack(f"<{sizes.count}", len(variables)) + b"</K><N>" + struct.pack("<Q", file.rows) + b"</N><label>"
        + struct.pack("<H", len(label)) + label + b"</label><timestamp>" + struct.pack("<B", len(saved)) + saved
        + b"</timestamp></header>"
    )  # fmt: skip
    order = np.zeros(len(variables) + 1, sizes.place.replace("H", "<u2").replace("I", "<u4"))
    order[: len(file.sorted_by)] = [place + 1 for place in file.sorted_by]
    sections = {
        "variable_types": np.array([_code(variable) for variable in variables], "<u2").tobytes(),
        "varnames": b"".join(_padded(variable.name, sizes.name) for variable in variables),
        "sortlist": order.tobytes(),
        "formats": b"".join(_padded(variable.format, sizes.format) for variable in variables),
        "value_label_names": b"".join(_padded(variable.values, sizes.name) for variable in variables),
        "variable_labels": b"".join(_padded(variable.label, sizes.label) for variable in variables),
        "characteristics": b"".join(_characteristic(*note, sizes.name) for note in file.notes),
        "data": _records(variables, file.rows, sizes.reference),
        "strls": b"".join(_stored(variables)),
        "value_labels": b"".join(_labels(*table, sizes.name) for table in file.tables.items()),
    }
    places = [0, len(header)]
    begin = len(header) + len("<map></map>") + 14 * 8
    for name, contents in sections.items():
        places.append(begin)
        begin += len(f"<{name}></{name}>") + len(contents)
    places += [begin, begin + len("</stata_dta>")]
    with path.open("wb") as stream:
        stream.write(header + b"<map>" + struct.pack("<14Q", *places) + b"</map>")
        for name, contents in sections.items():
            stream.write(f"<{name}>".encode())
            stream.write(contents)
            stream.write(f"</{name}>".encode())
        stream.write(b"</stata_dta>")


def _code(variable: Variable) -> int:
    if variable.kind == LONG:
        return STRL_CODE
    return NUMBERS[variable.kind][1] if variable.kind in NUMBERS else variable.cells.dtype.itemsize


def _records(variables: Sequence[Variable], rows: int, bits: int) -> bytes:
    """Return the rows, one after another."""
    kinds = ["<u8" if variable.kind == LONG else variable.cells.dtype.newbyteorder("<") for variable in variables]
    records = np.zeros(rows, np.dtype([(str(place), kind) for place, kind in enumerate(kinds)]))
    for place, variable in enumerate(variables):
        cells = variable.cells
        if variable.kind == LONG:
            cells = np.array(
                [place + 1 | row + 1 << bits if cell[1] else 0 for row, cell in enumerate(cells.tolist())], "<u8"
            )
        records[str(place)] = cells
    return records.tobytes()


def _stored(variables: Sequence[Variable]) -> Iterator[bytes]:
    """Yield the cells of strL variables, row by row, as Stata wants them."""
    long = [(place, variable.cells.tolist()) for place, variable in enumerate(variables) if variable.kind == LONG]
    for row in range(len(long[0][1]) if long else 0):
        for place, cells in long:
            kind, contents = cells[row]
            if contents:
                contents += b"\0" * (kind == TEXT)
                yield b"GSO" + struct.pack("<IQBI", place + 1, row + 1, kind, len(contents)) + contents


def _characteristic(variable: str, name: str, contents: str, size: int) -> bytes:
    whole = _padded(variable, size) + _padded(name, size) + contents.encode() + b"\0"
    return b"<ch>" + struct.pack("<I", len(whole)) + whole + b"</ch>"


def _labels(name: str, labels: dict[int, str], size: int) -> bytes:
    """Return a table of value labels."""
    texts = [label.encode() + b"\0" for label in labels.values()]
    offsets = np.cumsum([0, *map(len, texts)])
    table = (
        struct.pack("<II", len(texts), int(offsets[-1])) + offsets[:-1].astype("<u4").tobytes()
        + np.array(list(labels), "<i4").tobytes() + b"".join(texts)
    )  # fmt: skip
    return b"<lbl>" + struct.pack("<I", len(table)) + _padded(name, size) + b"\0\0\0" + table + b"</lbl>"
