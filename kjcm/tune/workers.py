"""Who is at work on a study: each process holds the lease of a folder of its own for as long as it lives."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kjcm.runs.lease import Busy, leased, seems_held


def is_gone(folder: Path, patient: bool) -> bool:
    """Tell whether the process of a folder has ended; one whose folder is not here is another place's to judge.

    Args:
        folder: of the process.
        patient: wait for a sign of life where it is on another machine; without, it counts as alive.
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
    """Be a worker while the context lasts; give the name of its folder in `folder`, which stays where it fails."""
    name = uuid.uuid4().hex[:12]
    (folder / name).mkdir(parents=True)
    with leased(folder / name):
        yield name
    shutil.rmtree(folder / name)  # all its trials are over
