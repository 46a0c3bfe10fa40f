"""Correspondences of two classifications: the codes that replace each code, with weights that sum to 1."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite

import pandas as pd

from kjcm.errors import KjcmError
from kjcm.ksco.classification import usual_spelling
from kjcm.read.cells import code_texts, text_cells, tidy
from kjcm.read.columns import meant_columns
from kjcm.read.table import read_table

Weights = Mapping[str, float]  # code -> weight; the weights sum to 1
KSCO6_7 = ("ksco6", "ksco7")  # other names of the columns from and to


@dataclass(frozen=True)
class Correspondence:
    """The codes of one classification that replace each code of another.

    Attributes:
        name: its file or files, for messages.
        pairs: code -> its partners with their weights; {} for a code that lost all partners in a chain.
        new_codes: codes of the column `to`, in a chain of the last file.
        lost: codes on the way that a later correspondence of a chain does not have.
        titles: new code -> title, where the file has titles.
    """

    name: str
    pairs: Mapping[str, Weights]
    new_codes: frozenset[str] = frozenset()
    lost: tuple[str, ...] = ()
    titles: Mapping[str, str] = field(default_factory=dict)

    def partners(self, code: str, level: int | None = None) -> Weights | None:
        """Return the partners of a code cut to `level` characters (None: uncut), None if the table lacks the code.

        A shorter code stands for all table codes that begin with it, with equal weights. A longer code is cut until the
        table has it, to two characters at least.
        """
        beginnings = (code[:end] for end in range(len(code) - 1, 1, -1))
        if code in self.pairs:
            found = self.pairs[code]
        elif code in self._beneath:
            found = _mean([weights for weights in self._beneath[code] if weights])
        elif (known := next((short for short in beginnings if short in self.pairs), None)) is not None:
            found = self.pairs[known]
        else:
            return None
        cut: dict[str, float] = {}
        for partner, weight in found.items():
            cut[partner[:level]] = cut.get(partner[:level], 0.0) + weight
        return dict(sorted(cut.items()))

    @cached_property
    def _beneath(self) -> Mapping[str, list[Weights]]:
        """Return each beginning of the codes -> the partners of these codes."""
        found: dict[str, list[Weights]] = {}
        for code, weights in self.pairs.items():
            for end in range(1, len(code)):
                found.setdefault(code[:end], []).append(weights)
        return found

    @cached_property
    def without_zeros(self) -> Mapping[str, str]:
        """Return codes that begin with zeros, as a spreadsheet program stores them: 110 -> 0110."""
        found = {code.lstrip("0"): code for code in self.pairs if code.startswith("0") and code.isdigit()}
        return {short: code for short, code in found.items() if short and short not in self.pairs}

    def then(self, other: "Correspondence") -> "Correspondence":
        """Return the correspondence from this one's codes to the other one's, by way of the codes between.

        A partner that the other correspondence lacks leaves its weight to the others.
        """
        pairs: dict[str, Weights] = {}
        lost = set()
        for code, weights in self.pairs.items():
            reached: dict[str, float] = {}
            for between, weight in weights.items():
                further = other.partners(between)
                lost |= set() if further else {between}
                for partner, share in (further or {}).items():
                    reached[partner] = reached.get(partner, 0.0) + weight * share
            pairs[code] = _scaled(reached)
        name = f"{self.name}, {other.name}"
        return Correspondence(name, pairs, other.new_codes, (*self.lost, *other.lost, *sorted(lost)), other.titles)


def _mean(found: Sequence[Weights]) -> Weights:
    total: dict[str, float] = {}
    for weights in found:
        for partner, weight in weights.items():
            total[partner] = total.get(partner, 0.0) + weight / len(found)
    return total


def _scaled(weights: Weights) -> Weights:
    whole = sum(weights.values())
    return {code: weight / whole for code, weight in weights.items()}


def read_correspondences(paths: Sequence[str], *, from_ksco: bool = False, to_ksco: bool = False) -> Correspondence:
    """Return the correspondence of a file, or of files that are chained: A to B, B to C.

    Args:
        paths: the files.
        from_ksco: whether the first file's column `from` has codes of KSCO.
        to_ksco: whether the last file's column `to` has codes of KSCO.

    Raises:
        KjcmError: see `read_correspondence`, or no code of a file's is in the next one.
    """
    last = len(paths) - 1
    found = read_correspondence(paths[0], from_ksco=from_ksco, to_ksco=to_ksco and last == 0)
    for place, path in enumerate(paths[1:], 1):
        following = found.then(read_correspondence(path, to_ksco=to_ksco and place == last))
        if not any(following.pairs.values()):
            raise KjcmError(
                f"{path}, column 'from': has none of the codes in column 'to' of {found.name}. Give the files in order: "
                "[A_TO_B,B_TO_C]."
            )
        found = following
    return found


def read_correspondence(path: str, *, from_ksco: bool = False, to_ksco: bool = False) -> Correspondence:
    """Read a table of from, to and, if present, weight; see `correspondence_of`."""
    return correspondence_of(read_table(path), path, from_ksco=from_ksco, to_ksco=to_ksco)


def correspondence_of(
    table: pd.DataFrame, name: str, *, from_ksco: bool = False, to_ksco: bool = False
) -> Correspondence:
    """Return a table's pairs, one a row; without weights the partners of a code are equal, and repeated pairs count once.

    Args:
        table: has the columns from and to, or ksco6 and ksco7; and weight and to_title, if pairs have these.
        name: its file, for messages.
        from_ksco: whether the codes on the left are of KSCO, in any of their spellings.
        to_ksco: whether those on the right are.

    Raises:
        KjcmError: a column is missing, a pair with a weight occurs twice, or a weight is not a number above 0.
    """
    left, right = headers(table)
    names = {*map(tidy, map(str, table.columns))}
    roles = [left, right, *(role for role in ("weight", "to_title") if role in names)]
    remedy = "Make it with `kjcm classification import`."
    own = meant_columns(table.columns, dict(zip(roles, roles, strict=True)), name, remedy)
    has_weights = "weight" in own
    old = [plain_code(code, ksco=from_ksco) for code in code_texts(table[own[left]])]
    new = [plain_code(code, ksco=to_ksco) for code in code_texts(table[own[right]])]
    given = code_texts(table[own["weight"]]) if has_weights else [""] * len(table)
    pairs: dict[str, dict[str, float]] = {}
    for one, other, text in zip(old, new, given, strict=True):
        if not one or not other:
            continue
        weight = _weight(text) if has_weights else 1.0
        if weight is None:
            raise KjcmError(f"{name}, column 'weight', from {one} to {other}: {text[:20]!r} is no number above 0.")
        if other in pairs.setdefault(one, {}) and has_weights:
            raise KjcmError(f"{name}: the pair {one} and {other} occurs more than once. Keep one row per pair.")
        pairs[one][other] = weight
    if not pairs:
        raise KjcmError(f"{name}: no row has both a code {left!r} and a code {right!r}.")
    new_codes = frozenset(partner for weights in pairs.values() for partner in weights)
    titles = dict(zip(new, text_cells(table[own["to_title"]])[0], strict=True)) if "to_title" in own else {}
    return Correspondence(
        str(name), {code: _scaled(weights) for code, weights in pairs.items()}, new_codes, titles=titles
    )


def headers(table: pd.DataFrame) -> tuple[str, str]:
    """Return the names of a correspondence's two columns of codes."""
    names = {*map(tidy, map(str, table.columns))}
    other = {*KSCO6_7} <= names or ({*KSCO6_7} & names and not {"from", "to"} <= names)
    return KSCO6_7 if other else ("from", "to")


def _weight(text: str) -> float | None:
    try:
        weight = float(text)
    except ValueError:
        return None
    return weight if isfinite(weight) and weight > 0 else None


def plain_code(text: str, *, ksco: bool) -> str:
    """Return a cell's code without white space, in capitals; `ksco`: in KSCO's usual spelling."""
    return usual_spelling(text) if ksco else tidy(text).upper()
