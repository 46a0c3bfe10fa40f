"""Convert KSCO-6 to KSCO-7: codes whose partners are in one group convert, a resolution decides the others."""

from dataclasses import replace

import pandas as pd

from kjcm.errors import KjcmError, counted, some
from kjcm.ksco.classification import Classification, usual_spelling
from kjcm.ksco.correspondence import Correspondence, correspondence_of, headers
from kjcm.read.cells import code_texts, tidy, without_decimals
from kjcm.read.columns import meant_columns


def crosswalk_of(table: pd.DataFrame, classification: Classification, name: str) -> Correspondence:
    """Return the correspondence of KSCO-6 to a classification; `name` is for messages.

    Raises:
        KjcmError: see `correspondence_of`, a row has only one code, or the classification lacks a code.
    """
    given = correspondence_of(table, name, from_ksco=True, to_ksco=True)
    left, right = headers(table)
    own = meant_columns(table.columns, {left: left, right: right}, name)
    filled = zip(*(map(bool, code_texts(table[own[side]])) for side in (left, right)), strict=True)
    if half := sum(one != other for one, other in filled):
        raise KjcmError(
            f"{name}: {counted(half, 'row')} with a code in only one of {left!r} and {right!r}. Fill it in, or remove the row."
        )
    resolved = {code: classification.resolve(code) for code in sorted(given.new_codes)}
    if unknown := [code for code, known in resolved.items() if known is None]:
        all_of = "none of its codes is" if len(unknown) == len(resolved) else f"{some(unknown)} are not"
        raise KjcmError(f"{name}, column {right!r}: {all_of} codes of {classification.name}. Correct the crosswalk.")
    pairs = {
        six: {str(resolved[seven]): weight for seven, weight in sevens.items()} for six, sevens in given.pairs.items()
    }
    return replace(given, pairs=pairs)


def partners_at(
    crosswalk: Correspondence, ksco6: str, classification: Classification, level: int | None
) -> tuple[str, ...]:
    """Return the codes at `level` that may replace `ksco6`, sorted; empty if the crosswalk lacks `ksco6`."""
    found = crosswalk.partners(usual_spelling(ksco6)) if ksco6 else None
    at = {classification.at_level(seven, level) for seven in found or ()}
    return tuple(sorted(code for code in at if code is not None))


def partner_below(crosswalk: Correspondence, ksco6: str, classification: Classification, level: int | None) -> str:
    """Return the only code one level below `level` that may replace `ksco6`, '' if there are none or several."""
    found = () if level is None else partners_at(crosswalk, ksco6, classification, level + 1)
    return found[0] if len(found) == 1 else ""


def resolutions_of(table: pd.DataFrame, classification: Classification, name: str) -> dict[str, str]:
    """Return id -> KSCO-7 code from a table of id and ksco7, or from `kjcm recode`'s output; rows without a code are left out.

    The code is that in ksco7, or else that in recoded.

    Raises:
        KjcmError: a column is missing, an id occurs twice, or the classification lacks a code.
    """
    own = meant_columns(table.columns, {"id": "id"}, name)
    ids = [tidy(without_decimals(row)) for row in code_texts(table[own["id"]])]
    found: dict[str, str] = {}
    for row, (role, seven) in zip(ids, _given(table, name), strict=True):
        if not seven:
            continue
        code = classification.resolve(seven)
        if code is None:
            raise KjcmError(
                f"{name}, column {role!r}, id {some([row])}: {some([seven])} is no code of {classification.name}."
            )
        if row in found:
            raise KjcmError(f"{name}, column 'id': {some([row])} occurs more than once. Keep one row per id.")
        found[row] = code
    return found


def resolved_by_run(table: pd.DataFrame, name: str) -> int:
    """Return how many rows of resolutions have a run's code, and none of a person."""
    return sum(role == "recoded" for role, _ in _given(table, name))


def _given(table: pd.DataFrame, name: str) -> list[tuple[str, str]]:
    """Return each row's column and code, ('', '') for none; a person's code in ksco7 counts before a run's in recoded."""
    names = {*map(tidy, map(str, table.columns))}
    roles = [role for role in ("ksco7", "recoded") if role in names] or ["ksco7"]
    own = meant_columns(table.columns, dict(zip(roles, roles, strict=True)), name)
    cells = zip(*(code_texts(table[own[role]]) for role in roles), strict=True)
    return [next(((role, code) for role, code in zip(roles, codes, strict=True) if code), ("", "")) for codes in cells]
