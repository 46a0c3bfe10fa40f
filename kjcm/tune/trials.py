"""Run one process's trials of a study: ask Optuna for values, train, and report the metric, until enough trials ran."""

import gc
import logging
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from optuna import Trial
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from kjcm.engine.device import require_device
from kjcm.engine.signals import signals
from kjcm.errors import ConfigError, KjcmError, counted, some
from kjcm.keys.commands.search import TuneConfig
from kjcm.keys.commands.train import TrainConfig
from kjcm.keys.overrides import override
from kjcm.metrics import MEASURED
from kjcm.run_folder.failures import failure_of
from kjcm.run_folder.lease import Busy
from kjcm.survey.rows import rows_of
from kjcm.training.run import folder_of
from kjcm.tune.goals import Goals, Seed, definition_of, goals_of, mean_of, require_free_seeds, settings_of
from kjcm.tune.measures import EachEpoch, Meter, tail_of
from kjcm.tune.page import conclude, write_all
from kjcm.tune.results import StudyReport, best_of, best_trials, seeds_of, value_text, write_results
from kjcm.tune.samplers import AGAIN, SAME, pruner_of, sampler_of
from kjcm.tune.search import REASON, RUN, SEEDS, TAKEN, Search, open_study, storage_errors, storage_of
from kjcm.tune.space import combinations, distributions_of, ends, values_of
from kjcm.tune.trial_config import TrialConfig, base_overrides, compose_trial, require_searchable, trial_overrides
from kjcm.tune.workers import worker

MAX_EPOCHS = "trainer.max_epochs"

log = logging.getLogger("kjcm")


class Pruned(KjcmError):
    """Ends a trial early, because other trials had a better metric after as many epochs or seeds."""

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
    _require_name(config.study)
    began = time.monotonic()
    base, distributions = base_overrides(config, words), distributions_of(config.space)
    sampler = sampler_of(config.sampler, config.sampler_seed, config.startup, distributions)
    first = require_searchable(base, distributions)
    goals = goals_of(config, first.seed)
    require_free_seeds(goals, distributions)
    _require_different_seeds(base, goals)
    require_device("trainer.accelerator", first.trainer.accelerator)
    require_device("speed.accelerator", config.speed.accelerator)
    # unusable data is reported here, before the first trial
    rows = rows_of(first, test=False, cache=first.cache)
    if "validation" not in rows.sides:
        raise ConfigError(
            "There are no validation rows to judge trials by. Set data.validation=0.1, or provide more rows."
        )
    tail = tail_of(rows, config.tail_share) if "f1_tail" in goals.names else frozenset()
    definition = definition_of(config, goals, first, distributions)
    name = config.study or f"tune-{definition[:12]}"
    folder = _folder(Path(config.runs) / name)
    trials = min(config.trials, combinations(distributions) or config.trials)
    searched = ends(distributions[MAX_EPOCHS]) if MAX_EPOCHS in distributions else [first.trainer.max_epochs]
    most = max(int(epochs) for epochs in searched if epochs is not None)
    pruner = pruner_of(_pruner_name(config.pruner, goals), most, config.prune_after, config.prune_from)
    with signals(), storage_errors(config.storage):
        directions = [StudyDirection[direction.upper()] for direction in goals.directions]
        study = open_study(storage_of(config.storage, folder), name, definition, directions, sampler, pruner)
        about = StudyReport(
            study=study, folder=folder, definition=definition, wanted=trials, keys=tuple(distributions), base=tuple(base),
            synthetic=rows.cohort.synthetic, how=settings_of(config, goals), goals=goals, epochs=most,
        )  # fmt: skip
        log.info(
            "study %s in %s: %s, judged by %s of the validation rows",
            name, folder, counted(trials, "trial"), " and ".join(goals.metrics),
        )  # fmt: skip
        meter = Meter(rows.sides["validation"], tail, config.speed, folder)
        with worker(folder / "workers") as own:
            part = Part(about, Search(study, distributions, trials, folder / "workers", own), meter)
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


def _require_name(study: str | None) -> None:
    if study is not None and not re.fullmatch(r"\w[\w.-]*", study):
        raise ConfigError(
            f"study={study}: must be a valid folder name. Use letters, digits, dots, hyphens and underscores."
        )


def _require_different_seeds(base: Sequence[str], goals: Goals) -> None:
    """Raise ConfigError if the trainings of a trial would be the same run, because the command sets each part's seed."""
    if (
        goals.many_seeds
        and len({compose_trial(trial_overrides(base, {}, seed), "s").path for seed in goals.seeds[:2]}) < 2
    ):
        raise ConfigError(
            f"seeds_per_trial={len(goals.seeds)}: `seed` changes nothing here, because other keys set every seed. Remove the "
            "overrides of `seeds`."
        )


def _pruner_name(name: str, goals: Goals) -> str:
    """Return the pruner to use: none where no epoch of a trial can be compared; the log says so."""
    if name == "none":
        return name
    if goals.is_pareto:
        log.info("pruner=%s is off: Optuna prunes for one metric only", name)
        return "none"
    if goals.metrics[0] in MEASURED:
        log.info("pruner=%s is off: %s is measured after a training", name, goals.metrics[0])
        return "none"
    return name


def _folder(folder: Path) -> Path:
    """Return the study's folder; create a missing folder.

    Raises:
        ConfigError: the folder contains something else, such as the runs of an experiment.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "workers").is_dir():
        raise ConfigError(f"study={folder.name}: {folder} contains no study. Choose another name.")
    (folder / "workers").mkdir(parents=True, exist_ok=True)
    return folder


@dataclass(frozen=True)
class Part:
    """Runs the trials of one process.

    Attributes:
        about: the study and its settings.
        search: returns the trials to run.
        meter: measures the trials' runs.
    """

    about: StudyReport
    search: Search
    meter: Meter

    def run(self, trial: Trial) -> None:
        """Train a trial and report its outcome to the study; record an error as the reason, and continue the study."""
        study, goals = self.about.study, self.about.goals
        values = values_of(trial)
        log.info("trial %d: %s", trial.number, " ".join(override(key, value) for key, value in values.items()))
        made: TrialConfig | None = None
        try:
            known, done = self._known(trial), self._done(trial)
            for place, seed in enumerate(goals.seeds):
                words = trial_overrides(self.about.base, values, seed if goals.many_seeds else None)
                made = compose_trial(words, study.study_name)
                if not place:
                    trial.set_user_attr(RUN, made.path.name)
                self._train(trial, made, known, is_first=not place)
                if place == len(done):
                    found = self.meter.measure(made.path, goals.names)
                    done.append({"seed": seed, "run": made.path.name, **found})
                    trial.set_user_attr(SEEDS, done)
                if place + 1 < len(goals.seeds):
                    self._judge_seeds(trial, done[: place + 1], known)
            for name, excess in goals.excesses(done).items():
                trial.set_constraint(name, excess)
            objectives = goals.objectives(done)
            study.tell(trial, objectives, skip_if_finished=True)
            shown = ", ".join(
                f"{metric} {value_text(value)}" for metric, value in zip(goals.metrics, objectives, strict=True)
            )
            log.info("trial %d: %s; best: %s", trial.number, shown, best_of(study))
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

    def _train(self, trial: Trial, made: TrialConfig, known: set[int], *, is_first: bool) -> None:
        """Train one seed of a trial; only the first seed's epochs are compared with other trials."""
        from kjcm.training.train import train

        metric = self.about.goals.metrics[0]
        callbacks = []
        if is_first and not self.about.goals.is_pareto and metric not in MEASURED:
            callbacks.append(EachEpoch(metric, partial(self._judge, trial, made.config, known)))
        HydraConfig.instance().set_config(made.whole)  # the run folder records this node
        train(made.cfg, callbacks=callbacks)

    def _done(self, trial: Trial) -> list[dict[str, Any]]:
        """Return the finished trainings of the interrupted trial that `trial` repeats."""
        if AGAIN not in trial.user_attrs:
            return []
        done = [dict(seed) for seed in seeds_of(self._repeated(trial))]
        trial.set_user_attr(SEEDS, done)
        return done

    def _repeated(self, trial: Trial) -> FrozenTrial:
        number: int = trial.user_attrs[AGAIN]
        return self.about.study.get_trials(deepcopy=False)[number]

    def _known(self, trial: Trial) -> set[int]:
        """Report the epochs of the interrupted trial that `trial` repeats; return the reported epochs."""
        if AGAIN not in trial.user_attrs:
            return set()
        reported = self._repeated(trial).intermediate_values
        for epoch, value in reported.items():
            trial.report(value, epoch)
        return set(reported)

    def _judge(self, trial: Trial, config: TrainConfig, known: set[int], epoch: int, value: float) -> None:
        """Report the metric after an epoch, unless a resumed trial has already reported the epoch.

        Raises:
            Pruned: the pruner ends the trial, never after the last epoch.
        """
        if epoch not in known:  # a resumed run may repeat an epoch
            trial.report(value, epoch)
        if epoch < config.trainer.max_epochs and trial.should_prune():
            pruner, metric = self.about.how["pruner"], self.about.goals.metrics[0]
            raise Pruned(f"ended after epoch {epoch} by pruner={pruner}: {metric} {value_text(value)}")

    def _judge_seeds(self, trial: Trial, done: Sequence[Seed], known: set[int]) -> None:
        """Report the mean over a trial's first seeds, with a step after those of all epochs.

        Raises:
            Pruned: the mean misses the best trial by more than `prune_seeds` standard errors.
        """
        study, goals = self.about.study, self.about.goals
        if goals.is_pareto:
            return
        metric, step = goals.metrics[0], self.about.epochs + len(done)
        if step not in known:
            trial.report(mean_of(done, metric), step)
        if goals.margin is None:
            return
        completed = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        others = [[seed[metric] for seed in seeds_of(other)] for other in completed]
        best = next((best.value for best in best_trials(study)), None)
        missing = goals.shortfall([seed[metric] for seed in done], others, best)
        if missing is not None and missing > goals.margin:
            raise Pruned(
                f"ended after {len(done)} of {len(goals.seeds)} seeds by prune_seeds={goals.margin:g}: {metric} "
                f"{value_text(mean_of(done, metric))}, the best trial {value_text(best)}"
            )

    def _fail(self, trial: Trial, error: Exception, made: TrialConfig | None) -> None:
        """Record why a trial failed, in the study and in the run folder."""
        failure = failure_of(error)
        log.error("trial %d failed: %s", trial.number, failure.reason)
        if made is not None:
            words = [str(one) for one in made.whole.hydra.overrides.task]
            folder_of(made.config).keep_failure(asdict(made.config), words, failure)
        self.search.drop(trial, REASON, failure.reason)
