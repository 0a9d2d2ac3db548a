"""The part of the report that holds a reproduction against another one, with another encoder or recipe: paired over seeds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from htc.report.labels import MAIN_RULES, METRICS, label, rule_label
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.report.page import Section, Table
from rlkl_htc_common.report.statistics import Interval, over_seeds
from rlkl_htc_common.runs.directory import read_json

SAME = ("train", "dev", "test", "hierarchy_fingerprint")
Differences = list[Interval | None]


def load_other(folder: str, dataset: dict[str, Any], losses: Sequence[str], seeds: list[int]) -> dict[str, Any]:
    """The summary of the reproduction that another one wrote into a folder.

    Args:
        dataset: the facts of this one's documents; losses, seeds: its runs.

    Raises:
        InputError: if there is none, or it is on other documents, labels or seeds, or has no objective in common.
    """
    advice = f"name the folder of a reproduction that has ended, not against={folder}"
    other = read_json(Path(folder) / "summary.json", advice)
    if not all(isinstance(other.get(part), kind) for part, kind in (("seeds", list), ("dataset", dict), ("losses", dict))):
        raise InputError(f"{Path(folder) / 'summary.json'} is of no reproduction by htc; {advice}.")
    if other["seeds"] != seeds:
        raise InputError(f"against={folder}: its seeds are {other['seeds']}, these are {seeds}; runs are paired by seed.")
    for fact in SAME:
        if dataset[fact] != other["dataset"].get(fact):
            raise InputError(f"against={folder}: its {fact} is {other['dataset'].get(fact)}, here it is {dataset[fact]}.")
    if dataset["fingerprint"] != other["dataset"].get("fingerprint"):
        raise InputError(
            f"against={folder}: its texts, labels or the draw of its splits are not known to be these; run both reproductions "
            "with the same dataset settings."
        )
    if not set(losses) & set(other["losses"]):
        raise InputError(f"against={folder}: it has none of the objectives {', '.join(losses)}.")
    return other


def against_section(summary: dict[str, Any], other: dict[str, Any], folder: str) -> Section:
    """Differences of the objectives that both have.

    Args:
        summary, other: what `htc.report.reproduction.summarize` gave, of the same documents and seeds.
        folder: what to call the other one.
    """
    shared = [loss for loss in summary["losses"] if loss in other["losses"]]
    pairs = {loss: list(zip(summary["losses"][loss], other["losses"][loss], strict=True)) for loss in shared}
    tables = [_table(pairs, metric, folder) for metric in ("hf1_micro", "hf1_samples")]
    return Section(f"Against {Path(folder).name}", [], tables)


def _table(pairs: dict[str, list[tuple[Any, Any]]], metric: str, folder: str) -> Table:
    rows: list[tuple[str, Differences]] = [
        (
            label(loss),
            [
                over_seeds([here["hf1_auc"] - there["hf1_auc"] for here, there in runs]),
                *(_difference(runs, rule, metric) for rule in MAIN_RULES),
            ],
        )
        for loss, runs in pairs.items()
    ]
    return Table(
        columns=["objective", "hF1-AUC", *(rule_label(rule) for rule in MAIN_RULES)],
        rows=[[name, *map(_cell, differences)] for name, differences in rows],
        caption=f"HF1-AUC and {METRICS[metric]}: how much higher than in {folder}, with the 95% interval of the paired "
        "differences over seeds; where the interval leaves out 0, it is in bold.",
        best={
            (row, column)
            for row, (_, differences) in enumerate(rows)
            for column, found in enumerate(differences, start=1)
            if found is not None and (found.low > 0 or found.high < 0)
        },
    )


def _difference(runs: list[tuple[Any, Any]], rule: str, metric: str) -> Interval | None:
    if not all(rule in run["rules"] for pair in runs for run in pair):
        return None
    return over_seeds([here["rules"][rule][metric] - there["rules"][rule][metric] for here, there in runs])


def _cell(difference: Interval | None) -> str:
    if difference is None:
        return "–"
    return difference.shown("+.3f")
