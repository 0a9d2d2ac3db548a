from functools import partial

import pytest
import torch

from htc import Hierarchy, InputError, decoding
from htc.labels.label_sets import in_parts
from htc.losses import ConditionalSoftmax
from htc.metrics import hierarchical_precision_recall_f


def walk_down(row, hierarchy):
    """Top-down by the book: one document, one step at a time."""
    chosen, above = set(), -1
    while True:
        children = [n for n in range(hierarchy.num_nodes) if int(hierarchy.parent[n]) == above]
        if not children:
            return chosen
        above = max(children, key=lambda n: (float(row[n]), -n))
        chosen.add(above)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ties", [False, True])
def test_top_down_walks_down(seed, ties, make_tree):
    h = make_tree(seed, 40)
    probabilities = torch.randint(0, 3, (20, 40)) / 2 if ties else torch.rand(20, 40)
    sets = decoding.top_down(probabilities, h)
    for row, members in zip(probabilities, sets, strict=True):
        assert set(members.nonzero().flatten().tolist()) == walk_down(row, h)


def test_argmax_leaf_climbs_from_the_best_leaf(make_tree):
    h = make_tree(0, 40)
    probabilities = torch.rand(20, 40)
    sets = decoding.argmax_leaf(probabilities, h)
    assert torch.equal(sets[:, h.leaves].int().argmax(1), probabilities[:, h.leaves].argmax(1))
    assert (sets[:, h.leaves].sum(1) == 1).all()
    assert h.is_coherent(sets).all()


def test_threshold_is_inclusive(small):
    assert decoding.threshold(torch.full((1, small.num_nodes), 0.5), small).all()
    assert not decoding.threshold(torch.full((1, small.num_nodes), 0.49), small).any()


def micro_hf1(probabilities, targets, hierarchy, value):
    return hierarchical_precision_recall_f(decoding.threshold(probabilities, hierarchy, value), targets, hierarchy)[2]


@pytest.mark.parametrize("documents_in_a_part", [1, 5, 12])
@pytest.mark.parametrize("coherent", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_the_tuned_threshold_is_the_best_there_is(seed, coherent, documents_in_a_part, make_tree, make_targets, monkeypatch):
    h = make_tree(seed)
    targets = make_targets(h, 12, seed)
    noisy = targets.float() + torch.randn(12, h.num_nodes)
    probabilities = ConditionalSoftmax(h).probabilities(noisy) if coherent else noisy.sigmoid()
    monkeypatch.setattr(decoding.rules, "in_parts", partial(in_parts, cells=documents_in_a_part * h.num_nodes))
    tuned = decoding.tune_threshold(probabilities, targets, h)
    best = max(micro_hf1(probabilities, targets, h, float(value)) for value in probabilities.unique())
    assert micro_hf1(probabilities, targets, h, tuned) == pytest.approx(best)


def test_at_the_threshold_itself(small):
    """Here a label that reaches it is taken, in the paper's code one that exceeds it."""
    scores = torch.full((1, small.num_nodes), 0.5)
    scores[0, 1] = 0.6
    assert decoding.threshold(scores, small).all()
    assert decoding.above_threshold(scores, small).nonzero().tolist() == [[0, 1]]


def test_tuning_on_equal_scores(small, make_targets):
    assert 0 <= decoding.tune_threshold(torch.full((3, small.num_nodes), 0.2), make_targets(small, 3), small) <= 0.2


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["tree", "dag"])
def test_repairs_make_coherent_and_leave_coherent_alone(seed, kind, make_tree, make_dag):
    h = {"tree": make_tree, "dag": make_dag}[kind](seed)
    scores = torch.rand(6, h.num_nodes)
    parent, child = h.edges
    node, ancestor = h.ancestors
    capped, raised = decoding.cap_at_parents(scores, h), decoding.raise_to_descendants(scores, h)
    for target in range(h.num_nodes):
        torch.testing.assert_close(capped[:, target], scores[:, ancestor[node == target]].amin(1))
        torch.testing.assert_close(raised[:, target], scores[:, node[ancestor == target]].amax(1))
    for repaired in (capped, raised):
        assert (repaired[:, child] <= repaired[:, parent]).all()
        assert torch.equal(decoding.cap_at_parents(repaired, h), repaired)
        assert torch.equal(decoding.raise_to_descendants(repaired, h), repaired)
    assert torch.equal(decoding.top_down_threshold(scores, h, 0.3), decoding.threshold(capped, h, 0.3))


def test_top_down_stops_above_the_first_doubt(small):
    scores = torch.full((1, small.num_nodes), 0.1)
    for path, value in ((["Arts"], 0.9), (["Arts", "Music"], 0.6), (["Arts", "Music", "Opera"], 0.4)):
        scores[0, small.node(path)] = value
    assert small.decode(decoding.top_down_until(scores, small, 0.5)) == [[("Arts", "Music")]]
    assert small.decode(decoding.top_down_until(scores, small, 0.3)) == [[("Arts", "Music", "Opera")]]
    assert small.decode(decoding.top_down_until(scores, small, 0.95)) == [[]]


def test_two_scores_with_no_number_between_them():
    h = Hierarchy.from_paths([["a"], ["b"]])
    high = torch.tensor(0.32856736, dtype=torch.float32)
    probabilities = torch.stack([high, high.nextafter(torch.zeros(()))])[None]
    targets = torch.tensor([[True, False]])
    tuned = decoding.tune_threshold(probabilities, targets, h)
    assert torch.equal(decoding.threshold(probabilities, h, tuned), targets)


def test_nothing_to_tune_on(small):
    with pytest.raises(InputError, match="tuned on documents with labels, and there are none"):
        decoding.tune_threshold(torch.rand(2, small.num_nodes), torch.zeros(2, small.num_nodes), small)
