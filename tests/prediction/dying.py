"""`kjcm predict engine=ray` with workers that die or wait, as a program: python -m tests.prediction.dying KIND ..."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from kjcm.prediction import cluster

CHUNK = 4  # the chunk that a worker does not code


class Dies(cluster._Worker):
    """A worker; the first one that gets the chunk is killed."""

    def __call__(self, chunk: Any) -> Any:
        killed = Path(os.environ["KILLED"])
        if chunk[cluster.ID][0].as_py() == CHUNK and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(chunk)


class DiesAlways(cluster._Worker):
    """A worker; every one that gets the chunk is killed."""

    def __call__(self, chunk: Any) -> Any:
        if chunk[cluster.ID][0].as_py() == CHUNK:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(chunk)


class Waits(cluster._Worker):
    """A worker that codes only the chunks before CHUNK."""

    def __call__(self, chunk: Any) -> Any:
        while chunk[cluster.ID][0].as_py() >= CHUNK:
            time.sleep(1)
        return super().__call__(chunk)


if __name__ == "__main__":
    from kjcm.cli import main
    from tests.prediction import dying  # the workers import the classes by this name

    cluster.RETRIES = 1  # each takes seconds
    cluster._Worker = getattr(dying, sys.argv[1])  # type: ignore[misc]
    main(sys.argv[2:])
