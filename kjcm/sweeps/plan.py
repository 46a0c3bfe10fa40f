"""The jobs of a multirun as who launches them sees them: listed, and asked what has become of them."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path

from kjcm.errors import counted
from kjcm.keys.commands.train import RunConfig
from kjcm.run_folder.failures import FAILURE, Failure
from kjcm.run_folder.folder import RunFolder
from kjcm.run_folder.lease import holder_of
from kjcm.run_folder.states import Entry, entry_of, given_by, state_of

log = logging.getLogger("kjcm")


@dataclass
class Job:
    """One job of a sweep.

    Attributes:
        number: in the sweep, counted from 1.
        words: its overrides.
        config: of its run; None where it makes none.
        folder: of its run; None where it has none.
        state: before the launch, as `kjcm.run_folder.states` names it; or 'invalid', or 'repeated'.
        reason: for the state.
        apart: those of its overrides that tell it from the others.
        starts: whether it is to be launched.
        failure: why it failed, where its folder could not be told.
        mark: of how its run ended before the launch.
        unread: those of its overrides whose keys it does not read -> why.
    """

    number: int
    words: tuple[str, ...]
    config: RunConfig | None
    folder: RunFolder | None
    state: str
    reason: str
    apart: str = ""
    starts: bool = False
    failure: Failure | None = None
    mark: tuple[int, ...] = field(default=())
    unread: Mapping[str, str] = field(default_factory=dict)

    @property
    def entry(self) -> Entry:
        """What has become of it."""
        if self.folder is None or self.config is None:
            return Entry(Path(), "failed", self.reason, given=given_by(self.words))
        found = entry_of(self.folder.path, asdict(self.config), self.words)
        if self.failure and found.state in ("new", "resumable"):
            return replace(found, state="failed", reason=self.failure.reason)
        return found

    def marked(self) -> tuple[int, ...]:
        """Return what changes when its run ends: the times of DONE and of the failure."""
        assert self.folder is not None
        files = (self.folder.path / "DONE", self.folder.path / FAILURE)
        return tuple(file.stat().st_mtime_ns if file.is_file() else 0 for file in files)

    @property
    def ended(self) -> bool:
        """Whether its run has ended since the launch."""
        return self.failure is not None or (self.marked() != self.mark and any(self.marked()))

    @property
    def orphaned(self) -> bool:
        """Whether its run has not ended, and the process of this machine that had it is gone without giving it back."""
        if self.ended or self.folder is None or state_of(self.folder.path)[0] not in ("new", "resumable"):
            return False
        holder = holder_of(self.folder.path)
        return holder is not None and not holder.released


def tell_apart(jobs: Sequence[Job]) -> None:
    """Note of each job which of its overrides tell it from the others."""
    given = [given_by(job.words) for job in jobs]
    telling = [key for key in dict.fromkeys(chain(*given)) if len({own.get(key) for own in given}) > 1]
    for job, own in zip(jobs, given, strict=True):
        job.apart = " ".join(f"{key}={own[key]}" for key in telling if key in own)


def say(jobs: Sequence[Job]) -> None:
    """Say what is to become of each job."""
    again = "sweep.retry=failed tries again"
    words = {
        "finished": ("finished, skipped", "finished, retrained"),
        "failed": (f"failed, skipped ({again})", "failed, tried again"),
        "pruned": (f"pruned, skipped ({again})", "pruned, tried again"),
        "invalid": ("cannot run", ""),
    }
    counts: Counter[str] = Counter()
    for job in jobs:
        what = words.get(job.state, (job.state, job.state))[job.starts]
        counts[what] += 1
        parts = [*filter(None, [job.apart]), *([str(job.folder.path)] if job.folder else [])]
        log.info("%4d  %s: %s%s", job.number, what, "  ".join(parts), f" ({job.reason})" if job.reason else "")
    log.info("%s: %s", counted(len(jobs), "job"), ", ".join(f"{count} {what}" for what, count in counts.items()))
