"""Run a multirun: skip finished jobs, record failures, resume interrupted jobs."""

import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, configure_log
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from kjcm.errors import ConfigError, Interrupted, KjcmError, counted, of_the_system
from kjcm.files import atomic, without_formulas
from kjcm.keys.checks import check, require_known
from kjcm.keys.commands.train import RunConfig
from kjcm.keys.composition import typed
from kjcm.keys.training import SweepConfig
from kjcm.keys.unread import require_read_by_some, unread_overrides
from kjcm.run_folder.failures import failure_of
from kjcm.run_folder.listing import column_of, frame_of, ordered, validated
from kjcm.run_folder.states import Entry, state_of
from kjcm.run_folder.terminal import show
from kjcm.sweeps.composer import Composer
from kjcm.sweeps.hooks import HOOKS, Failures, call, end_body, job_record
from kjcm.sweeps.job import SweptJob, this_process
from kjcm.sweeps.launch import Launch
from kjcm.sweeps.plan import Job, say, tell_apart
from kjcm.training.checkpoints import tidy_up
from kjcm.training.run import folder_of

ORDER = ("resumable", "new", "failed", "pruned", "finished", "running")  # what others work on comes last

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
        self._node = SweepConfig(dry_run=False)  # until Hydra has composed the config
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
        self._node = typed(config.sweep, SweepConfig)
        self._folder = Path(config.hydra.sweep.dir).resolve()
        self._speak = partial(configure_log, config.hydra.job_logging, config.hydra.verbose)
        self._speak()
        self._new = [folder for folder in (self._folder, *self._folder.parents) if not folder.exists()]
        try:
            require_known(config.hydra, "hydra.", beside="hydra.env")
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise of_the_system(error) from None
        node = self._node
        self._failures = Failures(self._command, self._folder, node.stop_after, node.on_failure)
        if not node.dry_run:
            self._failures.forget()
        job = SweptJob(
            self._command,
            self._target,
            self._retries,
            node.gpus,
            this_process(),
            Path.cwd(),
            self._failures,
            self._debug,
            self._names,
        )
        inner = plugins.instantiate_launcher(hydra_context, job, config)
        return LedgerLauncher(self, inner, Composer(hydra_context, config))

    @property
    def entries(self) -> list[Entry]:
        """Return what has become of the jobs; a run that several jobs have counts once."""
        return [job.entry for job in self._once]

    @property
    def _once(self) -> list[Job]:
        return [job for job in self.jobs if job.state != "repeated"]

    @property
    def _retries(self) -> bool:
        return bool(self._node.retry == "failed")

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
        if self._node.dry_run:
            return []
        for job in jobs:
            if job.folder and job.config and job.state == "finished":
                tidy_up(job.folder.path, job.config)
        return sorted((job for job in jobs if job.starts), key=lambda job: ORDER.index(job.state))

    def _job(self, number: int, words: tuple[str, ...], compose: Composer) -> Job:
        try:
            cfg = compose(words)
            check(cfg)
            unread = unread_overrides(self._command, cfg, words)
            for hook in HOOKS:
                cfg.sweep[hook] = None
            config = typed(cfg, RunConfig)
            folder = folder_of(config)
        except Exception as error:
            failure = failure_of(error)
            print(f"kjcm {self._command}: {failure.reason}", file=sys.stderr, flush=True)
            return Job(number, words, None, None, "invalid", failure.reason)
        state, reason = state_of(folder.path)
        starts = state in ("new", "resumable", "running") or config.overwrite
        starts = starts or (self._retries and state in ("failed", "pruned"))
        return Job(number, words, config, folder, state, reason, starts=starts, unread=unread)

    def launch(self, inner: Launcher, jobs: Sequence[Job]) -> None:
        """Run jobs; see `Launch.run`."""
        Launch(inner, self._names, len(self.jobs), self._failures).run(jobs)

    def end(self) -> int:
        """Show the status of all jobs, write it as jobs.csv into the sweep's folder, and return the exit code."""
        invalid = [job for job in self.jobs if job.state == "invalid"]
        if self._node.dry_run:
            (self._folder / "multirun.yaml").unlink(missing_ok=True)
            with suppress(OSError):
                for folder in self._new:
                    folder.rmdir()
            return 2 if invalid else 0
        if not self.jobs:
            return 0
        self._speak()
        entries = self.entries
        frame = frame_of(entries)
        sort = None
        try:
            sort = column_of(frame, self._node.sort) or self._node.sort or validated(frame)
            frame = ordered(frame, sort)
        except ConfigError as error:
            log.warning("%s", error)
        counts: Counter[str] = Counter(entry.state for entry in entries)
        states = ", ".join(f"{count} {state}" for state, count in counts.items())
        show(frame, f"{counted(len(entries), 'job')}: {states}", [sort] if sort and sort in frame else [])
        with suppress(KjcmError, OSError), atomic(self._folder / "jobs.csv") as file:
            without_formulas(frame).to_csv(file, index=False, encoding="utf-8-sig")
            log.info("the table as CSV: %s", self._folder / "jobs.csv")
        codes = [job.failure.exit_code for job in self.jobs if job.failure] + [2 for _ in invalid]
        code = max([*codes, int(any(state not in ("finished", "running") for state in counts))])
        raised = sys.exc_info()[1]  # this may run because of a signal
        if isinstance(raised, Interrupted | KeyboardInterrupt):
            code = raised.exit_code if isinstance(raised, Interrupted) else 130
        records = [
            job_record(number, entry) for number, entry in zip((job.number for job in self._once), entries, strict=True)
        ]
        call("sweep.on_end", self._node.on_end, end_body(self._command, self._folder, code, counts, records))
        return code


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
