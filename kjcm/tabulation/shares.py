"""Estimate the shares of codes from weighted sums over rows, with standard errors of sampling and of coding."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Sums = NDArray[np.float64]


@dataclass(frozen=True)
class Share:
    """An estimated share.

    Attributes:
        value: the share.
        sampling: standard error because the rows are a sample.
        coding: standard error because the rows' true codes are not known.
        low: lower end of the interval, from both errors together; nan for a share of 0 or 1.
        high: upper end.
    """

    value: float
    sampling: float
    coding: float
    low: float
    high: float

    @property
    def error(self) -> float:
        """Return the standard error from both sources."""
        return float(np.hypot(self.sampling, self.coding))


@dataclass
class Tally:
    """Weighted sums over the coded rows of a group.

    Attributes:
        rows: number of rows.
        weight: sum of the weights w.
        square: sum of w².
        top: code -> number of rows and sums of w and w² of the rows whose most likely code it is.
        spread: code -> sums of w p, w² p and w² p² over the rows, p being its probability.
    """

    rows: int = 0
    weight: float = 0.0
    square: float = 0.0
    top: defaultdict[str, Sums] = field(default_factory=lambda: defaultdict(lambda: np.zeros(3)))
    spread: defaultdict[str, Sums] = field(default_factory=lambda: defaultdict(lambda: np.zeros(3)))

    def add(
        self, codes: Mapping[str, NDArray[np.intp]], probability: Sums, top: NDArray[np.intp], weight: Sums
    ) -> None:
        """Add rows.

        Args:
            codes: code of the table -> places of the file's codes in it.
            probability: [rows, codes of the file]; each row sums to 1.
            top: [rows], place of the most likely code of the file.
            weight: [rows].
        """
        self.rows += len(weight)
        self.weight += float(weight.sum())
        self.square += float((weight**2).sum())
        for code, places in codes.items():
            own, first = probability[:, places].sum(axis=1), np.isin(top, places)
            spread = np.array([weight @ own, weight**2 @ own, weight**2 @ own**2])
            tops = np.array([first.sum(), weight @ first, weight**2 @ first])
            self.spread[code] += spread
            self.top[code] += tops

    @property
    def effective(self) -> float:
        """Return the effective sample size, (sum of w)² / sum of w² (Kish, Survey Sampling, 1965)."""
        return self.weight**2 / self.square

    def from_top(self, code: str, confidence: float) -> Share:
        """Return a code's share by the rows' most likely codes."""
        _, weight, square = self.top[code]
        return self._share(weight, square, square, confidence, certain=True)

    def from_probabilities(self, code: str, confidence: float) -> Share:
        """Return a code's share by the rows' probabilities."""
        total, square, squares = self.spread[code].tolist()
        return self._share(total, square, squares, confidence)

    def _share(self, total: float, square: float, squares: float, confidence: float, certain: bool = False) -> Share:
        """Return the share of sums of w p, w² p and w² p².

        The error of sampling is that of a weighted mean of p, by linearisation: the sum of w² (p - share)², times n / (n - 1),
        over (sum of w)². The error of coding is that of n independent draws: the sum of w² p (1 - p), over (sum of w)².
        """
        share = total / self.weight
        spread = max(squares - 2 * share * square + share**2 * self.square, 0.0)
        sampling = np.sqrt(spread * self.rows / (self.rows - 1)) / self.weight if self.rows > 1 else np.nan
        coding = 0.0 if certain else np.sqrt(max(square - squares, 0.0)) / self.weight
        low, high = logit_interval(share, float(np.hypot(sampling, coding)), confidence)
        return Share(share, float(sampling), float(coding), low, high)


def logit_interval(share: float, error: float, confidence: float) -> tuple[float, float]:
    """Return an interval of a share that is symmetric on the logit scale, so that it stays between 0 and 1."""
    if not 1e-9 < share < 1 - 1e-9 or not np.isfinite(error):  # sums of weights are rounded in the last digit
        return np.nan, np.nan
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    middle, half = np.log(share / (1 - share)), z * error / (share * (1 - share))
    low, high = (1 / (1 + np.exp(-np.clip(middle + side, -700, 700))) for side in (-half, half))
    return float(low), float(high)
