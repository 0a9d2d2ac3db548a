"""Intervals: over seeds (few numbers) and over documents (many)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Interval(NamedTuple):
    """A mean with a confidence interval, and how many values are behind it."""

    mean: float
    low: float
    high: float
    values: int

    def __str__(self) -> str:
        return f"{self.mean:.3f}" if self.values == 1 else f"{self.mean:.3f} ± {self.half_width:.3f}"

    @property
    def half_width(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2


def over_seeds(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean and Student t interval of a few independent runs; NaN bounds for a single one.

    Raises:
        ValueError: for no value at all.
    """
    if not len(values):
        raise ValueError("no values to average.")
    mean = float(np.mean(values))
    if len(values) == 1:
        return Interval(mean, float("nan"), float("nan"), 1)
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
