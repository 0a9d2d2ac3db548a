"""What methods cost, beside their scores, and what was tried for each."""

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import mean

from htc.report.labels import label
from htc.report.records import Cost, Losses, Tried
from rlkl_htc_common.report.page import Section, Table
from rlkl_htc_common.report.statistics import share_over_seeds
from rlkl_htc_common.report.tables import MISSING, interval_table

COLUMNS = ["training, s", "prediction, ms per document", "memory, GB"]
MEANING = (
    "Training without evaluation, in seconds, and the prediction of a document, in milliseconds: of the GPU, or of all "
    "processors together. Memory at its peak, likewise."
)


def with_cost(table: Table, losses: Losses) -> Table:
    """A table with a row for each method, and columns behind it: time and memory, where all runs have them."""
    further = _rows(losses)
    if further is None:
        return table
    rows = [[*row, *cells] for row, cells in zip(table.rows, further, strict=True)]
    return replace(table, columns=[*table.columns, *COLUMNS], rows=rows, caption=f"{table.caption} {MEANING}")


def cost_section(losses: Losses) -> Section | None:
    """What each method costs beside what it reaches; None where not all runs have kept it.

    It has a table of its own: behind the rules of the first one its columns would be cut.
    """
    if _rows(losses) is None:
        return None
    score = {"hF1-AUC": [share_over_seeds([run.hf1_auc for run in runs]) for runs in losses.values()]}
    table = interval_table("objective", list(map(label, losses)), score, "Means over seeds.")
    return Section("What it costs", [], [with_cost(table, losses)])


def _rows(losses: Losses) -> list[list[str]] | None:
    """A row of `COLUMNS` for each method; None where a run has not kept what it cost."""
    costs = {method: [run.cost for run in runs if run.cost is not None] for method, runs in losses.items()}
    if any(len(costs[method]) < len(runs) for method, runs in losses.items()):
        return None
    return [_cells(costs[method], losses[method][0].documents) for method in losses]


def _cells(costs: Sequence[Cost], documents: int) -> list[str]:
    """Args: documents: of the test split."""
    predictions = [cost.prediction for cost in costs if cost.prediction is not None]
    return [
        _digits(mean(cost.training for cost in costs)),
        _digits(1000 * mean(predictions) / max(1, documents)) if len(predictions) == len(costs) else MISSING,
        _digits(mean(cost.memory for cost in costs) / 1e9),
    ]


def _digits(value: float) -> str:
    """Two digits of a positive number, or all before the point: 0.034, 3.4, 34, 3,412."""
    if value <= 0:
        return "0"
    return f"{value:,.{max(0, 1 - math.floor(math.log10(value)))}f}"


def tries_section(tries: Sequence[Tried]) -> Section:
    """Every setting that was tried for every method, and which was chosen."""
    methods = list(dict.fromkeys(each.method for each in tries))
    ordered = sorted(tries, key=lambda each: methods.index(each.method))
    table = Table(
        columns=["method", "HF1-AUC on dev", "tried"],
        rows=[[label(each.method), f"{each.hf1_auc:.3f}", _own(each, tries)] for each in ordered],
        caption="HF1-AUC on dev, of the first seed; in bold what was chosen for all seeds.",
        best={(row, 1) for row, each in enumerate(ordered) if each.chosen},
        texts={2},
    )
    number = len(tries) // len(methods)
    said = f"Each method was first trained in {number} ways with one seed; then with all seeds in the way that is best on dev."
    return Section("What was tried", [said], [table], folded=True)


def _own(tried: Tried, tries: Sequence[Tried]) -> str:
    """The settings that not all tries of the method have; all of them where it has one."""
    others = [set(each.settings.split(" ")) for each in tries if each.method == tried.method and each is not tried]
    shared = set.intersection(*others) if others else set()
    return " ".join(word for word in tried.settings.split(" ") if word not in shared)
