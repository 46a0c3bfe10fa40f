"""Correspondences of two classifications: the codes that replace each code, with weights that sum to 1."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite

from kjcm.errors import KjcmError
from kjcm.ksco.classification import spellings
from kjcm.read.cells import code_texts, tidy
from kjcm.read.columns import meant_columns
from kjcm.read.table import read_table

Weights = Mapping[str, float]  # code -> weight; the weights sum to 1


@dataclass(frozen=True)
class Correspondence:
    """The codes of one classification that replace each code of another.

    Attributes:
        name: its file or files, for messages.
        pairs: code -> its partners with their weights.
        lost: codes on the way that a later correspondence of a chain does not have.
    """

    name: str
    pairs: Mapping[str, Weights]
    lost: tuple[str, ...] = ()

    def partners(self, code: str, level: int | None = None) -> Weights:
        """Return the partners of a code cut to `level` characters (None: uncut), {} if there are none.

        A code shorter than the table's means all codes that begin with it, each with the same weight. A longer code means
        its longest beginning in the table, of two characters or more.
        """
        found = self.pairs.get(code) or _mean(self._beneath.get(code, ()))
        for end in range(len(code) - 1, 1, -1):
            found = found or self.pairs.get(code[:end], {})
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

    def then(self, other: "Correspondence") -> "Correspondence":
        """Return the correspondence from this one's codes to the other one's, by way of the codes between.

        A partner that the other correspondence lacks leaves its weight to the others.
        """
        pairs, lost = {}, set()
        for code, weights in self.pairs.items():
            reached: dict[str, float] = {}
            for between, weight in weights.items():
                further = other.partners(between)
                lost |= set() if further else {between}
                for partner, share in further.items():
                    reached[partner] = reached.get(partner, 0.0) + weight * share
            if reached:
                pairs[code] = _scaled(reached)
        return Correspondence(f"{self.name}, {other.name}", pairs, (*self.lost, *other.lost, *sorted(lost)))


def _mean(found: Sequence[Weights]) -> Weights:
    total: dict[str, float] = {}
    for weights in found:
        for partner, weight in weights.items():
            total[partner] = total.get(partner, 0.0) + weight / len(found)
    return total


def _scaled(weights: Weights) -> Weights:
    whole = sum(weights.values())
    return {code: weight / whole for code, weight in weights.items()}


def read_correspondences(paths: Sequence[str]) -> Correspondence:
    """Return the correspondence of a file, or of files that are chained: A to B, B to C.

    Raises:
        KjcmError: see `read_correspondence`, or no code of a file's is in the next one.
    """
    found = read_correspondence(paths[0])
    for path in paths[1:]:
        following = found.then(read_correspondence(path))
        if not following.pairs:
            raise KjcmError(
                f"{path}, column 'from': has none of the codes in column 'to' of {found.name}. Give the files in order: "
                "[A_TO_B,B_TO_C]."
            )
        found = following
    return found


def read_correspondence(path: str) -> Correspondence:
    """Read a table of from, to and, if present, weight: one pair a row; without weights the partners of a code are equal.

    Raises:
        KjcmError: a column is missing, a pair occurs twice, or a weight is not a number above 0.
    """
    table = read_table(path)
    own = meant_columns(table.columns, {"from": "from", "to": "to"}, path, "Make it with `kjcm classification import`.")
    old, new = ([tidy(code).upper() for code in code_texts(table[own[name]])] for name in ("from", "to"))
    has_weights = "weight" in table
    given = code_texts(table["weight"]) if has_weights else [""] * len(table)
    pairs: dict[str, dict[str, float]] = {}
    for one, other, text in zip(old, new, given, strict=True):
        if not one or not other:
            continue
        weight = _weight(text) if has_weights else 1.0
        if weight is None:
            raise KjcmError(f"{path}, column 'weight', from {one} to {other}: {text[:20]!r} is no number above 0.")
        if other in pairs.setdefault(one, {}):
            raise KjcmError(f"{path}: the pair {one} and {other} occurs more than once. Keep one row per pair.")
        pairs[one][other] = weight
    if not pairs:
        raise KjcmError(f"{path}: no row has both a code 'from' and a code 'to'.")
    return Correspondence(str(path), {code: _scaled(weights) for code, weights in pairs.items()})


def _weight(text: str) -> float | None:
    try:
        weight = float(text)
    except ValueError:
        return None
    return weight if isfinite(weight) and weight > 0 else None


def candidates_of(correspondence: Correspondence, code: str, level: int | None, *, ksco: bool) -> Weights:
    """Return the partners of a code as a file has it; ksco: whether it may have one of KSCO's other spellings."""
    plain = tidy(code).upper()
    for spelt in filter(None, spellings(plain) if ksco else (plain,)):
        if found := correspondence.partners(spelt, level):
            return found
    return {}
