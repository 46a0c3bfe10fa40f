"""Pick lists hold the right code at their rate in every major group, however hard the group."""

import numpy as np
import pytest
from scipy.special import softmax

from kjcm.triage.picks import POOLED, cuts, on_list, pools

MAJORS = ["1", "1", "2", "2", "2", "3"]


def drawn(random: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of six classes; those of group 3 are hard to tell."""
    labels = random.choice(6, rows, p=[0.15, 0.15, 0.2, 0.15, 0.15, 0.2])
    logits = random.normal(size=(rows, 6))
    logits[np.arange(rows), labels] += np.where(labels == 5, 0.3, 2.5)
    return softmax(logits, axis=1), labels


@pytest.mark.parametrize("alpha", [0.1, 0.3])
def test_every_group_is_covered(alpha: float) -> None:
    random = np.random.default_rng(1)
    held: dict[str, list[float]] = {major: [] for major in sorted(set(MAJORS))}
    for _ in range(300):
        cut = cuts(*drawn(random, 60), MAJORS, alpha)
        probability, labels = drawn(random, 500)
        hit = on_list(probability, MAJORS, cut)[np.arange(500), labels]
        for major, hits in held.items():
            hits.append(hit[np.array(MAJORS)[labels] == major].mean())
    for major, hits in held.items():
        assert np.mean(hits) >= 1 - alpha - 3 * np.std(hits) / np.sqrt(len(hits)), major
        assert np.mean(hits) <= 1 - alpha + 0.1, major  # nor are the lists longer than they must be


def test_one_cut_for_all_would_not_cover_the_hard_group() -> None:
    random = np.random.default_rng(1)
    cut = cuts(*drawn(random, 5000), ["all"] * 6, 0.1)
    probability, labels = drawn(random, 5000)
    assert on_list(probability, ["all"] * 6, cut)[labels == 5, 5].mean() < 0.8


def test_cut_of_a_group_by_hand() -> None:
    probability = np.array([[p, 1 - p] for p in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)])
    labels = np.zeros(9, np.int64)
    assert cuts(probability, labels, ["a", "b"], 0.1) == {"a": 0.1, "b": 0.0}  # 1 of 10 may miss; nothing known of b
    assert cuts(probability, labels, ["a", "b"], 0.25) == {"a": 0.2, "b": 0.0}
    assert cuts(probability[:8], labels[:8], ["a", "b"], 0.1)["a"] == 0.0  # too few rows for a miss
    assert cuts(probability, np.full(9, 2), ["a", "b"], 0.1) == {"a": 0.0, "b": 0.0}  # of no class


def test_small_major_groups_share_a_pool_chosen_by_training_rows() -> None:
    assert pools(MAJORS, [5, 5, 400, 300, 200, 90], 100, 0.1) == [POOLED, POOLED, "2", "2", "2", POOLED]
    assert pools(MAJORS, [5, 5, 400, 300, 200, 90], 10_000, 0.1) == MAJORS
    assert pools(["1"], [0], 5, 0.1) == [POOLED]
