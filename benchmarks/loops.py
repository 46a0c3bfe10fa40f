"""The training loops that are compared: each takes the same steps from the same weights over the same rows."""

import copy
import importlib.util
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.device import clear, peak_memory, wait
from benchmarks.measuring import Measurement
from kjcm.engine.device import on_gpu
from kjcm.errors import ConfigError, KjcmError
from kjcm.survey.inputs import Config
from kjcm.training.fit import Prepared, module_for
from kjcm.training.trainer import make_trainer

if TYPE_CHECKING:
    import torch

    from kjcm.engine.data import TokenData
    from kjcm.model.encoder import FirstToken, MeanPooled

PROBE = 256  # rows on which the loss after the training is taken
MULTIPLE = 64  # tokens that a compiled Trainer pads to: fewer shapes, fewer compilations
# Hugging Face's Trainer: the arguments that differ from its defaults
TRAINERS: dict[str, dict[str, Any]] = {
    "trainer": {},
    "trainer_bf16": {"bf16": True},
    "trainer_compiled": {"bf16": True, "torch_compile": True},
}


@dataclass(frozen=True)
class Plan:
    """Which steps every loop takes.

    Attributes:
        warmup: steps before the timed ones.
        last: the last step.
        rows: [steps * batch size], the training rows in the order in which they are learnt from.
        lengths: [steps * batch size], their tokens.
        batch_size: rows a step.
    """

    warmup: int
    last: int
    rows: NDArray[np.int64]
    lengths: NDArray[np.int64]
    batch_size: int


@dataclass
class Clock:
    """Notes the time at the end of the warm-up and of the last step, when the device has done them."""

    plan: Plan
    gpu: bool
    begin: float
    times: list[float] = field(default_factory=list)

    def at(self, step: int) -> None:
        """Be told the number of steps that are taken."""
        if step in (self.plan.warmup, self.plan.last):
            wait(self.gpu)
            self.times.append(time.perf_counter())

    def measurement(self, made: "Made") -> Measurement:
        """Return what was measured."""
        (warm, end), plan = self.times, self.plan
        timed = slice(plan.warmup * plan.batch_size, None)
        return Measurement(
            seconds=end - warm,
            rows=len(plan.rows[timed]),
            setup_seconds=warm - self.begin,
            tokens=int(plan.lengths[timed].sum()),
            steps=plan.last - plan.warmup,
            peak_memory=peak_memory(self.gpu),
            made=made,
        )


@dataclass(frozen=True)
class Made:
    """What a loop made.

    Attributes:
        rows: [steps * batch size], the rows that it learnt from, in their order.
        loss: cross-entropy without dropout, in float32, of the first rows of the plan after the last step.
    """

    rows: NDArray[np.int64]
    loss: float


def plan_of(data: "TokenData", warmup: int, steps: int) -> Plan:
    """Return the steps to take: the first epoch's first batches, whole blocks of them where a call takes a block.

    Raises:
        ConfigError: an epoch has fewer.
    """
    from kjcm.engine.data import epoch_order

    tokens, size, block = data.sides["train"].tokens, data.batch_size, data.block or 1
    warmup, steps = -(-warmup // block) * block, -(-steps // block) * block
    there = len(tokens) // size
    if warmup + steps > there:
        raise ConfigError(
            f"warmup and steps are {warmup + steps:,} steps (whole blocks of {block}), and an epoch has {there:,} full "
            "batches. Lower them, data.batch_size or engine.block, or raise data.scale."
        )
    rows = epoch_order(len(tokens), data.seed, 0)[: (warmup + steps) * size]
    return Plan(warmup, warmup + steps, rows, tokens.lengths[rows], size)


def with_lightning(config: Config, prepared: Prepared, plan: Plan, profiler: Any = None) -> Measurement:
    """Train by kjcm's Trainer, module and data module with the engine of `prepared`; a profiler watches the timed steps."""
    import lightning.pytorch as pl

    clock, encoder = _begin(config, prepared.encoder, plan)
    module = module_for(config, replace(prepared, encoder=encoder))
    seen: list[Any] = []

    class Watch(pl.Callback):
        """Notes steps and rows, and stops after the last step."""

        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, number: int) -> None:
            seen.append(batch["rows"])
            if profiler and trainer.global_step == plan.warmup:
                wait(clock.gpu)
                profiler.start()
            clock.at(trainer.global_step)
            if profiler and trainer.global_step == plan.last:
                profiler.stop()
            trainer.should_stop = trainer.global_step >= plan.last

    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(config["trainer"], folder=Path(folder), loggers=[], callbacks=[])
        trainer.callbacks.append(Watch())  # type: ignore[attr-defined] # given to it, a callback brings a checkpoint
        trainer.fit(module, datamodule=prepared.data)
    rows = np.concatenate([some.cpu().numpy() for some in seen])
    return clock.measurement(Made(rows, loss_of(encoder, prepared.data, plan.rows[:PROBE])))


def with_trainer(name: str, config: Config, prepared: Prepared, plan: Plan) -> Measurement:
    """Train by Hugging Face's Trainer; what learning depends on is as the config has it, all else Trainer's default.

    Args:
        name: one of TRAINERS.
        config: of the benchmark.
        prepared: with the encoder as transformers made it (engine=reference).
        plan: the steps to take.
    """
    from transformers import DataCollatorWithPadding, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    clock, encoder = _begin(config, prepared.encoder, plan)
    rows = OrderedRows(prepared.data, plan.rows)
    options, optim = TRAINERS[name], config["optim"]

    class Watch(TrainerCallback):
        """Notes steps."""

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            clock.at(state.global_step)

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=plan.batch_size,
            max_steps=plan.last,
            learning_rate=optim["lr"],
            lr_scheduler_type="constant",
            weight_decay=optim.get("weight_decay", 0.0),
            max_grad_norm=config["trainer"]["flags"].get("gradient_clip_val") or 0.0,
            seed=config["seeds"]["dropout"],
            train_sampling_strategy="sequential",  # the rows come ordered
            use_cpu=config["trainer"]["accelerator"] == "cpu",
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            **options,
        )
        trainer = Trainer(
            model=_for_trainer(encoder),
            args=arguments,
            train_dataset=rows,
            data_collator=DataCollatorWithPadding(
                prepared.tokenizer, pad_to_multiple_of=MULTIPLE if "torch_compile" in options else None
            ),
            callbacks=[Watch()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    made = Made(plan.rows[rows.asked], loss_of(encoder, prepared.data, plan.rows[:PROBE]))
    return clock.measurement(made)


class OrderedRows:
    """The plan's rows as a map-style dataset for Trainer; it notes which were asked for.

    Args:
        data: the training rows.
        order: [rows], which of them, in which order.
    """

    def __init__(self, data: "TokenData", order: NDArray[np.int64]) -> None:
        tokens, labels = data.sides["train"].tokens, data.sides["train"].labels
        texts = [tokens.ids[tokens.starts[row] : tokens.starts[row + 1]].tolist() for row in order]
        self.items = [
            {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": label}
            for ids, label in zip(texts, labels[order].tolist(), strict=True)
        ]
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, place: int) -> dict[str, Any]:
        """Return ids, mask and label of a row."""
        self.asked.append(place)
        return self.items[place]


def _begin(config: Config, encoder: "FirstToken | MeanPooled", plan: Plan) -> "tuple[Clock, FirstToken | MeanPooled]":
    """Return a clock that runs and a copy of the encoder's first weights, with nothing of the loop before left."""
    import torch

    torch.use_deterministic_algorithms(False)  # Lightning's Trainer sets it for the whole process
    gpu = on_gpu(config["trainer"]["accelerator"])
    clear(gpu)
    torch.manual_seed(config["seeds"]["dropout"])
    return Clock(plan, gpu, time.perf_counter()), copy.deepcopy(encoder)


def _for_trainer(encoder: "FirstToken | MeanPooled") -> "torch.nn.Module":
    """Return the model as Trainer wants it: transformers' own classifier; for mean pooling, which it has none of, the like."""
    import torch

    from kjcm.model.encoder import FirstToken

    if isinstance(encoder, FirstToken):
        return encoder.classifier

    class WithLoss(torch.nn.Module):
        """Gives the loss beside the logits."""

        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(
            self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor
        ) -> dict[str, torch.Tensor]:
            logits = self.encoder(input_ids, attention_mask)
            return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}

    return WithLoss()


def loss_of(encoder: "FirstToken | MeanPooled", data: "TokenData", rows: NDArray[np.int64]) -> float:
    """Return the mean cross-entropy of training rows without dropout, in float32."""
    import torch

    from kjcm.engine.data import TokenBatches

    device = next(encoder.parameters()).device
    batch = TokenBatches(data.sides["train"], data.pad, packed=False)[rows, len(rows)]
    encoder.eval()
    with torch.inference_mode():
        logits = encoder(batch["input_ids"].to(device), batch["attention_mask"].to(device))
        return float(torch.nn.functional.cross_entropy(logits.float(), batch["labels"].to(device)))


def loops(
    config: Config, ours: Prepared, plain: Prepared, plan: Plan, alternatives: Sequence[str]
) -> dict[str, Callable[[], Measurement]]:
    """Return side -> its loop: 'kjcm' first, then the alternatives.

    Args:
        config: of the benchmark.
        ours: with the engine that trains here.
        plain: the same with engine=reference.
        plan: the steps to take.
        alternatives: 'lightning', or names in TRAINERS.
    """
    sides: dict[str, Callable[[], Measurement]] = {"kjcm": lambda: with_lightning(config, ours, plan)}
    for name in alternatives:
        if name == "lightning":
            sides[name] = lambda: with_lightning(config, plain, plan)
        else:
            sides[name] = lambda name=name: with_trainer(name, config, plain, plan)  # type: ignore[misc]
    return sides


def require_accelerate(alternatives: Sequence[str]) -> None:
    """Raise KjcmError if an alternative needs accelerate and it is not installed."""
    if set(alternatives) & set(TRAINERS) and importlib.util.find_spec("accelerate") is None:
        raise KjcmError(
            "Hugging Face's Trainer needs accelerate: pip install accelerate, or choose alternatives=[lightning]."
        )
