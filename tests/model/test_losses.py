"""Each loss against its formula, worked out in NumPy or by hand; one value a row, and gradients that are numbers."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from kjcm.model.losses import (
    ClassBalanced,
    CrossEntropy,
    Finer,
    Focal,
    Hierarchical,
    LabelSmoothing,
    LogitAdjusted,
    tree_of,
)

LOGITS = torch.tensor([[2.0, 0.5, -1.0, 0.0], [0.0, 0.0, 0.0, 0.0], [-3.0, 1.0, 4.0, 2.0]])
LABELS = torch.tensor([0, 3, 1])
COUNTS = torch.tensor([100.0, 10.0, 1.0, 50.0])
TREE = tree_of([("1", "11"), ("1", "11"), ("1", "12"), ("2", "21")])
P = np.exp(LOGITS.numpy()) / np.exp(LOGITS.numpy()).sum(axis=1, keepdims=True)
TRUE = P[[0, 1, 2], LABELS.numpy()]


def test_the_class_tree_has_the_nearest_level_first() -> None:
    assert [level.tolist() for level in TREE] == [[0, 0, 1, 2], [0, 0, 0, 1]]
    assert [level.tolist() for level in tree_of([("1",), ()])] == [[0, 1]]
    assert tree_of([(), ()]) == []


@pytest.mark.parametrize(
    ("loss", "wanted"),
    [
        (CrossEntropy(), -np.log(TRUE)),
        (LabelSmoothing(0.2), -0.8 * np.log(TRUE) - 0.2 * np.log(P).mean(axis=1)),
        (Focal(2.0), -((1 - TRUE) ** 2) * np.log(TRUE)),
        (Focal(0.0), -np.log(TRUE)),
        (ClassBalanced(COUNTS, beta=0.0), -np.log(TRUE)),
        (LogitAdjusted(COUNTS, tau=0.0), -np.log(TRUE)),
        (Hierarchical(TREE, weights=0.0), -np.log(TRUE)),
        (Hierarchical(TREE, weights=0.0, smoothing=0.2), -0.8 * np.log(TRUE) - 0.05 * np.log(P).sum(axis=1)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values(loss: torch.nn.Module, wanted: Any) -> None:
    assert loss(LOGITS, LABELS).numpy() == pytest.approx(wanted, rel=1e-5)


def test_the_loss_below_counts_only_rows_with_a_group() -> None:
    groups = torch.tensor([1, -100, 3, 0])  # of the training rows; logits are of the rows 2, 1 and 0
    found = Finer(groups, 0.3)(LOGITS, torch.tensor([2, 1, 0]))
    wanted = [-0.3 * np.log(P[0, 3]), 0.0, -0.3 * np.log(P[2, 1])]
    assert found.numpy() == pytest.approx(wanted, rel=1e-5)


def test_class_balanced_weights() -> None:
    each = np.array([(1 - 0.9) / (1 - 0.9**n) for n in COUNTS.tolist()])
    weights = each / each.mean()
    found = ClassBalanced(COUNTS, beta=0.9)(LOGITS, LABELS)
    assert found.numpy() == pytest.approx(-np.log(TRUE) * weights[LABELS.numpy()], rel=1e-5)


def test_logit_adjustment_adds_the_log_of_the_shares() -> None:
    shifted = LOGITS + 1.5 * (COUNTS / COUNTS.sum()).log()
    found = LogitAdjusted(COUNTS, tau=1.5)(LOGITS, LABELS)
    assert torch.allclose(found, cross_entropy(shifted, LABELS, reduction="none"))


def test_hierarchical_by_hand() -> None:
    """The second row is uniform: its class has 1/4, its groups 1/4 at both levels."""
    found = Hierarchical(TREE, weights=[0.5, 0.25])(LOGITS, LABELS).tolist()
    assert found[1] == pytest.approx(math.log(4), rel=1e-6)
    near, far = P[2, 0] + P[2, 1], P[2, 0] + P[2, 1] + P[2, 2]  # the third row's class is 1, of groups 11 and 1
    wanted = -(math.log(P[2, 1]) + 0.5 * math.log(near) + 0.25 * math.log(far)) / 1.75
    assert found[2] == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(
    "loss",
    [CrossEntropy(), LabelSmoothing(), Focal(0.5), ClassBalanced(COUNTS), LogitAdjusted(COUNTS), Hierarchical(TREE)],
    ids=lambda value: type(value).__name__,
)
def test_gradients_are_numbers_even_where_a_row_is_certain(loss: torch.nn.Module) -> None:
    logits = torch.cat([LOGITS, torch.tensor([[200.0, -200.0, 0.0, 0.0]])]).requires_grad_()
    labels = torch.cat([LABELS, torch.tensor([0])])
    loss(logits, labels).sum().backward()
    assert logits.grad is not None and logits.grad.isfinite().all() and logits.grad[:3].abs().sum() > 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: LabelSmoothing(1.5), lambda: Focal(-1), lambda: ClassBalanced(COUNTS, beta=1.0),
        lambda: LogitAdjusted(COUNTS, tau=-1), lambda: Hierarchical([]), lambda: Hierarchical(TREE, [1.0]),
    ],
)  # fmt: skip
def test_arguments_out_of_their_range_are_refused(make: Any) -> None:
    with pytest.raises(ValueError):
        make()
