"""Ends a benchmark session with one JSON line: the median seconds of each benchmark, and its other numbers."""

import json

import pytest
import torch
from hierarchies import hwv


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter, config):
    session = getattr(config, "_benchmarksession", None)
    medians = {bench.name: round(bench.stats.median, 6) for bench in session.benchmarks} if session else {}
    if medians:
        more = {bench.name: bench.extra_info for bench in session.benchmarks if bench.extra_info}
        terminalreporter.write_line(json.dumps({"median_seconds": medians, "more": more}))


@pytest.fixture(scope="module")
def one_core():
    """Every benchmark runs on one core with the same random numbers."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def hierarchy(one_core):
    """Hierarchical WikiVitals' taxonomy, or a tree of its shape."""
    return hwv()
