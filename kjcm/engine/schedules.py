"""Learning-rate schedules: each step's rate as a factor of `optim.lr`.

A schedule is a function of the step, counted from 0, and the number of steps. It has no state, so a run can resume at any
step with any engine.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Constant:
    """A constant rate after a linear warm-up.

    Attributes:
        warmup: share of the steps in which the rate rises from 0.
    """

    warmup: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.warmup <= 1:
            raise ValueError(f"warmup={self.warmup}: use a share from 0 to 1")

    def __call__(self, step: int, steps: int) -> float:
        """Return the factor for one step; `steps` is the number of steps in the training."""
        rise = self.warmup * steps
        if step < rise:
            return (step + 1) / (rise + 1)
        return self.after_warmup(max(0.0, (steps - step) / max(1.0, steps - rise)))

    def after_warmup(self, left: float) -> float:
        """Return the factor after the warm-up; `left` is the share of steps that remain, from 1 down to 0."""
        return 1.0


@dataclass(frozen=True)
class Linear(Constant):
    """A linear decay to 0 at the last step, after a linear warm-up."""

    def after_warmup(self, left: float) -> float:
        """Return the factor."""
        return left


@dataclass(frozen=True)
class Cosine(Constant):
    """Half a cosine from 1 down to `least`, after a linear warm-up (Loshchilov and Hutter, ICLR 2017).

    Attributes:
        least: factor at the last step.
    """

    least: float = 0.0

    def after_warmup(self, left: float) -> float:
        """Return the factor."""
        return self.least + (1 - self.least) * (1 - math.cos(math.pi * left)) / 2
