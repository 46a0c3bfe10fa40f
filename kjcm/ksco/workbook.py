"""Read a classification or a correspondence from the workbooks and CSV files that statistics offices publish."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from kjcm.errors import KjcmError, counted, some
from kjcm.ksco.code_columns import CodeColumn, Codes, code_cell, codes_of, is_parent, letter
from kjcm.read.cells import code_text, tidy
from kjcm.read.options import ReadOptions
from kjcm.read.table import read_grids

# words in the headers of columns that describe a code, and of columns that tell what it is not
DESCRIBES = ("설명", "해설", "정의", "개요", "업무", "직무", "예시", "내용", "descri", "defin", "tasks", "exampl")
EXCLUDES = ("제외", "exclu", "except", "비고")
SIZES = {  # groups a level, as the notices count them
    "KSCO-7": (10, 52, 156, 450, 1231),
    "KSCO-8": (10, 57, 167, 495, 1270),
    "KSIC-11": (21, 77, 234, 501, 1205),
}
NAME_THEM = "Name the columns of a correspondence, columns=[FROM,TO], or of a classification, columns=[CODE]."
OFTEN = 4  # times that a text occurs in a column without titles
LONG = 2.5  # a column without a telling header describes codes if its texts are this many times as long as the titles


@dataclass(frozen=True)
class Imported:
    """A table read from a workbook.

    Attributes:
        kind: 'classification' or 'correspondence'.
        table: code, level, title, title_en, parent, description; or from, to, from_title, to_title.
        report: what was found where, in lines.
    """

    kind: str
    table: pd.DataFrame
    report: tuple[str, ...]


@dataclass(frozen=True)
class _Sheet:
    """A worksheet with columns of codes.

    Attributes:
        path: the file.
        title: of the worksheet, '' for a text file.
        rows: the cells.
        chains: see `Codes`.
        left_out: likewise.
    """

    path: str
    title: str
    rows: Sequence[Sequence[Any]]
    chains: Sequence[Sequence[CodeColumn]]
    left_out: Sequence[tuple[CodeColumn, str]] = ()

    @property
    def place(self) -> str:
        """Return file and worksheet, for messages."""
        return f"{self.path}, worksheet {self.title!r}" if self.title else self.path

    @property
    def coded(self) -> int:
        """Return how many rows have a code in each chain."""
        finest = [chain[-1].codes for chain in self.chains]
        return sum(all(row) for row in zip(*finest, strict=True)) if len(finest) > 1 else sum(map(bool, finest[0]))

    @property
    def below_header(self) -> int:
        """Return the place of the first row with a code."""
        firsts = [
            next(row for row, code in enumerate(column.codes) if code) for chain in self.chains for column in chain
        ]
        return min(firsts)

    @property
    def code_places(self) -> set[int]:
        """Return the places of the columns of codes."""
        return {column.place for chain in self.chains for column in chain}

    def text(self, row: int, place: int) -> str:
        """Return a cell's text, '' for a missing one or a code."""
        cells = self.rows[row]
        text = tidy(code_text(cells[place])) if place < len(cells) else ""
        return text if any(map(str.isalpha, text)) and (code_cell(text) or ("", text))[1] else ""

    def header(self, place: int) -> list[str]:
        """Return the texts above a column's first code, the top first, each once; the lowest one is the column's own."""
        cells = (tidy(code_text(row[place])) for row in self.rows[: self.below_header] if place < len(row))
        return [text for text in dict.fromkeys(cells) if text]

    def name(self, place: int) -> str:
        """Return what the cells above the first code say of a column."""
        return " ".join(self.header(place))

    def own_name(self, place: int) -> str:
        """Return a column's own header in lower case, without banners above several columns."""
        return self.header(place)[-1].lower() if self.header(place) else ""

    def is_remark(self, place: int) -> bool:
        """Return whether a column's header says that it has remarks or exclusions."""
        return any(word in self.own_name(place) for word in EXCLUDES) or bool({*self.header(place)} & {*EXCLUDES})


def read_workbook(path: str | Path, options: ReadOptions, columns: Sequence[str] = ()) -> Imported:
    """Return the classification or correspondence in a workbook or text file.

    The worksheet with most coded rows is read, unless `options` names one. Codes of one classification, in one column or
    in a column a level, make a classification. Codes of two make a correspondence, from the left to the right one. Columns
    of parents and of other numbers are left out.

    Args:
        path: .xlsx, .csv or .tsv.
        options: the encoding, and the worksheet.
        columns: header of a classification's column, or headers of a correspondence's two, `from` first; none: as found.

    Raises:
        KjcmError: no columns of codes, more than two classifications, a second column that may have no codes, a code without
            its parent, or two titles of a code.
    """
    sheets = []
    for title, rows in read_grids(path, options):
        codes = codes_of(rows, typed=Path(path).suffix.lower() == ".xlsx")
        chains = _named(str(path), title, codes, columns) if columns else codes.chains
        if chains:
            others = [] if len(columns) == 2 else [one for one in codes.left_out if one[0] not in chains[0]]
            sheets.append(_Sheet(str(path), title, rows, chains, others))
    if not sheets:
        wanted = f"the columns {some(columns)} with codes" if columns else "a column of codes such as 111 or A01"
        raise KjcmError(
            f"{path}: no worksheet has {wanted}. Give the file of the classification or the correspondence."
        )
    sheet = max(sheets, key=lambda sheet: sheet.coded)
    apart = [other.title for other in sheets if other is not sheet]
    note = [f"other worksheets with codes: {some(apart)}; sheet=NAME reads one of them"] if apart else []
    if len(sheet.chains) > 2:
        names = ", ".join(chain[-1].label for chain in sheet.chains)
        raise KjcmError(f"{sheet.place}: codes of {len(sheet.chains)} classifications, in columns {names}. {NAME_THEM}")
    if len(sheet.chains) == 2 and not columns:
        _require_codes(sheet)
    made = _classification(sheet) if len(sheet.chains) == 1 else _correspondence(sheet)
    where = [f"worksheet {sheet.title!r}"] if sheet.title else []
    where.append(f"header: {counted(sheet.below_header, 'row')}")
    left_out = [
        f"left out: column {column.label} ({what}); if its codes belong to a correspondence, name both: columns=[FROM,TO]"
        for column, what in sheet.left_out
    ]
    return Imported(made.kind, made.table, (", ".join(where), *made.report, *left_out, *_zeros(sheet), *note))


def _named(path: str, title: str, codes: Codes, names: Sequence[str]) -> Sequence[Sequence[CodeColumn]]:
    """Return the columns with these headers, [] if one is missing. One header stands for all levels of its classification."""
    columns = [column for chain in codes.chains for column in chain] + [column for column, _ in codes.left_out]
    place = f"{path}, worksheet {title!r}" if title else path
    found = []
    for name in names:
        exact = [column for column in columns if tidy(column.name) == tidy(name)]
        near = exact or [column for column in columns if tidy(name) in column.name]
        if len(near) > 1:
            raise KjcmError(f"{place}: several columns have {name!r} in their header: {some(c.name for c in near)}.")
        found += near
    if len(found) < len(names):
        return []
    if len({column.place for column in found}) < len(found):
        raise KjcmError(f"{place}: columns={[*names]} both name column {found[0].label}. Name two columns.")
    if len(found) == 1:
        return [chain for chain in codes.chains if found[0] in chain] or [found]
    return [[column] for column in found]


def _require_codes(sheet: _Sheet) -> None:
    """Raise KjcmError if one of two columns of codes may have something else: parents, amounts or years."""
    left, right = (chain[-1] for chain in sheet.chains)
    if is_parent(right, left):
        raise KjcmError(
            f"{sheet.place}: column {right.label} has the beginnings of the codes in column {left.label}. {NAME_THEM}"
        )
    titles: list[dict[str, set[str]]] = [{}, {}]
    for row, codes in enumerate(zip(left.codes, right.codes, strict=True)):
        for column, code, own in zip((left, right), codes, titles, strict=True):
            if all(codes) and (title := _title(sheet, row, column)):
                own.setdefault(code, set()).add(title)
    for column, own, other in zip((left, right), titles, reversed(titles), strict=True):
        repeated = [code for code, count in Counter(column.codes).items() if code in own and count > 1]
        if other and (not own or sum(len(own[code]) > 1 for code in repeated) > len(repeated) / 2):
            raise KjcmError(
                f"{sheet.place}: the values in column {column.label} have {'several titles each' if own else 'no titles'}. "
                f"{NAME_THEM}"
            )


def _zeros(sheet: _Sheet) -> Iterator[str]:
    for column in (column for chain in sheet.chains for column in chain):
        if column.restored:
            width = max(map(len, column.distinct))
            yield (
                f"column {column.label}: added leading zeros to {counted(column.restored, 'code')}, to {width} digits; if a code "
                "is really shorter, store this column as text in a workbook"
            )
        elif column.short and len(sheet.chains) > 1:
            yield (
                f"column {column.label}: {counted(len(column.short), 'code')} with fewer digits than others; if they lost "
                "leading zeros, sort the rows by this column, or store its codes as text"
            )


def _correspondence(sheet: _Sheet) -> Imported:
    left, right = (chain[-1] for chain in sheet.chains)
    pairs: dict[tuple[str, str], tuple[str, str]] = {}
    twice, lone = 0, Counter[str]()
    titles, report = _titles(sheet, left, right)
    for row, (one, other) in enumerate(zip(left.codes, right.codes, strict=True)):
        if one and other:
            twice += (one, other) in pairs
            pairs.setdefault((one, other), titles[row])
        elif one or other:
            lone[f"without a code in column {(right if one else left).label}"] += 1
    if not pairs:
        raise KjcmError(f"{sheet.place}: no row has a code in both columns {left.label} and {right.label}.")
    table = pd.DataFrame(
        [(*codes, *names) for codes, names in pairs.items()], columns=["from", "to", "from_title", "to_title"]
    )
    partners = table.groupby("from").size()
    found = [
        f"from: column {left.label}, {counted(len(partners), 'code')}",
        f"to: column {right.label}, {counted(table['to'].nunique(), 'code')}",
        f"{counted(len(table), 'pair')} in {counted(len(table) + twice, 'row')}"
        + (f" ({counted(twice, 'row repeats', 'rows repeat')} a pair)" if twice else ""),
        f"{counted(int((partners == 1).sum()), 'code')} with one partner, {(partners > 1).sum():,} with several",
        *report,
        *(f"left out: {counted(count, 'row')} {why}" for why, count in lone.items()),
    ]
    return Imported("correspondence", table, tuple(found))


def _titles(sheet: _Sheet, left: CodeColumn, right: CodeColumn) -> tuple[list[tuple[str, str]], list[str]]:
    """Return each row's titles of its two codes, '' where the title's code is unclear, and what to report.

    If both titles are behind both codes, they are in the order of the codes. Other texts there could belong to either code.
    """
    first, second = sorted((left, right), key=lambda column: column.place)
    found = {column: [_title(sheet, row, column) for row in range(len(sheet.rows))] for column in (first, second)}
    coded = [row for row, codes in enumerate(zip(left.codes, right.codes, strict=True)) if all(codes)]
    report = []
    if not any(found[first][row] for row in coded) and not any(second.titles):
        texts = {
            place: [sheet.text(row, place) for row in range(len(sheet.rows))]
            for place in range(second.place + 1, max(map(len, sheet.rows))) if not sheet.is_remark(place)
        }  # fmt: skip
        of_codes = {place: [own[row] for row in coded if own[row]] for place, own in texts.items()}
        # a column that repeats a few texts names changes
        places = [place for place, own in of_codes.items() if own and len(own) < OFTEN * len({*own})]
        for number, column in enumerate((first, second)):
            found[column] = texts[places[number]] if len(places) == 2 else [""] * len(sheet.rows)
        report.append(f"titles: {_columns(sheet, places if len(places) == 2 else [])}")
    return list(zip(found[left], found[right], strict=True)), report


def _title(sheet: _Sheet, row: int, column: CodeColumn) -> str:
    """Return the title of a row's code: in its cell, or the first text on its right before the next column of codes."""
    width = len(sheet.rows[row])
    end = min((place for place in sheet.code_places if place > column.place), default=width)
    return column.titles[row] or next(iter(_texts(sheet, row, column.place + 1, end)), "")


def _texts(sheet: _Sheet, row: int, begin: int, end: int) -> list[str]:
    """Return the texts of a row's cells from `begin` to before `end`, without remarks."""
    return [text for place in range(begin, end) if not sheet.is_remark(place) and (text := sheet.text(row, place))]


def _classification(sheet: _Sheet) -> Imported:
    (chain,) = sheet.chains
    titles_at, english_at, describing = _text_places(sheet, chain)
    titles: dict[str, str] = {}
    english: dict[str, str] = {}
    described: dict[str, list[str]] = {}
    sections: dict[str, str] = {}  # code -> the letter above it
    section, without = "", 0
    for row in range(sheet.below_header, len(sheet.rows)):
        own = [column for column in chain if column.codes[row]]
        without += not own and any(cell not in (None, "") for cell in sheet.rows[row])
        for column in own:
            code = column.codes[row]
            section = code if code.isalpha() else section
            sections.setdefault(code, section)
            finest = column is own[-1]
            title = column.titles[row] or _title_of_level(sheet, row, column, chain, titles_at, finest)
            if title and titles.setdefault(code, title) != title:
                raise KjcmError(
                    f"{sheet.place}, row {row + 1}: code {code} has the titles {some([titles[code], title])}. "
                    "Store codes as text if they lost leading zeros. Else correct the file, or name another worksheet: "
                    "sheet=NAME."
                )
            if finest:
                lines = described.setdefault(code, [])
                texts = (sheet.text(row, place) for place in describing)
                lines += [text for text in texts if text and text not in lines]
                english.setdefault(code, next(filter(None, (sheet.text(row, place) for place in english_at)), ""))
    for column, _ in sheet.left_out:  # a column of parents names the letter, whatever the order of the rows
        pairs = zip(chain[-1].codes, column.codes, strict=True)
        sections |= {code: parent for code, parent in pairs if code and parent.isalpha()}
    codes = sorted(set().union(*(column.distinct for column in chain)))
    parents = {code: code[:-1] if len(code) > 1 else "" for code in codes}
    parents |= {  # KSIC's divisions are two digits beneath a letter; KSCO's majors are digits and the letter A
        code: sections[code] for code in codes
        if len(code) == 2 and code.isdigit() and sections[code] and code[0] not in parents
    }  # fmt: skip
    table = pd.DataFrame(
        {
            "code": codes,
            "level": [len(code) for code in codes],
            "title": [titles.get(code, "") for code in codes],
            "title_en": [english.get(code, "") for code in codes],
            "parent": [parents[code] for code in codes],
            "description": ["\n".join(described.get(code, ())) for code in codes],
        }
    )
    _require_tree(sheet, table)
    sizes = tuple(table.groupby("level").size())
    known = [name for name, own in SIZES.items() if own[: len(sizes)] == sizes]
    found = [
        f"codes: column {', '.join(column.label for column in chain)}",
        f"titles: {_columns(sheet, titles_at)}" + (f"; English: {_columns(sheet, english_at)}" if english_at else ""),
        f"descriptions: {_columns(sheet, describing)}, for {counted(int((table['description'] != '').sum()), 'code')}",
        f"groups a level: {' / '.join(f'{size:,}' for size in sizes)}" + "".join(f", as {name} has" for name in known),
        *(
            [f"{counted(int((table['title'] == '').sum()), 'code')} without a title"]
            if (table["title"] == "").any()
            else []
        ),
        *([f"left out: {counted(without, 'row')} without a code"] if without else []),
    ]
    return Imported("classification", table, tuple(found))


def _columns(sheet: _Sheet, places: Sequence[int]) -> str:
    names = [f"{letter(place)} {sheet.name(place)!r}" if sheet.name(place) else letter(place) for place in places]
    return f"column {', '.join(names)}" if names else "none"


def _text_places(sheet: _Sheet, chain: Sequence[CodeColumn]) -> tuple[list[int], list[int], list[int]]:
    """Return the places of the columns of titles, English titles and descriptions."""
    rows = range(sheet.below_header, len(sheet.rows))
    width = max(map(len, sheet.rows))
    texts = {
        place: [text for row in rows if (text := sheet.text(row, place))]
        for place in range(width) if place not in sheet.code_places
    }  # fmt: skip
    texts = {place: found for place, found in texts.items() if found}
    length = {place: sum(map(len, found)) / len(found) for place, found in texts.items()}
    left_out = {place for place in texts if sheet.is_remark(place)}
    english = [
        place for place, found in texts.items()
        if place not in left_out and sum(text.isascii() for text in found) > len(found) / 2
    ]  # fmt: skip
    if len(english) == len(texts):  # of a classification in English
        english = []
    describing = [place for place in texts if any(word in sheet.own_name(place) for word in DESCRIBES)]
    # a column that repeats a few texts names levels or changes, except between the levels' codes
    few = {
        place for place, found in texts.items()
        if len(found) >= OFTEN * len({*found}) and not chain[0].place < place < chain[-1].place
    }  # fmt: skip
    others = [place for place in texts if place not in (*english, *describing, *left_out, *few)]
    titles = [place for place in others if place > chain[0].place] or others
    if not describing and len(titles) > 1:
        usual = min(length[place] for place in titles)
        describing = [place for place in titles if length[place] > LONG * usual]
    describing = [place for place in describing if place not in (*english, *left_out)]
    return [place for place in titles if place not in describing], english, describing


def _title_of_level(
    sheet: _Sheet, row: int, column: CodeColumn, chain: Sequence[CodeColumn], places: Sequence[int], finest: bool
) -> str:
    """Return a code's title: the first text before the next level's column, or behind all of them for the finest code."""
    end = min((other.place for other in chain if other.place > column.place), default=len(sheet.rows[row]))
    own = [sheet.text(row, place) for place in places if column.place < place < end]
    last = [sheet.text(row, place) for place in places if place > chain[-1].place]
    return next(filter(None, (*own, *(last if finest and not any(own) else ()))), "")


def _require_tree(sheet: _Sheet, table: pd.DataFrame) -> None:
    """Raise KjcmError if a code's parent is not in the table."""
    known = set(table["code"])
    orphans = [
        f"{code} (parent {parent})" for code, parent in zip(table["code"], table["parent"], strict=True)
        if parent and parent not in known
    ]  # fmt: skip
    if orphans:
        raise KjcmError(
            f"{sheet.place}: the parents of {counted(len(orphans), 'code')} are missing: {some(orphans)}. Add their rows; "
            "store codes as text if they begin with zeros. If the file is a correspondence, name its columns: "
            "columns=[FROM,TO]."
        )
