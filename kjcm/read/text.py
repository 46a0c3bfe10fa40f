"""Read CSV and TSV files."""

import codecs
import csv
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd

from kjcm.errors import KjcmError, counted
from kjcm.read.columns import FIRST_ROW, ROWS_SEEN, header_hint, header_names
from kjcm.read.options import PLAIN, ReadOptions

ENCODINGS = ("utf-8-sig", "cp949")
MARKS = {  # UTF-32's first, because UTF-16's is its beginning
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}
LONGEST = 2**31 - 1  # of a cell; Python's own limit is 131,072


def encoding_of(path: Path, options: ReadOptions = PLAIN) -> str:
    """Return the encoding of a text file: the given one, else UTF-8 (with or without BOM), else CP949.

    Raises:
        KjcmError: the text has none of these encodings; the message names the first such line.
    """
    for encoding in ENCODINGS if options.encoding is None else (options.encoding,):
        try:
            with path.open(encoding=encoding, newline="") as stream:
                for _ in iter(lambda: stream.read(1 << 20), ""):
                    pass
            return encoding
        except UnicodeError:
            continue
    if options.encoding is not None:
        raise KjcmError(
            f"{path}: the text is not in {options.keys}encoding={options.encoding}. Give the file's own encoding, or leave the "
            "key out for UTF-8 and CP949."
        )
    with path.open("rb") as raw:
        begin = raw.read(4)
        name = next((name for mark, name in MARKS.items() if begin.startswith(mark)), "NAME")
        wrong = [
            {number for number, line in enumerate(raw, 1) if not _decodes(line, encoding)}
            for encoding in _rewinding(raw)
        ]
    both = min(wrong[0] & wrong[1], default=None)
    mixed = f"line {min(wrong[0])} is not UTF-8 and line {min(wrong[1])} not CP949"
    place = f"line {both}" if both else mixed
    raise KjcmError(
        f"{path}, {place}: the text is neither UTF-8 nor CP949. Save the whole file as UTF-8."
        f"{options.advice('encoding', name).replace('Add', 'Or add')}"
    )


def _rewinding(stream: BinaryIO) -> Iterator[str]:
    """Yield each encoding, with the stream rewound."""
    for encoding in ENCODINGS:
        stream.seek(0)
        yield encoding


def _decodes(line: bytes, encoding: str) -> bool:
    try:
        line.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def text_chunks(path: Path, rows: int | None, options: ReadOptions = PLAIN) -> Iterator[pd.DataFrame]:
    """Yield a CSV or TSV file as frames of at most `rows` rows (None: one frame), every cell an unchanged str.

    A blank line is a row of empty cells, except at the file's end. Missing last cells of a row are empty.

    Raises:
        KjcmError: the file is empty or not well formed, or two columns have the same name.
    """
    encoding = encoding_of(path, options)
    with path.open(encoding=encoding, newline="") as stream:
        reader = _reader(path, stream)
        lines = _lines(path, reader, options)
        header = next(lines, None)
        if header is None:
            raise KjcmError(f"{path}: the file is empty.")
        names = header_names(path, header, lambda: _hint(path, options))
        first = reader.line_num + 1
        frame = pd.DataFrame(list(islice(lines, rows)), columns=names, dtype=str)
        frame.attrs[FIRST_ROW] = first
        yield frame  # a file with only a header gives one frame
        while rows and (chunk := list(islice(lines, rows))):
            yield pd.DataFrame(chunk, columns=names, dtype=str)


def first_text_rows(path: Path, options: ReadOptions) -> list[list[str]]:
    """Return the cells of a file's first rows, whatever they are."""
    with path.open(encoding=encoding_of(path, options), newline="") as stream, suppress(csv.Error):
        return list(islice(_reader(path, stream), ROWS_SEEN))
    return []


def text_rows(path: Path, options: ReadOptions = PLAIN) -> list[list[str]]:
    """Return all cells of a CSV or TSV file; rows may differ in length.

    Raises:
        KjcmError: the file is not well formed.
    """
    with path.open(encoding=encoding_of(path, options), newline="") as stream:
        try:
            return list(_reader(path, stream))
        except csv.Error as error:
            raise KjcmError(f"{path}: not a well-formed {path.suffix[1:].upper()} file ({error}).") from None


def _reader(path: Path, stream: Iterable[str]) -> Any:
    csv.field_size_limit(LONGEST)
    return csv.reader(stream, delimiter=SEPARATORS[path.suffix.lower()], strict=True)


def _hint(path: Path, options: ReadOptions) -> str:
    rows = first_text_rows(path, options)
    used = options.header_row or next((number for number, row in enumerate(rows, 1) if row), 1)
    return header_hint(rows, used, options)


def _lines(path: Path, reader: Any, options: ReadOptions) -> Iterator[list[str]]:
    """Yield the cells of the header and of each row, padded to the header's width."""
    kind, width, blanks = path.suffix[1:].upper(), 0, 0
    for _ in islice(reader, (options.header_row or 1) - 1):
        pass
    begin = reader.line_num + 1
    try:
        for cells in reader:
            if not cells:
                blanks += 1
                continue
            if width:
                yield from ([""] * width for _ in range(blanks))
            width, blanks = width or len(cells), 0
            if len(cells) > width:
                remedy = (
                    _hint(path, options) or " Name all columns in the header, or quote the cell with the separator."
                )
                if width == 1:
                    remedy += " .csv files separate cells by commas, .tsv and .txt files by tabs."
                raise KjcmError(
                    f"{path}, line {begin:,}: the row has {len(cells)} cells, and the header names "
                    f"{counted(width, 'column')}.{remedy}"
                )
            if begin < reader.line_num and kind != "CSV" and _holds_rows(cells, width):
                raise KjcmError(
                    f'{path}, line {begin:,}: a cell begins with a quote mark (") that does not end with it, so it includes '
                    "the rows after it. Double the mark and quote the cell, or remove it."
                )
            yield cells if len(cells) == width else cells + [""] * (width - len(cells))
            begin = reader.line_num + 1
    except csv.Error as error:
        raise KjcmError(
            f"{path}, the row from line {begin:,} on: not a well-formed {kind} file ({error}). A cell that begins with a quote "
            'mark (") must end with one; double each mark inside it.'
        ) from None


def _holds_rows(cells: list[str], width: int) -> bool:
    """Return whether a tab-separated cell includes whole rows, because it begins with a quote mark that is only text."""
    return width > 1 and any(
        line.count("\t") == width - 1 for cell in cells if "\n" in cell for line in cell.split("\n")[1:-1]
    )


def line_count(path: Path) -> int:
    """Return the number of line ends outside quotes after a file's first line; each may end a row."""
    count, quoted, last = 0, False, b"\n"
    with path.open("rb") as stream:
        while block := stream.read(1 << 22):
            parts = block.split(b'"')
            count += sum(part.count(b"\n") for part in parts[quoted::2])
            quoted ^= len(parts) % 2 == 0
            last = block[-1:]
    return max(count + (last != b"\n") - 1, 0)
