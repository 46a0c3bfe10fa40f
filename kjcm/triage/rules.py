"""What is to be done with each row: accept its first code, choose from a short list, back off to a parent, or search."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kjcm.errors import ConfigError
from kjcm.ksco.classification import MANAGERS
from kjcm.triage import managers
from kjcm.triage.calibration import Probabilities, probabilities
from kjcm.triage.picks import cuts, holds, on_list, pools
from kjcm.triage.promise import SHARES, Tried, fixed_sequence, last_passed
from kjcm.triage.scored import Scored

DECISIONS = ("accept", "choose", "search", "back off", "invalid")
ACCEPT, CHOOSE, SEARCH, BACK_OFF, INVALID = range(len(DECISIONS))
NONE = -1  # no class, no parent


@dataclass(frozen=True)
class Options:
    """The keys of `triage`.

    Attributes:
        target_error: share of the accepted rows that may be wrong; None: the fixed threshold.
        threshold: probability from which a first code is accepted (the article: 0.8), where there is no target.
        confidence: of the promise that target_error is kept.
        alpha: share of the pick lists that may miss the right code.
        k: most codes of a pick list that a person is given.
        back_off: levels (digits) of parents to back off to, finest first.
        managers: 'none', 'words' or 'column': who can be coded into major group 1.
        calibrated: divide the logits by the run's temperature.
    """

    target_error: float | None
    threshold: float
    confidence: float
    alpha: float
    k: int
    back_off: Sequence[int]
    managers: str
    calibrated: bool


@dataclass(frozen=True)
class Tree:
    """What stands above the classes of a model.

    Attributes:
        classes: ordered codes.
        ancestors: [classes], the codes above each, the top first.
        n_train: [classes], training rows.
    """

    classes: Sequence[str]
    ancestors: Sequence[Sequence[str]]
    n_train: Sequence[int]

    @property
    def majors(self) -> list[str]:
        """The top code above each class, the class itself where nothing stands above it."""
        return [above[0] if above else code for code, above in zip(self.classes, self.ancestors, strict=True)]

    def above(self, level: int) -> tuple[list[str], NDArray[np.float64]]:
        """Return the codes of a level (1 at the top), and which classes lie under each: [classes, codes].

        Raises:
            ConfigError: a class has no code of that level above it.
        """
        if any(len(above) < level for above in self.ancestors):
            deepest = min(len(above) for above in self.ancestors)
            raise ConfigError(
                f"triage.back_off: level {level} is not above every class; the levels are 1 to {deepest}."
            )
        own = [above[level - 1] for above in self.ancestors]
        codes = sorted(set(own))
        return codes, (np.array(own)[:, None] == np.array(codes)).astype(np.float64)


@dataclass(frozen=True)
class Decided:
    """What is to be done with rows.

    Attributes:
        decision: [rows], places in DECISIONS.
        parent: [rows], place in `Triage.parents` of what was backed off to, NONE elsewhere.
        picks: [rows, k], classes to choose from, likeliest first, NONE beyond their number and where none is to be chosen.
    """

    decision: NDArray[np.int8]
    parent: NDArray[np.int16]
    picks: NDArray[np.int16]


class Triage:
    """Rules made ready for a model.

    Args:
        options: the keys.
        tree: the model's classes.
        held: rows that chose nothing yet, with their logits; None for a model that was trained without validation rows.
        temperature: that the logits of `held` are divided by.

    Attributes:
        parents: codes that rows can back off to.
        threshold: a row is accepted if its first probability is greater; None: none is.
        tried: acceptance shares that were tried, [] for a fixed threshold.
        tried_parents: the same for each level of `back_off`.

    Raises:
        ConfigError: a rule needs what the model does not have.
    """

    def __init__(self, options: Options, tree: Tree, held: Scored | None, temperature: float) -> None:
        self.options, self.tree, self.temperature = options, tree, temperature
        self.managing = np.array([major == MANAGERS for major in tree.majors])
        if options.managers != "none" and not self.managing.any():
            raise ConfigError(
                f"triage.managers={options.managers}: the model has no codes of major group {MANAGERS}. Use none."
            )
        if held is None and options.target_error is not None:
            raise ConfigError(
                f"triage.target_error={options.target_error}: a promise takes validation rows, and the run was trained "
                "without any. Train it with data.validation=0.3, or use triage.target_error=null (a fixed threshold)."
            )
        self._levels = [tree.above(level) for level in options.back_off]
        self.parents = [code for codes, _ in self._levels for code in codes]
        self.tried: list[Tried] = []
        self.tried_parents: list[list[Tried]] = [[] for _ in options.back_off]
        self._groups: list[str] = []
        self._cuts: Mapping[str, float] = {}
        fixed = float(np.nextafter(options.threshold, 0))
        self.threshold: float | None = fixed
        self._parent_thresholds: list[float | None] = [fixed] * len(self._levels)
        if held is not None:
            self._learn(held)

    def gated(self, probability: Probabilities, manages: NDArray[np.bool_]) -> Probabilities:
        """Return probabilities [rows, classes] with the managers' rule applied; manages: [rows]."""
        if self.options.managers == "none":
            return probability
        return managers.gated(probability, manages, self.managing)

    def manages(self, rows: Scored) -> NDArray[np.bool_]:
        """Return which rows say that they manage, by the rule in use: [rows]."""
        return rows.answers if self.options.managers == "column" else rows.words

    def probability(self, rows: Scored) -> Probabilities:
        """Return the probabilities of scored rows that the rules go by: [rows, classes]."""
        return self.gated(probabilities(rows.logits, self.temperature), self.manages(rows))

    def _learn(self, held: Scored) -> None:
        """Set thresholds and lists by rows with labels."""
        options, probability = self.options, self.probability(held)
        self._groups = pools(self.tree.majors, self.tree.n_train, len(held.labels), options.alpha)
        self._cuts = cuts(probability, held.labels, self._groups, options.alpha)
        if options.target_error is None:
            return
        level = 1 - options.confidence
        right = probability.argmax(axis=1) == held.labels
        self.tried = fixed_sequence(probability.max(axis=1), right, options.target_error, level)
        best = last_passed(self.tried)
        self.threshold = best.threshold if best else None
        left = ~self._accepted(probability)
        for number, (codes, under) in enumerate(self._levels):
            # which rows are left was chosen by the same labels, from as many choices as there are shares and one: for
            # each of them the test must hold
            level /= len(SHARES) + 1
            sums = probability[left] @ under
            true = self._parent_labels(held, codes, number)[left]
            tried = fixed_sequence(sums.max(axis=1), sums.argmax(axis=1) == true, options.target_error, level)
            self.tried_parents[number] = tried
            best = last_passed(tried)
            self._parent_thresholds[number] = best.threshold if best else None
            if best:
                left[np.flatnonzero(left)[sums.max(axis=1) > best.threshold]] = False

    def _parent_labels(self, held: Scored, codes: Sequence[str], number: int) -> NDArray[np.int64]:
        """Return the place in `codes` of what stands above each row's label, NONE where its code is no class."""
        level = self.options.back_off[number]
        place = np.array([codes.index(above[level - 1]) for above in self.tree.ancestors])
        known = held.labels < len(place)
        return np.where(known, place[np.where(known, held.labels, 0)], NONE)

    def _accepted(self, probability: Probabilities) -> NDArray[np.bool_]:
        if self.threshold is None:
            return np.zeros(len(probability), dtype=bool)
        accepted: NDArray[np.bool_] = np.greater(probability.max(axis=1, initial=0), self.threshold)
        return accepted

    def decide(self, probability: Probabilities) -> Decided:
        """Return what is to be done with rows of these probabilities [rows, classes], the managers' rule applied."""
        rows = np.arange(len(probability))
        accepted = self._accepted(probability)
        decision = np.where(accepted, ACCEPT, SEARCH).astype(np.int8)
        parent = np.full(len(rows), NONE, np.int16)
        first = 0
        for (codes, under), threshold in zip(self._levels, self._parent_thresholds, strict=True):
            open_ = rows[decision == SEARCH]
            if threshold is not None and len(open_):
                sums = probability[open_] @ under
                sure = sums.max(axis=1) > threshold
                decision[open_[sure]] = BACK_OFF
                parent[open_[sure]] = first + sums[sure].argmax(axis=1)
            first += len(codes)
        picks = np.full((len(rows), self.options.k), NONE, np.int16)
        open_ = rows[decision == SEARCH]
        short, lists = self._lists(probability[open_])
        decision[open_[short]], picks[open_[short]] = CHOOSE, lists
        return Decided(decision, parent, picks)

    def listed(self, probability: Probabilities) -> NDArray[np.bool_]:
        """Return which classes are on each row's list, however long: [rows, classes]; without validation rows the first k."""
        if self._groups:
            return on_list(probability, self._groups, self._cuts)
        k = min(self.options.k, probability.shape[1])
        listed = np.zeros(probability.shape, dtype=bool)
        np.put_along_axis(listed, np.argsort(-probability, axis=1, kind="stable")[:, :k], True, axis=1)
        return listed

    def _lists(self, probability: Probabilities) -> tuple[NDArray[np.bool_], NDArray[np.int16]]:
        """Return which rows have a list of 1 to k codes [rows], and those rows' lists [short rows, k]."""
        listed = self.listed(probability)
        sizes = listed.sum(axis=1)
        short = (sizes >= 1) & (sizes <= self.options.k)
        k = min(self.options.k, probability.shape[1])
        order = np.argsort(np.where(listed[short], -probability[short], 1), axis=1, kind="stable")[:, :k]
        lists = np.full((int(short.sum()), self.options.k), NONE, np.int16)
        lists[:, :k] = np.where(np.arange(k) < sizes[short][:, None], order, NONE)
        return short, lists

    def outlook(self, held: Scored | None) -> dict[str, Any]:
        """Return what the rules are, what they promise, and what they did on the rows that set them: plain values."""
        options = self.options
        record: dict[str, Any] = {
            "rule": "fixed threshold" if options.target_error is None else "target error",
            "target_error": options.target_error,
            "confidence": options.confidence,
            "threshold": options.threshold if options.target_error is None else self.threshold,
            "temperature": self.temperature,
            "managers": options.managers,
            "tried": [vars(one) for one in self.tried],
            "back_off": [
                {"level": level, "threshold": threshold, "tried": [vars(one) for one in tried]}
                for level, threshold, tried in zip(
                    options.back_off, self._parent_thresholds, self.tried_parents, strict=True
                )
            ],
            "k": options.k,
            "alpha": options.alpha if self._groups else None,
            "pick_list_cuts": dict(self._cuts),
            "validation_rows": 0 if held is None else len(held.labels),
            "expected": None,
        }
        if held is not None and len(held.labels):
            record["expected"] = self._expected(held)
        return record

    def _expected(self, held: Scored) -> dict[str, Any]:
        """Return the shares of each decision and the errors of what was coded, on the rows that set the rules."""
        from scipy.stats import beta

        probability = self.probability(held)
        found = self.decide(probability)
        wrong = (probability.argmax(axis=1) != held.labels) & (found.decision == ACCEPT)
        rows, errors = int((found.decision == ACCEPT).sum()), int(wrong.sum())
        # a threshold that these rows chose has the promise itself, and no bound besides
        at_most = None
        if self.options.target_error is None:
            at_most = float(beta.ppf(self.options.confidence, errors + 1, rows - errors)) if errors < rows else 1.0
        return {
            **{name: float((found.decision == place).mean()) for place, name in enumerate(DECISIONS[:INVALID])},
            "accepted_rows": rows,
            "accepted_errors": errors,
            "accepted_error_at_most": at_most,
            "right_code_on_list": float(holds(self.listed(probability), held.labels).mean()),
        }
