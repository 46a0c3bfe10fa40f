"""The report as one self-contained page: no network, no script."""

import base64
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure as Canvas

from kjcm.analysis.content import NOT_RUN, Column, Estimate, Figure, Table, Value
from kjcm.analysis.formats import WORDS, show, width_of
from kjcm.plot.font import embedded
from kjcm.plot.style import svg

DOI = "10.35371/aoem.2024.36.e19"  # the paper's
HANGUL = re.compile("[ᄀ-ᇿ㄰-㆏가-힣]")
BREAKS = re.compile(r"(?<=\d) (?=%)|(?<=[<=≥]) (?=\d)|(?<=\bp) (?=[<=])")  # blanks inside figures
CHIPS = {"match": "match", "off": "off"}  # how a verdict looks; all others are of one kind
LONG = 28  # Latin letters beyond whose width a text may break its line
BLOCK = 6  # columns of a table whose rows a narrow screen may show as blocks
PIXELS = 96  # of CSS, an inch


@dataclass(frozen=True)
class Section:
    """A part of the page: what the paper says of it, and ours.

    Attributes:
        key: its address on the page.
        heading: in the contents too.
        claim: what the paper says.
        content: tables and figures, in order.
        command: what makes it; '' where the whole page has one command.
    """

    key: str
    heading: str
    claim: str
    content: Sequence[Table | Figure]
    command: str = ""


@dataclass(frozen=True)
class Cell:
    """A table's cell as the page shows it.

    Attributes:
        label: its column's heading, which a narrow screen shows next to it.
        main: its text; of an estimate, the mean.
        rest: an estimate's uncertainty.
        style: its CSS classes.
        chip: the CSS class of a verdict.
        korean: it has Hangul.
        code: it is a command.
    """

    label: str
    main: str
    rest: str
    style: str
    chip: str
    korean: bool
    code: bool


@dataclass(frozen=True)
class Picture:
    """A figure as the page carries it: SVG in base64, and its size in CSS pixels."""

    data: str
    width: int
    height: int


@dataclass(frozen=True)
class Header:
    """What the page says before its sections.

    Attributes:
        title: of the page.
        lead: paragraphs beneath the title.
        facts: term and description, as 'Data' and what they are.
        command: what makes the page; '' for a page without one.
        paper: whether to name the paper.
    """

    title: str
    lead: Sequence[str]
    facts: Sequence[tuple[str, str]] = ()
    command: str = ""
    paper: bool = True


def page(header: Header, synthetic: bool, sections: Sequence[Section]) -> str:
    """Return the page as HTML; the same contents, the same text.

    All texts are shown verbatim: none is taken for HTML. Links go to tables/KEY.csv, .md and .tex and to
    figures/KEY.svg and .png next to the page.

    Args:
        header: title and first paragraphs.
        synthetic: of the twin; a banner says so on screen and on every printed page.
        sections: in order.
    """
    environment = Environment(
        loader=PackageLoader("kjcm.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )  # fmt: skip
    environment.filters |= {"cells": cells, "is_wordy": _is_wordy, "unbroken": _unbroken}
    template = environment.get_template("page.html.j2")
    drawn = [item for section in sections for item in section.content if isinstance(item, Figure)]
    pictures = {item.key: _picture(item.draw()) for item in drawn}
    narrow = {item.key: _picture(item.draw_narrow()) for item in drawn if item.draw_narrow}
    contents = {
        "header": header, "synthetic": synthetic, "sections": sections, "pictures": pictures, "narrow": narrow,
        "words": WORDS, "doi": DOI if header.paper else "",
    }  # fmt: skip
    characters = set(template.render(contents, font=""))
    return template.render(contents, font=embedded(characters))


def _picture(canvas: Canvas) -> Picture:
    """Return a drawn picture as the page carries it."""
    width, height = canvas.get_size_inches() * PIXELS
    return Picture(base64.b64encode(svg(canvas)).decode(), round(width), round(height))


def cells(table: Table) -> Iterator[list[Cell]]:
    """Yield a table's rows as the page shows them, without those of runs that are missing."""
    for row in table.rows_run:
        yield [_cell(value, column) for value, column in zip(row, table.columns, strict=True)]


def _unbroken(text: str) -> str:
    """Return a text whose lines do not break inside figures, as in 84.44 % and p < 0.001."""
    return BREAKS.sub("\u00a0", text)


def _is_wordy(table: Table) -> bool:
    """Return whether a table has few columns, with texts that need a line: a narrow screen shows each row as a block."""
    return len(table.columns) <= BLOCK and any(cell.style == "long" for row in cells(table) for cell in row)


def _cell(value: Value, column: Column) -> Cell:
    whole = show(value, column.kind)
    main = show(value.mean, column.kind) if isinstance(value, Estimate) else whole
    style = "number" if column.kind not in WORDS else "long" if width_of(whole) > LONG else "short"
    style += " absent" * (value == NOT_RUN)
    chip = CHIPS.get(whole, "other") if column.name.casefold() == "verdict" and whole else ""
    rest = whole.removeprefix(main).replace(" ± ", "\u00a0±\u00a0").replace(", ", ",\u00a0")  # breaks before [ only
    return Cell(
        column.name, main, rest, style, chip, HANGUL.search(whole) is not None, column.kind == "code" and bool(whole)
    )
