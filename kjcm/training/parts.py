"""The parts of a training that its config names: check them before the data are read, build them afterwards."""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from inspect import signature
from typing import TYPE_CHECKING, Any, cast

from kjcm.errors import ConfigError, some
from kjcm.keys.commands.train import TrainConfig
from kjcm.keys.models import TokenizerConfig
from kjcm.keys.training import TrainerConfig
from kjcm.metrics import MEASURED, METRICS
from kjcm.parts import build, require_arguments, target_of
from kjcm.survey.rows import Rows
from kjcm.text.tokenizer import holds_kobert
from kjcm.tracking.loggers import require_loggers

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback
    from torchmetrics import Metric

    from kjcm.engine.learning import Learning

# Arguments of Lightning's Trainer that kjcm sets itself -> the config key to use instead.
OWN_FLAGS = {
    **{name: f"trainer.{name}" for name in ("accelerator", "devices", "num_nodes", "strategy", "precision", "max_epochs",
                                            "deterministic")},
    "logger": "logger=NAME", "callbacks": "callbacks=NAME", "enable_progress_bar": "trainer.progress",
    "overfit_batches": "trainer.flags.limit_train_batches",
    "enable_checkpointing": "trainer.save_every", "default_root_dir": "run_dir", "limit_test_batches": "",
    "limit_predict_batches": "", "num_sanity_val_steps": "", "use_distributed_sampler": "", "barebones": "",
}  # fmt: skip


def require_parts(config: TrainConfig) -> None:
    """Check each part that a training's config names.

    Raises:
        ConfigError: a target cannot be imported, an argument is unknown or missing, or a callback monitors no metric.
    """
    import torch

    require_arguments("loss", config.loss, ("class_counts", "class_tree"))
    require_arguments("optim", config.optim, ("params",))
    require_arguments("schedule", config.schedule)
    _require_flags(config.trainer.flags)
    # Building the parts once reports a value outside its range before the data are read.
    build("optim", config.optim, [torch.nn.Parameter(torch.zeros(1))])
    build("schedule", config.schedule)
    for name, node in config.metrics.items():
        require_arguments(f"metrics.{name}", node, ("num_classes",))
        build(f"metrics.{name}", node, num_classes=2)
    if taken := [name for name in config.metrics if name in (*METRICS, *MEASURED)]:
        raise ConfigError(f"metrics.{taken[0]}: kjcm has a metric of this name. Choose another.")
    for name, node in config.callbacks.items():
        require_arguments(f"callbacks.{name}", node)
        build(f"callbacks.{name}", node)
        _require_monitor(f"callbacks.{name}", node, config)
    require_loggers(config.logger)


def require_fitting_tokenizer(config: TrainConfig) -> None:
    """Raise ConfigError if the config combines a new tokenizer with weights that were trained with another."""
    if config.tokenizer.kind == "trained" and config.encoder.pretrained:
        raise ConfigError(
            f"tokenizer=trained makes new token ids, which do not match the weights of "
            f"model.pretrained={config.encoder.pretrained}. Use tokenizer=kobert, tokenizer=huggingface or "
            "model.pretrained=null."
        )


def tokenizer_path(node: TokenizerConfig, pretrained: str | None) -> str | None:
    """Return tokenizer.path; without a path, KoBERT's tokenizer may come from the folder of the pretrained weights."""
    if node.path is None and node.kind == "kobert" and pretrained and holds_kobert(pretrained):
        return pretrained
    return node.path


def require_weights(config: TrainConfig) -> None:
    """Raise KjcmError if an encoder's tokenizer or pretrained weights cannot be loaded, or do not fit each other."""
    from kjcm.model.encoder import build_encoder
    from kjcm.text.tokenizer import build_tokenizer

    node, model = config.tokenizer, config.encoder
    if node.kind == "trained":
        return
    tokenizer = build_tokenizer(node.kind, tokenizer_path(node, model.pretrained), node.vocab_size, ())
    if model.pretrained:
        build_encoder(
            pretrained=model.pretrained,
            shape=None,
            pooling="mean",
            classes=1,
            vocabulary=len(tokenizer),
            pad=int(cast(int, tokenizer.pad_token_id)),
            max_length=model.max_length,
            seed=0,
        )


def require_one_device(node: TrainerConfig, why: str) -> None:
    """Raise ConfigError, which ends with `why`, if a training would need several devices."""
    devices, nodes = node.devices, node.num_nodes
    if nodes != 1 or (len(devices) if isinstance(devices, list) else str(devices)) not in (1, "1"):
        raise ConfigError(f"trainer.devices={devices}, trainer.num_nodes={nodes}: {why}")


def monitored(config: TrainConfig) -> list[str]:
    """Return the names of the values that a callback can monitor."""
    return ["train_loss", *(f"val_{name}" for name in (*METRICS, *config.metrics))]


def _require_monitor(key: str, node: Mapping[str, Any], config: TrainConfig) -> None:
    """Raise ConfigError if a callback monitors a value that is never logged, which Lightning reports late or never."""
    parameters = signature(target_of(key, node)).parameters
    if "monitor" not in parameters:
        return
    monitor = node.get("monitor", parameters["monitor"].default)
    if not isinstance(monitor, str):
        return
    if monitor not in (known := monitored(config)):
        near = get_close_matches(monitor, known, n=3) or known
        raise ConfigError(f"{key}.monitor={monitor}: no such value is logged. Near it are {some(near)}.")
    if not monitor.startswith("val_"):
        return
    if not config.data.validation and config.data.inner_folds is None:
        raise ConfigError(f"{key}.monitor={monitor} needs validation rows. Set data.validation=0.1, or remove {key}.")
    flags, epochs = config.trainer.flags, config.trainer.max_epochs
    every = flags.get("check_val_every_n_epoch")
    if flags.get("limit_val_batches") == 0 or (isinstance(every, int) and every > epochs):
        raise ConfigError(
            f"{key}.monitor={monitor}: with these trainer.flags no epoch has a validation batch. Change limit_val_batches or "
            f"check_val_every_n_epoch, or remove {key}."
        )


def _require_flags(flags: Mapping[str, Any]) -> None:
    """Raise ConfigError if a flag is no argument of Lightning's Trainer, or an argument that kjcm sets itself."""
    from lightning.pytorch import Trainer

    known = [name for name in signature(Trainer).parameters if name not in OWN_FLAGS]
    for name in flags:
        if name in OWN_FLAGS:
            instead = OWN_FLAGS[name]
            raise ConfigError(
                f"trainer.flags.{name}: kjcm sets this argument. {f'Use {instead}.' if instead else 'Remove it.'}"
            )
        if name not in known:
            near = get_close_matches(name, known, n=1)
            raise ConfigError(
                f"trainer.flags.{name}: Lightning's Trainer has no such argument. "
                f"{f'Do you mean {near[0]}? ' if near else ''}It takes {', '.join(known)}."
            )


def learning_of(config: TrainConfig, rows: Rows) -> "Learning":
    """Return a run's loss, optimiser, schedule, parameter groups and gradient clipping.

    Raises:
        ConfigError: a part refuses its arguments.
    """
    import torch

    from kjcm.engine.learning import Learning, ParamGroups, counts_of
    from kjcm.model.losses import Finer, tree_of

    flags, weight = config.trainer.flags, config.encoder.finer_weight
    return Learning(
        optim=config.optim,
        loss=build(
            "loss",
            config.loss,
            class_counts=counts_of(rows.labels["train"], len(rows.cohort.classes)),
            class_tree=tree_of(rows.ancestors),
        ),
        finer=Finer(torch.tensor(rows.finer[1]), weight) if weight else None,
        schedule=build("schedule", config.schedule),
        groups=ParamGroups(**vars(config.param_groups)),
        clip=flags.get("gradient_clip_val"),
        clip_by=flags.get("gradient_clip_algorithm") or "norm",
    )


def callbacks_of(config: TrainConfig) -> "list[Callback]":
    """Return the callbacks that a config names, in its order."""
    return [build(f"callbacks.{name}", node) for name, node in config.callbacks.items()]


def metrics_of(config: TrainConfig) -> "Callable[[int], Mapping[str, Metric]]":
    """Return a function that builds the metrics that a config names, given the number of classes."""
    nodes = config.metrics
    return lambda classes: {name: build(f"metrics.{name}", node, num_classes=classes) for name, node in nodes.items()}


def chooses_weights(config: TrainConfig) -> bool:
    """Return whether the config has an early-stopping callback, so that validation rows select the weights."""
    from lightning.pytorch.callbacks import EarlyStopping

    targets = [target_of(f"callbacks.{name}", node) for name, node in config.callbacks.items()]
    return any(isinstance(target, type) and issubclass(target, EarlyStopping) for target in targets)


def train_limit(flags: Mapping[str, Any]) -> float | None:
    """Return an epoch's number (int) or share (float) of training batches under trainer.flags; None for all batches."""
    for name in ("fast_dev_run", "limit_train_batches"):
        if limit := flags.get(name):
            return int(limit) if isinstance(limit, bool) else limit
    return None
