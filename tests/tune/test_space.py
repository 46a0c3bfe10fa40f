"""A search space: what can be drawn, what is refused, and values as words of a command."""

from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from kjcm.errors import ConfigError
from kjcm.keys.overrides import override
from kjcm.tune.space import combinations, distributions_of, ends, points


def test_keys_may_stand_one_within_another_or_dotted() -> None:
    space = {
        "optim": {"lr": {"low": 1e-4, "high": 1e-2, "log": True}, "clip": None, "warmup": {"choices": [0.0, 0.1]}},
        "data.batch_size": [32, 64],
        "trainer": {"max_epochs": {"low": 2, "high": 8, "step": 2}},
        "model": ["tiny"],
    }
    found = distributions_of(space)
    assert found == {
        "data.batch_size": CategoricalDistribution([32, 64]),
        "model": CategoricalDistribution(["tiny"]),
        "optim.lr": FloatDistribution(1e-4, 1e-2, log=True),
        "optim.warmup": CategoricalDistribution([0.0, 0.1]),
        "trainer.max_epochs": IntDistribution(2, 8, step=2),
    }
    assert list(found) == sorted(found)


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({}, "empty"),
        ({"optim": {"lr": None}}, "empty"),
        ({"data": {"validation": [0.1, 0.2]}}, "data.validation"),
        ({"data": {"cutoff": [10, 100]}}, "data.cutoff"),
        ({"cutoff": ["10"]}, "'cutoff' cannot be searched"),
        ({"evaluate": [True]}, "evaluate"),
        ({"trainer": {"devices": [1, 2]}}, "trainer.devices"),
        ({"optim": {"lr": 0.1}}, "optim.lr: give a list"),
        ({"optim": {"lr": {"low": 0.1}}}, "optim.lr: give a list"),
        ({"optim": {"lr": {"low": "a", "high": 1}}}, "must be numbers"),
        ({"optim": {"lr": {"low": 1, "high": 1}}}, "less than high"),
        ({"optim": {"lr": {"low": 0.0, "high": 1.0, "log": True}}}, "low above 0"),
        ({"optim": {"lr": {"low": 0.1, "high": 1.0, "log": True, "step": 0.1}}}, "no step"),
        ({"optim": {"lr": []}}, "at least one"),
        ({"optim": {"lr": [[1]]}}, "texts, numbers"),
        ({"optim": {"lr": [0.1, 0.1]}}, "twice"),
    ],
)
def test_what_cannot_be_searched_is_refused(space: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        distributions_of(space)


def test_points_and_ends() -> None:
    found = distributions_of(
        {"a": [1, None, "x"], "b": {"low": 1, "high": 5, "step": 2}, "c": {"low": 0.0, "high": 0.2, "step": 0.1},
         "d": {"low": 1, "high": 8, "log": True}, "e": {"low": 0.1, "high": 1.0}}
    )  # fmt: skip
    assert points("a", found["a"]) == ends(found["a"]) == [1, None, "x"]
    assert points("b", found["b"]) == [1, 3, 5] and ends(found["b"]) == [1, 5]
    assert points("c", found["c"]) == pytest.approx([0.0, 0.1, 0.2])
    for key in "de":
        with pytest.raises(ConfigError, match=f"choices or a step for {key}"):
            points(key, found[key])


@pytest.mark.parametrize(
    "value",
    [1, 1e-05, 0.1 + 0.2, True, None, "10", "a b", "none", "NaN", "null", "klue/bert-base", "it's", "${model.lr}"],
)
def test_values_are_words_that_hydra_reads_back(value: Any) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    assert OverridesParser.create().parse_override(override("key", value)).value() == value


def test_combinations_are_counted_not_made() -> None:
    space = {"seed": {"low": 0, "high": 2**31 - 1}, "a": [1, 2, 3], "b": {"low": 0.0, "high": 1.0, "step": 0.25}}
    assert combinations(distributions_of(space)) == 2**31 * 3 * 5
    assert combinations(distributions_of({**space, "x": {"low": 0.0, "high": 1.0}})) is None
    assert combinations(distributions_of({"n": {"low": 1, "high": 8, "log": True}})) is None
