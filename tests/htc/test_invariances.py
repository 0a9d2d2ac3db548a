"""One table of objectives, decoders and metrics, and what must hold for each: add a new one here on the day it is written."""

import pytest
import torch

from htc import decoding, metrics
from htc.losses import (
    BCE,
    CHAMP,
    ConditionalSigmoid,
    ConditionalSoftmax,
    Focal,
    LeafSoftmax,
    ParameterSharingSoftmax,
    conditional_priors,
)

from .conftest import random_dag, random_tree, reordered, single_paths


def adjusted(hierarchy):
    return ConditionalSoftmax(hierarchy, conditional_priors(single_paths(hierarchy, 40, seed=9), hierarchy))


OBJECTIVES = {
    "bce": BCE,
    "focal": Focal,
    "champ": lambda hierarchy: CHAMP(hierarchy, beta=0.5),
    "conditional_sigmoid": ConditionalSigmoid,
    "parameter_sharing_softmax": lambda hierarchy: ParameterSharingSoftmax(hierarchy, margin=0.1),
    "leaf_softmax": LeafSoftmax,
    "conditional_softmax": ConditionalSoftmax,
    "adjusted": adjusted,
}
ONE_PATH = ("leaf_softmax", "conditional_softmax", "adjusted", "parameter_sharing_softmax")  # distributions over leaves
DECODERS = {
    "threshold": decoding.threshold,
    "top_down": decoding.top_down,
    "top_down_until": decoding.top_down_until,
    "top_down_threshold": decoding.top_down_threshold,
    "argmax_leaf": decoding.argmax_leaf,
}
COHERENT_DECODERS = ("top_down", "top_down_until", "top_down_threshold", "argmax_leaf")
SET_METRICS = {
    "f1_micro": lambda p, t, h: metrics.f1(p, t, "micro"),
    "f1_macro": lambda p, t, h: metrics.f1(p, t, "macro"),
    "f1_samples": lambda p, t, h: metrics.f1(p, t, "samples"),
    "hf1_micro": lambda p, t, h: metrics.hierarchical_precision_recall_f(p, t, h, "micro")[2],
    "hf1_samples": lambda p, t, h: metrics.hierarchical_precision_recall_f(p, t, h, "samples")[2],
    "hamming_loss": lambda p, t, h: metrics.hamming_loss(p, t),
    "exact_match": lambda p, t, h: metrics.exact_match(p, t),
    "incoherence_rate": lambda p, t, h: metrics.incoherence_rate(p, h),
}
AVERAGES_OVER_DOCUMENTS = ("f1_samples", "hf1_samples", "hamming_loss", "exact_match", "incoherence_rate")
ERRORS = ("hamming_loss", "incoherence_rate")

seeds = pytest.mark.parametrize("seed", range(3))
objectives = pytest.mark.parametrize("name", OBJECTIVES)
decoders = pytest.mark.parametrize("name", DECODERS)
set_metrics = pytest.mark.parametrize("name", SET_METRICS)


def logits_for(hierarchy, objective, new_number=None, seed=0, documents=8):
    """Logits that belong to nodes by name, so that two numberings of one hierarchy get the same ones."""
    values = torch.randn(documents, hierarchy.num_nodes, generator=torch.Generator().manual_seed(seed))
    if new_number is not None:
        values = torch.empty_like(values).index_copy(1, new_number, values)
    return values if objective.num_outputs == hierarchy.num_nodes else values[:, hierarchy.leaves]


@objectives
@seeds
def test_renumbering_nodes_changes_no_loss_and_no_probability(name, seed):
    h = random_tree(seed)
    other, new_number = reordered(h, seed)
    targets = single_paths(h, 8, seed)
    a, b = OBJECTIVES[name](h), OBJECTIVES[name](other)
    if name == "adjusted":
        b = ConditionalSoftmax(other, torch.empty(h.num_nodes).index_copy(0, new_number, a.adjustment.exp()))
    other_targets = torch.empty_like(targets).index_copy(1, new_number, targets)
    la, lb = logits_for(h, a), torch.randn(8, h.num_nodes, generator=torch.Generator().manual_seed(0))
    lb = torch.empty_like(lb).index_copy(1, new_number, lb)
    lb = lb if b.num_outputs == h.num_nodes else lb[:, other.leaves]
    torch.testing.assert_close(a.loss(la, targets), b.loss(lb, other_targets))
    torch.testing.assert_close(a.probabilities(la), b.probabilities(lb)[:, new_number])


@objectives
@seeds
def test_the_loss_is_a_mean_over_documents(name, seed):
    h = random_tree(seed)
    objective, targets = OBJECTIVES[name](h), single_paths(h, 8, seed)
    logits = logits_for(h, objective)
    each = torch.stack([objective.loss(logits[i : i + 1], targets[i : i + 1]) for i in range(8)])
    torch.testing.assert_close(objective.loss(logits, targets), each.mean())
    order = torch.randperm(8)
    torch.testing.assert_close(objective.loss(logits[order], targets[order]), objective.loss(logits, targets))


@objectives
@seeds
def test_probabilities_are_probabilities_and_coherent_where_promised(name, seed):
    h = random_tree(seed)
    objective = OBJECTIVES[name](h)
    probabilities = objective.probabilities(5 * logits_for(h, objective))
    assert probabilities.shape == (8, h.num_nodes)
    assert (probabilities >= 0).all()
    assert (probabilities <= 1 + 1e-6).all()
    parent, child = h.edges
    if objective.coherent:
        assert (probabilities[:, child] <= probabilities[:, parent] + 1e-6).all()
    if name in ONE_PATH:
        torch.testing.assert_close(probabilities[:, h.levels[0]].sum(1), torch.ones(8))
        torch.testing.assert_close(probabilities[:, h.leaves].sum(1), torch.ones(8))


@objectives
def test_a_gradient_step_lowers_the_loss(name):
    h = random_tree(0)
    objective, targets = OBJECTIVES[name](h), single_paths(h, 8)
    logits = logits_for(h, objective).requires_grad_()
    loss = objective.loss(logits, targets)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert objective.loss(logits.detach() - 0.1 * gradient, targets) < loss


@decoders
@seeds
def test_renumbering_nodes_changes_no_prediction(name, seed):
    h = random_tree(seed)
    other, new_number = reordered(h, seed)
    probabilities = torch.rand(8, h.num_nodes)
    renumbered = torch.empty_like(probabilities).index_copy(1, new_number, probabilities)
    assert torch.equal(DECODERS[name](probabilities, h), DECODERS[name](renumbered, other)[:, new_number])


@decoders
@seeds
def test_documents_are_decoded_independently(name, seed):
    h = random_tree(seed)
    probabilities = torch.rand(8, h.num_nodes)
    whole = DECODERS[name](probabilities, h)
    assert whole.dtype == torch.bool
    assert torch.equal(whole, torch.cat([DECODERS[name](row[None], h) for row in probabilities]))
    assert name not in COHERENT_DECODERS or h.is_coherent(whole).all()


@decoders
def test_certain_probabilities_are_decoded_exactly(name):
    h = random_tree(2)
    targets = single_paths(h, 20)
    assert torch.equal(DECODERS[name](targets.float(), h), targets)


@set_metrics
@seeds
@pytest.mark.parametrize("make", [random_tree, random_dag])
def test_metrics_are_bounded_and_know_a_perfect_prediction(name, seed, make):
    h = make(seed)
    targets = single_paths(h, 10, seed)
    assert 0 <= SET_METRICS[name](torch.rand(10, h.num_nodes) < 0.3, targets, h) <= 1
    perfect = SET_METRICS[name](targets, targets, h)
    never_true = float((~targets.any(0)).float().mean())
    expected = 0.0 if name in ERRORS else 1.0 - (never_true if name == "f1_macro" else 0.0)
    assert perfect == pytest.approx(expected)
    nothing = SET_METRICS[name](torch.zeros_like(targets), targets, h)
    assert nothing == pytest.approx(targets.float().mean() if name == "hamming_loss" else 0.0)


@set_metrics
@seeds
@pytest.mark.parametrize("make", [random_tree, random_dag])
def test_order_of_documents_and_nodes_does_not_matter(name, seed, make):
    h = make(seed)
    other, new_number = reordered(h, seed)
    targets, predictions = single_paths(h, 10, seed), torch.rand(10, h.num_nodes) < 0.3
    score = SET_METRICS[name](predictions, targets, h)
    order = torch.randperm(10)
    assert SET_METRICS[name](predictions[order], targets[order], h) == pytest.approx(score)
    moved = [torch.empty_like(x).index_copy(1, new_number, x) for x in (predictions, targets)]
    assert SET_METRICS[name](*moved, other) == pytest.approx(score)


@pytest.mark.parametrize("name", AVERAGES_OVER_DOCUMENTS)
def test_averages_over_documents_are_that(name):
    h = random_tree(0)
    targets, predictions = single_paths(h, 10), torch.rand(10, h.num_nodes) < 0.3
    each = [SET_METRICS[name](predictions[i : i + 1], targets[i : i + 1], h) for i in range(10)]
    assert SET_METRICS[name](predictions, targets, h) == pytest.approx(sum(each) / 10)


@seeds
@pytest.mark.parametrize("make", [random_tree, random_dag])
def test_hf1_auc_looks_at_ranks_only(seed, make):
    h = make(seed)
    targets, scores = single_paths(h, 10, seed), torch.rand(10, h.num_nodes)
    area = metrics.hf1_auc(scores, targets, h)
    assert 0 <= area <= 1
    assert metrics.hf1_auc(scores.double() ** 3 * 7, targets, h) == pytest.approx(area)
    other, new_number = reordered(h, seed)
    moved = [torch.empty_like(x).index_copy(1, new_number, x) for x in (scores, targets)]
    assert metrics.hf1_auc(*moved, other) == pytest.approx(area)
