"""CSV and TSV files."""

import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd

from kjcm.errors import KjcmError
from kjcm.read.columns import column_names

ENCODINGS = ("utf-8-sig", "cp949")
SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}


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
