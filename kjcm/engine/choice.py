"""Choose the engine that trains a run from its config, its device and its encoder."""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kjcm.engine.device import device_count, global_rank, on_gpu
from kjcm.errors import ConfigError
from kjcm.keys.commands.train import TrainConfig
from kjcm.keys.training import TrainerConfig
from kjcm.parts import target_of

if TYPE_CHECKING:
    from kjcm.model.encoder import FirstToken, MeanPooled

# Callback hooks that Lightning calls at each step; the captured engine runs many steps without calling them.
STEP_HOOKS = (
    "on_train_batch_start", "on_train_batch_end", "on_before_zero_grad", "on_before_backward", "on_after_backward",
    "on_before_optimizer_step",
)  # fmt: skip
# trainer.flags that the captured engine supports
CAPTURED_FLAGS = {
    "gradient_clip_val", "gradient_clip_algorithm", "check_val_every_n_epoch", "limit_val_batches", "min_epochs",
    "log_every_n_steps", "enable_model_summary", "benchmark", "inference_mode", "profiler", "enable_autolog_hparams",
    "model_registry",
}  # fmt: skip

log = logging.getLogger("kjcm")


@dataclass(frozen=True)
class Engine:
    """The way in which a run's training steps are run.

    Attributes:
        name: 'reference' (padded batches), 'packed' (without padding) or 'captured' (packed, many steps per call).
        attention_dropout: whether dropout applies to the attention.
        compiled: whether torch.compile compiles a captured step.
        block: captured steps per call; None for the other engines.
        strict: whether the config names the captured engine, so that a failed compilation is an error.
    """

    name: str
    attention_dropout: bool
    compiled: bool
    block: int | None
    strict: bool = False


def choose_engine(config: TrainConfig, encoder: "MeanPooled | FirstToken") -> Engine:
    """Return the engine for a run's config and encoder.

    Raises:
        ConfigError: the config names an engine that cannot run this encoder, or lacks something that the config sets.
    """
    from kjcm.model.encoder import can_pack

    node, name = config.engine, config.engine.name
    if config.param_groups.cache_frozen and (obstacle := _obstacle_to_caching(config, can_pack(encoder))):
        raise ConfigError(
            f"param_groups.cache_frozen=true does not support {obstacle}. Change this setting, or leave out cache_frozen."
        )
    if name == "reference":
        return Engine("reference", True, False, None)
    if not can_pack(encoder):
        kind = encoder.config.model_type
        if name != "auto":
            raise ConfigError(f"engine={name} cannot run a {kind} encoder. Use engine=auto or engine=reference.")
        if global_rank() == 0:
            also = "" if node.attention_dropout == "exact" else ", with attention dropout"
            log.warning("%s encoders cannot use packed batches; engine=reference trains this one%s", kind, also)
        return Engine("reference", True, False, None)
    obstacle = "" if name == "packed" else obstacle_to_capture(config)
    if name == "captured" and obstacle:
        raise ConfigError(f"engine=captured does not support {obstacle}. Change this setting, or use engine=auto.")
    captured = name == "captured"
    if name == "auto" and on_gpu(config.trainer.accelerator):
        captured = not obstacle
        if obstacle and global_rank() == 0:
            log.info("engine=packed trains this run: engine=captured does not support %s", obstacle)
    return Engine(
        "captured" if captured else "packed",
        node.attention_dropout == "exact",
        node.compile,
        node.block if captured else None,
        name == "captured",
    )


def obstacle_to_capture(config: TrainConfig) -> str:
    """Return the first setting in a config that the captured engine does not support; '' if it supports all."""
    import torch

    trainer, optimisers = config.trainer, (torch.optim.Adam, torch.optim.AdamW)
    if not _one_process(trainer):
        return "several processes"
    if config.param_groups.cache_frozen:
        return "param_groups.cache_frozen"
    if trainer.precision == "16-mixed":
        return "trainer.precision=16-mixed, which scales losses"
    # The graph resets the optimiser's state to zero, which is how these two begin.
    if target_of("optim", config.optim) not in optimisers:
        return f"optim._target_={config.optim['_target_']} (only torch.optim.Adam and AdamW)"
    if flags := [name for name in trainer.flags if name not in CAPTURED_FLAGS]:
        return f"trainer.flags.{flags[0]}"
    each_step = [name for name, node in config.callbacks.items() if _acts_each_step(target_of(name, node))]
    return f"callbacks.{each_step[0]}, which acts at each step" if each_step else ""


def _obstacle_to_caching(config: TrainConfig, packable: bool) -> str:
    """Return the first setting with which the output of the frozen layers cannot be stored; '' if it can."""
    if not config.param_groups.freeze_embeddings:
        return "param_groups.freeze_embeddings=false"
    if config.engine.name in ("reference", "captured"):
        return f"engine={config.engine.name}"
    if not _one_process(config.trainer):
        return "several processes"
    return "" if packable else "encoders of this architecture"


def _acts_each_step(target: Any) -> bool:
    """Return whether a callback class overrides a hook of each step; assume so if `target` is a function."""
    from lightning.pytorch import Callback

    if not (isinstance(target, type) and issubclass(target, Callback)):
        return True
    return any(getattr(target, hook) is not getattr(Callback, hook) for hook in STEP_HOOKS)


def _one_process(trainer: TrainerConfig) -> bool:
    """Return whether a trainer node means one process on one device."""
    import torch

    count = device_count(trainer.devices)
    if count is None:
        count = torch.cuda.device_count() if on_gpu(trainer.accelerator) else 1
    return count == 1 and trainer.num_nodes == 1 and trainer.strategy == "auto"
