"""`kjcm wandb sync`: send every offline W&B run of the run folders once."""

import json
import logging
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock, Timeout
from omegaconf import DictConfig

from kjcm.errors import SHOWN, KjcmError, counted
from kjcm.keys.checks import require_wandb_project
from kjcm.keys.commands.wandb_project import WandbSyncConfig
from kjcm.keys.composition import typed
from kjcm.run_folder.states import state_of
from kjcm.wandb_project.connection import connect
from kjcm.wandb_project.folders import is_sent, offline_files, run_folder, sending, synced

TOGETHER = 20  # runs of one `wandb sync`, which sends five at a time
REQUESTS = ("GRAPHQL", "FILE_STREAM", "FILE_TRANSFER")  # kinds of requests, as W&B's settings name them
HARMLESS = "featurechecker:"  # the server lacks an optional feature
BRIEF = 300  # most characters of a reason
QUERY = re.compile(r"\?\S+")  # of an address; it may have a signature

log = logging.getLogger("kjcm")


def sync(cfg: DictConfig) -> None:
    """Send the offline runs that are not sent yet, and log what was sent, skipped and not sent.

    Raises:
        ConfigError: W&B would refuse a name.
        KjcmError: there is no offline run; the API key is missing; the server refuses it; another process sends these runs;
            or a run was not sent whole.
    """
    config = typed(cfg, WandbSyncConfig)
    require_wandb_project("", config.project, config.entity)
    folder = Path(config.runs).expanduser()
    if not folder.is_dir():
        raise KjcmError(f"runs={config.runs}: no such folder (seen from {Path.cwd()}). Give the folder of the runs.")
    files = offline_files(folder)
    if not files:
        raise KjcmError(f"runs={config.runs}: no offline W&B run in it. logger.wandb.mode=offline makes some.")
    if config.dry_run:
        waiting, skipped = _waiting(files)
        for file in waiting:
            log.info("would send %s", file.parent)
        log.info("%d to send%s", len(waiting), skipped)
        return
    with _alone(folder):
        waiting, skipped = _waiting(files)
        failed: dict[Path, str] = {}
        if waiting:
            connect()
            failed = _send_all(waiting, config)
    log.info("%d sent, %d not sent%s", len(waiting) - len(failed), len(failed), skipped)
    if failed:
        reasons = "; ".join(f"{file.parent}: {why}" for file, why in [*failed.items()][:SHOWN])
        raise KjcmError(
            f"{counted(len(failed), 'offline run')} not sent whole: {reasons}. Repeat the command to send what is missing."
        )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Raise KjcmError if another process sends the runs of this folder."""
    try:
        with FileLock(folder / ".wandb-sync.lock", timeout=0):
            yield
    except Timeout:
        raise KjcmError(
            f"runs={folder}: another `kjcm wandb sync` is sending these runs. Wait until it ends."
        ) from None


def _waiting(files: Sequence[Path]) -> tuple[list[Path], str]:
    """Return the offline runs to send, and how many are skipped for which reason, as the end of a line."""
    waiting, skipped = [], Counter[str]()
    for file in files:
        if is_sent(file):
            skipped["sent before"] += 1
        elif state_of(run_folder(file))[0] == "running":
            skipped["still running"] += 1
        else:
            waiting.append(file)
    found = ", ".join(f"{count} {why}" for why, count in skipped.items())
    return waiting, f"; skipped: {found}" if found else ""


def _send_all(files: Sequence[Path], config: WandbSyncConfig) -> dict[Path, str]:
    """Send the offline runs, and return those that were not sent whole, with the reason.

    A training that was resumed has several offline runs. A later one waits until the earlier ones are sent whole.
    """
    failed: dict[Path, str] = {}
    waiting = list(files)
    while waiting:
        oldest: dict[Path, Path] = {}
        for file in waiting:
            oldest.setdefault(run_folder(file), file)
        batch = [*oldest.values()][:TOGETHER]
        found = _send(batch, config)
        failed |= found
        for file in batch:
            if file not in found:
                log.info("sent %s", file.parent)
        waiting = [file for file in waiting if file not in batch]
        stuck = set(map(run_folder, found))
        failed |= {file: "an earlier part of the run is not sent" for file in waiting if run_folder(file) in stuck}
        waiting = [file for file in waiting if file not in failed]
    return failed


def _send(files: Sequence[Path], config: WandbSyncConfig) -> dict[Path, str]:
    """Send offline runs with `wandb sync`, and return those that were not sent whole, with the reason.

    `wandb sync` exits with 0 and leaves its mark even if requests failed, so its log decides.
    """
    given = {"--entity": config.entity, "--project": config.project}
    options = [word for option, value in given.items() if value for word in (option, value)]
    for file in files:
        sending(file).touch()
        synced(file).unlink(missing_ok=True)
    with TemporaryDirectory() as folder:
        surroundings = {**os.environ, "WANDB_DIR": folder, "WANDB_MODE": "online"}
        # W&B reads 0 as its own limit, which is hours
        surroundings |= {f"WANDB_X_{kind}_RETRY_MAX": str(config.retries) for kind in REQUESTS}
        command = [sys.executable, "-m", "wandb", "sync", *options, *map(str, files)]
        done = subprocess.run(
            command, env=surroundings, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        errors = _logged_errors(Path(folder))
    failed = {}
    for file in files:
        if why := errors.get(str(file)) or _printed_error(done.stderr, file):
            failed[file] = why
            synced(file).unlink(missing_ok=True)  # else `wandb clean` would delete the run
        sending(file).unlink()
    return failed


def _logged_errors(folder: Path) -> dict[str, str]:
    """Return path of a W&B run's file -> first error in the log of `wandb sync`, which has a JSON record per line."""
    found: dict[str, str] = {}
    for file in sorted(folder.rglob("debug-sync*.log")):
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, KeyError):
                record = json.loads(line)
                if record["level"].startswith("ERROR") and not record["msg"].startswith(HARMLESS):
                    status = f" {record['status']}" if "status" in record else ""
                    found.setdefault(record["sync_path"], _brief(record["msg"]) + status)
    return found


def _printed_error(printed: str, file: Path) -> str:
    """Return what `wandb sync` printed of a W&B run that it did not mark; '' if it marked the run."""
    if synced(file).exists():
        return ""
    errors = [line.partition("ERROR")[2] for line in printed.splitlines() if "ERROR" in line]
    own = [line for line in errors if file.stem.removeprefix("run-") in line]
    return _brief((own or errors or printed.splitlines() or ["`wandb sync` printed nothing"])[-1])


def _brief(text: str) -> str:
    return QUERY.sub("", "; ".join(text.strip().splitlines()))[:BRIEF]
