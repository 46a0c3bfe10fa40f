"""The installed Lightning has the internals that kjcm uses, and they mean what kjcm takes them to mean."""

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from kjcm.engine import lightning_internals as internals

STEPS = 5  # an epoch


class Plain(pl.LightningModule):
    """One weight; manually optimised, it counts each batch as two steps."""

    def __init__(self, manual: bool = False) -> None:
        super().__init__()
        self.weight, self.automatic_optimization = torch.nn.Parameter(torch.zeros(1)), not manual

    def training_step(self, batch: list[Tensor]) -> Tensor | None:
        loss = (self.weight - batch[0]).square().mean()
        if self.automatic_optimization:
            return loss
        internals.count_steps(self.trainer, 2)
        return None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Look(pl.Callback):
    """Calls a function before one step of an epoch."""

    def __init__(self, epoch: int, step: int, look: Any) -> None:
        self._at, self._look = (epoch, step), look

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if (trainer.current_epoch, batch_idx) == self._at:
            self._look(trainer)


def trainer_of(folder: Path, *callbacks: pl.Callback) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu", devices=1, max_epochs=3, logger=False, enable_progress_bar=False, enable_checkpointing=False,
        enable_model_summary=False, default_root_dir=folder, callbacks=[*callbacks],
    )  # fmt: skip


def rows() -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.ones(STEPS)), batch_size=1)


@pytest.mark.parametrize(("epoch", "step"), [(0, 2), (1, 0), (2, 3)])
def test_loops_at_a_position_are_those_of_a_training_there(epoch: int, step: int, tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    look = Look(epoch, step, lambda trainer: seen.append(internals.checkpoint_of(trainer)))
    trainer_of(tmp_path, look).fit(Plain(), rows())
    (found,) = seen
    wanted = found["loops"]["fit_loop"]
    made = internals.loops_at(trainer_of(tmp_path), internals.Position(epoch, step, STEPS, 1))
    assert set(made) == set(wanted), "Lightning's loops have other states than before"
    assert found["global_step"] == epoch * STEPS + step
    optimizer = "epoch_loop.automatic_optimization.optim_progress"
    assert made[optimizer]["optimizer"]["step"]["total"] == wanted[optimizer]["optimizer"]["step"]["total"]
    assert made["epoch_loop.state_dict"] == wanted["epoch_loop.state_dict"]
    if step:
        # Lightning has counted the batch whose step is to come as ready
        ready = {**made["epoch_loop.batch_progress"]["current"], "ready": step + 1}
        assert wanted["epoch_loop.batch_progress"]["current"] == ready
        assert made["epoch_progress"]["current"] == wanted["epoch_progress"]["current"]


@pytest.mark.parametrize(("epoch", "step"), [(0, 2), (2, 3)])
def test_a_training_resumes_at_a_position_made_up_for_it(epoch: int, step: int, tmp_path: Path) -> None:
    states: list[dict[str, Any]] = []
    look = Look(0, 0, lambda trainer: states.append(internals.checkpoint_of(trainer)))
    trainer_of(tmp_path, look).fit(Plain(), rows())
    position = internals.Position(epoch, step, STEPS, 1)
    states[0]["loops"]["fit_loop"] = internals.loops_at(trainer_of(tmp_path), position)
    torch.save(states[0], tmp_path / "made.ckpt")
    begun: list[tuple[int, int]] = []
    resumed = trainer_of(
        tmp_path, Look(epoch, step, lambda one: begun.append((one.global_step, internals.epochs_processed(one))))
    )
    resumed.fit(Plain(), rows(), ckpt_path=tmp_path / "made.ckpt", weights_only=False)
    assert begun == [(epoch * STEPS + step, epoch)]
    assert (resumed.global_step, resumed.current_epoch) == (3 * STEPS, 3)


def test_steps_of_manual_optimisation_are_counted(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path)
    trainer.fit(Plain(manual=True), rows())
    assert trainer.global_step == 2 * 3 * STEPS
    assert trainer.fit_loop.epoch_loop._batches_that_stepped == 2 * 3 * STEPS, "the loggers' axis"


def test_lightning_leaves_signal_handlers_alone_when_told_to(tmp_path: Path) -> None:
    kept, found = signal.getsignal(signal.SIGTERM), []
    trainer = trainer_of(tmp_path, Look(0, 1, lambda _: found.append(signal.getsignal(signal.SIGTERM))))
    internals.leave_signals_alone(trainer)
    trainer.fit(Plain(), rows())
    assert found == [kept], "Lightning registers its handlers by another way"


def test_launchers_can_stop_their_processes() -> None:
    from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher, _SubprocessScriptLauncher

    assert callable(_MultiProcessingLauncher.kill) and callable(_SubprocessScriptLauncher.kill)
    sent: list[int] = []
    launcher = SimpleNamespace(kill=sent.append)
    for one in (launcher, None):
        internals.stop_processes(SimpleNamespace(strategy=SimpleNamespace(launcher=one)), signal.SIGTERM)
    assert sent == [signal.SIGTERM]


def test_the_progress_bar_counts_epochs_from_1() -> None:
    bar = internals.ProgressBar(leave=False)
    bar._trainer = SimpleNamespace(max_epochs=2, sanity_checking=False)
    assert [bar._get_train_description(epoch).strip() for epoch in (0, 1)] == ["Epoch 1/2", "Epoch 2/2"]
    assert "_get_train_description" in vars(internals.RichProgressBar), "Lightning calls it by another name"
