"""Decide each row: accept its top-1 code, choose from a short list, back off to a parent, or search."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kjcm.errors import ConfigError
from kjcm.triage import managers
from kjcm.triage.calibration import Probabilities, probabilities
from kjcm.triage.logits import Scored
from kjcm.triage.pick_lists import LEAST, NONE, Picks, first_codes, on_list
from kjcm.triage.thresholds import Tried, fallback, last_passed, points

DECISIONS = ("accept", "choose", "search", "back off", "invalid", "index")
ACCEPT, CHOOSE, SEARCH, BACK_OFF, INVALID, INDEX = range(len(DECISIONS))
VERSION = 2  # of the rules: coding resumes only under the same version
FIXED = 0.8  # the paper's threshold


@dataclass(frozen=True)
class Options:
    """The keys of `triage`.

    Attributes:
        target_error: share of the accepted rows that may be wrong; None: the fixed threshold.
        threshold: least probability of an accepted top-1 code without a target; None: no row is accepted.
        confidence: of the promises for target_error and alpha.
        alpha: share of the shown pick lists that may miss the right code.
        k: most codes of a pick list.
        back_off: levels (digits) of parents to back off to, finest first.
        managers: 'none', 'words' or 'column': who can be coded into major group 1.
        calibrated: divide the logits by the run's temperature.
        index: 'accept', 'suggest' or 'off': what is done with job titles that an index has.
    """

    target_error: float | None
    threshold: float | None
    confidence: float
    alpha: float
    k: int
    back_off: Sequence[int]
    managers: str
    calibrated: bool
    index: str = "off"


@dataclass(frozen=True)
class Tree:
    """A model's classes and the codes above them.

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
        """Return the top code above each class, or the class itself if there is none."""
        return [above[0] if above else code for code, above in zip(self.classes, self.ancestors, strict=True)]

    def above(self, level: int, key: str = "triage.back_off") -> tuple[list[str], NDArray[np.float64]]:
        """Return the codes of a level (1 at the top), and which classes are under each code: [classes, codes].

        Args:
            level: number of the level.
            key: config key that names the level, for the message.

        Raises:
            ConfigError: a class has no code of that level above it.
        """
        if any(len(above) < level for above in self.ancestors):
            deepest = min(len(above) for above in self.ancestors)
            raise ConfigError(f"{key}: level {level} is not above every class; the levels are 1 to {deepest}.")
        own = [above[level - 1] for above in self.ancestors]
        codes = sorted(set(own))
        return codes, (np.array(own)[:, None] == np.array(codes)).astype(np.float64)


@dataclass(frozen=True)
class Decided:
    """The decisions on rows.

    Attributes:
        decision: [rows], places in DECISIONS.
        parent: [rows], place in `Triage.parents` of the backed-off rows, else NONE.
        picks: [rows, k], classes to choose from, likeliest first, NONE beyond the list's end and for rows without a list.
    """

    decision: NDArray[np.int8]
    parent: NDArray[np.int16]
    picks: Picks


class Triage:
    """Rules for a model, with the thresholds that its held-out rows set.

    Args:
        options: the keys.
        tree: the model's classes.
        held: held-out rows with logits; None for a model that has none.
        temperature: divides the logits of `held`.

    Attributes:
        parents: codes that rows can back off to.
        threshold: a row is accepted if its top-1 probability is greater; None: no row is.
        parent_threshold: a row backs off to the finest parent whose probability is greater; None: no row does.
        list_threshold: a list is shown if its codes' probability is greater; None: no list is.
        tried: tests that set `threshold`, [] for a fixed threshold.
        tried_parents: tests that set `parent_threshold`, [] for a fixed threshold.
        tried_lists: tests that set `list_threshold`, [] without validation rows.

    Raises:
        ConfigError: a rule needs what the model does not have.
    """

    def __init__(self, options: Options, tree: Tree, held: Scored | None, temperature: float) -> None:
        self.options, self.tree, self.temperature = options, tree, temperature
        self.managing = managers.managing_classes(tree.majors, options.managers)
        if held is None and options.target_error is not None:
            raise ConfigError(
                f"triage.target_error={options.target_error}: a promise needs validation rows, and the run has none. Train "
                "it with data.validation=0.3, or use triage.target_error=null (a fixed threshold)."
            )
        self._levels = [tree.above(level) for level in options.back_off]
        self.parents = [code for codes, _ in self._levels for code in codes]
        self.tried: list[Tried] = []
        self.tried_parents: list[Tried] = []
        self.tried_lists: list[Tried] = []
        self._least = LEAST if held is not None else 0.0
        fixed = None if options.threshold is None else float(np.nextafter(options.threshold, 0))
        self.threshold = fixed
        self.parent_threshold = fixed if self._levels else None
        self.list_threshold: float | None = -1.0
        if held is not None:
            probability = self.probability(held)
            if options.target_error is not None:
                self._promise(probability, held, options.target_error)
            self._show(probability, held)

    def gated(self, probability: Probabilities, manages: NDArray[np.bool_]) -> Probabilities:
        """Return probabilities [rows, classes] with the managers' rule applied; manages: [rows]."""
        if self.options.managers == "none":
            return probability
        return managers.gated(probability, manages, self.managing)

    def manages(self, rows: Scored) -> NDArray[np.bool_]:
        """Return which rows say that they manage, by the chosen rule: [rows]."""
        return rows.answers if self.options.managers == "column" else rows.words

    def probability(self, rows: Scored) -> Probabilities:
        """Return the probabilities of scored rows that the rules use: [rows, classes]."""
        return self.gated(probabilities(rows.logits, self.temperature), self.manages(rows))

    def _promise(self, probability: Probabilities, held: Scored, target: float) -> None:
        """Set the thresholds of accepted rows and of parents for a target."""
        level = 1 - self.options.confidence
        confidence, right = probability.max(axis=1), probability.argmax(axis=1) == held.labels
        candidates = points(confidence, lambda _: right)
        self.tried = fallback(candidates, target, level)
        best = last_passed(self.tried)
        self.threshold = best.threshold if best else None
        if not self._levels:
            return
        sums = [probability @ under for _, under in self._levels]
        sure = [one.max(axis=1) for one in sums]
        fitting = [one.argmax(axis=1) == self.parent_labels(held, place) for place, one in enumerate(sums)]

        def right_at(threshold: float) -> NDArray[np.bool_]:
            found = np.zeros(len(right), dtype=bool)
            for one, fits in zip(reversed(sure), reversed(fitting), strict=True):
                found = np.where(one > threshold, fits, found)
            return found

        # The promise must be true for every acceptance threshold: each leaves another set of rows to back off.
        left = [confidence < one.threshold for one in candidates]
        self.tried_parents = fallback(points(sure[-1], right_at, left), target, level)
        best = last_passed(self.tried_parents)
        self.parent_threshold = best.threshold if best else None

    def _show(self, probability: Probabilities, held: Scored) -> None:
        """Set the threshold of shown lists on the held rows that are neither accepted nor backed off."""
        undecided = self._coded(probability)[0] == SEARCH
        picks, sure = first_codes(probability[undecided], self.options.k)
        hit = on_list(picks, held.labels[undecided])
        self.tried_lists = fallback(points(sure, lambda _: hit), self.options.alpha, 1 - self.options.confidence)
        best = last_passed(self.tried_lists)
        self.list_threshold = best.threshold if best else None

    def parent_labels(self, rows: Scored, place: int) -> NDArray[np.int64]:
        """Return each row's right parent of `back_off[place]`, as its place among that level's codes; NONE for no class."""
        under = self._levels[place][1]
        known = rows.labels < len(under)
        found: NDArray[np.int64] = np.where(known, under.argmax(axis=1)[np.where(known, rows.labels, 0)], NONE)
        return found

    def _coded(self, probability: Probabilities) -> tuple[NDArray[np.int8], NDArray[np.int16]]:
        """Return decisions [rows], with SEARCH for rows without a code, and parents [rows]."""
        decision = np.full(len(probability), SEARCH, np.int8)
        parent = np.full(len(probability), NONE, np.int16)
        if self.threshold is not None:
            decision[probability.max(axis=1, initial=0) > self.threshold] = ACCEPT
        first = 0
        for codes, under in self._levels if self.parent_threshold is not None else ():
            sums = probability @ under  # for all rows: the product of a subset may differ in its last bit
            sure = (decision == SEARCH) & (sums.max(axis=1, initial=0) > self.parent_threshold)
            decision[sure], parent[sure] = BACK_OFF, first + sums[sure].argmax(axis=1)
            first += len(codes)
        return decision, parent

    def decide(self, probability: Probabilities) -> Decided:
        """Return the decisions on rows with these probabilities [rows, classes], after the managers' rule."""
        decision, parent = self._coded(probability)
        picks = np.full((len(probability), self.options.k), NONE, np.int16)
        if self.list_threshold is not None:
            open_ = np.flatnonzero(decision == SEARCH)
            lists, sure = first_codes(probability[open_], self.options.k, self._least)
            shown = sure > self.list_threshold
            decision[open_[shown]], picks[open_[shown]] = CHOOSE, lists[shown]
        return Decided(decision, parent, picks)
