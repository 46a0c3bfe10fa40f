"""`kjcm train`: a survey file in, a run folder with an evaluated model out."""

import logging
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from kjcm import __version__
from kjcm.errors import ConfigError, KjcmError
from kjcm.files import write_json, write_parquet, write_text
from kjcm.study.fit import Fitted, Prepared, fit_and_measure
from kjcm.study.inputs import Config, classification_of, cohort_of, with_absolute_inputs
from kjcm.study.lightning import global_rank, quiet
from kjcm.study.model_folder import Settings, save_model
from kjcm.study.results import (
    Outcome,
    cohort_record,
    flow_lines,
    indices_of,
    outcome_record,
    prediction_frame,
    require_weights,
    show,
)
from kjcm.study.run_folder import RunFolder, default_path, identity_of
from kjcm.survey.augment import augmentation
from kjcm.text.tokenizer import holds_kobert

log = logging.getLogger("kjcm")


def train(cfg: DictConfig) -> None:
    """Train, evaluate and write the run folder that `cfg` defines; skip it if it is done, resume it if it is not.

    Nothing is written, and nothing overwritten, before the input has been read and found usable.

    Raises:
        KjcmError: input, surroundings or folder are not usable.
    """
    config: Config = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    identity = identity_of(config)
    path = Path(config["run_dir"]) if config["run_dir"] else default_path(config["runs"], config["name"], identity)
    folder = RunFolder(path, identity)
    first = global_rank() == 0
    if folder.require_mine(config["overwrite"]) == "done" and not config["overwrite"]:
        if first:
            log.info("finished already, skipped: %s (overwrite=true trains it anew)", path)
        return
    begin = time.perf_counter()
    prepared = _prepare(config)
    ready = time.perf_counter()
    overrides = list(HydraConfig.get().overrides.task)
    if not first:  # the first process keeps the folder, the others compute with it
        fit_and_measure(config, folder, prepared, overrides)
        return
    with folder.claimed(config["overwrite"]) as state, _log_file(path):
        log.info("%s: %s", "resuming" if state == "unfinished" else "run folder", path)
        _write_settings(path, cfg, with_absolute_inputs(config))
        write_json(path / "cohort.json", cohort_record(prepared.cohort, prepared.classification))
        _say(config, prepared)
        fitted, outcome = fit_and_measure(config, folder, prepared, overrides)
        report = _report(config, folder, prepared, fitted, outcome)
        seconds = {"prepare": ready - begin, "fit": fitted.seconds, "total": time.perf_counter() - begin}
        report["seconds"] = {name: round(value, 3) for name, value in seconds.items()}
        write_json(path / "report.json", report)
        folder.finish()
        show(report, path)


def _report(config: Config, folder: RunFolder, prepared: Prepared, fitted: Fitted, outcome: Outcome) -> dict[str, Any]:
    """Write predictions and model; return what report.json holds beside the seconds."""
    cohort, test = prepared.cohort, prepared.sides.get("test")
    if test is not None:
        frame = prediction_frame(test, outcome.predictions, cohort.classes)
        write_parquet(folder.path / "predictions.parquet", frame, "synthetic" if cohort.synthetic else "")
    save_model(folder.path / "model", prepared.encoder, prepared.tokenizer, _model_settings(config, prepared))
    n_train = {str(code): int(rows) for code, rows in cohort.side("train")["code"].value_counts().items()}
    return {
        "experiment": config["name"],
        "seed": config["seed"],
        "synthetic": cohort.synthetic,
        "data": config["data"]["source"],
        "level": cohort.level,
        **outcome_record(
            outcome, test, cohort.classes, prepared.unseen.get("test", []), prepared.classification, n_train
        ),
        "validation": outcome.validation,
        "n_train": len(cohort.side("train")),
        "n_validation": len(cohort.side("validation")),
        "n_augmented": prepared.n_augmented,
        "n_classes": len(cohort.classes),
        "unknown_share": prepared.unknown_share,
        "hashes": {
            "run": folder.identity.hash,
            "cohort": cohort.cohort_hash,
            "split": cohort.split_hash,
            "classes": cohort.classes_hash,
        },
        "precision": fitted.precision,
        "epochs": fitted.epochs,
        "parameters": sum(weight.numel() for weight in prepared.encoder.parameters()),
        "versions": _versions(),
    }


def _prepare(config: Config) -> Prepared:
    """Return cohort, tokens and encoder; the test rows only where they are to be evaluated.

    Raises:
        KjcmError: any input is not usable.
    """
    from kjcm.model.data import Labelled, TokenData
    from kjcm.text.tokenizer import build_tokenizer
    from kjcm.text.tokens import require_known, tokenize

    quiet()
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
    training = pd.concat([cohort.side("train")[["text", "code"]], more], ignore_index=True)
    sides = {"train": training, "validation": cohort.side("validation")}
    if config["evaluate"]:
        sides["test"] = cohort.side("test")
        require_weights(sides["test"])
        if not len(sides["test"]):
            raise ConfigError(
                f"data.train_share={data['train_share']} leaves no test rows. Lower it, give data.test_path=FILE, or set "
                "evaluate=false."
            )
    sides = {name: frame for name, frame in sides.items() if len(frame)}
    tokenizer = build_tokenizer(node["kind"], _tokenizer_path(config), node["vocab_size"], training["text"].tolist())
    how = {"prefix": model["prefix"], "max_length": model["max_length"], "cache": Path(config["cache"])}
    tokens = {side: tokenize(tokenizer, frame["text"].tolist(), **how) for side, frame in sides.items()}
    share = require_known(tokens["train"], tokenizer.unk_token_id, node["max_unknown"], node["path"] or node["kind"])
    labels = {side: indices_of(frame["code"].tolist(), cohort.classes) for side, frame in sides.items()}
    return Prepared(
        cohort=cohort,
        classification=classification,
        sides=sides,
        n_augmented=len(more),
        data=TokenData(
            {side: Labelled(tokens[side], labels[side][0]) for side in sides},
            int(tokenizer.pad_token_id),
            batch_size=data["batch_size"],
            seed=config["seeds"]["batches"],
            workers=config["trainer"]["num_workers"],
        ),
        tokenizer=tokenizer,
        unknown_share=share,
        unseen={side: codes for side, (_, codes) in labels.items()},
        encoder=_encoder(config, len(cohort.classes), len(tokenizer), int(tokenizer.pad_token_id)),
    )


def _encoder(config: Config, classes: int, vocabulary: int, pad: int) -> Any:
    from kjcm.model.encoder import build_encoder

    model = config["model"]
    return build_encoder(
        pretrained=model["pretrained"],
        shape=model["shape"],
        pooling=model["pooling"],
        classes=classes,
        vocabulary=vocabulary,
        pad=pad,
        max_length=model["max_length"],
        seed=config["seeds"]["init"],
    )


def _tokenizer_path(config: Config) -> str | None:
    """Return tokenizer.path; for KoBERT's, DistilKoBERT's own folder where its weights come from one that has it."""
    path, pretrained = config["tokenizer"]["path"], config["model"]["pretrained"]
    if path is None and config["tokenizer"]["kind"] == "kobert" and pretrained and holds_kobert(pretrained):
        return str(pretrained)
    return path  # type: ignore[no-any-return]


def _say(config: Config, prepared: Prepared) -> None:
    """Say what is about to be trained, and on what."""
    for line in flow_lines(prepared.cohort):
        log.info(line)
    if prepared.n_augmented:
        log.info("  + %s rows of augmentation from %s", f"{prepared.n_augmented:,}", prepared.classification.name)
    if config["augment"]["descriptions"] and not prepared.classification.descriptions:
        log.warning(
            "augment=manual found no descriptions: titles alone join the training rows. Descriptions come with "
            "classification.path=FILE."
        )
    model, epochs = config["model"], config["trainer"]["max_epochs"]
    log.info("model %s (%s), epochs: %d", model["name"], model["pretrained"] or "random start", epochs)


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
        handler.handle(logging.makeLogRecord({"msg": str(error), "levelno": logging.ERROR}))  # the screen has it anyway
        raise
    finally:
        log.removeHandler(handler)
        handler.close()


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    names = ("torch", "lightning", "transformers", "tokenizers", "torchmetrics", "hydra-core")
    return {"kjcm": __version__, "python": platform.python_version(), **{name: version(name) for name in names}}
