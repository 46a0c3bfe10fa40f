"""`benchmarks.train`: kjcm's training compared with Hugging Face's Trainer and a plain Lightning loop."""

from statistics import median
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from benchmarks.device import machine
from benchmarks.loops import TRAINERS, Plan, loops, plan_of, require_accelerate
from benchmarks.measuring import Measured, alternate
from benchmarks.profile import profile
from benchmarks.result import Benchmark, Comparison, folder_to_fill, write
from kjcm.engine.device import on_gpu, require_device, resolve_precision
from kjcm.errors import ConfigError, some
from kjcm.survey.inputs import Config
from kjcm.survey.rows import rows_of
from kjcm.training.train import prepared_for

ALTERNATIVES = (*TRAINERS, "lightning")
PLAIN_GROUPS = {"layer_decay": 1.0, "decay_all": True, "freeze_embeddings": False, "freeze_layers": 0}
PROFILED = 5  # steps at most, but for whole blocks
ABOUT = {
    "trainer": "Hugging Face Trainer, float32, dynamic padding",
    "trainer_bf16": "Hugging Face Trainer, bf16, dynamic padding",
    "trainer_compiled": "Hugging Face Trainer, bf16, torch.compile, padded to multiples of 64",
    "lightning": "Lightning loop, {precision}, dynamic padding (engine=reference)",
}


def measure(cfg: DictConfig) -> None:
    """Measure the steps of every loop in turn and write bench.json, bench.png and bench.svg into `out`.

    Raises:
        KjcmError: input or surroundings are not usable, or `out` holds a benchmark.
    """
    config: Config = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    out, names = folder_to_fill(config), _alternatives(config)
    _require_comparable(config, names)
    _adapt(config)
    accelerator = config["trainer"]["accelerator"]
    require_device("trainer.accelerator", accelerator)
    measured_on = machine(on_gpu(accelerator))
    rows = rows_of(config, test=False)
    ours = prepared_for(config, rows)
    plain = prepared_for({**config, "engine": {**config["engine"], "name": "reference"}}, rows)
    plan = plan_of(ours.data, config["warmup"], config["steps"])
    few = plan_of(ours.data, config["warmup"], min(config["steps"], PROFILED))
    precision = resolve_precision(config["trainer"]["precision"], accelerator)
    measured = alternate(loops(config, ours, plain, plan, names), config["repeats"])
    about = {"kjcm": f"kjcm train, engine {ours.engine.name}, {precision}"}
    if not ours.engine.attention_dropout:  # the others drop it as the model's configuration says
        about["kjcm"] += ", attention's dropout left out"
    about |= {name: ABOUT[name].format(precision=precision) for name in names}
    comparisons = [Comparison("kjcm", name, agreement(measured, name, plan)) for name in names]
    compared = (
        f"benchmarks.train: {plan.last - plan.warmup} steps of {plan.batch_size} rows, {plan.lengths.mean():.1f} tokens a "
        f"row, {config['repeats']} repeats"
    )
    profiled = profile(config, ours, few) if config["profile"] else None
    benchmark = Benchmark("train", compared, rows.cohort.synthetic, config, about, measured, comparisons, profiled)
    write(out, benchmark, measured_on)


def _alternatives(config: Config) -> list[str]:
    """Return the alternatives to measure.

    Raises:
        KjcmError: there is no such one, or it is not installed.
    """
    names = config["alternatives"]
    if names is None:
        names = [
            name for name in ALTERNATIVES if name != "trainer_compiled" or on_gpu(config["trainer"]["accelerator"])
        ]
    if unknown := [name for name in names if name not in ALTERNATIVES]:
        raise ConfigError(f"alternatives: no {some(unknown)}; choose among {', '.join(ALTERNATIVES)}.")
    require_accelerate(names)
    return list(dict.fromkeys(names))


def _require_comparable(config: Config, names: list[str]) -> None:
    """Raise ConfigError if the config learns in a way that Hugging Face's Trainer is not told of."""
    loss, optim, flags = config["loss"]["_target_"], config["optim"], config["trainer"]["flags"]
    ours = {
        f"loss._target_={loss}": loss != "kjcm.model.losses.CrossEntropy",
        f"optim._target_={optim['_target_']}": optim["_target_"] not in ("torch.optim.Adam", "torch.optim.AdamW"),
        **{f"optim.{name}": True for name in optim if name not in ("_target_", "lr", "weight_decay")},
        **{f"param_groups.{name}": value != PLAIN_GROUPS[name] for name, value in config["param_groups"].items()},
        **{f"trainer.flags.{name}": name != "gradient_clip_val" for name in flags},
    }
    told = [key for key, differs in ours.items() if differs]
    if told and set(names) & set(TRAINERS):
        raise ConfigError(
            f"{some(told)}: Hugging Face's Trainer would learn in another way, so the times could not be compared. Leave it "
            "out, or measure against our own loop alone: alternatives=[lightning]."
        )


def _adapt(config: Config) -> None:
    """Set what every loop shares: a constant learning rate, no progress bar, one device.

    Raises:
        ConfigError: there are several devices.
    """
    import torch

    config["schedule"] = {"_target_": "kjcm.engine.schedules.Constant"}  # one of the whole training means nothing here
    config["trainer"] |= {"progress": False}
    if config["trainer"]["devices"] != 1 or (
        on_gpu(config["trainer"]["accelerator"]) and torch.cuda.device_count() > 1
    ):
        raise ConfigError(
            "benchmarks.train measures one device, and Hugging Face's Trainer takes every one that it sees: use "
            "trainer.devices=1, and CUDA_VISIBLE_DEVICES=0 where there are several."
        )


def agreement(measured: Measured, name: str, plan: Plan) -> dict[str, Any]:
    """Return whether kjcm and an alternative saw the plan's rows in its order, and the median loss that each reached."""
    both = (measured["kjcm"], measured[name])
    ours, theirs = (median(one.made.loss for one in side) for side in both)
    return {
        "same_rows": all(np.array_equal(one.made.rows, plan.rows) for side in both for one in side),
        "loss_ours": ours,
        "loss_alternative": theirs,
    }


if __name__ == "__main__":
    from benchmarks.command import main

    main("benchmarks.train")
