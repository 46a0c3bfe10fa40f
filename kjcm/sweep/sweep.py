"""A multirun that can be trusted: what is done is skipped, what fails is told of and kept, what is left goes on."""

import logging
import multiprocessing
import os
import signal
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, configure_log
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from kjcm.config.checks import check, require_known
from kjcm.config.composition import resolved
from kjcm.config.unread import require_read_by_some, unread_overrides
from kjcm.errors import ConfigError, KjcmError, counted, first_line
from kjcm.files import atomic, without_formulas, write_text
from kjcm.runs.failures import Failure, failure_of
from kjcm.runs.folder import LAUNCH
from kjcm.runs.lease import is_held
from kjcm.runs.listing import column_of, frame_of, ordered, validated
from kjcm.runs.states import state_of
from kjcm.runs.terminal import show
from kjcm.survey.inputs import Config
from kjcm.sweep.composer import Composer
from kjcm.sweep.job import INTERRUPTED, SweptJob, this_process
from kjcm.sweep.plan import Job, say, tell_apart
from kjcm.training.checkpoints import tidy_up
from kjcm.training.run import folder_of
from kjcm.training.signals import handled, leave

ORDER = ("resumable", "new", "failed", "pruned", "finished", "running")  # what others work on comes last
STOP = "stop"  # the file that tells jobs not yet begun that the sweep is to end

log = logging.getLogger("kjcm")


class Sweep:
    """The multirun of one command, whichever sweeper and launcher Hydra has for it.

    Args:
        command: the kjcm command.
        target: module and function of it.
        debug: whether errors show their traceback.

    Attributes:
        jobs: all that were launched or found done.
    """

    def __init__(self, command: str, target: str, debug: bool) -> None:
        self._command, self._target, self._debug = command, target, debug
        self.jobs: list[Job] = []
        self._node: Config = {}
        self._folder = Path()
        self._new: list[Path] = []  # folders that were not there
        self._names: dict[int, str] = {}  # Hydra's number of a job in a launch -> what the job is called
        self._speak: Callable[[], None] = lambda: None  # launchers leave only warnings to be heard

    def instantiate_launcher(
        self, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> Launcher:
        """Stand in for Hydra's function of this name, and give a launcher around the one that the config names."""
        plugins = Plugins.instance()
        vars(plugins).pop("instantiate_launcher")  # launchers copy what is in Hydra's singletons
        self._node = OmegaConf.to_container(config.sweep, resolve=True)  # type: ignore[assignment]
        self._folder = Path(config.hydra.sweep.dir).resolve()
        self._speak = partial(configure_log, config.hydra.job_logging, config.hydra.verbose)
        self._speak()
        self._new = [folder for folder in (self._folder, *self._folder.parents) if not folder.exists()]
        try:
            require_known(config.hydra, "hydra.", beside="hydra.env")
            self._folder.mkdir(parents=True, exist_ok=True)
        except (ConfigError, OSError) as error:  # Hydra would show its traceback
            failure = failure_of(error)
            print(f"kjcm {self._command}: {failure.reason}", file=sys.stderr)
            sys.exit(failure.exit_code)
        job = SweptJob(
            self._command,
            self._target,
            self._retries,
            self._node["gpus"],
            this_process(),
            Path.cwd(),
            self._folder / STOP,
            self._debug,
            self._names,
        )
        inner = plugins.instantiate_launcher(hydra_context, job, config)
        return LedgerLauncher(self, inner, Composer(hydra_context, config))

    @property
    def _retries(self) -> bool:
        return bool(self._node["retry"] == "failed")

    def listed(self, overrides: Sequence[Sequence[str]], first: int, compose: Composer) -> list[Job]:
        """Return the jobs of some overrides that are to be launched; say what is finished, resumable, failed and new."""
        jobs = [self._job(number, tuple(words), compose) for number, words in enumerate(overrides, first + 1)]
        require_read_by_some(self._command, {job.words: job.unread for job in jobs if job.state != "invalid"})
        tell_apart(jobs)
        known = {job.folder.path: job.number for job in self.jobs if job.folder}
        for job in jobs:
            if job.folder and (same := known.setdefault(job.folder.path, job.number)) != job.number:
                job.state, job.reason, job.starts = "repeated", f"the same run as job {same}", False
        self.jobs += jobs
        self._speak()
        say(jobs)
        if self._node["dry_run"]:
            return []
        for job in jobs:
            if job.folder and job.state == "finished":
                tidy_up(job.folder.path, job.config)
        return sorted((job for job in jobs if job.starts), key=lambda job: ORDER.index(job.state))

    def _job(self, number: int, words: tuple[str, ...], compose: Composer) -> Job:
        try:
            cfg = compose(words)
            check(cfg)
            unread = unread_overrides(self._command, cfg, words)
            config = resolved(cfg)
            folder = folder_of(config)
        except Exception as error:
            failure = failure_of(error)
            print(f"kjcm {self._command}: {failure.reason}", file=sys.stderr, flush=True)
            return Job(number, words, {}, None, "invalid", failure.reason)
        state, reason = state_of(folder.path)
        starts = state in ("new", "resumable", "running") or config["overwrite"]
        starts = starts or (self._retries and state in ("failed", "pruned"))
        return Job(number, words, config, folder, state, reason, starts=starts, unread=unread)

    def launch(self, inner: Launcher, jobs: list[Job]) -> None:
        """Run jobs, whatever becomes of the launcher's processes.

        A launcher that breaks is given what it left: first the jobs that were under way, one by one, then the others. Jobs
        that another launcher had, which was killed meanwhile, are launched at the end.

        Raises:
            Interrupted: a signal came; what was under way is saved.
        """
        for job in jobs:
            job.mark = job.marked()
        with _named_launch(), self._signals(inner) as asked:
            self._launch(inner, jobs, asked)
            if not asked and (orphans := [job for job in jobs if job.orphaned]):
                log.warning("%d left to a process that is gone by now: launched again", len(orphans))
                self._launch(inner, orphans, asked)
            if asked:
                leave(asked[0])

    def _launch(self, inner: Launcher, jobs: Sequence[Job], asked: Sequence[int]) -> None:
        while jobs and (error := self._broken(inner, jobs)) and not asked:
            log.warning("the launcher broke (%s): what it left is launched again", type(error).__name__)
            left = _left(jobs)
            under_way = [job for job in left if job.folder and state_of(job.folder.path)[0] == "resumable"] or left
            for job in under_way:
                error = None if asked else self._broken(inner, [job])
                if error and not asked and _left([job]):
                    self._keep(job, _killed(error))
            jobs = [job for job in left if job not in under_way]

    def _broken(self, inner: Launcher, jobs: Sequence[Job]) -> Exception | None:
        """Launch jobs and keep why they failed; return what the launcher itself raised."""
        names = [f"job {job.number} of {len(self.jobs)}: {job.apart}".removesuffix(": ") for job in jobs]
        first = jobs[0].number - 1  # Hydra counts from 0
        self._names |= enumerate(names, first)
        try:
            with _every_job_awaited():
                returns = inner.launch([job.words for job in jobs], first)
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
                self._keep(job, failure)
        return broken

    def _keep(self, job: Job, failure: Failure) -> None:
        """Keep why a job failed, in its folder where that does not say so already and can be written."""
        assert job.folder is not None
        job.failure = failure
        job.folder.keep_failure(job.config, job.words, failure)

    @contextmanager
    def _signals(self, inner: Launcher) -> Iterator[list[int]]:
        """Obey signals at once; or, where jobs run in joblib's processes, pass them on and give them time to save."""
        asked: list[int] = []

        def handle(number: int, _: Any) -> None:
            if type(inner).__name__ != "JoblibLauncher":
                leave(number)
            if asked and number == signal.SIGINT:
                raise KeyboardInterrupt
            asked.append(number)
            write_text(self._folder / STOP, "")
            for child in multiprocessing.active_children() if number != signal.SIGINT else ():  # Ctrl-C goes to all
                with suppress(OSError):
                    os.kill(cast(int, child.pid), number)

        with handled(handle):
            yield asked

    def end(self) -> int:
        """Show what became of all jobs, write it as jobs.csv into the sweep's folder, and return the exit code."""
        invalid = [job for job in self.jobs if job.state == "invalid"]
        if self._node.get("dry_run"):
            (self._folder / "multirun.yaml").unlink(missing_ok=True)
            with suppress(OSError):
                for folder in self._new:
                    folder.rmdir()
            return 2 if invalid else 0
        if not self.jobs:
            return 0
        self._speak()
        entries = [job.entry for job in self.jobs if job.state != "repeated"]
        frame = frame_of(entries)
        sort = None
        try:
            sort = column_of(frame, self._node["sort"]) or self._node["sort"] or validated(frame)
            frame = ordered(frame, sort)
        except ConfigError as error:
            log.warning("%s", error)
        counts = Counter(entry.state for entry in entries)
        states = ", ".join(f"{count} {state}" for state, count in counts.items())
        show(frame, f"{counted(len(entries), 'job')}: {states}", [sort] if sort and sort in frame else [])
        with suppress(KjcmError, OSError), atomic(self._folder / "jobs.csv") as file:
            without_formulas(frame).to_csv(file, index=False, encoding="utf-8-sig")
            log.info("the table as CSV: %s", self._folder / "jobs.csv")
        codes = [job.failure.exit_code for job in self.jobs if job.failure] + [2 for _ in invalid]
        return max([*codes, int(any(state not in ("finished", "running") for state in counts))])


@contextmanager
def _named_launch() -> Iterator[None]:
    """Name the launch to the processes of its jobs: one that is started again goes on, overwrite=true or not."""
    before = os.environ.get(LAUNCH)
    os.environ[LAUNCH] = uuid.uuid4().hex
    try:
        yield
    finally:
        os.environ.pop(LAUNCH)
        if before is not None:
            os.environ[LAUNCH] = before


@contextmanager
def _every_job_awaited() -> Iterator[None]:
    """Have submitit's launcher wait for every job: at the first that died it would leave the others queued or at work."""
    try:
        from submitit.core.core import Job as Submitted
    except ImportError:  # submitit is an extra
        yield
        return
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


class LedgerLauncher(Launcher):
    """A launcher of Hydra's that is given only what has to be run.

    Args:
        sweep: the sweep.
        inner: the launcher that runs it.
        compose: gives a job's config.
    """

    def __init__(self, sweep: Sweep, inner: Launcher, compose: Composer) -> None:
        self._sweep, self._inner, self._compose = sweep, inner, compose

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Nothing: the launcher within is set up."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """List the jobs, run what is to be run; a sweeper learns that all of them have ended."""
        jobs = self._sweep.listed(job_overrides, initial_job_idx, self._compose)
        self._compose.forget()
        self._sweep.launch(self._inner, jobs)
        self._compose.keep()
        return [JobReturn(overrides=words, status=JobStatus.COMPLETED) for words in job_overrides]


@contextmanager
def sweeping(command: str, target: str, debug: bool) -> Iterator[Sweep]:
    """Have a multirun that Hydra begins while the context lasts launched as a Sweep."""
    sweep, plugins = Sweep(command, target, debug), Plugins.instance()
    vars(plugins)["instantiate_launcher"] = sweep.instantiate_launcher
    try:
        yield sweep
    finally:
        vars(plugins).pop("instantiate_launcher", None)
