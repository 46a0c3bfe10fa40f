"""Run one process's trials of a study: ask Optuna for values, train, and report the metric, until enough trials ran."""

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

from kjcm.engine.device import require_device
from kjcm.engine.signals import signals
from kjcm.errors import ConfigError, KjcmError, counted, some
from kjcm.keys.commands import TrainConfig, TuneConfig
from kjcm.keys.overrides import override
from kjcm.metrics import METRICS, metric_of
from kjcm.run_folder.contents import run_measured
from kjcm.run_folder.failures import failure_of
from kjcm.run_folder.folder import identity_of
from kjcm.run_folder.lease import Busy
from kjcm.survey.rows import rows_of
from kjcm.training.run import folder_of
from kjcm.tune.results import StudyReport, best_of, conclude, value_text, write_all, write_results
from kjcm.tune.samplers import AGAIN, SAME, pruner_of, sampler_of
from kjcm.tune.search import REASON, RUN, TAKEN, Search, open_study, storage_errors, storage_of
from kjcm.tune.space import combinations, distributions_of, ends, values_of
from kjcm.tune.trial_config import TrialConfig, base_overrides, compose_trial, require_searchable, trial_overrides
from kjcm.tune.workers import worker

# These settings define a study, together with the base config, the space and the contents of the input files.
DEFINING = ("metric", "direction", "sampler", "sampler_seed", "startup", "pruner", "prune_after", "prune_from")
MAX_EPOCHS = "trainer.max_epochs"

log = logging.getLogger("kjcm")


class Pruned(KjcmError):
    """Ends a trial early, because other trials had a better metric after as many epochs."""

    kind = "pruned"


def take_part(config: TuneConfig, words: Sequence[str]) -> None:
    """Run trials of a study until enough have run, and write the study's results.

    Args:
        config: the resolved config of `kjcm tune`.
        words: the overrides of the command.

    Raises:
        ConfigError: the space or another setting is unusable.
        KjcmError: the data or the storage are unusable, or no trial was completed.
    """
    direction = direction_of(config.metric, config.direction, config.metrics)
    config = replace(config, direction=direction)
    _require_name(config.study)
    began = time.monotonic()
    base, distributions = base_overrides(config, words), distributions_of(config.space)
    sampler = sampler_of(config.sampler, config.sampler_seed, config.startup, distributions)
    first = require_searchable(base, distributions)
    require_device("trainer.accelerator", first.trainer.accelerator)
    # unusable data is reported here, before the first trial
    rows = rows_of(first, test=False, cache=first.cache)
    if "validation" not in rows.sides:
        raise ConfigError(
            "There are no validation rows to judge trials by. Set data.validation=0.1, or provide more rows."
        )
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
                    log.info("hours=%g have passed: this process starts no further trial", config.hours)
                    break
            if strays := part.search.strays():
                log.warning(
                    "trials %s belong to processes without a folder in %s, which may still be running elsewhere. "
                    "If they have ended, choose another study=NAME.",
                    some(strays),
                    part.search.workers,
                )
        write_all(about)
        conclude(about)


def direction_of(metric: str, given: str | None, own_metrics: Collection[str] = ()) -> str:
    """Return the direction of the search: `given`, or else the metric's own direction.

    Raises:
        ConfigError: the metric is unknown, or `given` contradicts the direction of one of kjcm's metrics.
    """
    if metric not in (known := [*METRICS, *own_metrics]):
        raise ConfigError(f"metric={metric}: choose one of {', '.join(known)}, or define it in `metrics`.")
    own = "minimize" if metric_of(metric).lower_is_better else "maximize"
    if given not in (None, own) and metric in METRICS:
        raise ConfigError(f"direction={given}: metric={metric} needs direction={own}.")
    return given or own


def _require_name(study: str | None) -> None:
    if study is not None and not re.fullmatch(r"\w[\w.-]*", study):
        raise ConfigError(
            f"study={study}: must be a valid folder name. Use letters, digits, dots, hyphens and underscores."
        )


def _folder(folder: Path) -> Path:
    """Return the study's folder; create a missing folder.

    Raises:
        ConfigError: the folder contains something else, such as the runs of an experiment.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "workers").is_dir():
        raise ConfigError(f"study={folder.name}: {folder} holds no study. Choose another name.")
    (folder / "workers").mkdir(parents=True, exist_ok=True)
    return folder


def definition_of(config: TuneConfig, first: TrainConfig, distributions: dict[str, BaseDistribution]) -> str:
    """Return the hash of all settings that affect a study's trials, except the number of trials.

    Args:
        config: the resolved config of `kjcm tune`.
        first: the resolved config that all trials share.
        distributions: key -> distribution of its values.
    """
    space = {key: distribution_to_json(one) for key, one in distributions.items()}
    whole = [identity_of(asdict(first)).hash, space, {key: getattr(config, key) for key in DEFINING}]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Part:
    """Runs the trials of one process.

    Attributes:
        about: the study and its settings.
        search: returns the trials to run.
    """

    about: StudyReport
    search: Search

    def run(self, trial: Trial) -> None:
        """Train a trial and report its outcome to the study; record an error as the reason, and continue the study."""
        from kjcm.training.train import train

        study, metric = self.about.study, self.about.how["metric"]
        values = values_of(trial)
        log.info("trial %d: %s", trial.number, " ".join(override(key, value) for key, value in values.items()))
        made: TrialConfig | None = None
        try:
            made = compose_trial(trial_overrides(self.about.base, values), study.study_name)
            trial.set_user_attr(RUN, made.path.name)
            known = self._known(trial)
            HydraConfig.instance().set_config(made.whole)  # the run folder records this node
            train(made.cfg, callbacks=[_each_epoch(metric, partial(self._judge, trial, made.config, known))])
            value = _value(made.path, metric)
            study.tell(trial, value, skip_if_finished=True)
            log.info("trial %d: %s %s; best: %s", trial.number, metric, value_text(value), best_of(study))
        except Pruned as pruned:
            study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
            log.info("trial %d: %s", trial.number, pruned)
        except Busy:
            self.search.drop(trial, SAME, True)  # another process started the same values just now
        except UpdateFinishedTrialError:
            log.warning(TAKEN, trial.number)
        except Exception as error:  # any error fails only this trial
            self._fail(trial, error, made)
        gc.collect()  # reference cycles would keep GPU memory

    def _known(self, trial: Trial) -> set[int]:
        """Report the epochs of the interrupted trial that `trial` repeats; return the reported epochs."""
        if AGAIN not in trial.user_attrs:
            return set()
        left = self.about.study.get_trials(deepcopy=False)[trial.user_attrs[AGAIN]]
        for epoch, value in left.intermediate_values.items():
            trial.report(value, epoch)
        return set(left.intermediate_values)

    def _judge(self, trial: Trial, config: TrainConfig, known: set[int], epoch: int, value: float) -> None:
        """Report the metric after an epoch, unless a resumed trial has already reported the epoch.

        Raises:
            Pruned: the pruner ends the trial, never after the last epoch.
        """
        if epoch not in known:  # a resumed run may repeat an epoch
            trial.report(value, epoch)
        if epoch < config.trainer.max_epochs and trial.should_prune():
            how = self.about.how
            raise Pruned(f"ended after epoch {epoch} by pruner={how['pruner']}: {how['metric']} {value_text(value)}")

    def _fail(self, trial: Trial, error: Exception, made: TrialConfig | None) -> None:
        """Record why a trial failed, in the study and in the run folder."""
        failure = failure_of(error)
        log.error("trial %d failed: %s", trial.number, failure.reason)
        if made is not None:
            words = [str(one) for one in made.whole.hydra.overrides.task]
            folder_of(made.config).keep_failure(asdict(made.config), words, failure)
        self.search.drop(trial, REASON, failure.reason)


def _each_epoch(metric: str, report: Any) -> Any:
    from kjcm.tune.each_epoch import EachEpoch

    return EachEpoch(metric, report)


def _value(path: Path, metric: str) -> float:
    """Return a run's metric on the validation rows.

    Raises:
        KjcmError: the run has no such number.
    """
    found = run_measured(path).get("validation", {}).get(metric)
    if found is None:
        raise KjcmError(f"{path}: {metric} of the validation rows is no number.")
    return float(found)
