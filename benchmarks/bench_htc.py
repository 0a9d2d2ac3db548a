"""make benchmark: the library on a tree of Hierarchical WikiVitals' shape (1,186 nodes, six levels), on one core."""

import random
from itertools import pairwise

import numpy as np
import pytest
import torch

from htc import Hierarchy, decoding, metrics
from htc.evaluation import evaluate
from htc.losses import BCE, ConditionalSoftmax, LeafSoftmax, conditional_priors

LEVELS = (11, 109, 381, 437, 244, 4)
BATCH = 64
DOCUMENTS = 2003  # as many as the test split of HWV


@pytest.fixture(scope="module")
def hierarchy():
    rng = random.Random(0)
    parents = [[] for _ in range(LEVELS[0])]
    for above, size in pairwise(LEVELS):
        start = len(parents) - above
        parents += [[start + rng.randrange(above)] for _ in range(size)]
    torch.set_num_threads(1)
    return Hierarchy([f"n{i}" for i in range(len(parents))], parents)


@pytest.fixture(scope="module")
def targets(hierarchy):
    leaves = hierarchy.leaves[torch.randint(len(hierarchy.leaves), (DOCUMENTS,))]
    sets = torch.zeros(DOCUMENTS, hierarchy.num_nodes, dtype=torch.bool)
    sets[torch.arange(DOCUMENTS), leaves] = True
    return hierarchy.close(sets)


@pytest.fixture(scope="module")
def probabilities(hierarchy, targets):
    return ConditionalSoftmax(hierarchy).probabilities(torch.randn(targets.shape) + 4 * targets)


def adjusted(hierarchy):
    return ConditionalSoftmax(hierarchy, torch.rand(hierarchy.num_nodes) + 0.1)


@pytest.mark.parametrize("make", [BCE, LeafSoftmax, ConditionalSoftmax, adjusted], ids=lambda make: make.__name__)
def test_loss_forward_and_backward(benchmark, hierarchy, targets, make):
    objective = make(hierarchy)
    logits = torch.randn(BATCH, objective.num_outputs, requires_grad=True)

    def step():
        logits.grad = None
        objective.loss(logits, targets[:BATCH]).backward()

    benchmark(step)


def test_conditional_softmax_as_a_loop_over_sibling_groups(benchmark, hierarchy, targets):
    groups = [(hierarchy.sibling_group == g).nonzero().squeeze(1) for g in range(int(hierarchy.sibling_group[-1]) + 1)]
    logits = torch.randn(BATCH, hierarchy.num_nodes, requires_grad=True)

    def step():
        logits.grad = None
        loss = logits.new_zeros(())
        for group in groups:
            loss = loss - (logits[:, group].log_softmax(1) * targets[:BATCH, group]).sum()
        (loss / BATCH).backward()

    benchmark(step)


@pytest.mark.parametrize("make", [BCE, LeafSoftmax, ConditionalSoftmax], ids=lambda make: make.__name__)
def test_probabilities(benchmark, hierarchy, make):
    objective = make(hierarchy)
    benchmark(objective.probabilities, torch.randn(BATCH, objective.num_outputs))


@pytest.mark.parametrize("rule", [decoding.threshold, decoding.top_down, decoding.argmax_leaf], ids=lambda rule: rule.__name__)
def test_decoding(benchmark, hierarchy, probabilities, rule):
    benchmark(rule, probabilities, hierarchy)


def test_tuning_the_threshold(benchmark, hierarchy, probabilities, targets):
    benchmark(decoding.tune_threshold, probabilities, targets, hierarchy)


def test_hf1_auc(benchmark, hierarchy, probabilities, targets):
    benchmark(metrics.hf1_auc, probabilities, targets, hierarchy)


def test_hf1_auc_by_its_definition_on_20_documents(benchmark, hierarchy, probabilities, targets):
    def by_definition():
        for scores, true in zip(probabilities[:20], targets[:20], strict=True):
            points, before, last = [(0.0, 1.0)], (0.0, 1.0), 0
            for threshold in scores.unique().flip(0):
                predicted = scores >= threshold
                right = int((predicted & true).sum())
                point = (right / int(true.sum()), right / int(predicted.sum()))
                if right > last:
                    points += [before, point]
                before, last = point, right
                if point[0] == 1:
                    break
            recall, precision = np.array(points).T
            np.trapezoid(precision, recall)

    benchmark.pedantic(by_definition, rounds=3)


def test_every_metric_of_every_rule(benchmark, hierarchy, probabilities, targets):
    benchmark.pedantic(evaluate, args=(probabilities, targets, hierarchy, 0.4), rounds=5)


def test_priors(benchmark, hierarchy, targets):
    benchmark(conditional_priors, targets, hierarchy)
