"""`kjcm train`: read a survey, and make a run folder with an evaluated model."""

import logging
import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from numpy.typing import NDArray
from omegaconf import DictConfig

from kjcm.engine.choice import choose_engine
from kjcm.engine.device import global_rank, quiet, require_device
from kjcm.errors import ConfigError
from kjcm.keys.commands.train import TrainConfig
from kjcm.keys.models import EncoderConfig, EnsembleConfig, TokenizerConfig, ViewsConfig
from kjcm.keys.unread import SWEEP
from kjcm.run_folder.folder import RunFolder
from kjcm.run_folder.model_folder import save_model
from kjcm.run_folder.results import Outcome
from kjcm.survey.rows import Rows, indices_of, rows_of
from kjcm.training.baseline import svm_check
from kjcm.training.checkpoints import tidy_up
from kjcm.training.ensemble import train_ensemble
from kjcm.training.fit import Fitted, Prepared, fitted_and_measured
from kjcm.training.linear import train_linear
from kjcm.training.parts import (
    chooses_weights,
    learning_of,
    require_fitting_tokenizer,
    require_parts,
    tokenizer_path,
    train_limit,
)
from kjcm.training.run import (
    as_helper,
    claimed_run,
    finish,
    keep_held_rows,
    publish,
    report_record,
    run_to_make,
    settings_of,
    write_predictions,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from kjcm.text.tokens import Tokens

PACKAGES = ("torch", "lightning", "transformers", "tokenizers", "torchmetrics", "hydra-core")

log = logging.getLogger("kjcm")


def train(cfg: DictConfig, callbacks: Sequence[Any] = ()) -> None:
    """Train and evaluate the model that `cfg` defines, and write its run folder; skip a finished run, resume others.

    It reads and checks the input before it writes or overwrites any file.

    Args:
        cfg: the run's Hydra config.
        callbacks: Lightning callbacks in addition to kjcm's and the config's.

    Raises:
        KjcmError: the input, the system or the folder is unusable.
    """
    wanted = run_to_make(cfg, TrainConfig)
    if wanted is None:
        return
    config, folder = wanted
    if isinstance(config.model, ViewsConfig):
        return train_linear(cfg, config, folder, _sweep())
    if isinstance(config.model, EnsembleConfig):
        return train_ensemble(cfg, config, folder, _sweep(), train)
    require_device("trainer.accelerator", config.trainer.accelerator)
    require_parts(config)
    begin = time.perf_counter()
    require_fitting_tokenizer(config)
    rows = rows_of(config, test=config.evaluate, cache=config.cache)
    prepared = prepared_for(config, rows)
    ready = time.perf_counter()
    overrides = list(HydraConfig.get().overrides.task)
    if global_rank() != 0:  # only rank 0 writes the run folder
        with (
            as_helper(folder) as caught,
            fitted_and_measured(config, folder, prepared, overrides, caught, callbacks=callbacks),
        ):
            return
    with claimed_run(folder, cfg, config, rows) as caught:
        model, epochs = config.encoder, config.trainer.max_epochs
        start, engine = model.pretrained or "random start", prepared.engine.name
        log.info("model %s (%s), epochs: %d, engine: %s", model.name, start, epochs, engine)
        training = fitted_and_measured(config, folder, prepared, overrides, caught, sweep=_sweep(), callbacks=callbacks)
        with training as (fitted, outcome, loggers):
            report = _report(config, folder, prepared, fitted, outcome)
            publish(config, folder, rows, report, loggers)
        seconds = {"prepare": ready - begin, "fit": fitted.seconds, "capture": fitted.capture}
        measured = time.perf_counter()
        if checked := svm_check(config, rows, outcome):
            report["svm_check"] = checked
            seconds["svm_check"] = time.perf_counter() - measured
        finish(folder, report, {**seconds, "total": time.perf_counter() - begin})
        tidy_up(folder.path, config)


def _sweep() -> str | None:
    """Return the name of the multirun to which this run belongs; None for a single run."""
    hydra = HydraConfig.get()
    return Path(hydra.sweep.dir).name if hydra.mode == RunMode.MULTIRUN else os.environ.get(SWEEP)


def _report(
    config: TrainConfig, folder: RunFolder, prepared: Prepared, fitted: Fitted, outcome: Outcome
) -> dict[str, Any]:
    """Write predictions and model; return the content of report.json except for the seconds."""
    folder.require_held()
    write_predictions(folder.path, prepared.rows, outcome)
    settings = settings_of(config, config.model, prepared.rows)
    save_model(folder.path / "model", prepared.encoder, prepared.tokenizer, settings)
    keep_held_rows(folder.path, config, prepared.rows, outcome, settings, stopped=chooses_weights(config))
    return {
        **report_record(config, folder, prepared.rows, outcome, "encoder", PACKAGES),
        "unknown_share": prepared.unknown_share,
        "precision": fitted.precision,
        "engine": prepared.engine.name,
        "epochs": fitted.epochs,
        "parameters": sum(weight.numel() for weight in prepared.encoder.parameters()),
    }


def prepared_for(config: TrainConfig, rows: Rows) -> Prepared:
    """Return a run's rows, tokens, encoder and engine, ready to train.

    Raises:
        KjcmError: the tokenizer or the weights are unusable.
    """
    from kjcm.engine.data import Labelled, TokenData
    from kjcm.engine.learning import freeze
    from kjcm.model.layers import require_room
    from kjcm.text.tokens import require_known

    quiet()
    node = config.tokenizer
    tokenizer, tokens = tokens_of(config.tokenizer, config.encoder, config.cache, rows)
    share = require_known(tokens["train"], tokenizer.unk_token_id, node.max_unknown, node.path or node.kind)
    encoder = _encoder(config, rows, len(tokenizer), int(tokenizer.pad_token_id))
    learning = learning_of(config, rows)
    freeze(encoder, learning.groups)
    engine = choose_engine(config, encoder)
    if learning.groups.cache_frozen:
        require_room(tokens, int(encoder.config.hidden_size))
    return Prepared(
        rows=rows,
        data=TokenData(
            {
                side: Labelled(
                    tokens[side],
                    rows.labels[side],
                    rows.weights if side == "train" else None,
                    rows.covariates.encoded(frame) if rows.covariates else None,
                )
                for side, frame in rows.sides.items()
            }
            | ({"titles": Labelled(tokens["titles"], title_classes(rows))} if "titles" in tokens else {}),
            int(tokenizer.pad_token_id),
            batch_size=config.data.batch_size,
            seed=config.seeds.batches,
            workers=config.trainer.num_workers,
            packed=engine.name != "reference",
            block=engine.block,
            limit=train_limit(config.trainer.flags),
        ),
        tokenizer=tokenizer,
        unknown_share=share,
        encoder=encoder,
        learning=learning,
        engine=engine,
    )


def tokens_of(
    node: TokenizerConfig, model: EncoderConfig, cache: str, rows: Rows
) -> "tuple[PreTrainedTokenizerFast, dict[str, Tokens]]":
    """Return a run's tokenizer and each side's tokens, from the cache if they are there.

    Raises:
        KjcmError: the tokenizer is unusable.
    """
    from kjcm.text.tokenizer import build_tokenizer
    from kjcm.text.tokens import tokenize

    folder, path = Path(cache), tokenizer_path(node, model.pretrained)
    sides = {**rows.sides, **({} if model.head == "linear" else {"titles": rows.titles})}
    texts = {side: frame["text"].tolist() for side, frame in sides.items()}
    tokenizer = build_tokenizer(node.kind, path, node.vocab_size, texts["train"], folder)
    encode = partial(tokenize, tokenizer, prefix=model.prefix, max_length=model.max_length, cache=folder)
    return tokenizer, {side: encode(some) for side, some in texts.items()}


def _encoder(config: TrainConfig, rows: Rows, vocabulary: int, pad: int) -> Any:
    from kjcm.model.encoder import build_encoder, can_pack
    from kjcm.model.label_text import LabelText

    model, classes = config.encoder, rows.cohort.classes
    encoder: Any = build_encoder(
        pretrained=model.pretrained,
        shape=model.shape,
        pooling=model.pooling,
        classes=len(classes),
        vocabulary=vocabulary,
        pad=pad,
        max_length=model.max_length,
        seed=config.seeds.init,
        finer=_finer(config, rows),
        covariates=rows.covariates.width,
    )
    if model.head != "linear":
        if not can_pack(encoder):
            raise ConfigError(
                f"model.head={model.head} cannot use {encoder.config.model_type} encoders. Use head=linear."
            )
        both, rate = model.head == "both", encoder.dropout.p
        encoder.head = LabelText.of(
            encoder.config.hidden_size, title_classes(rows).tolist(), classes, both=both, dropout=rate
        )
    return encoder


def _finer(config: TrainConfig, rows: Rows) -> int:
    """Return the number of groups one level below the classes that the encoder learns too.

    Raises:
        ConfigError: no training row has such a group.
    """
    if not config.encoder.finer_weight:
        return 0
    groups, _ = rows.finer
    if not groups:
        raise ConfigError(
            f"model.finer_weight={config.encoder.finer_weight:g}: no training row has a code one level below data.level="
            f"{rows.cohort.level}. Set model.finer_weight=0, or use a file with finer codes."
        )
    return len(groups)


def title_classes(rows: Rows) -> NDArray[np.int64]:
    """Return the class index of each of `rows.titles`: [titles]."""
    return indices_of(rows.titles["code"].tolist(), rows.cohort.classes)[0]
