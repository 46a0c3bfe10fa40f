"""The LightningModule under a real Trainer: it learns, resumes bit by bit, and means the same on several processes."""

import itertools
from collections.abc import Iterator
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
from torch.nn.functional import cross_entropy

from kjcm.engine.data import Labelled, TokenBatches, TokenData
from kjcm.engine.learning import Learning
from kjcm.engine.module import Classifier
from kjcm.errors import KjcmError
from kjcm.model.encoder import build_encoder
from kjcm.model.losses import Finer
from kjcm.text.tokens import Tokens
from tests.engine.making import learning_of

CODES = ("111", "222", "333", "444")
ROWS, SIZE = 37, 8  # five steps an epoch, the last of 5 rows
ADAM = learning_of("adam", 1e-3)


@pytest.fixture(autouse=True)
def _surroundings() -> Iterator[None]:
    torch.set_num_threads(1)
    yield
    torch.use_deterministic_algorithms(False)


def labelled(rows: int = ROWS, seed: int = 0, codes: int = len(CODES)) -> Labelled:
    """Return texts of 3 to 8 tokens, one of which tells the class."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, codes, rows)
    texts = [[2, 5 + label, *random.integers(15, 30, random.integers(0, 6)), 3] for label in labels]
    starts = np.concatenate([[0], np.cumsum([len(text) for text in texts])])
    return Labelled(Tokens(np.concatenate(texts).astype(np.int32), starts), labels)


def module_of(
    learning: Learning = ADAM,
    dropout: float = 0.0,
    codes: tuple[str, ...] = CODES,
    pooling: str = "cls",
    finer: int = 0,
    **unseen: int,
) -> Classifier:
    shape = {
        "model_type": "distilbert", "n_layers": 1, "dim": 32, "n_heads": 4, "hidden_dim": 64,
        "max_position_embeddings": 16, "dropout": dropout, "attention_dropout": dropout, "seq_classif_dropout": dropout,
    }  # fmt: skip
    encoder = build_encoder(
        pretrained=None, shape=shape, pooling=pooling, classes=len(codes), vocabulary=30, pad=1, max_length=16, seed=0,
        finer=finer,
    )  # fmt: skip
    return Classifier(encoder, codes, "-".join(codes), learning, 7, unseen)


def data_of(**sides: Labelled) -> TokenData:
    return TokenData({"train": labelled(), **sides}, 1, batch_size=SIZE, seed=3, workers=0, eval_batch_size=16)


def trainer_of(epochs: int, *callbacks: pl.Callback, **changed: Any) -> pl.Trainer:
    options = {
        "accelerator": "cpu", "devices": 1, "precision": "32-true", "deterministic": True, "logger": False,
        "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "enable_checkpointing": any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
    }  # fmt: skip
    return pl.Trainer(**{**options, "max_epochs": epochs, "callbacks": [*callbacks], **changed})


def weights(module: Classifier) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in module.encoder.named_parameters()}


class Diary(pl.Callback):
    """What each step and epoch was like; the power fails before the epoch `until`."""

    def __init__(self, until: int | None = None) -> None:
        self.until = until
        self.losses: list[float] = []
        self.rates: list[float] = []
        self.rows: list[list[int]] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.on_train_end(trainer, pl_module)
        if trainer.current_epoch == self.until:
            raise RuntimeError("the power failed")

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        self.rows.append(batch["rows"].tolist())

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if "train_loss" in trainer.callback_metrics:  # of the epoch before: the module logs after the callbacks
            self.losses.append(float(trainer.callback_metrics["train_loss"]))


def checkpoint(folder: Path) -> ModelCheckpoint:
    """As `kjcm train` keeps it."""
    return ModelCheckpoint(
        str(folder), filename="last", every_n_epochs=1, save_on_train_epoch_end=True, enable_version_counter=False
    )


def test_it_learns_and_keeps_what_it_predicts() -> None:
    module, diary, test = module_of(learning_of("adam", 5e-3)), Diary(), labelled(50, seed=1)
    data = data_of(test=test)
    trainer = trainer_of(12, diary)
    trainer.fit(module, datamodule=data)
    assert diary.losses[0] > 1.0 and diary.losses[-1] < 0.2 * diary.losses[0]
    trainer.test(module, datamodule=data, verbose=False)
    metrics, _ = module.test_scores.summary()
    assert metrics["accuracy"] > 0.9
    rows, top, prob = (
        torch.cat([getattr(part, name) for part in module.predicted]) for name in ("rows", "top", "prob")
    )
    assert sorted(rows.tolist()) == list(range(50))
    assert (top[:, 0] == torch.from_numpy(test.labels)[rows]).double().mean().item() == pytest.approx(
        metrics["accuracy"]
    )
    batch = TokenBatches(test, 1, packed=False)[rows.numpy(), 50]
    with torch.no_grad():
        wanted = module.eval()(batch).softmax(1)
    torch.testing.assert_close(prob, wanted.gather(1, top), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(prob.sum(1), torch.ones(50))
    assert (prob.diff(dim=1) <= 0).all()


def test_losses_that_are_logged_are_means_over_rows() -> None:
    """With nothing learnt, they are the cross-entropy of all rows; a code without a class has no loss."""
    module, diary, held = module_of(learning_of("adam", 0.0), validation=1), Diary(), labelled(40, seed=2, codes=5)
    trainer = trainer_of(1, diary)
    trainer.fit(module, datamodule=data_of(validation=held))

    def mean_loss(rows: Labelled) -> float:
        chosen = np.flatnonzero(rows.labels < len(CODES))
        batch = TokenBatches(rows, 1, packed=False)[chosen, len(chosen)]
        with torch.no_grad():
            return cross_entropy(module.eval()(batch), batch["labels"]).item()

    assert 0 < (held.labels == 4).sum() < 40
    assert diary.losses == pytest.approx([mean_loss(labelled())], rel=1e-5)
    assert trainer.callback_metrics["val_loss"].item() == pytest.approx(mean_loss(held), rel=1e-5)
    assert trainer.callback_metrics["val_accuracy"].item() < 1.0


def test_resumed_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    plan = learning_of("adamw", 1e-3, weight_decay=0.01, warmup=0.2, schedule="linear", clip=1.0)

    def run(*callbacks: pl.Callback, resume: Path | None = None) -> dict[str, Tensor]:
        module = module_of(plan, dropout=0.3)
        trainer_of(3, *callbacks).fit(module, datamodule=data_of(), ckpt_path=resume, weights_only=True)
        return weights(module)

    whole, before, after = Diary(), Diary(until=1), Diary()
    wanted = run(whole)
    with pytest.raises(RuntimeError, match="the power failed"):
        run(before, checkpoint(tmp_path))
    torch.manual_seed(12345)  # what else was drawn in between must not matter
    found = run(after, resume=tmp_path / "last.ckpt")
    assert before.rows + after.rows == whole.rows and len(after.rows) == 10
    assert before.rates + after.rates == whole.rates
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert after.losses == whole.losses[1:]
    assert whole.rows[:5] != whole.rows[5:10]  # another order every epoch
    assert sorted(itertools.chain(*whole.rows[5:10])) == list(range(ROWS))


@pytest.mark.parametrize("codes", [("111", "222", "333", "555"), (*CODES, "555")])
def test_checkpoint_of_other_classes_is_refused(tmp_path: Path, codes: tuple[str, ...]) -> None:
    trainer_of(1, checkpoint(tmp_path)).fit(module_of(), datamodule=data_of())
    stored = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert stored["kjcm"]["classes"] == [*CODES] and stored["kjcm"]["classes_hash"] == "-".join(CODES)
    with pytest.raises(KjcmError, match="other classes"):
        trainer_of(2).fit(
            module_of(codes=codes), datamodule=data_of(), ckpt_path=tmp_path / "last.ckpt", weights_only=True
        )


@pytest.mark.parametrize(
    ("warmup", "schedule", "wanted"),
    [
        (0.0, "constant", [1.0] * 20),
        (0.25, "constant", [(step + 1) / 6 for step in range(5)] + [1.0] * 15),
        (0.25, "linear", [(step + 1) / 6 for step in range(5)] + [(20 - step) / 15 for step in range(5, 20)]),
        (0.0, "linear", [(20 - step) / 20 for step in range(20)]),
    ],
)
def test_schedule(warmup: float, schedule: str, wanted: list[float]) -> None:
    diary = Diary()
    trainer_of(4, diary).fit(
        module_of(learning_of("adamw", 1e-3, warmup=warmup, schedule=schedule)), datamodule=data_of()
    )
    assert diary.rates == pytest.approx([1e-3 * factor for factor in wanted], rel=1e-6)


@pytest.mark.parametrize(("rows", "world"), [(8, 2), (7, 2), (8, 3), (1, 2)])
def test_processes_average_to_the_whole_batch(rows: int, world: int) -> None:
    """DDP averages gradients; unequal shares, and a share without rows, must not tilt them."""
    batches = TokenBatches(labelled(), 1, packed=False)
    numbers = np.arange(20, 20 + rows)

    class Stub:
        world_size = world

    def gradients(chosen: np.ndarray[Any, Any]) -> dict[str, Tensor]:
        module, stub = module_of(), Stub()
        module.trainer = stub
        module.log = lambda *_, **__: None
        module.training_step(batches[chosen, rows]).backward()
        return {name: weight.grad for name, weight in module.encoder.named_parameters()}

    shares = [gradients(numbers[rank::world]) for rank in range(world)]
    module = module_of()
    whole = batches[numbers, rows]
    cross_entropy(module(whole), whole["labels"]).backward()
    for name, weight in module.encoder.named_parameters():
        mean = torch.stack([share[name] for share in shares]).mean(0)
        torch.testing.assert_close(mean, weight.grad, rtol=1e-4, atol=1e-7, msg=name)


@pytest.mark.parametrize(("rows", "world"), [(7, 2), (1, 2)])
def test_processes_average_the_loss_below_the_classes_too(rows: int, world: int) -> None:
    batches, numbers = TokenBatches(labelled(), 1, packed=False), np.arange(20, 20 + rows)
    groups = torch.from_numpy(np.where(np.arange(ROWS) % 2, -100, np.arange(ROWS) % 3))

    def gradients(chosen: np.ndarray[Any, Any], processes: int) -> list[Tensor]:
        module = module_of(replace(ADAM, finer=Finer(groups, 0.5)), pooling="mean", finer=3)
        module.trainer = SimpleNamespace(world_size=processes)  # type: ignore[assignment]
        module.log = lambda *_, **__: None  # type: ignore[method-assign]
        module.training_step(batches[chosen, rows]).backward()
        return [weight.grad for weight in module.encoder.parameters() if weight.grad is not None]

    (whole, *shares) = (gradients(numbers, 1), *(gradients(numbers[rank::world], world) for rank in range(world)))
    for each, *parts in zip(whole, *shares, strict=True):
        torch.testing.assert_close(torch.stack(parts).mean(0), each, rtol=1e-4, atol=1e-7)


def test_divergence_is_said() -> None:
    with pytest.raises(KjcmError, match=r"The training loss is (nan|inf) in epoch 1.*optim\.lr \(now 1e\+30\)"):
        trainer_of(1).fit(module_of(learning_of("adam", 1e30)), datamodule=data_of())


class Step(pl.Callback):
    """The loss and the gradients of the first step."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.loss = float(outputs["loss"])

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.gradient = torch.cat([weight.grad.float().cpu().flatten() for weight in pl_module.encoder.parameters()])


def one_step(**device: Any) -> Step:
    step = Step()
    trainer_of(1, step, max_steps=1, **device).fit(module_of(), datamodule=data_of())
    return step


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_step_in_bf16_on_the_gpu_is_close_to_fp32_on_the_cpu() -> None:
    wanted, found = one_step(), one_step(accelerator="gpu", precision="bf16-mixed", deterministic=False)
    assert found.loss == pytest.approx(wanted.loss, rel=0.02)
    assert torch.cosine_similarity(found.gradient, wanted.gradient, dim=0) > 0.99
    assert found.gradient.norm().item() == pytest.approx(wanted.gradient.norm().item(), rel=0.05)
