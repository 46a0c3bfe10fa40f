"""A Classifier with its data on the GPU and its step in a CUDA graph: each call from Lightning runs many steps."""

import gc
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._dynamo import config as dynamo
from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException
from torch._functorch import config as functorch

from kjcm.engine.data import Batch
from kjcm.engine.device import has_bf16
from kjcm.engine.lightning_internals import count_steps
from kjcm.engine.module import Classifier
from kjcm.errors import KjcmError, first_line
from kjcm.model.attention import Layout
from kjcm.model.covariates import covariates_of, plus_covariates
from kjcm.model.packing import Resident

WARM_UP = 3  # steps before a capture, as PyTorch requires: libraries choose their kernels there
SHAPES = 256  # most compiled shapes; beyond its own limit of 8, torch silently stops compiling
INPUTS = ("input_ids", "positions", "places", "starts", "valid", "labels", "rows", "weights", "n_rows")  # of a step

log = logging.getLogger("kjcm")


class CapturedClassifier(Classifier):
    """Train as `Classifier` does, but with one call from Lightning per block of steps; its batch is the row numbers.

    Rows, their order, the schedule and the loss are the same as in `Classifier`; only floating-point sums are added in
    another order. In half precision without attention dropout, attention is PyTorch's `varlen_attn`. On a CPU, which
    only tests use, the steps run uncaptured.

    Args:
        compiled: compile the step with torch.compile.
        strict: raise an error if compiling fails, instead of running uncompiled.
    """

    def __init__(self, *args: Any, compiled: bool = True, strict: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, fused=True, **kwargs)
        self.automatic_optimization = False  # Lightning's loop would run one step per call
        self.compiled, self.strict, self.varlen = compiled, strict, False
        self._resident: Resident | None = None
        self._steps: Steps | None = None
        self._covariates: Tensor | None = None  # [training rows, width]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimiser; this module sets its learning rate itself."""
        return self.new_optimizer()

    def on_train_start(self) -> None:
        """Move the rows to the device; the first step is captured when it runs, in the Trainer's precision."""
        super().on_train_start()
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        if self.device.type == "cuda":  # a graph reads the learning rate from the device
            for group in optimizer.param_groups:
                group.update(lr=torch.tensor(group["lr"], device=self.device), capturable=True)
            able = self.trainer.precision == "bf16-mixed" and has_bf16(gpu=True)
            self.varlen = able and not self.attention_dropout
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        epochs = self.trainer.max_epochs
        assert epochs is not None
        self._resident, self._steps = data.resident(epochs, self.device, varlen=self.varlen), None
        covariates = data.sides["train"].covariates
        self._covariates = None if covariates is None else torch.from_numpy(covariates).to(self.device)
        self._total = torch.zeros((), device=self.device)
        self._planned = data.steps_per_epoch * epochs

    def on_train_end(self) -> None:
        """Free the rows' and the graph's memory before the trained model is tested."""
        self._resident = self._steps = self._covariates = None

    def training_step(self, batch: Batch) -> None:  # type: ignore[override]
        """Run the steps of one block; `batch` has its row numbers: [rows]."""
        assert self._resident is not None
        laid, rows = self._resident.lay_out(batch["rows"]), len(batch["rows"])
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        if self._steps is None:
            begin = time.perf_counter()
            self._steps = self._prepared({name: laid[name][0].clone() for name in INPUTS}, optimizer)
            self.capture_seconds = time.perf_counter() - begin
        count = len(laid["n_rows"])
        self._total.zero_()
        for step in range(count):
            set_rates(optimizer, self._factor)
            self.seed_dropout()
            self._steps.run({name: laid[name][step] for name in INPUTS})
            self.step += 1
        set_rates(optimizer, self._factor)  # of the next step, as Lightning does
        count_steps(self.trainer, count)
        self.train_loss.update(self._total, rows)
        self.log("train_loss_step", self._total / rows, prog_bar=True, batch_size=rows)

    @property
    def compiles(self) -> bool:
        """Return whether torch.compile compiles the step; it does so only for captured steps."""
        return self.compiled and self.device.type == "cuda"

    @property
    def _factor(self) -> float:
        """Return the schedule's factor for the next step."""
        return self._learning.schedule(self.current_epoch * self._steps_per_epoch + self.step, self._planned)

    @property
    def next_rate(self) -> float:
        """Return the next step's learning rate without reading the optimiser's, which could wait for the device."""
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        return float(optimizer.param_groups[0]["initial_lr"] * self._factor)

    def _prepared(self, inputs: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> "Steps":
        """Return the step over `inputs`, compiled and captured if possible.

        Raises:
            KjcmError: `strict` is set and torch.compile fails, for instance because Triton is missing.
        """
        gc.collect()  # frees the graph of a failed training
        if self.compiles:
            loss_of = torch.compile(self.total_loss, dynamic=False)
            try:
                with _compiling():
                    return Steps(partial(self._step, loss_of, inputs, optimizer), inputs, optimizer)
            except (TorchDynamoException, FailOnRecompileLimitHit) as error:
                problem = f"torch.compile failed ({first_line(error)}). It needs a C compiler and Triton"
            if self.strict:
                raise KjcmError(
                    f"{problem}. Install them, or add engine.compile=false, which trains the same run a little slower."
                )
            log.warning("%s. The steps run uncompiled, a little slower", problem)
        return Steps(partial(self._step, self.total_loss, inputs, optimizer), inputs, optimizer)

    def _step(
        self, loss_of: Callable[[Batch], Tensor], inputs: dict[str, Tensor], optimizer: torch.optim.Optimizer
    ) -> None:
        """Run one step over `inputs`, and add its loss to the block's loss."""
        kind = self.device.type
        optimizer.zero_grad()
        # Weights change with every step, so autocast must not cache them.
        with torch.autocast(kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind), cache_enabled=False):
            total = loss_of(inputs)
        (total / inputs["n_rows"]).backward()  # type: ignore[no-untyped-call]
        self._learning.limit(self.parameters(), foreach=kind == "cuda")
        optimizer.step()
        self._total.add_(total.detach())

    def total_loss(self, batch: Batch) -> Tensor:
        """Return the summed loss of a batch from `Resident.lay_out`; padding texts have no loss."""
        layout = Layout(batch["starts"], batch["places"], batch["valid"], self.attention_dropout, self.varlen)
        logits = self.encoder.packed(batch["input_ids"], batch["positions"], layout)  # type: ignore[operator]
        if self._covariates is not None:
            logits = plus_covariates(logits, covariates_of(self.encoder), self._covariates[batch["rows"]])
        labels = batch["labels"]
        losses = self.losses(logits.float(), labels.clamp(min=0), batch["rows"]) * batch["weights"]
        return torch.where(labels >= 0, losses, 0.0).sum()


@contextmanager
def _compiling() -> Iterator[None]:
    """Let torch.compile compile many shapes in one process, and cache what it traces of kjcm's autograd functions."""
    with dynamo.patch(recompile_limit=SHAPES, fail_on_recompile_limit_hit=True):
        if hasattr(functorch, "autograd_cache_allow_custom_autograd_functions"):
            with functorch.patch(autograd_cache_allow_custom_autograd_functions=True):
                yield
        else:
            yield


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set each group's learning rate to `factor` times its initial rate; change a tensor in place, as a graph reads it."""
    for group in optimizer.param_groups:
        rate = group["initial_lr"] * factor
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


class Steps:
    """Run `step` over the tensors `inputs`; a captured graph reads them at their addresses.

    Args:
        step: reads `inputs` and changes weights, optimiser and sums in place; it copies no value to the host.
        inputs: the tensors that a step reads, by name.
        optimizer: the step's optimiser. After a capture its state is restored, and new state is zero.
    """

    def __init__(
        self, step: Callable[[], None], inputs: Mapping[str, Tensor], optimizer: torch.optim.Optimizer
    ) -> None:
        self.step, self.inputs = step, inputs
        if next(iter(inputs.values())).device.type == "cuda":
            self.step = self._captured(optimizer)

    def run(self, batch: Mapping[str, Tensor]) -> None:
        """Run one step over the values in `batch`."""
        for name, place in self.inputs.items():
            place.copy_(batch[name], non_blocking=True)
        self.step()

    def _captured(self, optimizer: torch.optim.Optimizer) -> Callable[[], None]:
        """Return the replay of a CUDA graph of the step; weights, optimiser and random generators are unchanged."""
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        values = [weight.detach().clone() for weight in weights]
        state = {weight: copied(optimizer.state[weight]) for weight in weights if weight in optimizer.state}
        device = weights[0].device
        side, graph = torch.cuda.Stream(device), torch.cuda.CUDAGraph()  # type: ignore[no-untyped-call]
        with torch.random.fork_rng(devices=[device]):
            side.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(side):
                for _ in range(WARM_UP):
                    self.step()
            torch.cuda.current_stream(device).wait_stream(side)
            # Without `stream`, torch would capture on the GPU that captured first in this process.
            with torch.cuda.graph(graph, stream=side):
                self.step()
        restore(weights, values, optimizer, state)
        return graph.replay


Buffers = dict[str, Tensor]


def copied(state: Mapping[str, Tensor]) -> Buffers:
    """Return a copy of the tensors in an optimiser's state for one weight."""
    return {name: value.clone() for name, value in state.items() if isinstance(value, Tensor)}


def restore(
    weights: list[Tensor], values: list[Tensor], optimizer: torch.optim.Optimizer, state: Mapping[Tensor, Buffers]
) -> None:
    """Restore weights and optimiser state in place; set the state of weights that are not in `state` to zero."""
    with torch.no_grad():
        for weight, value in zip(weights, values, strict=True):
            weight.copy_(value)
            for name, now in optimizer.state[weight].items():
                if isinstance(now, Tensor):
                    now.copy_(state[weight][name]) if weight in state else now.zero_()
