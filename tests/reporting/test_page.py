"""The page: everything on it, nothing from elsewhere, and texts that stay texts."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import cast

import pytest
from fontTools.ttLib import TTFont

from kjcm.analysis.content import NOT_RUN, Column, Estimate, Figure, Table
from kjcm.analysis.formats import show
from kjcm.analysis.selection import Run
from kjcm.plot.curves import draw_intervals
from kjcm.plot.font import FAMILY, embedded, font_path
from kjcm.plot.style import svg
from kjcm.reporting.page import DOI, Header, Section, page
from kjcm.reporting.result import described
from kjcm.survey.twin import read_vocabulary
from tests.conftest import ROOT

HOSTILE = "<script>alert('1')</script> & \"q\" <img src=x onerror=alert(1)> </style> {{ 7 * 7 }}"
VERDICTS = Table(
    "verdicts",
    "Figure by figure",
    (Column("where"), Column("paper", "number"), Column("verdict")),
    (
        ("Table 3", "84.44 %", "match"),
        ("Table 4", "0.78", "off"),
        ("Abstract", "28,996", "not comparable"),
        ("Suppl.", None, ""),
    ),
)
TABLE = Table(
    "table_3",
    "Scores",
    (Column("Model"), Column("Accuracy", "percent"), Column("Groups", "count"), Column("Title")),
    (
        ("K-JCM", Estimate(0.8444, 0.0012, 0.8402, 0.849), 142, "원예 및 조경 종사자"),
        (HOSTILE, Estimate(0.5), 1252, "Gardeners"),
        ("Model 2", NOT_RUN, None, "off"),
    ),
    notes=("Mean over seeds.", HOSTILE),
    missing=(("Model 2", "kjcm train experiment=model_2 name='<b>'"),),
)


def figure() -> Figure:
    rows = [("K-JCM", Estimate(0.84, None, 0.83, 0.85)), ("전문가", Estimate(0.5))]
    data = Table("figure_9_data", "Drawn", (Column("model"),), (("K-JCM",),))
    alt = 'Accuracy of "two" <models>'
    return Figure("figure_9", "Models", lambda: draw_intervals(rows, synthetic=True), alt, data, ("A note.",))


def sections() -> list[Section]:
    return [
        Section("verdicts-section", "Verdicts", "", [VERDICTS]),
        Section(
            "scores",
            f"Scores {HOSTILE}",
            f"The paper says {HOSTILE}.",
            [TABLE, figure()],
            [f"a line {HOSTILE}", "  한글"],
        ),
        Section("not_run", "Not run", "", [ABSENT]),
    ]


ABSENT = Table(
    "absent",
    "Not run",
    (Column("Model"), Column("Command", "code")),
    (("Model 2", "kjcm train name='<b>'"),),
    summary="1 model",
)
HEADER = Header(
    "Models compared 뷁", ["First paragraph.", HOSTILE], [("Data", "three rows")], "kjcm report 'only=[<b>]'"
)


def html(synthetic: bool = True) -> str:
    return page(HEADER, synthetic, sections())


class Reader(HTMLParser):
    """Reads a page into elements: tag, attributes, and the text within."""

    VOID = frozenset({"meta", "img", "br", "link", "hr", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self.open: list[tuple[str, dict[str, str], list[str]]] = []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = (tag, {name: value or "" for name, value in attrs}, list[str]())
        self.elements.append(element)
        if tag not in self.VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        for _, _, text in self.open:
            text.append(data)

    def texts(self, tag: str, **attributes: str) -> list[str]:
        """Return the texts of elements with a tag and attributes (a class among others)."""
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [
            "".join(text)
            for name, found, text in self.elements
            if name == tag and all(value in found.get(key, "").split() for key, value in wanted.items())
        ]

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes, _ in self.elements if name == tag]


def spaced(text: str) -> str:
    return text.replace("\u00a0", " ")


def test_texts_are_never_taken_for_html() -> None:
    read = Reader(html())
    assert not read.all("script")
    assert [attributes["src"][:26] for attributes in read.all("img")] == ["data:image/svg+xml;base64,"]
    for tag, count in (("p", 3), ("h2", 1), ("th", 1), ("pre", 1)):
        assert sum(HOSTILE in text for text in read.texts(tag)) == count, tag
    assert f"Scores {HOSTILE}" in read.texts("a")
    assert read.all("img")[0]["alt"] == 'Accuracy of "two" <models>'
    assert not any(name.startswith("on") for _, attributes, _ in read.elements for name in attributes)


def test_page_needs_nothing_from_elsewhere() -> None:
    text = html()
    assert re.findall(r"https?://[^\s\"<]+", text) == [f"https://doi.org/{DOI}"]
    assert set(re.findall(r"(?:src|href)=\"([a-z]+:)", text)) == {"data:", "https:"}
    assert set(re.findall(r"url\(\"?([a-z]+:)", text)) == {"data:"}
    assert "@import" not in text
    policy = next(meta["content"] for meta in Reader(text).all("meta") if "http-equiv" in meta)
    assert policy == "default-src 'none'; img-src data:; font-src data:; style-src 'unsafe-inline'"


def test_every_row_of_every_table_is_there() -> None:
    read = Reader(html())
    for table in (VERDICTS, TABLE, ABSENT):
        assert table.title in read.texts("caption")
        for row in table.rows_run:
            shown = "".join(show(value, column.kind) for value, column in zip(row, table.columns, strict=True))
            assert shown in [spaced(text) for text in read.texts("tr")]
    assert read.texts("th", scope="col") == [
        column.name for table in (VERDICTS, TABLE, ABSENT) for column in table.columns
    ]
    assert read.texts("th", scope="row") == [
        str(row[0]) for table in (VERDICTS, TABLE, ABSENT) for row in table.rows_run
    ]
    assert [spaced(text) for text in read.texts("td", class_="number")[-4:]] == [
        "84.44 % ± 0.12 [84.02, 84.90]", "142", "50.00 %", "1,252"
    ]  # fmt: skip
    assert "Mean over seeds." in read.texts("p", class_="note")


def test_lines_of_a_command_are_verbatim() -> None:
    assert Reader(html()).texts("pre") == [f"a line {HOSTILE}\n  한글"]


def test_verdicts_are_marked_in_their_column_only() -> None:
    read = Reader(html())
    assert read.texts("span", class_="chip") == ["match", "off", "not comparable"]
    assert [read.texts("span", class_=name) for name in ("match", "off", "other")] == [
        ["match"],
        ["off"],
        ["not comparable"],
    ]


def test_missing_runs_have_no_row_but_a_link_to_the_one_list_of_them() -> None:
    read = Reader(html())
    assert not read.texts("td", class_="absent") and NOT_RUN not in read.texts("td")
    assert "Not run: 1 model." in read.texts("p", class_="note")
    assert read.texts("code") == ["kjcm report 'only=[<b>]'", "kjcm train name='<b>'"]


def test_a_folded_table_is_in_a_details_element() -> None:
    read = Reader(html())
    assert read.texts("summary") == ["Contents", "1 model"]
    (folded,) = read.texts("details", class_="folded")
    assert "kjcm train name='<b>'" in folded


def test_texts_of_few_columns_are_blocks_on_a_narrow_screen_and_each_cell_names_its_column() -> None:
    read = Reader(html())
    assert [("blocks" in table.get("class", "")) for table in read.all("table")] == [False, True, False]
    assert [cell["data-label"] for cell in read.all("td")][-4:] == ["Accuracy", "Groups", "Title", "Command"]
    hangul = Table(
        "wide", "Wide", (Column("Text"), Column("Code")), (("감리회사에서 과장으로 도로 설계하는 일", "285"),)
    )
    shown = Reader(page(HEADER, False, [Section("one", "One", "", [hangul])]))
    assert shown.all("table")[0]["class"].strip() == "blocks"  # a syllable is as wide as two letters


def test_the_page_has_a_dark_look_of_every_colour() -> None:
    text = html()
    (light, dark) = (
        set(re.findall(r"(--\w+): #", part)) for part in re.findall(r":root \{(.*?)\n *\}", text, re.DOTALL)
    )
    assert light == dark and len(light) > 8
    style = (
        text[text.index("</style>") - 9000 : text.index("</style>")]
        .partition("* { box-sizing")[2]
        .partition("@media print")[0]
    )
    assert not re.findall(r"background: ?#|[^-]color: #(?!fff)", style)


def test_links_lead_to_the_files_and_the_contents_to_the_sections() -> None:
    read = Reader(html())
    links = [link["href"] for link in read.all("a")]
    ids = [attributes["id"] for _, attributes, _ in read.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link.removeprefix("#") for link in links if link.startswith("#")} <= set(ids)
    assert {"#verdicts-section", "#scores"} <= set(links)
    files = [f"tables/{table}.{kind}" for table in ("verdicts", "table_3") for kind in ("csv", "md", "tex")]
    files += ["figures/figure_9.svg", "figures/figure_9.png", "figures/figure_9.csv"]
    files += [f"tables/absent.{kind}" for kind in ("csv", "md", "tex")]
    assert [link for link in links if not link.startswith(("#", "https:"))] == files


def test_hangul_cells_and_the_page_name_their_language() -> None:
    read = Reader(html())
    assert read.all("html") == [{"lang": "en"}]
    assert read.texts("td", lang="ko") == ["원예 및 조경 종사자"]


def test_banner_and_title_say_synthetic_only_where_it_is() -> None:
    text = html(synthetic=True)
    assert Reader(text).texts("p", class_="banner")[0].startswith("SYNTHETIC DATA.")
    assert Reader(text).texts("title") == ["SYNTHETIC: Models compared 뷁"]
    assert '@top-center { content: "SYNTHETIC' in text  # on every printed page
    real = re.sub(r"base64,[^\"]+", "", html(synthetic=False))
    assert "synthetic" not in real.lower()


def test_figures_are_drawn_into_the_page_at_their_size() -> None:
    image = Reader(html()).all("img")[0]
    assert base64.b64decode(image["src"].partition(",")[2]) == svg(figure().draw())
    assert (image["width"], image["height"]) == ("691", "144")  # 7.2 by 1.5 inches of 96 pixels
    assert "Models" in Reader(html()).texts("figcaption")


def test_same_page_twice() -> None:
    assert html() == html()
    assert html() != page(replace(HEADER, title="Other"), True, sections())


def typeface(data: bytes) -> TTFont:
    return TTFont(io.BytesIO(data))


def test_the_embedded_typeface_has_every_character_that_the_whole_one_has() -> None:
    text = html()
    (data,) = re.findall(r"data:font/woff;base64,([A-Za-z0-9+/=]+)", text)
    font = typeface(base64.b64decode(data))
    have, whole = set(map(chr, font.getBestCmap())), set(map(chr, TTFont(font_path()).getBestCmap()))
    shown = set("".join(Reader(text).texts("body")))
    assert font.flavor == "woff" and len(have) < 200
    assert {character for character in have if "가" <= character <= "힣"} == set("원예및조경종사자한글")
    assert "뷁" in shown and "뷁" not in whole  # beyond KS X 1001: the reader's own typefaces show it
    assert (shown & whole) - {"\n"} <= have
    assert font["head"].modified == TTFont(font_path())["head"].modified  # no time of making
    assert embedded("가나") == embedded("나가가")


def test_the_typeface_has_what_the_package_writes() -> None:
    font = TTFont(font_path())
    have = set(map(chr, font.getBestCmap()))
    titles = (ROOT / "kjcm" / "ksco" / "ksco7.tsv").read_text(encoding="utf-8")
    words = "".join(
        "".join((*entry.workplaces, *entry.positions, *entry.tasks)) for entry in read_vocabulary().values()
    )
    syllables = {character for character in map(chr, range(0xAC00, 0xD7A4)) if len(character.encode("euc_kr")) == 2}
    assert len(syllables) == 2350
    assert syllables | set(titles + words) - set("\t\n") <= have
    assert set("ÄÖÜßéñ–—‘’“”…×·²≤≥−○△□◯@→±µ") <= have


def test_the_typeface_is_under_its_own_name_and_licence() -> None:
    font = TTFont(font_path())
    names = {record.nameID: record.toUnicode() for record in font["name"].names}
    assert names[1] == FAMILY
    assert not [text for number, text in names.items() if number not in (0, 10) and re.search("nanum|나눔", text, re.I)]
    assert "SIL Open Font License, Version 1.1" in names[13] and "NAVER" in names[0]
    licence = (ROOT / "kjcm" / "plot" / "fonts" / "OFL.txt").read_text(encoding="utf-8")
    assert "Copyright (c) 2010, NAVER Corporation" in licence and "SIL OPEN FONT LICENSE" in licence
    assert (ROOT / "kjcm" / "plot" / "fonts" / "kjcm-hangul.ttf").stat().st_size < 900_000


@pytest.mark.parametrize("content", [[], [replace(TABLE, rows=(), notes=(), missing=())]])
def test_a_section_without_rows_is_still_a_section(content: list[Table | Figure]) -> None:
    read = Reader(page(Header("T", []), False, [Section("empty", "Nothing yet", "", content)]))
    assert read.texts("h2") == ["Contents", "Nothing yet"]
    assert not read.texts("td")


def test_figures_do_not_break_and_a_claim_names_the_paper_once() -> None:
    claims = ["Precision is 84.44 % (p < 0.001), R² = 0.48.", "The paper leaves 14 % open."]
    read = Reader(page(Header("T", []), False, [Section(str(n), "H", said, []) for n, said in enumerate(claims)]))
    assert read.texts("p", class_="claim") == [
        "The paper Precision is 84.44\u00a0% (p\u00a0<\u00a00.001), R² =\u00a00.48.", "The paper leaves 14\u00a0% open."
    ]  # fmt: skip


def test_a_narrow_screen_gets_a_picture_of_its_own_where_there_is_one() -> None:
    rows = [("K-JCM", Estimate(0.84, None, 0.83, 0.85))]
    narrow = replace(figure(), draw_narrow=lambda: draw_intervals(rows, synthetic=True, narrow=True))
    one = page(Header("Title", []), True, [Section("scores", "Scores", "", [narrow])])
    both = page(Header("Title", []), True, [Section("scores", "Scores", "", [figure()])])
    assert one.count("<source media=") == 1 and one.count('<figure class="fits">') == 1
    assert "<source" not in both and 'class="fits"' not in both


@pytest.mark.parametrize(("layers", "size"), [(1, "1 layer × 32"), (2, "2 layers × 32")])
def test_one_layer_is_singular(layers: int, size: str) -> None:
    flow = {"unused": 0, "validation": 0}
    run = SimpleNamespace(
        config={"model": {"shape": {"n_layers": layers, "dim": 32}}}, cohort={"flow": flow}, report={}
    )
    assert described(cast(Run, run)) == f"{size}, random start"
