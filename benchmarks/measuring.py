"""Sides measured in turn, their medians, and the ratios between them."""

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Measurement:
    """One timed run of one side.

    Attributes:
        seconds: of the timed work.
        rows: rows done in them.
        setup_seconds: from the start of the side to the start of the clock.
        tokens: of these rows, without padding; None where they are not counted.
        steps: optimiser steps; None without a training.
        peak_memory: most bytes allocated on a CUDA device; None without a GPU.
        result: what the side computed, for the comparison with another side; it is not recorded.
    """

    seconds: float
    rows: int
    setup_seconds: float = 0.0
    tokens: int | None = None
    steps: int | None = None
    peak_memory: int | None = None
    result: Any = None


Measured = dict[str, list[Measurement]]


def alternate(sides: Mapping[str, Callable[[], Measurement]], repeats: int) -> Measured:
    """Measure each side once a repeat; each repeat starts with the next side."""
    names, measured = list(sides), Measured({name: [] for name in sides})
    for repeat in range(repeats):
        first = repeat % len(names)
        for name in names[first:] + names[:first]:
            gc.collect()  # the garbage of one side must not cost the next side time
            measured[name].append(sides[name]())
    return measured


def ratios(ours: Sequence[Measurement], alternative: Sequence[Measurement]) -> list[float]:
    """Return, for each repeat, how many times as many rows per second `ours` does.

    Both sides of a repeat meet the same momentary load of the machine.
    """
    return [speed(mine) / speed(theirs) for mine, theirs in zip(ours, alternative, strict=True)]


def speed(measurement: Measurement) -> float:
    """Return rows per second."""
    return measurement.rows / measurement.seconds


def medians(measurements: Sequence[Measurement]) -> dict[str, float | None]:
    """Return a side's median figures; None for a figure that it lacks."""

    def over(figure: Callable[[Measurement], float | None]) -> float | None:
        found = [value for one in measurements if (value := figure(one)) is not None]
        return median(found) if found else None

    return {
        "rows_per_second": over(speed),
        "tokens_per_second": over(lambda one: None if one.tokens is None else one.tokens / one.seconds),
        "milliseconds_per_step": over(lambda one: None if one.steps is None else 1000 * one.seconds / one.steps),
        "seconds": over(lambda one: one.seconds),
        "setup_seconds": over(lambda one: one.setup_seconds),
        "peak_memory": over(lambda one: one.peak_memory),
    }
