"""Search spaces: config keys and their possible values."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, Trial

from kjcm.errors import ConfigError, some
from kjcm.keys.identity import WHERE_AND_HOW
from kjcm.keys.overrides import literal

EXAMPLE = "tune=none '+space.optim.lr={low: 1e-5, high: 1e-3, log: true}' '+space.data.batch_size=[32,64]'"
OF_A_RANGE = ("low", "high", "log", "step")
MOST_STEPS = 10**9  # in a range of fractions
# Keys that change the rows which judge a trial, that do not affect the result, or that the search sets itself.
ROWS = ("data", "cutoff", "classification", "preset", "experiment")
BARRED = (*ROWS, "evaluate", *WHERE_AND_HOW)
FREE = ("data.batch_size", "seed", "model.lr")  # exceptions to BARRED
Value = str | int | float | bool | None


def distributions_of(space: Mapping[str, Any]) -> dict[str, BaseDistribution]:
    """Return key -> Optuna's distribution of its values.

    Args:
        space: keys as in a config, nested or dotted. Each key has a list, {choices: [...]}, {low, high, log, step},
            or null (not searched).

    Raises:
        ConfigError: the space is empty, a key cannot be searched, or an entry is not a distribution.
    """
    entries = dict(_entries(space))
    if not entries:
        raise ConfigError(f"The search space is empty. Choose a space, such as tune=default, or add keys: {EXAMPLE}.")
    barred = [key for key in entries if key not in FREE and any(f"{key}.".startswith(f"{other}.") for other in BARRED)]
    if barred:
        raise ConfigError(
            f"space: {some(barred)} cannot be searched, because each trial must run in the same way on the same rows. "
            "Remove the key."
        )
    return {key: _distribution(key, entry) for key, entry in sorted(entries.items())}


def _entries(node: Mapping[str, Any], lead: str = "") -> Iterator[tuple[str, Any]]:
    for key, entry in node.items():
        if isinstance(entry, Mapping) and not {*OF_A_RANGE, "choices"} & set(entry):
            yield from _entries(entry, f"{lead}{key}.")
        elif entry is not None:
            yield f"{lead}{key}", entry


def _distribution(key: str, entry: Any) -> BaseDistribution:
    if isinstance(entry, Mapping) and set(entry) == {"choices"}:
        entry = entry["choices"]
    if isinstance(entry, Sequence) and not isinstance(entry, str):
        return _choices(key, entry)
    if not isinstance(entry, Mapping) or not {"low", "high"} <= set(entry) <= {*OF_A_RANGE}:
        raise ConfigError(
            f"space, {key}: give a list of choices, or low and high with log or step, for example {EXAMPLE}."
        )
    low, high, step, log = entry["low"], entry["high"], entry.get("step"), entry.get("log", False)
    numbers = [low, high] if step is None else [low, high, step]
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
        raise ConfigError(f"space, {key}: low, high and step must be numbers; found {some(numbers)}.")
    if not isinstance(log, bool) or not low < high or (step is not None and step <= 0) or (log and low <= 0):
        given = ", ".join(f"{name}: {value}" for name, value in entry.items())
        raise ConfigError(
            f"space, {key}: low must be less than high, step above 0, and with log: true low above 0; found {{{given}}}."
        )
    if log and step is not None:
        raise ConfigError(f"space, {key}: a log range has no step. Remove log or step, or give choices.")
    if all(isinstance(number, int) for number in numbers):
        return IntDistribution(low, high, log=log, step=step or 1)
    if step is not None and not (high - low) / MOST_STEPS <= step < math.inf:
        raise ConfigError(
            f"space, {key}: step={step} makes more than {MOST_STEPS:,} values, or none. Choose another step."
        )
    return FloatDistribution(float(low), float(high), log=log, step=step)


def _choices(key: str, values: Sequence[Any]) -> CategoricalDistribution:
    if not values or not all(value is None or isinstance(value, str | int | float | bool) for value in values):
        raise ConfigError(f"space, {key}: choices must be texts, numbers, true, false or null. Give at least one.")
    if len({literal(value) for value in values}) < len(values):
        raise ConfigError(f"space, {key}: {some(values)} has a choice twice. Remove one.")
    return CategoricalDistribution(list(values))


def ends(distribution: BaseDistribution) -> list[Value]:
    """Return the values to check in advance: all choices, or both ends of a range."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return [distribution.low, distribution.high]


def points(key: str, distribution: BaseDistribution) -> list[Value]:
    """Return every value of a key.

    Raises:
        ConfigError: the values cannot be counted.
    """
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    count = _count(distribution)
    if count is None:
        raise ConfigError(f"sampler=grid needs choices or a step for {key}. Give them, or use sampler=tpe.")
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return [distribution.low + place * (distribution.step or 1) for place in range(count)]


def combinations(distributions: Mapping[str, BaseDistribution]) -> int | None:
    """Return the number of combinations of a space; None if they cannot be counted."""
    counts = [_count(one) for one in distributions.values()]
    return None if None in counts else math.prod(count for count in counts if count is not None)


def _count(distribution: BaseDistribution) -> int | None:
    """Return the number of values; None if they cannot be counted."""
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return None if distribution.log else len(range(distribution.low, distribution.high + 1, distribution.step))
    if isinstance(distribution, FloatDistribution) and distribution.step is not None:
        return round((distribution.high - distribution.low) / distribution.step) + 1  # Optuna moves `high` to a step
    return None


def values_of(trial: Trial | FrozenTrial) -> dict[str, Value]:
    """Return a trial's key -> value, sorted by key; values from a range of fractions have four digits."""
    drawn = {key for key, one in trial.distributions.items() if isinstance(one, FloatDistribution)}
    return {key: float(f"{value:.4g}") if key in drawn else value for key, value in sorted(trial.params.items())}
