"""Record a run in MLflow, in a folder of files or on a server."""

import logging
import os
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pandas as pd
from filelock import FileLock

from kjcm.files import write_json
from kjcm.records import read_json
from kjcm.tracking.description import Description

SETTINGS = {
    "MLFLOW_ALLOW_FILE_STORE": "true",  # otherwise MLflow refuses a folder
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
ENDS = {0: "FINISHED", 1: "FAILED"}
MOST = 100  # parameters that MLflow accepts in one call


class MlflowRun:
    """A run of MLflow. A resumed training continues the run, and logs no point twice.

    MLflow chooses the run's id. The run folder stores the id for a resumed training.

    Args:
        described: the facts to record.
        tracking_uri: URI of a server, or path of a folder, relative to the working folder.
        experiment: name of the run's MLflow experiment.
    """

    def __init__(self, described: Description, tracking_uri: str, experiment: str) -> None:
        for key, value in SETTINGS.items():
            os.environ.setdefault(key, value)
        # not each retry: the tracker logs the failure after the last retry
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
        from mlflow.tracking import MlflowClient

        uri = tracking_uri if urlsplit(tracking_uri).scheme else Path(tracking_uri).resolve().as_uri()
        self._client = MlflowClient(uri)
        record = described.folder / "logs" / "mlflow.json"
        found = read_json(record, {"uri": str, "run": str}) if record.is_file() else {}
        self._known: dict[str, int] = {}
        if found.get("uri") == uri:
            self._resume(found["run"])
        else:
            self._begin(described, uri, experiment)
            write_json(record, {"uri": uri, "run": self._id})

    def _begin(self, described: Description, uri: str, experiment: str) -> None:
        from mlflow.entities import Param

        tags = {"kjcm.group": described.group, "kjcm.tags": ", ".join(described.tags)}
        run = self._client.create_run(self._experiment(uri, experiment), tags=tags, run_name=described.name)
        self._id = run.info.run_id
        flat = pd.json_normalize(described.config).iloc[0].to_dict()
        params = [Param(str(key), str(value)) for key, value in flat.items()]
        for first in range(0, len(params), MOST):
            self._client.log_batch(self._id, params=params[first : first + MOST])

    def _experiment(self, uri: str, name: str) -> str:
        """Return an experiment's id, and create a missing experiment; in a folder, a lock prevents two of one name."""
        parts = urlsplit(uri)
        with FileLock(Path(unquote(parts.path)) / "kjcm.lock") if parts.scheme == "file" else nullcontext():
            found = self._client.get_experiment_by_name(name)
            return found.experiment_id if found else self._client.create_experiment(name)

    def _resume(self, run: str) -> None:
        self._id = run
        self._client.update_run(run, status="RUNNING")
        for name in self._client.get_run(run).data.metrics:
            self._known[name] = max(point.step for point in self._client.get_metric_history(run, name))

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Add a point to each metric's curve that lacks this step."""
        from mlflow.entities import Metric

        now = round(1000 * time.time())
        points = [Metric(key, value, now, step) for key, value in metrics.items() if step > self._known.get(key, -1)]
        self._client.log_batch(self._id, metrics=points)

    def save(self) -> None:
        """Do nothing: `log` has already written the points."""

    def end(self, code: int) -> None:
        """End the run; a run that a signal interrupted has the status KILLED until it resumes."""
        self._client.set_terminated(self._id, ENDS.get(code, "KILLED"))
