"""Values and tables as text: digits, signs, and texts that mean something to CSV, Markdown or LaTeX."""

import csv
import io
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from markdown_it import MarkdownIt

from kjcm.analysis.content import NOT_RUN, Column, Estimate, Kind, Table, Value
from kjcm.analysis.formats import as_csv, as_latex, as_markdown, show
from kjcm.plot.font import font_path

HOSTILE = [
    "a|b & c", "100 % of $x$ #1", "<script>alert(1)</script>", "=cmd|' /C calc'!A0", "+1", "-1", "@x", "\tx", "\rx",
    "line\nbreak", "제목 ○○·원예", "{~^\\_}", "[x] *y* `z` ``q", "--no --dash", '"quoted"', "&lt; &amp;",
]  # fmt: skip
TEXTS = Table(
    "texts", "Title_1 | 50 % 제목", (Column("a|b_%"), Column("n", "count")), tuple((text, 1) for text in HOSTILE)
)
SCORES = Table(
    "scores",
    "Scores",
    (Column("Model"), Column("Accuracy", "percent"), Column("Groups", "count"), Column("p", "p")),
    (
        ("K-JCM", Estimate(0.8444, 0.0012, 0.8402, 0.849), 142, 0.0001),
        ("SVM", Estimate(1 / 3), 142, 0.0123),
        ("Model 2", NOT_RUN, None, None),
    ),
    notes=("95 % intervals.",),
    missing=(("Model 2", "kjcm train experiment=model_2 name='a`b'"),),
)


@pytest.mark.parametrize(
    ("value", "kind", "shown"),
    [
        (1234, "count", "1,234"), (-1234.0, "count", "−1,234"), (0, "count", "0"),
        (0.8444, "percent", "84.44 %"), (-0.0055, "percent", "−0.55 %"), (-1e-9, "percent", "0.00 %"), (1, "percent", "100.00 %"),
        (0.834, "share", "0.83"), (-0.05, "share", "−0.05"), (-0.001, "share", "0.00"),
        (114.0, "number", "114"), (114, "number", "114"), (76.5, "number", "76.5"), (1252, "number", "1,252"),
        (39.125, "number", "39.1"), (-0.04, "number", "0"), (99_999.96, "number", "100,000"), (10, "number", "10"),
        (0.0004, "p", "< 0.001"), (0.001, "p", "0.001"), (0.0123, "p", "0.012"), (1.0, "p", "1.000"),
        (None, "count", ""), ("-not run-", "count", "-not run-"), ("", "text", ""), (-5, "text", "−5"),
        (Estimate(0.8444), "percent", "84.44 %"),
        (Estimate(0.8444, 0.0012), "percent", "84.44 % ± 0.12"),
        (Estimate(0.8444, None, 0.8402, 0.849), "percent", "84.44 % [84.02, 84.90]"),
        (Estimate(-0.01, 0.002, -0.02, -0.00001), "share", "−0.01 ± 0.00 [−0.02, 0.00]"),
        (Estimate(1252.0, 1.5, 1000, 2000), "number", "1,252 ± 1.5 [1,000, 2,000]"),
    ],
)  # fmt: skip
def test_show(value: Value, kind: Kind, shown: str) -> None:
    assert show(value, kind) == shown


def test_csv_keeps_every_digit_and_expands_estimates() -> None:
    read = pd.read_csv(io.StringIO(as_csv(SCORES)))
    assert list(read) == ["Model", "Accuracy", "Accuracy sd", "Accuracy low", "Accuracy high", "Groups", "p"]
    assert list(read["Accuracy"]) == ["0.8444", repr(1 / 3), NOT_RUN]
    assert list(read["Accuracy high"].dropna()) == [0.849]
    assert list(read["Groups"].dropna()) == [142, 142]
    assert list(read["p"].dropna()) == [0.0001, 0.0123]
    assert as_csv(SCORES).splitlines()[2] == f"SVM,{1 / 3!r},,,,142,0.0123"


def test_csv_without_estimates_has_its_columns() -> None:
    table = Table("t", "T", (Column("x", "share"), Column("y", "number")), ((-0.1, 1), (2e-9, None)))
    assert as_csv(table) == "x,y\n-0.1,1\n2e-09,\n"


def test_csv_texts_are_no_formulas_and_come_back() -> None:
    rows = list(csv.reader(io.StringIO(as_csv(TEXTS), newline="")))
    assert rows[0] == ["a|b_%", "n"]
    for text, (read, one) in zip(HOSTILE, rows[1:], strict=True):
        assert not read.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
        assert read.removeprefix("'") == text.replace("\r", "\n")
        assert read.startswith("'") == text.startswith(("=", "+", "-", "@", "\t", "\r"))
        assert one == "1"
    assert as_csv(Table("t", "T", (Column("=A1"),), ())) == "'=A1\n"


def rendered(table: Table) -> tuple[list[str], list[list[str]], str]:
    """Return headings, table cells and the HTML of a table's Markdown, as a CommonMark reader shows them."""
    markdown = MarkdownIt("commonmark").enable("table")
    tokens = markdown.parse(as_markdown(table))
    headings: list[str] = []
    rows: list[list[str]] = []
    for place, token in enumerate(tokens):
        if token.type == "heading_open":
            headings.append(words(tokens[place + 1]))
        elif token.type == "tr_open":
            rows.append([])
        elif token.type in ("th_open", "td_open"):
            rows[-1].append(words(tokens[place + 1]))
    return headings, rows, markdown.render(as_markdown(table))


def words(token: Any) -> str:
    """Return the text of an inline token, which may hold nothing but text and line breaks."""
    parts = token.children or []
    assert {part.type for part in parts} <= {"text", "text_special", "html_inline", "softbreak"}, token.content
    assert all(part.content == "<br>" for part in parts if part.type == "html_inline"), token.content
    return "".join("\n" if part.type == "html_inline" else part.content for part in parts)


def test_markdown_shows_texts_as_they_stand() -> None:
    headings, rows, html = rendered(TEXTS)
    assert headings == [TEXTS.title]
    assert rows[0] == ["a|b_%", "n"]
    assert [row[0] for row in rows[1:]] == [text.replace("\r", "\n").strip("\t") for text in HOSTILE]
    assert "<script>" not in html


def test_markdown_aligns_numbers_and_lists_missing_runs() -> None:
    headings, rows, html = rendered(SCORES)
    assert headings == ["Scores"]
    assert rows[1:] == [
        ["K-JCM", "84.44 % ± 0.12 [84.02, 84.90]", "142", "< 0.001"],
        ["SVM", "33.33 %", "142", "0.012"],
        ["Model 2", NOT_RUN, "", ""],
    ]
    assert as_markdown(SCORES).splitlines()[3] == "| --- | ---: | ---: | ---: |"
    assert "<p>95 % intervals.</p>" in html
    assert "<li>not run: Model 2: <code>kjcm train experiment=model_2 name='a`b'</code></li>" in html
    assert as_markdown(SCORES).endswith("- not run: Model 2: `` kjcm train experiment=model_2 name='a`b' ``\n")


def test_latex_says_what_the_table_says() -> None:
    assert as_latex(SCORES).splitlines()[1:] == [
        r"\begin{table}",
        r"\centering",
        r"\caption{Scores}\label{tab:scores}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        r"\begin{tabular}{lrrr}",
        r"\toprule",
        r"Model & Accuracy & Groups & p \\",
        r"\midrule",
        r"K-JCM & 84.44 \% $\pm$ 0.12 {[}84.02, 84.90{]} & 142 & \textless{} 0.001 \\",
        r"SVM & 33.33 \% & 142 & 0.012 \\",
        r"Model 2 & not run &  &  \\",
        r"\bottomrule",
        r"\end{tabular}}",
        r"\par\smallskip{\footnotesize 95 \% intervals.\par}",
        r"\end{table}",
        r"% not run: Model 2: kjcm train experiment=model_2 name='a`b'",
    ]
    assert as_latex(SCORES).startswith("% Preamble: ")


def test_latex_escapes_what_latex_reads() -> None:
    rows = [line for line in as_latex(TEXTS).splitlines() if line.endswith(r"& 1 \\")]
    assert len(rows) == len(HOSTILE)  # a line break in a text is none in the file
    assert rows[0] == r"a\textbar{}b \& c & 1 \\"
    assert rows[1] == r"100 \% of \$x\$ \#1 & 1 \\"
    assert rows[9] == r"line break & 1 \\"
    assert rows[10] == r"제목 ○○·원예 & 1 \\"
    assert rows[11] == r"\{\textasciitilde{}\textasciicircum{}\textbackslash{}\_\} & 1 \\"
    assert rows[12] == r"{[}x{]} {*}y{*} \textasciigrave{}z\textasciigrave{} \textasciigrave{}\textasciigrave{}q & 1 \\"
    assert rows[13] == r"-{}-no -{}-dash & 1 \\"


def long_table(rows: int) -> Table:
    """Return a table with a title and a long text in each row."""
    columns = (Column("code"), Column("제목"), Column("text"), Column("n", "count"))
    row = ("861", "발전 및 배전장치 조작원", "Power Generation and Distribution Equipment Operators", 7)
    return Table("long", "Every group", columns, (row,) * rows, notes=("A note.",))


def test_latex_breaks_tables_of_more_than_forty_rows_across_pages() -> None:
    assert r"\begin{tabular}" in as_latex(long_table(40))
    text = as_latex(long_table(41))
    assert r"\begin{longtable}{ll>{\raggedright\arraybackslash}p{0.57\linewidth}r}" in text
    assert r"\begin{tabular}" not in text
    assert text.count(r"code & 제목 & text & n \\") == 2  # on the first page and on the others
    assert text.count("861 & 발전") == 41
    assert r"\caption{Every group}\label{tab:long} \\" in text


def wide_table(rows: int) -> Table:
    """Return a table whose columns of 25 letters each want more than a page's line."""
    columns = tuple(Column(f"column {place}") for place in range(4))
    return Table("wide", "Wide", columns, (("a" * 25,) * 4,) * rows)


def test_latex_turns_a_long_table_that_is_wider_than_the_page() -> None:
    turned = as_latex(wide_table(41)).splitlines()
    assert turned[1] == r"\begin{landscape}" and turned[-1] == r"\end{landscape}"
    assert "landscape}" not in as_latex(wide_table(40)).partition("\n")[2]  # a short one is made smaller
    assert "landscape}" not in as_latex(long_table(41)).partition("\n")[2]


def test_latex_compiles(tmp_path: Path) -> None:
    if not shutil.which("xelatex"):
        pytest.skip("needs xelatex to see that the tables compile")
    font = Path(font_path())
    tables = "\n".join(as_latex(table) for table in (SCORES, TEXTS, long_table(3), long_table(60), wide_table(60)))
    (tmp_path / "all.tex").write_text(
        r"\documentclass{article}\usepackage{booktabs,longtable,array,graphicx,pdflscape,fontspec}"
        rf"\setmainfont{{{font.name}}}[Path={font.parent}/]\begin{{document}}{tables}\end{{document}}",
        encoding="utf-8",
    )
    done = subprocess.run(
        ["xelatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"],
        cwd=tmp_path, capture_output=True, text=True, check=False, errors="replace",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    assert "Missing character" not in done.stdout
    assert (tmp_path / "all.pdf").is_file()
