"""The Lightning Trainer of a run, and the processes that it starts."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from kjcm.engine.device import quiet, resolve_precision
from kjcm.errors import ConfigError, first_line
from kjcm.keys.overrides import quoted, word_key
from kjcm.keys.training import TrainerConfig

if TYPE_CHECKING:
    import lightning.pytorch as pl

PROCESS_KEYS = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "RANK")


def make_trainer(
    node: TrainerConfig, *, folder: Path, loggers: list[Any], callbacks: list[Any], log_every: int = 10
) -> "pl.Trainer":
    """Return a Trainer for a `trainer` node; it logs a step's loss every `log_every` steps.

    Raises:
        ConfigError: Lightning refuses the device or the strategy.
    """
    import lightning.pytorch as pl
    import torch
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from kjcm.engine.lightning_internals import ProgressBar, leave_signals_alone

    quiet()
    # The module clips the gradient itself, in every engine.
    flags = {name: value for name, value in node.flags.items() if not name.startswith("gradient_clip_")}
    # kjcm reads no memory that it has not written, and filling all new memory costs a sixth of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    progress = [ProgressBar(leave=False)] if node.progress and sys.stdout.isatty() else []
    try:
        trainer = pl.Trainer(
            accelerator=node.accelerator,
            devices=node.devices,
            num_nodes=node.num_nodes,
            strategy=node.strategy,
            precision=cast(Any, resolve_precision(node.precision, node.accelerator)),
            max_epochs=node.max_epochs,
            deterministic=node.deterministic,
            default_root_dir=str(folder),
            logger=loggers,
            callbacks=[*callbacks, *progress],
            enable_checkpointing=bool(callbacks),
            enable_progress_bar=bool(progress),
            num_sanity_val_steps=0,
            use_distributed_sampler=False,  # the data module distributes the rows
            **{"enable_model_summary": False, "log_every_n_steps": log_every, **flags},
        )
        leave_signals_alone(trainer)  # kjcm.engine.signals has its own handlers
        return trainer
    except (MisconfigurationException, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"trainer.accelerator={node.accelerator} trainer.devices={node.devices} trainer.strategy="
            f"{node.strategy}: {first_line(error)} `kjcm doctor` lists the devices; trainer=cpu always works."
        ) from None


@contextmanager
def processes(command: str, overrides: list[str], run_dir: Path) -> Iterator[None]:
    """Make processes that the Trainer starts run only this job, and clean up after them.

    The Trainer's launcher runs `sys.argv` again, which in a multirun would be the whole sweep. Afterwards the process
    group is destroyed and the launcher's variables are restored, so the sweep's next job starts afresh.
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
    """Return the overrides without `sweep` keys, which the command for a single job refuses."""
    return [override for override in overrides if word_key(override).split(".")[0] != "sweep"]


def gathered(own: list[Any]) -> list[Any]:
    """Return the items from all processes' lists, in rank order."""
    import torch

    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return own
    lists: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(lists, own)
    return [item for items in lists for item in items]
