"""Runs of several seeds on several tasks, put together: aggregates and intervals after Agarwal et al. (2021, arXiv 2108.13264,
"Deep Reinforcement Learning at the Edge of the Statistical Precipice"), and learning curves as single numbers.

A stratum is what does not vary by chance: a task, a setting. The scores in it are those of its seeds.

What five to ten seeds can tell: a percentile bootstrap sees no more variation than there is among them. For the mean of n seeds
its interval is too narrow by sqrt((n - 1) / n) and takes quantiles of a normal distribution, not of Student's: 95% nominal are
about 83% with 5 seeds of one task and 90% with 10. Pooling strata helps, as then all their seeds count together. Where one
number per seed is averaged, `statistics.over_seeds` is the better choice; this is for statistics that have no formula.
No interval speaks of tasks that were not run.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Scores = NDArray[np.float64]


class Estimate(NamedTuple):
    """A statistic with a confidence interval, not necessarily symmetric, and how many scores are behind it.

    The bounds are NaN where a stratum has a single seed: nothing then says how much seeds vary.
    """

    value: float
    low: float
    high: float
    scores: int


def interquartile_mean(scores: Sequence[float] | Scores) -> float:
    """The mean of the middle half: a quarter of the scores, rounded down, is left out at either end.

    Args:
        scores: of all seeds and tasks, in any shape. Fewer than four are all kept.

    Raises:
        ValueError: for no score at all.
    """
    if not np.size(scores):
        raise ValueError("no scores to average.")
    return float(stats.trim_mean(scores, 0.25, axis=None))


def stratified_bootstrap(
    scores_by_stratum: Mapping[str, Sequence[float]],
    statistic: Callable[[Scores], float],
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """A statistic of the scores of all strata, with a percentile interval from resampling the seeds inside each stratum.

    Args:
        scores_by_stratum: the seeds' scores for each task or setting.
        statistic: takes one array with the scores of all strata, for example `interquartile_mean` or `numpy.mean`.

    Raises:
        ValueError: for no stratum, or one without scores.
    """
    strata = _arrays(scores_by_stratum)
    rng = np.random.default_rng(seed)
    drawn = [statistic(np.concatenate([_resample(scores, rng) for scores in strata])) for _ in range(resamples)]
    return _estimate(statistic(np.concatenate(strata)), drawn, confidence, strata)


def probability_of_improvement(
    a: Mapping[str, Sequence[float]],
    b: Mapping[str, Sequence[float]],
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """How probable it is that a run of `a` scores higher than one of `b` on the same stratum; ties count half.

    The mean over strata of the Mann-Whitney statistic of two sets of seeds, which are resampled independently of each other:
    seeds of the same number are not taken for pairs. With n seeds each the value moves in steps of 1 / n^2, and where all of
    `a` beat all of `b` every resample says 1: the interval [1, 1] is then no more certain than the seeds are many.

    Args:
        a, b: the seeds' scores for each task or setting.

    Raises:
        ValueError: for no stratum, one without scores, or strata that differ.
    """
    if a.keys() != b.keys():
        raise ValueError(f"a and b must have the same strata, not {sorted(a)} and {sorted(b)}.")
    first, second = _arrays(a), _arrays({name: b[name] for name in a})
    rng = np.random.default_rng(seed)
    drawn = [
        _improvement([_resample(scores, rng) for scores in first], [_resample(scores, rng) for scores in second])
        for _ in range(resamples)
    ]
    return _estimate(_improvement(first, second), drawn, confidence, [*first, *second])


def _improvement(a: Sequence[Scores], b: Sequence[Scores]) -> float:
    signs = [np.sign(x[:, None] - y).mean() for x, y in zip(a, b, strict=True)]
    return float((1 + np.mean(signs)) / 2)


def _arrays(scores_by_stratum: Mapping[str, Sequence[float]]) -> list[Scores]:
    if not scores_by_stratum:
        raise ValueError("no strata.")
    empty = [name for name, scores in scores_by_stratum.items() if not len(scores)]
    if empty:
        raise ValueError(f"no scores in {', '.join(empty)}.")
    return [np.asarray(scores, dtype=float) for scores in scores_by_stratum.values()]


def _resample(scores: Scores, rng: np.random.Generator) -> Scores:
    return scores[rng.integers(len(scores), size=len(scores))]


def _estimate(value: float, drawn: Sequence[float], confidence: float, strata: Sequence[Scores]) -> Estimate:
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    if min(map(len, strata)) == 1:
        low = high = np.nan
    return Estimate(float(value), float(low), float(high), sum(map(len, strata)))


def area_under_curve(steps: Sequence[float], values: Sequence[float]) -> float:
    """The mean value of a learning curve over its range of steps, by the trapezoid rule.

    Args:
        steps: where it was logged, increasing, not necessarily evenly.
        values: what was logged there.

    Raises:
        ValueError: for fewer than two steps, steps that do not increase, or as many values as there are not steps.
    """
    x, y = _curve(steps, values)
    if len(x) < 2:
        raise ValueError("a curve needs at least two steps.")
    return float(np.trapezoid(y, x) / (x[-1] - x[0]))


def time_to_threshold(steps: Sequence[float], values: Sequence[float], threshold: float) -> float | None:
    """The first step at which a learning curve reaches a threshold; None if it never does.

    Between two logged steps the curve is taken for a straight line. What was not logged may have been reached before.

    Raises:
        ValueError: for no step, steps that do not increase, or as many values as there are not steps.
    """
    x, y = _curve(steps, values)
    reached = np.flatnonzero(y >= threshold)
    if not len(reached):
        return None
    after = int(reached[0])
    if after == 0:
        return float(x[0])
    before = after - 1
    return float(x[before] + (x[after] - x[before]) * (threshold - y[before]) / (y[after] - y[before]))


def _curve(steps: Sequence[float], values: Sequence[float]) -> tuple[Scores, Scores]:
    x, y = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
    if x.shape != y.shape or not len(x) or (np.diff(x) <= 0).any() or not np.isfinite([*x, *y]).all():
        raise ValueError("a curve needs increasing steps, and a finite value for each.")
    return x, y


class Reached(NamedTuple):
    """When runs reached a threshold.

    Attributes:
        median: the first step by which at least half of the runs had reached it; None if fewer ever did.
        share: of the runs that reached it.
        runs: how many there are.
    """

    median: float | None
    share: float
    runs: int


def times_to_threshold(times: Sequence[float | None]) -> Reached:
    """Put together when each seed reached a threshold.

    A run that did not is not left out, as that would make a method look the faster the more often it fails: it counts as later
    than all that did. This is the median of Kaplan and Meier (1958), for runs that all were followed equally long.

    Args:
        times: of `time_to_threshold`, one for each seed.

    Raises:
        ValueError: for no run at all.
    """
    if not times:
        raise ValueError("no runs.")
    reached = sorted(time for time in times if time is not None)
    half = (len(times) + 1) // 2
    return Reached(reached[half - 1] if len(reached) >= half else None, len(reached) / len(times), len(times))
