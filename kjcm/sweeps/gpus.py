"""One GPU a process: the jobs that a launcher runs at once share a machine's GPUs, by locks that end with the process."""

import fcntl
import logging
import os
import tempfile
from itertools import count
from pathlib import Path
from typing import IO

from kjcm.errors import KjcmError

log = logging.getLogger("kjcm")

_mine: dict[str, IO[str]] = {}  # the GPUs of this process, each with its open lock


def take_gpus(wanted: int) -> None:
    """Let this process, and those that it starts, see `wanted` of the GPUs: those that the fewest others have taken.

    They stay its own for as long as it lives, for a process that has begun with CUDA cannot change its GPUs; the system
    gives them back however it ends. Where there are fewer GPUs than processes, several share one. Without GPUs nothing
    happens.

    Raises:
        KjcmError: there are fewer GPUs than wanted, or the process has another number of them already.
    """
    if _mine:
        if len(_mine) != wanted:
            raise KjcmError(
                f"trainer.devices={wanted}: this launcher's process has {len(_mine)} for the whole sweep. Launch jobs of "
                "other numbers of devices in a sweep of their own, or set sweep.gpus=all."
            )
        return
    gpus = visible_gpus()
    if not gpus:
        return
    if len(gpus) < wanted:
        raise KjcmError(f"trainer.devices={wanted}: there are {len(gpus)} GPUs here ({', '.join(gpus)}).")
    place = Path(tempfile.gettempdir()) / f"kjcm-gpus-{os.getuid()}"
    place.mkdir(mode=0o700, exist_ok=True)
    for turn in count():
        for gpu in gpus:
            if len(_mine) < wanted and gpu not in _mine and (lock := _locked(place / f"{gpu}.{turn}")):
                _mine[gpu] = lock
        if len(_mine) == wanted:
            break
    mine = [gpu for gpu in gpus if gpu in _mine]
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
    log.info("process %d computes on GPU %s", os.getpid(), ", ".join(mine))


def _locked(file: Path) -> IO[str] | None:
    stream = file.open("a")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.close()
        return None
    return stream


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [gpu.strip() for gpu in given.split(",") if gpu.strip() not in ("", "-1")]
    import torch

    return [str(gpu) for gpu in range(torch.cuda.device_count())]  # asks the driver, and begins nothing on a GPU
