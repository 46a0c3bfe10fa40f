"""Where a step of kjcm's training spends its time, and the least that its arithmetic and its memory take on this device."""

import copy
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.loops import Plan, with_lightning
from kjcm.engine.device import on_gpu, resolve_precision
from kjcm.survey.inputs import Config
from kjcm.training.fit import Prepared, module_for

if TYPE_CHECKING:
    import torch

SHOWN = 15  # operations by name; the rest is one sum
SECONDS = 0.3  # that a device's rate is tried for
ADAM = 28  # bytes a weight: it, its gradient and two moments are read, three of them written, in float32
CAST = 6  # bytes a weight of a linear layer that is read in float32 and written in half precision
COPIED = 1 << 26  # floats that are copied to measure memory: beyond every cache


def profile(config: Config, prepared: Prepared, plan: Plan) -> dict[str, Any]:
    """Return what bench.json holds under `profile`: kjcm's steps of the plan once more, under torch.profiler."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it would say on the screen when it starts and stops
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler_of

    gpu = on_gpu(config["trainer"]["accelerator"])
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
    """Return each operation's calls and milliseconds a step: kernels of a GPU, or operators of PyTorch on a CPU."""
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


def floor(config: Config, prepared: Prepared, plan: Plan) -> dict[str, float]:
    """Return the least time of a step: its multiplications and its optimiser's memory at the best rates measured here.

    Matrix products and attention are counted by `torch.utils.flop_counter` on one batch; the rate is the best of the
    products of a batch's tokens with layers of the encoder's shapes, in the training's precision; memory's that of a copy.
    """
    import torch

    accelerator, precision = config["trainer"]["accelerator"], config["trainer"]["precision"]
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


def _multiplications(config: Config, prepared: Prepared, rows: Any) -> int:
    """Return the floating-point operations of a batch's matrix products and attention, forwards and backwards."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from kjcm.engine.data import TokenBatches

    data = prepared.data
    batch = TokenBatches(data.sides["train"], data.pad, packed=prepared.engine.name != "reference")[rows, len(rows)]
    module = module_for(config, replace(prepared, encoder=copy.deepcopy(prepared.encoder)))
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):  # of attention's own kernels it knows some
        torch.nn.functional.cross_entropy(module(batch), batch["labels"]).backward()  # type: ignore[no-untyped-call]
    return int(counter.get_total_flops())


def _fastest(work: "Callable[[], torch.Tensor]") -> float:
    """Return the seconds of a call at best; several go in a row, so that not their launch is measured."""
    import torch
    from torch.utils.benchmark import Timer

    timer = Timer("work()", globals={"work": work}, num_threads=torch.get_num_threads())
    return float(min(timer.blocked_autorange(min_run_time=SECONDS).times))
