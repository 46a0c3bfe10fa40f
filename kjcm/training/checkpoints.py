"""A run's checkpoints: write them atomically, name them by step and digest, and read the newest intact one."""

import logging
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from kjcm.errors import KjcmError, first_line
from kjcm.files import digest
from kjcm.keys.commands.train import RunConfig, TrainConfig

KEPT = 2  # checkpoints, in case the newest gets damaged
UNFINISHED = ".saving"
NAME = re.compile(r"step-(\d+)-([0-9a-f]{16})\.ckpt")

log = logging.getLogger("kjcm")


def tidy_up(run: Path, config: RunConfig) -> None:
    """Remove a finished run's checkpoints unless its config keeps them; a kill after DONE may have left them."""
    if isinstance(config, TrainConfig) and not config.trainer.keep_checkpoints:
        with suppress(OSError):  # on a read-only disk they stay
            Checkpoints(run / "checkpoints").drop()


class Checkpoints:
    """The checkpoints in one folder; a file's name contains its optimiser step and its content's digest.

    Only the process with the run's lease writes.

    Args:
        folder: folder of the checkpoints.
        require_held: raises an error if this process has lost the run's lease.

    Attributes:
        last: the file that was saved or read last.
    """

    def __init__(self, folder: Path, require_held: Callable[[], None] = lambda: None) -> None:
        self.folder, self._require_held = folder, require_held
        self.last: Path | None = None

    def save(self, step: int, state: Mapping[str, Any]) -> Path:
        """Write a checkpoint of plain containers and tensors; then keep only this file and the one before.

        Files of later steps are removed too: the run resumed from an earlier step, so those files were damaged.

        Raises:
            KjcmError: the file cannot be written; the earlier checkpoints are unchanged.
        """
        import torch

        self._require_held()
        temporary = self.folder / UNFINISHED  # overwrites what a killed process left
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as stream:
                torch.save(dict(state), stream)
                stream.flush()
                os.fsync(stream.fileno())
            file = self.folder / f"step-{step:08d}-{digest(temporary)[:16]}.ckpt"
            temporary.replace(file)
            _sync(self.folder)
        except (OSError, RuntimeError) as error:  # torch wraps an OSError
            temporary.unlink(missing_ok=True)
            raise KjcmError(
                f"{self.folder}: the checkpoint of step {step} cannot be written ({first_line(error)}). Make room on the "
                "disk, or correct its permissions. Then run the same command: it resumes from the previous checkpoint."
            ) from None
        before = [other for number, other in self._files() if number < step]
        for other in {other for _, other in self._files()} - {file, *before[: KEPT - 1]}:
            other.unlink(missing_ok=True)
        self.last = file
        return file

    def newest(self) -> tuple[Path, dict[str, Any]] | None:
        """Return the newest intact checkpoint and its state; None if no checkpoint is intact.

        A damaged checkpoint is logged and skipped. Without an intact one the run starts again, with the same result.
        """
        import torch

        files = self._files()
        for _, file in files:
            try:
                if digest(file)[:16] != NAME.fullmatch(file.name)[2]:  # type: ignore[index]
                    raise ValueError("its content does not have the digest in its name")
                state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
            except Exception as error:  # a system, zip, pickle or runtime error
                log.warning("%s: truncated or damaged (%s); the previous one is used", file, first_line(error))
                continue
            self.last = file
            return file, state
        if files:
            log.warning("%s: NO CHECKPOINT IS INTACT: the run starts from the beginning", self.folder)
        return None

    def drop(self) -> None:
        """Remove all checkpoints, including an unfinished one."""
        for file in (self.folder / UNFINISHED, *(file for _, file in self._files())):
            file.unlink(missing_ok=True)

    def _files(self) -> list[tuple[int, Path]]:
        """Return the checkpoints' steps and files, newest first."""
        found = ((NAME.fullmatch(file.name), file) for file in self.folder.glob("*.ckpt"))
        return sorted(((int(match[1]), file) for match, file in found if match), reverse=True)


def _sync(folder: Path) -> None:
    """Write a folder's file names to the disk, so that a new name survives a power failure."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
