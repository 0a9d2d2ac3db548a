import math

import numpy as np
import pytest

from rlkl_htc_common.report.statistics import bootstrap, over_seeds, told_over_seeds


def test_student_interval_of_a_textbook_sample():
    interval = over_seeds([1.0, 2.0, 3.0])
    assert interval.mean == pytest.approx(2.0)
    assert interval.half_width == pytest.approx(4.303 / math.sqrt(3), abs=1e-3)  # t(0.975, 2) = 4.303


def test_one_seed_has_no_interval():
    interval = over_seeds([0.3])
    assert interval.mean == 0.3
    assert math.isnan(interval.low)
    with pytest.raises(ValueError, match="no values"):
        over_seeds([])


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0.728], "0.728"),
        ([0.728, 0.741], "0.728, 0.741"),
        ([-0.5, 0.25], "-0.500, 0.250"),
        ([0.3, 0.3], "0.300, 0.300"),
        ([1.0, 2.0, 3.0], "2.000 ± 2.484"),
    ],
)
def test_fewer_than_three_seeds_are_shown_as_values(values, shown):
    interval = over_seeds(values)
    assert str(interval) == shown
    assert math.isnan(interval.low) == (len(values) < 3)
    assert interval.mean == pytest.approx(np.mean(values))
    assert over_seeds([0.01, -0.02]).shown("+.3f") == "+0.010, -0.020"


@pytest.mark.parametrize(("count", "expected"), [(1, "one seed"), (2, "each of the 2 seeds"), (3, "the mean over 3 seeds")])
def test_reports_say_what_their_numbers_are(count, expected):
    assert expected in told_over_seeds(count)
    assert ("interval (Student" in told_over_seeds(count)) == (count > 2)


def test_bootstrap_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        interval = bootstrap(rng.random(60) < 0.3, seed=seed, resamples=400)
        hits += interval.low <= 0.3 <= interval.high
    assert 0.88 <= hits / 200 <= 0.99


def test_bootstrap_is_reproducible_and_knows_constants():
    values = list(range(30))
    assert bootstrap(values) == bootstrap(values)
    assert bootstrap([1.0] * 5)[:3] == (1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="no values"):
        bootstrap([])
