"""Schedules against their formulas; parameter groups, frozen weights and limits of the gradient."""

import math

import pytest
import torch
from torch import nn

from kjcm.engine.learning import COVARIATES_RATE, Learning, ParamGroups, counts_of, freeze
from kjcm.engine.schedules import Constant, Cosine, Linear
from kjcm.errors import ConfigError
from kjcm.model.covariates import add_covariates, covariates_of
from kjcm.model.encoder import build_encoder

SGD = {"_target_": "torch.optim.SGD", "lr": 0.1, "weight_decay": 0.5}


def encoder_of(model_type: str = "distilbert") -> nn.Module:
    sizes = {
        "distilbert": {"n_layers": 2, "dim": 8, "n_heads": 2, "hidden_dim": 16},
        "bert": {"num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16},
    }[model_type]
    shape = {"model_type": model_type, "max_position_embeddings": 16, **sizes}
    return build_encoder(
        pretrained=None, shape=shape, pooling="cls", classes=3, vocabulary=20, pad=1, max_length=8, seed=0
    )


def test_schedules_without_warm_up() -> None:
    assert [Constant()(step, 10) for step in (0, 9)] == [1.0, 1.0]
    assert [Linear()(step, 10) for step in (0, 5, 10)] == [1.0, 0.5, 0.0]
    assert [Cosine(least=0.2)(step, 10) for step in (0, 5, 10)] == pytest.approx([1.0, 0.6, 0.2])
    assert Cosine()(2, 8) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)


@pytest.mark.parametrize("schedule", [Constant(0.2), Linear(0.2), Cosine(0.2)])
def test_the_warm_up_rises_to_one(schedule: Constant) -> None:
    factors = [schedule(step, 20) for step in range(20)]
    assert factors[:4] == pytest.approx([1 / 5, 2 / 5, 3 / 5, 4 / 5]) and factors[4] == pytest.approx(1.0)
    assert factors[4:] == sorted(factors[4:], reverse=True)


def test_a_warm_up_of_more_than_all_steps_is_refused() -> None:
    with pytest.raises(ValueError):
        Linear(1.5)


@pytest.mark.parametrize("model_type", ["distilbert", "bert"])
def test_layers_nearer_to_the_text_learn_slower(model_type: str) -> None:
    encoder = encoder_of(model_type)
    optimizer = Learning(SGD, groups=ParamGroups(layer_decay=0.5, decay_all=False)).optimizer(encoder, fused=False)
    rates = {id(weight): group["lr"] for group in optimizer.param_groups for weight in group["params"]}
    decays = {id(weight): group["weight_decay"] for group in optimizer.param_groups for weight in group["params"]}
    by_name = {name: (rates[id(one)], decays[id(one)], one.ndim) for name, one in encoder.named_parameters()}
    assert len(by_name) == len(rates)  # each weight is in one group
    for name, (rate, decay, dimensions) in by_name.items():
        part = 0.125 if "embeddings" in name else 0.25 if ".0." in name else 0.5 if ".1." in name else 1.0
        assert rate == pytest.approx(0.1 * part), name
        assert decay == (0.5 if dimensions > 1 else 0.0), name
    assert all(group["initial_lr"] == group["lr"] for group in optimizer.param_groups)


def test_all_alike_is_one_group() -> None:
    encoder = encoder_of()
    (group,) = Learning(SGD).optimizer(encoder, fused=False).param_groups
    assert [id(weight) for weight in group["params"]] == [id(weight) for weight in encoder.parameters()]


def test_frozen_weights_are_in_no_group() -> None:
    encoder = encoder_of()
    groups = ParamGroups(freeze_embeddings=True, freeze_layers=1)
    freeze(encoder, groups)
    frozen = {name for name, weight in encoder.named_parameters() if not weight.requires_grad}
    assert frozen == {name for name, _ in encoder.named_parameters() if "embeddings" in name or "layer.0." in name}
    chosen = Learning(SGD, groups=groups).optimizer(encoder, fused=False).param_groups
    assert sum(len(group["params"]) for group in chosen) == len(list(encoder.parameters())) - len(frozen)
    with pytest.raises(ConfigError, match="has 2 layers"):
        freeze(encoder_of(), ParamGroups(freeze_layers=3))


def test_the_head_has_a_rate_of_its_own() -> None:
    encoder = encoder_of()
    optimizer = Learning(SGD, groups=ParamGroups(head_factor=10.0)).optimizer(encoder, fused=False)
    rates = {id(weight): group["lr"] for group in optimizer.param_groups for weight in group["params"]}
    for name, weight in encoder.named_parameters():
        of_head = "embeddings" not in name and "layer." not in name
        assert rates[id(weight)] == pytest.approx(1.0 if of_head else 0.1), name
    with pytest.raises(ConfigError, match="head_factor needs"):
        node = {"_target_": "torch.optim.Adam"}
        Learning(node, groups=ParamGroups(head_factor=10.0)).optimizer(encoder, fused=False)


class Nesterov(torch.optim.SGD):
    """An optimiser of a user's."""


def test_weights_of_covariates_learn_faster_with_optimisers_of_adams_kind() -> None:
    encoder = encoder_of()
    add_covariates(encoder, 3, 4)
    for name in ("torch.optim.SGD", "torch.optim.ASGD", f"{__name__}.Nesterov"):
        (group,) = Learning({"_target_": name, "lr": 0.1}).optimizer(encoder, fused=False).param_groups
        assert group["lr"] == 0.1
    adam = {"_target_": "torch.optim.AdamW", "lr": 0.01}
    plain, own = Learning(adam).optimizer(encoder, fused=False).param_groups
    assert (plain["lr"], own["lr"]) == (0.01, 0.01 * COVARIATES_RATE) and own["params"] == [covariates_of(encoder)]


def test_a_rate_by_layer_needs_a_rate() -> None:
    node = {"_target_": "torch.optim.Adadelta"}
    with pytest.raises(ConfigError, match=r"optim\.lr"):
        Learning(node, groups=ParamGroups(layer_decay=0.9)).optimizer(encoder_of(), fused=False)


@pytest.mark.parametrize(("clip_by", "wanted"), [("norm", [0.6, 0.8]), ("value", [1.0, 1.0])])
def test_the_gradient_is_limited(clip_by: str, wanted: list[float]) -> None:
    weight = nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3.0, 4.0])
    Learning(SGD, clip=1.0, clip_by=clip_by).limit(iter([weight]))
    assert weight.grad.tolist() == pytest.approx(wanted, rel=1e-5)
    weight.grad = torch.tensor([3.0, 4.0])
    Learning(SGD).limit(iter([weight]))
    assert weight.grad.tolist() == [3.0, 4.0]


def test_counts_are_at_least_one() -> None:
    assert counts_of(torch.tensor([0, 0, 2]).numpy(), 4).tolist() == [2.0, 1.0, 1.0, 1.0]
