"""Train a prepared encoder, and evaluate the trained model."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kjcm.engine.choice import Engine
from kjcm.engine.device import device_name, global_rank
from kjcm.engine.signals import Signals
from kjcm.errors import ConfigError, Interrupted, KjcmError, first_line
from kjcm.files import write_json
from kjcm.keys.commands.train import TrainConfig
from kjcm.keys.training import TrainerConfig
from kjcm.records import read_json
from kjcm.run_folder.folder import RunFolder
from kjcm.run_folder.model_folder import load_model
from kjcm.run_folder.results import Outcome
from kjcm.survey.rows import Rows
from kjcm.tracking.loggers import log_outcome, make_loggers
from kjcm.training.checkpoints import Checkpoints
from kjcm.training.parts import callbacks_of, metrics_of
from kjcm.training.trainer import gathered, make_trainer, processes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from kjcm.engine.data import TokenData
    from kjcm.engine.learning import Learning
    from kjcm.engine.saving import Saving
    from kjcm.model.encoder import FirstToken, MeanPooled


@dataclass(frozen=True)
class Prepared:
    """Rows and an encoder, ready to train.

    Attributes:
        rows: the run's rows.
        data: the rows' tokens.
        tokenizer: the tokenizer that made the tokens.
        unknown_share: share of [UNK] among the training tokens.
        encoder: the model before training.
        learning: loss, optimiser and schedule.
        engine: the engine that trains the encoder.
    """

    rows: Rows
    data: "TokenData"
    tokenizer: "PreTrainedTokenizerFast"
    unknown_share: float
    encoder: "FirstToken | MeanPooled"
    learning: "Learning"
    engine: Engine


@dataclass(frozen=True)
class Fitted:
    """Facts about a finished training.

    Attributes:
        epochs: number of epochs.
        steps: number of optimiser steps.
        seconds: training time; after an interruption, only since the training was resumed.
        precision: Lightning's name of the precision.
        capture: the part of `seconds` that compiled and captured the step.
    """

    epochs: int
    steps: int
    seconds: float
    precision: str
    capture: float = 0.0


# fitted.json
FITTED = {"checkpoint": str, "epochs": int, "steps": int, "seconds": float, "precision": str, "capture": float}


@contextmanager
def fitted_and_measured(
    config: TrainConfig,
    folder: RunFolder,
    prepared: Prepared,
    overrides: list[str],
    signals: Signals,
    *,
    sweep: str | None = None,
    callbacks: Sequence[Any] = (),
) -> Iterator[tuple[Fitted, Outcome, list[Any]]]:
    """Train `prepared.encoder`, or resume its training, and test it; yield the results with the loggers still open.

    Args:
        config: the run's config.
        folder: the run's folder.
        prepared: rows and encoder.
        overrides: the run's overrides, for processes that the Trainer starts.
        signals: signals that ask this process to exit.
        sweep: name of the multirun to which the run belongs.
        callbacks: Lightning callbacks in addition to kjcm's and the config's.

    Raises:
        Interrupted: a signal came. A training is saved first.
    """
    store = Checkpoints(folder.path / "checkpoints", folder.require_held)
    newest = store.newest()
    step = newest[1]["global_step"] if newest else 0
    with make_loggers(asdict(config), folder, prepared.rows.cohort, sweep=sweep, step=step) as loggers:
        with processes("train", overrides, folder.path):
            fitted, outcome = _fit_and_measure(config, prepared, store, newest, signals, loggers, callbacks)
        log_outcome(loggers, outcome, fitted.steps)
        yield fitted, outcome, loggers


def _fit_and_measure(
    config: TrainConfig,
    prepared: Prepared,
    store: Checkpoints,
    newest: tuple[Path, dict[str, Any]] | None,
    signals: Signals,
    loggers: list[Any],
    callbacks: Sequence[Any],
) -> tuple[Fitted, Outcome]:
    from lightning.pytorch.callbacks import EarlyStopping

    from kjcm.engine.saving import Saving
    from kjcm.model.encoder import MeanPooled
    from kjcm.tracking.epochs import Epochs
    from kjcm.tracking.meter import Meter

    module, own = module_for(config, prepared), callbacks_of(config)
    stopping = next((callback for callback in own if isinstance(callback, EarlyStopping)), None)
    best_by = {"monitor": stopping.monitor, "mode": stopping.mode} if stopping else {}
    saving = Saving(store.save, config.trainer.save_every, signals.asked, signals.obey, **best_by)
    meter = [Meter()] if loggers else []
    trainer = make_trainer(
        config.trainer,
        folder=store.folder.parent,
        loggers=loggers,
        callbacks=[saving, *own, Epochs(saving), *meter, *callbacks],
        log_every=1 if prepared.engine.block else 10,  # a block rarely ends at a multiple of 10
    )
    with stopping_together(trainer):
        fitted = fit(trainer, module, prepared.data, store, newest, saving, signals)
        outcome = measure(trainer, module, prepared.data)
    if isinstance(prepared.encoder, MeanPooled):
        prepared.encoder.finer = None  # a run's model predicts the classes alone
    return fitted, outcome


@contextmanager
def stopping_together(trainer: Any) -> Iterator[None]:
    """After a signal, stop the trainer's other processes: they may not have received it."""
    from kjcm.engine.lightning_internals import stop_processes

    try:
        yield
    except Interrupted as leaving:
        stop_processes(trainer, leaving.signal)
        raise


def module_for(config: TrainConfig, prepared: Prepared) -> Any:
    """Return the LightningModule for the run's engine."""
    from kjcm.engine.captured import CapturedClassifier
    from kjcm.engine.module import Classifier

    cohort, engine = prepared.rows.cohort, prepared.engine
    arguments = (
        prepared.encoder,
        cohort.classes,
        cohort.classes_hash,
        prepared.learning,
        config.seeds.dropout,
        {side: len(codes) for side, codes in prepared.rows.unseen.items()},
        metrics_of(config),
    )
    if engine.name == "captured":
        how = {"attention_dropout": engine.attention_dropout, "compiled": engine.compiled, "strict": engine.strict}
        return CapturedClassifier(*arguments, **how)
    # With 16-mixed, a fused optimiser would unscale the gradients only after they are clipped.
    fused = engine.name != "reference" and config.trainer.precision != "16-mixed"
    return Classifier(*arguments, attention_dropout=engine.attention_dropout, fused=fused)


def fit(
    trainer: Any,
    module: Any,
    data: "TokenData",
    store: Checkpoints,
    newest: tuple[Path, dict[str, Any]] | None,
    saving: "Saving",
    signals: Signals,
) -> Fitted:
    """Train from the newest checkpoint, with signals held; if the training was finished already, only load it.

    Afterwards the module has its last weights, or the best ones if `saving` monitors a metric.
    """
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from kjcm.model.label_text import refresh_titles

    note = store.folder / "fitted.json"
    file, checkpoint = newest if newest else (None, {})
    # Read the note only once: under DDP, rank 0 may write it before the others would read it again.
    known: dict[str, Any] = {}
    with suppress(KjcmError):  # without the note, Lightning resumes at the end: same result
        known = read_json(note, FITTED)
    if file and known.get("checkpoint") == file.name:
        module.require_same_classes(checkpoint)
        weights = checkpoint["saving"]["best"]["weights"] or checkpoint["state_dict"]
        fitted = Fitted(**{name: known[name] for name in FITTED if name != "checkpoint"})
    else:
        begin = time.perf_counter()
        with signals.held():
            try:
                trainer.fit(module, datamodule=data, ckpt_path=str(file) if file else None, weights_only=True)
            except MisconfigurationException as error:
                raise ConfigError(f"Lightning refuses trainer.flags or a callback: {first_line(error)}") from None
        if not trainer.global_step:
            raise ConfigError("The training would end before its first step. Raise the limits in trainer.flags.")
        seconds = round(time.perf_counter() - begin, 3)
        fitted = Fitted(
            trainer.current_epoch,
            trainer.global_step,
            seconds,
            str(trainer.precision),
            round(module.capture_seconds, 3),
        )
        weights = saving.best_weights
        if global_rank() == 0 and store.last:
            write_json(note, {**vars(fitted), "checkpoint": store.last.name})
    if weights is not None:
        module.load_state_dict(weights)
    refresh_titles(module.encoder, data.tokens, module.device, frozen={})
    return fitted


def measure(trainer: Any, module: Any, data: "TokenData") -> Outcome:
    """Return metrics and predictions on all validation and test rows in `data`, whatever limits trainer.flags set."""
    trainer.limit_val_batches = trainer.limit_test_batches = 1.0
    validation: dict[str, float] = {}
    if "validation" in data.sides:
        trainer.validate(module, datamodule=data, verbose=False)
        values = {name.removeprefix("val_"): float(value) for name, value in trainer.callback_metrics.items()}
        # The loss is not finite if no validation row has a class of the model.
        validation = {name: value for name, value in values.items() if math.isfinite(value)}
    metrics: dict[str, float] = {}
    per_class: dict[str, list[float]] = {}
    if "test" in data.sides:
        trainer.test(module, datamodule=data, verbose=False)
        metrics, per_class = module.test_scores.summary()
    predicted, validated = gathered(module.predicted), gathered(module.validated)
    return Outcome(metrics, per_class, validation, predicted, validated, device_name(trainer.strategy.root_device))


def coded_by_encoder(
    run: Path,
    frame: pd.DataFrame,
    labels: NDArray[np.int64],
    unseen: int,
    node: TrainerConfig,
    batch_size: int,
    out: Path,
) -> Outcome:
    """Return the results of a finished run's encoder on rows, computed in float32 in one process.

    Args:
        run: the run folder.
        frame: the rows: text, and the run's covariates.
        labels: [rows] class indices, beyond the last class for unseen codes.
        unseen: number of unseen codes.
        node: the device.
        batch_size: texts of a batch.
        out: folder for files of Lightning's.
    """
    from kjcm.engine.data import Labelled, TokenData
    from kjcm.engine.module import Classifier
    from kjcm.text.tokens import tokenize

    encoder, tokenizer, settings = load_model(run / "model")
    tokens = tokenize(tokenizer, frame["text"].tolist(), prefix=settings.prefix, max_length=settings.max_length)
    covariates = settings.covariates.encoded(frame) if settings.covariates else None
    module = Classifier(encoder, settings.classes, settings.classes_hash, unseen={"test": unseen})
    sides = {"test": Labelled(tokens, labels, covariates=covariates)}
    batches = TokenData(sides, int(tokenizer.pad_token_id), eval_batch_size=batch_size)
    trainer = make_trainer(replace(node, max_epochs=1), folder=out, loggers=[], callbacks=[])
    return measure(trainer, module, batches)
