"""`benchmarks.train`: kjcm's training compared with Hugging Face's Trainer and a plain Lightning loop."""

import importlib.util
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from statistics import median
from typing import Any

import numpy as np
from omegaconf import DictConfig

from benchmarks.command import ALTERNATIVES, TrainConfig
from benchmarks.device import machine
from benchmarks.loops import TRAINERS, Plan, plan_of, with_lightning, with_trainer
from benchmarks.measuring import Measured, Measurement, alternate
from benchmarks.profile import profile
from benchmarks.result import Benchmark, Comparison, file_to_write, write
from kjcm.engine.device import on_gpu, require_device, resolve_precision
from kjcm.errors import ConfigError, KjcmError, counted, some
from kjcm.keys.composition import typed
from kjcm.survey.rows import rows_of
from kjcm.training.train import prepared_for

PLAIN_GROUPS = {
    "layer_decay": 1.0, "decay_all": True, "freeze_embeddings": False, "freeze_layers": 0, "cache_frozen": False,
    "head_factor": 1.0,
}  # fmt: skip
PROFILED = 5  # most steps under the profiler, rounded up to whole blocks
ABOUT = {
    "trainer": "Hugging Face Trainer, float32, dynamic padding",
    "trainer_bf16": "Hugging Face Trainer, bf16, dynamic padding",
    "trainer_compiled": "Hugging Face Trainer, bf16, torch.compile, padded to multiples of 64",
    "lightning": "Lightning loop, {precision}, dynamic padding (engine=reference)",
}


def measure(cfg: DictConfig) -> None:
    """Measure the steps of every loop in turn and write bench.json into `out`.

    Raises:
        KjcmError: an input or the device is not usable, or `out` contains a benchmark.
    """
    config = typed(cfg, TrainConfig)
    file, names = file_to_write(config.out, config.overwrite), _alternatives(config)
    _require_comparable(config, names)
    _adapt(config)
    accelerator = config.trainer.accelerator
    require_device("trainer.accelerator", accelerator)
    measured_on = machine(on_gpu(accelerator))
    rows = rows_of(config, test=False, cache=config.cache)
    ours = prepared_for(config, rows)
    plain = prepared_for(replace(config, engine=replace(config.engine, name="reference")), rows)
    plan = plan_of(ours.data, config.warmup, config.steps)
    sides: dict[str, Callable[[], Measurement]] = {"kjcm": partial(with_lightning, config, ours, plan)}
    for name in names:
        loop = with_lightning if name == "lightning" else partial(with_trainer, name)
        sides[name] = partial(loop, config, plain, plan)
    measured = alternate(sides, config.repeats)
    precision = resolve_precision(config.trainer.precision, accelerator)
    about = {"kjcm": f"kjcm train, engine {ours.engine.name}, {precision}"}
    if not ours.engine.attention_dropout:  # the alternatives apply the dropout of the model's configuration
        about["kjcm"] += ", without dropout of attention weights"
    profiled = None
    if config.profile:
        few = plan_of(ours.data, config.warmup, min(config.steps, PROFILED))
        profiled = profile(config, ours, few)
    benchmark = Benchmark(
        name="train",
        compared=f"benchmarks.train: {plan.last - plan.warmup} steps of {plan.batch_size} rows, "
        f"{plan.lengths.mean():.1f} tokens per row, {counted(config.repeats, 'repeat')}",
        synthetic=rows.cohort.synthetic,
        config=asdict(config),
        machine=measured_on,
        sides=about | {name: ABOUT[name].format(precision=precision) for name in names},
        measured=measured,
        comparisons=[Comparison("kjcm", name, agreement(measured, name, plan)) for name in names],
        profile=profiled,
    )
    write(file, benchmark)


def _alternatives(config: TrainConfig) -> list[str]:
    """Return the alternatives to measure.

    Raises:
        KjcmError: Hugging Face's Trainer is among them, and accelerate is not installed.
    """
    names = config.alternatives
    if names is None:
        gpu = on_gpu(config.trainer.accelerator)
        names = [name for name in ALTERNATIVES if name != "trainer_compiled" or gpu]
    if set(names) & set(TRAINERS) and importlib.util.find_spec("accelerate") is None:
        raise KjcmError(
            "Hugging Face's Trainer needs accelerate: pip install accelerate, or choose alternatives=[lightning]."
        )
    return list(dict.fromkeys(names))


def _require_comparable(config: TrainConfig, names: list[str]) -> None:
    """Raise ConfigError if the config sets training options that Hugging Face's Trainer lacks."""
    loss, optim, flags = config.loss["_target_"], config.optim, config.trainer.flags
    ours = {
        f"loss._target_={loss}": loss != "kjcm.model.losses.CrossEntropy",
        f"optim._target_={optim['_target_']}": optim["_target_"] not in ("torch.optim.Adam", "torch.optim.AdamW"),
        **{f"optim.{name}": True for name in optim if name not in ("_target_", "lr", "weight_decay")},
        **{f"param_groups.{name}": value != PLAIN_GROUPS[name] for name, value in vars(config.param_groups).items()},
        **{f"trainer.flags.{name}": name != "gradient_clip_val" for name in flags},
    }
    if (own := [key for key, differs in ours.items() if differs]) and set(names) & set(TRAINERS):
        raise ConfigError(
            f"{some(own)}: Hugging Face's Trainer cannot do this, so the times would not be comparable. Leave it out, or "
            "set alternatives=[lightning]."
        )


def _adapt(config: TrainConfig) -> None:
    """Set a constant learning rate and no progress bar for every loop.

    Raises:
        ConfigError: the training would use several devices.
    """
    import torch

    config.schedule = {"_target_": "kjcm.engine.schedules.Constant"}  # a few steps are no whole schedule
    config.trainer.progress = False
    if config.trainer.devices != 1 or (on_gpu(config.trainer.accelerator) and torch.cuda.device_count() > 1):
        raise ConfigError(
            "benchmarks.train measures one device, but Hugging Face's Trainer uses every visible one. Set "
            "trainer.devices=1, and CUDA_VISIBLE_DEVICES=0 on a machine with several GPUs."
        )


def agreement(measured: Measured, name: str, plan: Plan) -> dict[str, Any]:
    """Return whether both loops saw the plan's rows in order, and the median loss that each reached."""
    both = (measured["kjcm"], measured[name])
    ours, theirs = (median(one.result.loss for one in side) for side in both)
    return {
        "same_rows": all(np.array_equal(one.result.rows, plan.rows) for side in both for one in side),
        "loss_ours": ours,
        "loss_alternative": theirs,
    }


if __name__ == "__main__":
    from benchmarks.command import main

    main("benchmarks.train")
