"""What SIGTERM, SIGHUP, SIGUSR1, SIGUSR2 and Ctrl-C do to a run: it saves between two steps and leaves; Slurm starts it again."""

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
    """The signals that a process has got, and what becomes of them.

    While they are `held` they wait for somebody who looks at `asked` and, when all is saved, calls `obey`; otherwise they
    are obeyed at once. Ctrl-C is left to Python unless it is held, and a second one does not wait.

    Args:
        before: the handlers that were there, by signal; another Python handler (submitit's) is called instead of leaving.
    """

    def __init__(self, before: dict[int, Any]) -> None:
        self._before = before
        self._held = self._left = False
        self._asked = 0

    def handle(self, number: int, frame: Any) -> None:
        """Take a signal; one that comes while the process is leaving already is nothing new."""
        if self._left:
            return
        if self._held and not (number == signal.SIGINT and self._asked):
            self._asked = self._asked or number
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            self.obey(number)

    def asked(self) -> int:
        """Return the signal that waits, 0 without one."""
        return self._asked

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let signals wait; one that nobody has looked at is obeyed at the end."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._asked:
            self.obey(self._asked)

    def obey(self, number: int) -> None:
        """Leave; under Slurm SIGUSR1 has the job started again first.

        Raises:
            Interrupted: unless another handler was there before, which then decides.
        """
        self._asked = 0
        before = self._before.get(number)
        if callable(before) and number != signal.SIGINT:
            try:
                before(number, None)
            except Exception as error:  # submitit's, where it does not start the job again
                log.warning("%s", first_line(error))
                raise Interrupted(number) from None
            if number == signal.SIGTERM or global_rank() == 0:
                return
            # submitit starts the job again in its first task, and returns in the others
        self._left = True
        leave(number)


def leave(number: int) -> NoReturn:
    """Leave because of a signal; under Slurm SIGUSR1 has the job started again first.

    Raises:
        Interrupted: always.
    """
    first = global_rank() == 0
    if number == signal.SIGUSR1 and first and "SLURM_JOB_ID" in os.environ:
        requeue()
    leaving = Interrupted(number)
    if not first:
        leaving.exit_code = 0  # the first process says how it ended; a launcher kills it if another seems to fail
    raise leaving


@contextmanager
def signals() -> Iterator[Signals]:
    """Catch signals while the context lasts."""
    caught = Signals({number: signal.getsignal(number) for number in CAUGHT})
    with handled(caught.handle):
        yield caught


@contextmanager
def handled(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Give the signals to `handler` while the context lasts; only a process's main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    hung_up = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN  # nohup has it ignored: a closed terminal ends nothing
    caught = [number for number in CAUGHT if not (hung_up and number == signal.SIGHUP)]
    before: dict[int, Any] = {number: signal.signal(number, handler) for number in caught}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier if earlier is not None else signal.SIG_DFL)


def requeue() -> None:
    """Ask Slurm to start this job, or this task of a job array, again."""
    environment = os.environ
    job = environment["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in environment:
        job = f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, capture_output=True, text=True, timeout=60)
        log.info("Slurm starts job %s again", job)
    except (OSError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stderr", None) or error).strip()
        log.warning("Slurm does not start job %s again (%s): submit it again, it goes on", job, said)
