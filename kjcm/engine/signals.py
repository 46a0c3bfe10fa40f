"""Handle SIGTERM, SIGHUP, SIGUSR1, SIGUSR2 and Ctrl-C: the run saves after a step and exits; Slurm can requeue it."""

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from kjcm.engine.device import global_rank
from kjcm.errors import Interrupted, first_line

CAUGHT = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)

log = logging.getLogger("kjcm")


class Signals:
    """Receive signals, and obey them at once or when the caller is ready.

    Inside `held`, a signal waits until the caller checks `asked` and, once everything is saved, calls `obey`. Outside, the
    process obeys at once. Python handles Ctrl-C outside `held`, and a second Ctrl-C inside.

    Args:
        before: the previous handlers by signal; a previous Python handler (submitit's) is called instead of exiting.
    """

    def __init__(self, before: dict[int, Any]) -> None:
        self._before = before
        self._held = self._left = False
        self._asked = 0

    def handle(self, number: int, frame: Any) -> None:
        """Receive a signal; ignore it if the process is already exiting."""
        if self._left:
            return
        if self._held and not (number == signal.SIGINT and self._asked):
            self._asked = self._asked or number
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            self.obey(number)

    def asked(self) -> int:
        """Return the waiting signal, 0 if none waits."""
        return self._asked

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make signals wait; a signal still waiting at the end is obeyed then."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._asked:
            self.obey(self._asked)

    def obey(self, number: int) -> None:
        """Exit; under Slurm, requeue the job first on SIGUSR1.

        Raises:
            Interrupted: unless a previous handler exists, which then decides.
        """
        self._asked = 0
        before = self._before.get(number)
        if callable(before) and number != signal.SIGINT:
            try:
                before(number, None)
            except Exception as error:  # submitit, if it does not requeue the job
                log.warning("%s", first_line(error))
                raise Interrupted(number) from None
            if number == signal.SIGTERM or global_rank() == 0:
                return
            # submitit requeues the job in its first task; its handler returns in the others.
        self._left = True
        leave(number)


def leave(number: int) -> NoReturn:
    """Exit because of a signal; under Slurm, requeue the job first on SIGUSR1.

    Raises:
        Interrupted: always.
    """
    first = global_rank() == 0
    if number == signal.SIGUSR1 and first and "SLURM_JOB_ID" in os.environ:
        requeue()
    leaving = Interrupted(number)
    # Only rank 0 reports the exit code: a launcher kills rank 0 if another rank seems to fail.
    if not first:
        leaving.exit_code = 0
    raise leaving


@contextmanager
def signals() -> Iterator[Signals]:
    """Catch signals while the context lasts."""
    caught = Signals({number: signal.getsignal(number) for number in CAUGHT})
    with handled(caught.handle):
        yield caught


@contextmanager
def handled(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Handle signals with `handler` while the context lasts; do nothing outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # Under nohup SIGHUP stays ignored, so a closed terminal does not end the run.
    hung_up = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    caught = [number for number in CAUGHT if not (hung_up and number == signal.SIGHUP)]
    before: dict[int, Any] = {number: signal.signal(number, handler) for number in caught}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier if earlier is not None else signal.SIG_DFL)


def requeue() -> None:
    """Ask Slurm to requeue this job, or this task of a job array."""
    environment = os.environ
    job = environment["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in environment:
        job = f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, capture_output=True, text=True, timeout=60)
        log.info("Slurm requeued job %s", job)
    except (OSError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stderr", None) or error).strip()
        log.warning("Slurm did not requeue job %s (%s). Submit the job again to resume the run.", job, said)
