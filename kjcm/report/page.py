"""The report as one self-contained page: no network, no script."""

import base64
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from kjcm.report.content import NOT_RUN, Column, Estimate, Figure, Table, Value
from kjcm.report.drawing import svg
from kjcm.report.font import embedded
from kjcm.report.formats import show

DOI = "10.35371/aoem.2024.36.e19"  # the article's
HANGUL = re.compile("[ᄀ-ᇿ㄰-㆏가-힣]")
CHIPS = {"match": "match", "off": "off"}  # how a verdict looks; all others are of one kind
LONG = 28  # characters beyond which a text may break its line
PIXELS = 96  # of CSS, an inch


@dataclass(frozen=True)
class Section:
    """A part of the page: what the article says of it, and ours.

    Attributes:
        key: its address on the page.
        heading: in the contents too.
        claim: what the article says.
        content: tables and figures, in order.
        command: what makes it.
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
        main: its text; of an estimate, the mean.
        rest: an estimate's uncertainty.
        style: its CSS classes.
        chip: the CSS class of a verdict.
        korean: it has Hangul.
    """

    main: str
    rest: str
    style: str
    chip: str
    korean: bool


@dataclass(frozen=True)
class Picture:
    """A figure as the page carries it: SVG in base64, and its size in CSS pixels."""

    data: str
    width: int
    height: int


def page(title: str, lead: Sequence[str], synthetic: bool, sections: Sequence[Section], article: bool = True) -> str:
    """Return the page as HTML; the same contents, the same text.

    All texts are shown as they stand: none is taken for HTML. Links go to tables/KEY.csv, .md and .tex and to
    figures/KEY.svg and .png beside the page.

    Args:
        title: of the page.
        lead: paragraphs beneath the title.
        synthetic: of the twin; a banner says so on screen and on every printed page.
        sections: in order, the verdicts first.
        article: name the article beneath the lead.
    """
    environment = Environment(
        loader=PackageLoader("kjcm.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )  # fmt: skip
    environment.filters["cells"] = cells
    template = environment.get_template("page.html.j2")
    pictures = {
        item.key: _picture(item) for section in sections for item in section.content if isinstance(item, Figure)
    }
    contents = {
        "title": title, "lead": lead, "synthetic": synthetic, "sections": sections, "pictures": pictures,
        "doi": DOI if article else "",
    }  # fmt: skip
    characters = set(template.render(contents, font=""))
    return template.render(contents, font=embedded(characters))


def _picture(figure: Figure) -> Picture:
    """Draw a figure."""
    canvas = figure.draw()
    width, height = canvas.get_size_inches() * PIXELS
    return Picture(base64.b64encode(svg(canvas)).decode(), round(width), round(height))


def cells(table: Table) -> Iterator[list[Cell]]:
    """Yield a table's rows as the page shows them."""
    for row in table.rows:
        yield [_cell(value, column) for value, column in zip(row, table.columns, strict=True)]


def _cell(value: Value, column: Column) -> Cell:
    whole = show(value, column.kind)
    main = show(value.mean, column.kind) if isinstance(value, Estimate) else whole
    style = "number" if column.kind != "text" else "long" if len(whole) > LONG else "short"
    style += " absent" * (value == NOT_RUN)
    chip = CHIPS.get(whole, "other") if column.name.casefold() == "verdict" and whole else ""
    rest = whole.removeprefix(main).replace(" ± ", "\u00a0±\u00a0").replace(", ", ",\u00a0")  # breaks before [ only
    return Cell(main, rest, style, chip, HANGUL.search(whole) is not None)
