"""A Classifier that takes many steps a Lightning call, its data on the device and its step in a CUDA graph."""

import time
from typing import Any

import torch
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException
from torch.nn import functional

from kjcm.engine.attention import Layout
from kjcm.engine.packing import Resident
from kjcm.engine.steps import Steps
from kjcm.errors import KjcmError, first_line
from kjcm.model.data import Batch
from kjcm.model.module import Classifier

READ = ("input_ids", "positions", "places", "starts", "valid", "labels", "n_rows")  # what a step reads of a batch


class CapturedClassifier(Classifier):
    """The same learning as `Classifier`'s, with Lightning called once a block of steps (a batch of row numbers).

    Rows, their order, the schedule and the loss are the same; the order of sums in floating point is not. Without
    attention dropout in half precision, attention is PyTorch's `varlen_attn`. On a CPU the steps run uncaptured: for tests.

    Args:
        compiled: let torch.compile make the step's kernels.
    """

    def __init__(self, *args: Any, compiled: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, fused=True, **kwargs)
        self.automatic_optimization = False  # Lightning's own loop takes one step a call
        self.compiled = compiled
        self._resident: Resident | None = None
        self._steps: Steps | None = None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimiser; this module sets its learning rate itself."""
        return self.new_optimizer()

    def on_train_start(self) -> None:
        """Bring the rows to the device; the step is captured when it first runs, in the Trainer's precision."""
        super().on_train_start()
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        if self.device.type == "cuda":  # a graph reads the learning rate of each step from the device
            for group in optimizer.param_groups:
                group.update(lr=torch.tensor(group["lr"], device=self.device), capturable=True)
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        epochs = self.trainer.max_epochs
        assert epochs is not None
        self._resident, self._steps = data.resident(epochs, self.device), None
        self._total = torch.zeros((), device=self.device)
        self._an_epoch = data.steps_per_epoch
        self._planned = data.steps_per_epoch * epochs

    def on_train_end(self) -> None:
        """Give the device's memory back before the trained model is measured."""
        self._resident = self._steps = None

    def training_step(self, batch: Batch) -> None:  # type: ignore[override]
        """Take the steps of a block of rows [rows]."""
        assert self._resident is not None
        laid, rows = self._resident.lay_out(batch["rows"]), len(batch["rows"])
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        if self._steps is None:
            begin = time.perf_counter()
            self._steps = self._prepared({name: laid[name][0].clone() for name in READ}, optimizer)
            self.capture_seconds = time.perf_counter() - begin
        done, count = self.current_epoch * self._an_epoch + self.step, len(laid["n_rows"])
        self._total.zero_()
        for step in range(count):
            set_rate(optimizer, self._rate(done + step))
            self.seed_dropout()
            self._steps.run({name: laid[name][step] for name in READ})
            self.step += 1
        set_rate(optimizer, self._rate(done + count))  # as Lightning leaves it: the next step's
        self._count(count)
        loss = self._total / rows
        self.train_loss.update(loss, rows)
        self.log("train_loss_step", loss, prog_bar=True, batch_size=rows)

    def _rate(self, step: int) -> float:
        assert self.optimisation is not None
        return self.optimisation.lr * self.optimisation.factor(step, self._planned)

    def _prepared(self, inputs: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> Steps:
        """Return the step over `inputs`, compiled and captured where that is possible.

        Raises:
            KjcmError: torch.compile cannot make its kernels, for want of a C compiler or of Triton.
        """
        assert self.optimisation is not None
        weights, clip = list(self.encoder.parameters()), self.optimisation.clip
        captured = self.device.type == "cuda"
        loss_of = torch.compile(self.total_loss, dynamic=False) if self.compiled and captured else self.total_loss
        kind = self.device.type

        def step() -> None:
            optimizer.zero_grad()
            # weights change from step to step: what autocast keeps of them would be of an earlier one
            with torch.autocast(
                kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind), cache_enabled=False
            ):
                total = loss_of(inputs)
            (total / inputs["n_rows"]).backward()  # type: ignore[no-untyped-call]
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(weights, clip, foreach=captured)
            optimizer.step()
            self._total.add_(total.detach())

        try:
            return Steps(step, inputs, optimizer)
        except TorchDynamoException as error:
            raise KjcmError(
                f"torch.compile failed ({first_line(error)}). It needs a C compiler and Triton: install them, or add "
                "engine.compile=false, which trains the same run a little slower."
            ) from None

    def total_loss(self, batch: Batch) -> Tensor:
        """Return the summed cross-entropy of a batch as `Resident.lay_out` makes them; texts that are none have none."""
        half = torch.is_autocast_enabled(self.device.type)
        varlen = not self.attention_dropout and half and self.device.type == "cuda"
        layout = Layout(batch["starts"], batch["places"], batch["valid"], self.attention_dropout, varlen)
        logits = self.encoder.packed(batch["input_ids"], batch["positions"], layout)  # type: ignore[operator]
        return functional.cross_entropy(logits.float(), batch["labels"], ignore_index=-100, reduction="sum")

    def _count(self, steps: int) -> None:
        """Tell Lightning how many optimiser steps its one call was: global_step and the loggers' axis count steps."""
        loop: Any = self.trainer.fit_loop.epoch_loop
        progress_of = loop.manual_optimization.optim_step_progress
        for progress in (progress_of.total, progress_of.current):
            progress.ready += steps
            progress.completed += steps
        loop._batches_that_stepped += steps - 1


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate, in place where a graph reads it."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
