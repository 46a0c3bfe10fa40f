"""The report as one self-contained HTML page without network or script."""

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
BREAKS = re.compile(r"(?<=\d) (?=%)|(?<=[<=≥]) (?=\d)|(?<=\bp) (?=[<=])")  # spaces inside figures
CHIPS = {"match": "match", "off": "off"}  # CSS class of a verdict
LONG = 28  # wider texts may break their lines
BLOCK = 6  # most columns for blocks on a narrow screen
PIXELS = 96  # CSS pixels an inch


@dataclass(frozen=True)
class Section:
    """A section of the page: the paper's claim and our tables and figures.

    Attributes:
        key: anchor on the page.
        heading: heading, also in the list of contents.
        claim: the paper's claim.
        content: tables and figures, in order.
        lines: a command's output, shown verbatim.
    """

    key: str
    heading: str
    claim: str
    content: Sequence[Table | Figure]
    lines: Sequence[str] = ()


@dataclass(frozen=True)
class Cell:
    """A table's cell as the page shows it.

    Attributes:
        label: heading of the column, which a narrow screen shows next to the cell.
        main: text; for an estimate, the mean.
        rest: uncertainty of an estimate.
        style: CSS classes.
        chip: CSS class of a verdict.
        korean: whether the text contains Hangul.
        code: whether the text is a command.
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
    """A figure of the page: SVG in base64, and its size in CSS pixels."""

    data: str
    width: int
    height: int


@dataclass(frozen=True)
class Header:
    """The beginning of the page, before its sections.

    Attributes:
        title: title of the page.
        lead: paragraphs below the title.
        facts: pairs of term and description, as 'Data' and its description.
        command: command that builds the page; '' without a command.
        paper: whether to name the paper.
    """

    title: str
    lead: Sequence[str]
    facts: Sequence[tuple[str, str]] = ()
    command: str = ""
    paper: bool = True


def page(header: Header, synthetic: bool, sections: Sequence[Section]) -> str:
    """Return the page as HTML; equal contents give equal HTML.

    The page escapes all texts. Links go to tables/KEY.csv, .md and .tex and to figures/KEY.svg and .png next to the page.

    Args:
        header: title and first paragraphs.
        synthetic: whether the data are the twin; a banner then says so on screen and on every printed page.
        sections: sections in order.
    """
    environment = Environment(
        loader=PackageLoader("kjcm.reporting", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
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
    """Return a drawn picture in the format of the page."""
    width, height = canvas.get_size_inches() * PIXELS
    return Picture(base64.b64encode(svg(canvas)).decode(), round(width), round(height))


def cells(table: Table) -> Iterator[list[Cell]]:
    """Yield a table's rows as the page shows them, without missing runs."""
    for row in table.rows_run:
        yield [_cell(value, column) for value, column in zip(row, table.columns, strict=True)]


def _unbroken(text: str) -> str:
    """Return a text with no-break spaces inside figures, as in 84.44 % and p < 0.001."""
    return BREAKS.sub("\u00a0", text)


def _is_wordy(table: Table) -> bool:
    """Return whether a table has few columns and long texts, so that a narrow screen shows each row as a block."""
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
