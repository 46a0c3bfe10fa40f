"""A Lightning logger for trackers: no failure of a tracker stops a run, and no tracker delays a step."""

import logging
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any, Protocol

from lightning.pytorch.loggers.logger import Logger

from kjcm.errors import first_line

WAIT = 120.0  # seconds
GRACE = 10.0  # seconds, for a tracker that itself waits as long as it may

log = logging.getLogger("kjcm")


class TrackedRun(Protocol):
    """A run as a tracker knows it."""

    def log(self, metrics: Mapping[str, float], step: int) -> object:
        """Add a point to each metric's curve."""

    def save(self) -> object:
        """Make all points outlast this process."""

    def end(self, code: int) -> object:
        """End the run with an exit code: 0 finished, 1 failed, 128 and a signal's number interrupted."""


class LightningRun:
    """A run of any Lightning logger.

    Args:
        logger: the logger.
        config: of the run.
    """

    def __init__(self, logger: Logger, config: dict[str, Any]) -> None:
        self._logger = logger
        self._logger.log_hyperparams(config)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Add a point to each metric's curve."""
        self._logger.log_metrics(dict(metrics), step)

    def save(self) -> None:
        """Make all points outlast this process."""
        self._logger.save()

    def end(self, code: int) -> None:
        """End the run; one that a signal interrupted resumes later."""
        self._logger.finalize("failed" if code == 1 else "success")


class Tracker(Logger):
    """Calls a tracker from one thread, in order. The first failure is logged; a call that fails is left out.

    Args:
        name: of the tracker.
        begin: begins its run.
        wait: most seconds that `save` waits for the tracker, and `finish`.
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
        """None: a run has one version."""

    def tell(self, act: Callable[[Any], object]) -> Event:
        """Queue a call with the tracker's run; the event is set when it has returned or failed, or there is no run."""
        done = Event()
        self._calls.put((act, done))
        return done

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add a point to each metric's curve."""
        self.tell(lambda run: run.log(metrics, step or 0))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: a run has its config from the beginning."""

    def save(self) -> None:
        """Wait until the tracker has all points."""
        if not self._stuck and not self.tell(lambda run: run.save()).wait(self._wait):
            self._stuck = True
            self._warn(f"no answer in {self._wait:g} seconds")

    def finish(self, code: int) -> None:
        """End the tracker's run, also where an earlier call has failed or has not returned."""
        self.save()
        ended = Event()
        end = (lambda run: run.end(code), ended)
        if self._stuck:
            Thread(target=self._call, args=end, daemon=True).start()
        else:
            self._calls.put(end)
        self._calls.put(None)
        if not ended.wait(self._wait + GRACE):
            self._warn(f"the run was not ended in {self._wait + GRACE:g} seconds")

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
