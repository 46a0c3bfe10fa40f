"""`kjcm evaluate`: a finished run on its own test rows, or on those of other data."""

import hashlib
import json
import logging
import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kjcm.errors import ConfigError, KjcmError
from kjcm.files import digest, write_json, write_parquet
from kjcm.study.inputs import Config, classification_of, cohort_of
from kjcm.study.lightning import device_name, make_trainer
from kjcm.study.model_folder import finished_run, load_model
from kjcm.study.results import Outcome, cohort_record, indices_of, outcome_record, prediction_frame, show
from kjcm.study.run_folder import identity_of

log = logging.getLogger("kjcm")


def evaluate(cfg: DictConfig) -> None:
    """Write metrics.json, predictions.parquet and cohort.json of a finished run into `out`.

    Raises:
        KjcmError: the run is not finished, the data are not usable, or `out` holds another evaluation.
    """
    config: Config = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    if config["trainer"]["devices"] != 1 or config["trainer"]["strategy"] != "auto":
        raise ConfigError("evaluate runs in one process: use trainer=cpu or trainer=gpu with trainer.devices=1.")
    run = finished_run(config["run"])
    trained: Config = OmegaConf.to_container(OmegaConf.load(run / "config.yaml"))  # type: ignore[assignment]
    own = config["data"] is None
    data = trained["data"] if own else {**config["data"], "level": trained["data"]["level"]}
    whole = {"data": data, "classification": trained["classification"]}
    name = _name(run, whole)
    out = Path(config["out"]) if config["out"] else run / "evaluations" / name
    if (out / "metrics.json").exists() and not config["overwrite"]:
        found = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
        if found.get("evaluation") != name:
            raise KjcmError(f"{out} holds another evaluation. Choose another out=DIR, or add overwrite=true.")
        log.info("evaluated already (overwrite=true does it anew)")
        show(found, out)
        return
    record = _evaluate(config, run, whole, own, out)
    record["evaluation"] = name
    write_json(out / "metrics.json", record)
    show(record, out)


def _name(run: Path, whole: Config) -> str:
    """Return the hash of what is evaluated: the model's weights, the data node and the contents of its files."""
    return hashlib.sha256(f"{digest(run / 'model')}\n{identity_of(whole).hash}".encode()).hexdigest()[:12]


def _evaluate(config: Config, run: Path, whole: Config, own: bool, out: Path) -> dict[str, Any]:
    """Measure the run's model on the test rows of a data node; write all but metrics.json and return what it will hold."""
    from kjcm.model.data import Labelled, TokenData
    from kjcm.model.module import Classifier, Optimisation
    from kjcm.text.tokens import tokenize

    begin = time.perf_counter()
    encoder, tokenizer, settings = load_model(run / "model")
    classification = classification_of(whole)
    cohort = cohort_of(whole["data"], classification)
    trained = json.loads((run / "cohort.json").read_text(encoding="utf-8"))
    if own and trained["hashes"]["cohort"] != cohort.cohort_hash:
        raise KjcmError(
            f"{run}: its data files hold other rows than when it was trained (cohort {cohort.cohort_hash[:12]}, then "
            f"{trained['hashes']['cohort'][:12]}). Restore them, or name the new test rows with data=table data.test_path=FILE."
        )
    rows = cohort.side("test")
    if not len(rows):
        raise KjcmError("The data have no test rows. Give data.test_path=FILE, or a data.train_share below 1.")
    tokens = tokenize(tokenizer, rows["text"].tolist(), prefix=settings.prefix, max_length=settings.max_length)
    labels, unseen = indices_of(rows["code"].tolist(), settings.classes)
    module = Classifier(
        encoder, settings.classes, settings.classes_hash, Optimisation("adam", 1.0), 0, {"test": len(unseen)}
    )
    data = TokenData(
        {"test": Labelled(tokens, labels)}, tokenizer.pad_token_id, batch_size=config["batch_size"], seed=0, workers=0,
        eval_batch_size=config["batch_size"],
    )  # fmt: skip
    trainer = make_trainer({**config["trainer"], "max_epochs": 1}, folder=out, loggers=[], callbacks=[])
    trainer.test(module, datamodule=data, verbose=False)
    metrics, per_class = module.test_scores.summary()
    outcome = Outcome(metrics, per_class, {}, module.predicted, 0.0, 0, device_name(module.device), "32-true", 0)
    synthetic = settings.synthetic or cohort.synthetic
    note = "synthetic" if synthetic else ""
    write_parquet(out / "predictions.parquet", prediction_frame(rows, module.predicted, settings.classes), note)
    write_json(out / "cohort.json", cohort_record(cohort, classification))
    n_train = {group["code"]: group["train"] for group in trained["groups"]}
    return {
        "run": json.loads((run / "identity.json").read_text(encoding="utf-8"))["hash"],
        "synthetic": synthetic,
        "data": whole["data"]["source"],
        "level": cohort.level,
        **outcome_record(outcome, rows, settings.classes, unseen, classification, n_train),
        "n_train": trained["flow"]["train"],
        "n_augmented": json.loads((run / "report.json").read_text(encoding="utf-8"))["n_augmented"],
        "n_classes": len(settings.classes),
        "seconds": {"total": round(time.perf_counter() - begin, 3)},
        "hashes": {"cohort": cohort.cohort_hash, "split": cohort.split_hash, "classes": settings.classes_hash},
        "device": outcome.device,
    }
