"""The device and precision of a command, and the rank of its process."""

import logging
import os
import platform
import warnings
from typing import Any

from kjcm.errors import ConfigError


def global_rank() -> int:
    """Return this process's rank from its launcher (torchrun, Slurm or Lightning); 0 for a single process."""
    for key in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        if os.environ.get(key, "").isdigit():
            return int(os.environ[key])
    return 0


def one_of_several() -> bool:
    """Return whether an outside launcher (torchrun, Slurm) started this process as one of several."""
    return any(int(os.environ.get(name) or 1) > 1 for name in ("WORLD_SIZE", "SLURM_NTASKS"))


def on_gpu(accelerator: str) -> bool:
    """Return whether `accelerator` ('auto', 'cpu' or 'gpu') means a GPU on this machine."""
    import torch

    return accelerator != "cpu" and torch.cuda.is_available()


def require_device(key: str, accelerator: str) -> None:
    """Raise ConfigError if the config asks for a GPU and there is none.

    Args:
        key: config key for the message.
        accelerator: value of the key.
    """
    if accelerator == "gpu" and not on_gpu(accelerator):
        raise ConfigError(f"{key}=gpu: there is no GPU here. Use {key}=cpu, or see `kjcm doctor`.")


def device_count(devices: Any) -> int | None:
    """Return the number of devices in `trainer.devices`; None for all devices.

    Raises:
        ConfigError: the value is invalid for Lightning.
    """
    if isinstance(devices, list):
        return len(devices)
    text = str(devices).strip()
    if text in ("auto", "-1"):
        return None
    numbers = [part for part in text.split(",") if part.strip()]
    if not numbers or not all(part.strip().isdigit() for part in numbers):
        raise ConfigError(f"trainer.devices={devices}: give a number, a list as [0,1] or '0,1', or auto.")
    return len(numbers) if "," in text else int(text)


def resolve_precision(precision: str, accelerator: str) -> str:
    """Return the precision; 'auto' is bf16-mixed if the device has native bfloat16, otherwise 32-true.

    Raises:
        ConfigError: the precision needs a GPU.
    """
    if precision == "16-mixed" and accelerator == "cpu":
        raise ConfigError("trainer.precision=16-mixed needs a GPU. On a CPU use auto, bf16-mixed or 32-true.")
    if precision != "auto":
        return precision
    return "bf16-mixed" if has_bf16(on_gpu(accelerator)) else "32-true"


def has_bf16(gpu: bool) -> bool:
    """Return whether the GPU, or the processor (AVX512-BF16 or AMX), has native bfloat16."""
    import torch

    if gpu:  # older GPUs emulate bfloat16 slowly and have no `varlen_attn`
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def quiet() -> None:
    """Hide the messages that Lightning and transformers write for developers; keep warnings about a user's data."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for text in (".*does not have many workers.*", ".*num_workers.*", ".*persistent_workers.*", ".*val_dataloader.*",
                 ".*Checkpoint directory.*", ".*infer the `batch_size`.*", ".*LeafSpec.*", ".*log_every_n_steps.*",
                 ".*no logger configured.*", ".*`isinstance\\(treespec.*", ".*sync_dist=True.*", ".*across ranks is zero.*",
                 ".*ended before the epoch ended and your dataloader.*"):  # fmt: skip
        warnings.filterwarnings("ignore", message=text)


def device_name(device: Any) -> str:
    """Return the product name of a torch device."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU ({platform.machine()})"
