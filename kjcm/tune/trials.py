"""One process's part in a study: trials are asked for, trained and told of, until there are as many as wanted."""

import gc
import hashlib
import json
import logging
import re
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from optuna import Trial
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import StudyDirection
from optuna.trial import TrialState

from kjcm.config.commands import TrainConfig, TuneConfig
from kjcm.engine.device import require_device
from kjcm.errors import ConfigError, KjcmError, counted, some
from kjcm.metrics import METRICS, metric_of
from kjcm.runs.contents import run_measured
from kjcm.runs.failures import failure_of
from kjcm.runs.folder import identity_of
from kjcm.runs.lease import Busy
from kjcm.survey.rows import rows_of
from kjcm.training.run import folder_of
from kjcm.training.signals import signals
from kjcm.tune.results import StudyReport, best_of, conclude, value_text, write_all, write_results
from kjcm.tune.samplers import AGAIN, SAME, pruner_of, sampler_of
from kjcm.tune.search import REASON, RUN, TAKEN, Search, open_study, storage_errors, storage_of
from kjcm.tune.space import combinations, distributions_of, ends, values_of, word
from kjcm.tune.trial_config import Composed, base_words, composed, require_searchable, trial_words
from kjcm.tune.workers import worker

# What defines a study, beside its base config, its space and the contents of its input files.
DEFINING = ("metric", "direction", "sampler", "sampler_seed", "startup", "pruner", "prune_after", "prune_from")
MAX_EPOCHS = "trainer.max_epochs"

log = logging.getLogger("kjcm")


class Pruned(KjcmError):
    """A trial is ended early, for others did better by then."""

    kind = "pruned"


def take_part(config: TuneConfig, words: Sequence[str]) -> None:
    """Run trials of a study until it has those wanted, and write its results.

    Args:
        config: of `kjcm tune`, resolved.
        words: of its command line.

    Raises:
        ConfigError: the space, or what goes with it, cannot be searched.
        KjcmError: the data or the storage are not usable, or no trial was completed.
    """
    direction = direction_of(config.metric, config.direction, config.metrics)
    config = replace(config, direction=direction)
    _require_name(config.study)
    began = time.monotonic()
    base, distributions = base_words(config, words), distributions_of(config.space)
    sampler = sampler_of(config.sampler, config.sampler_seed, config.startup, distributions)
    first = require_searchable(base, distributions)
    require_device("trainer.accelerator", first.trainer.accelerator)
    # what is wrong with the data is better said before the first trial
    rows = rows_of(first, test=False, cache=first.cache)
    if "validation" not in rows.sides:
        raise ConfigError("No validation row is there to judge trials by: set data.validation=0.1, or give more rows.")
    definition = definition_of(config, first, distributions)
    name = config.study or f"tune-{definition[:12]}"
    folder = _folder(Path(config.runs) / name)
    trials = min(config.trials, combinations(distributions) or config.trials)
    searched = ends(distributions[MAX_EPOCHS]) if MAX_EPOCHS in distributions else [first.trainer.max_epochs]
    most = max(int(epochs) for epochs in searched if epochs is not None)
    pruner = pruner_of(config.pruner, most, config.prune_after, config.prune_from)
    with signals(), storage_errors(config.storage):
        study = open_study(
            storage_of(config.storage, folder), name, definition, StudyDirection[direction.upper()], sampler, pruner
        )
        about = StudyReport(
            study=study, folder=folder, definition=definition, wanted=trials, keys=tuple(distributions), base=tuple(base),
            synthetic=rows.cohort.synthetic, how={key: getattr(config, key) for key in DEFINING},
        )  # fmt: skip
        log.info(
            "study %s in %s: %s, judged by %s of the validation rows",
            name, folder, counted(trials, "trial"), config.metric,
        )  # fmt: skip
        with worker(folder / "workers") as own:
            part = Part(about, Search(study, distributions, trials, folder / "workers", own))
            if config.sweep.retry:
                part.search.retry()
            while (trial := part.search.next()) is not None:
                part.run(trial)
                write_results(about)
                if config.hours is not None and time.monotonic() - began > 3600 * config.hours:
                    log.info("hours=%g are over: this process begins no further trial", config.hours)
                    break
            if strays := part.search.strays():
                log.warning(
                    "trials %s are of processes that have no folder in %s: whether they are still at work cannot be told. "
                    "Where they are gone, choose another study=NAME.",
                    some(strays),
                    part.search.workers,
                )
        write_all(about)
        conclude(about)


def direction_of(metric: str, given: str | None, own_metrics: Collection[str] = ()) -> str:
    """Return the direction in which a metric is searched: the given one, else the metric's own.

    Raises:
        ConfigError: there is no such metric, neither ours nor the user's, or it is known to have the other direction.
    """
    if metric not in (known := [*METRICS, *own_metrics]):
        raise ConfigError(f"metric={metric}: choose one of {', '.join(known)}, or define it in `metrics`.")
    own = "minimize" if metric_of(metric).lower_is_better else "maximize"
    if given not in (None, own) and metric in METRICS:
        raise ConfigError(f"direction={given}: metric={metric} wants direction={own}.")
    return given or own


def _require_name(study: str | None) -> None:
    if study is not None and not re.fullmatch(r"\w[\w.-]*", study):
        raise ConfigError(f"study={study}: it names a folder too; use letters, digits, dots, hyphens and underscores.")


def _folder(folder: Path) -> Path:
    """Return the study's folder, made where it is not there.

    Raises:
        ConfigError: it holds something else, as the runs of an experiment.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "workers").is_dir():
        raise ConfigError(f"study={folder.name}: {folder} holds no study. Choose another name.")
    (folder / "workers").mkdir(parents=True, exist_ok=True)
    return folder


def definition_of(config: TuneConfig, first: TrainConfig, distributions: dict[str, BaseDistribution]) -> str:
    """Return the hash of all that a study's outcome depends on but the number of trials.

    Args:
        config: of `kjcm tune`, resolved.
        first: of a trial before anything is searched, resolved.
        distributions: key -> what its value is drawn from.
    """
    space = {key: distribution_to_json(one) for key, one in distributions.items()}
    whole = [identity_of(asdict(first)).hash, space, {key: getattr(config, key) for key in DEFINING}]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Part:
    """What a process does with the trials that it is given.

    Attributes:
        about: the study.
        search: gives the trials.
    """

    about: StudyReport
    search: Search

    def run(self, trial: Trial) -> None:
        """Train a trial and tell the study what became of it; an error is kept as its reason, and the study goes on."""
        from kjcm.training.train import train

        study, metric = self.about.study, self.about.how["metric"]
        values = values_of(trial)
        log.info("trial %d: %s", trial.number, " ".join(word(key, value) for key, value in values.items()))
        made: Composed | None = None
        try:
            made = composed(trial_words(self.about.base, values), study.study_name)
            trial.set_user_attr(RUN, made.path.name)
            known = self._known(trial)
            HydraConfig.instance().set_config(made.whole)  # the job of which the run's own folder tells
            train(made.cfg, callbacks=[_each_epoch(metric, partial(self._judge, trial, made.config, known))])
            value = _value(made.path, metric)
            study.tell(trial, value, skip_if_finished=True)
            log.info("trial %d: %s %s; best: %s", trial.number, metric, value_text(value), best_of(study))
        except Pruned as pruned:
            study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
            log.info("trial %d: %s", trial.number, pruned)
        except Busy:
            self.search.drop(trial, SAME, True)  # another process began the same values at the same moment
        except UpdateFinishedTrialError:
            log.warning(TAKEN, trial.number)
        except Exception as error:  # whatever it is, it is of this trial
            self._fail(trial, error, made)
        gc.collect()  # cycles would keep a trial's memory on the device

    def _known(self, trial: Trial) -> set[int]:
        """Report what is known of a trial that is begun again; return the epochs."""
        if AGAIN not in trial.user_attrs:
            return set()
        left = self.about.study.get_trials(deepcopy=False)[trial.user_attrs[AGAIN]]
        for epoch, value in left.intermediate_values.items():
            trial.report(value, epoch)
        return set(left.intermediate_values)

    def _judge(self, trial: Trial, config: TrainConfig, known: set[int], epoch: int, value: float) -> None:
        """Report an epoch of a trial.

        Raises:
            Pruned: it is ended here; never after its last epoch.
        """
        if epoch not in known:  # a run may go on from a little before it was left
            trial.report(value, epoch)
        if epoch < config.trainer.max_epochs and trial.should_prune():
            how = self.about.how
            raise Pruned(f"ended after epoch {epoch} by pruner={how['pruner']}: {how['metric']} {value_text(value)}")

    def _fail(self, trial: Trial, error: Exception, made: Composed | None) -> None:
        """Keep why a trial failed, in the study and in its run's folder."""
        failure = failure_of(error)
        log.error("trial %d failed: %s", trial.number, failure.reason)
        if made is not None:
            words = [str(one) for one in made.whole.hydra.overrides.task]
            folder_of(made.config).keep_failure(asdict(made.config), words, failure)
        self.search.drop(trial, REASON, failure.reason)


def _each_epoch(metric: str, tell: Any) -> Any:
    from kjcm.tune.each_epoch import EachEpoch

    return EachEpoch(metric, tell)


def _value(path: Path, metric: str) -> float:
    """Return the metric of a run's validation rows.

    Raises:
        KjcmError: the run has none.
    """
    found = run_measured(path).get("validation", {}).get(metric)
    if found is None:
        raise KjcmError(f"{path}: {metric} of the validation rows is no number.")
    return float(found)
