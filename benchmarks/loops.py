"""The compared training loops. Each takes the same steps on the same rows from the same weights."""

import copy
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.command import TrainConfig
from benchmarks.device import clear, peak_memory, wait
from benchmarks.measuring import Measurement
from kjcm.engine.device import on_gpu
from kjcm.errors import ConfigError
from kjcm.training.fit import Prepared, module_for
from kjcm.training.trainer import make_trainer

if TYPE_CHECKING:
    from kjcm.engine.data import TokenData
    from kjcm.model.encoder import FirstToken, MeanPooled

PROBE = 256  # rows of the loss after the training
MULTIPLE = 64  # a compiled Trainer pads to multiples of it: fewer shapes, fewer compilations
# side -> the arguments of Hugging Face's Trainer that differ from its defaults
TRAINERS: dict[str, dict[str, Any]] = {
    "trainer": {},
    "trainer_bf16": {"bf16": True},
    "trainer_compiled": {"bf16": True, "torch_compile": True},
}


@dataclass(frozen=True)
class Plan:
    """The steps of every loop.

    Attributes:
        warmup: steps before the timed ones.
        last: the last step.
        rows: [steps * batch size], the training rows in their order.
        lengths: [steps * batch size], the tokens of each row.
        batch_size: rows per step.
    """

    warmup: int
    last: int
    rows: NDArray[np.int64]
    lengths: NDArray[np.int64]
    batch_size: int


@dataclass
class Clock:
    """Record when the device has finished the warm-up and the last step."""

    plan: Plan
    gpu: bool
    begin: float
    times: list[float] = field(default_factory=list)

    def at(self, step: int) -> None:
        """Record the time if `step` is the last of the warm-up or of all."""
        if step in (self.plan.warmup, self.plan.last):
            wait(self.gpu)
            self.times.append(time.perf_counter())

    def measurement(self, learnt: "Learnt") -> Measurement:
        """Return the measurement of the timed steps."""
        (warm, end), plan = self.times, self.plan
        timed = slice(plan.warmup * plan.batch_size, None)
        return Measurement(
            seconds=end - warm,
            rows=len(plan.rows[timed]),
            setup_seconds=warm - self.begin,
            tokens=int(plan.lengths[timed].sum()),
            steps=plan.last - plan.warmup,
            peak_memory=peak_memory(self.gpu),
            result=learnt,
        )


@dataclass(frozen=True)
class Learnt:
    """The results of a training loop.

    Attributes:
        rows: [steps * batch size], the rows that it saw, in their order.
        loss: cross-entropy of the plan's first rows after the last step, without dropout, in float32.
    """

    rows: NDArray[np.int64]
    loss: float


def plan_of(data: "TokenData", warmup: int, steps: int) -> Plan:
    """Return the first steps of the first epoch, rounded up to whole blocks if the engine takes blocks.

    Raises:
        ConfigError: an epoch has fewer steps.
    """
    from kjcm.engine.data import epoch_order

    tokens, size, block = data.sides["train"].tokens, data.batch_size, data.block or 1
    warmup, steps = -(-warmup // block) * block, -(-steps // block) * block
    available = len(tokens) // size
    if warmup + steps > available:
        raise ConfigError(
            f"warmup and steps are {warmup + steps:,} steps (whole blocks of {block}), and an epoch has {available:,} full "
            "batches. Lower them, data.batch_size or engine.block, or raise data.scale."
        )
    rows = epoch_order(len(tokens), data.seed, 0)[: (warmup + steps) * size]
    return Plan(warmup, warmup + steps, rows, tokens.lengths[rows], size)


def with_lightning(config: TrainConfig, prepared: Prepared, plan: Plan, profiler: Any = None) -> Measurement:
    """Train with kjcm's Trainer, module and data module on the engine of `prepared`; a profiler records the timed steps."""
    import lightning.pytorch as pl

    clock, encoder = _begin(config, prepared.encoder, plan)
    module = module_for(config, replace(prepared, encoder=encoder))
    seen: list[Any] = []

    class Watch(pl.Callback):
        """Record steps and rows, and stop after the last step."""

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
        trainer = make_trainer(config.trainer, folder=Path(folder), loggers=[], callbacks=[])
        trainer.callbacks.append(Watch())  # type: ignore[attr-defined] # as an argument, a callback brings a checkpoint
        trainer.fit(module, datamodule=prepared.data)
    rows = np.concatenate([batch.cpu().numpy() for batch in seen])
    return clock.measurement(Learnt(rows, loss_of(encoder, prepared.data, plan.rows[:PROBE])))


def with_trainer(name: str, config: TrainConfig, prepared: Prepared, plan: Plan) -> Measurement:
    """Train with Hugging Face's Trainer: the config's learning rate, weight decay and clipping, else Trainer's defaults.

    Args:
        name: one of TRAINERS.
        config: the benchmark's.
        prepared: of engine=reference, whose encoder is transformers' own.
        plan: the steps to take.
    """
    import torch
    from transformers import DataCollatorWithPadding, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    clock, encoder = _begin(config, prepared.encoder, plan)
    rows = OrderedRows(prepared.data, plan.rows)
    cross_entropy = torch.nn.functional.cross_entropy
    options, optim = TRAINERS[name], config.optim

    class Watch(TrainerCallback):
        """Record steps."""

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
            max_grad_norm=config.trainer.flags.get("gradient_clip_val") or 0.0,
            seed=config.seeds.dropout,
            train_sampling_strategy="sequential",  # the rows are in order already
            use_cpu=config.trainer.accelerator == "cpu",
            label_names=["labels"],  # Trainer would drop them: the encoder has no such argument
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            **options,
        )
        trainer = Trainer(
            model=encoder,
            args=arguments,
            train_dataset=rows,
            data_collator=DataCollatorWithPadding(
                prepared.tokenizer, pad_to_multiple_of=MULTIPLE if "torch_compile" in options else None
            ),
            compute_loss_func=lambda logits, labels, num_items_in_batch=None: cross_entropy(logits, labels),
            callbacks=[Watch()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    learnt = Learnt(plan.rows[rows.asked], loss_of(encoder, prepared.data, plan.rows[:PROBE]))
    return clock.measurement(learnt)


class OrderedRows:
    """The plan's rows as a map-style dataset for Trainer; it records which rows Trainer read.

    Args:
        data: the training rows.
        order: [rows], their indices, in order.
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
        """Return the ids, the mask and the label of a row."""
        self.asked.append(place)
        return self.items[place]


def _begin(
    config: TrainConfig, encoder: "FirstToken | MeanPooled", plan: Plan
) -> "tuple[Clock, FirstToken | MeanPooled]":
    """Return a running clock and a copy of the untrained encoder; clear what the loop before left on the device."""
    import torch

    torch.use_deterministic_algorithms(False)  # Lightning's Trainer sets it for the whole process
    gpu = on_gpu(config.trainer.accelerator)
    clear(gpu)
    torch.manual_seed(config.seeds.dropout)
    return Clock(plan, gpu, time.perf_counter()), copy.deepcopy(encoder)


def loss_of(encoder: "FirstToken | MeanPooled", data: "TokenData", rows: NDArray[np.int64]) -> float:
    """Return the mean cross-entropy of training rows, without dropout, in float32."""
    import torch

    from kjcm.engine.data import TokenBatches

    device = next(encoder.parameters()).device
    batch = TokenBatches(data.sides["train"], data.pad, packed=False)[rows, len(rows)]
    encoder.eval()
    with torch.inference_mode():
        logits = encoder(batch["input_ids"].to(device), batch["attention_mask"].to(device))
        return float(torch.nn.functional.cross_entropy(logits.float(), batch["labels"].to(device)))
