"""Intervals: over seeds (few numbers) and over documents (many)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

FEWEST = 3  # values that an interval says more about than they say themselves


class Interval(NamedTuple):
    """A mean with a confidence interval, how many values are behind it, and these themselves where they are few.

    Attributes:
        lopsided: whether its halves differ, so that its bounds are shown.
    """

    mean: float
    low: float
    high: float
    values: int
    few: tuple[float, ...] = ()
    lopsided: bool = False

    def __str__(self) -> str:
        return self.shown(".3f")

    def shown(self, form: str) -> str:
        """The mean with half the width of the interval, its bounds where it is lopsided, or the values; `form`: `+.3f`."""
        if self.few:
            return ", ".join(format(value, form) for value in self.few)
        if self.lopsided:
            return f"{self.mean:{form}} ({self.low:{form}} to {self.high:{form}})"
        return f"{self.mean:{form}} ± {self.half_width:.3f}"

    @property
    def half_width(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2

    @property
    def is_sure(self) -> bool:
        """Of a difference: whether the interval leaves out 0; never for few values."""
        return self.low > 0 or self.high < 0

    @property
    def range(self) -> str:
        """Of a difference: the interval, or the values where they are few."""
        return self.shown("+.3f") if self.few else f"{self.low:+.3f} to {self.high:+.3f}"

    @property
    def verdict(self) -> str:
        """Of a difference: what its interval says; nothing, where there is none."""
        if self.few:
            return "compared with"
        return "above" if self.low > 0 else "below" if self.high < 0 else "not significantly different from"


def told_over_seeds(count: int) -> str:
    """What numbers are that `over_seeds` gave, for a report's first sentence. Args: count: how many seeds there are."""
    if count == 1:
        return "from one seed"
    if count < FEWEST:
        return f"given for each of the {count} seeds, too few for an interval"
    return f"the mean over {count} seeds with its 95% interval (Student t)"


def over_seeds(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean and Student t interval of a few independent runs; for fewer than three the values instead, and NaN bounds.

    Student's factor is 12.7 for two values and 4.3 for three: an interval around two says nothing that a reader could use.

    Raises:
        ValueError: for no value at all.
    """
    if not len(values):
        raise ValueError("no values to average.")
    mean = float(np.mean(values))
    if len(values) < FEWEST:
        return Interval(mean, float("nan"), float("nan"), len(values), tuple(map(float, values)))
    half = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1) * stats.sem(values))
    return Interval(mean, mean - half, mean + half, len(values))


def bootstrap(values: Sequence[float], confidence: float = 0.95, resamples: int = 2000, seed: int = 0) -> Interval:
    """Mean and percentile bootstrap interval over documents or episodes.

    Raises:
        ValueError: for no value at all.
    """
    data = np.asarray(values, dtype=float)
    if not data.size:
        raise ValueError("no values to resample.")
    if np.ptp(data) == 0:
        return Interval(float(data[0]), float(data[0]), float(data[0]), data.size)
    result = stats.bootstrap(
        (data,), np.mean, confidence_level=confidence, n_resamples=resamples, method="percentile", rng=seed, batch=100
    )
    low, high = result.confidence_interval
    return Interval(float(data.mean()), float(low), float(high), data.size)


def share_over_seeds(values: Sequence[float]) -> Interval:
    """`over_seeds` for accuracies and other numbers from 0 to 1: where Student's interval leaves that range, the bootstrap's.

    With fewer than ten values the bootstrap's interval is rather narrow; it is never wider than what was seen.
    """
    interval = over_seeds(values)
    if interval.few or (interval.low >= 0 and interval.high <= 1):
        return interval
    return bootstrap(values)._replace(lopsided=True)
