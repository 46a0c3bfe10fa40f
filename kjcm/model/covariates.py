"""Covariates of encoders: a weight for each class and column, whose products are added to the logits of every head."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

NAME = "covariates"  # of their weights


def add_covariates(encoder: Any, classes: int, width: int) -> None:
    """Give an encoder a weight for each class and each of `width` columns of covariates; they begin at 0."""
    encoder.saved.register_parameter(NAME, nn.Parameter(torch.zeros(classes, width)))


def covariates_of(encoder: Any) -> Tensor | None:
    """Return an encoder's weights of covariates, [classes, width]; None without covariates."""
    found: Tensor | None = getattr(encoder.saved, NAME, None)
    return found


def plus_covariates(logits: Tensor, weight: Tensor | None, values: Tensor | None) -> Tensor:
    """Return the logits of rows plus those of their covariates, if there are any.

    Args:
        logits: [rows, outputs], the classes first.
        weight: [classes, width].
        values: [rows, width], see `Covariates.encoded`.
    """
    if weight is None or values is None:
        return logits
    return logits + functional.pad(functional.linear(values, weight), (0, logits.shape[1] - len(weight)))
