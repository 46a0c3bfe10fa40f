"""Open a study that several processes share, in a journal file or a database, and choose the next trial to run."""

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna import Study, Trial
from optuna.distributions import BaseDistribution
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import get_lock_file
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from kjcm.errors import ConfigError, KjcmError, first_line
from kjcm.tune.journal_lock import JournalLock
from kjcm.tune.samplers import AGAIN, SAME, SURPLUS, is_new, rank
from kjcm.tune.workers import is_gone

# attributes of a study and its trials
DEFINITION, WORKER, REASON, RUN, SEEDS = "definition", "worker", "reason", "run", "seeds"
ENTRY = b'{"op_code":'  # start of every line of Optuna's journal
NAMELESS = 10.0  # seconds after which a trial without its worker's name counts as left
TAKEN = "another process took over trial %d, because this process stopped sending heartbeats"
WAITS = (0.1, 0.3, 0.6, 1.0)  # seconds between attempts to open a database
SAME_IN_A_ROW = 100  # repeated proposals in a row that end the search

log = logging.getLogger("kjcm")


def storage_of(storage: str | None, folder: Path) -> BaseStorage:
    """Return the storage that a config names: a database (URL) or a journal file; for None, journal.log in the folder.

    Raises:
        KjcmError: the storage cannot be opened.
    """
    if storage is not None and "://" in storage:
        for wait in WAITS:
            try:
                return _database(storage)
            except SQLAlchemyError as error:  # another process may be creating the tables
                last: Exception = error
                time.sleep(wait)
            except ImportError:
                raise KjcmError(
                    f"storage={_scheme(storage)}: its Python driver is not installed. For PostgreSQL pip install "
                    "'kjcm[postgresql]' and write postgresql+psycopg://USER@HOST/DATABASE."
                ) from None
            except Exception as error:  # an unknown kind of URL
                last = error
                break
        raise KjcmError(f"storage={_scheme(storage)}: cannot be opened ({first_line(last)}).")
    file = (Path(storage).expanduser() if storage else folder / "journal.log").resolve()
    _require_journal(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(_Journal(file))


def _scheme(url: str) -> str:
    """Return the start of a database URL; the rest may contain a password."""
    return f"{url.partition('://')[0]}://..."


def _require_journal(file: Path) -> None:
    """Raise KjcmError if the file exists and is no journal, because `_Journal` would cut off its last line."""
    if not file.exists():
        return
    if file.is_file():  # reading a pipe would block
        with file.open("rb") as stream:
            if ENTRY.startswith(stream.read(len(ENTRY))):
                return
    raise KjcmError(f"storage={file}: is no journal of a study. Choose another file, or null for the default.")


@contextmanager
def storage_errors(storage: str | None) -> Iterator[None]:
    """Convert errors of an open storage into KjcmError during the context.

    Raises:
        KjcmError: the storage is damaged, read-only or unreachable.
    """
    try:
        yield
    except (StorageInternalError, SQLAlchemyError, json.JSONDecodeError, UnicodeDecodeError) as error:
        # not the error's message: it may contain a password or values
        shown = _scheme(storage) if storage and "://" in storage else storage
        raise KjcmError(
            f"storage={shown or 'null'}: damaged, read-only or unreachable ({type(error).__name__}). Repair the storage "
            "and repeat the command."
        ) from None


def _database(url: str) -> RDBStorage:
    options = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    return RDBStorage(url, engine_kwargs=options)


class _Journal(JournalFileBackend):
    """Optuna's journal file, without an incomplete last entry that a full disk or a killed process left."""

    def __init__(self, file: Path) -> None:
        self._path, self._own_lock = file, JournalLock(file)
        super().__init__(str(file), self._own_lock)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append entries after the last complete entry."""
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
        with get_lock_file(self._own_lock), self._path.open("r+b") as stream:  # no process is writing
            stream.truncate(stream.read().rfind(b"\n") + 1)


def open_study(
    storage: BaseStorage,
    name: str,
    definition: str,
    directions: Sequence[StudyDirection],
    sampler: optuna.samplers.BaseSampler,
    pruner: optuna.pruners.BasePruner,
) -> Study:
    """Return the study with this name, or create it.

    Raises:
        ConfigError: the study has another definition, or belongs to another program.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=storage, study_name=name, directions=directions, sampler=sampler, pruner=pruner, load_if_exists=True
    )
    theirs = study.user_attrs.get(DEFINITION)
    if theirs is None and (study.get_trials(deepcopy=False) or study.directions != list(directions)):
        theirs = study.user_attrs.get(DEFINITION)  # another process may have just created it
        if theirs is None:
            raise ConfigError(
                f"study={name}: the storage holds a study of this name that kjcm tune did not begin. Choose another "
                "study=NAME."
            )
    if theirs is None:
        study.set_user_attr(DEFINITION, definition)
    elif theirs != definition:
        raise ConfigError(
            f"study={name} is of another config, search space, sampler, pruner, goal or input (hash {theirs[:12]}, here "
            f"{definition[:12]}). Choose another study=NAME, or null for a new name."
        )
    return study


def is_left(trial: FrozenTrial) -> bool:
    """Return whether a trial is marked as failed only because its process ended; another trial repeats it."""
    return trial.state == TrialState.FAIL and not {REASON, SAME, SURPLUS} & set(trial.user_attrs)


@dataclass(frozen=True)
class Search:
    """One process's part in a study.

    Attributes:
        study: the study.
        distributions: key -> distribution of its values.
        trials: number of trials, over all processes.
        workers: folder that contains one folder per process.
        worker: name of this process's folder.
    """

    study: Study
    distributions: Mapping[str, BaseDistribution]
    trials: int
    workers: Path
    worker: str

    def next(self) -> Trial | None:
        """Return a trial to run, interrupted trials first; None if enough trials have started."""
        for _ in range(SAME_IN_A_ROW):
            if not (self._is_work_left(patient=False) or self._is_work_left(patient=True)):
                return None
            trial = self.study.ask(dict(self.distributions))
            trial.set_user_attr(WORKER, self.worker)
            if AGAIN not in trial.user_attrs and rank(self.study, trial.number) >= self.trials:
                self.drop(trial, SURPLUS, True)  # another process started the last trial
            elif (earlier := self._earlier(trial)) is not None:
                self.drop(trial, SAME, earlier)
            else:
                return trial
        log.warning(
            "the search ends: the last %d proposals had values that were tried before. Widen the space, or lower trials.",
            SAME_IN_A_ROW,
        )
        return None

    def drop(self, trial: Trial, why: str, value: object) -> None:
        """Mark a trial as failed, with `value` in its attribute `why`; the sampler ignores failed trials."""
        try:
            trial.set_user_attr(why, value)
            self.study.tell(trial, state=TrialState.FAIL)
        except (ValueError, UpdateFinishedTrialError):
            log.warning(TAKEN, trial.number)

    def _is_work_left(self, patient: bool) -> bool:
        self._enqueue_left(patient)
        found = self.study.get_trials(deepcopy=False)
        return any(trial.state == TrialState.WAITING for trial in found) or sum(map(is_new, found)) < self.trials

    def _earlier(self, trial: Trial) -> int | None:
        """Return the number of an earlier trial with the same values, except the trials that `trial` repeats."""
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
        """Return the running trials whose processes have no folder here; they may be alive on another machine."""
        found = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [
            trial.number
            for trial in found
            if WORKER in trial.user_attrs and not (self.workers / trial.user_attrs[WORKER]).is_dir()
        ]

    def retry(self) -> None:
        """Enqueue failed trials again with the same values."""
        self._enqueue_again(lambda trial: trial.state == TrialState.FAIL and REASON in trial.user_attrs)

    def _enqueue_left(self, patient: bool) -> None:
        """Mark trials whose process has ended as failed, and enqueue them again with the same values."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if self._is_gone(trial, patient):
                try:
                    self.study.tell(trial.number, state=TrialState.FAIL)
                except (ValueError, UpdateFinishedTrialError):
                    continue  # another process has marked it
        self._enqueue_again(is_left)  # also those that a process marked but did not enqueue

    def _enqueue_again(self, wanted: Callable[[FrozenTrial], bool]) -> None:
        found = self.study.get_trials(deepcopy=False)
        repeated = {trial.user_attrs[AGAIN] for trial in found if AGAIN in trial.user_attrs}
        for trial in found:
            if wanted(trial) and trial.number not in repeated:
                log.info("trial %d did not finish and starts again", trial.number)
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
