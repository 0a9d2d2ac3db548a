"""make benchmark: inference rules and metrics on 2,003 documents (the test split of HWV), on one core."""

import numpy as np
import pytest
import torch
from hierarchies import compare, one_path_each, seconds, tree

from htc import decoding, metrics
from htc.decoding import expected
from htc.losses import ConditionalSoftmax
from htc.scoring.evaluate_rules import evaluate

DOCUMENTS = 2003


@pytest.fixture(scope="module")
def targets(hierarchy):
    return one_path_each(hierarchy, DOCUMENTS)


@pytest.fixture(scope="module")
def probabilities(hierarchy, targets):
    return ConditionalSoftmax(hierarchy).probabilities(torch.randn(targets.shape) + 4 * targets)


RULES = [
    decoding.threshold,
    decoding.top_down,
    decoding.top_down_until,
    decoding.top_down_threshold,
    decoding.argmax_leaf,
    expected.argmax_end,
    expected.crm,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_decoding(benchmark, hierarchy, probabilities, rule):
    benchmark.pedantic(rule, args=(probabilities, hierarchy), rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("sure", [0, 2, 4])
def test_exact_expected_hf(benchmark, hierarchy, targets, sure):
    """From uninformative to nearly perfect probabilities."""
    probabilities = ConditionalSoftmax(hierarchy).probabilities(torch.randn(targets.shape) + sure * targets)
    benchmark.pedantic(expected.expected_hf, args=(probabilities, hierarchy), rounds=3)
    assert benchmark.stats.stats.median < 2


def test_tuning_the_threshold(benchmark, hierarchy, probabilities, targets):
    benchmark.pedantic(decoding.tune_threshold, args=(probabilities, targets, hierarchy), rounds=5)


def hf1_auc_by_definition(targets, probabilities, hierarchy):
    for scores, true in zip(probabilities, targets, strict=True):
        points, before, last = [(0.0, 1.0)], (0.0, 1.0), 0
        for threshold in scores.unique().flip(0):
            predicted = hierarchy.close((scores >= threshold)[None])[0]
            right = int((predicted & true).sum())
            point = (right / int(true.sum()), right / int(predicted.sum()))
            if right > last:
                points += [before, point]
            before, last = point, right
            if point[0] == 1:
                break
        recall, precision = np.array(points).T
        np.trapezoid(precision, recall)


@pytest.mark.parametrize(("sure", "at_least"), [(0, 300), (4, 1)])
def test_hf1_auc_against_its_definition(benchmark, hierarchy, targets, sure, at_least):
    """One document and threshold at a time: the set above it, its ancestors, precision and recall, the trapezoids. It stops at
    full recall: late for uninformative scores, early for good ones."""
    scores = torch.randn(targets.shape) + sure * targets
    compare(
        benchmark,
        lambda: metrics.hf1_auc(targets, scores, hierarchy),
        lambda: hf1_auc_by_definition(targets[:20], scores[:20], hierarchy),
        at_least=at_least,
        scale=DOCUMENTS / 20,
    )


def test_all_metrics_together(benchmark, hierarchy, probabilities, targets):
    """Metrics of label sets from one rule, and of the probabilities."""
    predictions = decoding.threshold(probabilities, hierarchy)

    def all_metrics():
        of_sets = metrics.LabelSetScores(hierarchy)
        of_sets.update(targets, predictions)
        of_sets.compute()
        of_scores = metrics.ProbabilityScores(hierarchy, torch.linspace(0.01, 0.99, 99))
        of_scores.update(targets, probabilities)
        of_scores.compute()
        for k in (1, 5, 20):
            metrics.hierarchical_distance_at_k(targets, probabilities, hierarchy, k)

    benchmark.pedantic(all_metrics, rounds=5, warmup_rounds=1)
    assert benchmark.stats.stats.median < 2


def test_every_metric_of_every_rule(benchmark, hierarchy, probabilities, targets):
    benchmark.pedantic(evaluate, args=(probabilities, targets, hierarchy, 0.4, True), rounds=3)


METRICS = {
    "f1": lambda t, p, s, h: metrics.f1(t, p, h, "macro"),
    "hamming_loss": lambda t, p, s, h: metrics.hamming_loss(t, p, h),
    "exact_match": lambda t, p, s, h: metrics.exact_match(t, p, h),
    "hierarchical_precision_recall_f": lambda t, p, s, h: metrics.hierarchical_precision_recall_f(t, p, h, "macro"),
    "macro_at_depth": lambda t, p, s, h: metrics.macro_precision_recall_f_at_depth(t, p, h, 3),
    "path_constrained_f1": lambda t, p, s, h: metrics.path_constrained_f1(t, p, h),
    "path_f1": lambda t, p, s, h: metrics.path_f1(t, p, h),
    "lca": lambda t, p, s, h: metrics.lca_precision_recall_f(t, p, h),
    "icm": lambda t, p, s, h: metrics.icm(t, p, h),
    "tree_distance": lambda t, p, s, h: metrics.tree_distance(t, p, h),
    "wu_palmer": lambda t, p, s, h: metrics.wu_palmer(t, p, h),
    "mistake_severity": lambda t, p, s, h: metrics.mistake_severity(t, p, h),
    "distance_at_5": lambda t, p, s, h: metrics.hierarchical_distance_at_k(t, s, h, 5),
    "accuracy_per_level": lambda t, p, s, h: metrics.accuracy_per_level(t, p, h),
    "incoherence_rate": lambda t, p, s, h: metrics.incoherence_rate(p, h),
    "hf1_auc": lambda t, p, s, h: metrics.hf1_auc(t, s, h),
    "micro_curve": lambda t, p, s, h: metrics.micro_curve(t, s, h, torch.linspace(0.01, 0.99, 99)),
}


@pytest.fixture(scope="module")
def small_and_large(one_core):
    cases = []
    for times in (1, 100):
        hierarchy = tree((10 * times, 90 * times, 300 * times, 600 * times))
        true, predicted = one_path_each(hierarchy, 16), one_path_each(hierarchy, 16)
        cases.append((true, predicted, torch.rand(true.shape), hierarchy))
    return cases


@pytest.mark.parametrize("name", METRICS)
def test_cost_per_node_from_1_000_to_100_000_nodes(benchmark, small_and_large, name):
    per_node = []
    for case in small_and_large:
        METRICS[name](*case)
        per_node.append(seconds(lambda case=case: METRICS[name](*case), rounds=7) / case[3].num_nodes)
    benchmark.extra_info["cost_per_node_ratio"] = round(per_node[1] / per_node[0], 2)
    benchmark.pedantic(METRICS[name], args=small_and_large[1], rounds=1)
    assert per_node[1] <= 2 * per_node[0]
