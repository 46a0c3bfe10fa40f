"""Record a run in Weights & Biases; if the run cannot begin online, record it offline."""

import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import wandb
from wandb.sdk.wandb_run import Run

from kjcm.errors import KjcmError, first_line
from kjcm.shell import quote

CONNECT = 20  # seconds that the server may take to answer
STEP_METRICS = ("train_loss_step", "lr", "rows_per_second", "tokens_per_second", "gpu_memory_gib")
EPOCH_METRICS = ("train_loss", "val_*")

log = logging.getLogger("kjcm")


class WandbRun:
    """A W&B run. Its curves are over optimiser steps or epochs.

    Args:
        begin: arguments of `wandb.init`.
        mode: online, offline or disabled.
        wait: most seconds that the end of the run waits for the upload.

    Attributes:
        run: W&B's own object.
    """

    def __init__(self, begin: Mapping[str, Any], mode: str, wait: float) -> None:
        try:
            self.run = _begin({**begin, "mode": mode}, wait)
        except Exception as error:
            _forget()
            if mode != "online":
                raise
            log.warning("W&B, online: %s; the run is logged offline", first_line(error))
            self.run = _begin({**begin, "mode": "offline"}, wait)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Add a point to each metric's curve."""
        self.run.log({**metrics, "step": step})

    def save(self) -> None:
        """Do nothing: W&B's own process stores the points."""

    def end(self, code: int) -> None:
        """End the run; any exit code but 0 marks it as failed."""
        try:
            self.run.finish(exit_code=code)
        except Exception as error:
            _forget()
            raise KjcmError(f"{first_line(error)}; the logged points are in {self.run.settings.sync_dir}") from None
        if self.run._finish_timed_out:
            log.warning(
                "W&B: the upload is incomplete. Finish it later: wandb sync %s",
                quote(str(self.run.settings.sync_dir)),
            )


def _forget() -> None:
    """End W&B's own process, which would keep the id of a failed run; ignore a process that has already ended."""
    with suppress(Exception):
        wandb.teardown()


def _begin(begin: Mapping[str, Any], wait: float) -> Run:
    """Begin a run, and log its address or folder."""
    settings = wandb.Settings(
        silent=True,
        console="off",  # a printed error may quote the beginning of an answer
        disable_git=True,
        disable_code=True,
        init_timeout=CONNECT,
        finish_timeout=wait,
        reinit="create_new",  # the next job must not log into a run that failed to end
    )
    run = wandb.init(**begin, resume="allow", settings=settings)
    if begin["mode"] == "online":
        log.info("W&B: %s", run.url)
    elif begin["mode"] == "offline":
        log.info("W&B, offline. Upload later: wandb sync %s", quote(str(run.settings.sync_dir)))
    for axis, metrics in (("step", STEP_METRICS), ("epoch", EPOCH_METRICS)):
        run.define_metric(axis, hidden=True)
        for name in metrics:
            run.define_metric(name, step_metric=axis)
    return run
