"""Find what W&B stores in run folders: RUN/wandb/[offline-]run-TIME-ID/run-ID.wandb."""

import re
from pathlib import Path

NAME = re.compile(r"(?:offline-)?run-(\d{8}_\d{6})-(.+)")


def run_id(path: Path) -> str | None:
    """Return the W&B id of a run folder's latest W&B run, None if the run was not logged with W&B."""
    found = [match.groups() for folder in path.glob("wandb/*run-*") if (match := NAME.fullmatch(folder.name))]
    return max(found)[1] if found else None


def offline_files(folder: Path) -> list[Path]:
    """Return the file of each offline W&B run in a folder and below: by run folder, the oldest first."""
    found = folder.resolve().rglob("wandb/offline-run-*/*.wandb")
    return sorted(file for file in found if NAME.fullmatch(file.parent.name))


def run_folder(file: Path) -> Path:
    """Return the run folder that contains the file of a W&B run."""
    return file.parents[2]


def synced(file: Path) -> Path:
    """Return the mark that `wandb sync` leaves once it has read the file of a W&B run, even if requests failed."""
    return file.with_name(f"{file.name}.synced")


def sending(file: Path) -> Path:
    """Return the mark of a W&B run that `kjcm wandb sync` is sending, or was sending when it was killed."""
    return file.with_name(f"{file.name}.sending")


def is_sent(file: Path) -> bool:
    """Return whether a W&B run was sent whole."""
    return synced(file).exists() and not sending(file).exists()
