"""One table of objectives, decoders and metrics, and what must hold for each: add a new one here on the day it is written."""

import zlib
from functools import partial

import pytest
import torch

from htc import InputError, decoding, metrics
from htc.decoding import expected, single_path
from htc.decoding.by_name import ALL_RULES
from htc.losses import (
    BCE,
    CHAMP,
    ConditionalSigmoid,
    ConditionalSoftmax,
    Focal,
    LeafSoftmax,
    ParameterSharingSoftmax,
    StopEvent,
    conditional_priors,
)

from .conftest import random_dag, random_tree, reordered, single_paths


def adjusted(hierarchy):
    return ConditionalSoftmax(hierarchy, conditional_priors(single_paths(hierarchy, 40, seed=9), hierarchy))


OBJECTIVES = {
    "bce": BCE,
    "focal": Focal,
    "focal_alpha": lambda hierarchy: Focal(hierarchy, alpha=0.25),
    "champ_sum": lambda hierarchy: CHAMP(hierarchy, beta=0.5, reduction="sum"),
    "champ": lambda hierarchy: CHAMP(hierarchy, beta=0.5),
    "conditional_sigmoid": ConditionalSigmoid,
    "parameter_sharing_softmax": lambda hierarchy: ParameterSharingSoftmax(hierarchy, margin=0.1),
    "relative_margin": lambda hierarchy: ParameterSharingSoftmax(hierarchy, margin=0.1, margin_form="relative"),
    "leaf_softmax": LeafSoftmax,
    "conditional_softmax": ConditionalSoftmax,
    "adjusted": adjusted,
    "stop_conditional_softmax": lambda hierarchy: StopEvent(hierarchy, ConditionalSoftmax),
    "stop_leaf_softmax": lambda hierarchy: StopEvent(hierarchy, LeafSoftmax),
    "stop_parameter_sharing": lambda hierarchy: StopEvent(hierarchy, ParameterSharingSoftmax),
}
ONE_PATH = ("leaf_softmax", "conditional_softmax", "adjusted", "parameter_sharing_softmax")  # distributions over leaves
DECODERS = {
    "threshold": decoding.threshold,
    "above_threshold": decoding.above_threshold,
    "top_down": decoding.top_down,
    "top_down_until": decoding.top_down_until,
    "top_down_threshold": decoding.top_down_threshold,
    "argmax_leaf": decoding.argmax_leaf,
    "argmax_end": expected.argmax_end,
    "expected_hf": expected.expected_hf,
    "crm": expected.crm,
    "information_weighted": single_path.information_weighted,
    "information_weighted_safer": partial(single_path.information_weighted, trade_off=1.0),
    "most_specific": single_path.most_specific,
    "most_probable": partial(single_path.most_probable, bits=1.0),
    "plurality": single_path.plurality,
    "hie_self": single_path.hie_self,
    "expected_tree_distance": single_path.expected_tree_distance,
    "expected_wu_palmer": single_path.expected_wu_palmer,
    "expected_zhao": single_path.expected_zhao,
}
# Which may answer above the end of a certain path; by information, a node is as good as its only child.
INEXACT = ("information_weighted", "information_weighted_safer", "most_probable", "expected_zhao")
SET_METRICS = {
    **{f"f1_{average}": partial(metrics.f1, average=average) for average in ("micro", "macro", "samples")},
    **{
        f"h{name}_{average}": lambda t, p, h, i=i, average=average: metrics.hierarchical_precision_recall_f(t, p, h, average)[i]
        for i, name in enumerate(("p", "r", "f1"))
        for average in ("micro", "macro", "samples")
    },
    **{f"path_constrained_f1_{a}": partial(metrics.path_constrained_f1, average=a) for a in ("micro", "macro")},
    **{f"path_f1_{a}": partial(metrics.path_f1, average=a) for a in ("micro", "macro")},
    **{
        f"lca_{name}_samples": lambda t, p, h, i=i: metrics.lca_precision_recall_f(t, p, h)[i]
        for i, name in enumerate(("p", "r", "f1"))
    },
    "hf1_macro_depth_2": lambda t, p, h: metrics.macro_precision_recall_f_at_depth(t, p, h, 2)[2],
    "accuracy_level_1": lambda t, p, h: metrics.accuracy_per_level(t, p, h)[0],
    "icm_norm": metrics.icm_norm,
    "hamming_loss": metrics.hamming_loss,
    "exact_match": metrics.exact_match,
    "incoherence_rate": lambda t, p, h: metrics.incoherence_rate(p, h),
}
ONE_LABEL_METRICS = {  # of one label per document
    "mistake_severity": metrics.mistake_severity,
    "tree_distance": metrics.tree_distance,
    "wu_palmer": metrics.wu_palmer,
}
SCORE_METRICS = {  # of how labels are ranked, 1 for a perfect ranking
    "precision_at_1": metrics.precision_at_k,
    "r_precision": metrics.r_precision,
    **{f"auprc_{average}": partial(metrics.average_precision, average=average) for average in ("micro", "macro", "samples")},
    "hf1_auc": metrics.hf1_auc,
}
AVERAGES_OVER_DOCUMENTS = (
    *(name for name in SET_METRICS if name.endswith("samples")),
    "hamming_loss",
    "exact_match",
    "incoherence_rate",
)
ERRORS = ("hamming_loss", "incoherence_rate")

seeds = pytest.mark.parametrize("seed", range(3))
objectives = pytest.mark.parametrize("name", OBJECTIVES)
decoders = pytest.mark.parametrize("name", DECODERS)
set_metrics = pytest.mark.parametrize("name", SET_METRICS)


def logits_for(objective, documents=8):
    """Logits that belong to nodes by name, so that two numberings of one hierarchy get the same ones."""
    hierarchy = getattr(objective, "extended", objective.hierarchy)
    nodes = range(hierarchy.num_nodes) if objective.num_outputs == hierarchy.num_nodes else hierarchy.leaves.tolist()
    seeds = [zlib.crc32("/".join(hierarchy.paths[node]).encode()) for node in nodes]
    return torch.stack([torch.randn(documents, generator=torch.Generator().manual_seed(seed)) for seed in seeds], 1)


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
    la, lb = logits_for(a), logits_for(b)
    torch.testing.assert_close(a.loss(la, targets), b.loss(lb, other_targets))
    torch.testing.assert_close(a.probabilities(la), b.probabilities(lb)[:, new_number])


@objectives
@seeds
def test_the_loss_is_a_mean_over_documents(name, seed):
    h = random_tree(seed)
    objective, targets = OBJECTIVES[name](h), single_paths(h, 8, seed)
    logits = logits_for(objective)
    each = torch.stack([objective.loss(logits[i : i + 1], targets[i : i + 1]) for i in range(8)])
    torch.testing.assert_close(objective.loss(logits, targets), each.mean())
    order = torch.randperm(8)
    torch.testing.assert_close(objective.loss(logits[order], targets[order]), objective.loss(logits, targets))


@objectives
@seeds
def test_probabilities_are_probabilities_and_coherent_where_promised(name, seed):
    h = random_tree(seed)
    objective = OBJECTIVES[name](h)
    probabilities = objective.probabilities(5 * logits_for(objective))
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
    logits = logits_for(objective).requires_grad_()
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
    assert name in ("threshold", "above_threshold") or h.is_coherent(whole).all()


def test_every_rule_by_name_is_in_the_table():
    assert [name for name, rule in ALL_RULES.items() if rule.decide not in DECODERS.values()] == [], "add them to DECODERS"


@pytest.mark.parametrize("name", sorted(set(DECODERS) - set(INEXACT)))
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
    assert 0 <= SET_METRICS[name](targets, torch.rand(10, h.num_nodes) < 0.3, h) <= 1
    perfect = SET_METRICS[name](targets, targets, h)
    ends = h.most_specific(targets) if name == "path_f1_macro" else targets
    never_true = float((~ends.any(0)).float().mean())
    expected = 0.0 if name in ERRORS else 1.0 - (never_true if name.endswith("macro") else 0.0)
    assert perfect == pytest.approx(expected)
    nothing = SET_METRICS[name](targets, torch.zeros_like(targets), h)
    if name == "icm_norm":  # minus once the truth's information, of minus once to once: (-1 + 1) / 2
        assert nothing == pytest.approx(0.0, abs=1e-9)
    else:
        assert nothing == pytest.approx(float(targets.float().mean()) if name == "hamming_loss" else 0.0)


@set_metrics
@seeds
@pytest.mark.parametrize("make", [random_tree, random_dag])
def test_order_of_documents_and_nodes_does_not_matter(name, seed, make):
    h = make(seed)
    other, new_number = reordered(h, seed)
    targets, predictions = single_paths(h, 10, seed), torch.rand(10, h.num_nodes) < 0.3
    score = SET_METRICS[name](targets, predictions, h)
    order = torch.randperm(10)
    assert SET_METRICS[name](targets[order], predictions[order], h) == pytest.approx(score)
    moved = [torch.empty_like(x).index_copy(1, new_number, x) for x in (targets, predictions)]
    assert SET_METRICS[name](*moved, other) == pytest.approx(score)


@pytest.mark.parametrize("name", AVERAGES_OVER_DOCUMENTS)
def test_averages_over_documents_are_that(name):
    h = random_tree(0)
    targets, predictions = single_paths(h, 10), torch.rand(10, h.num_nodes) < 0.3
    each = [SET_METRICS[name](targets[i : i + 1], predictions[i : i + 1], h) for i in range(10)]
    assert SET_METRICS[name](targets, predictions, h) == pytest.approx(sum(each) / 10)


@pytest.mark.parametrize("name", SCORE_METRICS)
@seeds
@pytest.mark.parametrize("make", [random_tree, random_dag])
def test_metrics_of_scores_look_at_ranks_only(name, seed, make):
    h, metric = make(seed), SCORE_METRICS[name]
    targets, scores = single_paths(h, 10, seed), torch.rand(10, h.num_nodes)
    score = metric(targets, scores, h)
    assert 0 <= score <= 1
    assert metric(targets, scores.double() ** 3 * 7, h) == pytest.approx(score)
    other, new_number = reordered(h, seed)
    moved = [torch.empty_like(x).index_copy(1, new_number, x) for x in (targets, scores)]
    assert metric(*moved, other) == pytest.approx(score)
    order = torch.randperm(10)
    assert metric(targets[order], scores[order], h) == pytest.approx(score)
    never_true = float((~targets.any(0)).float().mean()) if name.endswith("macro") else 0.0
    assert metric(targets, targets.double(), h) == pytest.approx(1.0 - never_true)


@pytest.mark.parametrize("name", ONE_LABEL_METRICS)
@seeds
@pytest.mark.parametrize("make", [random_tree, random_dag])
def test_metrics_of_one_label(name, seed, make):
    h = make(seed)
    metric = ONE_LABEL_METRICS[name]
    targets, predictions = single_paths(h, 20, seed, leaves_only=False), single_paths(h, 20, seed + 1, leaves_only=False)
    perfect = 1.0 if name == "wu_palmer" else 0.0
    assert metric(targets, targets, h) == perfect
    score = metric(targets, predictions, h)
    assert 0 <= score <= (1 if name == "wu_palmer" else 2 * h.max_depth)
    assert score == pytest.approx(metric(predictions, targets, h))  # none knows which is the truth
    order, (other, new_number) = torch.randperm(20), reordered(h, seed)
    assert metric(targets[order], predictions[order], h) == pytest.approx(score)
    moved = [torch.empty_like(x).index_copy(1, new_number, x) for x in (targets, predictions)]
    assert metric(*moved, other) == pytest.approx(score)
    with pytest.raises(InputError, match="y_pred: document 0 has several labels"):
        metric(targets, torch.ones_like(targets), h)


@objectives
@pytest.mark.parametrize("dtype", [torch.long, torch.float])
def test_targets_of_zeros_and_ones_in_any_type(name, dtype):
    h = random_tree(0)
    objective, targets = OBJECTIVES[name](h), single_paths(h, 8)
    logits = logits_for(objective)
    torch.testing.assert_close(objective.loss(logits, targets.to(dtype)), objective.loss(logits, targets))
