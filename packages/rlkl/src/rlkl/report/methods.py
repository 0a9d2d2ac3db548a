"""The part of the report on what fine-tuning makes of a model, by method and seed."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from rlkl.report.records import Evaluation, Pairs, Run, Runs
from rlkl_htc_common.report.aggregates import (
    area_under_curve,
    interquartile_mean,
    stratified_bootstrap,
    time_to_threshold,
    times_to_threshold,
)
from rlkl_htc_common.report.page import Table
from rlkl_htc_common.report.statistics import FEWEST, Interval, over_seeds, share_over_seeds
from rlkl_htc_common.report.tables import MISSING, best_of, interval_table

COLUMNS = (
    ("eval/accuracy_N", "N accuracy"),
    ("eval/accuracy_longer", "N+{extra} accuracy"),
    ("critical/comma", "probability on critical commas"),
    ("critical/lists", "probability of copying all operand lists"),
)
LONGER_FIRST = (1, 0, 2, 3)  # places of COLUMNS, in the order of interest
THRESHOLD = 0.5  # of accuracy on more digits, to be reached soon
OPERANDS = {"identical": "identical operands", "varying": "varying operands", "training_mix": "the training mix"}
SMOOTHED = 5  # iterations that successes are averaged over
TOLD = 6  # comparisons that have a sentence each


def column_names(runs: Runs) -> list[str]:
    """What the columns are called: N+1, where all methods are on one digit more."""
    extras = {run.digits - run.trained_digits for seeds in runs.values() for run in seeds}
    return [name.format(extra=extras.copy().pop() if len(extras) == 1 else "k") for _, name in COLUMNS]


def logged(run: Run, key: str) -> list[tuple[int, float]]:
    """When something was logged, and its value."""
    return [(int(line["step"] or 0), value) for line in run.history if (value := line.get(key)) is not None]


def last(run: Run, key: str) -> float:
    """The last value that was logged."""
    return logged(run, key)[-1][1]


def final(runs: Sequence[Run], key: str) -> Interval:
    """The last value, over seeds."""
    return share_over_seeds([last(run, key) for run in runs])


def measured(runs: Runs) -> str:
    """How the accuracies of all runs were measured."""
    hows = {(run.evaluation.operands, run.evaluation.temperature) for seeds in runs.values() for run in seeds}
    return " or ".join(
        f"{'greedy accuracy' if temperature == 0 else f'accuracy at temperature {temperature:g}'} on {OPERANDS[operands]}"
        for operands, temperature in sorted(hows)
    )


def before_finetuning(runs: Runs) -> dict[str, list[float]]:
    """The columns before the first iteration, measured on what they are measured on after the last; by the name of the row.

    There is a row for each model and way to measure, named after the model, or after its methods where one has several.
    """
    alike: dict[tuple[str, int, Evaluation], list[str]] = {}
    for method, (run, *_) in runs.items():
        alike.setdefault((run.model, run.digits, run.evaluation), []).append(method)
    models = [model for model, _, _ in alike]
    rows = {}
    for (model, _, _), methods in alike.items():
        name = model if models.count(model) == 1 else " | ".join(methods)
        first = [run.history[0] for method in methods for run in runs[method]]
        columns = [float(np.mean([line[key] or 0.0 for line in first])) for key, _ in COLUMNS]
        rows["before" if len(alike) == 1 else f"before: {name}"] = columns
    return rows


def result_table(runs: Runs) -> Table:
    """Method x what it reaches, after rows for the models that it starts from."""
    before = before_finetuning(runs)
    names = [*column_names(runs), "success of sampled episodes"]
    of_keys = [[final(seeds, key) for seeds in runs.values()] for key, _ in COLUMNS]
    columns = [*of_keys, [share_over_seeds([_last_successes(run) for run in seeds]) for seeds in runs.values()]]
    examples = " or ".join(sorted({str(run.evaluation.examples) for seeds in runs.values() for run in seeds}))
    caption = (
        f"Before the first iteration and after the last, on the same {examples} problems: {measured(runs)}; successes over the "
        f"last five iterations. The best {'of each start ' if len(before) > 1 else ''}is in bold."
    )
    table = interval_table("method", list(runs), dict(zip(names, columns, strict=True)), caption, bold=False)
    above = [[name, *(f"{value:.3f}" for value in values), MISSING] for name, values in before.items()]
    return replace(table, rows=[*above, *table.rows], best=_best_of_each_start(runs, columns, above=len(before)))


def _best_of_each_start(runs: Runs, columns: Sequence[Sequence[Interval]], above: int) -> set[tuple[int, int]]:
    """The best cells of each column among methods with one start and evaluation. Args: above: rows above the methods'."""
    places: dict[tuple[str, int, Evaluation], list[int]] = {}
    for place, (run, *_) in enumerate(runs.values()):
        places.setdefault((run.model, run.digits, run.evaluation), []).append(place)
    return {
        (above + rows[best], number)
        for rows in places.values()
        for number, column in enumerate(columns, start=1)
        for best in best_of([column[row] for row in rows])
    }


def _last_successes(run: Run) -> float:
    return float(np.mean([value for _, value in logged(run, "rollout/success")][-SMOOTHED:]))


def difference(runs: Runs, one: str, other: str, key: str) -> Interval | None:
    """How much higher one method ends than another, paired over seeds; None from a single seed."""
    if len(runs[one]) < 2:
        return None
    pairs = zip(runs[one], runs[other], strict=True)
    return over_seeds([last(a, key) - last(b, key) for a, b in pairs])


def findings(runs: Runs, pairs: Pairs) -> list[str]:
    """Which method ends above which in accuracy on more digits."""
    name = column_names(runs)[1]
    found = [(one, other, difference(runs, one, other, COLUMNS[1][0])) for one, other in pairs]
    known = [(one, other, interval) for one, other, interval in found if interval is not None]
    if known and known[0][2].few:
        return [
            f"{name}: {one} compared with {other}, {interval.shown('+.3f')}, the differences of {interval.values} seeds."
            for one, other, interval in known[:TOLD]
        ]
    sentences = [
        f"{name}: {one} is {interval.verdict} {other}, by {interval.mean:+.3f} (95% interval {interval.range}, paired over "
        f"{interval.values} seeds)."
        for one, other, interval in known
    ]
    if len(known) > TOLD:
        others: dict[str, list[str]] = {}
        for one, other, interval in known:
            others.setdefault(f"{one} is {interval.verdict}", []).append(other)
        sentences = [f"{name}: {said} {' | '.join(names)}." for said, names in others.items()]
    return sentences


def comparison_table(runs: Runs, pairs: Pairs) -> Table:
    """How methods differ, in everything that the result's table shows; the page shows accuracy on more digits."""
    rows = []
    names = column_names(runs)
    for place in LONGER_FIRST:
        for one, other in pairs:
            interval = difference(runs, one, other, COLUMNS[place][0])
            if interval is not None:
                rows.append([one, interval.verdict, other, f"{interval.mean:+.3f}", interval.range, names[place]])
    shown = [number for number, row in enumerate(rows) if row[-1] == names[1]]
    columns = ["method", "is", "the other", "difference", "95% interval", "in"]
    return Table(columns, rows, "Methods compared, paired over seeds.", texts={1, 2}, csv="comparisons.csv", shown=shown)


def steps_table(runs: Runs, chain: Sequence[str]) -> Table:
    """What each step of a chain of methods gains in accuracy on more digits, and what share of the whole that is."""
    key, longer = COLUMNS[1][0], column_names(runs)[1]
    whole = difference(runs, chain[-1], chain[0], key)
    rows = []
    for one, other in [*((b, a) for a, b in pairwise(chain)), (chain[-1], chain[0])]:
        gain = difference(runs, one, other, key)
        if gain is not None and whole is not None:
            share = f"{gain.mean / whole.mean:.0%}" if whole.low > 0 else "–"
            rows.append([f"{other} → {one}", f"{gain.mean:+.3f}", gain.range, share])
    return Table(
        columns=["step", f"gain in {longer}", "95% interval", "share of the whole"],
        rows=rows,
        caption="Where the gain comes from, paired over seeds; shares only where the whole is surely a gain.",
        texts={0},
    )


def _enumerated(steps: Sequence[int]) -> str:
    return (
        f"{', '.join(map(str, steps[:-1]))} and {steps[-1]}"
        if len(steps) <= TOLD
        else f"{steps[0]}, {steps[1]}, ..., {steps[-1]}"
    )


def curves_table(runs: Runs) -> Table:
    """Learning curves as numbers (`aggregates`): where they end, their mean, and when they reach the threshold."""
    key, longer = COLUMNS[1][0], column_names(runs)[1]
    rows = []
    for method, seeds in runs.items():
        curves = [tuple(zip(*logged(run, key), strict=True)) for run in seeds]  # (steps, values) of each seed
        ends = [values[-1] for _, values in curves]
        last = stratified_bootstrap({longer: ends}, interquartile_mean)
        area = share_over_seeds([area_under_curve(steps, values) for steps, values in curves])
        reached = times_to_threshold([time_to_threshold(steps, values, THRESHOLD) for steps, values in curves])
        when = "never" if reached.median is None else f"{reached.median:.1f}"
        few = len(seeds) < FEWEST
        end = str(share_over_seeds(ends)) if few else f"{last.value:.3f} ({last.low:.3f} to {last.high:.3f})"
        rows.append([method, end, str(area), when, f"{reached.share:.0%}"])
    measured = sorted({step for seeds in runs.values() for run in seeds for step, _ in logged(run, key)})
    return Table(
        columns=[
            "method",
            "interquartile mean of the end",
            "mean of the curve",
            f"iterations to {THRESHOLD}",
            "runs that get there",
        ],
        rows=rows,
        caption=f"{longer.capitalize()} during fine-tuning: the interquartile mean over seeds after the last iteration, with "
        "its 95% bootstrap interval; the area under the curve, as a mean; and the median of the iterations after which "
        f"{THRESHOLD} is reached, where runs that never reach it count as later than all others. Accuracy was measured after "
        f"{_enumerated(measured)} iterations; in between the curve is taken for straight.",
    )


def weights_text(runs: Runs) -> list[str]:
    """The mean weight of the KL at first, by method."""
    means = {name: over_seeds([logged(run, "weights/mean")[0][1] for run in seeds]) for name, seeds in runs.items()}
    cells = "; ".join(f"{name} {mean}" for name, mean in means.items())
    return [f"Mean weight in the first iteration: {cells}."]
