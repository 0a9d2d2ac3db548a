"""The first sentences of a report: which objective wins, and how surely."""

from collections import Counter

from htc.report.comparison import winners
from htc.report.labels import ERRORS, MAIN_RULES, METRICS, SET_METRICS, label, over_seeds_of
from htc.report.records import Losses
from rlkl_htc_common.report.statistics import Interval, over_seeds, share_over_seeds


def mean_scores(losses: Losses, metric: str) -> dict[str, dict[str, float]]:
    """rule -> objective -> mean over seeds."""
    found = {rule: {loss: over_seeds_of(runs, rule, metric) for loss, runs in losses.items()} for rule in MAIN_RULES}
    return {rule: {loss: i.mean for loss, i in by_loss.items() if i is not None} for rule, by_loss in found.items()}


def metrics_of(losses: Losses) -> list[str]:
    """The metrics that some runs have; not incoherence, which most rules make impossible."""
    compared = [metric for metric in METRICS if metric in (*SET_METRICS, *ERRORS) and metric != "incoherence_rate"]
    return [metric for metric in compared if any(mean_scores(losses, metric).values())]


def wins(losses: Losses) -> tuple[Counter[str], int]:
    """How often each objective is first, ties counting for each, and of how many combinations of metric and rule."""
    firsts = [
        first for metric in metrics_of(losses) for first in winners(mean_scores(losses, metric), metric in ERRORS).values()
    ]
    return Counter(loss for objectives in firsts for loss in objectives), len(firsts)


def verdict(losses: Losses) -> str:
    """Who leads how often, by how much the last one trails, and what all others have."""
    count, combinations = wins(losses)
    auc = {loss: share_over_seeds([run.hf1_auc for run in runs]) for loss, runs in losses.items()}
    leader = max(count, key=lambda loss: (count[loss], auc[loss].mean)) if count else max(auc, key=lambda loss: auc[loss].mean)
    last = min(auc, key=lambda loss: auc[loss].mean)
    led = f"{count[leader]} of {combinations} combinations of rule and metric"
    said = f"{label(leader)} leads {led}, with an hF1-AUC of {_shown(auc[leader])}"
    if last == leader:
        return f"{said}."
    trails = f"{said}; {label(last)} trails by {auc[leader].mean - auc[last].mean:.2f} ({_shown(auc[last])})"
    others = sorted(auc[loss].mean for loss in losses if loss not in (leader, last))
    if not others:
        return f"{trails}."
    between = f"{others[0]:.3f} to {others[-1]:.3f}" if len(others) > 1 else f"{others[0]:.3f}"
    return f"{trails}, the other{'s have' if len(others) > 1 else ' has'} {between}."


def caveat(losses: Losses) -> str:
    """How the leader compares with the objective that comes next."""
    ordered = sorted(losses, key=lambda loss: -over_seeds([run.hf1_auc for run in losses[loss]]).mean)
    if len(ordered) < 2:
        return ""
    first, second = ordered[:2]
    pairs = zip(losses[first], losses[second], strict=True)
    found = over_seeds([a.hf1_auc - b.hf1_auc for a, b in pairs])
    if found.few:
        return f"Of so few seeds there is no interval: {label(first)} differs from {label(second)} by {found.range} in hF1-AUC."
    how = f"{found.mean:+.3f} ({found.range}, paired over {found.values} seeds)"
    return f"By hF1-AUC {label(first)} is {found.verdict} {label(second)}, the next: {how}."


def _shown(interval: Interval) -> str:
    return f"{interval.mean:.3f}" if interval.few else str(interval)
