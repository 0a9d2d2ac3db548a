"""The first sentences of a report: what came out, with its numbers, and what they rest on."""

from collections import Counter

from rlkl.report.conditions import Conditions, compared
from rlkl.report.methods import COLUMNS, column_names, difference, final
from rlkl.report.records import Analysis, Pairs, Runs, Start
from rlkl_htc_common.report.statistics import Interval

CAVEAT = (
    "Intervals hold the variance over seeds, of one pre-trained model and on one set of test problems. Each comparison stands "
    "for itself: of twenty, one is expected to miss by chance."
)
INTERVALS = "Intervals are over problems, of one model each; of another one trained alike nothing is known."
ENDS = {
    "above": "ends above the second",
    "below": "ends below it",
    "not significantly different from": "is not significantly different",
    "compared with": "is compared with too few seeds",
}
LONGER = COLUMNS[1][0]


def of_methods(runs: Runs, pairs: Pairs) -> str:
    """Which method ends above which on more digits, and which is highest."""
    name = column_names(runs)[1]
    ends = {method: final(seeds, LONGER) for method, seeds in runs.items()}
    best = max(ends, key=lambda method: ends[method].mean)
    if not pairs:
        return f"{best}: {name} {_shown(ends[best])}, the highest of {len(ends)}."
    (one, other), several = pairs[0], len({first for first, *_ in pairs}) > 1
    if several:
        return f"{_counted(runs, pairs, name)} Highest: {best}, {_shown(ends[best])}."
    found = difference(runs, one, other, LONGER)
    said = f"{one}: {name} {ends[one].mean:.2f}; {other}: {ends[other].mean:.2f}"
    said += "." if found is None else f" (difference {_difference(found)})."
    if best in (one, other):
        return f"{said} {best} is the highest of {len(ends)}." if len(ends) > 2 else said
    above = difference(runs, one, best, LONGER)
    gap = "" if above is None or above.few else f"; {one} is {above.verdict} it (difference {_difference(above)})"
    return f"{said} Highest is {best}, {_shown(ends[best])}{gap}."


def of_conditions(runs: Runs, conditions: Conditions) -> str:
    """How the best of two kinds of methods differ, where successes are rarest and where they are most frequent."""
    found, (one, other) = compared(runs, conditions), next(iter(conditions.values()))
    known = [each for each in found if each.gain is not None]
    if not known:
        return f"{len(found)} conditions, of one seed each: best {one} and best {other}."
    counts = Counter(each.gain.verdict for each in known if each.gain is not None)
    said = "; ".join(f"{verdict} best {other} in {count}" for verdict, count in counts.most_common())
    ends = [known[0], known[-1]] if len(known) > 1 else known
    at = [f"{each.gain.mean:+.2f} at {each.success.mean:.2f} ({each.name})" for each in ends if each.gain is not None]
    return f"Best {one} is {said} of {len(known)} conditions. Difference by successes before: {'; '.join(at)}."


def _counted(runs: Runs, pairs: Pairs, name: str) -> str:
    """How many comparisons end which way, and the largest difference."""
    found = [(one, other, interval) for one, other in pairs if (interval := difference(runs, one, other, LONGER)) is not None]
    if not found:
        return f"{len(pairs)} comparisons of {name}, of one seed each."
    one, other, largest = max(found, key=lambda each: abs(each[2].mean))
    counts = Counter(interval.verdict for *_, interval in found)
    said = ", ".join(f"{ENDS[verdict]} in {count}" for verdict, count in counts.most_common())
    largest_of = f"Largest difference: {one} and {other} ({_difference(largest)})."
    return f"{name}: of {len(found)} comparisons the first method {said}. {largest_of}"


def of_starts(starts: dict[str, Start]) -> str:
    """How well models calculate before any fine-tuning."""
    said = []
    for name, start in starts.items():
        rows = [row for row in start.rows if row.operands == "varying"] or start.rows
        shown = [(row.digits - start.trained_digits, row.accuracy) for row in rows]
        parts = [f"{accuracy:.2f} on {f'N+{beyond}' if beyond else 'N'}" for beyond, accuracy in shown if beyond in (0, 1)]
        said.append(f"{name} {' and '.join(parts)} digits")
    return f"Right answers before fine-tuning: {'; '.join(said)}."


def of_analysis(result: Analysis) -> str:
    """What a wrong critical token costs, and whether uncertainty finds critical tokens."""
    said = []
    group = next(iter(result.counterfactual.groups), None)
    if group is not None:
        lost = "" if group.lost is None else f", which is {group.lost:.0%} of them"
        worth = group.importance
        said.append(
            f"One wrong character ({group.group}) lowers the share of right answers by {worth.mean:.2f} "
            f"({worth.low:.2f} to {worth.high:.2f}){lost}."
        )
    found = max(result.detection.get("critical", {}).items(), key=lambda item: item[1].average_precision, default=None)
    if found is not None:
        name, scores = found[0].replace("_", " "), found[1]
        said.append(
            f"Uncertainty by {name} finds critical tokens with an average precision of {scores.average_precision:.2f}, against "
            f"{scores.base_rate:.2f} by chance."
        )
    return " ".join(said)


def _shown(interval: Interval) -> str:
    return f"{interval.mean:.2f}" if interval.few else str(interval)


def _difference(found: Interval) -> str:
    if found.few:
        return found.shown("+.2f")
    return f"{found.mean:+.2f}, {found.low:+.2f} to {found.high:+.2f}, {found.values} seeds"
