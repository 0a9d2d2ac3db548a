import math

import numpy as np
import pytest

from common.statistics import bootstrap, over_seeds


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
