"""What proposes a trial's values: Optuna's samplers, seeded trial by trial so that processes need not know of each other."""

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

# Attributes of trials that go on where another was left, that have the values of another, and that are one too many.
AGAIN, SAME, SURPLUS = "again", "same", "surplus"


def is_new(trial: FrozenTrial) -> bool:
    """Return whether a trial counts among those wanted: it neither repeats another nor is one too many."""
    return not {AGAIN, SAME, SURPLUS} & set(trial.user_attrs)


def rank(study: Study, number: int) -> int:
    """Return how many of the trials wanted were begun before trial `number`; the storage numbers them one by one."""
    return sum(is_new(trial) and trial.number < number for trial in _every(study))


def origin(study: Study, number: int) -> int:
    """Return the number of the trial that trial `number` goes on with, perhaps after others: its own where with none."""
    every = _every(study)
    while AGAIN in every[number].user_attrs:
        number = every[number].user_attrs[AGAIN]
    return number


def _every(study: Study) -> list[FrozenTrial]:
    """Return all trials: Hyperband shows a sampler those of one bracket alone."""
    return study._storage.get_all_trials(study._study_id, deepcopy=False)


class Numbered(BaseSampler):
    """A sampler made anew for each trial from the study's seed and the number of draws before it.

    So two processes never draw alike, and a study that goes on draws as one that never stopped: a trial that repeats one
    that was left is no draw.

    Args:
        make: gives the sampler of a seed.
        seed: the study's.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self._make, self._seed = make, seed
        self._now = make(seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Make the trial's own sampler."""
        first = origin(study, trial.number)
        draws = sum(AGAIN not in other.user_attrs for other in _every(study)[:first])
        seed = np.random.SeedSequence([self._seed, draws]).generate_state(1)[0]
        self._now = self._make(int(seed))
        self._now.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """As the trial's own sampler does."""
        return self._now.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As the trial's own sampler does."""
        return self._now.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """As the trial's own sampler does."""
        return self._now.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """As the trial's own sampler does."""
        self._now.after_trial(study, trial, state, values)


class Grid(BaseSampler):
    """Every combination once, in an order drawn from the seed.

    Optuna's own ends a study from within `optimize` alone, and two processes may take the same point of it.
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution], seed: int) -> None:
        found = list(product(*(points(key, one) for key, one in distributions.items())))
        self._keys = list(distributions)
        order = np.random.default_rng(seed).permutation(len(found))
        self._points: list[tuple[Value, ...]] = [found[place] for place in order]

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Nothing: each key is looked up."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing: each key is looked up."""
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return the key's value in the combination whose turn it is."""
        return self._points[rank(study, origin(study, trial.number)) % len(self._points)][self._keys.index(param_name)]


def sampler_of(name: str, seed: int, startup: int, distributions: Mapping[str, BaseDistribution]) -> BaseSampler:
    """Return the sampler that a config names; startup: random trials before TPE."""
    if name == "grid":
        return Grid(distributions, seed)
    if name == "random":
        return Numbered(lambda own: RandomSampler(seed=own), seed)
    return Numbered(lambda own: TPESampler(seed=own, n_startup_trials=startup, constant_liar=True), seed)


def pruner_of(name: str, epochs: int, after: int, least: int) -> BasePruner:
    """Return the pruner that a config names.

    Args:
        name: median, hyperband, asha or none.
        epochs: the most that a trial trains.
        after: finished trials before the first is pruned (median).
        least: epochs that every trial gets.
    """
    if name == "median":
        return MedianPruner(n_startup_trials=after, n_warmup_steps=least)
    if name == "hyperband":
        return HyperbandPruner(min_resource=least, max_resource=max(epochs, least))
    return SuccessiveHalvingPruner(min_resource=least) if name == "asha" else NopPruner()
