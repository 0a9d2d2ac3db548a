"""What work costs."""

import time

import numpy as np

from rlkl_htc_common.training.cost import Stopwatch, peak_memory, reset_peak_memory


def test_a_stopwatch_adds_up_time_and_goes_on_from_what_it_is_given():
    watch = Stopwatch(10.0, 5.0)
    for _ in range(2):
        with watch:
            time.sleep(0.05)
    assert 10.1 <= watch.seconds < 11
    assert 5.0 <= watch.processor_seconds < 5.1  # asleep


def test_processor_seconds_are_of_work_not_of_waiting():
    with Stopwatch() as watch:
        end = time.process_time() + 0.1
        while time.process_time() < end:
            pass
    assert 0.1 <= watch.processor_seconds < 0.5


def test_the_peak_of_memory_is_seen_after_it_is_freed_and_can_be_reset():
    reset_peak_memory()
    before = peak_memory()
    held = np.ones(2**26)  # 0.5 GB
    del held
    assert peak_memory() - before > 0.4e9
    reset_peak_memory()
    assert peak_memory() - before < 0.2e9
