"""A run's folder: named by what defines the run, claimed, filled, and marked DONE last."""

import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from kjcm.errors import KjcmError
from kjcm.files import write_json, write_text
from kjcm.schema import WHERE_AND_HOW
from kjcm.study.inputs import input_digests

# Changes when the same config and inputs would give other results than before.
RESULTS_VERSION = 4
LOCK = ".lock"  # held while a process works on the run; the system frees it when the process ends, however it ends

State = Literal["new", "unfinished", "done", "other"]


@dataclass(frozen=True)
class Identity:
    """What defines a run: its config without where-and-how keys, its inputs' digests, and the results version."""

    config: dict[str, Any]
    inputs: dict[str, str]

    @property
    def hash(self) -> str:
        """SHA-256 of all of it."""
        whole = {"config": self.config, "inputs": self.inputs, "results_version": RESULTS_VERSION}
        return hashlib.sha256(json.dumps(whole, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def identity_of(config: dict[str, Any]) -> Identity:
    """Return the identity of a resolved config; an input file counts by its content, not by its place."""
    inputs = input_digests(config)
    left: dict[str, Any] = json.loads(json.dumps(config))
    for key in (*WHERE_AND_HOW, *inputs):
        node, _, name = key.partition(".")
        if not name:
            left.pop(node, None)
        elif isinstance(left.get(node), dict):
            left[node].pop(name, None)
    return Identity(left, inputs)


@dataclass(frozen=True)
class RunFolder:
    """The interface between training and everything after it.

    Attributes:
        path: the folder.
        identity: what defines the run that it is for.
    """

    path: Path
    identity: Identity

    @property
    def state(self) -> State:
        """new (absent or empty), unfinished or done (of this identity), or other."""
        if not self.path.exists() or (self.path.is_dir() and not _names(self.path)):
            return "new"
        if read_identity(self.path) != self.identity.hash:
            return "other"
        return "done" if (self.path / "DONE").is_file() else "unfinished"

    def require_mine(self, overwrite: bool) -> State:
        """Return the state of the folder.

        Raises:
            KjcmError: it holds something else and `overwrite` is false, or it is no run folder at all.
        """
        state = self.state
        if state == "other" and not overwrite:
            raise KjcmError(
                f"{self.path} holds another run, one of other input files, or files of another kind. Choose another "
                "run_dir, or add overwrite=true to replace the run that is there."
            )
        if state == "other" and not (self.path / "identity.json").is_file():
            raise KjcmError(f"{self.path} is not a run folder, so overwrite=true does not clear it. Empty it yourself.")
        return state

    @contextmanager
    def claimed(self, overwrite: bool) -> Iterator[State]:
        """Make the folder this run's while the context lasts; give the state it was found in.

        A new run that ends with a KjcmError before its first checkpoint leaves nothing behind.

        Raises:
            KjcmError: see `require_mine`; or another process is at work in it, or it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / LOCK).open("w")
        except OSError as error:
            raise KjcmError(f"{self.path}: the run folder cannot be written ({error.strerror}).") from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise KjcmError(
                    f"{self.path}: another process is at work on this run. Wait for it, or stop it."
                ) from None
            state = self.require_mine(overwrite)
            if state != "new" and overwrite:
                self._clear()
                state = "new"
            write_json(
                self.path / "identity.json",
                {"hash": self.identity.hash, "results_version": RESULTS_VERSION, "inputs": self.identity.inputs},
            )
            try:
                yield state
            except KjcmError:
                if state == "new" and not any(self.path.glob("checkpoints/*.ckpt")):
                    self._clear()
                    (self.path / LOCK).unlink()
                    self.path.rmdir()
                raise

    def _clear(self) -> None:
        """Remove everything but the lock; DONE first, so that no half-removed run looks finished."""
        (self.path / "DONE").unlink(missing_ok=True)
        for name in _names(self.path):
            entry = self.path / name
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def finish(self) -> None:
        """Write DONE."""
        write_text(self.path / "DONE", datetime.now(UTC).isoformat(timespec="seconds") + "\n")


def _names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir() if entry.name != LOCK)


def default_path(runs: str, name: str, identity: Identity) -> Path:
    """Return runs/<name>/<first twelve of the hash>."""
    return Path(runs) / name / identity.hash[:12]


def read_identity(path: Path) -> str | None:
    """Return the hash that a folder's identity.json has, None without one."""
    try:
        return str(json.loads((path / "identity.json").read_text(encoding="utf-8"))["hash"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
