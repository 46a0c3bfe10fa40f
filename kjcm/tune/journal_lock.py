"""Lock a study's journal; no killed process and no moved folder leaves the journal locked forever."""

import logging
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from optuna.storages.journal._file import LOCK_FILE_SUFFIX, BaseJournalFileLock

GRACE = 30.0  # seconds without a change after which the holder is dead
NOTICE = 5.0  # seconds of waiting before the log says so
WAIT = 0.01  # seconds between attempts

log = logging.getLogger("kjcm")


class Seen(NamedTuple):
    """The state of a lock, which changes if the lock is new or its holder writes.

    Attributes:
        link: inode and time of the link.
        journal: time of the last write to the journal, in nanoseconds.
    """

    link: tuple[int, int]
    journal: int


class JournalLock(BaseJournalFileLock):
    """A symbolic link next to the journal, compatible with Optuna's `JournalFileSymlinkLock`.

    Only one process can create the link, also on network file systems. Optuna judges a lock's age by the link's
    target. If the target is missing, Optuna retries forever without a pause. This lock judges by the link itself. The
    link names the journal without a folder, so Optuna finds the journal from any working folder, also after a move.

    Args:
        journal: file of the journal.
    """

    def __init__(self, journal: Path) -> None:
        self._journal, self._link = journal, journal.with_name(journal.name + LOCK_FILE_SUFFIX)
        self._mine: Seen | None = None

    def acquire(self) -> bool:
        """Wait for the lock and take it; remove a lock that does not change for GRACE seconds."""
        seen, since, begin, said = self._seen(), time.monotonic(), time.monotonic(), False
        while not self._made():
            now, found = time.monotonic(), self._seen()
            if found != seen:
                seen, since = found, now
            elif now - since > GRACE:
                log.warning("%s: removed, because the process that created it is gone", self._link)
                self._remove()
            if now - begin > NOTICE and not said:
                log.info("%s: waiting until the lock is released, or unchanged for %g seconds", self._link, GRACE)
                said = True
            time.sleep(WAIT)
        self._mine = self._seen()
        return True

    def release(self) -> None:
        """Release the lock, unless another process took it over while this one was suspended."""
        found = self._seen()
        if found and self._mine and found.link == self._mine.link:
            self._remove()

    def _made(self) -> bool:
        try:
            self._link.symlink_to(self._journal.name)
        except FileExistsError:
            return False
        return True

    def _seen(self) -> Seen | None:
        """Return the lock's current state; None without a lock."""
        with suppress(FileNotFoundError):
            link = self._link.lstat()
            return Seen((link.st_ino, link.st_mtime_ns), self._journal.stat().st_mtime_ns)
        return None

    def _remove(self) -> None:
        """Remove the lock; only one of several processes can rename it."""
        mine = self._link.with_name(f"{self._link.name}.{os.getpid()}.rename")
        with suppress(FileNotFoundError):
            self._link.rename(mine)
            mine.unlink()
