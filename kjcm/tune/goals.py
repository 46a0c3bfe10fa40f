"""What judges a study's trials: metrics, constraints and seeds; and which settings define a study."""

import hashlib
import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, distribution_to_json

from kjcm.errors import ConfigError, some
from kjcm.keys.commands.search import SpeedConfig, TuneConfig
from kjcm.keys.commands.train import TrainConfig
from kjcm.keys.key import own_keys
from kjcm.keys.overrides import literal
from kjcm.metrics import MEASURED, METRICS, metric_of
from kjcm.run_folder.folder import identity_of

# These settings define a study, together with the base config, the space and the contents of the input files.
DEFINING = ("metric", "direction", "sampler", "sampler_seed", "startup", "pruner", "prune_after", "prune_from")
# Keys that earlier versions did not have: they define a study only where they have another value than `legacy`.
FURTHER = ("objectives", "constraints", "seeds_per_trial", "over_seeds", "standard_errors", "prune_seeds", "tail_share")
LIMIT = re.compile(r"(>=|<=)\s*([-+.\de]+)", re.I)
BY_SEEDS = ("seed", "seeds")  # keys that a study with several seeds a trial sets itself
LARGEST_SEED = 2**32 - 1

Seed = Mapping[str, Any]  # a finished training of a trial: its seed, its run folder's name, and its metrics


@dataclass(frozen=True)
class Constraint:
    """A limit of a metric.

    Attributes:
        metric: its name.
        sign: `>=` or `<=`.
        limit: the least or the greatest value that is allowed.
    """

    metric: str
    sign: str
    limit: float

    def excess(self, value: float) -> float:
        """Return by how much a value misses the limit; 0 or less if it meets the limit."""
        return self.limit - value if self.sign == ">=" else value - self.limit

    def __str__(self) -> str:
        return f"{self.metric} {self.sign} {self.limit:g}"


@dataclass(frozen=True)
class Goals:
    """What judges a study's trials.

    Attributes:
        metrics: the metric to optimise, or the two metrics of a Pareto search.
        directions: `maximize` or `minimize`, for each of these metrics.
        constraints: the limits that a trial must meet.
        seeds: the seeds of a trial's trainings.
        errors: standard errors by which the mean over seeds is made worse; 0: the mean counts.
        margin: standard errors by which a trial may miss the best trial before its other seeds are left out; None: any.
        prune_after: finished trials before the first trial's other seeds are left out.
    """

    metrics: tuple[str, ...]
    directions: tuple[str, ...]
    constraints: tuple[Constraint, ...] = ()
    seeds: tuple[int, ...] = (0,)
    errors: float = 0.0
    margin: float | None = None
    prune_after: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics of the objectives and the constraints, each once."""
        return tuple(dict.fromkeys((*self.metrics, *(one.metric for one in self.constraints))))

    @property
    def is_pareto(self) -> bool:
        """Whether the study has two objectives."""
        return len(self.metrics) > 1

    @property
    def many_seeds(self) -> bool:
        """Whether a trial has several trainings."""
        return len(self.seeds) > 1

    def objectives(self, seeds: Sequence[Seed]) -> list[float]:
        """Return a trial's value of each objective: the mean over its seeds, or the bound of the mean."""
        found = []
        for metric, direction in zip(self.metrics, self.directions, strict=True):
            values = [seed[metric] for seed in seeds]
            error = self.errors * float(np.std(values, ddof=1)) / math.sqrt(len(values)) if self.errors else 0.0
            found.append(mean_of(seeds, metric) + (error if direction == "minimize" else -error))
        return found

    def excesses(self, seeds: Sequence[Seed]) -> dict[str, float]:
        """Return constraint -> by how much a trial's mean over seeds misses the limit; 0 or less if it meets the limit."""
        return {str(one): one.excess(mean_of(seeds, one.metric)) for one in self.constraints}

    def shortfall(self, own: Sequence[float], others: Sequence[Sequence[float]], best: float | None) -> float | None:
        """Return the standard errors by which a trial's first seeds miss the best trial's value; None if unknown.

        The SD over seeds is pooled over all trials. With k of n seeds done, the mean of all n differs from the mean of the
        first k by a normal variable with SD * sqrt(1 / k - 1 / n).

        Args:
            own: the metric of the trial's finished seeds, fewer than all.
            others: the metric of the seeds of each completed trial.
            best: the best trial's value.
        """
        every = [*others, own]
        freedom = sum(len(values) - 1 for values in every)
        if best is None or len(others) < max(self.prune_after, 1) or not freedom:
            return None
        spread = math.sqrt(sum(float(np.var(values)) * len(values) for values in every) / freedom)
        error = spread * math.sqrt(1 / len(own) - 1 / len(self.seeds))
        missing = (best - float(np.mean(own))) * (1 if self.directions[0] == "maximize" else -1)
        return missing / error if error else math.copysign(math.inf, missing) if missing else 0.0


def mean_of(seeds: Sequence[Seed], metric: str) -> float:
    """Return a metric's mean over a trial's seeds."""
    return float(np.mean([seed[metric] for seed in seeds]))


def goals_of(config: TuneConfig, first_seed: int) -> Goals:
    """Return what judges the trials of a study; `first_seed` is the seed of each trial's first training.

    Raises:
        ConfigError: a metric is unknown, or a key of the goals is not usable.
    """
    metrics = tuple(config.objectives) or (config.metric,)
    if config.objectives and len(set(metrics)) != 2:
        raise ConfigError(f"objectives={literal(config.objectives)}: give two different metrics, or [].")
    given = None if config.objectives else config.direction
    name = "objectives" if config.objectives else "metric"
    directions = tuple(direction_of(metric, given, config.metrics, name) for metric in metrics)
    if config.over_seeds == "bound" and config.seeds_per_trial == 1:
        raise ConfigError("over_seeds=bound needs several seeds. Set seeds_per_trial to 2 or more.")
    seeds = tuple(range(first_seed, first_seed + config.seeds_per_trial))
    if seeds[-1] > LARGEST_SEED:
        raise ConfigError(f"seed={first_seed}: with seeds_per_trial={len(seeds)} use at most {LARGEST_SEED}.")
    prunes = config.pruner != "none" and not config.objectives
    return Goals(
        metrics=metrics,
        directions=directions,
        constraints=_constraints(config.constraints or {}, config.metrics),
        seeds=seeds,
        errors=config.standard_errors if config.over_seeds == "bound" else 0.0,
        margin=config.prune_seeds if prunes else None,
        prune_after=config.prune_after,
    )


def direction_of(metric: str, given: str | None, own_metrics: Collection[str] = (), key: str = "metric") -> str:
    """Return the direction of the search: `given`, or else the metric's own direction.

    Args:
        metric: the metric.
        given: `maximize`, `minimize` or None.
        own_metrics: metrics of the user's own.
        key: config key that names the metric, for messages.

    Raises:
        ConfigError: the metric is unknown, or `given` contradicts the direction of one of kjcm's metrics.
    """
    ours = (*METRICS, *MEASURED)
    if metric not in (known := [*ours, *own_metrics]):
        raise ConfigError(f"{key}={metric}: choose one of {', '.join(known)}, or define it in `metrics`.")
    own = "minimize" if metric_of(metric).lower_is_better else "maximize"
    if given not in (None, own) and metric in ours:
        raise ConfigError(f"direction={given}: metric={metric} needs direction={own}.")
    return given or own


def _constraints(given: Any, own_metrics: Collection[str]) -> tuple[Constraint, ...]:
    """Return the constraints of a config.

    Raises:
        ConfigError: they are no mapping of known metrics to limits.
    """
    example = "'constraints={f1_tail: \">=0.2\"}'"
    if not isinstance(given, Mapping):
        raise ConfigError(f"constraints={given}: give metrics and limits, as {example}.")
    found = []
    for metric, limit in given.items():
        direction_of(metric, None, own_metrics, "constraints, metric")
        parts = LIMIT.fullmatch(str(limit).strip())
        try:
            found.append(Constraint(metric, parts[1], float(parts[2])) if parts else None)
        except ValueError:
            found.append(None)
        if found[-1] is None:
            raise ConfigError(
                f"constraints, {metric}: {limit!r} is no limit. Give >= or <= and a number, as {example}."
            )
    return tuple(one for one in found if one)


def require_free_seeds(goals: Goals, searched: Collection[str]) -> None:
    """Raise ConfigError if a study with several seeds a trial searches a seed."""
    if goals.many_seeds and (keys := [key for key in searched if key.split(".")[0] in BY_SEEDS]):
        raise ConfigError(
            f"space: {some(keys)} cannot be searched with seeds_per_trial={len(goals.seeds)}, which sets the seeds. Remove "
            "the key, or set seeds_per_trial=1."
        )


def settings_of(config: TuneConfig, goals: Goals) -> dict[str, Any]:
    """Return the settings of a search for its record; keys that earlier versions did not have only where they differ."""
    how = {key: getattr(config, key) for key in DEFINING}
    if goals.is_pareto:
        del how["metric"], how["direction"]
        how["pruner"] = "none"
    else:
        how["direction"] = goals.directions[0]
    return {**how, **_further(config)}


def _further(config: TuneConfig) -> dict[str, Any]:
    """Return the settings that earlier versions did not have and that differ from their behaviour."""
    keys = own_keys(TuneConfig)
    found = {key: getattr(config, key) for key in FURTHER if getattr(config, key) != keys[key].legacy}
    speed = {
        name: getattr(config.speed, name)
        for name, key in own_keys(SpeedConfig).items()
        if getattr(config.speed, name) != key.legacy
    }
    return found | ({"speed": speed} if speed else {})


def definition_of(
    config: TuneConfig, goals: Goals, first: TrainConfig, distributions: dict[str, BaseDistribution]
) -> str:
    """Return the hash of all settings that affect a study's trials, except the number of trials.

    Args:
        config: the resolved config of `kjcm tune`.
        goals: what judges the trials.
        first: the resolved config that all trials share.
        distributions: key -> distribution of its values.
    """
    space = {key: distribution_to_json(one) for key, one in distributions.items()}
    how = {key: getattr(config, key) for key in DEFINING} | {"direction": goals.directions[0]} | _further(config)
    whole = [identity_of(asdict(first)).hash, space, how]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
