"""A run of Weights & Biases that no failure of theirs can stop or hold up."""

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import wandb
from lightning.pytorch.loggers.logger import Logger
from wandb.sdk.wandb_run import Run

from kjcm.errors import first_line
from kjcm.shell import quote

CONNECT = 20  # seconds within which the server must have answered
OF_A_STEP = ("train_loss_step", "lr", "rows_per_second", "tokens_per_second", "gpu_memory_gib")
OF_AN_EPOCH = ("train_loss", "val_*")

log = logging.getLogger("kjcm")


class Tracker(Logger):
    """A Lightning logger whose curves are over optimiser steps or epochs, and whose other values are the summary.

    The first call that fails is said. Points are no longer logged after one that fails; a table or an artifact that
    fails is left out. A run that cannot begin online is kept on disk.

    Args:
        begin: arguments of `wandb.init`; None for a process without a run.
        mode: online, offline or disabled.
        wait: most seconds that a call may take, and at the end until everything has been sent.
    """

    def __init__(self, begin: Mapping[str, Any] | None, mode: str = "offline", wait: float = 120) -> None:
        super().__init__()
        self._run: Run | None = None
        self._said = self._broken = False
        self._wait = wait
        for one in dict.fromkeys((mode, "offline")) if begin is not None else ():
            try:
                self._run = _begun({**(begin or {}), "mode": one}, wait)
                break
            except Exception as error:
                left = "the run goes on without it" if one == "offline" else "the run is logged offline"
                log.warning("W&B, %s: %s; %s", one, first_line(error), left)
                _forget()
        self.tell(_axes)

    @property
    def experiment(self) -> Run | None:
        """The W&B run, None where there is none."""
        return self._run

    @property
    def name(self) -> str:
        """What kind of logger it is."""
        return "wandb"

    @property
    def version(self) -> str | None:
        """The id of the run."""
        return self._run.id if self._run else None

    def tell(self, act: Callable[[Run], Any]) -> bool:
        """Do something with the run, where there is one that takes points; return whether nothing failed."""
        if self._run is None or self._broken:
            return False
        try:
            act(self._run)
        except Exception as error:
            self._say(f"{first_line(error)}; the run goes on without it")
            return False
        return True

    def tell_in_time(self, act: Callable[[Run], Any]) -> None:
        """As `tell`, but go on after `wait` seconds: some calls ask the server again and again while it does not answer."""
        thread = threading.Thread(target=self.tell, args=(act,), daemon=True)
        thread.start()
        thread.join(self._wait)
        if thread.is_alive():
            self._say(f"no answer in {self._wait:g} seconds; the run goes on without it")
            self._broken = True

    def _say(self, text: str) -> None:
        """Warn, the first time."""
        if not self._said:
            log.warning("W&B: %s", text)
        self._said = True

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add a point to each metric's curve; without a step, set values of the summary."""
        if step is None:
            self.tell(lambda run: run.summary.update(dict(metrics)))
        else:
            self._broken = not self.tell(lambda run: run.log({**metrics, "step": step}))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the run has had the whole config since it began."""

    def finish(self, exit_code: int) -> None:
        """End the run, also one with which something failed; any exit code but 0 marks it as failed."""
        if self._run is None:
            return
        run, self._run = self._run, None
        try:
            run.finish(exit_code=exit_code)
            if run._finish_timed_out:
                log.warning(
                    "W&B: not everything could be sent in time; later: wandb sync %s",
                    quote(str(run.settings.sync_dir)),
                )
        except Exception as error:
            self._say(f"{first_line(error)}; what it has is in {run.settings.sync_dir}")
            _forget()


def _forget() -> None:
    """End W&B's own process, which keeps the id of a run that could not begin or end; it may be gone already."""
    with suppress(Exception):
        wandb.teardown()


def _begun(begin: Mapping[str, Any], wait: float) -> Run:
    """Begin a run, and say where it is."""
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
    return run


def _axes(run: Run) -> None:
    """Say what each curve is over."""
    for axis, metrics in (("step", OF_A_STEP), ("epoch", OF_AN_EPOCH)):
        run.define_metric(axis, hidden=True)
        for name in metrics:
            run.define_metric(name, step_metric=axis)
