"""What a W&B run is given beside its curves: summary, tables and pictures of the test, and artifacts; texts only on wish."""

import hashlib
import re
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kjcm.runs.contents import run_predictions
from kjcm.survey.rows import Rows

if TYPE_CHECKING:
    from wandb import Artifact
    from wandb.sdk.wandb_run import Run

    from kjcm.tracking.tracker import Tracker

COLUMNS = ["code", "code_1", "prob_1"]  # of predictions.parquet
COUNTS = ("n_train", "n_validation", "n_test", "n_augmented", "n_classes", "n_test_without_training",
          "groups_never_predicted", "unknown_share", "epochs", "parameters")  # fmt: skip
WEIGHTS = (
    "config.json",
    "kjcm.json",
    "model.safetensors",
)  # of the model folder: nothing learnt from texts but weights


def upload_results(
    tracker: "Tracker", config: Mapping[str, Any], path: Path, rows: Rows, report: Mapping[str, Any]
) -> None:
    """Give a W&B run what came of its training, as far as nothing fails.

    Args:
        tracker: the run.
        config: of the run.
        path: the run folder, with predictions and model.
        rows: of the run.
        report: what report.json will hold.
    """
    node = config["logger"]["wandb"]
    tracker.tell(lambda own: own.run.summary.update(summary_of(report)))
    if report["per_class"]:
        tracker.tell(lambda own: own.run.log(_panels(node["share_text"], path, rows, report)))
    if node["share_model"]:
        tracker.tell(lambda own: own.run.log_artifact(_model_of(config, path, report)))


def summary_of(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that runs are sorted by: test_*, val_*, weighted_* (by survey weight), counts and the engine."""
    found: dict[str, Any] = {name: report[name] for name in COUNTS if report.get(name) is not None}
    for lead, name in (("test", "metrics"), ("val", "validation"), ("weighted", "metrics_survey_weighted")):
        found |= {f"{lead}_{key}": value for key, value in report.get(name, {}).items()}
    return found | {key: report[key] for key in ("engine", "precision", "device")}


def use_cohort(run: "Run", file: Path, cohort_hash: str) -> None:
    """Make the cohort's counts and hashes (cohort.json, no row's text) an artifact that the run has used."""
    import wandb

    artifact = wandb.Artifact(f"cohort-{cohort_hash[:12]}", "dataset", metadata={"cohort": cohort_hash})
    artifact.add_file(str(file), skip_cache=True)
    # run.use_artifact refuses offline, and online waits for the server however long it takes
    run._log_artifact(artifact, is_user_created=True, use_after_commit=True)


def _panels(share_text: bool, path: Path, rows: Rows, report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the test's tables and pictures, by the name of their panel."""
    import wandb
    from PIL import Image

    from kjcm.analysis import findings
    from kjcm.analysis.statistics import regression
    from kjcm.plot.curves import draw_confusion, draw_reliability
    from kjcm.plot.groups import draw_precision_by_size
    from kjcm.plot.style import png
    from kjcm.triage.calibration import calibration_error

    predictions = run_predictions(path, COLUMNS)
    texts = rows.sides["test"]["text"].tolist() if share_text else None
    named, synthetic = rows.classification, rows.cohort.synthetic
    groups = findings.group_table(report["per_class"], named)
    confusion, reliable = findings.major_confusion(predictions, named), findings.reliability(predictions)
    tables = {
        "groups": groups,
        "confusion_table": findings.as_rows(confusion),
        "confused_pairs": findings.confused_pairs(predictions, named),
        "reliability_table": reliable,
        "errors": findings.error_examples(predictions, named, texts),
    }
    points = groups[groups["n_train"] > 0].reset_index(drop=True)
    points["major"] = [f"{code} {named.title(code, 'en') or named.title(code)}".strip() for code in points["major"]]
    error = f"model: expected calibration error {calibration_error(reliable):.3f}"
    drawn = {
        "confusion": draw_confusion(confusion, synthetic),
        "reliability": draw_reliability({error: reliable}, synthetic),
        "size_and_precision": draw_precision_by_size(
            points, regression(points["n_train"], points["precision"]), synthetic=synthetic
        ),
    }
    shown: dict[str, Any] = {name: wandb.Image(Image.open(BytesIO(png(one)))) for name, one in drawn.items()}
    shown |= {name: wandb.Table(dataframe=table) for name, table in tables.items()}
    return {f"test/{name}": panel for name, panel in shown.items()}


def artifact_name(experiment: str) -> str:
    """Return model-EXPERIMENT in the letters that W&B allows; where some are others, with the name's hash, to tell them apart."""
    wanted = f"model-{experiment}"
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", wanted)[:110]
    return name if name == wanted else f"{name}-{hashlib.sha256(wanted.encode()).hexdigest()[:8]}"


def _model_of(config: Mapping[str, Any], path: Path, report: Mapping[str, Any]) -> "Artifact":
    """Return the model folder as an artifact; a tokenizer that may be learnt from answers only where texts are shared."""
    import wandb

    node = config["tokenizer"]
    local = node["kind"] == "huggingface" and Path(node["path"] or config["model"]["pretrained"] or "").is_dir()
    learnt = (node["kind"] == "trained" or local) and not config["logger"]["wandb"][
        "share_text"
    ]  # an earlier run's may be local
    about = {"run": report["hashes"]["run"], "cohort": report["hashes"]["cohort"], "synthetic": report["synthetic"]}
    name = artifact_name(config["name"])
    artifact = wandb.Artifact(name, "model", metadata={**about, **summary_of(report), "tokenizer": not learnt})
    for file in sorted((path / "model").iterdir()):
        if file.is_file() and not (learnt and file.name not in WEIGHTS):
            # read where it lies when it is sent: a copy for each run would fill the home directory
            artifact.add_file(str(file), policy="immutable", skip_cache=True)
    return artifact
