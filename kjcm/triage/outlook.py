"""Summarise a model's rules: their promises, and shares, errors, intervals and lists on the validation rows."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kjcm.triage.logits import Scored
from kjcm.triage.pick_lists import LEAST, on_list, sizes
from kjcm.triage.rules import ACCEPT, BACK_OFF, CHOOSE, DECISIONS, INVALID, Decided, Options, Tree, Triage
from kjcm.triage.thresholds import LEAST_LEFT, Tried


def outlook(triage: Triage, held: Scored | None) -> dict[str, Any]:
    """Return the rules, their promises and their results on the rows that set them, as plain values."""
    options = triage.options
    record: dict[str, Any] = {
        "rule": "fixed threshold" if options.target_error is None else "target error",
        "target_error": options.target_error,
        "confidence": options.confidence,
        "threshold": triage.threshold,
        "temperature": triage.temperature,
        "managers": options.managers,
        "tried": [vars(one) for one in triage.tried],
        "back_off": {
            "levels": list(options.back_off),
            "threshold": triage.parent_threshold,
            "promised": False,
            "tried": [vars(one) for one in triage.tried_parents],
        },
        "pick_list": {
            "k": options.k,
            "alpha": None if held is None else options.alpha,
            "least_probability": None if held is None else LEAST,
            "threshold": triage.list_threshold,
            "tried": [vars(one) for one in triage.tried_lists],
        },
        "validation_rows": 0 if held is None else len(held.labels),
        "expected": None,
    }
    if held is not None and len(held.labels):
        record["expected"] = expected(triage, held)
        record["summary"] = summary(record)
        # small sets had no test of their own; without accepted rows, the set of all rows had one
        tested = triage.threshold is None or record["expected"]["backed_off_rows"] > LEAST_LEFT
        record["back_off"]["promised"] = bool(triage.tried_parents) and triage.parent_threshold is not None and tested
    return record


def expected(triage: Triage, rows: Scored) -> dict[str, Any]:
    """Return the rules' results on rows with known codes.

    The bounds "at_most" and "at_least" are valid only for the rows that set the rules; each has the level of its own test.
    """
    probability = triage.probability(rows)
    found = triage.decide(probability)
    accepted, off, listed = (found.decision == decision for decision in (ACCEPT, BACK_OFF, CHOOSE))
    wrong = np.where(off, parent_is_wrong(triage, found, rows), probability.argmax(axis=1) != rows.labels)
    hit = on_list(found.picks, rows.labels)
    level = 1 - triage.options.confidence
    accepts = _level(triage.tried, triage.threshold, level)
    parents = _level(triage.tried_parents, triage.parent_threshold, level)
    shows = _level(triage.tried_lists, triage.list_threshold, level)
    lists = error_rate("right_code_on_list", int(listed.sum()), int((listed & hit).sum()), level)
    return {
        **{name: float((found.decision == place).mean()) for place, name in enumerate(DECISIONS[:INVALID])},
        **_errors("accepted", accepted, wrong, level, accepts),
        **_errors("backed_off", off, wrong, level, parents),
        "lists": int(listed.sum()),
        "mean_list_length": float(sizes(found.picks)[listed].mean()) if listed.any() else None,
        **lists,
        "right_code_on_list_at_least": _bound(int(listed.sum()), int((listed & ~hit).sum()), shows, complement=True),
        "by_major_group": by_major_group(triage, rows, found, probability, wrong, hit),
    }


def parent_is_wrong(triage: Triage, found: Decided, rows: Scored) -> NDArray[np.bool_]:
    """Return which rows back off to a parent that is not their label's parent: [rows]."""
    wrong = np.zeros(len(found.parent), dtype=bool)
    first = 0
    for place, level in enumerate(triage.options.back_off):
        count = len(triage.tree.above(level)[0])
        own = (found.parent >= first) & (found.parent < first + count)
        wrong |= own & (found.parent - first != triage.parent_labels(rows, place))
        first += count
    return wrong


def by_major_group(
    triage: Triage,
    rows: Scored,
    found: Decided,
    probability: NDArray[np.float64],
    wrong: NDArray[np.bool_],
    hit: NDArray[np.bool_],
) -> list[dict[str, Any]]:
    """Return the figures of each major group, rows counted under the major group of their top-1 code."""
    majors = np.array(triage.tree.majors, dtype=object)[probability.argmax(axis=1)]
    level = 1 - triage.options.confidence
    groups = []
    for major in sorted(set(majors)):
        own = majors == major
        accepted, listed = own & (found.decision == ACCEPT), own & (found.decision == CHOOSE)
        groups.append(
            {
                "code": str(major),
                "rows": int(own.sum()),
                **_errors("accepted", accepted, wrong, level, None),
                "lists": int(listed.sum()),
                **error_rate("right_code_on_list", int(listed.sum()), int((listed & hit).sum()), level),
            }
        )
    return groups


def _level(tried: Sequence[Tried], threshold: float | None, otherwise: float) -> float:
    """Return the level at which a threshold passed, `otherwise` if no test set it."""
    return next((one.level for one in reversed(tried) if one.passed and one.threshold == threshold), otherwise)


def _errors(
    name: str, own: NDArray[np.bool_], wrong: NDArray[np.bool_], level: float, bound: float | None
) -> dict[str, Any]:
    """Return rows, errors, their rate with its interval, and its one-sided bound at level `bound` (None: without one)."""
    rows, errors = int(own.sum()), int((own & wrong).sum())
    found = {f"{name}_rows": rows, f"{name}_errors": errors, **error_rate(f"{name}_error", rows, errors, level)}
    return found if bound is None else {**found, f"{name}_error_at_most": _bound(rows, errors, bound)}


def error_rate(name: str, rows: int, hits: int, level: float) -> dict[str, Any]:
    """Return hits / rows and its two-sided interval (Clopper and Pearson); None without rows."""
    from scipy.stats import beta

    if not rows:
        return {name: None, f"{name}_interval": None}
    low = float(beta.ppf(level / 2, hits, rows - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - level / 2, hits + 1, rows - hits)) if hits < rows else 1.0
    return {name: hits / rows, f"{name}_interval": [low, high]}


def _bound(rows: int, errors: int, level: float, *, complement: bool = False) -> float | None:
    """Return the one-sided upper bound of an error rate, or 1 - the bound; None without rows."""
    from scipy.stats import beta

    if not rows:
        return None
    most = float(beta.ppf(1 - level, errors + 1, rows - errors)) if errors < rows else 1.0
    return 1 - most if complement else most


def summary(record: dict[str, Any]) -> list[str]:
    """Return sentences about what to expect of the decisions."""
    found, options, rows = record["expected"], record["pick_list"], record["validation_rows"]
    said = []
    if found["accepted_rows"]:
        said.append(
            f"{_of(found['accepted_rows'], rows)} would be accepted. {found['accepted_errors']:,} of them are wrong: "
            f"{_percent(found['accepted_error'])} ({_interval(found['accepted_error_interval'], record['confidence'])})."
        )
    else:
        said.append(f"None of {rows:,} held-out rows would be accepted.")
    if found["backed_off_rows"]:
        said.append(
            f"{_of(found['backed_off_rows'], rows)} would back off to a parent. {found['backed_off_errors']:,} of these parents "
            f"are wrong: {_percent(found['backed_off_error'])} "
            f"({_interval(found['backed_off_error_interval'], record['confidence'])})."
        )
    if found["lists"]:
        said.append(
            f"{_of(found['lists'], rows)} would get a pick list, of {found['mean_list_length']:.1f} codes on average. "
            f"{_percent(found['right_code_on_list'])} of these lists have the right code "
            f"({_interval(found['right_code_on_list_interval'], record['confidence'])})."
        )
    else:
        said.append(f"No row would get a pick list: too few lists of {options['k']} codes have the right code.")
    return said


def _of(rows: int, whole: int) -> str:
    return f"{rows:,} of {whole:,} held-out rows ({_percent(rows / whole)})"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _interval(interval: Sequence[float], confidence: float) -> str:
    return f"{100 * confidence:.4g} % interval {100 * interval[0]:.1f} to {100 * interval[1]:.1f} %"


def by_target(
    options: Options, tree: Tree, held: Scored, temperature: float, targets: Sequence[float]
) -> list[dict[str, Any]]:
    """Return the results of each target's rules (None: the fixed threshold) on the held rows."""
    found = []
    for target in (None, *targets):
        record = expected(Triage(replace(options, target_error=target), tree, held, temperature), held)
        found.append(
            {
                "target_error": target,
                "accepted": record["accept"],
                "backed_off": record["back off"],
                "with_list": record["choose"],
                "undecided": record["search"],
                "accepted_error": record["accepted_error"],
                "accepted_error_at_most": record["accepted_error_at_most"],
                "backed_off_error": record["backed_off_error"],
                "mean_list_length": record["mean_list_length"],
                "right_code_on_list": record["right_code_on_list"],
            }
        )
    return found
