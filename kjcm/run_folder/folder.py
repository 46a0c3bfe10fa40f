"""A run's folder: named by what defines the run, claimed, filled, and marked DONE last."""

import hashlib
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

import yaml

from kjcm.errors import KjcmError
from kjcm.files import existing, write_json, write_text
from kjcm.keys.identity import BY_VIEWS, INPUTS, LEGACY, NOT_READ, OF_EMBEDDINGS, WHERE_AND_HOW
from kjcm.keys.overrides import config_folder
from kjcm.linear.views import lacks_kiwi
from kjcm.records import read_json, read_yaml
from kjcm.run_folder.failures import FAILURE, Failure, failure_of, read_failure, write_failure
from kjcm.run_folder.lease import LEASE, FinishedMeanwhile, Lease, leased
from kjcm.survey.inputs import input_digests

# Changes when the same config and inputs would give other results than before.
RESULTS_VERSION = 8

# Keys that make a run depend on `classification.index`: it learns from the index, or its held-out rows are matched with it.
# An ensemble always does: its members may learn from it.
BY_INDEX = ("augment.index", "data.validation", "data.inner_folds")

HALF_IDENTITY = ".identity.????????.json"  # of a process that was killed while it wrote identity.json

LAUNCH = "KJCM_LAUNCH"  # environment variable: the sweep to which a job belongs

Contents = Literal["new", "unfinished", "done", "other"]


@dataclass(frozen=True)
class Identity:
    """A run's identity: the config keys that change results, the digests of its input files, and the results version."""

    config: dict[str, Any]
    inputs: dict[str, str]

    @property
    def hash(self) -> str:
        """SHA-256 of config, inputs and results version."""
        whole = {"config": self.config, "inputs": self.inputs, "results_version": RESULTS_VERSION}
        return hashlib.sha256(json.dumps(whole, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def identity_of(config: Mapping[str, Any]) -> Identity:
    """Return the identity of a resolved config.

    An input file counts by its content, not by its path. Keys that a kind of model does not read do not count, nor does an
    index of job titles that no row is learnt from or matched with. Views of morphemes count as other ones where kiwipiepy
    is not installed.
    """
    inputs = input_digests(config)
    left: dict[str, Any] = json.loads(json.dumps(config))
    unread = NOT_READ.get(kind := _value(left, "model.kind"), ())
    left = {name: node for name, node in left.items() if name not in unread}
    if kind in BY_VIEWS and all(view["of"] != "encoder" for view in left["model"]["views"].values()):
        inputs.pop("model.pretrained", None)
        left["model"] = {name: value for name, value in left["model"].items() if name not in OF_EMBEDDINGS}
    if kind != "ensemble" and not any(_value(left, key) for key in BY_INDEX):
        inputs.pop("classification.index", None)
        left.get("classification", {}).pop("index", None)
    if kind == "ensemble":
        left["model"]["members"] = [_member_identity(member) for member in left["model"]["members"]]
    if kind in (*BY_VIEWS, "ensemble") and re.search(r"\bmorpheme\b", json.dumps(left["model"])) and lacks_kiwi():
        left["morphemes"] = "words"  # see `kjcm.linear.views.installed`
    neutral = [key for key, value in LEGACY.items() if _value(left, key) == value]
    for key in (*WHERE_AND_HOW, *inputs, *neutral):
        lead, _, name = key.rpartition(".")
        node = _value(left, lead) if lead else left
        if isinstance(node, dict):
            node.pop(name, None)
    return Identity(left, inputs)


def _member_identity(member: str) -> list[Any]:
    """Return what identifies a member of an ensemble: a run's hash, or overrides and the content of their experiment."""
    if run := run_of(member):
        return [read_identity(run)]
    file = config_folder() / "experiment" / f"{experiment_of(member)}.yaml"
    inputs = _inputs_of(member)
    return [member, read_yaml(file) if file.is_file() else None, *([inputs] if inputs else [])]


def _inputs_of(member: str) -> dict[str, str]:
    """Return key -> digest of the input files that a member's overrides name and that exist."""
    try:
        words = shlex.split(member)
    except ValueError:  # an open quote, which the training reports
        return {}
    nodes: dict[str, dict[str, str]] = {}
    for word in words:
        key, _, value = word.lstrip("+").partition("=")
        if key in INPUTS:
            node, name = key.split(".")
            nodes.setdefault(node, {})[name] = value
    return input_digests(nodes)


def run_of(member: str) -> Path | None:
    """Return the run folder that an ensemble's member names; None if it is none."""
    with suppress(OSError, RuntimeError):  # overrides make no path: they are too long, or begin with ~
        path = existing(member)
        return path if (path / "identity.json").is_file() else None
    return None


def experiment_of(member: str) -> str:
    """Return the experiment in an ensemble member's overrides, which may begin with the bare name; else ''."""
    words = member.split()
    named = [word for word in words if word.startswith("experiment=")]
    bare = words[0] if words and "=" not in words[0] and not words[0].startswith("~") else ""
    return named[-1].partition("=")[2] if named else bare


def _value(config: dict[str, Any], key: str) -> Any:
    value: Any = config
    for name in key.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


@dataclass
class RunFolder:
    """The interface between training and everything after it.

    Attributes:
        path: the folder.
        identity: identity of its run.
        lease: its lease while it is claimed.
    """

    path: Path
    identity: Identity
    lease: Lease | None = None

    @property
    def contents(self) -> Contents:
        """'new' (missing or empty), 'unfinished' or 'done' (a run of this identity), or 'other'."""
        if not self.path.exists() or (self.path.is_dir() and not _names(self.path)):
            return "new"
        if read_identity(self.path) != self.identity.hash:
            return "other"
        return "done" if (self.path / "DONE").is_file() else "unfinished"

    def require_mine(self, overwrite: bool) -> Contents:
        """Return the folder's `contents`.

        Raises:
            KjcmError: the contents are 'other', and `overwrite` is false or this is not a run folder.
        """
        contents = self.contents
        if contents == "other" and not overwrite:
            raise KjcmError(
                f"{self.path} holds another run, a run of other input files, or other files. Choose another run_dir, or add "
                "overwrite=true to replace that run."
            )
        if contents == "other" and not (self.path / "identity.json").is_file():
            raise KjcmError(f"{self.path} is not a run folder, so overwrite=true does not empty it. Empty it yourself.")
        return contents

    @contextmanager
    def claimed(self, overwrite: bool) -> Iterator[None]:
        """Hold the folder for this run during the context.

        An error that ends the context is recorded in the folder (`read_failure`) until the run starts again.

        Raises:
            KjcmError: see `require_mine`; or the folder cannot be written.
            Busy: another process is running in the folder.
            FinishedMeanwhile: another process has finished the run.
        """
        with ExitStack() as stack:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                self.lease = stack.enter_context(leased(self.path))
            except OSError as error:
                raise KjcmError(f"{self.path}: the run folder cannot be written ({error.strerror}).") from None
            for left in self.path.glob(HALF_IDENTITY):
                left.unlink()
            contents = self.require_mine(overwrite)
            if contents == "done" and not overwrite:
                raise FinishedMeanwhile(f"{self.path}: another process has just finished this run.")
            if contents != "new" and overwrite and not self._is_of_this_launch():
                self._clear()
            self._identify()
            (self.path / FAILURE).unlink(missing_ok=True)
            try:
                yield
            except Exception as error:
                with suppress(KjcmError, OSError):  # on a full disk only the error itself is raised
                    self.require_held()
                    write_failure(self.path, failure_of(error), error)
                raise

    def keep_failure(self, config: dict[str, Any], words: Sequence[str], failure: Failure) -> None:
        """Record a failure that the run's own process could not record: it was killed, or failed before its folder.

        Writes nothing if the run is finished, the failure is already recorded, the folder contains another run, a process
        is running in it, or it cannot be written.

        Args:
            config: the run's config.
            words: the overrides of its command.
            failure: why it failed.
        """
        if (self.path / "DONE").is_file() or read_failure(self.path) == failure:
            return
        with suppress(KjcmError, OSError), self.claimed(overwrite=False):
            if not (self.path / "config.yaml").is_file():
                for name, value in (("config.yaml", config), ("hydra/overrides.yaml", list(words))):
                    write_text(self.path / name, yaml.safe_dump(value, allow_unicode=True, sort_keys=False))
            write_failure(self.path, failure)

    def _identify(self) -> None:
        write_json(
            self.path / "identity.json",
            {
                "hash": self.identity.hash,
                "results_version": RESULTS_VERSION,
                "inputs": self.identity.inputs,
                "launch": this_launch(),
            },
        )

    def _is_of_this_launch(self) -> bool:
        """Return whether this launch itself started the unfinished run, so that overwrite=true must not remove it."""
        launch = this_launch()
        return launch is not None and self.contents == "unfinished" and _identity(self.path).get("launch") == launch

    def _clear(self) -> None:
        """Remove everything but the lease: DONE first, so that a partly removed run does not look finished."""
        (self.path / "DONE").unlink(missing_ok=True)
        for name in _names(self.path):
            entry = self.path / name
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def require_held(self) -> None:
        """Raise KjcmError if another process took over a claimed folder."""
        if self.lease:
            self.lease.require_held()

    def finish(self) -> None:
        """Write DONE.

        Raises:
            KjcmError: another process took over the folder.
        """
        self.require_held()
        write_text(self.path / "DONE", datetime.now(UTC).isoformat(timespec="seconds") + "\n")


def _names(path: Path) -> list[str]:
    names = (entry.name for entry in path.iterdir())
    return sorted(name for name in names if name != LEASE and not fnmatch(name, HALF_IDENTITY))


def default_path(runs: str, name: str, identity: Identity) -> Path:
    """Return runs/NAME/HASH, with the hash's first twelve characters."""
    return Path(runs) / name / identity.hash[:12]


def read_identity(path: Path) -> str | None:
    """Return the hash in a folder's identity.json, None without a readable file."""
    found: str | None = _identity(path).get("hash")
    return found


def _identity(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = read_json(path / "identity.json", {"hash": str})
    except KjcmError:
        return {}
    return found


def this_launch() -> str | None:
    """Return the id of the sweep or Slurm job, which may restart its runs; None for a single run."""
    return os.environ.get(LAUNCH) or os.environ.get("SLURM_JOB_ID")
