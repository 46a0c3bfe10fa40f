"""A study that processes share: opened in a journal file or a database, its trials given out one by one."""

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna import Study, Trial
from optuna.distributions import BaseDistribution
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import get_lock_file
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from kjcm.errors import ConfigError, KjcmError, first_line
from kjcm.tune.journal_lock import JournalLock
from kjcm.tune.samplers import AGAIN, SAME, SURPLUS, is_new, rank
from kjcm.tune.workers import is_gone

DEFINITION, WORKER, REASON, RUN = "definition", "worker", "reason", "run"  # attributes of a study, and of its trials
ENTRY = b'{"op_code":'  # how every line of Optuna's journal begins
NAMELESS = 10.0  # seconds that a process has to give its name to a trial that it has begun
TAKEN = "trial %d was taken over by another process, for this one gave no sign of life"
WAITS = (0.1, 0.3, 0.6, 1.0)  # seconds between attempts to open a database
SAME_IN_A_ROW = 100  # proposals of values that were tried before, after which nothing new is expected

log = logging.getLogger("kjcm")


def storage_of(storage: str | None, folder: Path) -> BaseStorage:
    """Return the storage that a config names: a database's URL, or a journal file; null: one in the study's folder.

    Raises:
        KjcmError: it cannot be opened.
    """
    if storage is not None and "://" in storage:
        for wait in WAITS:
            try:
                return _database(storage)
            except SQLAlchemyError as error:  # as where another process makes the tables at the same moment
                last: Exception = error
                time.sleep(wait)
            except Exception as error:  # a URL of an unknown kind, a driver that is not installed
                last = error
                break
        # a URL may hold a password and is not shown
        raise KjcmError(f"storage={storage.partition('://')[0]}://...: cannot be opened ({first_line(last)}).")
    file = (Path(storage).expanduser() if storage else folder / "journal.log").resolve()
    _require_journal(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(_Journal(file))


def _require_journal(file: Path) -> None:
    """Raise KjcmError if a file is there that is no journal: an unfinished last line would be cut off from it."""
    if not file.exists():
        return
    if file.is_file():  # a pipe would be waited for
        with file.open("rb") as stream:
            if ENTRY.startswith(stream.read(len(ENTRY))):
                return
    raise KjcmError(f"storage={file}: holds no journal of a study. Choose another file, or null for the study's own.")


@contextmanager
def told(storage: str | None) -> Iterator[None]:
    """Tell what breaks of an open storage while the context lasts as an error of the surroundings.

    Raises:
        KjcmError: it is damaged, read-only or out of reach.
    """
    try:
        yield
    except (StorageInternalError, SQLAlchemyError, json.JSONDecodeError, UnicodeDecodeError) as error:
        # a URL may hold a password, and an entry or a statement values
        shown = f"{storage.partition('://')[0]}://..." if storage and "://" in storage else storage
        raise KjcmError(
            f"storage={shown or 'null'}: damaged, read-only or out of reach ({type(error).__name__}). Mend it and start the "
            "same command again."
        ) from None


def _database(url: str) -> RDBStorage:
    options = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    return RDBStorage(url, engine_kwargs=options)


class _Journal(JournalFileBackend):
    """Optuna's journal file; an entry that a full disk or a kill kept from being whole is cut off: the next would join it."""

    def __init__(self, file: Path) -> None:
        self._path, self._own_lock = file, JournalLock(file)
        super().__init__(str(file), self._own_lock)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append entries."""
        if not self._is_whole():
            self._mend()
        super().append_logs(logs)

    def _is_whole(self) -> bool:
        with self._path.open("rb") as stream:
            if not stream.seek(0, os.SEEK_END):
                return True
            stream.seek(-1, os.SEEK_END)
            return stream.read() == b"\n"

    def _mend(self) -> None:
        with get_lock_file(self._own_lock), self._path.open("r+b") as stream:  # nobody is writing now
            stream.truncate(stream.read().rfind(b"\n") + 1)


def open_study(
    storage: BaseStorage,
    name: str,
    definition: str,
    direction: Literal["maximize", "minimize"],
    sampler: optuna.samplers.BaseSampler,
    pruner: optuna.pruners.BasePruner,
) -> Study:
    """Return the study of a name, a new one where there is none.

    Raises:
        ConfigError: there is one of another definition, or of another program.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=storage, study_name=name, direction=direction, sampler=sampler, pruner=pruner, load_if_exists=True
    )
    theirs = study.user_attrs.get(DEFINITION)
    if theirs is None and (
        study.get_trials(deepcopy=False) or [one.name.lower() for one in study.directions] != [direction]
    ):
        theirs = study.user_attrs.get(DEFINITION)  # another process may have begun it this very moment
        if theirs is None:
            raise ConfigError(
                f"study={name}: the storage holds a study of this name that kjcm tune did not begin. Choose another study=NAME."
            )
    if theirs is None:
        study.set_user_attr(DEFINITION, definition)
    elif theirs != definition:
        raise ConfigError(
            f"study={name} is of another config, search space, sampler, pruner or metric, or of other input files (hash "
            f"{theirs[:12]}, here {definition[:12]}). Choose another study=NAME, or null for the one of this config."
        )
    return study


def is_left(trial: FrozenTrial) -> bool:
    """Return whether a trial was told failed for no fault of its own: its process went, and another trial repeats it."""
    return trial.state == TrialState.FAIL and not {REASON, SAME, SURPLUS} & set(trial.user_attrs)


@dataclass(frozen=True)
class Search:
    """A study as one process takes part in it.

    Attributes:
        study: the study.
        distributions: key -> what its value is drawn from.
        trials: wanted in all, over all processes.
        workers: the folder in which each process has one of its own.
        worker: this process's.
    """

    study: Study
    distributions: Mapping[str, BaseDistribution]
    trials: int
    workers: Path
    worker: str

    def next(self) -> Trial | None:
        """Return a trial to run, None when as many as wanted are begun; what a process left is given out again."""
        for _ in range(SAME_IN_A_ROW):
            if not (self._is_work_left(patient=False) or self._is_work_left(patient=True)):
                return None
            trial = self.study.ask(dict(self.distributions))
            trial.set_user_attr(WORKER, self.worker)
            if AGAIN not in trial.user_attrs and rank(self.study, trial.number) >= self.trials:
                self.drop(trial, SURPLUS, True)  # another process began the last one at the same moment
            elif (earlier := self._earlier(trial)) is not None:
                self.drop(trial, SAME, earlier)
            else:
                return trial
        log.warning(
            "%d proposals in a row had values that were tried before: the search ends here. Widen the space, or lower trials.",
            SAME_IN_A_ROW,
        )
        return None

    def drop(self, trial: Trial, why: str, value: object) -> None:
        """Tell a trial failed that is not to be run; the sampler does not learn from it."""
        try:
            trial.set_user_attr(why, value)
            self.study.tell(trial, state=TrialState.FAIL)
        except (ValueError, UpdateFinishedTrialError):
            log.warning(TAKEN, trial.number)

    def _is_work_left(self, patient: bool) -> bool:
        self._take_up(patient)
        found = self.study.get_trials(deepcopy=False)
        return any(trial.state == TrialState.WAITING for trial in found) or sum(map(is_new, found)) < self.trials

    def _earlier(self, trial: Trial) -> int | None:
        """Return the number of an earlier trial of the same values that this one does not go on with and that was not left."""
        found = self.study.get_trials(deepcopy=False)
        before, number = set(), trial.user_attrs.get(AGAIN)
        while number is not None:
            before.add(number)
            number = found[number].user_attrs.get(AGAIN)
        for other in found[: trial.number]:
            is_run = (
                other.state != TrialState.WAITING and not is_left(other) and not {SAME, SURPLUS} & set(other.user_attrs)
            )
            if is_run and other.number not in before and other.params == trial.params:
                return other.number
        return None

    def strays(self) -> list[int]:
        """Return the running trials whose processes have no folder here, so that it cannot be told whether they live."""
        found = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [
            trial.number
            for trial in found
            if WORKER in trial.user_attrs and not (self.workers / trial.user_attrs[WORKER]).is_dir()
        ]

    def retry(self) -> None:
        """Let trials that failed be begun again with the same values."""
        self._begin_again(lambda trial: trial.state == TrialState.FAIL and REASON in trial.user_attrs)

    def _take_up(self, patient: bool) -> None:
        """Tell trials failed whose process is gone, and let them be begun again with the same values."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if self._is_gone(trial, patient):
                try:
                    self.study.tell(trial.number, state=TrialState.FAIL)
                except (ValueError, UpdateFinishedTrialError):
                    continue  # another process was first
        self._begin_again(is_left)  # of this process, or of one that went before it could do more

    def _begin_again(self, wanted: Callable[[FrozenTrial], bool]) -> None:
        found = self.study.get_trials(deepcopy=False)
        repeated = {trial.user_attrs[AGAIN] for trial in found if AGAIN in trial.user_attrs}
        for trial in found:
            if wanted(trial) and trial.number not in repeated:
                log.info("trial %d was left or failed and is begun again", trial.number)
                self.study.enqueue_trial(trial.params, user_attrs={AGAIN: trial.number})

    def _is_gone(self, trial: FrozenTrial, patient: bool) -> bool:
        """Return whether the process of a running trial has ended."""
        worker = trial.user_attrs.get(WORKER)
        if worker is None and patient:
            time.sleep(NAMELESS)
            trial = self.study.get_trials(deepcopy=False)[trial.number]
            worker = trial.user_attrs.get(WORKER)
            if worker is None:
                return trial.state == TrialState.RUNNING
        return worker is not None and is_gone(self.workers / worker, patient)
