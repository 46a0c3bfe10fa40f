"""`kjcm train`: a survey file in, a run folder with an evaluated model out."""

import logging
import math
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from kjcm import __version__
from kjcm.errors import ConfigError, KjcmError
from kjcm.files import write_json, write_parquet, write_text
from kjcm.ksco.classification import Classification
from kjcm.study.inputs import Config, classification_of, cohort_of, with_absolute_inputs
from kjcm.study.lightning import close, device_name, gathered, global_rank, make_loggers, make_trainer, processes
from kjcm.study.model_folder import Settings, save_model
from kjcm.study.results import (
    Outcome,
    cohort_record,
    flow_lines,
    indices_of,
    outcome_record,
    prediction_frame,
    show,
)
from kjcm.study.run_folder import RunFolder, default_path, identity_of
from kjcm.survey.augment import augmentation
from kjcm.survey.cohort import Cohort
from kjcm.text.tokenizer import holds_kobert

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from kjcm.model.data import TokenData
    from kjcm.model.encoder import FirstToken, MeanPooled


log = logging.getLogger("kjcm")


def train(cfg: DictConfig) -> None:
    """Train, evaluate and write the run folder that `cfg` defines; skip it if it is done, resume it if it is not.

    Raises:
        KjcmError: input, surroundings or folder are not usable.
    """
    config: Config = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    identity = identity_of(config)
    path = Path(config["run_dir"]) if config["run_dir"] else default_path(config["runs"], config["name"], identity)
    folder = RunFolder(path, identity)
    if global_rank() > 0:  # the first process keeps the folder, the others compute with it
        _train(config, folder)
        return
    state = folder.claim(config["overwrite"])
    if state == "done":
        log.info("finished already, skipped: %s (overwrite=true trains it anew)", path)
        return
    with _log_file(path):
        log.info("%s: %s", "resuming" if state == "unfinished" else "run folder", path)
        _write_settings(path, cfg, with_absolute_inputs(config))
        report = _train(config, folder)
        write_json(path / "report.json", report)
        folder.finish()
        show(report, path)


@dataclass(frozen=True)
class Prepared:
    """A cohort ready to learn from: the rows of each side (text, code), their tokens, and codes that are no class."""

    cohort: Cohort
    classification: Classification
    sides: dict[str, pd.DataFrame]
    n_augmented: int
    data: "TokenData"
    tokenizer: "PreTrainedTokenizerFast"
    unknown_share: float
    unseen: dict[str, list[str]]


def _train(config: Config, folder: RunFolder) -> dict[str, Any]:
    """Prepare, fit and test; the first process writes all but report.json and DONE, and returns the report."""
    begin = time.perf_counter()
    prepared = _prepare(config, folder.path)
    ready = time.perf_counter()
    encoder, outcome = _fit(config, folder, prepared)
    if global_rank() > 0:
        return {}
    cohort, classification = prepared.cohort, prepared.classification
    test = prepared.sides.get("test")
    if test is not None:
        frame = prediction_frame(test, outcome.predictions, cohort.classes)
        write_parquet(folder.path / "predictions.parquet", frame, "synthetic" if cohort.synthetic else "")
    save_model(folder.path / "model", encoder, prepared.tokenizer, _model_settings(config, prepared))
    record = {
        "experiment": config["name"],
        "seed": config["seed"],
        "synthetic": cohort.synthetic,
        "data": config["data"]["source"],
        "level": cohort.level,
        **outcome_record(
            outcome, test, cohort.classes, prepared.unseen.get("test", []), classification, _n_train(cohort)
        ),
        "n_train": len(cohort.side("train")),
        "n_validation": len(cohort.side("validation")),
        "n_augmented": prepared.n_augmented,
        "n_classes": len(cohort.classes),
        "unknown_share": prepared.unknown_share,
        "seconds": {
            "prepare": round(ready - begin, 3),
            "fit": round(outcome.fit_seconds, 3),
            "total": round(time.perf_counter() - begin, 3),
        },
        "hashes": {
            "run": folder.identity.hash,
            "cohort": cohort.cohort_hash,
            "split": cohort.split_hash,
            "classes": cohort.classes_hash,
        },
        "device": outcome.device,
        "precision": outcome.precision,
        "epochs": outcome.epochs,
        "parameters": outcome.parameters,
        "versions": _versions(),
    }
    return record


def _n_train(cohort: Cohort) -> dict[str, int]:
    return {str(code): int(rows) for code, rows in cohort.side("train")["code"].value_counts().items()}


def _prepare(config: Config, path: Path) -> Prepared:
    """Return the cohort with the tokens of every side; the test rows only where they are to be evaluated."""
    from kjcm.model.data import Labelled, TokenData
    from kjcm.text.tokenizer import build_tokenizer
    from kjcm.text.tokens import require_known, tokenize

    node, model, data = config["tokenizer"], config["model"], config["data"]
    if node["kind"] == "trained" and model["pretrained"]:
        raise ConfigError(
            f"tokenizer=trained makes ids that the weights of model.pretrained={model['pretrained']} know nothing of. Use "
            "tokenizer=kobert or tokenizer=huggingface, or model.pretrained=null."
        )
    classification = classification_of(config)
    cohort = cohort_of(data, classification)
    cohort.require_trainable()
    more = augmentation(classification, cohort.classes, **config["augment"])
    if global_rank() == 0:
        write_json(path / "cohort.json", cohort_record(cohort, classification))
        _say(cohort, classification, config, more)
    training = pd.concat([cohort.side("train")[["text", "code"]], more], ignore_index=True)
    sides = {"train": training, "validation": cohort.side("validation")}
    if config["evaluate"]:
        sides["test"] = cohort.side("test")
    sides = {name: frame for name, frame in sides.items() if len(frame)}
    tokenizer = build_tokenizer(node["kind"], _tokenizer_path(config), node["vocab_size"], training["text"].tolist())
    cache = Path(config["cache"])
    tokens = {
        side: tokenize(
            tokenizer, frame["text"].tolist(), prefix=model["prefix"], max_length=model["max_length"], cache=cache
        )
        for side, frame in sides.items()
    }
    share = require_known(tokens["train"], tokenizer.unk_token_id, node["max_unknown"], node["path"] or node["kind"])
    labels = {side: indices_of(frame["code"].tolist(), cohort.classes) for side, frame in sides.items()}
    module = TokenData(
        {side: Labelled(tokens[side], labels[side][0]) for side in sides},
        tokenizer.pad_token_id,
        batch_size=data["batch_size"],
        seed=config["seeds"]["batches"],
        workers=config["trainer"]["num_workers"],
    )
    unseen = {side: codes for side, (_, codes) in labels.items()}
    return Prepared(cohort, classification, sides, len(more), module, tokenizer, share, unseen)


def _tokenizer_path(config: Config) -> str | None:
    """Return tokenizer.path; for KoBERT's, DistilKoBERT's own folder where its weights come from one that has it."""
    path, pretrained = config["tokenizer"]["path"], config["model"]["pretrained"]
    if path is None and config["tokenizer"]["kind"] == "kobert" and pretrained and holds_kobert(pretrained):
        return str(pretrained)
    return path  # type: ignore[no-any-return]


def _say(cohort: Cohort, classification: Classification, config: Config, more: pd.DataFrame) -> None:
    for line in flow_lines(cohort):
        log.info(line)
    if len(more):
        log.info("  + %s rows of augmentation from %s", f"{len(more):,}", classification.name)
    if config["augment"]["descriptions"] and not classification.descriptions:
        log.warning(
            "augment=manual found no descriptions: titles alone join the training rows. The manual's descriptions come with "
            "classification.path=FILE."
        )
    model = config["model"]
    log.info(
        "model %s (%s), %d epochs",
        model["name"],
        model["pretrained"] or "random start",
        config["trainer"]["max_epochs"],
    )


def _fit(config: Config, folder: RunFolder, prepared: Prepared) -> "tuple[FirstToken | MeanPooled, Outcome]":
    """Train (or go on training) and test; every logger is closed on the way out."""
    from kjcm.model.encoder import build_encoder
    from kjcm.model.module import Classifier, Optimisation

    model, cohort = config["model"], prepared.cohort
    encoder = build_encoder(
        pretrained=model["pretrained"],
        shape=model["shape"],
        pooling=model["pooling"],
        classes=len(cohort.classes),
        vocabulary=len(prepared.tokenizer),
        pad=int(prepared.tokenizer.pad_token_id),
        max_length=model["max_length"],
        seed=config["seeds"]["init"],
    )
    optimisation = Optimisation(**config["optim"])
    unseen = {side: len(codes) for side, codes in prepared.unseen.items()}
    module = Classifier(encoder, cohort.classes, cohort.classes_hash, optimisation, config["seeds"]["dropout"], unseen)
    overrides = list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
    loggers = make_loggers(config["logger"], folder.path, config, folder.identity.hash[:12])
    try:
        with processes("train", overrides, folder.path):
            callbacks = _callbacks(config, folder.path)
            trainer = make_trainer(
                config["trainer"], folder=folder.path, loggers=loggers, callbacks=callbacks, clip=optimisation.clip
            )
            begin = time.perf_counter()
            trainer.fit(module, datamodule=prepared.data, ckpt_path=_last_checkpoint(folder.path), weights_only=True)
            seconds = time.perf_counter() - begin
            epochs = trainer.current_epoch
            if config["trainer"]["patience"]:
                _take_best(folder.path, module)
            outcome = _outcome(trainer, module, prepared, seconds, epochs)
            for logger in loggers:
                logger.log_metrics({f"test_{name}": value for name, value in outcome.metrics.items()})
    finally:
        close(loggers)
    return encoder, outcome


def _outcome(trainer: Any, module: Any, prepared: Prepared, seconds: float, epochs: int) -> Outcome:
    """Measure the module as it now is on validation and test rows."""
    validation: dict[str, float] = {}
    if "validation" in prepared.sides:
        found = trainer.validate(module, datamodule=prepared.data, verbose=False)[0]
        values = {name.removeprefix("val_"): float(value) for name, value in found.items()}
        validation = {
            name: value for name, value in values.items() if math.isfinite(value)
        }  # no loss without a known code
    metrics: dict[str, float] = {}
    per_class: dict[str, list[float]] = {}
    if "test" in prepared.sides:
        trainer.test(module, datamodule=prepared.data, verbose=False)
        metrics, per_class = module.test_scores.summary()
    device = module.device
    return Outcome(
        metrics=metrics,
        per_class=per_class,
        validation=validation,
        predictions=gathered(module.predicted),
        fit_seconds=seconds,
        epochs=epochs,
        device=device_name(device),
        precision=str(trainer.precision),
        parameters=sum(weight.numel() for weight in module.encoder.parameters()),
    )


def _callbacks(config: Config, path: Path) -> list[Any]:
    """Return the checkpoint of every epoch and, with trainer.patience, early stopping and the best epoch."""
    from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

    folder = str(path / "checkpoints")
    callbacks: list[Any] = [
        ModelCheckpoint(
            folder, filename="last", every_n_epochs=1, save_on_train_epoch_end=True, enable_version_counter=False
        )
    ]
    patience = config["trainer"]["patience"]
    if patience:
        callbacks.append(ModelCheckpoint(folder, filename="best", monitor="val_loss", enable_version_counter=False))
        callbacks.append(EarlyStopping("val_loss", patience=patience, check_on_train_epoch_end=False))
    return callbacks


def _last_checkpoint(path: Path) -> str | None:
    """Return the checkpoint to go on from, None without one.

    Raises:
        KjcmError: it is truncated or damaged.
    """
    file = path / "checkpoints" / "last.ckpt"
    if not file.is_file():
        return None
    read_checkpoint(file)
    return str(file)


def read_checkpoint(file: Path) -> dict[str, Any]:
    """Load a checkpoint's plain containers and tensors; nothing else can be in it (weights_only).

    Raises:
        KjcmError: it is truncated, damaged, or holds more than that.
    """
    import torch

    try:
        checkpoint: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True, mmap=False)
    except Exception as error:  # zip, pickle and runtime errors, as the damage has it
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise KjcmError(
            f"{file}: the checkpoint is truncated or damaged ({line}). Delete it to train from the start, or add "
            "overwrite=true."
        ) from None
    return checkpoint


def _take_best(path: Path, module: Any) -> None:
    """Go back to the epoch of the best validation loss."""
    checkpoint = read_checkpoint(path / "checkpoints" / "best.ckpt")
    module.on_load_checkpoint(checkpoint)
    module.load_state_dict(checkpoint["state_dict"])


def _model_settings(config: Config, prepared: Prepared) -> Settings:
    cohort, model = prepared.cohort, config["model"]
    return Settings(
        classes=cohort.classes,
        classes_hash=cohort.classes_hash,
        titles={code: prepared.classification.title(code) for code in cohort.classes},
        classification=prepared.classification.name,
        level=cohort.level,
        pooling=model["pooling"],
        prefix=model["prefix"],
        max_length=model["max_length"],
        columns=config["data"]["columns"],
        synthetic=cohort.synthetic,
    )


def _write_settings(path: Path, cfg: DictConfig, config: Config) -> None:
    """Write the resolved config, and what Hydra knows of the job."""
    write_text(path / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(config)))
    if HydraConfig.initialized():
        hydra = HydraConfig.get()
        write_text(path / "hydra" / "config.yaml", OmegaConf.to_yaml(cfg))
        write_text(path / "hydra" / "overrides.yaml", OmegaConf.to_yaml(hydra.overrides.task))
        write_text(path / "hydra" / "choices.yaml", OmegaConf.to_yaml(hydra.runtime.choices))


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    """Keep what the run says in train.log too."""
    handler = logging.FileHandler(path / "train.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log.addHandler(handler)
    try:
        yield
    except KjcmError as error:
        log.debug(error)
        raise
    finally:
        log.removeHandler(handler)
        handler.close()


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    names = ("torch", "lightning", "transformers", "tokenizers", "torchmetrics", "hydra-core")
    return {"kjcm": __version__, "python": platform.python_version(), **{name: version(name) for name in names}}
