"""A run's checkpoints: written whole or not at all, named by step and digest, the newest whole one read."""

import logging
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from kjcm.config.commands import RunConfig, TrainConfig
from kjcm.errors import KjcmError, first_line
from kjcm.files import digest

KEPT = 2  # so that there is one before a damaged one
UNFINISHED = ".saving"
NAME = re.compile(r"step-(\d+)-([0-9a-f]{16})\.ckpt")

log = logging.getLogger("kjcm")


def tidy_up(run: Path, config: RunConfig) -> None:
    """Remove the checkpoints of a finished run, which a kill after DONE may have left, unless its config keeps them."""
    if isinstance(config, TrainConfig) and not config.trainer.keep_checkpoints:
        with suppress(OSError):  # on a disk that is read-only by now they stay; the run is finished all the same
            Checkpoints(run / "checkpoints").drop()


class Checkpoints:
    """The checkpoints in one folder; a file's name holds its optimiser step and the digest of its content.

    One process writes at a time: it has the run's lease.

    Args:
        folder: the folder.
        require_held: raises if this process may not write any more.

    Attributes:
        last: what was saved or read last.
    """

    def __init__(self, folder: Path, require_held: Callable[[], None] = lambda: None) -> None:
        self.folder, self._require_held = folder, require_held
        self.last: Path | None = None

    def save(self, step: int, state: Mapping[str, Any]) -> Path:
        """Write a checkpoint of plain containers and tensors; then remove what is older than the one before it.

        Files of a later step go too: the run went on from before them, so they were damaged.

        Raises:
            KjcmError: it cannot be written; those before it are as they were.
        """
        import torch

        self._require_held()

        temporary = self.folder / UNFINISHED  # one name: what a killed process left is written over
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as stream:
                torch.save(dict(state), stream)
                stream.flush()
                os.fsync(stream.fileno())
            file = self.folder / f"step-{step:08d}-{digest(temporary)[:16]}.ckpt"
            temporary.replace(file)
            _sync(self.folder)
        except (OSError, RuntimeError) as error:  # torch wraps what the system says
            temporary.unlink(missing_ok=True)
            raise KjcmError(
                f"{self.folder}: the checkpoint of step {step} cannot be written ({first_line(error)}). Make room on the "
                "disk, or see to its permissions; the same command then goes on from the checkpoint before."
            ) from None
        before = [other for number, other in self._files() if number < step]
        for other in {other for _, other in self._files()} - {file, *before[: KEPT - 1]}:
            other.unlink(missing_ok=True)
        self.last = file
        return file

    def newest(self) -> tuple[Path, dict[str, Any]] | None:
        """Return the newest checkpoint that is whole, and what it holds; None without one.

        A damaged one is said and passed over. A run without a whole one starts anew: it ends the same.
        """
        import torch

        files = self._files()
        for _, file in files:
            try:
                if digest(file)[:16] != NAME.fullmatch(file.name)[2]:  # type: ignore[index]
                    raise ValueError("its content does not have the digest in its name")
                state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
            except Exception as error:  # system, zip, pickle and runtime errors, as the damage has it
                log.warning("%s: truncated or damaged (%s); the one before is used", file, first_line(error))
                continue
            self.last = file
            return file, state
        if files:
            log.warning("%s: NO CHECKPOINT IS WHOLE: the run starts from the beginning", self.folder)
        return None

    def drop(self) -> None:
        """Remove them all, and what a kill left of one."""
        for file in (self.folder / UNFINISHED, *(file for _, file in self._files())):
            file.unlink(missing_ok=True)

    def _files(self) -> list[tuple[int, Path]]:
        """Return steps and files, the newest first."""
        found = ((NAME.fullmatch(file.name), file) for file in self.folder.glob("*.ckpt"))
        return sorted(((int(match[1]), file) for match, file in found if match), reverse=True)


def _sync(folder: Path) -> None:
    """Make a new name in a folder outlast a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
