"""The lock of a study's journal: no killed process and no folder that was moved leaves it locked for ever."""

import logging
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from optuna.storages.journal._file import LOCK_FILE_SUFFIX, BaseJournalFileLock

GRACE = 30.0  # seconds without a change after which a lock counts as left by a dead process
NOTICE = 5.0  # seconds of waiting after which it is logged
WAIT = 0.01  # seconds between attempts

log = logging.getLogger("kjcm")


class Seen(NamedTuple):
    """What tells one lock from another, and a holder that writes from a dead one.

    Attributes:
        link: inode and time of the link.
        journal: time of the last write to the journal, in nanoseconds.
    """

    link: tuple[int, int]
    journal: int


class JournalLock(BaseJournalFileLock):
    """A symbolic link beside the journal, as Optuna's own `JournalFileSymlinkLock`, so that Optuna's programs keep to it.

    Only one process can make the link, on network file systems too. Optuna judges a lock's age by what its link points to,
    and tries again for ever, without a pause, where that is not there. This lock judges by the link itself. Its own link
    names the journal alone, without a folder, so Optuna finds the journal from any working folder, also after a move.

    Args:
        journal: the journal's file.
    """

    def __init__(self, journal: Path) -> None:
        self._journal, self._link = journal, journal.with_name(journal.name + LOCK_FILE_SUFFIX)
        self._mine: Seen | None = None

    def acquire(self) -> bool:
        """Wait for the lock and take it; a lock that does not change for GRACE seconds is removed."""
        seen, since, begin, said = self._seen(), time.monotonic(), time.monotonic(), False
        while not self._made():
            now, found = time.monotonic(), self._seen()
            if found != seen:
                seen, since = found, now
            elif now - since > GRACE:
                log.warning("%s: removed, since the process that made it is gone", self._link)
                self._remove()
            if now - begin > NOTICE and not said:
                log.info("%s: waiting until it is gone, or does not change for %g seconds", self._link, GRACE)
                said = True
            time.sleep(WAIT)
        self._mine = self._seen()
        return True

    def release(self) -> None:
        """Give the lock back, unless another process took it over because this one was stopped for long."""
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
        """Return what is there now, None without a lock."""
        with suppress(FileNotFoundError):
            link = self._link.lstat()
            return Seen((link.st_ino, link.st_mtime_ns), self._journal.stat().st_mtime_ns)
        return None

    def _remove(self) -> None:
        """Remove the lock; of several processes that rename it only one can."""
        mine = self._link.with_name(f"{self._link.name}.{os.getpid()}.rename")
        with suppress(FileNotFoundError):
            self._link.rename(mine)
            mine.unlink()
