"""Record a run in Trackio: in its local database, or in a Hugging Face Space."""

import logging
from collections.abc import Mapping
from typing import Any

import trackio
from trackio.sqlite_storage import SQLiteStorage

from kjcm.files import write_text
from kjcm.tracking.description import Description

log = logging.getLogger("kjcm")


class TrackioRun:
    """A run of Trackio. A resumed training continues the run; in the local database it logs no point twice.

    Args:
        described: the facts to record.
        project: name of the run's project.
        group: name of the run's group; None: the group in `described`.
        space_id: id of a Space; None: the local database.
    """

    def __init__(self, described: Description, project: str, group: str | None, space_id: str | None) -> None:
        # Trackio has no setting that turns off its messages
        for module in (trackio, trackio.run, trackio.utils):
            vars(module).update(print=_print_nothing, _emit_nonfatal_warning=_warn)
        begun = described.folder / "logs" / "trackio"
        self._run: Any = trackio.init(
            project,
            described.name,
            group=group or described.group,
            space_id=space_id,
            config={**described.config, "tags": list(described.tags)},
            resume="allow" if begun.is_file() else "never",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        write_text(begun, self._run.id)
        self._known = {
            name: row["step"]
            for row in SQLiteStorage.get_logs(project, described.name, run_id=self._run.id)
            for name in row
        }

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Add a point to each metric's curve that lacks this step."""
        if new := {name: value for name, value in metrics.items() if step > self._known.get(name, -1)}:
            self._run.log(new, step)

    def save(self) -> None:
        """Write the queued points now; Trackio's own thread would write them within half a second."""
        with self._run._client_lock:
            self._run._flush_queues_inline()

    def end(self, code: int) -> None:
        """End the run; Trackio records no exit code."""
        self._run.finish()


def _print_nothing(*_: object, **__: object) -> None:
    """Replace `print`."""


def _warn(message: str, *_: object, **__: object) -> None:
    """Log a warning of Trackio, which would otherwise be printed."""
    log.warning("logger trackio: %s", message)
