"""Metrics and distances against other packages, to 1e-9; where they disagree, why."""

import json
import math

import hiclass.metrics
import networkx
import numpy as np
import pytest
import torch
from hierarchical_confusion_matrix.HierarchicalConfusion import determineHierarchicalConfusionMatrix

from htc import Hierarchy, metrics
from htc.labels.distances import distance_through_common_ancestor, tree_distance_matrix

from ..conftest import random_dag, random_tree, single_paths
from .test_metric_definitions import drawn

DOCUMENTS = 15
seeds = pytest.mark.parametrize("seed", range(5))
both_kinds = pytest.mark.parametrize("make", [random_tree, random_dag])


def as_columns(hierarchy, sets):
    """Closed label sets as hiclass takes them: names in columns, in no order, filled up with empty ones."""
    width = int(sets.sum(1).max())
    rows = [[hierarchy.names[node] for node in row.nonzero().squeeze(1).tolist()] for row in sets]
    return np.array([row + [""] * (width - len(row)) for row in rows], dtype=object)


@seeds
@both_kinds
@pytest.mark.parametrize(("average", "theirs"), [("micro", "micro"), ("samples", "macro")])
def test_hiclass(make, seed, average, theirs):
    """hiclass calls the average over documents "macro", and needs labels with names of their own; so has this test."""
    h, true, predicted = drawn(make, seed)
    predicted = h.close(predicted)
    predicted[-1] = true[-1]  # hiclass divides by zero where nothing is predicted
    columns = as_columns(h, true), as_columns(h, predicted)
    ours = metrics.hierarchical_precision_recall_f(true, predicted, h, average)
    assert ours[0] == pytest.approx(hiclass.metrics.precision(*columns, average=theirs), abs=1e-9)
    assert ours[1] == pytest.approx(hiclass.metrics.recall(*columns, average=theirs), abs=1e-9)
    if average == "micro":
        f1 = hiclass.metrics.f1(*columns, average="micro", zero_division=0)
    else:  # its macro F1 of 5.0.8 ends in a TypeError, so document by document
        documents = [(t[None], p[None]) for t, p in zip(*columns, strict=True)]
        f1 = np.mean([hiclass.metrics.f1(*document, average="micro", zero_division=0) for document in documents])
    assert ours[2] == pytest.approx(f1, abs=1e-9)


def test_where_hiclass_takes_two_labels_for_one():
    """A name under two parents is one label to hiclass, which looks at names alone, and two to us."""
    h = Hierarchy.from_paths([["Arts", "Basics"], ["Science", "Basics"]])
    true, predicted = [["Arts", "Basics"]], [["Science", "Basics"]]
    assert hiclass.metrics.precision(np.array(true), np.array(predicted)) == 0.5
    assert metrics.hierarchical_precision_recall_f(true, predicted, h)[0] == 0.0


def rooted(hierarchy):
    edges = [(hierarchy.names[p], name) for name, above in zip(hierarchy.names, hierarchy.parents, strict=True) for p in above]
    tops = [("root", name) for name, above in zip(hierarchy.names, hierarchy.parents, strict=True) if not above]
    return networkx.DiGraph([*edges, *tops])


@seeds
def test_hierarchical_confusion_matrix(seed):
    """True positives, false positives and false negatives of one path in a tree."""
    h = random_tree(seed)
    true = single_paths(h, DOCUMENTS, seed, leaves_only=False)
    predicted = single_paths(h, DOCUMENTS, seed + 1, leaves_only=False)
    graph, total = rooted(h), np.zeros(4)
    for t, p in zip(h.decode(true), h.decode(predicted), strict=True):
        total += determineHierarchicalConfusionMatrix(graph, [t[0][-1]], [["root", *p[0]]])
    tp, _, fp, fn = total
    expected = (tp / (tp + fp), tp / (tp + fn), 2 * tp / (2 * tp + fp + fn))
    assert metrics.hierarchical_precision_recall_f(true, predicted, h) == pytest.approx(expected, abs=1e-9)


def test_where_the_hierarchical_confusion_matrix_counts_labels_twice():
    """With several paths it pairs them off and adds up, so that labels which paths share count once for each path."""
    h = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"]])
    both = [[["Arts", "Music"], ["Arts", "Film"]]]
    tp, _, fp, fn = determineHierarchicalConfusionMatrix(
        rooted(h), ["Music", "Film"], [["root", "Arts", "Music"], ["root", "Arts", "Film"]]
    )
    assert (tp, fp, fn) == (4, 0, 0)  # Arts twice
    assert int(metrics.as_label_sets(both, h).sum()) == 3


def nested(hierarchy, nodes):
    """A tree as PyEvALL takes it: a dict from names to dicts of children."""
    children = {n: [c for c in range(hierarchy.num_nodes) if n in hierarchy.parents[c]] for n in nodes}
    return {hierarchy.names[node]: nested(hierarchy, below) for node, below in children.items()}


def pyevall_icm(hierarchy, true, predicted, folder):
    from pyevall.evaluation import PyEvALLEvaluation  # prints and configures logging on import

    files = []
    for name, sets in (("pred", predicted), ("gold", true)):
        rows = [
            {"test_case": "T", "id": str(number), "value": [path[-1] for path in paths]}
            for number, paths in enumerate(hierarchy.decode(sets))
        ]
        files.append(folder / f"{name}.json")
        files[-1].write_text(json.dumps(rows))
    tops = [node for node, above in enumerate(hierarchy.parents) if not above]
    found = PyEvALLEvaluation().evaluate(
        *map(str, files), ["ICM", "ICMNorm"], hierarchy=nested(hierarchy, tops), log_level="none", report="embedded"
    )
    return [found.report["metrics"][name]["results"]["average_per_test_case"] for name in ("ICM", "ICMNorm")]


@pytest.mark.filterwarnings("ignore:Passing a list to DataFrame.from_dict")
@seeds
@pytest.mark.parametrize("several", [False, True])
def test_pyevall(seed, several, tmp_path):
    """Trees only: PyEvALL looks for the one path from the root to a class."""
    h, true, predicted = drawn(random_tree, seed)
    predicted = h.close(predicted)
    if not several:
        true = single_paths(h, len(true), seed, leaves_only=False)
        predicted = single_paths(h, len(true), seed + 1, leaves_only=False)
    predicted[-1] = true[-1]  # PyEvALL takes no empty prediction
    icm, icm_norm = pyevall_icm(h, true, predicted, tmp_path)
    assert metrics.icm(true, predicted, h) == pytest.approx(icm, abs=1e-9)
    assert metrics.icm_norm(true, predicted, h) == pytest.approx(icm_norm, abs=1e-9)


@seeds
def test_networkx_on_trees(seed):
    h = random_tree(seed)
    graph = rooted(h)
    between = dict(networkx.all_pairs_shortest_path_length(graph.to_undirected()))
    ours = tree_distance_matrix(h)
    pairs = torch.cartesian_prod(torch.arange(h.num_nodes), torch.arange(h.num_nodes))
    one_by_one = distance_through_common_ancestor(pairs[:, 0], pairs[:, 1], h)
    for (a, b), distance in zip(pairs.tolist(), one_by_one.tolist(), strict=True):
        assert ours[a, b] == distance == between[h.names[a]][h.names[b]]


@seeds
@both_kinds
def test_networkx_lowest_common_ancestors(make, seed):
    """Heights of lowest common ancestors. In a DAG networkx gives any one that has no other below it, we the one of least
    height: so there, ours is never above theirs."""
    h = make(seed)
    graph = rooted(h)
    true, predicted = single_paths(h, 40, seed), single_paths(h, 40, seed + 1)
    different = (true != predicted).any(1)
    true, predicted = true[different], predicted[different]
    height = {**dict(zip(h.names, h.height.tolist(), strict=True)), "root": h.max_depth}
    theirs = [
        height[networkx.lowest_common_ancestor(graph, t[0][-1], p[0][-1])]
        for t, p in zip(h.decode(true), h.decode(predicted), strict=True)
    ]
    ours = [metrics.mistake_severity(t[None], p[None], h) for t, p in zip(true, predicted, strict=True)]
    assert ours == theirs if h.is_tree else all(a <= b for a, b in zip(ours, theirs, strict=True))


def test_where_networkx_goes_through_a_common_descendant():
    """In a DAG the shortest way between two labels may lead through a label below both; such a way is none for us."""
    h = Hierarchy.from_pairs([("A", "x"), ("B", "x"), ("A", "y"), ("R", "A"), ("S", "B")])
    a, b = torch.tensor([h.node("A")]), torch.tensor([h.node("B")])
    assert networkx.shortest_path_length(rooted(h).to_undirected(), "A", "B") == 2  # by x
    assert int(distance_through_common_ancestor(a, b, h)) == 4  # by the root


@seeds
@both_kinds
def test_networkx_distances_to_ancestors_and_to_the_root(make, seed):
    h = make(seed)
    upwards = rooted(h).reverse()
    for node in range(h.num_nodes):
        lengths = networkx.single_source_shortest_path_length(upwards, h.names[node])
        assert int(h.distance_to_root[node]) == lengths.pop("root")
        row, ancestor, edges = h.ancestors_of(torch.tensor([node]))
        assert not row.any()
        assert dict(zip((h.names[a] for a in ancestor.tolist()), edges.tolist(), strict=True)) == lengths


def test_icm_by_hand():
    """Four documents, half of them on Arts, one on Film: -log2 of 1/2 and of 1/2 given Arts are one bit each."""
    h = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"], ["Science"]])
    true = [["Arts", "Music"], ["Arts", "Film"], ["Science"], ["Science"]]
    predicted = [["Arts", "Music"], ["Arts", "Music"], ["Science"], ["Arts"]]
    # 2 * 2 + 2 * 2 - 3 * 2 = 2;  2 * 2 + 2 * 2 - 3 * 3 = -1;  2 + 2 - 3 = 1;  2 + 2 - 3 * 2 = -2
    assert metrics.icm(true, predicted, h) == pytest.approx((2 - 1 + 1 - 2) / 4)
    assert metrics.icm_norm(true, predicted, h) == pytest.approx((0 + 1.5) / 3)
    assert math.isclose(metrics.icm_norm(true, true, h), 1.0)
