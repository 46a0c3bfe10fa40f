"""The measured device: its name, its load and its memory."""

import logging
import os
import platform
from pathlib import Path
from typing import Any

log = logging.getLogger("kjcm")


def clear(gpu: bool) -> None:
    """Forget compiled models and start to count the device's memory anew."""
    import torch

    torch.compiler.reset()  # PyTorch compiles only a few models of the same code and runs further ones uncompiled
    if gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def wait(gpu: bool) -> None:
    """Return when the device has finished its work."""
    import torch

    if gpu:
        torch.cuda.synchronize()


def peak_memory(gpu: bool) -> int | None:
    """Return the most bytes that PyTorch held on the device since `clear`; None without a GPU."""
    import torch

    return torch.cuda.max_memory_allocated() if gpu else None


def machine(gpu: bool) -> dict[str, Any]:
    """Return the machine and its load before the first measurement; warn if the load is high."""
    import torch

    from kjcm.engine.device import device_name

    cores, load = os.cpu_count() or 1, round(os.getloadavg()[0], 2)
    quiet = load <= cores / 2
    if not quiet:
        log.warning("the machine is not quiet (load %.1f on %d cores): read ratios, not times", load, cores)
    return {
        "device": device_name(torch.device("cuda" if gpu else "cpu")),
        "processor": _processor(),
        "cores": cores,
        "threads": torch.get_num_threads(),
        "load": load,
        "quiet": quiet,
    }


def _processor() -> str:
    """Return the processor's name from Linux; elsewhere its architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
