"""Fitting and measuring: a prepared cohort and an encoder in, what the trained model does out."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from kjcm.errors import KjcmError, first_line
from kjcm.files import read_json, write_json
from kjcm.ksco.classification import Classification
from kjcm.study.engine import Engine
from kjcm.study.inputs import Config
from kjcm.study.lightning import device_name, gathered, global_rank, make_loggers, make_trainer, processes
from kjcm.study.results import Outcome
from kjcm.study.run_folder import RunFolder
from kjcm.survey.cohort import Cohort

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from kjcm.model.data import TokenData
    from kjcm.model.encoder import FirstToken, MeanPooled


@dataclass(frozen=True)
class Prepared:
    """A cohort ready to learn from.

    Attributes:
        cohort: the cohort.
        classification: what its codes are of.
        sides: the rows (text, code) of 'train' (with augmentation), 'validation' and 'test', where there are any.
        n_augmented: rows of augmentation among them.
        data: their tokens.
        tokenizer: what made the tokens.
        unknown_share: share of [UNK] among the training pieces.
        unseen: side -> codes that are no class.
        encoder: the model before training.
        engine: how it is trained.
    """

    cohort: Cohort
    classification: Classification
    sides: dict[str, pd.DataFrame]
    n_augmented: int
    data: "TokenData"
    tokenizer: "PreTrainedTokenizerFast"
    unknown_share: float
    unseen: dict[str, list[str]]
    encoder: "FirstToken | MeanPooled"
    engine: Engine


@dataclass(frozen=True)
class Fitted:
    """What a training was, beside its weights.

    Attributes:
        epochs: epochs trained.
        seconds: seconds of training (of its last part, if it was interrupted).
        precision: as Lightning names it.
    """

    epochs: int
    seconds: float
    precision: str


def fit_and_measure(
    config: Config, folder: RunFolder, prepared: Prepared, overrides: list[str], callbacks: Sequence[Any] = ()
) -> tuple[Fitted, Outcome]:
    """Train `prepared.encoder` (or go on training it) and test it; every logger is closed on the way out.

    Args:
        config: of the run.
        folder: of the run.
        prepared: what to learn from.
        overrides: what processes that the Trainer starts are told, so that they do this very job.
        callbacks: Lightning callbacks beside those of every run.
    """
    module = module_for(config, prepared)
    with (
        make_loggers(config["logger"], folder.path, config, folder.identity.hash[:12]) as loggers,
        processes("train", overrides, folder.path),
    ):
        log_every = 1 if prepared.engine.block else 10  # blocks seldom end at a multiple of ten steps
        trainer = make_trainer(
            config["trainer"],
            folder=folder.path,
            loggers=loggers,
            callbacks=[*_callbacks(config, folder.path), *callbacks],
            log_every=log_every,
        )
        fitted = _fit(trainer, module, prepared, folder.path / "checkpoints", bool(config["trainer"]["patience"]))
        outcome = measure(trainer, module, prepared.data)
        for logger in loggers:
            logger.log_metrics({f"test_{name}": value for name, value in outcome.metrics.items()})
    return fitted, outcome


def module_for(config: Config, prepared: Prepared) -> Any:
    """Return the LightningModule that learns in the way of the engine."""
    from kjcm.model.captured import CapturedClassifier
    from kjcm.model.module import Classifier, Optimisation

    cohort, engine = prepared.cohort, prepared.engine
    arguments = (
        prepared.encoder,
        cohort.classes,
        cohort.classes_hash,
        Optimisation(**config["optim"]),
        config["seeds"]["dropout"],
        {side: len(codes) for side, codes in prepared.unseen.items()},
    )
    if engine.name == "captured":
        return CapturedClassifier(*arguments, attention_dropout=engine.attention_dropout, compiled=engine.compiled)
    # with 16-mixed a fused optimiser would unscale the gradients itself, after they are clipped
    fused = engine.name != "reference" and config["trainer"]["precision"] != "16-mixed"
    return Classifier(*arguments, attention_dropout=engine.attention_dropout, fused=fused)


def _fit(trainer: Any, module: Any, prepared: Prepared, checkpoints: Path, choose: bool) -> Fitted:
    """Train from the last checkpoint on; a training that was finished before is only loaded.

    Without that, a run interrupted after early stopping would train past its stop.
    """
    last, note = checkpoints / "last.ckpt", checkpoints / "fitted.json"
    over = note.is_file()  # asked once: under DDP the first process may write it before the others come here again
    if over:
        fitted = Fitted(**read_json(note))
    else:
        if last.is_file():
            read_checkpoint(last)  # a damaged one is better named here than by Lightning
        begin = time.perf_counter()
        trainer.fit(
            module, datamodule=prepared.data, ckpt_path=str(last) if last.is_file() else None, weights_only=True
        )
        seconds = round(time.perf_counter() - begin, 3)
        fitted = Fitted(trainer.current_epoch, seconds, str(trainer.precision))
    if choose or over:
        checkpoint = read_checkpoint(checkpoints / ("best.ckpt" if choose else "last.ckpt"))
        module.on_load_checkpoint(checkpoint)
        module.load_state_dict(checkpoint["state_dict"])
    if global_rank() == 0:
        write_json(note, vars(fitted))
    return fitted


def measure(trainer: Any, module: Any, data: "TokenData") -> Outcome:
    """Return what the module as it now is does on the validation and test rows of `data`."""
    validation: dict[str, float] = {}
    if "validation" in data.sides:
        found = trainer.validate(module, datamodule=data, verbose=False)[0]
        values = {name.removeprefix("val_"): float(value) for name, value in found.items()}
        validation = {
            name: value for name, value in values.items() if math.isfinite(value)
        }  # no loss if no code is known
    metrics: dict[str, float] = {}
    per_class: dict[str, list[float]] = {}
    if "test" in data.sides:
        trainer.test(module, datamodule=data, verbose=False)
        metrics, per_class = module.test_scores.summary()
    return Outcome(metrics, per_class, validation, gathered(module.predicted), device_name(module.device))


def _callbacks(config: Config, path: Path) -> list[Any]:
    """Return the checkpoint of every epoch and, with trainer.patience, early stopping and the best epoch."""
    from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

    folder = str(path / "checkpoints")
    callbacks: list[Any] = [
        ModelCheckpoint(
            folder, filename="last", every_n_epochs=1, save_on_train_epoch_end=True, enable_version_counter=False
        )
    ]
    if patience := config["trainer"]["patience"]:
        callbacks.append(ModelCheckpoint(folder, filename="best", monitor="val_loss", enable_version_counter=False))
        callbacks.append(EarlyStopping("val_loss", patience=patience, check_on_train_epoch_end=False))
    return callbacks


def read_checkpoint(file: Path) -> dict[str, Any]:
    """Load a checkpoint's plain containers and tensors; nothing else can be in it (weights_only).

    Raises:
        KjcmError: it is truncated, damaged, or holds more than that.
    """
    import torch

    try:
        checkpoint: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True, mmap=False)
    except Exception as error:  # zip, pickle and runtime errors, as the damage has it
        raise KjcmError(
            f"{file}: the checkpoint is truncated or damaged ({first_line(error)}). Delete it to train from the start, or "
            "add overwrite=true."
        ) from None
    return checkpoint
