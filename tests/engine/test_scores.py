"""Every metric against scikit-learn (zero_division=0), to 1e-6."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, precision_recall_fscore_support, top_k_accuracy_score
from torch import Tensor

from kjcm.engine.scores import Scores

SINGLE = (
    "accuracy",
    *(f"{name}_{average}" for average in ("weighted", "macro") for name in ("precision", "recall", "f1")),
)


class Case(NamedTuple):
    classes: int
    unseen: int
    batches: tuple[int, ...]


CASES = {
    "as the paper": Case(142, 0, (256, 256, 88)),
    "unseen codes": Case(30, 4, (64, 64, 64, 7)),
    "three classes": Case(3, 0, (50, 50)),
    "three classes, two unseen codes": Case(3, 2, (50, 50)),
    "two classes": Case(2, 0, (1, 40)),
}


def drawn(case: Case) -> tuple[Tensor, Tensor]:
    """Return logits and targets: half of the rows leaning to the right class; the last class never predicted."""
    generator = torch.Generator().manual_seed(case.classes)
    rows = sum(case.batches)
    target = torch.randint(0, case.classes + case.unseen, (rows,), generator=generator)
    if case.classes > 10:
        target[target == 3] = 4  # class 3 has no rows
    logits = torch.randn(rows, case.classes, generator=generator)
    known = (target < case.classes) & (torch.rand(rows, generator=generator) < 0.5)
    logits[known.nonzero().flatten(), target[known]] += 2.0
    logits[:, -1] -= 100.0
    return logits, target


def measure(logits: Tensor, target: Tensor, case: Case) -> tuple[dict[str, float], dict[str, list[float]]]:
    scores = Scores(case.classes, case.unseen)
    for some_logits, some_target in zip(logits.split(case.batches), target.split(case.batches), strict=True):
        scores.update(some_logits, some_target)
    return scores.summary()


def wanted(logits: Tensor, target: Tensor, case: Case) -> dict[str, float]:
    true, predicted = target.numpy(), logits.argmax(1).numpy()
    values = {"accuracy": accuracy_score(true, predicted)}
    for average in ("weighted", "macro"):
        found = precision_recall_fscore_support(true, predicted, average=average, zero_division=0)[:3]
        values |= {f"{name}_{average}": value for name, value in zip(("precision", "recall", "f1"), found, strict=True)}
    for k in (2, 3, 4, 5):
        first = logits.topk(min(k, case.classes), dim=1).indices
        values[f"top_{k}_accuracy"] = (first == target[:, None]).any(1).double().mean().item()
    return values


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_equals_scikit_learn(case: Case) -> None:
    logits, target = drawn(case)
    found, per_class = measure(logits, target, case)
    assert found == pytest.approx(wanted(logits, target, case), abs=1e-6, rel=0)
    labels = np.arange(case.classes + case.unseen)
    p, r, f, n = precision_recall_fscore_support(target, logits.argmax(1), labels=labels, average=None, zero_division=0)
    for name, values in {"precision": p, "recall": r, "f1": f, "n": n}.items():
        assert per_class[name] == pytest.approx(values.tolist(), abs=1e-6, rel=0), name
    assert per_class["n_predicted"] == np.bincount(logits.argmax(1), minlength=len(labels)).tolist()
    assert per_class["n_predicted"][case.classes - 1] == 0.0  # the case holds what it is for


def test_top_k_by_scikit_learn() -> None:
    case = CASES["as the paper"]
    logits, target = drawn(case)
    found, _ = measure(logits, target, case)
    for k in (2, 3, 4, 5):
        theirs = top_k_accuracy_score(target, logits, k=k, labels=np.arange(case.classes))
        assert found[f"top_{k}_accuracy"] == pytest.approx(theirs, abs=1e-6)
    assert 0.1 < found["accuracy"] < found["top_2_accuracy"] < found["top_5_accuracy"] < 0.9


def test_a_faultless_first_batch_does_not_tie_metrics_together() -> None:
    """After one batch on which they agree, metrics must still be counted each by itself."""
    case = Case(8, 0, (8, 200))
    logits, target = drawn(case)
    target[:8] = torch.arange(8)
    logits[:8] = 10.0 * torch.eye(8)
    found, _ = measure(logits, target, case)
    assert found == pytest.approx(wanted(logits, target, case), abs=1e-6, rel=0)


def test_a_row_of_an_unseen_code_is_never_right() -> None:
    scores = Scores(2, unseen=3)
    scores.update(torch.tensor([[3.0, 1.0], [0.0, 5.0]]), torch.tensor([2, 4]))
    found, per_class = scores.summary()
    assert {found[name] for name in (*SINGLE, *(f"top_{k}_accuracy" for k in (2, 3, 4, 5)))} == {0.0}
    assert per_class["n"] == [0, 0, 1, 0, 1]


def test_reset_forgets_the_rows() -> None:
    scores, case = Scores(3), CASES["three classes"]
    logits, target = drawn(case)
    scores.update(logits[:50], target[:50])
    scores.summary()
    scores.reset()
    scores.update(logits[50:], target[50:])
    assert scores.summary()[0] == pytest.approx(wanted(logits[50:], target[50:], case), abs=1e-6, rel=0)
