"""Losses: modules that take logits [rows, classes] and labels [rows], and return one loss per row: [rows].

The constructor of a loss may name these arguments:

- `class_counts`: float tensor [classes], each class's training rows, at least 1;
- `class_tree`: list of long tensors [classes], one per level above the classes, nearest level first: the index of each
  class's group at that level.

In a CUDA graph (engine=captured) a loss must not wait for the device: no `.item()`, no boolean indexing.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class CrossEntropy(nn.Module):
    """Cross-entropy."""

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return each row's loss."""
        return functional.cross_entropy(logits, labels, reduction="none")


class LabelSmoothing(nn.Module):
    """Cross-entropy that spreads a share of each label over all classes (Szegedy et al., CVPR 2016).

    Args:
        smoothing: the share, from 0 to 1.
    """

    def __init__(self, smoothing: float = 0.1) -> None:
        super().__init__()
        _require("smoothing", smoothing, 0 <= smoothing <= 1, "from 0 to 1")
        self.smoothing = smoothing

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return each row's loss."""
        return functional.cross_entropy(logits, labels, reduction="none", label_smoothing=self.smoothing)


class Focal(nn.Module):
    """Cross-entropy times (1 - p)^gamma, where p is the label's probability (Lin et al., ICCV 2017).

    Args:
        gamma: larger values give easy rows less weight; 0 is cross-entropy.
    """

    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        _require("gamma", gamma, gamma >= 0, "0 or more")
        self.gamma = gamma

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return each row's loss."""
        loss = functional.cross_entropy(logits, labels, reduction="none")
        # A probability rounded to 1 would have the derivative 0^(gamma - 1), which is infinite for gamma < 1.
        return (1 - (-loss).exp()).clamp(min=1e-6) ** self.gamma * loss


class ClassBalanced(nn.Module):
    """Cross-entropy with class weights from the effective number of rows (Cui et al., CVPR 2019).

    The weight of a class with n training rows is (1 - beta) / (1 - beta^n), scaled to a mean of 1 over classes.

    Args:
        class_counts: training rows of each class.
        beta: 0 gives all classes equal weight; towards 1 the weights approach 1 / n.
    """

    weights: Tensor

    def __init__(self, class_counts: Tensor, beta: float = 0.999) -> None:
        super().__init__()
        _require("beta", beta, 0 <= beta < 1, "from 0, below 1")
        weights = (1 - beta) / (1 - beta ** class_counts.double())
        self.register_buffer("weights", (weights / weights.mean()).float(), persistent=False)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return each row's loss."""
        return functional.cross_entropy(logits, labels, weight=self.weights.to(logits.dtype), reduction="none")


class LogitAdjusted(nn.Module):
    """Cross-entropy of logits plus tau times the log of each class's share (Menon et al., ICLR 2021).

    The shift applies in training only. So rare classes learn larger logits, and predictions favour them more.

    Args:
        class_counts: training rows of each class.
        tau: 0 is cross-entropy; 1 aims at the balanced error.
    """

    shift: Tensor

    def __init__(self, class_counts: Tensor, tau: float = 1.0) -> None:
        super().__init__()
        _require("tau", tau, tau >= 0, "0 or more")
        self.register_buffer("shift", tau * (class_counts / class_counts.sum()).log().float(), persistent=False)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return each row's loss."""
        return functional.cross_entropy(logits + self.shift, labels, reduction="none")


class Hierarchical(nn.Module):
    """The weighted mean of the cross-entropies at the classes' level and at each level above.

    A group's probability is the sum of its classes' probabilities.

    Args:
        class_tree: each class's group at every level above, nearest level first.
        weights: weights of the levels above, nearest first, or one number for all; the classes' level has weight 1.
        smoothing: share of each label that is spread over all classes, at the classes' level only.

    Raises:
        ValueError: the classification has no level above, or `weights` does not have one number per level.
    """

    def __init__(
        self, class_tree: Sequence[Tensor], weights: float | Sequence[float] = 0.5, smoothing: float = 0.0
    ) -> None:
        super().__init__()
        _require("smoothing", smoothing, 0 <= smoothing <= 1, "from 0 to 1")
        self.smoothing = smoothing
        if not class_tree:
            raise ValueError("the classification has no level above the classes. Use loss=cross_entropy")
        each = (
            [float(weights)] * len(class_tree) if isinstance(weights, int | float) else [float(one) for one in weights]
        )
        if len(each) != len(class_tree) or any(weight < 0 for weight in each):
            raise ValueError(
                f"weights={each}: give one number, or {len(class_tree)} numbers of 0 or more, one per level above"
            )
        self.weights = each
        for level, groups in enumerate(class_tree):
            self.register_buffer(f"groups_{level}", groups, persistent=False)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return each row's loss."""
        shares = logits.log_softmax(dim=1)
        total = functional.cross_entropy(logits, labels, reduction="none", label_smoothing=self.smoothing)
        for level, weight in enumerate(self.weights):
            groups: Tensor = getattr(self, f"groups_{level}")
            own = groups[labels][:, None] == groups
            total = total - weight * shares.masked_fill(~own, -torch.inf).logsumexp(dim=1)
        return total / (1 + sum(self.weights))


class Finer(nn.Module):
    """Cross-entropy one level below the classes, over the training rows that have a code there, times a weight.

    Args:
        groups: long tensor [training rows], the index of each row's group at that level; -100 for a row without one.
        weight: factor of the loss.
    """

    groups: Tensor

    def __init__(self, groups: Tensor, weight: float) -> None:
        super().__init__()
        self.weight = weight
        self.register_buffer("groups", groups, persistent=False)

    def forward(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Return each row's loss, 0 without a group; logits: [rows, groups], rows: numbers of training rows."""
        # PyTorch's default `ignore_index` is -100.
        return self.weight * functional.cross_entropy(logits, self.groups[rows], reduction="none")


def _require(name: str, value: float, right: bool, range_: str) -> None:
    """Raise ValueError if an argument is out of range."""
    if not right:
        raise ValueError(f"{name}={value}: use a number {range_}")


def tree_of(ancestors: Sequence[Sequence[str]]) -> list[Tensor]:
    """Return the class tree for losses.

    Args:
        ancestors: [classes], the codes above each class, top level first. If a class has fewer codes than others, its top
            code fills the missing levels; if it has none, the class itself does.
    """
    levels = max(map(len, ancestors), default=0)
    tree = []
    for above in range(1, levels + 1):
        names = [list(codes)[-above] if len(codes) >= above else (codes[0] if codes else f"class {index}")
                 for index, codes in enumerate(ancestors)]  # fmt: skip
        place = {name: index for index, name in enumerate(sorted(set(names)))}
        tree.append(torch.tensor([place[name] for name in names]))
    return tree
