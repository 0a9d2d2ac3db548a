"""Metrics against their definitions, written out with sets and loops, on random trees and DAGs with several paths."""

import itertools
import math

import networkx
import numpy as np
import pytest
import torch

from htc import Hierarchy, InputError, metrics
from htc.metrics.counts import divide

from ..conftest import random_dag, random_tree, single_paths

DOCUMENTS = 12
ROOT = -1
cases = pytest.mark.parametrize(("make", "seed"), list(itertools.product([random_tree, random_dag], range(5))))


def drawn(make, seed, nodes=20):
    """A hierarchy, and true and predicted label sets: several paths, predictions incoherent and sometimes empty."""
    h = make(seed, nodes)
    torch.manual_seed(seed)
    true = h.close(torch.rand(DOCUMENTS, nodes) < 0.1) | single_paths(h, DOCUMENTS, seed)
    predicted = torch.rand(DOCUMENTS, nodes) < 0.2
    predicted[: DOCUMENTS // 2] |= h.close(true[: DOCUMENTS // 2] & (torch.rand(DOCUMENTS // 2, nodes) < 0.5))
    predicted[-1] = False
    return h, true, predicted


def members(sets):
    return [set(row.nonzero().squeeze(1).tolist()) for row in sets]


def upwards(h):
    """child -> parent, the root being a node."""
    return networkx.DiGraph([(node, parent) for node, above in enumerate(h.parents) for parent in above or [ROOT]])


def ancestors(h, node):
    return set(networkx.descendants(upwards(h), node)) - {ROOT} | {node}


def closed(h, labels):
    return set().union(*(ancestors(h, node) for node in labels)) if labels else set()


def specific(h, labels):
    """Those without another label anywhere below."""
    return {node for node in labels if not any(node in ancestors(h, other) - {other} for other in labels)}


def prf(both, predicted, true):
    p, r = both / predicted if predicted else 0.0, both / true if true else 0.0
    return p, r, 2 * both / (predicted + true) if predicted + true else 0.0


@cases
def test_macro_hierarchical_scores(make, seed):
    h, true, predicted = drawn(make, seed)
    of_class = np.zeros((h.num_nodes, 3))
    for t, p in zip(members(true), members(predicted), strict=True):
        p = closed(h, p)
        for node in range(h.num_nodes):
            of_class[node] += (node in t and node in p, node in p, node in t)
    expected = np.mean([prf(*row) for row in of_class], axis=0)
    assert metrics.hierarchical_precision_recall_f(true, predicted, h, "macro") == pytest.approx(tuple(expected), abs=1e-9)


@cases
def test_macro_by_class_at_depth(make, seed):
    h, true, predicted = drawn(make, seed)
    for depth in range(1, h.max_depth + 1):
        scores = []
        for node in (h.depth == depth).nonzero().squeeze(1).tolist():
            having = [(t, closed(h, p)) for t, p in zip(members(true), members(predicted), strict=True) if node in t]
            cut = [({n for n in t if h.depth[n] <= depth}, {n for n in p if h.depth[n] <= depth}) for t, p in having]
            if having:
                scores.append(prf(sum(len(t & p) for t, p in cut), sum(len(p) for _, p in cut), sum(len(t) for t, _ in cut)))
        p, r = np.mean(scores, axis=0)[:2] if scores else (0.0, 0.0)
        expected = (p, r, 2 * p * r / (p + r) if p + r else 0.0)
        assert metrics.macro_precision_recall_f_at_depth(true, predicted, h, depth) == pytest.approx(expected, abs=1e-9)


@cases
@pytest.mark.parametrize("average", ["micro", "macro"])
def test_path_constrained_f1(make, seed, average):
    h, true, predicted = drawn(make, seed)
    of_class = np.zeros((h.num_nodes, 3))
    for t, p in zip(members(true), members(predicted), strict=True):
        for node in range(h.num_nodes):
            of_class[node] += (ancestors(h, node) <= t & p, node in p, node in t)
    expected = prf(*of_class.sum(0))[2] if average == "micro" else np.mean([prf(*row)[2] for row in of_class])
    assert metrics.path_constrained_f1(true, predicted, h, average) == pytest.approx(expected, abs=1e-9)
    assert metrics.path_constrained_f1(true, predicted, h, average) <= metrics.f1(true, predicted, h, average)
    coherent = h.close(predicted)
    assert metrics.path_constrained_f1(true, coherent, h, average) == pytest.approx(metrics.f1(true, coherent, h, average))


@cases
@pytest.mark.parametrize("average", ["micro", "macro"])
def test_path_f1(make, seed, average):
    h, true, predicted = drawn(make, seed)
    of_class = np.zeros((h.num_nodes, 3))
    for t, p in zip(members(true), members(predicted), strict=True):
        for node in specific(h, p):
            of_class[node] += (node in specific(h, t) and ancestors(h, node) <= p, 1, 0)
        for node in specific(h, t):
            of_class[node, 2] += 1
    expected = prf(*of_class.sum(0))[2] if average == "micro" else np.mean([prf(*row)[2] for row in of_class])
    assert metrics.path_f1(true, predicted, h, average) == pytest.approx(expected, abs=1e-9)


def shortest_up(graph, node):
    return networkx.single_source_shortest_path_length(graph, node)


def joined(graph, h, own, other):
    """For each own label the meeting points with the nearest other ones, and those other labels."""
    depth = {ROOT: 0, **{node: int(d) for node, d in enumerate(h.depth)}}
    found = {}
    for label in own:
        up = shortest_up(graph, label)
        ways = [(up[m] + shortest_up(graph, o)[m], -depth[m], m, o) for o in other for m in up if m in shortest_up(graph, o)]
        if ways:
            best = min(ways)[:2]
            found[label] = [(m, o) for distance, minus_depth, m, o in ways if (distance, minus_depth) == best]
    return found


def on_the_way(graph, label, meeting):
    return set().union(*networkx.all_shortest_paths(graph, label, meeting)) - {ROOT}


@cases
def test_lca_scores(make, seed):
    h, true, predicted = drawn(make, seed)
    graph, scores = upwards(h), []
    for t, p in zip(members(true), members(predicted), strict=True):
        t, p = specific(h, t), specific(h, p)
        graphs = {"t": set(), "p": set()}
        for own, other, a, b in ((t, p, "t", "p"), (p, t, "p", "t")):
            for label, meetings in joined(graph, h, own, other).items():
                for meeting, nearest in meetings:
                    graphs[a] |= on_the_way(graph, label, meeting)
                    graphs[b] |= on_the_way(graph, nearest, meeting)
        scores.append(prf(len(graphs["t"] & graphs["p"]), len(graphs["p"]), len(graphs["t"])))
    expected = tuple(np.mean(scores, axis=0))
    assert metrics.lca_precision_recall_f(true, predicted, h) == pytest.approx(expected, abs=1e-9)


def information_content(h, true):
    """In bits, of closed sets: -log2 of the share of documents with a node, of those with all its parents."""
    documents = members(true)

    def share(labels):
        return max(1, sum(labels <= t for t in documents)) / len(documents)

    of_node = [-math.log2(share({node}) / share(set(h.parents[node]))) for node in range(h.num_nodes)]
    return lambda labels: sum(of_node[node] for node in closed(h, labels))


@cases
def test_icm(make, seed):
    h, true, predicted = drawn(make, seed)
    information = information_content(h, true)
    each = [
        2 * information(p) + 2 * information(t) - 3 * information(t | p)
        for t, p in zip(members(true), members(predicted), strict=True)
    ]
    of_truth = np.mean([information(t) for t in members(true)])
    assert metrics.icm(true, predicted, h) == pytest.approx(np.mean(each), abs=1e-9)
    expected = max(0.0, (np.mean(each) + of_truth) / (2 * of_truth))
    assert metrics.icm_norm(true, predicted, h) == pytest.approx(expected, abs=1e-9)
    assert metrics.icm(true, true, h) == pytest.approx(of_truth)


def one_label(make, seed):
    h = make(seed, 20)
    true = single_paths(h, DOCUMENTS, seed, leaves_only=False)
    predicted = single_paths(h, DOCUMENTS, seed + 1, leaves_only=False)
    predicted[0], predicted[1] = False, true[1]
    ends = [[max(specific(h, labels), default=ROOT) for labels in members(sets)] for sets in (true, predicted)]
    return h, true, predicted, list(zip(*ends, strict=True))


def common_ancestors(h, a, b):
    return {ROOT} | ((ancestors(h, a) & ancestors(h, b)) if ROOT not in (a, b) else set())


def heights(h):
    downwards = upwards(h).reverse()
    longest = {}
    for node in reversed(list(networkx.topological_sort(downwards))):
        longest[node] = max((longest[child] + 1 for child in downwards[node]), default=0)
    return longest


@cases
def test_mistake_severity_and_distance(make, seed):
    h, true, predicted, ends = one_label(make, seed)
    height, graph = heights(h), upwards(h)
    severities = [min(height[c] for c in common_ancestors(h, a, b)) for a, b in ends if a != b]
    assert metrics.mistake_severity(true, predicted, h) == pytest.approx(np.mean(severities), abs=1e-9)
    distances = [min(shortest_up(graph, a)[c] + shortest_up(graph, b)[c] for c in common_ancestors(h, a, b)) for a, b in ends]
    assert metrics.tree_distance(true, predicted, h) == pytest.approx(np.mean(distances), abs=1e-9)


@cases
def test_wu_palmer(make, seed):
    h, true, predicted, ends = one_label(make, seed)
    depth = {ROOT: 0, **{node: int(d) for node, d in enumerate(h.depth)}}
    each = [2 * max(depth[c] for c in common_ancestors(h, a, b)) / (depth[a] + depth[b]) for a, b in ends]
    assert metrics.wu_palmer(true, predicted, h) == pytest.approx(np.mean(each), abs=1e-9)
    if h.is_tree:
        samples = metrics.hierarchical_precision_recall_f(true, predicted, h, "samples")[2]
        assert metrics.wu_palmer(true, predicted, h) == pytest.approx(samples)


@cases
@pytest.mark.parametrize("k", [1, 3])
def test_hierarchical_distance_at_k(make, seed, k):
    h, true, _, ends = one_label(make, seed)
    scores, height = torch.rand(DOCUMENTS, h.num_nodes), heights(h)
    each = []
    for row, (end, _) in zip(scores, ends, strict=True):
        best = sorted(h.leaves.tolist(), key=lambda leaf, row=row: -row[leaf])[:k]
        each += [min(height[c] for c in common_ancestors(h, end, leaf)) for leaf in best]
    assert metrics.hierarchical_distance_at_k(true, scores, h, k) == pytest.approx(np.mean(each), abs=1e-9)


def test_severity_without_mistakes_and_bad_depth_and_k(small):
    targets = small.encode([["Arts", "Film"]])
    assert metrics.mistake_severity(targets, targets, small) == 0.0
    with pytest.raises(InputError, match="depth must be from 1 to 3, not 4"):
        metrics.macro_precision_recall_f_at_depth(targets, targets, small, 4)
    with pytest.raises(InputError, match="k must be from 1 to"):
        metrics.hierarchical_distance_at_k(targets, targets.float(), small, 0)


def test_division_by_nothing_is_zero():
    assert divide(torch.tensor([0, 3]), torch.tensor([0, 4])).tolist() == [0.0, 0.75]


def test_a_label_more_that_is_right_does_no_harm_to_lca_scores():
    h = Hierarchy.from_paths([["A", "B", "C"]])
    for predicted in ([0, 0, 1], [1, 0, 1], [1, 1, 1]):
        assert metrics.lca_precision_recall_f([[1, 1, 1]], [predicted], h) == (1.0, 1.0, 1.0)
