"""The Lightning Trainer of a run: device, precision, loggers, checkpoints, and processes that know their job."""

import logging
import os
import platform
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from kjcm.errors import ConfigError, first_line
from kjcm.schema import quoted, word_key

if TYPE_CHECKING:
    import lightning.pytorch as pl

PROCESS_KEYS = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "RANK")


def global_rank() -> int:
    """Return this process's rank as its launcher (torchrun, Slurm, or Lightning's own) names it; 0 for a lone process."""
    for key in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        if os.environ.get(key, "").isdigit():
            return int(os.environ[key])
    return 0


def one_of_several() -> bool:
    """Tell whether a launcher outside (torchrun, Slurm) has started this process as one of several."""
    return any(int(os.environ.get(name) or 1) > 1 for name in ("WORLD_SIZE", "SLURM_NTASKS"))


def on_gpu(accelerator: str) -> bool:
    """Tell whether 'auto', 'cpu' or 'gpu' means a GPU here."""
    import torch

    return accelerator != "cpu" and torch.cuda.is_available()


def require_device(key: str, accelerator: str) -> None:
    """Raise ConfigError if a GPU is asked for where there is none.

    Args:
        key: of the config, which the message names.
        accelerator: its value.
    """
    if accelerator == "gpu" and not on_gpu(accelerator):
        raise ConfigError(f"{key}=gpu: there is no GPU here (`kjcm doctor` shows the devices). Use {key}=cpu.")


def device_count(devices: Any) -> int | None:
    """Return how many devices `trainer.devices` asks for, None where it is all that there are.

    Raises:
        ConfigError: Lightning understands it neither.
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
    """Return what 'auto' means on this device: bf16-mixed where it computes in bfloat16 itself, else 32-true."""
    if precision == "16-mixed" and accelerator == "cpu":
        raise ConfigError("trainer.precision=16-mixed needs a GPU: use auto, bf16-mixed or 32-true on a CPU.")
    if precision != "auto":
        return precision
    return "bf16-mixed" if has_bf16(on_gpu(accelerator)) else "32-true"


def has_bf16(gpu: bool) -> bool:
    """Tell whether the GPU, or the processor (AVX512-BF16 or AMX), computes in bfloat16 itself."""
    import torch

    if gpu:  # older ones emulate it, slowly, and have no `varlen_attn`
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def make_trainer(
    node: dict[str, Any], *, folder: Path, loggers: list[Any], callbacks: list[Any], log_every: int = 10
) -> "pl.Trainer":
    """Return the Trainer of a `trainer` node; loggers get a step's loss where the number of steps divides by `log_every`.

    Raises:
        ConfigError: the device is not there.
    """
    import lightning.pytorch as pl
    import torch
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    quiet()
    # nothing here reads what it has not written, and filling all new memory costs a sixth of a step
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    progress = [progress_bar()] if node["progress"] and sys.stdout.isatty() else []
    try:
        trainer = pl.Trainer(
            accelerator=node["accelerator"],
            devices=node["devices"],
            num_nodes=node["num_nodes"],
            strategy=node["strategy"],
            precision=cast(Any, resolve_precision(node["precision"], node["accelerator"])),
            max_epochs=node["max_epochs"],
            deterministic=node["deterministic"],
            default_root_dir=str(folder),
            logger=loggers,
            callbacks=[*callbacks, *progress],
            enable_checkpointing=bool(callbacks),
            enable_progress_bar=bool(progress),
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=log_every,
            use_distributed_sampler=False,  # the data module shares the rows out itself
        )
        # Lightning's handlers would stop without saving, or write a checkpoint of their own: kjcm.training.signals has ours
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
        return trainer
    except (MisconfigurationException, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"trainer.accelerator={node['accelerator']} trainer.devices={node['devices']} trainer.strategy="
            f"{node['strategy']}: {first_line(error)} `kjcm doctor` says what is here; trainer=cpu always works."
        ) from None


def progress_bar() -> Any:
    """Return the rich progress bar."""
    from lightning.pytorch.callbacks import RichProgressBar

    class Bar(RichProgressBar):
        """The rich progress bar, with epochs counted from 1 and without the logger's version number."""

        def _get_train_description(self, current_epoch: int) -> str:
            # as wide as the other bar's, else both would flicker
            return f"Epoch {current_epoch + 1}/{self.trainer.max_epochs}".ljust(len(self.validation_description))

        def get_metrics(self, trainer: Any, pl_module: Any) -> dict[str, Any]:
            shown = super().get_metrics(trainer, pl_module)
            shown.pop("v_num", None)
            return dict(shown)

    return Bar(leave=False)


def quiet() -> None:
    """Keep what Lightning says to developers of it off the screen; warnings that concern a user's data stay."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for text in (".*does not have many workers.*", ".*num_workers.*", ".*persistent_workers.*", ".*val_dataloader.*",
                 ".*Checkpoint directory.*", ".*infer the `batch_size`.*", ".*LeafSpec.*", ".*log_every_n_steps.*",
                 ".*`isinstance\\(treespec.*", ".*sync_dist=True.*", ".*across ranks is zero.*",
                 ".*ended before the epoch ended and your dataloader.*"):  # fmt: skip
        warnings.filterwarnings("ignore", message=text)


@contextmanager
def processes(command: str, overrides: list[str], run_dir: Path) -> Iterator[None]:
    """Let processes that the Trainer starts run this one job, and clear up after them.

    A child runs `sys.argv` again, which in a multirun is the whole sweep: here it is this job alone. Afterwards the
    process group and the launcher's variables go, so that the next job of the sweep begins anew.
    """
    import torch

    argv, kept = sys.argv, {key: os.environ.get(key) for key in PROCESS_KEYS}
    sys.argv = [argv[0], command, *without_sweep(overrides), "run_dir=" + quoted(str(run_dir))]
    try:
        yield
    finally:
        sys.argv = argv
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        for key, value in kept.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def without_sweep(overrides: Iterable[str]) -> list[str]:
    """Return the overrides of a multirun's job for a command of its own, which takes no `sweep` keys."""
    return [override for override in overrides if word_key(override).split(".")[0] != "sweep"]


def gathered(own: list[Any]) -> list[Any]:
    """Return the items of all processes; each has given a list."""
    import torch

    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return own
    lists: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(lists, own)
    return [item for items in lists for item in items]


def device_name(device: Any) -> str:
    """Return what a torch device is called by its maker."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU ({platform.machine()})"
