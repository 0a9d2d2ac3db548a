"""The first sentences of a report: what came out, with its numbers, and what they rest on."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from rlkl.report.conditions import Conditions, compared
from rlkl.report.methods import COLUMNS, column_names, difference, final
from rlkl.report.records import Analysis, Pairs, Runs, Start
from rlkl_htc_common.report.statistics import Interval

CAVEAT = (
    "Intervals hold the variance over seeds, of one pre-trained model and on one set of test problems. Each comparison stands "
    "for itself: of twenty, one is expected to miss by chance."
)
INTERVALS = "Intervals are over problems, of one model each; of another one trained alike nothing is known."
LONGER = COLUMNS[1][0]


class Compared(NamedTuple):
    """A comparison of two methods, without what their names share: where both are; their difference."""

    one: str
    other: str
    where: str
    found: Interval


def of_methods(runs: Runs, pairs: Pairs) -> str:
    """Which method ends above which on more digits, and which is highest."""
    name = column_names(runs)[1]
    ends = {method: final(seeds, LONGER) for method, seeds in runs.items()}
    best = max(ends, key=lambda method: ends[method].mean)
    if not pairs:
        return f"{best}: {name} {_shown(ends[best])}, the highest of {len(ends)}."
    (one, other), several = pairs[0], len({first for first, *_ in pairs}) > 1
    if several:
        one_start = len({run.model for seeds in runs.values() for run in seeds}) == 1
        return f"{_counted(runs, pairs, name)}{f' Highest: {best}, {_shown(ends[best])}.' if one_start else ''}"
    found = difference(runs, one, other, LONGER)
    said = f"{one}: {name} {ends[one].mean:.2f}; {other}: {ends[other].mean:.2f}"
    said += "." if found is None else f" ({_named(found)})."
    if best in (one, other):
        return f"{said} {best} is the highest of {len(ends)}." if len(ends) > 2 else said
    above = difference(runs, one, best, LONGER)
    gap = "" if above is None or above.few else f"; {one} is {above.verdict} it ({_named(above)})"
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
    """How the comparisons end, by kind, and the largest difference: of those that an interval is sure of, where there are."""
    compared = [
        Compared(*_apart(one, other), found)
        for one, other in pairs
        if (found := difference(runs, one, other, LONGER)) is not None
    ]
    if not compared:
        return f"{len(pairs)} comparisons of {name}, of one seed each."
    few = any(each.found.few for each in compared)
    largest = max(compared, key=lambda each: (each.found.is_sure, abs(each.found.mean)))
    names = f"{largest.one} and {largest.other}{f', {largest.where}' if largest.where else ''}"
    largest_of = f"Largest difference: {names} ({_difference(largest.found)})." if few or largest.found.is_sure else ""
    ended = f"{len(compared)} comparisons, of too few seeds for intervals" if few else "; ".join(_by_kind(compared))
    return f"{name}: {ended}. {largest_of}".strip()


def _apart(one: str, other: str) -> tuple[str, str, str]:
    """What tells the names of two methods apart, in each, and what they share: `A2C, none` and `A2C, standard` share A2C."""
    parts, others = one.split(", "), other.split(", ")
    shared = [part for part in parts if part in others]
    mine, yours = (", ".join(part for part in each if part not in shared) for each in (parts, others))
    return (mine, yours, ", ".join(shared)) if mine and yours else (one, other, "")


def _by_kind(compared: Sequence[Compared]) -> list[str]:
    """A clause for each two kinds of methods that are compared in several places; without such, for each that others face."""
    kinds: dict[tuple[str, str], dict[str, list[str]]] = {}
    for each in compared:
        kinds.setdefault((each.one, each.other), {}).setdefault(each.found.verdict, []).append(each.where or "default")
    several = {kind: ends for kind, ends in kinds.items() if sum(map(len, ends.values())) > 1}
    if several:
        return [_clause(one, other, ends) for (one, other), ends in several.items()]
    facing: dict[tuple[str, str], list[str]] = {}
    for each in compared:
        facing.setdefault((each.found.verdict, each.other), []).append(each.one)
    return [f"{listed(ones)} {'is' if len(ones) == 1 else 'are'} {said} {other}" for (said, other), ones in facing.items()]


def _clause(one: str, other: str, ends: dict[str, list[str]]) -> str:
    """How often one kind is above another, and where: `A is above B in 2 of 3 (x, y), not significantly different in 1 (z)`."""
    total = sum(map(len, ends.values()))
    (first, places), *others = sorted(ends.items(), key=lambda item: -len(item[1]))
    said = f"{one} is {first} {other} in {len(places)} of {total} ({', '.join(places)})"
    more = [f"{verdict.removesuffix(' from')} in {len(where)} ({', '.join(where)})" for verdict, where in others]
    return ", ".join([said, *more])


def listed(names: Sequence[str], word: str = "and") -> str:
    """Names as in a sentence: `a, b and c`."""
    return f" {word} ".join([*([", ".join(names[:-1])] if len(names) > 1 else []), names[-1]])


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
        lost = "changes the right answers" if group.lost is None else f"loses {group.lost:.0%} of the right answers"
        worth = group.importance
        said.append(
            f"One wrong character ({group.group}) {lost}: {group.wrong.mean:.2f} are left of {group.right.mean:.2f} "
            f"(difference {worth.mean:.2f}, {worth.low:.2f} to {worth.high:.2f})."
        )
    found = max(result.detection.get("critical", {}).items(), key=lambda item: item[1].average_precision, default=None)
    if found is not None:
        name, scores = found[0].replace("_", " "), found[1]
        said.append(
            f"Uncertainty by {name} finds critical tokens with an average precision of {scores.average_precision:.2f}; chance "
            f"would have {scores.base_rate:.2f}."
        )
    return " ".join(said)


def _shown(interval: Interval) -> str:
    return f"{interval.mean:.2f}" if interval.few else str(interval)


def _named(found: Interval) -> str:
    """A difference, and whether it is none that counts."""
    none = not found.few and not found.is_sure
    return f"{'no significant difference:' if none else 'difference'} {_difference(found)}"


def _difference(found: Interval) -> str:
    if found.few:
        return found.shown("+.2f")
    return f"{found.mean:+.2f}, {found.low:+.2f} to {found.high:+.2f}, {found.values} seeds"
