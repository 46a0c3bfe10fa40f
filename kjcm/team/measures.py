"""Measure how coders agree with each other and with the model: by level, major group and pair of coders."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kjcm.errors import KjcmError
from kjcm.team.codings import Codings
from kjcm.team.statistics import Pairs, estimates, measured, ratio

ENDS = ("", "_low", "_high")


@dataclass(frozen=True)
class Measures:
    """The agreement as a record and as a table.

    Attributes:
        record: what agreement.json contains.
        table: a line for each comparison: what, of, level, pairs, texts, agreement, kappa and their intervals.
    """

    record: dict[str, Any]
    table: pd.DataFrame


def measures(codings: Codings, files: Sequence[Path], replicates: int, seed: int) -> Measures:
    """Return the agreement of coders with each other and with the model.

    Raises:
        KjcmError: no row has codes by two coders.
    """
    codes = codings.codes.assign(model=codings.rows.loc[codings.codes["id"], "code_1"].to_numpy())
    double = _double(codes, files)
    people = _pairs(double, "one", "other", ["first", "second"])
    with_model = _pairs(codes, "code", "model", ["coder"])
    sides = [
        double.assign(coder=double[who], code=double[code]) for who, code in (("first", "one"), ("second", "other"))
    ]
    again = _pairs(pd.concat(sides, ignore_index=True), "code", "model", ["coder"])
    deepest = int(codes["code"].str.len().max())
    levels = range(1, deepest + 1)
    lines: list[dict[str, Any]] = []

    def of(what: str, name: str, pairs: Pairs, level: int, either: str | None = None) -> dict[str, Any]:
        found = measured(pairs.mapped(_cut(level)), replicates, seed, either=either)
        lines.append({"what": what, "of": name, "level": level, **_flat(found)})
        return found

    of_people = {str(level): of("coders", "all", people, level) for level in levels}
    on_double = {str(level): of("model, doubly coded rows", "all", again, level) for level in levels}
    on_all = {str(level): of("model, all coded rows", "all", with_model, level) for level in levels}
    majors = sorted({code[:1] for code in (*people.one, *people.other)})
    groups = {major: of("coders, major group", major, people, 1, major) for major in majors}
    two = {
        names: of("two coders", " and ".join(names), people.chosen(own.to_numpy()), deepest)
        for names in sorted({*zip(double["first"], double["second"], strict=True)})
        for own in [(double["first"] == names[0]) & (double["second"] == names[1])]
    }
    each = {
        name: of("model, one coder", name, with_model.chosen((codes["coder"] == name).to_numpy()), deepest)
        for name in sorted(set(codes["coder"]))
    }
    agreed = of_people[str(deepest)]["agreement"]["value"]
    record = {
        "coded": codes["id"].nunique(),
        "doubly_coded": {"rows": double["id"].nunique(), "texts": int(double["text"].nunique())},
        "in_several_files": codings.shared,
        "levels": deepest,
        "between_coders": of_people,
        "major_groups": groups,
        "pairs_of_coders": [{"coders": list(names), **found} for names, found in two.items()],
        "model_on_doubly_coded": on_double,
        "model_on_all_coded": on_all,
        "model_with_each_coder": each,
        "model_minus_coder": _difference(double.assign(model=double["model"].str[:deepest]), replicates, seed),
        "model_expected_error": _expected_error(codings, codes),
        "ceiling": (1 + agreed) / 2,
    }
    return Measures(record, pd.DataFrame(lines))


def _double(codes: pd.DataFrame, files: Sequence[Path]) -> pd.DataFrame:
    """Return a line for each row and two of its coders, in the order of their names.

    Raises:
        KjcmError: there is none.
    """
    several = codes[codes.duplicated("id", keep=False)].sort_values("coder", kind="stable")
    lines = [
        {
            "id": id,
            "text": a.text,
            "first": a.coder,
            "second": b.coder,
            "one": a.code,
            "other": b.code,
            "model": a.model,
        }
        for id, own in several.groupby("id", sort=False)
        for a, b in combinations(own.itertuples(), 2)
    ]
    if not lines:
        names = ", ".join(map(str, files))
        raise KjcmError(
            f"{names}: no row has codes by two coders, so there is no agreement to measure. Give all coders' files of one "
            "`kjcm team split` with overlap above 0, with the coders' names in reviewed_by."
        )
    return pd.DataFrame(lines)


def _pairs(frame: pd.DataFrame, one: str, other: str, raters: list[str]) -> Pairs:
    numbers = frame.groupby(raters).ngroup().to_numpy().astype(np.intp)
    return Pairs(frame[one].to_numpy(object), frame[other].to_numpy(object), numbers, frame["text"].to_numpy(object))


def _cut(level: int) -> Callable[[str], str]:
    return lambda code: code[:level]


def _flat(found: dict[str, Any]) -> dict[str, Any]:
    """Return the columns of a comparison in the table."""
    columns = {name: found[name] for name in ("pairs", "texts")}
    for name in ("agreement", "kappa"):
        columns |= {f"{name}{end}": value for end, value in zip(ENDS, found[name].values(), strict=True)}
    return columns


def _difference(double: pd.DataFrame, replicates: int, seed: int) -> dict[str, Any]:
    """Return the model's agreement with a coder minus that of a second coder, on doubly coded rows."""
    same = (double["one"] == double["other"]).to_numpy(float)
    model = ((double["model"] == double["one"]).to_numpy(float) + (double["model"] == double["other"])) / 2
    ahead = np.asarray(model - same)
    (found,) = estimates(
        lambda weights: [ratio(ahead, np.ones(len(ahead)), weights)], double["text"].to_numpy(object), replicates, seed
    )
    return asdict(found)


def _expected_error(codings: Codings, codes: pd.DataFrame) -> float | None:
    """Return the error that the model itself expects on the coded rows: 1 minus the mean of prob_1."""
    own = pd.to_numeric(codings.rows.loc[codes["id"].unique(), "prob_1"], errors="coerce")
    return None if own.isna().all() else float(1 - own.mean())
