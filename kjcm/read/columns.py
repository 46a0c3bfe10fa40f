"""Find a table's columns by name."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from kjcm.errors import KjcmError, require_columns, some
from kjcm.read.cells import code_text, tidy
from kjcm.read.options import ReadOptions

ROWS_SEEN = 30  # first rows of a file, which may include the header
FIRST_ROW = "first_row"  # attribute of a frame: the file's row, from 1, of its first cells under the header


def header_names(path: Path, header: Sequence[object], hint: Callable[[], str] = str) -> list[str]:
    """Return the names in a header's cells; one column may have no name.

    Raises:
        KjcmError: two columns have the same name; the message ends with `hint()`.
    """
    names = [code_text(cell) if not isinstance(cell, str) else cell for cell in header]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        wrong = f"several columns are named {some(twice)}" if any(twice) else f"{names.count('')} columns have no name"
        raise KjcmError(f"{path}: {wrong}.{hint() or ' Give every column a name of its own.'}")
    return names


def meant_columns(
    columns: Iterable[object],
    wanted: Mapping[str, str | None],
    place: str,
    remedy: str = "",
    hint: Callable[[], str] = str,
) -> dict[str, str]:
    """Return role -> column name, as the table spells it; roles without a name are left out.

    A name matches the column with the same spelling, else the column that differs only in Unicode form or white space.

    Args:
        columns: the table's.
        wanted: role -> name.
        place: the file, for messages.
        remedy: end of the message for a missing column; {role} in it is the role.
        hint: returns text that precedes the remedy.

    Raises:
        KjcmError: no column or several columns match.
    """
    own = [str(name) for name in columns]
    spelt: dict[str, list[str]] = {}
    for name in own:
        spelt.setdefault(tidy(name), []).append(name)
    found = {role: [name] if name in own else spelt.get(tidy(name), []) for role, name in wanted.items() if name}
    lacking = [role for role, names in found.items() if not names]
    advice = remedy.replace("{role}", lacking[0] if lacking else "")
    require_columns(place, own, [wanted[role] for role in lacking], lambda: f"{hint()} {advice}".strip())
    if several := [names for names in found.values() if len(names) > 1]:
        raise KjcmError(f"{place}: several columns are named {some(several[0])}. Give every column a name of its own.")
    return {role: names[0] for role, names in found.items()}


def likely_header(rows: Sequence[Sequence[object]], wanted: Iterable[str]) -> int | None:
    """Return the number (from 1) of the row that looks like the header, None without such a row.

    The row with most of the wanted names is likeliest. If no row has any, it is the first row full of different texts, if
    most rows are as wide.

    Args:
        rows: the first rows of a file.
        wanted: names of columns.
    """
    names = {tidy(name) for name in wanted}
    texts = [[tidy(cell) for cell in row if isinstance(cell, str)] for row in rows[:ROWS_SEEN]]
    most = max(range(len(texts)), key=lambda row: len(names.intersection(texts[row])), default=None)
    if most is None or names.intersection(texts[most]):
        return None if most is None else most + 1
    width = max(map(len, rows[:ROWS_SEEN]))
    if 2 * sum(len(cells) == width for cells in rows[:ROWS_SEEN]) <= len(texts):
        return None
    full = [number for number, cells in enumerate(texts, 1) if len({*cells} - {""}) == width > 1]
    return full[0] if full else None


def header_hint(rows: Sequence[Sequence[object]], used: int, options: ReadOptions) -> str:
    """Return ' Row N looks like the header...' if another row than the current one does, else ''."""
    likely = likely_header(rows, options.wanted)
    if likely is None or likely == used or options.keys is None:
        return ""
    return f" Row {likely} looks like the header:{options.advice('header_row', likely).lower()}"
