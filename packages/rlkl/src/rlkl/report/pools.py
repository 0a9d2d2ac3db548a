"""The part of the report on several models, tasks or settings together: aggregates over their runs (`aggregates`)."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from rlkl.report.methods import COLUMNS, column_names, last
from rlkl.report.records import Runs
from rlkl_htc_common.report.aggregates import Estimate, interquartile_mean, probability_of_improvement, stratified_bootstrap
from rlkl_htc_common.report.page import Table


def pools_table(runs: Runs, pools: Mapping[str, Sequence[str]]) -> Table:
    """What pools of methods reach on more digits: each method of a pool is a stratum.

    Args: pools: by name their methods; those in one place of all pools belong together, such as the same model.
    """
    key, longer = COLUMNS[1][0], column_names(runs)[1]
    scores = {
        name: {str(place): [last(run, key) for run in runs[method]] for place, method in enumerate(methods)}
        for name, methods in pools.items()
    }
    first, *_ = scores
    rows = []
    for name, strata in scores.items():
        cells = [_cell(stratified_bootstrap(strata, statistic)) for statistic in (interquartile_mean, _mean)]
        better = "–" if name == first else _cell(probability_of_improvement(scores[first], strata))
        rows.append([name, *cells, better])
    return Table(
        columns=["over all", "interquartile mean", "mean", f"{first} is above it with probability"],
        rows=rows,
        caption=f"{longer} over {', '.join(pools[first])}, and likewise in the other rows; 95% bootstrap intervals, the seeds "
        "of each of these resampled by themselves. The probability compares runs in the same place of both; ties count half.",
    )


def _mean(scores: object) -> float:
    return float(np.mean(np.asarray(scores)))


def _cell(estimate: Estimate) -> str:
    if math.isnan(estimate.low):  # of single seeds
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"
