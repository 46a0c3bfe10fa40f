"""Tell a command or a web address that a job of a multirun failed, or that the multirun ended; never fail for it."""

import json
import logging
import math
import os
import re
import shlex
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kjcm import __version__
from kjcm.files import write_text
from kjcm.run_folder.failures import Failure
from kjcm.run_folder.states import Entry

SECONDS = 30.0  # that a hook may take
# from the first quotation mark to the last: an apostrophe before them must not shift the pairs
QUOTED = re.compile(r"['\"‘“].*['\"’”]", re.DOTALL)
FAILED = "failed"
HOOKS = (
    "on_failure",
    "on_end",
)  # keys that a run's record leaves out: an address may be a secret, and records are uploaded

log = logging.getLogger("kjcm")


def call(key: str, target: str | None, body: Mapping[str, Any]) -> None:
    """Give a JSON body to a hook: to a web address by POST, to a command on its standard input.

    What goes wrong is logged. An address is logged without its path, which may be a secret.

    Args:
        key: of the config, for the log.
        target: the address or the command; None: nothing is called.
        body: a text `text` among the values.
    """
    if not target:
        return
    is_address = target.startswith(("http://", "https://"))
    try:
        text = json.dumps(_plain(body), ensure_ascii=False).encode()
        wrong = _posted(target, text) if is_address else _run(target, text)
    except Exception as error:  # a failing hook never stops the sweep
        wrong = (
            f"timed out after {SECONDS:.0f} s" if isinstance(error, subprocess.TimeoutExpired) else type(error).__name__
        )
        if isinstance(error, urllib.error.HTTPError):
            wrong = f"status {error.code}"
    if wrong:
        log.warning("%s: %s: %s", key, _shown(target, is_address=is_address), wrong)


def _shown(target: str, *, is_address: bool) -> str:
    """Return an address's host, or a command's program: the rest may be a secret."""
    if is_address:
        return target.split("/")[2].rpartition("@")[2]
    return target.split(maxsplit=1)[0]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Makes a redirect an error: it would be followed without the body."""

    def redirect_request(self, *_: Any) -> None:
        """Follow nothing."""


def _posted(address: str, text: bytes) -> str:
    """Return what went wrong, or ''."""
    headers = {"Content-Type": "application/json; charset=utf-8", "User-Agent": f"kjcm/{__version__}"}
    request = urllib.request.Request(address, text, headers)
    with urllib.request.build_opener(_NoRedirect).open(request, timeout=SECONDS):
        return ""  # raises for every status that is no success


def _run(command: str, text: bytes) -> str:
    """Return what went wrong, or ''."""
    done = subprocess.run(shlex.split(command), input=text, capture_output=True, timeout=SECONDS, check=False)
    return f"exit code {done.returncode}" if done.returncode else ""


def job_record(number: int, entry: Entry) -> dict[str, Any]:
    """Return a job as a hook gets it; what the reason quotes is left out, because it may be of an answer."""
    return {
        "number": number, "name": entry.name, "overrides": dict(entry.given), "state": entry.state,
        "reason": QUOTED.sub("'...'", entry.reason),
        "metrics": dict(entry.metrics), "seconds": entry.seconds, "folder": os.fspath(entry.path),
    }  # fmt: skip


@dataclass(frozen=True)
class Failures:
    """The failed jobs of a multirun, counted in its folder, since they fail in several processes.

    Attributes:
        command: the kjcm command.
        sweep: the multirun's folder.
        stop_after: failed jobs after which no further job begins; None: all begin.
        on_failure: the hook.
    """

    command: str
    sweep: Path
    stop_after: int | None
    on_failure: str | None

    @property
    def stop(self) -> Path:
        """Return the file that tells jobs not yet begun that the multirun is to end; it contains FAILED, or '' after a signal."""
        return self.sweep / "stop"

    @property
    def _failed(self) -> Path:
        return self.sweep / "failed"

    def forget(self) -> None:
        """Remove what an earlier multirun left in the folder."""
        self.stop.unlink(missing_ok=True)
        shutil.rmtree(self._failed, ignore_errors=True)

    def add(self, number: int, entry: Entry, failure: Failure) -> None:
        """Count a job that failed, stop the multirun after too many, and call the hook."""
        with suppress(OSError):  # a full disk ends no multirun
            self._failed.mkdir(exist_ok=True)
            (self._failed / str(number)).touch()
            if self.stop_after and len(list(self._failed.iterdir())) >= self.stop_after and not self.stop.exists():
                write_text(self.stop, FAILED)
        job = job_record(number, replace(entry, state="failed", reason=failure.reason))
        call("sweep.on_failure", self.on_failure, failure_body(self.command, self.sweep, job))

    def stopped(self) -> bool:
        """Return whether no further job is to begin because too many failed."""
        return self.stop.is_file() and self.stop.read_text(encoding="utf-8") == FAILED


def failure_body(command: str, sweep: Path, job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body for a job that failed; job: see `job_record`."""
    words = " ".join(f"{key}={value}" for key, value in job["overrides"].items())
    text = f"kjcm {command}, sweep {sweep.name}: job {job['number']} failed ({words}): {job['reason']}"
    return {"event": "failure", "text": text, "command": command, "sweep": str(sweep), "job": dict(job)}


def end_body(
    command: str, sweep: Path, code: int, counts: Mapping[str, int], jobs: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the body for a multirun that ended.

    Args:
        command: the kjcm command.
        sweep: the multirun's folder.
        code: its exit code.
        counts: state -> number of jobs.
        jobs: see `job_record`.
    """
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    text = f"kjcm {command}, sweep {sweep.name} ended: {states}"
    own = {"event": "end", "text": text, "command": command, "sweep": str(sweep), "exit_code": code}
    return {**own, "states": dict(counts), "jobs": jobs}


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: numbers that are not finite are null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
