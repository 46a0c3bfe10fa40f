"""Run jobs with one of Hydra's launchers, whatever becomes of the launcher's processes."""

import logging
import multiprocessing
import os
import signal
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any, cast
from unittest.mock import patch

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher

from kjcm.engine.signals import handled, leave
from kjcm.errors import first_line
from kjcm.files import write_text
from kjcm.run_folder.failures import Failure
from kjcm.run_folder.folder import LAUNCH
from kjcm.run_folder.lease import is_held
from kjcm.run_folder.states import state_of
from kjcm.sweeps.hooks import Failures
from kjcm.sweeps.job import INTERRUPTED
from kjcm.sweeps.plan import Job
from kjcm.training.trainer import without_sweep

log = logging.getLogger("kjcm")


@dataclass(frozen=True)
class Launch:
    """A launcher of Hydra's and what it needs to run jobs of a sweep.

    Attributes:
        inner: the launcher.
        names: Hydra's number of a job -> the job's name, for its log; each launch adds its jobs.
        total: number of jobs in the sweep.
        failures: of the sweep.
    """

    inner: Launcher
    names: dict[int, str]
    total: int
    failures: Failures

    def run(self, jobs: Sequence[Job]) -> None:
        """Run jobs to their end.

        If the launcher breaks, it gets its unfinished jobs again: first those that had started, one by one, then the others.
        Jobs of another launcher that was killed meanwhile run at the end.

        Raises:
            Interrupted: a signal came; the jobs have saved.
        """
        for job in jobs:
            job.mark = job.marked()
        # The jobs' processes know their launch by this name: a relaunched job resumes, even with overwrite=true.
        with patch.dict(os.environ, {LAUNCH: uuid.uuid4().hex}), self._signals() as asked:
            self._run(jobs, asked)
            if not asked and (orphans := [job for job in jobs if job.orphaned]):
                log.warning("%d left to a process that is gone by now: launched again", len(orphans))
                self._run(orphans, asked)
            if asked:
                leave(asked[0])

    def _run(self, jobs: Sequence[Job], asked: Sequence[int]) -> None:
        while jobs and (error := self._broken(jobs)) and not asked:
            log.warning("the launcher broke (%s): what it left is launched again", type(error).__name__)
            left = _left(jobs)
            under_way = [job for job in left if job.folder and state_of(job.folder.path)[0] == "resumable"] or left
            for job in under_way:
                error = None if asked else self._broken([job])
                if error and not asked and _left([job]):
                    _keep(job, failure := _killed(error))
                    self.failures.add(job.number, job.entry, failure)
            jobs = [job for job in left if job not in under_way]

    def _broken(self, jobs: Sequence[Job]) -> Exception | None:
        """Launch jobs and keep why they failed; return what the launcher itself raised."""
        names = [f"job {job.number} of {self.total}: {job.apart}".removesuffix(": ") for job in jobs]
        first = jobs[0].number - 1  # Hydra counts from 0
        self.names.update(enumerate(names, first))
        try:
            with _every_job_awaited(self.inner):
                returns = self.inner.launch([job.words for job in jobs], first)
        except Exception as error:  # a worker of joblib's was killed
            return error
        broken = None
        for job, returned in zip(jobs, returns, strict=True):
            try:
                failure = returned.return_value
            except Exception as error:  # a job of submitit's was killed
                broken = error
                continue
            if failure is not None and failure.kind != INTERRUPTED:
                _keep(job, failure)
        return broken

    @contextmanager
    def _signals(self) -> Iterator[list[int]]:
        """Obey signals at once; or, where jobs run in joblib's processes, pass them on and give them time to save."""
        asked: list[int] = []

        def handle(number: int, _: Any) -> None:
            if type(self.inner).__name__ != "JoblibLauncher":
                leave(number)
            if asked and number == signal.SIGINT:
                raise KeyboardInterrupt
            asked.append(number)
            write_text(self.failures.stop, "")
            for child in multiprocessing.active_children() if number != signal.SIGINT else ():  # Ctrl-C goes to all
                with suppress(OSError):
                    os.kill(cast(int, child.pid), number)

        with handled(handle):
            yield asked


def _keep(job: Job, failure: Failure) -> None:
    """Keep why a job failed, in its folder where that does not say so already and can be written."""
    assert job.folder is not None and job.config is not None
    job.failure = failure
    job.folder.keep_failure(asdict(job.config), without_sweep(job.words), failure)


@contextmanager
def _every_job_awaited(inner: Launcher) -> Iterator[None]:
    """Have submitit's launcher wait for every job: at the first that died it would leave the others queued or at work."""
    if "submitit" not in type(inner).__module__:  # its import closes the handlers of the process's log
        yield
        return
    from submitit.core.core import Job as Submitted

    results = Submitted.results

    def outcome(job: Any) -> list[Any]:
        try:
            return list(results(job))
        except Exception as error:
            return [JobReturn(_return_value=error, status=JobStatus.FAILED)]

    Submitted.results = outcome  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Submitted.results = results  # type: ignore[method-assign]


def _killed(error: Exception) -> Failure:
    """Return the failure of a job whose launcher broke when it ran it with others, and when it ran it alone."""
    return Failure("killed", f"twice, the second time alone: {type(error).__name__}: {first_line(error)}")


def _left(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs that have not ended, when nobody works on any of them any more."""
    while any(job.folder and is_held(job.folder.path) for job in jobs if not job.ended):
        time.sleep(1)
    return [job for job in jobs if not job.ended]
