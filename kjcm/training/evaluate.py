"""`kjcm evaluate`: evaluate a finished run on its own test rows, or on other data's."""

import hashlib
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from kjcm.engine.device import require_device
from kjcm.errors import ConfigError, KjcmError, some
from kjcm.files import UNFINISHED, digest, filling, require_no_input, write_json, write_parquet
from kjcm.keys.commands.train import EvaluateConfig
from kjcm.keys.composition import typed
from kjcm.keys.survey import DataConfig
from kjcm.ksco.classification import Classification, load_classification
from kjcm.records import read_json
from kjcm.run_folder.contents import SHOWN, recorded_data, run_cohort, run_config, run_identity, run_report
from kjcm.run_folder.folder import identity_of
from kjcm.run_folder.model_folder import finished_run, load_settings
from kjcm.run_folder.results import cohort_record, outcome_record, prediction_frame, show
from kjcm.survey.inputs import cohort_of, input_files
from kjcm.survey.rows import indices_of, require_weights
from kjcm.training.ensemble import scorer_of
from kjcm.training.fit import coded_by_encoder
from kjcm.training.linear import outcome_of
from kjcm.triage.calibration import probabilities

FILES = ("metrics.json", "predictions.parquet", "cohort.json")

log = logging.getLogger("kjcm")


def evaluate(cfg: DictConfig) -> None:
    """Evaluate a finished run, and write metrics.json, predictions.parquet and cohort.json into `out`.

    Raises:
        KjcmError: the run is not finished, the data are unusable, or `out` contains another evaluation.
    """
    config = typed(cfg, EvaluateConfig)
    if config.trainer.devices != 1 or config.trainer.strategy != "auto":
        raise ConfigError("evaluate runs in one process. Use trainer=cpu or trainer=gpu with trainer.devices=1.")
    require_device("trainer.accelerator", config.trainer.accelerator)
    run = finished_run(config.run)
    recorded = run_config(run)
    data, classification = recorded_data(run, recorded, own=config.data is None)
    node = recorded["data"]
    if config.data is not None:
        own = config.data.columns
        columns = replace(own, covariates=data.columns.covariates or own.covariates)  # older runs lack them
        data = replace(config.data, level=data.level, wording=data.wording, columns=columns)
        node = asdict(data)
    name = _name(run, {"data": node, "classification": recorded["classification"]})
    out = Path(config.out) if config.out else run / "evaluations" / name
    there = [file for file in FILES if (out / file).exists()]
    if (out / "identity.json").exists():
        raise KjcmError(f"{out} is a run folder. Choose another out=DIR.")
    own_folder = not config.out or (out / UNFINISHED).exists()  # only evaluate writes there
    interrupted = there and "metrics.json" not in there and own_folder
    if there and not config.overwrite and not interrupted:
        found = read_json(out / "metrics.json", {"evaluation?": str}) if "metrics.json" in there else {}
        if found.get("evaluation") != name:
            raise KjcmError(
                f"{out} contains {some(there)} of another evaluation. Choose another out=DIR, or add overwrite=true."
            )
        log.info("evaluated already (overwrite=true evaluates the run again)")
        show(read_json(out / "metrics.json", SHOWN), out)
        return
    for file in there:
        require_no_input(out / file, input_files({"data": node}).values(), "out")
    with filling(out):
        record = _evaluate(config, run, data, load_classification(classification.name, classification.path), out)
        record["evaluation"] = name
        write_json(out / "metrics.json", record)
    show(record, out)


def _name(run: Path, nodes: Mapping[str, Any]) -> str:
    """Return a hash that identifies an evaluation: of the model's files, the config nodes and their files' contents."""
    return hashlib.sha256(f"{digest(run / 'model')}\n{identity_of(nodes).hash}".encode()).hexdigest()[:12]


def _evaluate(
    config: EvaluateConfig, run: Path, data: DataConfig, classification: Classification, out: Path
) -> dict[str, Any]:
    """Evaluate the run's model on a data node's test rows; write all files except metrics.json, and return its content."""
    begin = time.perf_counter()
    settings = load_settings(run / "model")
    cohort = cohort_of(data, classification)
    trained, n_augmented = run_cohort(run), run_report(run).get("n_augmented", 0)
    if config.data is None and trained["hashes"]["cohort"] != cohort.cohort_hash:
        raise KjcmError(
            f"{run}: the data files have changed since the training (cohort {cohort.cohort_hash[:12]}, then "
            f"{trained['hashes']['cohort'][:12]}). Restore them, or name the new test rows with data=table data.test_path=FILE."
        )
    rows = cohort.side("test")
    if not len(rows) and data.source == "titles":
        raise KjcmError("Titles are no test rows. Name coded answers with data=table data.test_path=FILE.")
    if not len(rows):
        raise KjcmError("The data have no test rows. Set data.test_path=FILE, or data.train_share below 1.")
    labels, unseen = indices_of(rows["code"].tolist(), settings.classes)
    require_weights(rows)
    if config.data is not None and config.unseen_levels == "error":
        files = ", ".join(map(str, input_files({"data": vars(data)}).values()))
        place = getattr(data, "test_path", None) or files or data.source
        settings.covariates.require_seen(rows, f"{place}, test rows")
    if settings.kind != "encoder":
        scorer = scorer_of(run, config.trainer, config.batch_size, out)
        outcome = outcome_of(scorer, {"test": rows}, {"test": labels}, {"test": unseen}, probabilities)
    else:
        outcome = coded_by_encoder(run, rows, labels, len(unseen), config.trainer, config.batch_size, out)
    synthetic = settings.synthetic or cohort.synthetic
    note = "synthetic" if synthetic else ""
    (out / "metrics.json").unlink(missing_ok=True)  # it may be another evaluation's
    write_parquet(out / "predictions.parquet", prediction_frame(rows, outcome.predictions, settings.classes), note)
    write_json(out / "cohort.json", cohort_record(cohort, classification, data.source))
    n_train = dict(zip(settings.classes, settings.n_train, strict=True))
    return {
        "run": run_identity(run)["hash"],
        "synthetic": synthetic,
        "data": data.source,
        "level": cohort.level,
        **outcome_record(outcome, rows, settings.classes, unseen, classification, n_train),
        "n_train": trained["flow"]["train"],
        "n_augmented": n_augmented,
        "n_classes": len(settings.classes),
        "seconds": {"total": round(time.perf_counter() - begin, 3)},
        "hashes": {"cohort": cohort.cohort_hash, "split": cohort.split_hash, "classes": settings.classes_hash},
    }
