"""Upload a run's results to W&B: summary, test tables and pictures, artifacts; respondents' texts only on request."""

import hashlib
import re
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kjcm.hub.texts import has_text_parts
from kjcm.run_folder.contents import run_predictions
from kjcm.survey.rows import Rows

if TYPE_CHECKING:
    from wandb import Artifact
    from wandb.sdk.wandb_run import Run

    from kjcm.tracking.tracker import Tracker

COLUMNS = ["code", "code_1", "prob_1"]  # of predictions.parquet
COUNTS = ("n_train", "n_validation", "n_test", "n_augmented", "n_classes", "n_test_without_training",
          "groups_never_predicted", "unknown_share", "epochs", "parameters")  # fmt: skip
# The files of the model folder that contain no part of a text; a trained tokenizer contains some.
WEIGHTS = ("config.json", "kjcm.json", "model.safetensors")


def upload_results(
    tracker: "Tracker", config: Mapping[str, Any], path: Path, rows: Rows, report: Mapping[str, Any]
) -> None:
    """Queue the upload of a finished training to its W&B run; the tracker logs the first failure.

    Args:
        tracker: the tracker of the W&B run.
        config: the run's config.
        path: the run folder, with predictions and model.
        rows: the run's rows.
        report: the content of report.json.
    """
    node = config["logger"]["wandb"]
    tracker.queue(lambda own: own.run.summary.update(summary_of(report)))
    if report["per_class"]:
        tracker.queue(lambda own: own.run.log(_panels(node["share_text"], path, rows, report)))
    if node["share_model"]:
        tracker.queue(lambda own: own.run.log_artifact(_model_of(config, path, report)))


def summary_of(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return a W&B run's summary: test_*, val_* and weighted_* (by survey weight) metrics, counts and the engine."""
    found: dict[str, Any] = {name: report[name] for name in COUNTS if report.get(name) is not None}
    for lead, name in (
        ("test", "metrics"),
        ("val", "validation"),
        ("weighted", "metrics_survey_weighted"),
        ("without_training", "metrics_without_training"),
    ):
        found |= {f"{lead}_{key}": value for key, value in report.get(name, {}).items()}
    return found | {key: report[key] for key in ("engine", "precision", "device")}


def use_cohort(run: "Run", file: Path, cohort_hash: str) -> None:
    """Record cohort.json as an artifact that the run used; it contains counts and hashes, and no text of a row."""
    import wandb

    artifact = wandb.Artifact(f"cohort-{cohort_hash[:12]}", "dataset", metadata={"cohort": cohort_hash})
    artifact.add_file(str(file), skip_cache=True)
    # not run.use_artifact, which fails offline and waits for the server without a limit online
    run._log_artifact(artifact, is_user_created=True, use_after_commit=True)


def _panels(share_text: bool, path: Path, rows: Rows, report: Mapping[str, Any]) -> dict[str, Any]:
    """Return panel name -> table or picture of the test rows."""
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
    """Return model-EXPERIMENT, with `-` for characters that W&B forbids; a changed name ends in a hash."""
    wanted = f"model-{experiment}"
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", wanted)[:110]
    return name if name == wanted else f"{name}-{hashlib.sha256(wanted.encode()).hexdigest()[:8]}"


def _model_of(config: Mapping[str, Any], path: Path, report: Mapping[str, Any]) -> "Artifact":
    """Return the model folder as an artifact, without a tokenizer trained on answers unless texts are shared."""
    import wandb

    private = has_text_parts(path, report["kind"]) and not config["logger"]["wandb"]["share_text"]
    about = {"run": report["hashes"]["run"], "cohort": report["hashes"]["cohort"], "synthetic": report["synthetic"]}
    name = artifact_name(config["name"])
    artifact = wandb.Artifact(name, "model", metadata={**about, **summary_of(report), "tokenizer": not private})
    for file in sorted((path / "model").rglob("*")):
        inside = file.relative_to(path / "model").as_posix()
        if file.is_file() and not (private and inside not in WEIGHTS):
            # W&B reads the file itself when it uploads: copies would fill the home directory
            artifact.add_file(str(file), name=inside, policy="immutable", skip_cache=True)
    return artifact
