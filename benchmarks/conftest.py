"""Ends a benchmark session with one JSON line: the median seconds of each benchmark, and what else it tells."""

import json

import pytest


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter, config):
    session = getattr(config, "_benchmarksession", None)
    medians = {bench.name: round(bench.stats.median, 6) for bench in session.benchmarks} if session else {}
    if medians:
        more = {bench.name: bench.extra_info for bench in session.benchmarks if bench.extra_info}
        terminalreporter.write_line(json.dumps({"median_seconds": medians, "more": more}))
