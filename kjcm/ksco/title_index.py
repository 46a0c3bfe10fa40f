"""An index of job titles: which code each title has, as coding offices keep it."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from math import isfinite
from pathlib import Path
from typing import NamedTuple

from kjcm.errors import KjcmError, counted, require_columns, some
from kjcm.ksco.classification import Classification
from kjcm.read.cells import code_texts, tidy
from kjcm.read.table import read_table

DOTS = "ㆍᆞ"  # Hangul letters that people type for the middle dot


class IndexTitle(NamedTuple):
    """A job title with its code, as fine as the index gives it; without a column `weight` the weight is 1."""

    title: str
    code: str
    source: str = ""
    weight: float = 1.0


def normalise(title: str) -> str:
    """Return a title in NFC and lower case, without blanks, punctuation and invisible characters; '' if nothing is left."""
    kept = (letter for letter in tidy(title).casefold() if letter not in DOTS and not _is_left_out(letter))
    return unicodedata.normalize("NFC", "".join(kept))


@cache
def _is_left_out(letter: str) -> bool:
    return letter != "#" and unicodedata.category(letter)[0] in "PZ"  # C# is not C; the + of C++ is no punctuation


def read_index(path: str | Path, classification: Classification) -> list[IndexTitle]:
    """Read a table of title, code and, if present, source and weight (CSV, TSV or XLSX), in the file's order.

    A row without title and code is no entry. A title may have several codes.

    Raises:
        KjcmError: no such file, a column is missing, the classification lacks a code, a title is empty, a weight is not a
            number above 0, or there is no entry.
    """
    table = read_table(path)
    table.columns = [tidy(str(name)).lower() for name in table.columns]
    require_columns(path, table.columns, ("title", "code"))
    cells = {
        name: list(map(tidy, code_texts(table[name]))) if name in table else [""] * len(table)
        for name in ("title", "code", "source", "weight")
    }
    rows = [row for row in zip(*cells.values(), strict=True) if row[0] or row[1]]
    if not rows:
        raise KjcmError(f"{path}: has no job titles. Give a file with a title and its code in each row.")
    codes = {text: _known(text, classification) for _, text, _, _ in rows}
    unknown = [text or "(empty)" for _, text, _, _ in rows if not codes[text]]
    _require(path, "code", unknown, f"codes that {classification.name} lacks")
    empty = [title or "(empty)" for title, _, _, _ in rows if not any(map(str.isalnum, normalise(title)))]
    _require(path, "title", empty, "titles without a letter or digit")
    weights = {text: _weight(text) for _, _, _, text in rows} if "weight" in table else {"": 1.0}
    wrong = [text for _, _, _, text in rows if not weights[text]]
    _require(path, "weight", [text or "(empty)" for text in wrong], "weights that are not numbers above 0")
    return [IndexTitle(title, codes[code] or "", source, weights[weight]) for title, code, source, weight in rows]


def _known(text: str, classification: Classification) -> str | None:
    """Return the classification's code that a cell means, None for none."""
    code = classification.resolve(text)
    own = classification.levels
    return code if code and (not own or any(code[:end] in own for end in range(len(code), 0, -1))) else None


def _weight(text: str) -> float:
    """Return a weight, 0 if the text is no number above 0."""
    try:
        weight = float(text)
    except ValueError:
        return 0.0
    return weight if isfinite(weight) and weight > 0 else 0.0


def _require(path: str | Path, column: str, wrong: Sequence[str], what: str) -> None:
    if wrong:
        rows = counted(len(wrong), "row")
        raise KjcmError(
            f"{path}, column {column!r}: {what}: {some(dict.fromkeys(wrong))} ({rows}). Correct or remove these rows."
        )


def cut_codes(
    index: Iterable[IndexTitle], classification: Classification, level: int | None, place: str | Path
) -> list[tuple[IndexTitle, str | None]]:
    """Return each title with its code cut to a level (None: uncut), or with None if its code is above the level.

    Args:
        index: the titles.
        classification: their codes' classification.
        level: the level.
        place: the index's file, for messages.

    Raises:
        KjcmError: codes have lost leading zeros.
    """
    index = list(index)
    classification.require_zeros((one.code for one in index), level, f"{place}, column 'code'")
    cut = {code: classification.at_level(code, level) for code in {one.code for one in index}}
    return [(one, cut[one.code]) for one in index]


def index_at_level(
    index: Iterable[IndexTitle], classification: Classification, level: int | None, place: str | Path
) -> list[IndexTitle]:
    """Return the titles with their codes cut to a level, without those above it; arguments as of `cut_codes`."""
    return [one._replace(code=code) for one, code in cut_codes(index, classification, level, place) if code]


def coarser_titles(cut: Iterable[tuple[IndexTitle, str | None]], classification: Classification) -> frozenset[str]:
    """Return the normalised titles that have a code at the level and a code above it in another group: 3121 and 27."""

    def is_in(code: str, group: str) -> bool:
        return code.startswith(group) or group in classification.ancestors(code)

    coarse, fine = dict[str, set[str]](), dict[str, set[str]]()
    for one, code in cut:
        (coarse if code is None else fine).setdefault(normalise(one.title), set()).add(code or one.code)
    return frozenset(
        title
        for title, above in coarse.items()
        if not all(is_in(code, group) for group in above for code in fine.get(title, ()))
    )


def codes_by_title(index: Iterable[IndexTitle]) -> Mapping[str, tuple[str, ...]]:
    """Return normalised title -> its codes, the one with the largest weight first; several codes make it ambiguous."""
    weights: dict[str, dict[str, float]] = {}
    for one in index:
        codes = weights.setdefault(normalise(one.title), {})
        codes[one.code] = codes.get(one.code, 0.0) + one.weight
    return {title: tuple(sorted(codes, key=lambda code: (-codes[code], code))) for title, codes in weights.items()}
