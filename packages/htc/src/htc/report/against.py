"""The part of the report that holds a reproduction against another one, with another encoder or recipe: paired over seeds."""

from collections.abc import Sequence
from pathlib import Path

from htc.report.labels import MAIN_RULES, METRICS, label, rule_label
from htc.report.records import Facts, Losses, Scores, Summary
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.report.page import Section, Table
from rlkl_htc_common.report.statistics import Interval, over_seeds
from rlkl_htc_common.report.tables import difference_table

SAME = ("train", "dev", "test", "hierarchy_fingerprint")


def load_other(folder: str, dataset: Facts, losses: Sequence[str], seeds: list[int]) -> Summary:
    """The summary of the reproduction that another one wrote into a folder.

    Args:
        dataset: the facts of this one's documents; losses, seeds: its runs.

    Raises:
        InputError: if there is none, or it is on other documents, labels or seeds, or has no objective in common.
    """
    advice = f"name the folder of a reproduction that has ended, not against={folder}"
    other = Summary.load(Path(folder), advice)
    if other.seeds != seeds:
        raise InputError(f"against={folder}: its seeds are {other.seeds}, these are {seeds}; runs are paired by seed.")
    for fact in SAME:
        theirs, ours = getattr(other.dataset, fact), getattr(dataset, fact)
        if theirs != ours:
            raise InputError(f"against={folder}: its {fact} is {theirs}, here it is {ours}.")
    if dataset.fingerprint != other.dataset.fingerprint:
        raise InputError(
            f"against={folder}: its texts, labels or the draw of its splits are not known to be these; run both reproductions "
            "with the same dataset settings."
        )
    if not set(losses) & set(other.losses):
        raise InputError(f"against={folder}: it has none of the objectives {', '.join(losses)}.")
    return other


def against_section(losses: Losses, others: Losses, folder: str) -> Section:
    """Differences of the objectives that both have.

    Args:
        losses, others: of the same documents and seeds.
        folder: what to call the other ones.
    """
    pairs = {loss: list(zip(runs, others[loss], strict=True)) for loss, runs in losses.items() if loss in others}
    return Section(
        f"Against {Path(folder).name}", [], [_table(pairs, metric, folder) for metric in ("hf1_micro", "hf1_samples")]
    )


def _table(pairs: dict[str, list[tuple[Scores, Scores]]], metric: str, folder: str) -> Table:
    columns: dict[str, list[Interval | None]] = {
        "hF1-AUC": [over_seeds([here.hf1_auc - there.hf1_auc for here, there in runs]) for runs in pairs.values()],
        **{rule_label(rule): [_difference(runs, rule, metric) for runs in pairs.values()] for rule in MAIN_RULES},
    }
    caption = (
        f"HF1-AUC and {METRICS[metric]}: how much higher than in {folder}, with the 95% interval of the paired "
        "differences over seeds; where the interval leaves out 0, it is in bold."
    )
    return difference_table("objective", [label(loss) for loss in pairs], columns, caption)


def _difference(runs: list[tuple[Scores, Scores]], rule: str, metric: str) -> Interval | None:
    if not all(rule in run.rules for pair in runs for run in pair):
        return None
    return over_seeds([here.rules[rule][metric] - there.rules[rule][metric] for here, there in runs])
