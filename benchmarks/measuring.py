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
        seconds: of what is timed.
        rows: rows worked on in them.
        setup_seconds: from the side's beginning to that of the timed part.
        tokens: of these rows, without padding; None where they are not counted.
        steps: optimiser steps, None where nothing is trained.
        peak_memory: bytes allocated on a CUDA device at most, None without one.
        made: what the side made: it tells whether the sides agree, and is not recorded.
    """

    seconds: float
    rows: int
    setup_seconds: float = 0.0
    tokens: int | None = None
    steps: int | None = None
    peak_memory: int | None = None
    made: Any = None


Measured = dict[str, list[Measurement]]


@dataclass(frozen=True)
class Ratio:
    """How many times as fast one side is as another.

    Attributes:
        median: of the repeats' ratios.
        low: the least of them.
        high: the greatest of them.
        each: [repeats], the ratio within each repeat: the machine's mood of the moment is in both of its sides.
    """

    median: float
    low: float
    high: float
    each: tuple[float, ...]


def alternate(sides: Mapping[str, Callable[[], Measurement]], repeats: int) -> Measured:
    """Measure each side once a repeat, in an order that moves on by one from repeat to repeat."""
    names, measured = list(sides), Measured()
    for repeat in range(repeats):
        first = repeat % len(names)
        for name in names[first:] + names[:first]:
            gc.collect()  # what the side before left is not this side's to clear up
            measured.setdefault(name, []).append(sides[name]())
    return {name: measured[name] for name in names}


def ratio(ours: Sequence[Measurement], alternative: Sequence[Measurement]) -> Ratio:
    """Return how many times as many rows a second `ours` does; [repeats] both."""
    each = tuple(speed(mine) / speed(theirs) for mine, theirs in zip(ours, alternative, strict=True))
    return Ratio(median(each), min(each), max(each), each)


def speed(measurement: Measurement) -> float:
    """Return rows a second."""
    return measurement.rows / measurement.seconds


def medians(measurements: Sequence[Measurement]) -> dict[str, float | None]:
    """Return the median figures of a side; None for what it does not have."""
    first = measurements[0]

    def over(figure: Callable[[Measurement], float]) -> float:
        return median(map(figure, measurements))

    return {
        "rows_per_second": over(speed),
        "tokens_per_second": None if first.tokens is None else over(lambda one: (one.tokens or 0) / one.seconds),
        "milliseconds_per_step": None
        if first.steps is None
        else over(lambda one: 1000 * one.seconds / (one.steps or 1)),
        "seconds": over(lambda one: one.seconds),
        "setup_seconds": over(lambda one: one.setup_seconds),
        "peak_memory": None if first.peak_memory is None else over(lambda one: one.peak_memory or 0),
    }
