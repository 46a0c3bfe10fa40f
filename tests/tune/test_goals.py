"""What judges trials: means and bounds over seeds, constraints, the rule that ends a trial between seeds, the study's hash."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.study import StudyDirection

from kjcm.errors import ConfigError
from kjcm.keys.commands.search import TuneConfig
from kjcm.tune.goals import Constraint, Goals, definition_of, goals_of, require_free_seeds, settings_of
from kjcm.tune.results import best_trials, state_of
from kjcm.tune.space import distributions_of
from kjcm.tune.trial_config import train_command, trial_overrides
from tests.conftest import config_of

SEEDS = [{"seed": 0, "loss": 1.0, "accuracy": 0.5}, {"seed": 1, "loss": 3.0, "accuracy": 0.7}]


def config(*words: str) -> TuneConfig:
    found: TuneConfig = config_of("tune", *words)
    return found


def test_a_trials_value_is_the_mean_or_the_worse_bound() -> None:
    mean = Goals(("accuracy", "loss"), ("maximize", "minimize"), seeds=(0, 1))
    assert mean.objectives(SEEDS) == pytest.approx([0.6, 2.0])
    error = np.std([0.5, 0.7], ddof=1) / math.sqrt(2)
    assert replace(mean, errors=2.0).objectives(SEEDS) == pytest.approx([0.6 - 2 * error, 2.0 + 20 * error])


@pytest.mark.parametrize(
    ("sign", "limit", "value", "excess"), [(">=", 0.2, 0.3, -0.1), (">=", 0.2, 0.1, 0.1), ("<=", 5.0, 7.0, 2.0)]
)
def test_a_constraint_is_missed_by_its_excess(sign: str, limit: float, value: float, excess: float) -> None:
    goals = Goals(("loss",), ("minimize",), (Constraint("x", sign, limit),))
    assert goals.excesses([{"x": value - 1}, {"x": value + 1}]) == {f"x {sign} {limit:g}": pytest.approx(excess)}


def shortfall(own: Sequence[float], direction: str = "maximize", best: float | None = 0.8, after: int = 1) -> Any:
    goals = Goals(("accuracy",), (direction,), seeds=(0, 1, 2, 3), margin=2.0, prune_after=after)
    return goals.shortfall(own, [[0.79, 0.81, 0.79, 0.81], [0.59, 0.61, 0.59, 0.61]], best)


def test_between_seeds_a_trial_is_compared_with_the_best_in_standard_errors() -> None:
    """By hand: the pooled SD of the two trials is 0.02 / sqrt(3), and of the third its own seeds join in."""
    spread = math.sqrt(8 * 0.01**2 / 6)
    assert shortfall([0.7]) == pytest.approx(0.1 / (spread * math.sqrt(1 - 1 / 4)))
    assert shortfall([0.7], "minimize") == pytest.approx(-shortfall([0.7]))
    pooled = math.sqrt((8 * 0.01**2 + 2 * 0.05**2) / 7)
    assert shortfall([0.65, 0.75]) == pytest.approx(0.1 / (pooled * math.sqrt(1 / 2 - 1 / 4)))
    assert shortfall([0.7], best=None) is None and shortfall([0.7], after=3) is None
    alike = Goals(("accuracy",), ("maximize",), seeds=(0, 1))
    assert alike.shortfall([0.7], [[0.8, 0.8]], 0.8) == math.inf and alike.shortfall([0.8], [[0.8, 0.8]], 0.8) == 0


def test_the_goals_of_a_config() -> None:
    found = goals_of(config("seeds_per_trial=3", "constraints={f1_tail: '>= 0.2', loss: '<=2e1'}"), 4)
    assert found.metrics == ("f1_weighted",) and found.directions == ("maximize",) and found.seeds == (4, 5, 6)
    assert found.constraints == (Constraint("f1_tail", ">=", 0.2), Constraint("loss", "<=", 20.0))
    assert found.names == ("f1_weighted", "f1_tail", "loss")
    assert (found.errors, found.margin, found.prune_after) == (0.0, 2.0, 5)
    bound = goals_of(config("seeds_per_trial=2", "over_seeds=bound", "standard_errors=1.5", "pruner=none"), 0)
    assert (bound.errors, bound.margin) == (1.5, None)
    pareto = goals_of(config("objectives=[accuracy,seconds_per_1000_rows]"), 0)
    assert pareto.is_pareto and pareto.directions == ("maximize", "minimize") and pareto.margin is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("objectives=[loss]",), "give two different metrics"),
        (("objectives=[loss,loss]",), "give two different metrics"),
        (("objectives=[loss,speed]",), "objectives=speed: choose one of loss"),
        (("constraints=x",), "constraints=x: give metrics and limits"),
        (("constraints={speed: '<=1'}",), "constraints, metric=speed"),
        (("constraints={loss: 1}",), "constraints, loss: 1 is no limit"),
        (("constraints={loss: '<1'}",), "is no limit"),
        (("constraints={loss: '<=1e'}",), "is no limit"),
        (("over_seeds=bound",), "Set seeds_per_trial"),
        (("seeds_per_trial=2", "seed=4294967295"), "use at most 4294967295"),
    ],
)
def test_goals_that_cannot_be_are_refused(words: tuple[str, ...], message: str) -> None:
    made = config(*words)
    with pytest.raises(ConfigError, match=message):
        goals_of(made, made.seed)


def test_a_seed_is_not_searched_and_averaged_at_once() -> None:
    goals = Goals(("loss",), ("minimize",), seeds=(0, 1))
    for key in ("seed", "seeds.init"):
        with pytest.raises(ConfigError, match=f"{key}.* cannot be searched with seeds_per_trial=2"):
            require_free_seeds(goals, ["optim.lr", key])
    require_free_seeds(replace(goals, seeds=(0,)), ["seed"])


def test_each_training_of_a_trial_has_its_seed_and_the_command_has_all() -> None:
    base = ["experiment=k_jcm", "seed=4"]
    assert trial_overrides(base, {"a": 1}) == [*base, "a=1"]
    assert trial_overrides(base, {"a": 1}, 5) == ["experiment=k_jcm", "a=1", "seed=5"]
    assert train_command(base, {"a": 1}, (4, 5)) == "kjcm train -m experiment=k_jcm a=1 seed=4,5"


def hash_of(*words: str) -> str:
    made = config(*words, "tune=none")
    first: Any = config_of("train", "data.validation=0.1")
    return definition_of(made, goals_of(made, 0), first, distributions_of({"optim.lr": [0.1, 0.2]}))


def test_keys_at_their_old_behaviour_leave_the_hash_of_an_earlier_versions_study() -> None:
    """Each other value defines another study; the order of the keys does not count."""
    further = [
        (), ("seeds_per_trial=2",), ("seeds_per_trial=2", "over_seeds=bound"), ("seeds_per_trial=2", "prune_seeds=1"),
        ("objectives=[loss,seconds_per_1000_rows]",), ("metric=f1_tail", "tail_share=0.5"),
        ("metric=seconds_per_1000_rows", "speed.rows=9"), ("constraints={loss: '<=1'}",), ("constraints={loss: '<=2'}",),
    ]  # fmt: skip
    assert len({hash_of(*words) for words in further}) == len(further)
    assert set(settings_of(config(), goals_of(config(), 0))) == {
        "metric", "direction", "sampler", "sampler_seed", "startup", "pruner", "prune_after", "prune_from",
    }  # fmt: skip
    pareto = config("objectives=[loss,accuracy]")
    found = settings_of(pareto, goals_of(pareto, 0))
    assert found["objectives"] == ["loss", "accuracy"] and found["pruner"] == "none" and "metric" not in found


def test_an_infeasible_trial_is_never_the_best() -> None:
    study = optuna.create_study(directions=[StudyDirection.MAXIMIZE])
    for value, excess in ((0.9, 0.1), (0.5, 0.0), (0.6, -0.1)):
        trial = study.ask()
        trial.set_constraint("f1_tail >= 0.2", excess)
        study.tell(trial, value)
    assert [state_of(trial) for trial in study.trials] == ["infeasible", "complete", "complete"]
    assert [trial.number for trial in best_trials(study)] == [2]
    two = optuna.create_study(directions=[StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE])
    for values, excess in (((0.9, 1.0), 1.0), ((0.5, 2.0), 0.0), ((0.4, 3.0), 0.0), ((0.6, 4.0), 0.0)):
        trial = two.ask()
        trial.set_constraint("x", excess)
        two.tell(trial, values)
    assert [trial.number for trial in best_trials(two)] == [3, 1]
