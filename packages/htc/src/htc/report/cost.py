"""What methods cost, beside their scores, and what was tried for each."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import mean

from htc.report.labels import label
from htc.report.records import Cost, Losses, Tried
from rlkl_htc_common.report.page import Section, Table
from rlkl_htc_common.report.tables import MISSING


def with_cost(table: Table, losses: Losses) -> Table:
    """A table with a row for each method, and columns behind it: time and memory, where all runs have them."""
    costs = {method: [run.cost for run in runs if run.cost is not None] for method, runs in losses.items()}
    if any(len(costs[method]) < len(runs) for method, runs in losses.items()):
        return table
    columns = ["training, s", "prediction, ms", "memory, GB"]
    further = [_cells(costs[method], losses[method][0].documents) for method in losses]
    rows = [[*row, *cells] for row, cells in zip(table.rows, further, strict=True)]
    caption = (
        f"{table.caption} Training without evaluation, in seconds, and the prediction of a document, in milliseconds: of the "
        "GPU, or of all processors together. Memory at its peak, likewise."
    )
    return replace(table, columns=[*table.columns, *columns], rows=rows, caption=caption)


def _cells(costs: Sequence[Cost], documents: int) -> list[str]:
    """Args: documents: of the test split."""
    predictions = [cost.prediction for cost in costs if cost.prediction is not None]
    return [
        f"{mean(cost.training for cost in costs):,.0f}",
        f"{1000 * mean(predictions) / max(1, documents):.1f}" if len(predictions) == len(costs) else MISSING,
        f"{mean(cost.memory for cost in costs) / 1e9:.1f}",
    ]


def tries_section(tries: Sequence[Tried]) -> Section:
    """Every setting that was tried for every method, and which was chosen."""
    methods = list(dict.fromkeys(each.method for each in tries))
    ordered = sorted(tries, key=lambda each: methods.index(each.method))
    table = Table(
        columns=["method", "tried", "HF1-AUC on dev"],
        rows=[[label(each.method), each.settings, f"{each.hf1_auc:.3f}"] for each in ordered],
        caption="HF1-AUC on dev, of the first seed; in bold what was chosen for all seeds.",
        best={(row, 2) for row, each in enumerate(ordered) if each.chosen},
        texts={1},
    )
    number = len(tries) // len(methods)
    return Section(
        "What was tried", [f"Each method was trained in {number} ways before, and all seeds in the best."], [table], folded=True
    )
