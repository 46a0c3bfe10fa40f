"""Every engine learns the same: batches, order, losses, gradients, schedule and resuming."""

import copy
import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch._dynamo.exc import InternalTorchDynamoError
from torch.nn.functional import cross_entropy

from kjcm.engine import captured
from kjcm.engine.captured import CapturedClassifier, Steps
from kjcm.engine.data import Labelled, TokenData
from kjcm.engine.learning import Learning, ParamGroups, freeze
from kjcm.engine.module import Classifier
from kjcm.engine.saving import Saving, require_same_step
from kjcm.errors import ConfigError, KjcmError
from kjcm.model import layers
from kjcm.model.attention import Layout
from kjcm.model.covariates import add_covariates, covariates_of, plus_covariates
from kjcm.model.encoder import FirstToken, MeanPooled, build_encoder, can_pack
from kjcm.model.label_text import LabelText
from kjcm.model.layers import FrozenStates
from kjcm.model.losses import Finer
from kjcm.model.packing import pack
from kjcm.text.tokens import Tokens
from tests.engine.making import learning_of

CLASSES = tuple(f"{code}" for code in range(111, 118))
PAD, SIZE, ROWS = 1, 8, 61  # the last of 8 steps has 5 rows
COMMON = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": 40,
}  # fmt: skip
SHAPES: dict[str, dict[str, Any]] = {
    "distilbert": {
        "model_type": "distilbert", "n_layers": 2, "dim": 32, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 40,
    },
    "bert": {"model_type": "bert", **COMMON},
    "electra": {"model_type": "electra", "embedding_size": 16, **COMMON},
    "roberta": {"model_type": "roberta", **COMMON},
    "xlm-roberta": {"model_type": "xlm-roberta", **COMMON},
}  # fmt: skip
ADAM = learning_of("adam", 1e-3)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def encoder_of(kind: str, pooling: str = "cls") -> FirstToken | MeanPooled:
    encoder = build_encoder(
        pretrained=None, shape=SHAPES[kind], pooling=pooling, classes=len(CLASSES), vocabulary=50, pad=PAD,
        max_length=30, seed=0,
    )  # fmt: skip
    assert can_pack(encoder)
    return encoder


def without_dropout(encoder: Any) -> Any:
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return encoder


def rows_of(count: int = ROWS) -> Labelled:
    random = np.random.default_rng(5)
    labels = random.integers(0, len(CLASSES), count)
    texts = [[2, 5 + label, *random.integers(15, 50, random.integers(0, 20)), 3] for label in labels]
    starts = np.concatenate([[0], np.cumsum([len(text) for text in texts])])
    return Labelled(Tokens(np.concatenate(texts).astype(np.int32), starts), labels)


def data_of(engine: str) -> TokenData:
    titles = replace(rows_of(21), labels=np.arange(21) % len(CLASSES))
    return TokenData(
        {"train": rows_of(), "titles": titles}, PAD, batch_size=SIZE, seed=3, packed=engine != "reference",
        block=3 if engine == "captured" else None,
    )  # fmt: skip


def module_of(engine: str, encoder: Any, learning: Learning, **options: Any) -> Classifier:
    kind = CapturedClassifier if engine == "captured" else Classifier
    return kind(encoder, CLASSES, "hash", learning, 7, **options)


def trained(
    engine: str,
    encoder: Any,
    folder: Path,
    *,
    epochs: int = 2,
    precision: Any = "32-true",
    learning: Learning = ADAM,
    resume: bool = False,
    more: Sequence[pl.Callback] = (),
    accelerator: str = "cpu",
    **options: Any,
) -> tuple[pl.Trainer, Classifier]:
    module = module_of(engine, encoder, learning, **options)
    last = folder / "last.ckpt"
    trainer = pl.Trainer(
        accelerator=accelerator, devices=1, max_epochs=epochs, precision=precision, logger=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, use_distributed_sampler=False,
        callbacks=[ModelCheckpoint(folder, filename="last", every_n_epochs=1, save_on_train_epoch_end=True,
                                   enable_version_counter=False), *more],
    )  # fmt: skip
    trainer.fit(module, datamodule=data_of(engine), ckpt_path=str(last) if resume else None, weights_only=True)
    return trainer, module


class Stop(pl.Callback):
    """Interrupts a training before its third epoch."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 2:
            raise KeyboardInterrupt


def weights(module: Classifier) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in module.encoder.parameters()])


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("kind", SHAPES)
def test_packed_logits_and_gradients_are_those_of_padded_batches(kind: str, pooling: str) -> None:
    encoder, rows = without_dropout(encoder_of(kind, pooling)), rows_of()
    some = np.array([4, 0, 33, 7, 60])
    batch, labels = pack(rows.tokens, some), torch.from_numpy(rows.labels[some])
    ids = torch.from_numpy(rows.tokens.padded(some, PAD))
    mask = (torch.arange(ids.shape[1]) < torch.from_numpy(rows.tokens.lengths[some])[:, None]).long()
    layout = Layout(batch["starts"], batch["places"], batch["valid"])
    found = []
    for logits in (encoder(ids, mask), encoder.packed(batch["input_ids"], batch["positions"], layout)):
        encoder.zero_grad()
        cross_entropy(logits, labels).backward()
        found.append((logits.detach(), [weight.grad.clone() for weight in encoder.parameters()]))
    torch.testing.assert_close(found[1][0], found[0][0], atol=1e-5, rtol=1e-5)
    for packed, padded in zip(found[1][1], found[0][1], strict=True):
        torch.testing.assert_close(packed, padded, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", SHAPES)
def test_a_laid_out_batch_has_the_loss_and_gradients_of_its_rows_alone(kind: str) -> None:
    data = data_of("captured")
    module = module_of("captured", without_dropout(encoder_of(kind)), ADAM)
    laid = data.resident(2, CPU).lay_out(torch.arange(40, ROWS))  # 21 rows: two batches and 5 rows
    tokens, labels = data.sides["train"].tokens, data.sides["train"].labels
    assert laid["n_rows"].tolist() == [8, 8, 5]
    for step, rows in enumerate(np.array_split(np.arange(40, ROWS), [8, 16])):
        batch = pack(tokens, rows)
        layout = Layout(batch["starts"], batch["places"], batch["valid"])
        found = []
        for total in (
            cross_entropy(
                module.encoder.packed(batch["input_ids"], batch["positions"], layout),  # type: ignore[operator]
                torch.from_numpy(labels[rows]), reduction="sum",
            ),
            module.total_loss({name: tensor[step] for name, tensor in laid.items()}),  # type: ignore[operator]
        ):  # fmt: skip
            module.encoder.zero_grad()
            total.backward()
            found.append((total.detach(), [weight.grad.clone() for weight in module.encoder.parameters()]))  # type: ignore[union-attr]
        torch.testing.assert_close(found[1][0], found[0][0], atol=1e-4, rtol=1e-5)
        for one, other in zip(found[1][1], found[0][1], strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("engine", ["packed", "captured"])
@pytest.mark.parametrize(
    "learning",
    [learning_of("adam", 1e-3), learning_of("adamw", 2e-3, 0.01, 0.2, "linear", 0.5)],
    ids=["adam", "adamw"],
)
def test_engines_take_the_same_steps_as_the_reference(engine: str, learning: Learning, tmp_path: Path) -> None:
    encoder = without_dropout(encoder_of("distilbert"))
    runs = {
        name: trained(name, copy.deepcopy(encoder), tmp_path / name, learning=learning)
        for name in ("reference", engine)
    }
    (reference, expected), (trainer, found) = runs["reference"], runs[engine]
    assert trainer.global_step == reference.global_step == 16
    torch.testing.assert_close(weights(found), weights(expected), atol=2e-5, rtol=1e-3)
    for name in ("train_loss", "lr"):
        assert float(trainer.callback_metrics[name]) == pytest.approx(float(reference.callback_metrics[name]), rel=1e-4)


@pytest.mark.parametrize("engine", ["packed", "captured"])
def test_bf16_steps_use_the_weights_of_the_step_before(engine: str, tmp_path: Path) -> None:
    """Autocast keeps cast weights while it lasts, and a captured block is many steps under one autocast."""
    encoder, clipped = without_dropout(encoder_of("bert")), learning_of("adamw", 1e-3, clip=0.5)
    found = [
        weights(trained(name, copy.deepcopy(encoder), tmp_path / name, precision="bf16-mixed", learning=clipped)[1])
        for name in ("reference", engine)
    ]
    moved = (found[0] - torch.cat([weight.detach().flatten() for weight in encoder.parameters()])).norm()
    assert float((found[1] - found[0]).norm() / moved) < 0.1


SCHEDULED = learning_of("adamw", 1e-3, 0.01, 0.2, "linear", 0.5)
STEPS, EPOCHS = 8, 3


class Cut(BaseException):
    """The process was told to leave."""


def saved(engine: str, encoder: Any, folder: Path, step: int, learning: Learning = SCHEDULED) -> Path:
    """Train by an engine until it leaves after `step` steps or, with blocks, a little later; return its checkpoint."""
    folder.mkdir()
    trainers: list[pl.Trainer] = []

    class Watch(pl.Callback):
        def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            trainers.append(trainer)

    def leave(number: int) -> None:
        assert number == 15
        raise Cut

    saving = Saving(
        lambda number, state: torch.save(state, folder / f"{number}.ckpt"), math.inf,
        lambda: 15 * (trainers[0].global_step >= step), leave,
    )  # fmt: skip
    with pytest.raises(Cut):
        trained(engine, copy.deepcopy(encoder), folder, epochs=EPOCHS, learning=learning, more=[Watch(), saving])
    (file,) = (file for file in folder.glob("*.ckpt") if file.stem.isdigit())
    return file


def went_on(
    engine: str, encoder: Any, folder: Path, file: Path, learning: Learning = SCHEDULED
) -> tuple[pl.Trainer, Classifier]:
    """Train on from a checkpoint; what was drawn in between must not matter."""
    torch.manual_seed(12345)
    (folder / "last.ckpt").write_bytes(file.read_bytes())
    saving = Saving(lambda *_: None, math.inf, lambda: 0, lambda _: None)
    found = trained(
        engine, copy.deepcopy(encoder), folder, epochs=EPOCHS, learning=learning, resume=True, more=[saving]
    )
    assert found[0].global_step == STEPS * EPOCHS and found[0].current_epoch == EPOCHS
    assert found[0].fit_loop.epoch_loop._batches_that_stepped == STEPS * EPOCHS
    return found


@pytest.mark.parametrize(
    ("engine", "step"),
    [("reference", 3), ("packed", 7), ("packed", 8), ("packed", 13), ("captured", 3), ("captured", 14)],
)
def test_a_training_cut_between_any_two_steps_ends_with_the_same_bits(engine: str, step: int, tmp_path: Path) -> None:
    encoder = encoder_of("electra")
    whole, wanted = trained(engine, copy.deepcopy(encoder), tmp_path / "whole", epochs=EPOCHS, learning=SCHEDULED)
    file = saved(engine, encoder, tmp_path / "cut", step)
    assert int(file.stem) == step
    trainer, found = went_on(engine, encoder, tmp_path / "cut", file)
    assert torch.equal(weights(found), weights(wanted))
    # with one step left of an epoch, its mean loss is that of all its steps
    assert trainer.callback_metrics["train_loss"] == whole.callback_metrics["train_loss"]


@pytest.mark.parametrize(("other", "refused"), [(8, False), (5, True), (0, True)])
def test_processes_that_would_begin_at_different_steps_are_refused(
    other: int, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_another(ends: torch.Tensor, _: Any) -> None:
        ends.copy_(torch.maximum(ends, torch.tensor([other, -other])))

    monkeypatch.setattr(torch.distributed, "all_reduce", with_another)
    trainer: Any = SimpleNamespace(world_size=2, global_step=8, strategy=SimpleNamespace(root_device="cpu"))
    with pytest.raises(KjcmError, match=f"steps {other} to 8") if refused else nullcontext():
        require_same_step(trainer)


@pytest.mark.parametrize("step", [15, 23])
def test_the_mean_loss_of_a_resumed_epoch_is_that_of_all_its_steps(step: int, tmp_path: Path) -> None:
    encoder, losses = encoder_of("electra"), {}
    for name in ("whole", "cut"):
        noted = losses[name] = []

        class Note(pl.Callback):
            def on_train_epoch_end(self, trainer: pl.Trainer, module: Any, noted: list[float] = noted) -> None:
                noted.append(float(module.train_loss.compute()))

        folder = tmp_path / name
        if name == "whole":
            trained("packed", copy.deepcopy(encoder), folder, epochs=EPOCHS, learning=SCHEDULED, more=[Note()])
        else:
            (folder / "last.ckpt").write_bytes(saved("packed", encoder, folder, step).read_bytes())
            saving = Saving(lambda *_: None, math.inf, lambda: 0, lambda _: None)
            trained("packed", copy.deepcopy(encoder), folder, epochs=EPOCHS, learning=SCHEDULED, resume=True,
                    more=[saving, Note()])  # fmt: skip
    assert losses["cut"] == losses["whole"][step // STEPS :] and len(set(losses["whole"])) == EPOCHS


@pytest.mark.parametrize(
    ("first", "then", "step"),
    [("packed", "captured", 2), ("packed", "captured", 12), ("captured", "packed", 11), ("captured", "reference", 6)],
)
def test_a_training_cut_in_an_epoch_goes_on_in_another_engine(first: str, then: str, step: int, tmp_path: Path) -> None:
    """Steps are no whole block there, and the schedule goes on from the very step."""
    encoder = without_dropout(encoder_of("distilbert"))
    whole, wanted = trained(then, copy.deepcopy(encoder), tmp_path / "whole", epochs=EPOCHS, learning=SCHEDULED)
    trainer, found = went_on(then, encoder, tmp_path / "cut", saved(first, encoder, tmp_path / "cut", step))
    torch.testing.assert_close(weights(found), weights(wanted), atol=2e-5, rtol=1e-3)
    for name in ("train_loss", "lr"):
        assert float(trainer.callback_metrics[name]) == pytest.approx(float(whole.callback_metrics[name]), rel=1e-4)


def test_dropout_of_a_captured_step_does_not_depend_on_the_block(tmp_path: Path) -> None:
    found = []
    for block in (1, 3, 8):
        data, module = data_of("captured"), module_of("captured", encoder_of("distilbert"), ADAM)
        data.block = block
        trainer = pl.Trainer(
            accelerator="cpu", max_epochs=2, logger=False, enable_progress_bar=False, enable_model_summary=False,
            enable_checkpointing=False, default_root_dir=tmp_path, use_distributed_sampler=False,
        )  # fmt: skip
        trainer.fit(module, datamodule=data)
        found.append(weights(module))
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


@pytest.mark.parametrize("engine", ["packed", "captured"])
def test_a_resumed_training_ends_with_the_same_bits(engine: str, tmp_path: Path) -> None:
    learning = learning_of("adamw", 1e-3, 0.01, 0.2, "linear", 0.5)
    encoder = encoder_of("electra")
    whole = weights(trained(engine, copy.deepcopy(encoder), tmp_path / "whole", epochs=3, learning=learning)[1])

    with pytest.raises((KeyboardInterrupt, SystemExit)):
        trained(engine, copy.deepcopy(encoder), tmp_path / "cut", epochs=3, learning=learning, more=[Stop()])
    resumed = trained(engine, copy.deepcopy(encoder), tmp_path / "cut", epochs=3, learning=learning, resume=True)
    assert resumed[0].global_step == 24
    assert torch.equal(weights(resumed[1]), whole)


@pytest.mark.parametrize(("first", "then"), [("packed", "captured"), ("captured", "packed")])
def test_a_training_goes_on_in_another_engine(first: str, then: str, tmp_path: Path) -> None:
    """engine=auto is another one on another device: the schedule must go on from the step that it had reached."""
    learning = learning_of("adamw", 2e-3, 0.01, 0.2, "linear")
    encoder = without_dropout(encoder_of("distilbert"))
    expected = weights(trained(then, copy.deepcopy(encoder), tmp_path / "whole", epochs=3, learning=learning)[1])

    with pytest.raises((KeyboardInterrupt, SystemExit)):
        trained(first, copy.deepcopy(encoder), tmp_path / "cut", epochs=3, learning=learning, more=[Stop()])
    trainer, found = trained(then, copy.deepcopy(encoder), tmp_path / "cut", epochs=3, learning=learning, resume=True)
    assert float(trainer.callback_metrics["lr"]) == pytest.approx(0)
    torch.testing.assert_close(weights(found), expected, atol=2e-5, rtol=1e-3)


def test_where_nothing_can_be_compiled_it_says_so_and_goes_on_unless_it_has_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any) -> None:
        raise InternalTorchDynamoError("Failed to find C compiler.")

    def captures(step: Any, *rest: Any) -> Steps:  # which runs the step, as it does on a card alone
        if step.args[0] is fails:
            fails()
        return Steps(step, *rest)

    encoder = encoder_of("distilbert")
    expected = weights(trained("captured", copy.deepcopy(encoder), tmp_path / "expected")[1])
    monkeypatch.setattr(CapturedClassifier, "compiles", True)
    monkeypatch.setattr(captured, "Steps", captures)
    monkeypatch.setattr(torch, "compile", lambda *_, **__: fails)
    with pytest.raises(KjcmError, match=r"C compiler.*engine\.compile=false"):
        trained("captured", copy.deepcopy(encoder), tmp_path / "strict")
    with caplog.at_level("WARNING", "kjcm"):
        _, found = trained("captured", encoder, tmp_path / "auto", strict=False)
    (said,) = (record.getMessage() for record in caplog.records if record.name == "kjcm")
    assert said.startswith("torch.compile failed (Failed to find C compiler.)") and "uncompiled" in said
    assert torch.equal(weights(found), expected)


def test_more_shapes_than_torch_compiles_by_itself_are_compiled() -> None:
    """A search over encoders or batch sizes makes many in one process; torch's own limit is eight of one function."""
    compiled = []

    def backend(graph: Any, inputs: Any) -> Any:
        compiled.append(len(inputs))
        return graph.forward

    torch._dynamo.reset()  # what other tests have compiled counts
    batch = {name: tensor[0] for name, tensor in data_of("captured").resident(1, CPU).lay_out(torch.arange(8)).items()}
    for classes in range(len(CLASSES), len(CLASSES) + 12):
        encoder = build_encoder(
            pretrained=None, shape=SHAPES["distilbert"], pooling="cls", classes=classes, vocabulary=50, pad=PAD,
            max_length=30, seed=0,
        )  # fmt: skip
        assert can_pack(encoder)
        module = module_of("captured", encoder, ADAM)
        with captured._compiling():
            torch.compile(module.total_loss, dynamic=False, backend=backend)(batch)
    assert len(compiled) == 12


def test_attention_dropout_can_be_left_out_and_nothing_else_is(tmp_path: Path) -> None:
    encoder = encoder_of("distilbert")
    rows = rows_of()
    batch = {**pack(rows.tokens, np.arange(8)), "labels": torch.from_numpy(rows.labels[:8])}
    only = copy.deepcopy(encoder)  # attention's dropout alone
    for name, part in only.named_modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.5 if name.endswith("attention.dropout") else 0.0

    def logits(encoder: Any, attention_dropout: bool) -> Tensor:
        torch.manual_seed(1)
        module = module_of("packed", encoder, learning_of("adam", 1e-3), attention_dropout=attention_dropout)
        return module(batch).detach()  # type: ignore[no-any-return]

    none = without_dropout(copy.deepcopy(encoder))
    assert not torch.allclose(logits(only, True), logits(none, True))
    torch.testing.assert_close(logits(only, False), logits(none, True))
    assert not torch.allclose(logits(encoder, False), logits(none, True))  # the others still drop


@pytest.mark.parametrize("kind", ["distilbert", "xlm-roberta", "groups below", "covariates"])
def test_a_laid_out_step_compiles_whole(kind: str) -> None:
    """torch.compile sees the whole step: a break in its graph would cost speed. No weight may lose its gradient."""
    torch._dynamo.reset()
    encoder, learning = with_groups_below(0.5) if kind in ("groups below", "covariates") else (encoder_of(kind), ADAM)
    data, module = data_of("captured"), module_of("captured", without_dropout(encoder), learning)
    if kind == "covariates":
        add_covariates(encoder, len(CLASSES), 4)
        module._covariates = torch.rand(ROWS, 4)  # type: ignore[assignment]
    laid = data.resident(1, CPU).lay_out(torch.arange(16))
    compiled = torch.compile(module.total_loss, dynamic=False, fullgraph=True, backend="aot_eager")  # type: ignore[call-overload]
    for step in range(2):
        batch = {name: tensor[step] for name, tensor in laid.items()}
        found = []
        for loss_of in (compiled, module.total_loss):
            module.zero_grad()
            loss = loss_of(batch)
            loss.backward()
            found.append((loss.detach(), [weight.grad for weight in module.encoder.parameters()]))
        torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("attention_dropout", [True, False])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_captured_steps_on_a_card_are_those_of_the_reference(
    precision: str, attention_dropout: bool, tmp_path: Path
) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    learning = learning_of("adamw", 1e-3, 0.01, 0.2, "linear", 0.5)  # a learning rate of each step's own
    encoder = without_dropout(encoder_of("distilbert"))
    start = torch.cat([weight.detach().flatten() for weight in encoder.parameters()])
    found = []
    for engine, options in (("reference", {}), ("captured", {"attention_dropout": attention_dropout})):
        module = module_of(engine, copy.deepcopy(encoder), learning, **options)
        trainer = pl.Trainer(
            accelerator="gpu", devices=1, max_epochs=3, precision=precision, logger=False, enable_progress_bar=False,
            enable_model_summary=False, enable_checkpointing=False, default_root_dir=tmp_path,
        )  # type: ignore[arg-type] # fmt: skip
        trainer.fit(module, datamodule=data_of(engine))
        assert trainer.global_step == 24
        found.append((weights(module).cpu(), float(trainer.callback_metrics["train_loss"])))
    distance = float((found[1][0] - found[0][0]).norm() / (found[0][0] - start).norm())
    assert distance < (0.02 if precision == "32-true" else 0.2)
    assert found[1][1] == pytest.approx(found[0][1], rel=1e-3 if precision == "32-true" else 3e-2)


@pytest.mark.gpu
@pytest.mark.parametrize(("first", "then"), [("gpu", "gpu"), ("cpu", "gpu"), ("gpu", "cpu")])
def test_a_captured_training_goes_on_on_another_device(first: str, then: str, tmp_path: Path) -> None:
    """The optimiser's state and learning rate lie on the device in a captured step, and on a CPU they do not."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    learning = learning_of("adamw", 2e-3, 0.01, 0.2, "linear")
    encoder = without_dropout(encoder_of("distilbert"))
    how: dict[str, Any] = {"epochs": 3, "learning": learning}
    whole = trained("captured", copy.deepcopy(encoder), tmp_path / "whole", accelerator=then, **how)[1]
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        trained("captured", copy.deepcopy(encoder), tmp_path / "cut", accelerator=first, more=[Stop()], **how)
    trainer, found = trained("captured", copy.deepcopy(encoder), tmp_path / "cut", accelerator=then, resume=True, **how)
    assert trainer.global_step == 24 and float(trainer.callback_metrics["lr"]) == pytest.approx(0)
    torch.testing.assert_close(weights(found).cpu(), weights(whole).cpu(), atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize(("kind", "pooling", "depth"), [
    ("distilbert", "cls", 1), ("distilbert", "cls", 2), ("distilbert", "mean", 1), ("bert", "mean", 0), ("electra", "cls", 1),
    ("roberta", "mean", 1), ("xlm-roberta", "cls", 1),
])  # fmt: skip
def test_stored_states_of_frozen_layers_train_the_same_weights(
    kind: str, pooling: str, depth: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, runs = encoder_of(kind, pooling), {}
    used, packed = [], FrozenStates.packed
    monkeypatch.setattr(FrozenStates, "packed", lambda *given: used.append(cached) or packed(*given))
    frozen = ParamGroups(freeze_embeddings=True, freeze_layers=depth)
    freeze(encoder, frozen)
    for name, block in encoder.named_modules():  # dropout above the frozen layers stays, and draws the same numbers
        below = name.endswith("embeddings") or any(name.endswith(f"layer.{number}") for number in range(depth))
        if below:
            without_dropout(block)
            for part in block.modules():
                if hasattr(part, "dropout_prob"):
                    part.dropout_prob = 0.0
    for cached in (False, True):
        learning = replace(learning_of("adam", 1e-3), groups=replace(frozen, cache_frozen=cached))
        attention = {"attention_dropout": False}
        made = copy.deepcopy(encoder)
        trainer, runs[cached] = trained("packed", made, tmp_path / str(cached), learning=learning, **attention)
    names = {name for name, weight in encoder.named_parameters() if not weight.requires_grad}
    assert names and not runs[True]._frozen
    assert used == [True] * trainer.global_step  # each step of the training on stored states, and no other
    for (name, start), (_, wanted), (_, found) in zip(
        encoder.named_parameters(),
        *(runs[cached].encoder.named_parameters() for cached in (False, True)),
        strict=True,
    ):
        if name in names:
            assert torch.equal(found, start), name
        else:
            assert not torch.equal(found, start), name
            torch.testing.assert_close(found, wanted, atol=2e-5, rtol=1e-3)


def test_a_training_on_stored_states_resumes_with_the_same_bits(tmp_path: Path) -> None:
    encoder = encoder_of("electra")
    groups = ParamGroups(freeze_embeddings=True, freeze_layers=1, cache_frozen=True)
    freeze(encoder, groups)
    learning = replace(SCHEDULED, groups=groups)
    _, wanted = trained("packed", copy.deepcopy(encoder), tmp_path / "whole", epochs=EPOCHS, learning=learning)
    file = saved("packed", encoder, tmp_path / "cut", 11, learning)
    _, found = went_on("packed", encoder, tmp_path / "cut", file, learning)
    assert torch.equal(weights(found), weights(wanted))


def test_states_that_need_too_much_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = rows_of().tokens
    monkeypatch.setattr(layers, "MOST_STATES", 2 * len(tokens.ids) * 32 * 4)
    sides = {"train": tokens, "titles": tokens, "validation": tokens}
    layers.require_room(sides, 32)
    with pytest.raises(ConfigError, match="cache_frozen"):
        layers.require_room(sides, 33)


def with_titles(encoder: Any) -> Any:
    """Return an encoder whose head compares texts with the titles of `data_of`."""
    encoder.head = LabelText.of(32, [row % len(CLASSES) for row in range(21)], CLASSES, both=True, dropout=0.1)
    return encoder


@pytest.mark.parametrize("engine", ["packed", "captured"])
def test_a_head_of_titles_learns_alike_in_every_engine(engine: str, tmp_path: Path) -> None:
    encoder = without_dropout(with_titles(encoder_of("bert", "mean")))
    before = encoder.head.vectors.clone()
    learning = Learning({"_target_": "torch.optim.SGD", "lr": 0.01})  # Adam would enlarge the noise of gradients near 0
    (_, wanted), (_, found) = (
        trained(name, copy.deepcopy(encoder), tmp_path / name, learning=learning) for name in ("reference", engine)
    )
    assert not torch.equal(found.encoder.head.vectors, before)
    for name, value in wanted.state_dict().items():
        if not name.startswith(("validation", "test", "train")):
            torch.testing.assert_close(found.state_dict()[name], value, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("step", [8, 11])
def test_a_head_of_titles_resumes_with_the_same_bits(step: int, tmp_path: Path) -> None:
    encoder = with_titles(encoder_of("bert", "mean"))
    groups = ParamGroups(freeze_embeddings=True, freeze_layers=1, cache_frozen=True)
    freeze(encoder, groups)
    learning = replace(SCHEDULED, groups=groups)
    _, wanted = trained("packed", copy.deepcopy(encoder), tmp_path / "whole", epochs=EPOCHS, learning=learning)
    file = saved("packed", encoder, tmp_path / "cut", step, learning)
    _, found = went_on("packed", encoder, tmp_path / "cut", file, learning)
    for name, value in wanted.encoder.state_dict().items():
        assert torch.equal(found.encoder.state_dict()[name], value), name


GROUPS = torch.from_numpy(np.where(np.arange(ROWS) % 3 == 0, -100, rows_of().labels * 2 + np.arange(ROWS) % 2))


def with_groups_below(weight: float, learning: Learning = ADAM, groups: Tensor = GROUPS) -> tuple[Any, Learning]:
    """Return an encoder that learns the groups below the classes too, and how it learns."""
    encoder = encoder_of("bert", "mean")
    encoder.finer = encoder.new_head(2 * len(CLASSES))
    return encoder, replace(learning, finer=Finer(groups, weight))


@pytest.mark.parametrize("engine", ["packed", "captured"])
def test_engines_learn_the_groups_below_alike(engine: str, tmp_path: Path) -> None:
    descent = Learning({"_target_": "torch.optim.SGD", "lr": 0.05})  # Adam would enlarge the noise of gradients near 0
    encoder, learning = with_groups_below(0.5, descent)
    without_dropout(encoder)
    found = {
        name: trained(name, copy.deepcopy(encoder), tmp_path / name, learning=learning)[1]
        for name in ("reference", engine)
    }
    torch.testing.assert_close(weights(found[engine]), weights(found["reference"]), atol=1e-4, rtol=1e-3)
    moved = found[engine].encoder.finer.weight - encoder.finer.weight  # type: ignore[union-attr, operator]
    assert float(moved.detach().abs().max()) > 1e-3


def test_rows_without_a_group_below_change_nothing(tmp_path: Path) -> None:
    encoder, learning = with_groups_below(0.5, groups=torch.full((ROWS,), -100))
    before = copy.deepcopy(encoder.finer.state_dict())
    without_dropout(encoder)
    plain = copy.deepcopy(encoder)
    plain.finer = None
    _, found = trained("packed", encoder, tmp_path / "finer", epochs=1, learning=learning)
    _, wanted = trained("packed", plain, tmp_path / "plain", epochs=1)
    for name, value in wanted.encoder.state_dict().items():
        torch.testing.assert_close(found.encoder.state_dict()[name], value)
    assert all(torch.equal(value, before[name]) for name, value in found.encoder.finer.state_dict().items())  # type: ignore[union-attr]


@pytest.mark.parametrize("cached", [False, True])
def test_a_training_of_the_groups_below_resumes_with_the_same_bits(cached: bool, tmp_path: Path) -> None:
    groups = ParamGroups(freeze_embeddings=cached, freeze_layers=int(cached), cache_frozen=cached, head_factor=10.0)
    encoder, learning = with_groups_below(0.5, replace(SCHEDULED, groups=groups))
    freeze(encoder, groups)
    _, wanted = trained("packed", copy.deepcopy(encoder), tmp_path / "whole", epochs=EPOCHS, learning=learning)
    file = saved("packed", encoder, tmp_path / "cut", 11, learning)
    _, found = went_on("packed", encoder, tmp_path / "cut", file, learning)
    assert torch.equal(weights(found), weights(wanted))
    assert found.encoder.finer.weight.shape == (14, 32)  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["distilbert", "electra"])
def test_engines_learn_from_covariates_alike(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, plain = rows_of(), rows_of
    values = np.random.default_rng(3).random((ROWS, 4)).astype(np.float32)
    monkeypatch.setattr(
        f"{__name__}.rows_of", lambda count=ROWS: replace(rows, covariates=values) if count == ROWS else plain(count)
    )
    encoder, runs = without_dropout(encoder_of(kind)), {}
    before = weights(module_of("packed", encoder, ADAM))
    add_covariates(encoder, len(CLASSES), 4)
    for engine in ("reference", "packed", "captured"):
        _, runs[engine] = trained(engine, copy.deepcopy(encoder), tmp_path / engine, epochs=1)
    learnt = covariates_of(runs["reference"].encoder)
    assert learnt is not None and float(learnt.detach().abs().max()) > 1e-3
    assert len(weights(runs["reference"])) == len(before) + len(CLASSES) * 4
    for engine in ("packed", "captured"):
        torch.testing.assert_close(weights(runs[engine]), weights(runs["reference"]), atol=1e-4, rtol=1e-3)


def test_weights_of_covariates_begin_at_the_logits_of_the_text_alone() -> None:
    encoder, values = without_dropout(encoder_of("bert", "mean")), torch.rand(2, 4)
    batch = {**pack(rows_of().tokens, np.array([3, 5])), "rows": torch.tensor([3, 5])}
    batch = {name: torch.as_tensor(value) for name, value in batch.items()}
    module = module_of("packed", encoder, ADAM).eval()
    text = module(batch)
    add_covariates(encoder, len(CLASSES), 4)
    assert torch.equal(module({**batch, "covariates": values}), text)
    weight = covariates_of(encoder)
    assert weight is not None
    torch.nn.init.ones_(weight)
    torch.testing.assert_close(module({**batch, "covariates": values}), text + values.sum(1, keepdim=True))
    below = torch.zeros(2, len(CLASSES) + 3)  # logits of the groups below get nothing
    assert plus_covariates(below, weight, values)[:, len(CLASSES) :].abs().sum() == 0


def test_engines_weigh_the_rows_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of()
    rows = replace(rows, weights=np.where(rows.labels == 2, 0.5, 1.5).astype(np.float32))
    encoder, runs = without_dropout(encoder_of("distilbert")), {}
    _, unweighted = trained("packed", copy.deepcopy(encoder), tmp_path / "plain", epochs=1)
    plain = rows_of
    monkeypatch.setattr(f"{__name__}.rows_of", lambda count=ROWS: rows if count == ROWS else plain(count))
    for engine in ("reference", "packed", "captured"):
        _, runs[engine] = trained(engine, copy.deepcopy(encoder), tmp_path / engine, epochs=1)
    for engine in ("packed", "captured"):
        torch.testing.assert_close(weights(runs[engine]), weights(runs["reference"]), atol=2e-5, rtol=1e-3)
    assert float((weights(runs["reference"]) - weights(unweighted)).abs().max()) > 1e-4
