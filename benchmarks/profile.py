"""A profile of kjcm's training step, and the step's floor on this device."""

import copy
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.command import TrainConfig
from benchmarks.loops import Plan, with_lightning
from kjcm.engine.device import on_gpu, resolve_precision
from kjcm.training.fit import Prepared, module_for

if TYPE_CHECKING:
    import torch

SHOWN = 15  # operations listed by name; one sum for the rest
SECONDS = 0.3  # time to measure each rate of the device
ADAM = 28  # bytes per weight: read weight, gradient, two moments; write three
CAST = 6  # bytes per weight of a layer: read float32, write half precision
COPIED = 1 << 26  # floats to copy: more than any cache holds


def profile(config: TrainConfig, prepared: Prepared, plan: Plan) -> dict[str, Any]:
    """Run the plan's steps once more under torch.profiler; return bench.json's `profile`."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else it logs its start and stop
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler_of

    gpu = on_gpu(config.trainer.accelerator)
    profiler = profiler_of(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])])
    found = with_lightning(config, prepared, plan, profiler)
    steps = plan.last - plan.warmup
    operations = sorted(_operations(profiler, steps, gpu), key=lambda one: -one["milliseconds"])
    rest = operations[SHOWN:]
    if rest:
        sums = {key: sum(one[key] for one in rest) for key in ("calls", "milliseconds")}
        operations = [*operations[:SHOWN], {"name": f"{len(rest)} others", **sums}]
    return {
        "steps": steps,
        "milliseconds_per_step": 1000 * found.seconds / steps,
        "operations": operations,
        "floor": floor(config, prepared, plan),
    }


def _operations(profiler: Any, steps: int, gpu: bool) -> list[dict[str, Any]]:
    """Return each operation's calls and milliseconds per step: kernels on a GPU, PyTorch's operators on a CPU."""
    from torch.autograd import DeviceType  # type: ignore[attr-defined]

    kind = DeviceType.CUDA if gpu else DeviceType.CPU
    return [
        {
            "name": event.key[:100],
            "calls": event.count / steps,
            "milliseconds": (event.self_device_time_total if gpu else event.self_cpu_time_total) / 1000 / steps,
        }
        for event in profiler.key_averages()
        if event.device_type == kind and not event.is_user_annotation
    ]


def floor(config: TrainConfig, prepared: Prepared, plan: Plan) -> dict[str, float]:
    """Return a step's least time: its arithmetic and its optimiser's memory traffic at the best rates measured here.

    `torch.utils.flop_counter` counts the matrix products and attention of one batch. The rate of arithmetic is the best of
    products with layers of the encoder's shapes, in the training's precision. The rate of memory is that of a copy.
    """
    import torch

    accelerator, precision = config.trainer.accelerator, config.trainer.precision
    gpu, precision = on_gpu(accelerator), resolve_precision(precision, accelerator)
    device = torch.device("cuda" if gpu else "cpu")
    kind = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision, torch.float32)
    tokens, width = int(plan.lengths[: plan.batch_size].sum()), prepared.encoder.config.hidden_size
    multiplied = 0.0
    for inner, outer in ((width, width), (width, 4 * width), (4 * width, width)):
        left, right = (torch.randn(shape, device=device, dtype=kind) for shape in ((tokens, inner), (outer, inner)))
        seconds = _fastest(partial(torch.nn.functional.linear, left, right))
        multiplied = max(multiplied, 2 * tokens * inner * outer / seconds)
    source = torch.zeros(COPIED, device=device)
    copied = 2 * source.nbytes / _fastest(partial(torch.empty_like(source).copy_, source))
    weights = sum(weight.numel() for weight in prepared.encoder.parameters())
    layers = [module for module in prepared.encoder.modules() if isinstance(module, torch.nn.Linear)]
    cast = sum(weight.numel() for layer in layers for weight in layer.parameters()) if kind != torch.float32 else 0
    work = _multiplications(config, prepared, plan.rows[: plan.batch_size])
    moved = ADAM * weights + CAST * cast
    return {
        "flop": work,
        "flop_per_second": multiplied,
        "bytes": moved,
        "bytes_per_second": copied,
        "milliseconds_per_step": 1000 * (work / multiplied + moved / copied),
    }


def _multiplications(config: TrainConfig, prepared: Prepared, rows: Any) -> int:
    """Count the floating-point operations of a batch's matrix products and attention, forwards and backwards."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from kjcm.engine.data import TokenBatches

    data = prepared.data
    batch = TokenBatches(data.sides["train"], data.pad, packed=prepared.engine.name != "reference")[rows, len(rows)]
    module = module_for(config, replace(prepared, encoder=copy.deepcopy(prepared.encoder)))
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):  # it cannot count every attention kernel
        torch.nn.functional.cross_entropy(module(batch), batch["labels"]).backward()  # type: ignore[no-untyped-call]
    return int(counter.get_total_flops())


def _fastest(work: "Callable[[], torch.Tensor]") -> float:
    """Return the least seconds of a call, timed over blocks of calls to hide the launch."""
    import torch
    from torch.utils.benchmark import Timer

    timer = Timer("work()", globals={"work": work}, num_threads=torch.get_num_threads())
    return float(min(timer.blocked_autorange(min_run_time=SECONDS).times))
