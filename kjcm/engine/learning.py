"""The settings by which a model learns: loss, optimiser with parameter groups, schedule and gradient clipping."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from kjcm.engine.schedules import Constant
from kjcm.errors import ConfigError
from kjcm.model.covariates import NAME as COVARIATES
from kjcm.model.losses import CrossEntropy, Finer
from kjcm.parts import TARGET, build, target_of

ADAM: Mapping[str, Any] = {TARGET: "torch.optim.Adam", "lr": 1e-3}
# Adam and its like move each weight by about one rate a step. A level of a category has one weight, a text's vector hundreds.
COVARIATES_RATE = 50.0
OF_ADAMS_KIND = (torch.optim.Adam, torch.optim.AdamW, torch.optim.Adamax, torch.optim.NAdam, torch.optim.RAdam)
LAYER = re.compile(r"\b(?:layers?|h|blocks?)\.(\d+)\.")  # layer number in a weight's name


@dataclass(frozen=True)
class ParamGroups:
    """The parameter groups of an optimiser.

    Attributes:
        layer_decay: each layer's rate, as a factor of the rate of the layer above. The head has `head_factor` times
            `optim.lr`, and the embeddings have the lowest rate. 1: equal rates.
        decay_all: whether biases and norms have weight decay too.
        freeze_embeddings: whether the embeddings are frozen.
        freeze_layers: number of first layers to freeze.
        cache_frozen: whether the frozen layers run once per text, without dropout.
        head_factor: the head's rate, as a factor of `optim.lr`; weights of covariates have `COVARIATES_RATE` times it
            with optimisers `OF_ADAMS_KIND`.
    """

    layer_decay: float = 1.0
    decay_all: bool = True
    freeze_embeddings: bool = False
    freeze_layers: int = 0
    cache_frozen: bool = False
    head_factor: float = 1.0


@dataclass(frozen=True)
class Learning:
    """The settings by which a model learns.

    Attributes:
        optim: config node of a `torch.optim.Optimizer` with its arguments.
        loss: module that returns each row's loss, see `kjcm.model.losses`.
        finer: loss one level below the classes; None: none.
        schedule: function that returns a step's rate as a factor, see `kjcm.engine.schedules`.
        groups: parameter groups.
        clip: largest norm (or value) of the gradient; None: no clipping.
        clip_by: 'norm' or 'value'.
    """

    optim: Mapping[str, Any] = field(default_factory=lambda: ADAM)
    loss: nn.Module = field(default_factory=CrossEntropy)
    finer: Finer | None = None
    schedule: Callable[[int, int], float] = field(default_factory=Constant)
    groups: ParamGroups = field(default_factory=ParamGroups)
    clip: float | None = None
    clip_by: str = "norm"

    def optimizer(self, module: nn.Module, *, fused: bool) -> torch.optim.Optimizer:
        """Return an optimiser for a module's weights; each group's `initial_lr` is its rate before the schedule.

        Args:
            module: the encoder, with the loss if the loss has weights.
            fused: whether to use the optimiser's fused kernel.

        Raises:
            ConfigError: the optimiser refuses its arguments.
        """
        more = {"fused": True} if fused else {}
        optimizer: torch.optim.Optimizer = build("optim", self.optim, self._groups_of(module), **more)
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", float(group["lr"]))
        return optimizer

    def limit(self, weights: Iterator[nn.Parameter], *, foreach: bool | None = None) -> None:
        """Clip the gradient of `weights` as configured."""
        if self.clip is None:
            return
        if self.clip_by == "value":
            torch.nn.utils.clip_grad_value_(weights, self.clip, foreach=foreach)
        else:
            torch.nn.utils.clip_grad_norm_(weights, self.clip, foreach=foreach)

    def _groups_of(self, module: nn.Module) -> Any:
        """Return the trainable weights; if rates or weight decays differ, in one group for each combination."""
        named = [(name, weight) for name, weight in module.named_parameters() if weight.requires_grad]
        named.sort(key=lambda one: one[0].endswith(COVARIATES))  # last, because the first group's rate is logged
        chosen = self.groups
        made = target_of("optim", self.optim)
        rate = COVARIATES_RATE if isinstance(made, type) and issubclass(made, OF_ADAMS_KIND) else 1.0
        alike = {
            "param_groups.layer_decay": chosen.layer_decay == 1.0,
            "param_groups.head_factor": chosen.head_factor == 1.0,
            "data.columns.covariates": rate == 1.0 or not any(name.endswith(COVARIATES) for name, _ in named),
        }
        if all(alike.values()) and chosen.decay_all:
            return [weight for _, weight in named]
        if "lr" not in self.optim and (keys := [key for key, one in alike.items() if not one]):
            raise ConfigError(f"{keys[0]} needs optim.lr to compute each layer's rate. Set optim.lr.")
        depth = max((_layer(name) or 0 for name, _ in named), default=0)
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for name, weight in named:
            layer = _layer(name)
            factor = chosen.head_factor if layer is None else chosen.layer_decay ** (depth + 1 - layer)
            factor *= rate if name.endswith(COVARIATES) else 1.0
            decayed = chosen.decay_all or weight.ndim > 1
            groups.setdefault((factor, decayed), []).append(weight)
        return [
            {"params": weights}
            | ({} if factor == 1.0 else {"lr": self.optim["lr"] * factor})
            | ({} if decayed else {"weight_decay": 0.0})
            for (factor, decayed), weights in groups.items()
        ]


def freeze(encoder: nn.Module, groups: ParamGroups) -> None:
    """Freeze the embeddings and the first layers of an encoder.

    Raises:
        ConfigError: the encoder has fewer layers.
    """
    named = list(encoder.named_parameters())
    layers = max((_layer(name) or 0 for name, _ in named), default=0)
    if groups.freeze_layers > layers:
        raise ConfigError(f"param_groups.freeze_layers={groups.freeze_layers}: the encoder has {layers} layers.")
    for name, weight in named:
        layer = _layer(name)
        if (layer == 0 and groups.freeze_embeddings) or (layer and layer <= groups.freeze_layers):
            weight.requires_grad_(False)


def _layer(name: str) -> int | None:
    """Return a weight's layer, counted from 1; 0 for the embeddings, None above the layers, as in the head."""
    if found := LAYER.search(name):
        return int(found[1]) + 1
    return 0 if "embeddings" in name else None


def counts_of(labels: Any, classes: int) -> Tensor:
    """Return each class's number of training rows, at least 1: float [classes]; labels: int64 [rows]."""
    return torch.bincount(torch.from_numpy(labels), minlength=classes).clamp(min=1).float()
