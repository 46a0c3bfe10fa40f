"""The device that is measured: which it is, how loaded, and what it holds."""

import logging
import os
import platform
from pathlib import Path
from typing import Any

log = logging.getLogger("kjcm")


def clear(gpu: bool) -> None:
    """Begin to count the memory that is held on the device, with nothing left of what was compiled before."""
    import torch

    torch.compiler.reset()  # it compiles only so many models of one code, and runs further ones uncompiled
    if gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def wait(gpu: bool) -> None:
    """Return when the device has done what it was given."""
    import torch

    if gpu:
        torch.cuda.synchronize()


def peak_memory(gpu: bool) -> int | None:
    """Return the bytes that PyTorch held on the device at most since `clear`; None without a GPU."""
    import torch

    return torch.cuda.max_memory_allocated() if gpu else None


def machine(gpu: bool) -> dict[str, Any]:
    """Return what is measured on, with its load before the first measurement; say so where it is not quiet."""
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
    """Return the processor's name as Linux has it, else its kind."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
