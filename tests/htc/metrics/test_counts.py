"""Counts of pairs equal counts of cells, as dense label sets give them."""

import pytest
import torch

from htc.labels.sparse_sets import SparseSets
from htc.metrics import hierarchical, information, paths, ranked
from htc.metrics.counts import all_right, by_class, by_document
from htc.metrics.reached import best_columns, ranks, reached_by_true, reached_in_rows

from ..conftest import random_dag, random_tree

DOCUMENTS = 37


def dense_counts(true, predicted, dim):
    return torch.stack([(true & predicted).sum(dim), predicted.sum(dim), true.sum(dim)])


def with_all_ancestors(sets, hierarchy):
    """Members whose ancestors are all members."""
    kept = sets.clone()
    for node, ancestor in hierarchy.ancestors.T.tolist():
        kept[:, node] &= sets[:, ancestor]
    return kept


@pytest.fixture(
    params=[(make, seed) for make in (random_tree, random_dag) for seed in range(4)],
    ids=lambda case: f"{case[0].__name__}-{case[1]}",
)
def case(request):
    make, seed = request.param
    generator = torch.Generator().manual_seed(seed)
    hierarchy = make(seed)
    true, predicted = (torch.rand(DOCUMENTS, 30, generator=generator) < share for share in (0.08, 0.15))
    predicted[10:20] = true[10:20]
    true[::9], predicted[::4] = False, False
    return hierarchy, true, predicted


def test_counts(case):
    hierarchy, true, predicted = case
    of_true, of_predicted = SparseSets.of(true), SparseSets.of(predicted)
    assert torch.equal(by_class(of_true, of_predicted), dense_counts(true, predicted, 0))
    assert torch.equal(by_document(of_true, of_predicted), dense_counts(true, predicted, 1))
    assert torch.equal(all_right(of_true, of_predicted), (true == predicted).all(1))
    levels = [(true[:, level], predicted[:, level]) for level in hierarchy.levels]
    expected = [[int(((t == p).all(1) & t.any(1)).sum()) for t, p in levels], [int(t.any(1).sum()) for t, _ in levels]]
    assert hierarchical.level_counts(of_true, of_predicted, hierarchy).tolist() == expected
    constrained = dense_counts(true, predicted, 0)
    constrained[0] = with_all_ancestors(true & predicted, hierarchy).sum(0)
    assert torch.equal(paths.constrained_counts(of_true, of_predicted, hierarchy), constrained)
    ends = hierarchy.most_specific(true), hierarchy.most_specific(predicted)
    whole = dense_counts(*ends, 0)
    whole[0] = (ends[0] & ends[1] & with_all_ancestors(predicted, hierarchy)).sum(0)
    assert torch.equal(paths.path_counts(of_true, of_predicted, hierarchy), whole)


def test_counts_of_closed_sets(case):
    hierarchy, true, predicted = case
    true, predicted = hierarchy.close(true), hierarchy.close(predicted)
    of_true, of_predicted = SparseSets.of(true), SparseSets.of(predicted)
    with_parents = [int(true[:, list(above)].all(1).sum()) for above in hierarchy.parents]
    assert information.parent_counts(of_true, hierarchy).tolist() == with_parents
    found = hierarchical.class_at_depth_counts(of_true, of_predicted, hierarchy)
    for node in range(30):
        down_to = hierarchy.depth <= hierarchy.depth[node]
        expected = dense_counts(true[true[:, node]][:, down_to], predicted[true[:, node]][:, down_to], (0, 1))
        assert torch.equal(found[:, node], expected)


@pytest.mark.parametrize("ties", [False, True])
def test_ranks_and_columns_are_those_of_sorted_scores(case, ties):
    _, true, _ = case
    scores = torch.randint(0, 4, (DOCUMENTS, 30)) / 4 if ties else torch.rand(DOCUMENTS, 30)
    sparse = SparseSets.of(true)
    order = scores.sort(dim=1, descending=True, stable=True).indices
    at, above = reached_in_rows(sparse, scores)
    assert torch.equal(ranks(sparse, scores, at, above), order.argsort(1)[true])
    assert torch.equal(
        torch.cat([order[:, :k] for k in (1, 7, 30)], 1), torch.cat([best_columns(scores, k) for k in (1, 7, 30)], 1)
    )
    own = scores[true]
    document = sparse.document
    for found, reaches in zip(reached_by_true(sparse, scores), (torch.ge, torch.gt), strict=True):
        same = document[:, None] == document
        assert torch.equal(found, (reaches(own, own[:, None]) & same).sum(1))


def test_average_precision_needs_both_passes():
    with pytest.raises(ValueError, match="nothing was counted yet"):
        ranked.AveragePrecisions().compute()
