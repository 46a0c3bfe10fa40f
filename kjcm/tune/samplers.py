"""Samplers of a study: Optuna's samplers with a seed per trial, so that processes need not communicate."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from kjcm.tune.space import Value, points

# Attributes of trials that repeat a stopped trial, have another trial's values, or exceed `trials`.
AGAIN, SAME, SURPLUS = "again", "same", "surplus"


def is_new(trial: FrozenTrial) -> bool:
    """Return whether a trial counts towards `trials`: it repeats no other trial and is not surplus."""
    return not {AGAIN, SAME, SURPLUS} & set(trial.user_attrs)


def rank(study: Study, number: int) -> int:
    """Return how many trials before trial `number` count towards `trials`."""
    return sum(is_new(trial) and trial.number < number for trial in _every(study))


def origin(study: Study, number: int) -> int:
    """Return the number of the first trial that trial `number` repeats, directly or indirectly, or its own number."""
    every = _every(study)
    while AGAIN in every[number].user_attrs:
        number = every[number].user_attrs[AGAIN]
    return number


def _every(study: Study) -> list[FrozenTrial]:
    """Return all trials, because Hyperband shows a sampler only the trials of one bracket."""
    return study._storage.get_all_trials(study._study_id, deepcopy=False)


class Numbered(BaseSampler):
    """A sampler that is rebuilt for each trial from the study's seed and the number of earlier draws.

    Two processes therefore never share a seed, and a resumed study draws the values of an uninterrupted study. A trial
    that repeats an interrupted trial is not a draw.

    Args:
        make: function that returns the sampler for a seed.
        seed: seed of the study.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self._make, self._seed = make, seed
        self._now = make(seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Build the trial's sampler."""
        first = origin(study, trial.number)
        draws = sum(AGAIN not in other.user_attrs for other in _every(study)[:first])
        seed = np.random.SeedSequence([self._seed, draws]).generate_state(1)[0]
        self._now = self._make(int(seed))
        self._now.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Call the trial's sampler."""
        return self._now.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Call the trial's sampler."""
        return self._now.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Call the trial's sampler."""
        return self._now.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Call the trial's sampler."""
        self._now.after_trial(study, trial, state, values)


class Grid(BaseSampler):
    """Propose every combination once, in an order drawn from the seed.

    Optuna's GridSampler ends a study only within `optimize`, and two processes may propose the same point.
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution], seed: int) -> None:
        found = list(product(*(points(key, one) for key, one in distributions.items())))
        self._keys = list(distributions)
        order = np.random.default_rng(seed).permutation(len(found))
        self._points: list[tuple[Value, ...]] = [found[place] for place in order]

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return nothing; `sample_independent` looks up each key."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return nothing; `sample_independent` looks up each key."""
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return the key's value in the trial's combination."""
        return self._points[rank(study, origin(study, trial.number)) % len(self._points)][self._keys.index(param_name)]


def sampler_of(name: str, seed: int, startup: int, distributions: Mapping[str, BaseDistribution]) -> BaseSampler:
    """Return the sampler that a config names; `startup` is the number of random trials before TPE."""
    if name == "grid":
        return Grid(distributions, seed)
    if name == "random":
        return Numbered(lambda own: RandomSampler(seed=own), seed)
    return Numbered(lambda own: TPESampler(seed=own, n_startup_trials=startup, constant_liar=True), seed)


def pruner_of(name: str, epochs: int, after: int, least: int) -> BasePruner:
    """Return the pruner that a config names.

    Args:
        name: median, hyperband, asha or none.
        epochs: largest number of epochs of a trial.
        after: finished trials before the first trial is pruned (median).
        least: epochs that every trial runs before it can be pruned.
    """
    if name == "median":
        return MedianPruner(n_startup_trials=after, n_warmup_steps=least)
    if name == "hyperband":
        return HyperbandPruner(min_resource=least, max_resource=max(epochs, least))
    return SuccessiveHalvingPruner(min_resource=least) if name == "asha" else NopPruner()
