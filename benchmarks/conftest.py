"""Ends a benchmark session with one JSON line: the median seconds of each benchmark."""

import json

import pytest


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter, config):
    session = getattr(config, "_benchmarksession", None)
    medians = {bench.name: round(bench.stats.median, 6) for bench in session.benchmarks} if session else {}
    if medians:
        terminalreporter.write_line(json.dumps({"median_seconds": medians}))
