import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support
from sklearn.metrics import hamming_loss as sklearn_hamming_loss

from htc import metrics
from htc.decoding.by_name import ALL_RULES, rules_for
from htc.losses import ConditionalSoftmax
from htc.scoring.evaluate_rules import evaluate

from ..conftest import random_dag, random_tree, single_paths


@pytest.fixture
def scored(make_tree, make_targets):
    h = make_tree(1)
    return h, torch.rand(25, h.num_nodes) < 0.2, make_targets(h, 25)


@pytest.mark.parametrize("average", ["micro", "macro", "samples"])
def test_f1_equals_sklearn(scored, average):
    h, predictions, targets = scored
    predictions[0] = False
    expected = f1_score(targets.numpy(), predictions.numpy(), average=average, zero_division=0)
    assert metrics.f1(targets, predictions, h, average) == pytest.approx(expected, abs=1e-12)


def test_hamming_and_exact_match_equal_sklearn(scored):
    h, predictions, targets = scored
    predictions[:5] = targets[:5]
    assert metrics.hamming_loss(targets, predictions, h) == pytest.approx(sklearn_hamming_loss(targets, predictions))
    assert metrics.exact_match(targets, predictions, h) == pytest.approx(accuracy_score(targets, predictions))


def test_per_document_values_average_to_the_samples_average(scored):
    h, predictions, targets = scored
    each = metrics.hierarchical_f_per_document(targets, predictions, h, beta=2.0)
    assert float(each.mean()) == pytest.approx(
        metrics.hierarchical_precision_recall_f(targets, predictions, h, "samples", 2.0)[2]
    )


@pytest.mark.parametrize("average", ["micro", "macro", "samples"])
@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_hierarchical_prf_equals_sklearn_on_closed_sets(scored, average, beta):
    h, predictions, targets = scored
    expected = precision_recall_fscore_support(
        targets.numpy(), h.close(predictions).numpy(), beta=beta, average=average, zero_division=0
    )[:3]
    assert metrics.hierarchical_precision_recall_f(targets, predictions, h, average, beta) == pytest.approx(expected, abs=1e-12)


def slow_hf1_auc(targets, probabilities, hierarchy):
    """The definition: one document and one threshold at a time, points collected, then the trapezoid rule."""
    areas = []
    for true, scores in zip(targets, probabilities, strict=True):
        points, before, last_tp = [(0.0, 1.0)], (0.0, 1.0), 0
        for threshold in scores.unique().flip(0):
            predicted = hierarchy.close((scores >= threshold)[None])[0]
            tp = int((predicted & true).sum())
            point = (tp / int(true.sum()), tp / int(predicted.sum()))
            if tp > last_tp:
                points += [before, point]
            before, last_tp = point, tp
            if point[0] == 1:
                break
        recall, precision = np.array(points).T
        areas.append(np.trapezoid(precision, recall))
    return float(np.mean(areas))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("make", [random_tree, random_dag])
@pytest.mark.parametrize("seed", range(5))
def test_hf1_auc_equals_its_definition(seed, make, ties, monkeypatch):
    monkeypatch.setattr("htc.metrics.ranking.CELLS", 400)  # a few documents at a time
    h = make(seed, 20)
    targets = single_paths(h, 15, seed)
    probabilities = torch.randint(0, 5, (15, 20)) / 4 if ties else torch.rand(15, 20)
    expected = slow_hf1_auc(targets, probabilities, h)
    assert metrics.hf1_auc(targets, probabilities, h) == pytest.approx(expected, abs=1e-9)


def test_hf1_auc_of_a_perfect_and_of_a_reversed_ranking(small, make_targets):
    targets = make_targets(small, 6)
    assert metrics.hf1_auc(targets, targets.float(), small) == pytest.approx(1.0)
    assert metrics.hf1_auc(targets, 1 - targets.float(), small) < 0.5


def test_the_curve_equals_thresholding(scored):
    h, _, targets = scored
    probabilities = torch.rand(25, h.num_nodes)
    thresholds = torch.linspace(0, 1, 11)
    curve = metrics.micro_curve(targets, probabilities, h, thresholds)
    for i, value in enumerate(thresholds):
        expected = metrics.hierarchical_precision_recall_f(targets, probabilities >= value, h)
        assert (float(curve.precision[i]), float(curve.recall[i]), float(curve.f1[i])) == pytest.approx(expected)


def test_accuracy_per_level(small):
    targets = small.encode([["Arts", "Music", "Opera"], ["Arts", "Film"], ["Science", "Physics", "Heat"]])
    predictions = small.encode([["Arts", "Music", "Jazz"], ["Arts", "Film"], ["Arts"]])
    assert metrics.accuracy_per_level(targets, predictions, small) == pytest.approx([2 / 3, 2 / 3, 0.0])
    assert math.isnan(metrics.accuracy_per_level(predictions[1:2], targets[1:2], small)[2])


def test_incoherence_rate(small):
    sets = torch.zeros(2, small.num_nodes, dtype=torch.bool)
    sets[0, small.node("Opera")] = True
    assert metrics.incoherence_rate(sets, small) == 0.5


@given(seed=st.integers(0, 10**6), documents=st.integers(1, 12), share=st.floats(0, 0.6), dag=st.booleans())
def test_micro_f1_equals_micro_hf1_for_coherent_predictions(seed, documents, share, dag):
    h = (random_dag if dag else random_tree)(seed, 25)
    torch.manual_seed(seed)
    predictions = h.close(torch.rand(documents, 25) < share)
    targets = single_paths(h, documents, seed)
    micro = metrics.f1(targets, predictions, h, "micro")
    assert micro == pytest.approx(metrics.hierarchical_precision_recall_f(targets, predictions, h)[2])


def test_evaluate_covers_every_rule(scored):
    h, _, targets = scored
    probabilities = ConditionalSoftmax(h).probabilities(torch.randn(25, h.num_nodes))
    scores, _ = evaluate(probabilities, targets, h, tuned_threshold=0.4, one_path=True)
    assert set(scores["rules"]) == set(ALL_RULES)
    assert set(evaluate(torch.rand(25, h.num_nodes), targets, h, 0.4, one_path=False)[0]["rules"]) == set(
        rules_for(one_path=False)
    )
    assert scores["rules"]["top_down"]["incoherence_rate"] == 0
    assert len(scores["curve"]["f1"]) == len(scores["curve"]["thresholds"])
