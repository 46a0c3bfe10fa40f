"""Draw rows many times: are the promises kept, and how much is accepted? The table of docs/triage.md.

python -m tests.triage.simulation
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import binom

from kjcm.triage.calibration import probabilities
from kjcm.triage.logits import Scored
from kjcm.triage.outlook import parent_is_wrong
from kjcm.triage.pick_lists import on_list
from kjcm.triage.rules import ACCEPT, BACK_OFF, CHOOSE, Options, Tree, Triage
from kjcm.triage.thresholds import Point, fallback, last_passed, points

TARGETS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)
PLACES = np.linspace(0, 1, 20_001)  # a row's place among all rows, the surest first
# chance of an error at each place
CURVES = {
    "good": 0.02 + 0.35 * PLACES**2,
    "middling": 0.05 + 0.6 * PLACES**1.3,
    "weak": 0.15 + 0.7 * PLACES,
    "too sure at the top": np.clip(0.3 * np.exp(-30 * PLACES) + 0.03 + 0.5 * PLACES**1.5, 0, 1),
    "not monotone": np.clip(0.05 + 0.5 * PLACES + 0.08 * np.sin(12 * PLACES), 0, 1),
}


def drawn(random: np.random.Generator, rows: int, curve: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return confidences and whether they are right: [rows]."""
    place = random.random(rows)
    return 1 - place, random.random(rows) >= np.interp(place, PLACES, curve)


def true_error(threshold: float, curve: np.ndarray) -> float:
    """Return the error rate of all rows above a threshold."""
    return float(curve[: max(1, int((1 - max(threshold, 0)) * len(curve)))].mean())


def fixed_sequence(candidates: Sequence[Point], target: float, level: float = 0.05) -> Point | None:
    """Return the share that kjcm accepted before: from 5 % upwards, all at the full level, until the first one fails."""
    counts = np.array([one.counts[0] for one in candidates])
    can = binom.cdf(1, counts[:, 0], target) <= level
    passes = binom.cdf(counts[:, 1], counts[:, 0], target) <= level
    best = None
    for place in np.flatnonzero(can):
        if not passes[place]:
            break
        best = candidates[place]
    return best


def curves(rows: int, draws: int, seed: int = 0) -> dict[str, dict[float, list[float]]]:
    """Return for each target: draws that break it (the worst curve), and accepted shares now and before (means of curves)."""
    random = np.random.default_rng(seed)
    broken = {target: dict.fromkeys(CURVES, 0) for target in TARGETS}
    accepted = {target: np.zeros(2) for target in TARGETS}
    any_broken = dict.fromkeys(CURVES, 0)
    for name, curve in CURVES.items():
        for _ in range(draws):
            confidence, right = drawn(random, rows, curve)
            candidates = points(confidence, lambda _, right=right: right)
            one_broken = False
            for target in TARGETS:
                now, before = last_passed(fallback(candidates, target)), fixed_sequence(candidates, target)
                breaks = now is not None and true_error(now.threshold, curve) > target
                broken[target][name] += breaks
                one_broken |= breaks
                accepted[target] += [now.share if now else 0, before.share if before else 0]
            any_broken[name] += one_broken
    whole = draws * len(CURVES)
    found = {target: [max(broken[target].values()) / draws, *(accepted[target] / whole)] for target in TARGETS}
    return {"targets": found, "any": {rows: [max(any_broken.values()) / draws]}}


CLASSES = tuple(f"{major}{minor}{unit}" for major in "1234" for minor in "12" for unit in "12")
TREE = Tree(CLASSES, tuple((code[:1], code[:2]) for code in CLASSES), (50,) * len(CLASSES))


def families(random: np.random.Generator, rows: int, unknown: float = 0.02) -> Scored:
    """Return rows whose parents are plainer than their codes; a few have a code that is no class."""
    labels = random.integers(0, len(CLASSES), rows)
    logits = random.normal(size=(rows, len(CLASSES)))
    ease = random.random((rows, 1))
    for digits, skill in ((1, 1.5), (2, 1.5), (3, 3.0)):
        own = np.array([code[:digits] for code in CLASSES])
        logits += skill * ease * (own[labels][:, None] == own)
    labels = np.where(random.random(rows) < unknown, len(CLASSES), labels)
    return Scored(logits.astype(np.float32), labels, np.zeros(rows, bool), np.zeros(rows, bool))


def whole(
    rows: int, draws: int, targets: Sequence[float], alpha: float, seed: int = 0
) -> dict[float, dict[str, float]]:
    """Return for each target how many draws break each promise of the whole rules, and what they do, on fresh rows."""
    random = np.random.default_rng(seed)
    fresh = families(random, 20_000)
    probability = probabilities(fresh.logits)
    wrong = probability.argmax(axis=1) != fresh.labels
    counted = {target: dict.fromkeys(("accept", "back off", "list"), 0.0) for target in targets}
    share = {target: np.zeros(3) for target in targets}
    for _ in range(draws):
        held = families(random, rows)
        for target in targets:
            triage = Triage(Options(target, 0.8, 0.95, alpha, 5, (2, 1), "none", True), TREE, held, 1.0)
            found = triage.decide(probability)
            accepted, off, listed = (found.decision == one for one in (ACCEPT, BACK_OFF, CHOOSE))
            share[target] += [accepted.mean(), off.mean(), listed.mean()]
            lost = parent_is_wrong(triage, found, fresh)
            missed = ~on_list(found.picks, fresh.labels)
            counted[target]["accept"] += bool(accepted.any() and wrong[accepted].mean() > target)
            counted[target]["back off"] += bool(off.any() and lost[off].mean() > target)
            counted[target]["list"] += bool(listed.any() and missed[listed].mean() > alpha)
    return {
        target: {
            **{f"{name} broken": count / draws for name, count in counted[target].items()},
            **dict(zip(("accepted", "backed off", "with list"), share[target] / draws, strict=True)),
        }
        for target in targets
    }


if __name__ == "__main__":
    for size in (120, 400, 2000):
        result = curves(size, 1000)
        print(f"{size} rows: any of the targets broken {result['any'][size][0]:.3f}")
        for goal, (broken, now, before) in result["targets"].items():
            print(f"  target {goal:.2f}: broken {broken:.3f}, accepted {now:.3f}, before {before:.3f}")
    for goal, values in whole(400, 1000, TARGETS, 0.3).items():
        print(f"target {goal:.2f}: " + ", ".join(f"{name} {value:.3f}" for name, value in values.items()))
