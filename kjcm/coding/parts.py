"""The hidden folder next to an output, which stores coded chunks until the output is written.

A lease gives the folder to one process at a time. If a process loses the folder, it notices before it writes the next
chunk, and before it moves the output to its final path.
"""

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from kjcm.coding.decisions import Coded
from kjcm.errors import ConfigError, DiskError, KjcmError, WorkerError, some
from kjcm.files import atomic, digest, sha256, write_json
from kjcm.records import read_json
from kjcm.run_folder.lease import Lease, leased


def to_npz(coded: Coded) -> bytes:
    """Return coded texts as bytes."""
    stream = BytesIO()
    np.savez(stream, **vars(coded))
    return stream.getvalue()


def from_npz(file: Path | BytesIO, texts: int) -> Coded | None:
    """Return coded texts, None if they are damaged or have another number."""
    with suppress(Exception), np.load(file, allow_pickle=False) as stored:
        found = Coded(**{field.name: stored[field.name] for field in fields(Coded)})
        return found if all(len(value) == texts for value in vars(found).values()) else None
    return None


@dataclass(frozen=True)
class Parts:
    """The folder of a coding.

    Attributes:
        target: the output.
        lease: this process's lease; None before it has one.
        lead: begins the names of the chunks' files.
    """

    target: Path
    lease: Lease | None = None
    lead: str = ""

    @property
    def folder(self) -> Path:
        """Return the path of the folder."""
        return self.target.with_name(f".{self.target.name}.parts")

    @property
    def second(self) -> "Parts":
        """Return the same folder as a store of the second run's chunks."""
        return replace(self, lead="second-")

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

    @property
    def ray(self) -> Path:
        """Return the path of the folder in which Ray stores the chunks of this input and these keys.

        Ray's workers have no lease. A cluster that outlives its command may add chunks, but only to its own folder.
        """
        return self.folder / f"ray-{digest(self.made_by)[:16]}"

    def require_unwritten(self) -> None:
        """Raise KjcmError if the output or its note is at its final path."""
        if there := [path for path in (self.target, self.note) if path.exists()]:
            raise KjcmError(f"{there[0]} exists. Choose another output, or add overwrite=true.")

    def is_of(self, what: Mapping[str, Any]) -> bool:
        """Return whether the folder's chunks depend on exactly this."""
        with suppress(KjcmError):  # no record, or a damaged one
            return bool(read_json(self.made_by) == what)
        return False

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder)

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
            return file.is_file() and bool(sha256(file) == read_json(self.about)["output_sha256"])
        return False

    def read(self, number: int, texts: int) -> Coded | None:
        """Return how a chunk's new texts were coded, None if this is missing or damaged."""
        file = self._part(number)
        return from_npz(file, texts) if file.is_file() else None

    def write(self, number: int, coded: Coded) -> None:
        """Store how a chunk's new texts were coded.

        Raises:
            KjcmError: the folder is not this process's any more.
        """
        self.require_held()
        with atomic(self._part(number)) as temporary, temporary.open("wb") as stream:
            stream.write(to_npz(coded))

    def _part(self, number: int) -> Path:
        return self.folder / f"{self.lead}{number:08}.npz"

    @contextmanager
    def output(self) -> Iterator[Path]:
        """Yield a path for the output; it becomes `whole` if the folder still belongs to this process."""
        with atomic(self.whole) as temporary:
            yield temporary
            self.require_held()

    def finish(self, record: Mapping[str, Any]) -> None:
        """Write the note of a finished output."""
        self.require_held()
        write_json(self.about, {**record, "output_sha256": sha256(self.whole)})

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


@dataclass(frozen=True)
class Shard:
    """A part of a file's chunks, which one of several processes codes.

    Attributes:
        number: from 1.
        count: number of the shards.
    """

    number: int
    count: int

    def has(self, chunk: int) -> bool:
        """Return whether the shard has the chunk of this number, from 0."""
        return chunk % self.count == self.number - 1

    def parts(self, target: Path) -> Parts:
        """Return the shard's folder, next to the output."""
        return Parts(target.with_name(f"{target.name}.shard-{self.number}-of-{self.count}"))


def shard_from(text: str) -> Shard:
    """Return the shard that a text as 3/16 names.

    Raises:
        ConfigError: there is no such shard.
    """
    found = re.fullmatch(r"([1-9]\d{0,5})/([1-9]\d{0,5})", text)
    if not found or int(found[1]) > int(found[2]):
        raise ConfigError(f"shard={text}: give the number of the part and how many there are, as 3/16.")
    return Shard(int(found[1]), int(found[2]))


@contextmanager
def shard_parts(target: Path, shard: Shard, what: Mapping[str, Any], overwrite: bool) -> Iterator[Parts]:
    """Yield a shard's folder, for this process only. It stays; after an interruption the same command resumes.

    Raises:
        KjcmError: the folder has a shard of another input or with other keys, or another process works on it.
    """
    parts = shard.parts(target)
    mine = parts.is_of(what)
    if not overwrite:
        Parts(target).require_unwritten()
    if parts.made_by.is_file() and not (mine or overwrite):
        raise KjcmError(
            f"{parts.folder} contains a shard of another input or with other keys. Choose another output, or add "
            "overwrite=true to drop it."
        )
    with _taken(parts, what, fresh=not mine) as held:
        yield held


@dataclass(frozen=True)
class Merged:
    """The coded chunks of all shards, as a store from which an output is written.

    Attributes:
        shards: their folders, in order.
    """

    shards: Sequence[Parts]

    @property
    def second(self) -> "Merged":
        """Return the same shards as a store of the second run's chunks."""
        return Merged([shard.second for shard in self.shards])

    def read(self, number: int, texts: int) -> Coded:
        """Return how a chunk's new texts were coded.

        Raises:
            DiskError: this is missing or damaged; the shard is not done any more.
        """
        place = number % len(self.shards)
        found = self.shards[place].read(number, texts)
        if found is None:
            self.shards[place].about.unlink(missing_ok=True)
            raise DiskError(
                f"{self.shards[place].folder}: chunk {number} is missing or damaged. Run shard={place + 1}/{len(self.shards)} "
                "again, which codes it."
            )
        return found

    def write(self, number: int, coded: Coded) -> None:
        """Nothing: every chunk is stored."""


def shards_of(target: Path, count: int) -> list[Parts]:
    """Return the folders of all shards of an output.

    Raises:
        KjcmError: a shard is not done, or was made with another input or other keys than the first.
    """
    shards = [Shard(number, count).parts(target) for number in range(1, count + 1)]
    if undone := [number for number, parts in enumerate(shards, 1) if not parts.about.is_file()]:
        raise KjcmError(
            f"merge={count}: shard {some(undone)} of {count} is not done ({shards[undone[0] - 1].folder} lacks note.json). Run "
            f"the same command with shard={undone[0]}/{count} instead of merge={count}."
        )
    first = read_json(shards[0].made_by)
    if other := [number for number, parts in enumerate(shards, 1) if not parts.is_of(first)]:
        raise KjcmError(
            f"merge={count}: shard {some(other)} has another input or other keys than shard 1. Run it again."
        )
    return shards


@contextmanager
def _taken(parts: Parts, what: Mapping[str, Any], *, fresh: bool) -> Iterator[Parts]:
    """Yield the folder with a lease on it; `fresh`: without what an earlier coding left.

    After an error that needs another input or other keys, or if nothing is coded, the folder is removed.
    """
    try:
        parts.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DiskError(f"{parts.target.parent}: cannot be written ({error.strerror}).") from None
    with leased(parts.folder) as lease:
        if fresh:
            for pattern in ("*.npz", "output.*", "note.json"):
                for file in parts.folder.glob(pattern):
                    file.unlink(missing_ok=True)
            for folder in parts.folder.glob("ray-*"):
                shutil.rmtree(folder, ignore_errors=True)
            write_json(parts.made_by, what)
        for file in parts.folder.glob(".*.*.*"):  # unfinished files of killed processes
            file.unlink(missing_ok=True)
        held = Parts(parts.target, lease)
        try:
            yield held
        except BaseException as error:
            hopeless = isinstance(error, KjcmError) and not isinstance(error, DiskError | WorkerError)
            stored = (*parts.folder.glob("*.npz"), *parts.folder.glob("ray-*/checkpoint/*.parquet"))
            kept = parts.about.is_file() or any(stored)
            if held.is_held() and (hopeless or not kept):
                shutil.rmtree(parts.folder)
            raise


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
    with _taken(parts, what, fresh=not mine) as held:
        yield held
    shutil.rmtree(parts.folder)


def _require_free(parts: Parts, what: Mapping[str, Any], overwrite: bool) -> bool:
    """Return whether the chunks coded so far have the same input and keys; see `parts_of`."""
    for path in (parts.target, parts.note):
        if path.is_dir():
            raise ConfigError(f"output={parts.target}: {path} is a folder. Name a file.")
    mine = parts.is_of(what)
    if not (overwrite or (mine and parts.is_placed())):
        parts.require_unwritten()
    if parts.made_by.is_file() and not (overwrite or mine):
        raise KjcmError(
            f"{parts.folder} contains an unfinished coding of another input or with other keys. Resume that coding, choose "
            "another output, or add overwrite=true to drop it."
        )
    return mine
