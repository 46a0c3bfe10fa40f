"""A run of Weights & Biases; one that cannot begin online is kept on disk."""

import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import wandb
from wandb.sdk.wandb_run import Run

from kjcm.errors import KjcmError, first_line
from kjcm.shell import quote

CONNECT = 20  # seconds within which the server must have answered
OF_A_STEP = ("train_loss_step", "lr", "rows_per_second", "tokens_per_second", "gpu_memory_gib")
OF_AN_EPOCH = ("train_loss", "val_*")

log = logging.getLogger("kjcm")


class WandbRun:
    """A run whose curves are over optimiser steps or epochs; the summary has its other values.

    Args:
        begin: arguments of `wandb.init`.
        mode: online, offline or disabled.
        wait: most seconds that the end of the run waits until everything has been sent.

    Attributes:
        run: W&B's own object.
    """

    def __init__(self, begin: Mapping[str, Any], mode: str, wait: float) -> None:
        try:
            self.run = _begun({**begin, "mode": mode}, wait)
        except Exception as error:
            _forget()
            if mode != "online":
                raise
            log.warning("W&B, online: %s; the run is logged offline", first_line(error))
            self.run = _begun({**begin, "mode": "offline"}, wait)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Add a point to each metric's curve."""
        self.run.log({**metrics, "step": step})

    def save(self) -> None:
        """Do nothing: W&B's own process has the points."""

    def end(self, code: int) -> None:
        """End the run; any exit code but 0 marks it as failed."""
        try:
            self.run.finish(exit_code=code)
        except Exception as error:
            _forget()
            raise KjcmError(f"{first_line(error)}; what was logged is in {self.run.settings.sync_dir}") from None
        if self.run._finish_timed_out:
            log.warning(
                "W&B: not everything could be sent in time; later: wandb sync %s",
                quote(str(self.run.settings.sync_dir)),
            )


def _forget() -> None:
    """End W&B's own process, which keeps the id of a run that could not begin or end; it may be gone already."""
    with suppress(Exception):
        wandb.teardown()


def _begun(begin: Mapping[str, Any], wait: float) -> Run:
    """Begin a run, and log where it is."""
    settings = wandb.Settings(
        silent=True,
        console="off",  # what is printed stays here: an error message may show the beginning of an answer
        disable_git=True,
        disable_code=True,
        init_timeout=CONNECT,
        finish_timeout=wait,
        reinit="create_new",  # a run that could not be ended must not take what the next job logs
    )
    run = wandb.init(**begin, resume="allow", settings=settings)
    if begin["mode"] == "online":
        log.info("W&B: %s", run.url)
    elif begin["mode"] == "offline":
        log.info("W&B, offline; later: wandb sync %s", quote(str(run.settings.sync_dir)))
    for axis, metrics in (("step", OF_A_STEP), ("epoch", OF_AN_EPOCH)):
        run.define_metric(axis, hidden=True)
        for name in metrics:
            run.define_metric(name, step_metric=axis)
    return run
