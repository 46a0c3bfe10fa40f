"""Find the columns of codes in the cells of a worksheet, by their content."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

from kjcm.read.cells import code_text, tidy

CODE = re.compile(r"[A-Z]|[A-Za-z]?\d{1,6}|\d{2}-\d{4}(?:\.\d{2})?")  # the last are codes of the US SOC
CODE_AND_TITLE = re.compile(r"([A-Z]?\d{1,6}|[A-Z])[.:)]?\s+([^\W\d_].*)")
MARKS = "*†‡#"  # which tables append to a code
MOSTLY, NEARLY_ALL = 0.8, 0.99  # shares of cells
UNSORTED = 0.1  # share of rows out of order from which the order of a column tells nothing


@dataclass(frozen=True)
class CodeColumn:
    """A column of codes.

    Attributes:
        place: of the column, from 0.
        codes: [rows], '' for none.
        titles: [rows], the title that follows the code in the same cell, '' for none.
        name: what the cells above the first code say.
        numbers: [rows], whether the cell is a number, which may have lost leading zeros.
        restored: number of codes that got back leading zeros.
    """

    place: int
    codes: tuple[str, ...]
    titles: tuple[str, ...]
    name: str
    numbers: tuple[bool, ...]
    restored: int = 0

    @cached_property
    def distinct(self) -> frozenset[str]:
        """Return the codes."""
        return frozenset(filter(None, self.codes))

    @cached_property
    def width(self) -> int:
        """Return the most digits of a code without letters."""
        return max((len(code) for code in self.distinct if code.isdigit()), default=0)

    @cached_property
    def short(self) -> frozenset[str]:
        """Return the numbers with fewer digits than others; none if any code begins with a zero."""
        if any(code.startswith("0") and code != "0" for code in self.distinct):
            return frozenset()
        cells = zip(self.codes, self.numbers, strict=True)
        return frozenset(code for code, number in cells if number and code.isdigit() and len(code) < self.width)

    @cached_property
    def carried(self) -> tuple[str, ...]:
        """Return each row's code, or the last one above it: [rows]."""
        last, found = "", []
        for code in self.codes:
            last = code or last
            found.append(last)
        return tuple(found)

    @property
    def label(self) -> str:
        """Return the column's letter and name, for messages."""
        return f"{letter(self.place)} {self.name!r}" if self.name else letter(self.place)


def letter(place: int) -> str:
    """Return a column's letter in a spreadsheet."""
    from openpyxl.utils import get_column_letter

    return str(get_column_letter(place + 1))


def code_cell(value: Any) -> tuple[str, str] | None:
    """Return the code in a cell, and the title after it ('' for none); None if the cell has something else."""
    text = tidy(code_text(value))
    plain = unicodedata.normalize("NFKC", text)
    compact = plain.replace(" ", "").rstrip(MARKS)
    if CODE.fullmatch(compact):
        return compact.upper(), ""
    both = CODE_AND_TITLE.fullmatch(plain)
    return (both[1], text[-len(both[2]) :]) if both else None


@dataclass(frozen=True)
class Codes:
    """The columns of codes of a worksheet.

    Attributes:
        chains: the columns of each classification's levels, the finest last.
        left_out: other columns that could have codes, each with what it has instead.
    """

    chains: Sequence[Sequence[CodeColumn]]
    left_out: Sequence[tuple[CodeColumn, str]]


def codes_of(rows: Sequence[Sequence[Any]], *, typed: bool) -> Codes:
    """Return the columns of codes of a worksheet.

    Args:
        rows: the cells.
        typed: whether a cell's type tells numbers from texts, as in a workbook; only numbers can have lost zeros.
    """
    columns, left_out = [], []
    every = list(_columns(rows, typed))
    for place, column in enumerate(every):
        if any(_names_parents(column, other) for other in every if other is not column):
            left_out.append((_restored(column), "the parents of codes"))
        elif place and _has_numbers(column) and not _has_titles(rows, column):
            left_out.append((_restored(column), "numbers that do not look like codes"))
        else:
            columns.append(column)
    chains: list[list[CodeColumn]] = []
    for column in columns:
        if chains and _is_above(chains[-1][-1], column):
            chains[-1].append(column)
        else:
            chains.append([column])
    chains = [chain for chain in chains if any(len(code) > 1 for code in chain[-1].distinct) or len(columns) == 1]
    # a column that is one of several levels has codes of one length
    return Codes([[_restored(column, sure=len(chain) > 1) for column in chain] for chain in chains], left_out)


def _columns(rows: Sequence[Sequence[Any]], typed: bool) -> Iterator[CodeColumn]:
    for place in range(max(map(len, rows), default=0)):
        cells = [row[place] if place < len(row) else None for row in rows]
        first = next((number for number, cell in enumerate(cells) if code_cell(cell)), None)
        if first is None:
            continue
        filled = [tidy(code_text(cell)) for cell in cells[first:] if tidy(code_text(cell))]
        found = [code_cell(cell) or ("", "") for cell in cells]
        codes, titles = tuple(code for code, _ in found), tuple(title for _, title in found)
        below = sum(any(cell is not None and cell != "" for cell in row) for row in rows[first:])
        if (
            sum(map(bool, codes)) >= MOSTLY * len(filled)
            and len({*codes} - {""}) > 1
            and not (len(filled) >= MOSTLY * below and _counts(codes))
        ):
            names = dict.fromkeys(tidy(code_text(cell)) for cell in cells[:first])
            numbers = tuple(not typed or isinstance(cell, int | float) for cell in cells)
            yield CodeColumn(place, codes, titles, " ".join(filter(None, names)), numbers)


def _counts(codes: Sequence[str]) -> bool:
    """Return whether codes only number the rows: 1, 2, 3, ..."""
    numbers = [code for code in codes if code]
    return len(numbers) > 2 and numbers == [str(place + 1) for place in range(len(numbers))]


def _lost_zeros(column: CodeColumn) -> bool:
    """Return whether codes of a column without parents of its own codes lost leading zeros as numbers.

    kjcm compares two sort orders. A column that lost its zeros is sorted as numbers; a list of several levels is sorted as
    text. If neither order fits better, or the rows are in another order, at least half of the shorter codes must have no
    longer code beneath them.
    """
    numbers = [code for code in column.codes if code.isdigit()]
    short = column.short
    childless = {code for code in short if not any(len(c) > len(code) and c.startswith(code) for c in column.distinct)}
    by_number = sum(int(one) > int(other) for one, other in pairwise(numbers))
    by_text = sum(one > other for one, other in pairwise(numbers))
    if by_number == by_text or min(by_number, by_text) > UNSORTED * len(numbers):
        few = 2 * len(short) <= len(column.distinct) or min(map(len, short)) == column.width - 1
        return few and 2 * len(childless) >= len(short)
    return by_number < by_text and bool(childless)


def _restored(column: CodeColumn, *, sure: bool = False) -> CodeColumn:
    """Return a column whose shorter numbers have got back their leading zeros, if they lost them; `sure`: they did."""
    width, short = column.width, column.short
    if not short or not (sure or _lost_zeros(column)):
        return column
    codes = tuple(code.zfill(width) if code in short else code for code in column.codes)
    return replace(column, codes=codes, restored=len(short))


def _is_above(left: CodeColumn, right: CodeColumn) -> bool:
    """Return whether the codes of `left` are groups above those of `right`, in whose row they are or carry down to."""
    pairs = {(one, other) for one, other in zip(left.carried, right.codes, strict=True) if one and other}
    if not pairs:
        return False
    stripped = [(one.lstrip("0"), other.lstrip("0")) for one, other in pairs]
    nested = sum(len(one) < len(other) and other.startswith(one) for one, other in stripped)
    if nested >= NEARLY_ALL * len(pairs):
        return True
    # KSIC's sections are letters, which its divisions do not begin with
    letters = len(left.distinct) > 1 and all(code.isalpha() for code in left.distinct)
    return letters and len(pairs) == len({other for _, other in pairs})


def is_parent(upper: CodeColumn, lower: CodeColumn) -> bool:
    """Return whether a row's code in `upper` is a group above its code in `lower`; KSIC's sections are letters."""
    pairs = {(one, other) for one, other in zip(upper.codes, lower.codes, strict=True) if one and other}
    above = sum(
        (len(one) < len(other) and other.lstrip("0").startswith(one.lstrip("0"))) or (one.isalpha() and len(other) <= 2)
        for one, other in pairs
    )
    return bool(pairs) and above >= NEARLY_ALL * len(pairs)


def _names_parents(column: CodeColumn, codes: CodeColumn) -> bool:
    """Return whether a column names the parent of each row's code, a code of another row."""
    known = sum(code in codes.distinct for code in column.distinct)
    return known >= NEARLY_ALL * len(column.distinct) and is_parent(column, codes)


def _has_titles(rows: Sequence[Sequence[Any]], column: CodeColumn) -> bool:
    """Return whether a column's codes have titles, in their own cells or in the next column."""
    titles: dict[str, set[str]] = {}
    for row, code, own in zip(rows, column.codes, column.titles, strict=True):
        title = own or (tidy(code_text(row[column.place + 1])) if column.place + 1 < len(row) else "")
        if code and any(map(str.isalpha, title)):
            titles.setdefault(code, set()).add(title)
    counts = Counter(column.codes)
    repeated = [found for code, found in titles.items() if counts[code] > 1]
    # most codes have a title, most titles differ, and most of the codes that occur several times have one title
    most = len(titles) > len(column.distinct) / 2
    different = len(set().union(*titles.values())) > len(titles) / 2
    return most and different and sum(len(found) == 1 for found in repeated) > len(repeated) / 2


def _has_numbers(column: CodeColumn) -> bool:
    """Return whether a column has counts or amounts: numbers of three or more lengths, unsorted, mostly without parents."""
    numbers = [code for code in column.codes if code.isdigit()]
    distinct = {*numbers}
    lengths = {len(code) for code in distinct}
    if len(lengths) < 3:
        return False
    unsorted = sum(int(one) > int(other) for one, other in pairwise(numbers)) > UNSORTED * len(numbers)
    lower = [code for code in distinct if len(code) > min(lengths)]
    return unsorted and sum(code[:-1] in distinct for code in lower) < len(lower) * MOSTLY
