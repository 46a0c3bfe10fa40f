"""Make a run's loggers, and close each of them however the run ends."""

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from kjcm.engine.device import global_rank
from kjcm.errors import Interrupted, KjcmError
from kjcm.keys.commands.index import LOGGERS
from kjcm.parts import build, require_arguments
from kjcm.records import damaged, read_bytes
from kjcm.run_folder.folder import RunFolder
from kjcm.run_folder.results import Outcome
from kjcm.survey.cohort import Cohort
from kjcm.tracking.description import Description, describe
from kjcm.tracking.upload import use_cohort

EXTRAS = ("tensorboard", "mlflow", "trackio")  # each is a package and an extra of one name
TAG = 64  # most characters of a W&B tag


def require_loggers(nodes: Mapping[str, Any]) -> None:
    """Check that the loggers in a config can be made.

    Raises:
        KjcmError: the package of a logger is not installed.
        ConfigError: a target cannot be imported, or an argument is unknown or missing.
    """
    for name, node in nodes.items():
        if name in EXTRAS and find_spec(name) is None:
            raise KjcmError(f"logger={name} needs the extra {name}: pip install 'kjcm[{name}]'.")
        if name not in LOGGERS:
            require_arguments(f"logger.{name}", node, ("save_dir",))


@contextmanager
def make_loggers(
    config: Mapping[str, Any], folder: RunFolder, cohort: Cohort | None, *, sweep: str | None, step: int = 0
) -> Iterator[list[Any]]:
    """Yield a run's loggers, and close them at the end; after an error, mark the run as failed.

    A run that resumes at `step` repeats this step and all later steps. The csv and tensorboard loggers remove the
    earlier points of repeated steps; mlflow and trackio keep the earlier points.

    Args:
        config: the run's config.
        folder: the run's folder.
        cohort: the cohort that the run trains on; None: it trains on texts without codes.
        sweep: name of the run's multirun, or None.
        step: step at which the run resumes.
    """
    described = describe(config, folder, cohort, sweep)
    with ExitStack() as stack:
        loggers = []
        for name, node in config["logger"].items():
            logger = _logger(name, node, described, step)
            stack.push(partial(_close, logger))
            loggers.append(_counting_from_one(logger))
        yield loggers


def _close(logger: Any, _: object, error: BaseException | None, __: object) -> None:
    pruned = isinstance(error, KjcmError) and error.kind == "pruned"  # a search ended it early
    code = 0 if error is None or pruned else error.exit_code if isinstance(error, Interrupted) else 1
    if hasattr(logger, "finish"):
        logger.finish(code)
    else:
        logger.finalize("failed" if code == 1 else "success")  # an interrupted run is not a failure


def _counting_from_one(logger: Any) -> Any:
    """Make a logger number epochs from 1, like the screen; Lightning numbers them from 0."""
    log_metrics = logger.log_metrics

    def counted(metrics: Mapping[str, float], step: int | None = None) -> None:
        log_metrics({name: value + (name == "epoch") for name, value in metrics.items()}, step)

    logger.log_metrics = counted
    return logger


def log_outcome(loggers: Sequence[Any], outcome: Outcome, step: int) -> None:
    """Log the trained model's metrics at its last step, without an epoch; W&B has them in its summary."""
    sides = {"val": outcome.validation, "test": outcome.metrics}
    values = {f"{side}_{name}": value for side, found in sides.items() for name, value in found.items()}
    for logger in loggers if values else ():
        if logger.name != "wandb":
            logger.log_metrics(values, step)


def _logger(name: str, node: Mapping[str, Any], described: Description, step: int) -> Any:
    logs = described.folder / "logs"
    if name == "csv":
        return _csv_logger(logs, step)
    if name == "tensorboard":
        return _tensorboard_logger(logs, described, step)
    from lightning.pytorch.loggers.logger import DummyLogger

    from kjcm.tracking.tracker import Tracker

    if global_rank() > 0:
        return DummyLogger()  # only rank 0 has a run
    own = {"wandb": _wandb_run, "mlflow": _mlflow_run, "trackio": _trackio_run}
    begin = partial(own.get(name, partial(_own_run, name)), node, described)
    if name != "wandb":
        return Tracker(name, begin)
    tracker = Tracker(name, begin, node["wait"])
    if cohort_hash := described.config["kjcm"].get("cohort"):
        tracker.queue(lambda tracked: use_cohort(tracked.run, described.folder / "cohort.json", cohort_hash))
    return tracker


def _csv_logger(logs: Path, step: int) -> Any:
    """Return a logger that continues the existing file; Lightning's own logger would begin a new file."""
    from lightning.pytorch.loggers import CSVLogger

    file = logs / "csv" / "version_0" / "metrics.csv"
    rows = _logged_before(file, step) if file.is_file() else []
    logger = CSVLogger(str(logs), name="csv", version=0)
    if global_rank() == 0:
        file.unlink(missing_ok=True)  # Lightning would remove it with a warning
        logger.experiment.metrics.extend(rows)
        logger.save()
    return logger


def _logged_before(file: Path, step: int) -> list[dict[str, Any]]:
    """Return the rows of a metrics.csv for the steps before `step`; skip an incomplete last line."""
    try:
        lines = read_bytes(file).decode("utf-8").splitlines()
        rows = [{key: value for key, value in row.items() if key and value} for row in csv.DictReader(lines)]
    except (ValueError, csv.Error) as error:
        raise damaged(file, error) from None
    return [
        row
        for row in rows
        if str(row.get("step", "")).isdigit()
        and int(row["step"]) < step
        and not any(str(key).startswith("test_") for key in row)
    ]


def _tensorboard_logger(logs: Path, described: Description, step: int) -> Any:
    from lightning.pytorch.loggers import TensorBoardLogger

    logger = TensorBoardLogger(str(logs), name="tensorboard", version=0, purge_step=step or None)
    if step == 0:
        settings = yaml.safe_dump(described.config, allow_unicode=True, sort_keys=False)
        logger.experiment.add_text(
            "config", "\n".join(f"    {line}" for line in settings.splitlines())
        )  # indented: Markdown shows it as code
    return logger


def _mlflow_run(node: Mapping[str, Any], described: Description) -> Any:
    from kjcm.tracking.mlflow_run import MlflowRun

    runs = Path(described.config["runs"]) / "mlruns"
    return MlflowRun(
        described, node["tracking_uri"] or os.environ.get("MLFLOW_TRACKING_URI") or str(runs), node["experiment"]
    )


def _trackio_run(node: Mapping[str, Any], described: Description) -> Any:
    from kjcm.tracking.trackio_run import TrackioRun

    return TrackioRun(described, node["project"], node["group"], node["space_id"])


def _wandb_run(node: Mapping[str, Any], described: Description) -> Any:
    from kjcm.tracking.wandb_run import WandbRun

    begin = {
        # an agent of a W&B sweep has its own id for each trial
        "id": None if os.environ.get("WANDB_SWEEP_ID") else described.id,
        "name": described.name,
        "dir": str(described.folder.resolve()),  # absolute: W&B's process may use another folder
        "project": node["project"],
        "entity": node["entity"],
        "group": node["group"] or described.group,
        "job_type": "train",
        "tags": [tag[:TAG] for tag in dict.fromkeys((*described.tags, *node["tags"])) if tag.strip()],
        "config": described.config,
    }
    return WandbRun(begin, wandb_mode(node["mode"]), node["wait"])


def wandb_mode(mode: str | None) -> str:
    """Return the W&B mode: `mode`, else WANDB_MODE, else online; without an API key, offline in place of online."""
    mode = mode or os.environ.get("WANDB_MODE") or "online"
    return "offline" if mode == "online" and not has_key() else mode


def has_key() -> bool:
    """Return whether W&B finds an API key, so that it does not ask for a key."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    import netrc

    own = urlsplit(os.environ.get("WANDB_BASE_URL", "")).hostname
    try:
        return any("wandb" in host or host == own for host in netrc.netrc().hosts)
    except (OSError, netrc.NetrcParseError):
        return False


def _own_run(name: str, node: Mapping[str, Any], described: Description) -> Any:
    """Begin the run of a Lightning logger; `save_dir` is the run folder's `logs` unless the config sets it."""
    from kjcm.tracking.tracker import LightningRun

    return LightningRun(build(f"logger.{name}", node, save_dir=str(described.folder / "logs")), described.config)
