"""Call trackers from a thread, so that no tracker's failure stops a run and no tracker delays a step."""

import logging
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any, Protocol

from lightning.pytorch.loggers.logger import Logger

from kjcm.errors import first_line

WAIT = 120.0  # seconds that a tracker may take to save or end
GRACE = 10.0  # more seconds to end: W&B itself waits for `wait` seconds

log = logging.getLogger("kjcm")


class TrackedRun(Protocol):
    """The interface of a tracker's run."""

    def log(self, metrics: Mapping[str, float], step: int) -> object:
        """Add a point to each metric's curve."""

    def save(self) -> object:
        """Store all points, so that they outlast this process."""

    def end(self, code: int) -> object:
        """End the run with an exit code: 0 finished, 1 failed, 128 plus a signal's number: interrupted."""


class LightningRun:
    """A run recorded by any Lightning logger.

    Args:
        logger: the logger.
        config: the run's config.
    """

    def __init__(self, logger: Logger, config: dict[str, Any]) -> None:
        self._logger = logger
        self._logger.log_hyperparams(config)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Add a point to each metric's curve."""
        self._logger.log_metrics(dict(metrics), step)

    def save(self) -> None:
        """Store all points, so that they outlast this process."""
        self._logger.save()

    def end(self, code: int) -> None:
        """End the run; an interrupted run is no failure, because it resumes later."""
        self._logger.finalize("failed" if code == 1 else "success")


class Tracker(Logger):
    """A Lightning logger that calls a tracker from one thread, in order. It logs only the first failure.

    Args:
        name: name of the tracker.
        begin: function that begins the tracker's run and returns it.
        wait: most seconds that `save` and `finish` each wait for the tracker.
    """

    def __init__(self, name: str, begin: Callable[[], TrackedRun], wait: float = WAIT) -> None:
        super().__init__()
        self._name, self._wait = name, wait
        self._run: Any = None
        self._calls: SimpleQueue[tuple[Callable[[Any], object], Event] | None] = SimpleQueue()
        self._warned = self._stuck = False
        Thread(target=self._work, args=(begin,), daemon=True).start()

    @property
    def name(self) -> str:
        """Name of the tracker."""
        return self._name

    @property
    def version(self) -> None:
        """None, because a run has only one version."""

    def queue(self, act: Callable[[Any], object]) -> Event:
        """Queue a call of `act` with the tracker's run; return an event that is set once the call ends or fails."""
        done = Event()
        self._calls.put((act, done))
        return done

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add a point to each metric's curve."""
        self.queue(lambda run: run.log(metrics, step or 0))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: `begin` has recorded the config."""

    def save(self) -> None:
        """Wait until the tracker has all points."""
        if not self._stuck and not self.queue(lambda run: run.save()).wait(self._wait):
            self._stuck = True
            self._warn(f"no answer within {self._wait:g} seconds")

    def finish(self, code: int) -> None:
        """End the tracker's run, even if an earlier call has failed or has not returned."""
        self.save()
        ended = Event()
        end = (lambda run: run.end(code), ended)
        if self._stuck:
            Thread(target=self._call, args=end, daemon=True).start()
        else:
            self._calls.put(end)
        self._calls.put(None)
        if not ended.wait(self._wait + GRACE):
            self._warn(f"the run did not end within {self._wait + GRACE:g} seconds")

    def _work(self, begin: Callable[[], TrackedRun]) -> None:
        try:
            self._run = begin()
        except Exception as error:
            self._warn(first_line(error))
        while (call := self._calls.get()) is not None:
            self._call(*call)

    def _call(self, act: Callable[[Any], object], done: Event) -> None:
        try:
            if self._run is not None:
                act(self._run)
        except Exception as error:
            self._warn(first_line(error))
        finally:
            done.set()

    def _warn(self, text: str) -> None:
        if not self._warned:
            log.warning("logger %s: %s. The run continues without it.", self._name, text)
        self._warned = True
