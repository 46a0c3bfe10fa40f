"""Formats: tables as CSV, Markdown, LaTeX and on the screen, and values as text."""

import csv
import io
import re
import unicodedata
from collections.abc import Iterator, Sequence

from kjcm.analysis.content import Column, Estimate, Kind, Table, Value
from kjcm.errors import counted
from kjcm.markdown import escaped

WORDS: tuple[Kind, ...] = ("text", "code")  # columns aligned to the left
DIGITS: dict[Kind, int] = {"count": 0, "percent": 2, "share": 2, "number": 1, "value": 4, "p": 3}
FORMULA = ("=", "+", "-", "@", "\t", "\n")  # how a spreadsheet formula begins
NUMBERED = re.compile(r"^(Supplementary )?(Table|Figure) \d+\. ")  # LaTeX numbers its tables itself
LONG_TABLE = 40  # longer tables span pages in LaTeX
LINE = 90  # Latin letters a line
LANDSCAPE = 150  # the same in landscape
LEAST = 0.3  # minimum share of a line for long texts
PREAMBLE = (
    r"% Preamble: \usepackage{booktabs,longtable,array,graphicx,pdflscape}; for Hangul kotex, or XeLaTeX with a font."
)
ON_SCREEN = 12  # most rows of a table on the screen
LONG_TEXT = 30  # wider LaTeX columns break their lines

LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "`": r"\textasciigrave{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "[": "{[}", "]": "{]}", "*": "{*}",  # LaTeX's \\ would read them as arguments
    "−": "$-$", "±": r"$\pm$", "≤": r"$\leq$", "≥": r"$\geq$", "×": r"$\times$", "²": "$^2$", "→": r"$\to$",
}  # fmt: skip


def show(value: Value, kind: Kind) -> str:
    """Return a value as people read it; text is unchanged, None is ''.

    An Estimate shows its mean, ± its standard deviation, and [low, high], in the mean's unit.
    """
    if value is None or isinstance(value, str):
        return value or ""
    if not isinstance(value, Estimate):
        return _figure(value, kind) + (" %" if kind == "percent" else "")
    shown = show(value.mean, kind)
    if value.sd is not None:
        shown += f" ± {_figure(value.sd, kind)}"
    if value.low is not None and value.high is not None:
        shown += f" [{_figure(value.low, kind)}, {_figure(value.high, kind)}]"
    return shown


def _figure(number: float, kind: Kind) -> str:
    """Return a number in its kind's unit and digits, with a typographic minus sign and no negative zero."""
    if kind not in DIGITS:
        return str(number).replace("-", "−")
    if kind == "p" and number < 0.001:
        return "< 0.001"
    shown = f"{number * 100 if kind == 'percent' else number:,.{DIGITS[kind]}f}"
    if kind == "number":
        shown = shown.removesuffix(".0")
    return shown.replace("-", "−") if shown.strip("-0.,") else shown.removeprefix("-")


def as_csv(table: Table) -> str:
    """Return a table as CSV with every digit of its numbers; None is an empty cell.

    A column with an Estimate becomes four columns: NAME, NAME sd, NAME low, NAME high. A text that a spreadsheet would
    run as a formula (it begins with = + - @, a tab or a line break) gets an apostrophe before it; numbers never do.
    Write the text as utf-8-sig, so that spreadsheet programs show Hangul.
    """
    wide = [any(isinstance(row[place], Estimate) for row in table.rows) for place in range(len(table.columns))]
    parts = [("", " sd", " low", " high") if estimates else ("",) for estimates in wide]
    heads = [column.name + part for column, more in zip(table.columns, parts, strict=True) for part in more]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(map(_inert, heads))
    for row in table.rows:
        writer.writerow(_inert(cell) for value, more in zip(row, wide, strict=True) for cell in _cells(value, more))
    return stream.getvalue()


def _cells(value: Value, wide: bool) -> Iterator[str | float | None]:
    """Yield the CSV cells of a value: four in a column of estimates, otherwise one."""
    if isinstance(value, Estimate):
        yield from (value.mean, value.sd, value.low, value.high)
    else:
        yield value
        yield from (None, None, None) if wide else ()


def _inert(cell: str | float | None) -> str | float | None:
    if not isinstance(cell, str):
        return cell
    text = cell.replace("\r\n", "\n").replace("\r", "\n")  # the csv module leaves a lone \r unquoted
    return f"'{text}" if text.startswith(FORMULA) else text


def as_markdown(table: Table) -> str:
    """Return a table as Markdown: title, table (numbers to the right), notes, and the commands of missing runs."""
    lines = [
        [escaped(column.name) for column in table.columns],
        ["---" if column.kind in WORDS else "---:" for column in table.columns],
        *([escaped(cell) for cell in row] for row in _shown(table)),
    ]
    parts = [f"# {escaped(table.title)}", "\n".join(f"| {' | '.join(line)} |" for line in lines)]
    parts += [escaped(note) for note in table.notes]
    if table.missing:
        parts.append("\n".join(f"- not run: {escaped(label)}: {_code(command)}" for label, command in table.missing))
    return "\n\n".join(parts) + "\n"


def _shown(table: Table) -> list[list[str]]:
    """Return every cell as text."""
    return [[show(value, column.kind) for value, column in zip(row, table.columns, strict=True)] for row in table.rows]


def _code(command: str) -> str:
    """Return a command as Markdown code, in a fence longer than the command's own backticks."""
    fence = "`" * (max(map(len, re.findall("`+", command)), default=0) + 1)
    return f"{fence}{command}{fence}" if fence == "`" else f"{fence} {command} {fence}"


def as_latex(table: Table) -> str:
    """Return a table as LaTeX (booktabs; longtable beyond 40 rows) with caption, label tab:KEY and notes.

    Columns with texts wider than 30 letters share the rest of the line and break their lines. A table that is still too
    wide is scaled down, or printed in landscape if it is long. Commands of missing runs become comments, because a paper
    does not print them.
    """
    rows = _shown(table)
    long, wide = len(rows) > LONG_TABLE, _taken(table.columns, rows, LINE) > 1 - LEAST
    line = LANDSCAPE if long and wide else LINE
    types = _column_types(table.columns, rows, line)
    head = " & ".join(_latex(column.name) for column in table.columns) + r" \\"
    body = [" & ".join(map(_latex, row)) + r" \\" for row in rows]
    title = rf"\caption{{{_latex(NUMBERED.sub('', table.title))}}}\label{{tab:{table.key}}}"
    lines = (_long if long else _float)(title, types, head, body, [_latex(note) for note in table.notes])
    if line == LANDSCAPE:
        lines = [r"\begin{landscape}", *lines, r"\end{landscape}"]
    comments = [_comment(f"not run: {label}: {command}") for label, command in table.missing]
    return "\n".join([PREAMBLE, *lines, *comments]) + "\n"


def _float(title: str, types: str, head: str, body: Sequence[str], notes: Sequence[str]) -> list[str]:
    """Return the lines of a table on one page."""
    return [
        r"\begin{table}", r"\centering", title,
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{types}}}", r"\toprule", head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}}",
        *(rf"\par\smallskip{{\footnotesize {note}\par}}" for note in notes),
        r"\end{table}",
    ]  # fmt: skip


def _long(title: str, types: str, head: str, body: Sequence[str], notes: Sequence[str]) -> list[str]:
    """Return the lines of a table over several pages, with a heading on each page."""
    return [
        r"{\footnotesize\setlength{\tabcolsep}{3pt}",
        rf"\begin{{longtable}}{{{types}}}", rf"{title} \\", r"\toprule", head, r"\midrule", r"\endfirsthead",
        r"\toprule", head, r"\midrule", r"\endhead", r"\bottomrule", r"\endfoot", *body, r"\end{longtable}",
        *(rf"\noindent {note}\par" for note in notes), "}",
    ]  # fmt: skip


def _column_types(columns: Sequence[Column], rows: Sequence[Sequence[str]], line: int) -> str:
    """Return LaTeX's column types: r for numbers, l for text, p for long text, which shares the remaining width."""
    wraps = [wrap for _, wrap in _widths(columns, rows)]
    share = max(0.95 - _taken(columns, rows, line), LEAST) / max(sum(wraps), 1)
    long = rf">{{\raggedright\arraybackslash}}p{{{share:.2f}\linewidth}}"
    return "".join(
        long if wrap else "l" if column.kind in WORDS else "r" for column, wrap in zip(columns, wraps, strict=True)
    )


def _taken(columns: Sequence[Column], rows: Sequence[Sequence[str]], line: int) -> float:
    """Return the share of a line that columns without line breaks take."""
    return sum(letters + 2 for letters, wrap in _widths(columns, rows) if not wrap) / line


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[tuple[int, bool]]:
    """Return each column's widest cell in letters, and whether the column breaks its lines."""
    letters = [max(map(width_of, [column.name, *(row[place] for row in rows)])) for place, column in enumerate(columns)]
    return [(wide, column.kind in WORDS and wide > LONG_TEXT) for column, wide in zip(columns, letters, strict=True)]


def width_of(text: str) -> int:
    """Return a text's width in Latin letters; a Hangul syllable counts as two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _latex(text: str) -> str:
    """Return a text that LaTeX prints verbatim on one line; two hyphens, as in an option, stay two hyphens."""
    shown = "".join(LATEX.get(character, character if character.isprintable() else " ") for character in text)
    return re.sub("-(?=-)", "-{}", shown)


def _comment(text: str) -> str:
    return "% " + " ".join(text.splitlines())


def print_table(table: Table, more: str = "") -> None:
    """Print a table's first rows and its notes; `more` says where the other rows are."""
    from rich.console import Console
    from rich.table import Table as Printed

    printed = Printed(pad_edge=False)
    for column in table.columns:
        printed.add_column(column.name, justify="left" if column.kind in WORDS else "right", overflow="fold")
    for row in table.rows[:ON_SCREEN]:
        printed.add_row(*(show(value, column.kind) for value, column in zip(row, table.columns, strict=True)))
    console = Console(markup=False, highlight=False)
    console.print(table.title if table.rows or table.notes else f"{table.title}: none")
    if table.rows:
        console.print(printed)
    left = len(table.rows) - ON_SCREEN
    for note in (*([f"{counted(left, 'more row')}: {more}"] if left > 0 else []), *table.notes):
        console.print(note)
    console.print()
