"""Track a study's running processes: each process holds the lease of its own folder while it runs."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kjcm.run_folder.lease import Busy, leased, seems_held


def is_gone(folder: Path, patient: bool) -> bool:
    """Return whether the process of a folder has ended; False without the folder, which may be on another machine.

    Args:
        folder: folder of the process.
        patient: wait for a heartbeat from a process on another machine; if False, count such a process as alive.
    """
    if not folder.is_dir():
        return False
    if not seems_held(folder):
        return True
    if not patient:
        return False
    try:
        with leased(folder):
            return True
    except Busy:
        return False


@contextmanager
def worker(folder: Path) -> Iterator[str]:
    """Hold the lease of a new folder in `folder`; yield its name, and remove the folder unless an error occurs."""
    name = uuid.uuid4().hex[:12]
    (folder / name).mkdir(parents=True)
    with leased(folder / name):
        yield name
    shutil.rmtree(folder / name)  # all of its trials have ended
