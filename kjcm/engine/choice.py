"""Which engine trains: what is asked for, and what device and encoder allow."""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kjcm.config.commands import TrainConfig
from kjcm.config.training import TrainerConfig
from kjcm.engine.device import device_count, global_rank, on_gpu
from kjcm.errors import ConfigError
from kjcm.parts import target_of

if TYPE_CHECKING:
    from kjcm.model.encoder import FirstToken, MeanPooled

# hooks that Lightning calls with each step or gradient, which one call of many captured steps has none of
OF_EACH_STEP = (
    "on_train_batch_start", "on_train_batch_end", "on_before_zero_grad", "on_before_backward", "on_after_backward",
    "on_before_optimizer_step",
)  # fmt: skip
# trainer.flags that captured steps honour
CAPTURED_FLAGS = {
    "gradient_clip_val", "gradient_clip_algorithm", "check_val_every_n_epoch", "limit_val_batches", "min_epochs",
    "log_every_n_steps", "enable_model_summary", "benchmark", "inference_mode", "profiler", "enable_autolog_hparams",
    "model_registry",
}  # fmt: skip

log = logging.getLogger("kjcm")


@dataclass(frozen=True)
class Engine:
    """How the steps of a training are run.

    Attributes:
        name: 'reference' (padded batches), 'packed' (without padding) or 'captured' (packed, many steps a call).
        attention_dropout: whether the attention's dropout applies.
        compiled: whether torch.compile makes a captured step's kernels.
        block: steps a call, None where each is a call of its own.
        strict: whether it was asked for by name, so that what it lacks is an error.
    """

    name: str
    attention_dropout: bool
    compiled: bool
    block: int | None
    strict: bool = False


def choose_engine(config: TrainConfig, encoder: "MeanPooled | FirstToken") -> Engine:
    """Return the engine of a run's config.

    Raises:
        ConfigError: the engine that is asked for by name cannot run this encoder, or all that the config asks for.
    """
    from kjcm.model.encoder import can_pack

    node, name = config.engine, config.engine.name
    if name == "reference":
        return Engine("reference", True, False, None)
    if not can_pack(encoder):
        kind = encoder.config.model_type
        if name != "auto":
            raise ConfigError(f"engine={name} runs no encoder of the kind {kind}. Use engine=auto or engine=reference.")
        if global_rank() == 0:
            also = "" if node.attention_dropout == "exact" else ", with the attention's dropout"
            log.warning("no packed batches for encoders of the kind %s: engine=reference trains it%s", kind, also)
        return Engine("reference", True, False, None)
    lacking = "" if name == "packed" else not_captured(config)
    if name == "captured" and lacking:
        raise ConfigError(f"engine=captured cannot honour {lacking}. Change it, or use engine=auto.")
    captured = name == "captured"
    if name == "auto" and on_gpu(config.trainer.accelerator):
        captured = not lacking
        if lacking and global_rank() == 0:
            log.info("engine=packed trains: captured steps cannot honour %s", lacking)
    return Engine(
        "captured" if captured else "packed",
        node.attention_dropout == "exact",
        node.compile,
        node.block if captured else None,
        name == "captured",
    )


def not_captured(config: TrainConfig) -> str:
    """Return what of a config captured steps cannot honour; empty where they can run it all."""
    import torch

    trainer, optimisers = config.trainer, (torch.optim.Adam, torch.optim.AdamW)
    if not _one_process(trainer):
        return "several processes"
    if trainer.precision == "16-mixed":
        return "trainer.precision=16-mixed, which scales losses"
    if target_of("optim", config.optim) not in optimisers:  # the graph needs its state to begin at zero
        return f"optim._target_={config.optim['_target_']} (only torch.optim.Adam and AdamW)"
    if flags := [name for name in trainer.flags if name not in CAPTURED_FLAGS]:
        return f"trainer.flags.{flags[0]}"
    each_step = [name for name, node in config.callbacks.items() if _acts_each_step(target_of(name, node))]
    return f"callbacks.{each_step[0]}, which acts at each step" if each_step else ""


def _acts_each_step(target: Any) -> bool:
    """Return whether a callback has a hook of each step; of a function that makes one it is assumed."""
    from lightning.pytorch import Callback

    if not (isinstance(target, type) and issubclass(target, Callback)):
        return True
    return any(getattr(target, hook) is not getattr(Callback, hook) for hook in OF_EACH_STEP)


def _one_process(trainer: TrainerConfig) -> bool:
    """Tell whether a trainer node means one process on one device."""
    import torch

    count = device_count(trainer.devices)
    if count is None:
        count = torch.cuda.device_count() if on_gpu(trainer.accelerator) else 1
    return count == 1 and trainer.num_nodes == 1 and trainer.strategy == "auto"
