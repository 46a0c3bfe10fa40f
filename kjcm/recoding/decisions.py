"""Decide which of a correspondence's codes replaces a row's code, by the model's probabilities of these codes alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kjcm.ksco.correspondence import Weights
from kjcm.triage.thresholds import Tried, fallback, last_passed, points

DECISIONS = ("convert", "given", "accept", "choose", "weights", "undecided")
ROUNDING = 1e-12  # by which a sum of weights may miss a limit that it reaches
UNITS = 10**6  # weights are written in millionths, which sum to one


@dataclass
class Row:
    """A row to recode.

    Attributes:
        code: as the file has it.
        candidates: code of the other classification -> weight; the weights are the model's if it scored the row.
        given: the row's own code of the other classification, '' for none.
        reason: why the row is undecided, has no candidates, or was not scored; '' if there is no such reason.
        scored: whether the model weighs the candidates.
        decision: one of DECISIONS.
        recoded: the code that replaces the row's, '' for none.
        listed: the candidates that a reviewer chooses from.
    """

    code: str
    candidates: Weights
    given: str = ""
    reason: str = ""
    scored: bool = False
    decision: str = "undecided"
    recoded: str = ""
    listed: list[str] = field(default_factory=list)

    @property
    def ranked(self) -> list[str]:
        """Return the candidates, likeliest first."""
        return sorted(self.candidates, key=lambda code: (-self.candidates[code], code))

    def doubt(self, k: int = 1) -> float:
        """Return the weight of all candidates but the first `k`."""
        return sum(sorted(self.candidates.values(), reverse=True)[k:])


@dataclass(frozen=True)
class Rules:
    """When a scored row's code is accepted, and when a list is shown.

    Attributes:
        doubt: a row is accepted if all candidates but the likeliest together have less weight; None: no row is accepted.
        alpha: a list is shown if all candidates but the first `k` together have at most this weight.
        k: most candidates of a list.
        tried: tests that set `doubt`.
    """

    doubt: float | None
    alpha: float
    k: int
    tried: Sequence[Tried] = ()

    def accepts(self, row: Row) -> bool:
        """Return whether the likeliest candidate of a scored row replaces its code."""
        return self.doubt is not None and row.doubt() < self.doubt

    def lists(self, row: Row) -> bool:
        """Return whether a reviewer chooses from the first `k` candidates of a scored row."""
        return row.doubt(self.k) <= self.alpha + ROUNDING


def shares_of_classes(classes: Sequence[str], candidates: Weights) -> NDArray[np.float64]:
    """Return the part of each class's probability that each candidate gets: [classes, candidates].

    A candidate finer than the model's classes has its part of its class, by the weights; a coarser one has all of its classes.
    A candidate that is no class has nothing.

    Args:
        classes: the model's.
        candidates: code -> weight.
    """
    place = {code: number for number, code in enumerate(classes)}
    class_of = {
        code: next((code[:end] for end in range(len(code), 0, -1) if code[:end] in place), "") for code in candidates
    }
    within: dict[str, float] = {}
    for code, weight in candidates.items():
        within[class_of[code]] = within.get(class_of[code], 0.0) + weight
    found = np.zeros((len(classes), len(candidates)))
    for column, (code, weight) in enumerate(candidates.items()):
        if class_of[code]:
            found[place[class_of[code]], column] = weight / within[class_of[code]]
        else:
            found[[number for own, number in place.items() if own.startswith(code)], column] = 1
    return found


def weights_by_model(
    probability: NDArray[np.float64], shares: NDArray[np.float64], candidates: Weights
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the probability of each candidate, if one of them is right: [rows, candidates], and of all together: [rows].

    Candidates that are no class keep their weight in the correspondence, and the others share what is left.

    Args:
        probability: [rows, classes].
        shares: [classes, candidates], see `shares_of_classes`.
        candidates: code -> weight.
    """
    prior = np.array(list(candidates.values()))
    known = shares.any(axis=0)
    scores = probability @ shares
    together = scores.sum(axis=1)
    scale = prior[known].sum() / np.where(together > 0, together, 1)
    found = np.where(known & (together[:, None] > 0), scores * scale[:, None], prior)
    return found, together


def rules_of(
    rows: Sequence[Row], *, target: float | None, threshold: float, confidence: float, alpha: float, k: int
) -> Rules:
    """Return the rules that the scored rows with a given code set for a target; a fixed threshold without a target.

    Args:
        rows: all rows.
        target: share of the accepted rows that may be wrong; None: the fixed threshold.
        threshold: the fixed one.
        confidence: of the promise.
        alpha: see `Rules`.
        k: see `Rules`.
    """
    if target is None:
        return Rules(1 - threshold + ROUNDING, alpha, k)
    held = tested(rows)
    # of doubts, unlike of probabilities near 1, no two are equal by rounding
    sure = -np.array([row.doubt() for row in held])
    right = np.array([row.ranked[0] == row.given for row in held], dtype=bool)
    tried = fallback(points(sure, lambda _: right), target, 1 - confidence)
    passed = last_passed(tried)
    # a threshold of -1 or less accepts all rows
    return Rules((2.0 if passed.threshold <= -1 else -passed.threshold) if passed else None, alpha, k, tried)


def tested(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that the model scored and that have a given code."""
    return [row for row in rows if row.scored and row.given]


def decide(rows: Sequence[Row], rules: Rules, *, weights: bool) -> None:
    """Set each row's decision, code, list and reason; `weights`: rows with several candidates keep them all instead."""
    for row in rows:
        if row.given:
            row.decision, row.recoded, row.reason = "given", row.given, ""
        elif len(row.candidates) == 1:
            row.decision, row.recoded = "convert", next(iter(row.candidates))
        elif not row.candidates:
            row.decision = "undecided"
        elif weights:
            row.decision = "weights"
        elif not row.scored:
            row.reason = row.reason or "several candidates, and no run"
        elif rules.accepts(row):
            row.decision, row.recoded = "accept", row.ranked[0]
        elif rules.lists(row):
            row.decision, row.listed = "choose", row.ranked[: rules.k]
        else:
            row.reason = "too many likely candidates"


def written(weights: Sequence[float]) -> str:
    """Return weights as text, separated by blanks: numbers of six decimals whose sum is 1."""
    parts = np.array(weights) * UNITS
    whole = np.floor(parts).astype(np.int64)
    for place in np.argsort(whole - parts, kind="stable")[: UNITS - int(whole.sum())]:
        whole[place] += 1
    return " ".join(f"{part / UNITS:.6f}" for part in whole.tolist())


def counts_of(rows: Sequence[Row]) -> Mapping[str, int]:
    """Return how many rows have each decision."""
    return {name: sum(row.decision == name for row in rows) for name in DECISIONS}
