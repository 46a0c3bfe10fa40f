"""Convert KSCO-6 to KSCO-7: codes with one partner convert, a reviewer resolves the others."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from kjcm.errors import KjcmError, some
from kjcm.ksco.classification import Classification, spellings
from kjcm.read.cells import code_texts, tidy, without_decimals
from kjcm.read.columns import meant_columns


@dataclass(frozen=True)
class Crosswalk:
    """The KSCO-7 codes that replaced each KSCO-6 code.

    Attributes:
        pairs: KSCO-6 code -> its KSCO-7 codes, as the table has them.
    """

    pairs: Mapping[str, tuple[str, ...]]

    def partners(self, ksco6: str, classification: Classification, level: int | None) -> tuple[str, ...]:
        """Return the codes at `level` that may replace `ksco6`, sorted; empty if the table lacks `ksco6`.

        A code shorter than the table's codes means all codes with that prefix; a longer code means its longest prefix.
        """
        for code in filter(None, spellings(ksco6)):
            found = self.pairs.get(code) or tuple(
                seven for six, sevens in self.pairs.items() if six.startswith(code) for seven in sevens
            )
            shorter = (self.pairs[code[:end]] for end in range(len(code) - 1, 1, -1) if code[:end] in self.pairs)
            found = found or next(shorter, ())
            if found:
                at = {classification.at_level(seven, level) for seven in found}
                return tuple(sorted(code for code in at if code is not None))
        return ()

    def partner_below(self, ksco6: str, classification: Classification, level: int | None) -> str:
        """Return the only code one level below `level` that may replace `ksco6`, '' if there are none or several."""
        found = () if level is None else self.partners(ksco6, classification, level + 1)
        return found[0] if len(found) == 1 else ""


def crosswalk_of(table: pd.DataFrame, classification: Classification, name: str) -> Crosswalk:
    """Return the crosswalk of a table of ksco6, ksco7 (one pair per row); `name` is for messages.

    Raises:
        KjcmError: a column is missing, or the classification lacks a ksco7 code.
    """
    own = meant_columns(table.columns, {"ksco6": "ksco6", "ksco7": "ksco7"}, name)
    rows = list(zip(code_texts(table[own["ksco6"]]), code_texts(table[own["ksco7"]]), strict=True))
    six, seven = ([row[place] for row in rows if any(row)] for place in (0, 1))
    resolved = {code: classification.resolve(code) for code in set(seven)}
    unknown = [code for code in seven if resolved[code] is None]
    if unknown or not seven:
        all_of = "none of its codes is" if len(unknown) == len(seven) else f"{some(dict.fromkeys(unknown))} are not"
        raise KjcmError(f"{name}, column 'ksco7': {all_of} codes of {classification.name}. Correct the crosswalk.")
    pairs: dict[str, list[str]] = {}
    for old, new in zip(six, seven, strict=True):
        for code in spellings(old):
            pairs.setdefault(code, []).append(str(resolved[new]))
    return Crosswalk({old: tuple(dict.fromkeys(news)) for old, news in pairs.items()})


def resolutions_of(table: pd.DataFrame, classification: Classification, name: str) -> dict[str, str]:
    """Return id -> KSCO-7 code from a table of id, ksco7; rows with an empty ksco7 are unresolved.

    Raises:
        KjcmError: a column is missing, an id occurs twice, or the classification lacks a code.
    """
    own = meant_columns(table.columns, {"id": "id", "ksco7": "ksco7"}, name)
    ids = [tidy(without_decimals(row)) for row in code_texts(table[own["id"]])]
    found: dict[str, str] = {}
    for row, seven in zip(ids, code_texts(table[own["ksco7"]]), strict=True):
        if not seven:
            continue
        code = classification.resolve(seven)
        if code is None:
            raise KjcmError(
                f"{name}, column 'ksco7', id {some([row])}: {some([seven])} is no code of {classification.name}."
            )
        if row in found:
            raise KjcmError(f"{name}, column 'id': {some([row])} occurs more than once. Keep one row per id.")
        found[row] = code
    return found
