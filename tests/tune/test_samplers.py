"""Samplers: seeded trial by trial, so that processes draw apart and a study that goes on draws as one that never stopped."""

from typing import Any

import optuna
import pytest
from optuna import Study
from optuna.trial import TrialState

from kjcm.tune.samplers import AGAIN, pruner_of, sampler_of
from kjcm.tune.space import distributions_of

optuna.logging.set_verbosity(optuna.logging.WARNING)
SPACE = distributions_of({"x": {"low": 0.0, "high": 1.0}, "n": [1, 2, 3]})
FEW = distributions_of({"a": [1, 2, 3], "b": ["x", "y"]})


def value(params: dict[str, Any]) -> float:
    return float(params["x"] * params["n"])


def proposals(study: Study, count: int) -> list[dict[str, Any]]:
    found = []
    for _ in range(count):
        trial = study.ask(dict(SPACE))
        found.append(trial.params)
        study.tell(trial, value(trial.params))
    return found


@pytest.mark.parametrize("name", ["random", "tpe"])
def test_a_study_that_goes_on_draws_as_one_that_never_stopped(name: str) -> None:
    whole = proposals(optuna.create_study(sampler=sampler_of(name, 3, 4, SPACE)), 12)
    storage = optuna.storages.InMemoryStorage()
    parts: list[dict[str, Any]] = []
    for count in (5, 1, 6):  # each with a sampler of its own, as in another process
        study = optuna.create_study(
            storage=storage, study_name="s", sampler=sampler_of(name, 3, 4, SPACE), load_if_exists=True
        )
        parts += proposals(study, count)
    assert parts == whole
    assert len({params["x"] for params in whole}) == 12
    # stopped within a trial, which another then repeats
    study = optuna.create_study(sampler=sampler_of(name, 3, 4, SPACE))
    parts = proposals(study, 5)
    left = study.ask(dict(SPACE))
    study.tell(left, state=TrialState.FAIL)
    study.enqueue_trial(left.params, user_attrs={AGAIN: left.number})
    assert parts + proposals(study, 7) == whole
    assert proposals(optuna.create_study(sampler=sampler_of(name, 4, 4, SPACE)), 12) != whole


def test_tpe_learns_from_what_was_told() -> None:
    study = optuna.create_study(sampler=sampler_of("tpe", 0, 10, SPACE))
    found = [value(params) for params in proposals(study, 60)]
    assert sum(found[-20:]) < 0.5 * sum(found[:20])


@pytest.mark.parametrize("pruner", ["none", "hyperband"])
def test_a_grid_has_every_combination_once_in_an_order_of_the_seed(pruner: str) -> None:
    orders = []
    for seed in (0, 1):
        study = optuna.create_study(sampler=sampler_of("grid", seed, 0, FEW), pruner=pruner_of(pruner, 8, 0, 1))
        found = [study.ask(dict(FEW)) for _ in range(6)]  # none is told: all are at work at once
        orders.append([tuple(trial.params.values()) for trial in found])
    assert sorted(orders[0]) == sorted(orders[1]) == sorted((a, b) for a in (1, 2, 3) for b in ("x", "y"))
    assert orders[0] != orders[1]


def test_a_grid_point_is_begun_again_where_it_was_left_before_it_had_its_values() -> None:
    study = optuna.create_study(sampler=sampler_of("grid", 0, 0, FEW))
    left = study.ask()
    second = study.ask(dict(FEW))
    study.tell(left, state=TrialState.FAIL)
    study.enqueue_trial({}, user_attrs={AGAIN: left.number})
    again = study.ask(dict(FEW))
    rest = [study.ask(dict(FEW)) for _ in range(4)]
    assert len({tuple(trial.params.values()) for trial in (second, again, *rest)}) == 6


@pytest.mark.parametrize("name", ["median", "hyperband", "asha", "none"])
def test_pruners_end_what_does_worse_and_only_that(name: str) -> None:
    study = optuna.create_study(direction="maximize", pruner=pruner_of(name, 8, 4, 2))
    ended = []
    for number in range(24):
        trial = study.ask()
        good = number % 3 == 0
        for epoch in range(1, 9):
            trial.report(epoch * (1.0 if good else 0.1) + number * 1e-3, epoch)
            if trial.should_prune():
                ended.append((number, good, epoch))
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            study.tell(trial, 8.0 if good else 0.8)
    assert bool(ended) == (name != "none")
    assert all(epoch >= 2 for _, _, epoch in ended)
    assert sum(good for _, good, _ in ended) <= len(ended) / 4
    if name == "median":
        assert ended[0][0] >= 4 and not any(good for _, good, _ in ended)
