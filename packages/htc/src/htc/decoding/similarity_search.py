"""The node with the largest expected similarity to the end of the path: a branch-and-bound search down the tree.

The similarity of a node n and an end e is 2 m(lca) / (m(n) + m(e)). The measure m is depth or information; it is 0 at the root
and never falls on the way down. Let M(a, u) be the probability of the ends at or below a with measure u. Then

    expected similarity of n = sum over u of G(n, u) 2 / (m(n) + u)
    G(n, u) = sum over a from the top to n of (m(a) - m(parent of a)) M(a, u)

So a node costs one sum over the distinct measures, a few dozen: no matrix of all pairs of nodes. M is the difference of two
running sums over the ends, sorted by measure and then depth first.

Below a node a, with v the least measure of its children, the expected similarity is at most

    sum over u of G(a, u) 2 / (v + u) + M(a, u) (1 - m(a) / u)

because 2 (m(lca) - m(a)) / (m(n) + u) is largest for an lca and an n of measure u. For a child c, before its M is computed,
only its probability is needed: at or below c, the similarity is at most sum of G(a, u) 2 / (v + u) + P(c) (1 - m(a) / largest
measure). The search starts from the best node on the most probable path, and enters only subtrees whose bound exceeds the best
value so far.

Theorem 4.4 of the source has one bound for all nodes of a document; here each subtree has its own bound, and most subtrees are
never entered. Scope: one true path, one predicted node.

Source: Plaud et al., "To Each Metric Its Decoding", ICML 2025.

Notation for shapes: B documents, N nodes, V distinct measures, P pairs of a document and a node.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from htc.decoding.expected import end_probabilities
from htc.labels.hierarchy import Hierarchy
from htc.labels.label_sets import Scores, as_scores
from htc.labels.sparse_sets import spread

CELLS = 2**22  # documents x nodes, or x nodes of a level x measures, at a time; limits memory
TIE = 1e-12  # smaller differences count as ties
SLACK = 1e-9  # a bound may be lower than the best value by this much: far more than rounding


class _Measure(NamedTuple):
    """A measure, and an index of the ends below each node.

    Attributes:
        of_node: (N + 1,) float64, the root last.
        values: (V,) the distinct values, ascending.
        order: (N,) the nodes by measure, then depth first.
        row: (N + 1,) the row of each inner node in `start` and `end`, -1 for leaves.
        start, end: (inner nodes, V) the range in `order` of the nodes of each measure below the inner node.
        of_leaf, of_child: (N + 1,) the least measure of a node's leaf children, and of all its children.
        children: see `Hierarchy.children`.
    """

    of_node: Tensor
    values: Tensor
    order: Tensor
    row: Tensor
    start: Tensor
    end: Tensor
    of_leaf: Tensor
    of_child: Tensor
    children: tuple[Tensor, Tensor]


class _Documents(NamedTuple):
    """Some documents.

    Attributes:
        ends: (B, N) float64, the probability that the path ends at each node.
        mass: (B, N) the probability of an end at or below each node.
        running: (B, N + 1) cumulative sums of the ends in the measure's order, starting with 0.
    """

    ends: Tensor
    mass: Tensor
    running: Tensor


class _Pairs(NamedTuple):
    """Nodes of documents: document (P,); node (P,), N for the root; gathered (P, V): G; below (P, V): M."""

    document: Tensor
    node: Tensor
    gathered: Tensor
    below: Tensor


class _Best(NamedTuple):
    """The largest expected similarity so far and its node, (B,) each."""

    value: Tensor
    node: Tensor


def most_similar(probabilities: Scores, hierarchy: Hierarchy, measure: Tensor, prune: bool = True) -> Tensor:
    """The node with the largest expected similarity for each document.

    Args:
        probabilities: (B, N) coherent, of one path.
        hierarchy: a tree.
        measure: (N,) float64, not negative, never less than at the parent, and equal for all leaves with the same parent.
        prune: whether to skip subtrees that cannot be best; the result is the same.

    Returns:
        (B,) int64; ties go to the first node.

    Raises:
        InputError: if the hierarchy is not a tree.
    """
    probabilities = as_scores(probabilities, hierarchy, "probabilities")
    index = _index(hierarchy, measure.to(probabilities.device))
    widest = max(int((~hierarchy.is_leaf[level]).sum()) for level in hierarchy.levels) * len(index.values)
    rows = max(1, CELLS // max(hierarchy.num_nodes, widest))
    parts = [_search(part, hierarchy, index, prune) for part in probabilities.split(rows)]
    return torch.cat(parts)


def _search(probabilities: Tensor, hierarchy: Hierarchy, index: _Measure, prune: bool) -> Tensor:
    ends = end_probabilities(probabilities.double(), hierarchy)
    documents = _Documents(ends, _mass(ends, hierarchy), F.pad(ends[:, index.order].cumsum(1), (1, 0)))
    every = torch.arange(len(ends), device=ends.device)
    nothing = ends.new_zeros(len(ends), len(index.values))
    pairs = _Pairs(every, torch.full_like(every, hierarchy.num_nodes), nothing, nothing)
    best = _Best(ends.new_full((len(ends),), -1.0), torch.zeros_like(every))
    floor = _on_the_likeliest_path(pairs, best, documents, index).value - SLACK if prune else None
    while len(pairs.node):
        row, child, mass = _children(pairs, documents, index)
        if floor is not None:
            largest = _likeness(pairs.gathered, index.of_child[pairs.node], index)[row]
            largest = largest + mass * _share(index.values[-1], index.of_node[pairs.node])[row]
            row, child, mass = _where(largest >= floor[pairs.document[row]], row, child, mass)
        pairs, found, value = _evaluate(pairs, row, child, mass, documents, index)
        best = _better(best, found, value)
        if floor is not None:
            floor = torch.maximum(floor, best.value - SLACK)
            beyond = (pairs.below * _share(index.values, index.of_node[pairs.node][:, None])).sum(1)
            largest = _likeness(pairs.gathered, index.of_child[pairs.node], index) + beyond
            pairs = _Pairs(*_where(largest >= floor[pairs.document], *pairs))
    return best.node


def _on_the_likeliest_path(pairs: _Pairs, best: _Best, documents: _Documents, index: _Measure) -> _Best:
    """The best node on the path of most probable children."""
    while len(pairs.node):
        row, child, mass = _children(pairs, documents, index)
        most = mass.new_zeros(len(pairs.node)).scatter_reduce(0, row, mass, "amax")
        row, child, mass = _where(mass == most[row], row, child, mass)
        pairs, found, value = _evaluate(pairs, row, child, mass, documents, index)
        best = _better(best, found, value)
    return best


def _children(pairs: _Pairs, documents: _Documents, index: _Measure) -> tuple[Tensor, Tensor, Tensor]:
    """The children of each pair's node, (n,) each: the row of the pair, the child, the child's probability."""
    children, starts = index.children
    row, position = spread(starts[pairs.node], starts[pairs.node + 1] - starts[pairs.node])
    child = children[position]
    return row, child, documents.mass[pairs.document[row], child]


def _evaluate(
    pairs: _Pairs, row: Tensor, child: Tensor, mass: Tensor, documents: _Documents, index: _Measure
) -> tuple[_Pairs, tuple[Tensor, Tensor], Tensor]:
    """The expected similarity of some children.

    Args: row, child, mass (n,): see `_children`.

    Returns:
        The children that have children; document and node of all children, (n,) each; their expected similarity (n,).
    """
    inner = index.row[child] >= 0
    leaf_row, leaf, of_leaf = _where(~inner, row, child, mass)
    step = _share(index.of_node[leaf], index.of_node[pairs.node[leaf_row]])
    at_leaf = _likeness(pairs.gathered, index.of_leaf[pairs.node], index)[leaf_row] + of_leaf * step
    row, child = row[inner], child[inner]
    document, place = pairs.document[row], index.row[child]
    running, first = documents.running.flatten(), (document * documents.running.shape[1])[:, None]
    below = (running[first + index.end[place]] - running[first + index.start[place]]).clamp_min(0.0)  # (n, V)
    step = (index.of_node[child] - index.of_node[pairs.node[row]])[:, None]
    into = _Pairs(document, child, pairs.gathered[row] + step * below, below)
    at_inner = _likeness(into.gathered, index.of_node[child], index)
    found = torch.cat([pairs.document[leaf_row], document]), torch.cat([leaf, child])
    return into, found, torch.cat([at_leaf, at_inner])


def _better(best: _Best, found: tuple[Tensor, Tensor], value: Tensor) -> _Best:
    """Update the best with new nodes; of equal values, the first node. Args: found: document and node (n,)."""
    document, node = found
    largest = torch.full_like(best.value, -1.0).scatter_reduce(0, document, value, "amax")
    document, node = _where(value >= largest[document] - TIE, document, node)
    first = torch.full_like(best.node, torch.iinfo(torch.long).max).scatter_reduce(0, document, node, "amin")
    better = largest > best.value + TIE
    return _Best(largest.where(better, best.value), first.where(better, best.node))


def _likeness(gathered: Tensor, measure: Tensor, index: _Measure) -> Tensor:
    """The sum over u of G(u) 2 / (measure + u), 0 for 0 / 0. Args: gathered (P, V); measure (P,). Returns: (P,)."""
    both = measure[:, None] + index.values
    return (gathered * (2 / both).masked_fill(both == 0, 0.0)).sum(1)


def _share(measure: Tensor, above: Tensor) -> Tensor:
    """(measure - measure above) / measure, at least 0, and 0 for 0 / 0."""
    return (1 - above / measure).masked_fill(measure == 0, 0.0).clamp_min(0.0)


def _where(chosen: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
    return tuple(value[chosen] for value in values)


def _mass(ends: Tensor, hierarchy: Hierarchy) -> Tensor:
    """The probability of an end at or below each node. Args: ends (B, N). Returns: (B, N)."""
    mass, parent = ends.clone(), hierarchy.parent.to(ends.device)
    for level in reversed(hierarchy.levels[1:]):
        mass.index_add_(1, parent[level], mass[:, level].clone())
    return mass


def _index(hierarchy: Hierarchy, measure: Tensor) -> _Measure:
    device = measure.device
    nodes, parent = hierarchy.num_nodes, hierarchy.parent.to(device)
    size = torch.ones(nodes, dtype=torch.long, device=device)
    for level in reversed(hierarchy.levels[1:]):
        size.index_add_(0, parent[level], size[level].clone())
    number = _depth_first(hierarchy, parent, size)
    values, kind = measure.unique(return_inverse=True)
    keys, order = (kind * nodes + number).sort()
    inner = (~hierarchy.is_leaf).nonzero().squeeze(1).to(device)
    row = torch.full((nodes + 1,), -1, device=device)
    row[inner] = torch.arange(len(inner), device=device)
    first = torch.arange(len(values), device=device) * nodes + number[inner, None]  # (inner nodes, V)
    above = parent.where(parent >= 0, nodes)
    is_leaf = hierarchy.is_leaf.to(device)
    infinite = measure.new_full((nodes + 1,), torch.inf)
    return _Measure(
        torch.cat([measure, measure.new_zeros(1)]),
        values,
        order,
        row,
        torch.searchsorted(keys, first),
        torch.searchsorted(keys, first + size[inner, None]),
        infinite.scatter_reduce(0, above[is_leaf], measure[is_leaf], "amin"),
        infinite.scatter_reduce(0, above, measure, "amin"),
        tuple(index.to(device) for index in hierarchy.children),  # type: ignore[arg-type]
    )


def _depth_first(hierarchy: Hierarchy, parent: Tensor, size: Tensor) -> Tensor:
    """The number of each node in depth-first order. Args: parent (N,); size (N,) of each node's subtree. Returns: (N,)."""
    number = torch.zeros_like(size)
    for level in hierarchy.levels:
        before = size[level].cumsum(0) - size[level]  # siblings are adjacent
        group = parent[level]
        first = torch.cat([group.new_ones(1, dtype=torch.bool), group[1:] != group[:-1]])
        before = before - before[first][first.cumsum(0) - 1]
        number[level] = before + torch.where(group >= 0, number[group] + 1, 0)
    return number
