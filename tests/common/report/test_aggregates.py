import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rlkl_htc_common.report.aggregates import (
    area_under_curve,
    interquartile_mean,
    probability_of_improvement,
    stratified_bootstrap,
    time_to_threshold,
    times_to_threshold,
)
from rlkl_htc_common.report.statistics import bootstrap

scores = st.lists(st.floats(-5, 5), min_size=1, max_size=12)
times = st.lists(st.one_of(st.none(), st.integers(1, 9).map(float)), min_size=1, max_size=9)


@given(scores)
def test_interquartile_mean_by_its_definition(values):
    left_out = len(values) // 4
    kept = sorted(values)[left_out : len(values) - left_out]
    assert interquartile_mean(values) == pytest.approx(sum(kept) / len(kept), abs=1e-12)


def test_interquartile_mean_does_not_mind_an_outlier_nor_the_shape():
    assert interquartile_mean([0, 1, 2, 1000]) == 1.5
    assert interquartile_mean(np.array([[0, 1], [2, 1000]])) == 1.5
    with pytest.raises(ValueError, match="no scores"):
        interquartile_mean([])


def test_bootstrap_of_one_stratum_is_that_of_scipy():
    values = np.random.default_rng(0).gamma(2.0, size=40)
    ours = stratified_bootstrap({"task": values}, np.mean, resamples=8000)
    theirs = bootstrap(values, resamples=8000)
    assert (ours.value, ours.scores) == (theirs.mean, 40)
    assert ours[1:3] == pytest.approx(theirs[1:3], abs=0.02)


def test_bootstrap_resamples_inside_strata():
    """Closed form: the variance of the mean of all is the sum over strata of n * variance, by the square of all n."""
    rng = np.random.default_rng(1)
    strata = {name: rng.normal(offset, 1.0, size) for name, offset, size in (("a", 0, 20), ("b", 100, 30), ("c", -100, 25))}
    found = stratified_bootstrap(strata, np.mean, resamples=6000)
    deviation = math.sqrt(sum(len(values) * values.var() for values in strata.values())) / 75
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * deviation, rel=0.06)
    assert found.high - found.low < 1, "scores of one task never stand in for those of another"


def test_bootstrap_of_two_scores_is_known_exactly():
    """Means of two out of {0, 1} are 0, 1/2, 1 with probabilities 1/4, 1/2, 1/4."""
    assert stratified_bootstrap({"task": [0.0, 1.0]}, np.mean, confidence=0.95)[:3] == (0.5, 0.0, 1.0)
    assert stratified_bootstrap({"task": [0.0, 1.0]}, np.mean, confidence=0.40)[:3] == (0.5, 0.5, 0.5)


def test_coverage_is_about_what_the_docstring_says():
    rng = np.random.default_rng(2)

    def covered(seeds, strata, trials=300):
        hits = 0
        for trial in range(trials):
            drawn = {str(stratum): rng.normal(stratum, 1.0, seeds) for stratum in range(strata)}
            found = stratified_bootstrap(drawn, np.mean, resamples=200, seed=trial)
            hits += found.low <= (strata - 1) / 2 <= found.high
        return hits / trials

    few, more, pooled = covered(5, 1), covered(10, 1), covered(10, 3)
    assert 0.76 < few < 0.89
    assert 0.85 < more < 0.95
    assert few < more < pooled + 0.03
    assert pooled > 0.88


def test_bootstrap_is_reproducible_and_a_single_seed_has_no_interval():
    assert stratified_bootstrap({"a": [1, 2, 3]}, np.mean) == stratified_bootstrap({"a": [1, 2, 3]}, np.mean)
    alone = stratified_bootstrap({"a": [1.0, 2.0], "b": [3.0]}, interquartile_mean)
    assert alone.value == 2.0
    assert math.isnan(alone.low)
    assert math.isnan(alone.high)
    with pytest.raises(ValueError, match="no strata"):
        stratified_bootstrap({}, np.mean)
    with pytest.raises(ValueError, match="no scores in b"):
        stratified_bootstrap({"a": [1.0], "b": []}, np.mean)


@given(scores, scores)
def test_probability_of_improvement_is_mann_whitney(a, b):
    found = probability_of_improvement({"task": a}, {"task": b}, resamples=2).value
    assert found == pytest.approx(stats.mannwhitneyu(a, b).statistic / (len(a) * len(b)))
    assert found == pytest.approx(1 - probability_of_improvement({"task": b}, {"task": a}, resamples=2).value)


def test_probability_of_improvement_counts_tasks_alike_and_has_an_interval():
    a = {"easy": [2.0] * 8, "hard": [0.0, 1.0]}
    b = {"hard": [0.0, 1.0], "easy": [1.0] * 8}
    found = probability_of_improvement(a, b)
    assert found.value == 0.75
    assert 0.5 <= found.low < 0.75 < found.high <= 1.0
    clear = probability_of_improvement({"task": [1.0, 2.0]}, {"task": [0.0, 0.5]})
    assert clear[:3] == (1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="same strata"):
        probability_of_improvement({"x": [1.0]}, {"y": [1.0]})


def test_area_under_a_curve():
    assert area_under_curve([0, 10], [0.0, 1.0]) == 0.5
    assert area_under_curve([5, 6, 16], [0.0, 1.0, 1.0]) == pytest.approx((0.5 + 10) / 11)
    assert area_under_curve([0, 3, 4, 9], [0.7] * 4) == pytest.approx(0.7)
    line = [0.1 * step for step in (0, 1, 5, 8)]
    assert area_under_curve([0, 1, 5, 8], line) == pytest.approx(0.4), "where it is logged does not matter to a straight line"
    with pytest.raises(ValueError, match="two steps"):
        area_under_curve([1], [1])
    for steps, values in (([0, 0], [1, 1]), ([1, 0], [1, 1]), ([0, 1], [1]), ([0, 1], [1, math.nan])):
        with pytest.raises(ValueError, match="increasing steps"):
            area_under_curve(steps, values)


def test_time_to_threshold():
    steps, values = [0, 10, 30, 40], [0.0, 0.5, 0.3, 0.9]
    assert time_to_threshold(steps, values, 0.25) == 5
    assert time_to_threshold(steps, values, 0.5) == 10
    assert time_to_threshold(steps, values, 0.6) == pytest.approx(35)
    assert time_to_threshold(steps, values, 0.9) == 40
    assert time_to_threshold(steps, values, 0.0) == time_to_threshold(steps, values, -1.0) == 0
    assert time_to_threshold(steps, values, 0.91) is None


@given(times)
def test_median_of_runs_that_did_not_all_arrive_is_that_of_kaplan_and_meier(found):
    arrived = [time for time in found if time is not None]
    data = stats.CensoredData(uncensored=arrived, right=[10.0] * (len(found) - len(arrived)))
    survival = stats.ecdf(data).sf
    below = [
        float(step)
        for step, left in zip(survival.quantiles, survival.probabilities, strict=True)
        if left <= 0.5 + 1e-9 and step < 10
    ]
    assert times_to_threshold(found) == ((below[0] if below else None), len(arrived) / len(found), len(found))


def test_runs_that_never_arrive_are_not_left_out():
    assert times_to_threshold([3.0, None, 1.0, None, None]) == (None, 0.4, 5)
    assert times_to_threshold([3.0, None, 1.0]) == (3.0, pytest.approx(2 / 3), 3)
    with pytest.raises(ValueError, match="no runs"):
        times_to_threshold([])
