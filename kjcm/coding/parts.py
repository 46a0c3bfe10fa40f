"""The hidden folder next to an output, which stores coded chunks until the output is written.

A lease gives the folder to one process at a time. If a process loses the folder, it notices before it writes the next
chunk, and before it moves the output to its final path.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from kjcm.coding.decisions import Coded
from kjcm.errors import ConfigError, DiskError, KjcmError
from kjcm.files import atomic, digest, write_json
from kjcm.records import read_json
from kjcm.run_folder.lease import Lease, leased


@dataclass(frozen=True)
class Parts:
    """The folder of a coding.

    Attributes:
        target: the output.
        lease: this process's lease; None before it has one.
    """

    target: Path
    lease: Lease | None = None

    @property
    def folder(self) -> Path:
        """Return the path of the folder."""
        return self.target.with_name(f".{self.target.name}.parts")

    @property
    def note(self) -> Path:
        """Return the path of the output's note, next to the output."""
        return self.target.with_name(f"{self.target.name}.json")

    @property
    def made_by(self) -> Path:
        """Return the path of the record of everything that the coded rows depend on."""
        return self.folder / "what.json"

    @property
    def whole(self) -> Path:
        """Return the path of the output before it is moved to its final path."""
        return self.folder / f"output{self.target.suffix}"

    @property
    def about(self) -> Path:
        """Return the path of the note before it is moved to its final path."""
        return self.folder / "note.json"

    def require_held(self) -> None:
        """Raise KjcmError if the folder was removed, or another process took it over."""
        if not self.made_by.is_file():
            raise KjcmError(
                f"{self.folder}: was removed while its file was being coded, and {self.target.name} is not written. Run the "
                "same command again, and keep clean-up programs away from the folder."
            )
        if self.lease:
            self.lease.require_held()

    def is_held(self) -> bool:
        """Return whether the folder exists and belongs to this process."""
        with suppress(KjcmError):
            self.require_held()
            return True
        return False

    def is_complete(self) -> bool:
        """Return whether the output is written, in this folder or at its final path."""
        return self.about.is_file() and (self._is_output(self.whole) or self._is_output(self.target))

    def is_placed(self) -> bool:
        """Return whether the output, but not its note, is at its final path."""
        return self.about.is_file() and self._is_output(self.target)

    def _is_output(self, file: Path) -> bool:
        with suppress(KjcmError, KeyError, TypeError):
            return file.is_file() and bool(digest(file) == read_json(self.about)["output_sha256"])
        return False

    def read(self, number: int, rows: int) -> Coded | None:
        """Return a chunk's coded rows, None if they are missing or damaged."""
        file = self._part(number)
        if file.is_file():
            with suppress(Exception), np.load(file, allow_pickle=False) as stored:
                found = Coded(**{field.name: stored[field.name] for field in fields(Coded)})
                return found if all(len(value) == rows for value in vars(found).values()) else None
        return None

    def write(self, number: int, coded: Coded) -> None:
        """Store a chunk's coded rows.

        Raises:
            KjcmError: the folder is not this process's any more.
        """
        self.require_held()
        with atomic(self._part(number)) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **vars(coded))

    def _part(self, number: int) -> Path:
        return self.folder / f"{number:08}.npz"

    @contextmanager
    def output(self) -> Iterator[Path]:
        """Yield a path for the output; it becomes `whole` if the folder still belongs to this process."""
        with atomic(self.whole) as temporary:
            yield temporary
            self.require_held()

    def finish(self, record: Mapping[str, Any]) -> None:
        """Write the note of a finished output."""
        self.require_held()
        write_json(self.about, {**record, "output_sha256": digest(self.whole)})

    def place(self) -> dict[str, Any]:
        """Move the output and its note to their final paths, and return the note.

        Raises:
            KjcmError: the folder is not this process's any more.
        """
        self.require_held()
        record: dict[str, Any] = read_json(self.about)
        if self.whole.is_file():
            self.whole.replace(self.target)
        elif not self._is_output(self.target):
            raise KjcmError(f"{self.whole}: was removed. Run the same command again.")
        self.about.replace(self.note)
        return record


@contextmanager
def parts_of(target: Path, what: Mapping[str, Any], overwrite: bool) -> Iterator[Parts]:
    """Yield the folder of the chunks coded so far, for this process only.

    The folder is removed when the output is complete, or after an error that needs another input or other keys. Otherwise
    the same command resumes.

    Raises:
        ConfigError: the output is a folder.
        KjcmError: the output exists, or an unfinished coding has another input or config, or another process is running.
    """
    parts = Parts(target)
    mine = _require_free(parts, what, overwrite)
    try:
        parts.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DiskError(f"{target.parent}: cannot be written ({error.strerror}).") from None
    with leased(parts.folder) as lease:
        if not mine:
            for pattern in ("*.npz", "output.*", "note.json"):
                for file in parts.folder.glob(pattern):
                    file.unlink(missing_ok=True)
            write_json(parts.made_by, what)
        for file in parts.folder.glob(".*.*.*"):  # unfinished files of killed processes
            file.unlink(missing_ok=True)
        held = Parts(target, lease)
        try:
            yield held
        except BaseException as error:
            hopeless = isinstance(error, KjcmError) and not isinstance(error, DiskError)
            kept = parts.about.is_file() or any(parts.folder.glob("[0-9]*.npz"))
            if held.is_held() and (hopeless or not kept):
                shutil.rmtree(parts.folder)
            raise
    shutil.rmtree(parts.folder)


def _require_free(parts: Parts, what: Mapping[str, Any], overwrite: bool) -> bool:
    """Return whether the chunks coded so far have the same input and keys; see `parts_of`."""
    for path in (parts.target, parts.note):
        if path.is_dir():
            raise ConfigError(f"output={parts.target}: {path} is a folder. Name a file.")
    mine = False
    with suppress(KjcmError):  # none, or a damaged one
        mine = read_json(parts.made_by) == what
    there = [path for path in (parts.target, parts.note) if path.exists()]
    if there and not (overwrite or (mine and parts.is_placed())):
        raise KjcmError(f"{there[0]} exists. Choose another output, or add overwrite=true.")
    if parts.made_by.is_file() and not (overwrite or mine):
        raise KjcmError(
            f"{parts.folder} contains an unfinished coding of another input or with other keys. Resume that coding, choose "
            "another output, or add overwrite=true to drop it."
        )
    return mine
