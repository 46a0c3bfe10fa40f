"""`kjcm pretrain`: train an encoder on texts without codes; its folder is a `model.pretrained` of `kjcm train`."""

import logging
import math
import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from kjcm import __version__
from kjcm.engine.device import global_rank, quiet, require_device
from kjcm.engine.signals import Signals
from kjcm.errors import ConfigError
from kjcm.files import new_folder, write_json
from kjcm.keys.commands.train import PretrainConfig
from kjcm.keys.models import EncoderConfig
from kjcm.pretraining.texts import Texts, texts_to_learn
from kjcm.run_folder.folder import RunFolder
from kjcm.shell import command_line
from kjcm.tracking.loggers import make_loggers
from kjcm.training.checkpoints import Checkpoints, tidy_up
from kjcm.training.fit import Fitted, fit, stopping_together
from kjcm.training.parts import require_fitting_tokenizer, require_parts, tokenizer_path, train_limit
from kjcm.training.run import as_helper, claimed_folder, run_to_make
from kjcm.training.trainer import make_trainer, processes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from kjcm.engine.data import TokenData
    from kjcm.pretraining.masked import MaskedLanguage

log = logging.getLogger("kjcm")


def pretrain(cfg: DictConfig) -> None:
    """Pretrain the encoder that `cfg` defines, and write its run folder; skip a finished run, resume others.

    Raises:
        KjcmError: the input, the system or the folder is unusable.
    """
    wanted = run_to_make(cfg, PretrainConfig)
    if wanted is None:
        return
    config, folder = wanted
    if not isinstance(config.model, EncoderConfig):
        raise ConfigError(
            f"model={config.model.name}: only an encoder can be pretrained. Use model=tiny or another encoder."
        )
    require_device("trainer.accelerator", config.trainer.accelerator)
    require_parts(config)
    require_fitting_tokenizer(config)
    begin = time.perf_counter()
    texts = texts_to_learn(config)
    tokenizer, data, module = _prepared(config, texts)
    if global_rank() != 0:
        with as_helper(folder) as caught:
            _fitted(config, folder, module, data, caught)
        return
    with claimed_folder(folder, cfg, config) as caught:
        _log_texts(config, texts)
        fitted, values = _fitted(config, folder, module, data, caught)
        _save(folder.path / "model", module, tokenizer, config.encoder.max_length)
        report = {
            "kind": "pretraining",
            "experiment": config.name,
            "seed": config.seed,
            "synthetic": texts.synthetic,
            "texts": {"train": len(texts.train), "validation": len(texts.validation), "left": dict(texts.left)},
            "validation": values,
            "epochs": fitted.epochs,
            "steps": fitted.steps,
            "precision": fitted.precision,
            "hashes": {"run": folder.identity.hash},
            "versions": {"kjcm": __version__},
            "seconds": {"fit": fitted.seconds, "total": round(time.perf_counter() - begin, 3)},
        }
        folder.require_held()
        write_json(folder.path / "report.json", report)
        folder.finish()
        tidy_up(folder.path, config)
    _log_result(config, folder.path / "model", values)


def _prepared(config: PretrainConfig, texts: Texts) -> "tuple[PreTrainedTokenizerFast, TokenData, MaskedLanguage]":
    """Return the tokenizer, the tokens of the texts, and the model before training."""
    from kjcm.engine.data import Labelled, TokenData
    from kjcm.engine.learning import Learning, ParamGroups, freeze
    from kjcm.model.encoder import build_masked
    from kjcm.parts import build
    from kjcm.pretraining.masked import MaskedLanguage
    from kjcm.text.tokenizer import build_tokenizer
    from kjcm.text.tokens import require_known, tokenize

    quiet()
    node, model, cache = config.tokenizer, config.encoder, Path(config.cache)
    tokenizer = build_tokenizer(node.kind, tokenizer_path(node, model.pretrained), node.vocab_size, texts.train, cache)
    if tokenizer.mask_token_id is None:
        raise ConfigError("The tokenizer has no token for hidden tokens ([MASK]). Use the tokenizer of a masked model.")
    encode = partial(tokenize, tokenizer, prefix=model.prefix, max_length=model.max_length, cache=cache)
    sides = {"train": texts.train, "validation": texts.validation}
    tokens = {side: encode(found) for side, found in sides.items() if found}
    require_known(tokens["train"], tokenizer.unk_token_id, node.max_unknown, node.path or node.kind)
    data = TokenData(
        {side: Labelled(found, np.zeros(len(found), np.int64)) for side, found in tokens.items()},
        int(tokenizer.pad_token_id),
        batch_size=config.data.batch_size,
        seed=config.seeds.batches,
        workers=config.trainer.num_workers,
        eval_batch_size=config.data.batch_size,
        limit=train_limit(config.trainer.flags),
    )
    encoder = build_masked(
        pretrained=model.pretrained,
        shape=model.shape,
        vocabulary=len(tokenizer),
        pad=int(tokenizer.pad_token_id),
        max_length=model.max_length,
        seed=config.seeds.init,
    )
    flags = config.trainer.flags
    learning = Learning(
        optim=config.optim,
        schedule=build("schedule", config.schedule),
        groups=replace(ParamGroups(**vars(config.param_groups)), cache_frozen=False, head_factor=1.0),  # of classifiers
        clip=flags.get("gradient_clip_val"),
        clip_by=flags.get("gradient_clip_algorithm") or "norm",
    )
    freeze(encoder, learning.groups)
    return (
        tokenizer,
        data,
        MaskedLanguage(encoder, tokenizer, learning, config.seeds.dropout, config.pretraining.masked),
    )


def _fitted(
    config: PretrainConfig, folder: RunFolder, module: "MaskedLanguage", data: "TokenData", caught: Signals
) -> tuple[Fitted, dict[str, float]]:
    """Train, or resume; return the facts of the training, and loss, perplexity and accuracy of the held-out texts."""
    from kjcm.engine.saving import Saving
    from kjcm.tracking.epochs import Epochs
    from kjcm.tracking.meter import Meter

    store = Checkpoints(folder.path / "checkpoints", folder.require_held)
    newest = store.newest()
    step = newest[1]["global_step"] if newest else 0
    overrides = list(HydraConfig.get().overrides.task)
    with (
        make_loggers(asdict(config), folder, None, sweep=None, step=step) as loggers,
        processes("pretrain", overrides, folder.path),
    ):
        saving = Saving(store.save, config.trainer.save_every, caught.asked, caught.obey)
        callbacks = [saving, Epochs(saving), *([Meter()] if loggers else [])]
        trainer = make_trainer(config.trainer, folder=folder.path, loggers=loggers, callbacks=callbacks)
        with stopping_together(trainer):
            fitted = fit(trainer, module, data, store, newest, saving, caught)
            if "validation" not in data.sides:
                return fitted, {}
            trainer.limit_val_batches = 1.0  # whatever trainer.flags limit
            trainer.validate(module, datamodule=data, verbose=False)
        values = {name.removeprefix("val_"): float(value) for name, value in trainer.callback_metrics.items()}
        return fitted, {**values, "perplexity": math.exp(min(values["loss"], 700.0))}


def _save(folder: Path, module: "MaskedLanguage", tokenizer: "PreTrainedTokenizerFast", max_length: int) -> None:
    """Write encoder and tokenizer as transformers reads them."""
    from kjcm.text.tokenizer import save_tokenizer

    encoder: Any = module.encoder
    with new_folder(folder) as part:
        encoder.save_pretrained(part)
        save_tokenizer(tokenizer, part, max_length)


def _log_texts(config: PretrainConfig, texts: Texts) -> None:
    log.info(
        "%s texts to learn from, %s to measure the loss%s",
        f"{len(texts.train):,}",
        f"{len(texts.validation):,}",
        ", SYNTHETIC" if texts.synthetic else "",
    )
    for reason, count in texts.left.items():
        log.info("  (%s left out: %s)", f"{count:,}", reason)
    start = config.encoder.pretrained or "random start"
    log.info("model %s (%s), epochs: %d", config.model.name, start, config.trainer.max_epochs)


def _log_result(config: PretrainConfig, model: Path, values: dict[str, float]) -> None:
    """Log the result, and the command that uses it."""
    if values:
        log.info(
            "held-out texts: loss %.4f, perplexity %.1f, %.1f %% of the hidden tokens predicted",
            values["loss"],
            values["perplexity"],
            100 * values["accuracy"],
        )
    hydra = HydraConfig.get()
    overrides = [
        f"model={hydra.runtime.choices['model']}",
        f"model.pretrained={model}",
        "tokenizer=huggingface",
        *(word for word in hydra.overrides.task if word.startswith(("model.prefix=", "model.max_length="))),
    ]
    log.info("next, with your data keys: %s", command_line(["kjcm", "train", *overrides]))
