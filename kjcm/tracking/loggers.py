"""The loggers of a run: CSV, TensorBoard or Weights & Biases; each is closed however the run ends."""

import csv
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import kjcm
from kjcm.engine.device import global_rank
from kjcm.errors import Interrupted, KjcmError
from kjcm.records import damaged, read_bytes
from kjcm.runs.folder import RunFolder
from kjcm.runs.results import Outcome
from kjcm.survey.cohort import Cohort
from kjcm.survey.inputs import Config
from kjcm.tracking.upload import use_cohort

if TYPE_CHECKING:
    from kjcm.tracking.wandb_run import Tracker

TAG = 64  # most characters of a tag of W&B's


@contextmanager
def make_loggers(
    config: Config, folder: RunFolder, cohort: Cohort, *, sweep: str | None, step: int = 0
) -> Iterator[list[Any]]:
    """Give the loggers of a run, which write into its folder, and finish what they have begun, as failed on an error.

    A run that goes on from `step` leaves out what a file had of that step and later ones: it does them again.

    Args:
        config: of the run.
        folder: of the run.
        cohort: that it learns from.
        sweep: what the multirun that it is a job of is called.
        step: where it goes on.

    Raises:
        KjcmError: TensorBoard is asked for and not installed.
    """
    loggers = [_counting_from_one(logger) for logger in _loggers(config, folder, cohort, sweep, step)]
    code = 1
    try:
        yield loggers
        code = 0
    except Interrupted as leaving:
        code = leaving.exit_code
        raise
    except KjcmError as error:
        code = 0 if error.kind == "pruned" else 1  # a search has seen enough of it
        raise
    finally:
        for logger in loggers:
            if config["logger"]["kind"] == "wandb":
                logger.finish(code)
            else:
                logger.finalize("failed" if code == 1 else "success")  # what was done before a signal is good


def _counting_from_one(logger: Any) -> Any:
    """Let a logger number the epochs from 1, as the screen does; Lightning numbers them from 0."""
    log_metrics = logger.log_metrics

    def counted(metrics: Mapping[str, float], step: int | None = None) -> None:
        log_metrics({name: value + (name == "epoch") for name, value in metrics.items()}, step)

    logger.log_metrics = counted
    return logger


def log_outcome(loggers: Sequence[Any], outcome: Outcome, step: int) -> None:
    """Log what the trained model was measured to do: to W&B as the summary, to the others at its last step, of no epoch."""
    sides = {"val": outcome.validation, "test": outcome.metrics}
    values = {f"{side}_{name}": value for side, found in sides.items() for name, value in found.items()}
    for logger in loggers if values else ():
        logger.log_metrics(values, None if logger.name == "wandb" else step)


def _loggers(config: Config, folder: RunFolder, cohort: Cohort, sweep: str | None, step: int) -> list[Any]:
    kind, logs = config["logger"]["kind"], folder.path / "logs"
    if kind == "none":
        return []
    if kind == "csv":
        return [_csv_logger(logs, step)]
    if kind == "tensorboard":
        from lightning.pytorch.loggers import TensorBoardLogger

        try:
            return [TensorBoardLogger(str(logs), name="tensorboard", version=0, purge_step=step or None)]
        except ModuleNotFoundError:
            raise KjcmError("logger=tensorboard needs the extra: pip install 'kjcm[tensorboard]'.") from None
    return [_tracker(config, folder, cohort, sweep)]


def _csv_logger(logs: Path, step: int) -> Any:
    """Return a logger that goes on with the file that is there; Lightning's own would begin another."""
    from lightning.pytorch.loggers import CSVLogger

    file = logs / "csv" / "version_0" / "metrics.csv"
    rows = _logged_before(file, step) if file.is_file() else []
    logger = CSVLogger(str(logs), name="csv", version=0)
    if global_rank() == 0:
        file.unlink(missing_ok=True)  # Lightning would, with a warning
        logger.experiment.metrics.extend(rows)
        logger.save()
    return logger


def _logged_before(file: Path, step: int) -> list[dict[str, Any]]:
    """Return what a metrics.csv holds of the steps before `step`; its last line may be torn."""
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


def wandb_mode(mode: str | None) -> str:
    """Return the W&B mode: as given, else as WANDB_MODE says, else online; offline without an API key in any case."""
    mode = mode or os.environ.get("WANDB_MODE") or "online"
    return "offline" if mode == "online" and not _has_key() else mode


def _has_key() -> bool:
    """Tell whether W&B will find an API key and not ask for one."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    import netrc

    own = urlsplit(os.environ.get("WANDB_BASE_URL", "")).hostname
    try:
        return any("wandb" in host or host == own for host in netrc.netrc().hosts)
    except (OSError, netrc.NetrcParseError):
        return False


def _tracker(config: Config, folder: RunFolder, cohort: Cohort, sweep: str | None) -> "Tracker":
    from kjcm.tracking.wandb_run import Tracker

    node = config["logger"]
    if global_rank() > 0:
        return Tracker(None)  # only the first process has a run
    begin = {
        # an agent of a W&B sweep has its own id for each trial
        "id": None if os.environ.get("WANDB_SWEEP_ID") else folder.identity.hash[:12],
        "name": f"{config['name']}-{folder.identity.hash[:12]}",
        "dir": str(folder.path.resolve()),  # W&B's own process may work in another folder
        "project": node["project"],
        "entity": node["entity"],
        "group": node["group"] or (f"sweep-{sweep}" if sweep else config["name"]),
        "job_type": "train",
        "tags": tags_of(config),
        "config": {**config, "kjcm": about(folder, cohort)},
    }
    tracker = Tracker(begin, wandb_mode(node["mode"]), node["wait"])
    tracker.tell_in_time(lambda run: use_cohort(run, folder.path / "cohort.json", cohort.cohort_hash))
    return tracker


def tags_of(config: Config) -> list[str]:
    """Return the tags of a W&B run: experiment, data, level and model, and those of `logger.tags`."""
    data = config["data"]
    level = f"{data['level']} digits" if data["level"] else "codes as they stand"
    own = (config["name"], data["source"], level, config["model"]["name"])
    return list(dict.fromkeys(str(tag)[:TAG] for tag in (*own, *config["logger"]["tags"]) if str(tag).strip()))


def about(folder: RunFolder, cohort: Cohort) -> dict[str, Any]:
    """Return what a run is of beside its config: the code's version and commit, and the hashes of run and cohort."""
    return {
        "version": kjcm.__version__,
        "commit": commit_of(Path(kjcm.__file__).parents[1]),
        "run": folder.identity.hash,
        "cohort": cohort.cohort_hash,
        "split": cohort.split_hash,
        "classes": cohort.classes_hash,
        "synthetic": cohort.synthetic,
    }


def commit_of(checkout: Path) -> str | None:
    """Return the commit of a checkout, with -dirty where files differ from it; None where it is none, or git is not there."""
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
