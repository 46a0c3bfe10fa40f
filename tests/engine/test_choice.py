"""Which engine trains."""

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from kjcm.engine.choice import Engine, choose_engine
from kjcm.errors import ConfigError
from kjcm.keys.commands.train import TrainConfig
from kjcm.keys.training import EngineConfig, ParamGroupsConfig, TrainerConfig
from kjcm.model.encoder import FirstToken

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 20}
ALONE = {"accelerator": "auto", "devices": 1, "num_nodes": 1, "strategy": "auto", "precision": "auto",
         "flags": {}}  # fmt: skip


def encoder(kind: str) -> FirstToken:
    return FirstToken(AutoModelForSequenceClassification.from_config(AutoConfig.for_model(kind, **SIZES)))


def chosen(
    name: str = "auto",
    kind: str = "bert",
    dropout: str = "exact",
    callbacks: Any = None,
    cached: bool = False,
    frozen: bool = True,
    **trainer: Any,
) -> Engine:
    config = TrainConfig(
        engine=EngineConfig(name, dropout, compile=True, block=16),
        trainer=TrainerConfig(**{**ALONE, **trainer}),
        optim={"_target_": "torch.optim.Adam", "lr": 1e-3},
        callbacks=callbacks or {},
        param_groups=ParamGroupsConfig(1.0, True, frozen, 1, cached, 1.0),
    )
    return choose_engine(config, encoder(kind))


def test_auto_captures_on_one_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert chosen() == Engine("captured", True, True, 16)
    assert chosen(devices=[1]).name == "captured"  # one card, named
    assert chosen(dropout="none") == Engine("captured", False, True, 16)
    for elsewhere in ({"devices": 2}, {"devices": "auto"}, {"devices": -1}, {"strategy": "ddp"}, {"num_nodes": 2},
                      {"accelerator": "cpu"}, {"precision": "16-mixed"}):  # fmt: skip
        assert chosen(**elsewhere) == Engine("packed", True, True, None), elsewhere
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert chosen(devices="auto").name == "captured"


def test_an_engine_asked_for_by_name_runs_or_is_refused() -> None:
    assert chosen("captured") == Engine("captured", True, True, 16, strict=True)  # on a CPU too
    assert chosen("packed") == Engine("packed", True, True, None)
    assert chosen("reference") == Engine("reference", True, False, None)
    for wrong in ({"devices": 2}, {"precision": "16-mixed"}):
        with pytest.raises(ConfigError, match="engine=captured"):
            chosen("captured", **wrong)
    with pytest.raises(ConfigError, match="deberta"):
        chosen("packed", "deberta")


def test_what_captured_steps_cannot_honour_runs_uncaptured_or_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    ema = {"ema": {"_target_": "lightning.pytorch.callbacks.EMAWeightAveraging"}}
    stopping = {"stop": {"_target_": "kjcm.training.callbacks.EarlyStopping"}}
    for lacking in ({"flags": {"accumulate_grad_batches": 2}}, {"callbacks": ema}):
        with pytest.raises(ConfigError, match="engine=captured does not support"):
            chosen("captured", **lacking)
    assert chosen("captured", callbacks=stopping, flags={"gradient_clip_val": 1.0}).name == "captured"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert chosen(callbacks=ema).name == "packed" and chosen(callbacks=stopping).name == "captured"


def test_devices_as_lightning_writes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for one in ("1", "0,", "3,", [2]):
        assert chosen(devices=one).name == "captured", one
    for several in ("2", "0,1", [0, 1]):
        assert chosen(devices=several).name == "packed", several
    for wrong in ("two", "", ","):
        with pytest.raises(ConfigError, match=f"trainer.devices={wrong}: give a number"):
            chosen(devices=wrong)


def test_other_kinds_of_encoders_are_trained_by_the_reference_and_it_says_so(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with caplog.at_level("WARNING", "kjcm"):
        for dropout in ("exact", "none"):
            assert chosen(kind="deberta", dropout=dropout) == Engine("reference", True, False, None)
        monkeypatch.setenv("RANK", "1")  # one process says so for all
        assert chosen(kind="deberta").name == "reference"
    said = "deberta encoders cannot use packed batches; engine=reference trains this one"
    assert caplog.messages == [said, f"{said}, with attention dropout"]


def test_stored_states_of_frozen_layers_need_packed_steps_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(cached=True).name == chosen("packed", cached=True).name == "packed"
    for lacking in (
        {"name": "captured"},
        {"name": "reference"},
        {"devices": 2},
        {"kind": "deberta"},
        {"frozen": False},
    ):
        with pytest.raises(ConfigError, match="cache_frozen=true does not support"):
            chosen(**{"cached": True, **lacking})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert chosen(cached=True).name == "packed"
