"""The part of a hierarchy that matters for one text: the answer's labels, the likely ones, and the best beside them."""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from htc.labels.hierarchy import Hierarchy
from htc.report.icicle import Cell

BESIDE = 4  # of the labels below one, so many of the most probable are shown, besides those of the answer
LEAST = 0.01  # the probability of a label that is shown beside others
OPEN = 0.1  # the probability from which on a label that is not in the answer shows what is below it
ROWS = 60  # labels that are shown; what is below others is only counted
NARROWEST = 0.004  # the share of the figure's width from which on a label is drawn


@dataclass
class Group:
    """The labels below one, or at the top.

    Attributes:
        shown: the most probable first.
        more: how many are not shown.
        most: the highest probability of these, 0 without any.
    """

    shown: list["Branch"] = field(default_factory=list)
    more: int = 0
    most: float = 0.0


@dataclass
class Branch:
    """A label, and what of the hierarchy is shown below it.

    Attributes:
        chosen: whether it is in the answer.
        again: whether what is below it is shown below another of its parents (in a DAG).
    """

    node: int
    name: str
    probability: float
    chosen: bool
    again: bool = False
    below: Group = field(default_factory=Group)


def branches(hierarchy: Hierarchy, probabilities: Tensor, answer: Tensor) -> Group:
    """What matters of the hierarchy for a text, from the top down.

    Labels are taken until there are `ROWS`: what is below labels of the answer first, then below the most probable ones.

    Args:
        probabilities: (N,).
        answer: (N,) bool, closed under ancestors.
    """
    below, starts = (part.tolist() for part in hierarchy.children)
    values, chosen = probabilities.tolist(), answer.tolist()
    root = hierarchy.num_nodes
    top, left, seen = Group(), ROWS, set[int]()
    queue = [(False, 0.0, root, top)]  # the root; then by what is most important; a node is in it at most once
    while queue:
        *_, node, group = heapq.heappop(queue)
        children = sorted(below[starts[node] : starts[node + 1]], key=lambda child: -values[child])
        kept = _kept(children, values, chosen, at_top=node == root) if left > 0 else []
        left -= len(kept)
        for child in kept:
            is_parent = starts[child] < starts[child + 1]
            branch = Branch(child, hierarchy.names[child], values[child], chosen[child], again=is_parent and child in seen)
            group.shown.append(branch)
            if is_parent and not branch.again and (chosen[child] or values[child] >= OPEN):
                heapq.heappush(queue, (not chosen[child], -values[child], child, branch.below))
            seen.add(child)
        not_shown = set(children).difference(kept)
        rest = [values[child] for child in not_shown]
        group.more, group.most = len(rest), max(rest, default=0.0)
    return top


def _kept(children: Sequence[int], values: Sequence[float], chosen: Sequence[bool], at_top: bool) -> list[int]:
    """Which of the labels below one are shown, in their order. Args: children: the most probable first."""
    beside = [child for child in children[:BESIDE] if at_top or values[child] >= LEAST]
    return [child for child in children if chosen[child] or child in beside]


def cells(hierarchy: Hierarchy, probabilities: Tensor, answer: Tensor) -> list[Cell]:
    """The hierarchy as an icicle (`htc.report.icicle`): labels as wide and as bright as they are probable.

    The most probable of siblings stands first. A label is at least as wide as those below it together, which matters where
    documents have several paths; in a DAG it stands below its first parent. Labels too narrow to be seen are left out.

    Args: probabilities (N,); answer (N,) bool. Returns: nothing where all are too narrow.
    """
    values, chosen = probabilities.tolist(), answer.tolist()
    weight = [0.0] * hierarchy.num_nodes
    for node in reversed(range(hierarchy.num_nodes)):
        weight[node] = max(weight[node], values[node])
        if hierarchy.parents[node]:
            weight[hierarchy.parents[node][0]] += weight[node]
    total = max(1.0, sum(weight[node] for node, above in enumerate(hierarchy.parents) if not above))
    drawn = [node for node in range(hierarchy.num_nodes) if weight[node] / total >= NARROWEST]
    left = _lefts(hierarchy, weight, drawn)
    depth = hierarchy.depth.tolist()
    return [
        Cell(
            hierarchy.names[node],
            depth[node],
            left[node] / total,
            weight[node] / total,
            min(1.0, max(0.0, values[node])),
            f"{values[node]:.1%}{', in the answer' if chosen[node] else ''}",
            chosen[node],
        )
        for node in drawn
    ]


def _lefts(hierarchy: Hierarchy, weight: Sequence[float], drawn: Iterable[int]) -> dict[int, float]:
    """Where labels begin: at their (first) parent, the heaviest first."""
    found: dict[int, float] = {}
    free: dict[int | None, float] = {}
    for node in sorted(drawn, key=lambda node: (int(hierarchy.depth[node]), -weight[node])):
        parent = hierarchy.parents[node][0] if hierarchy.parents[node] else None
        found[node] = free.get(parent, 0.0 if parent is None else found[parent])
        free[parent] = found[node] + weight[node]
    return found
