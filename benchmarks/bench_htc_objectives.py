"""make benchmark: objectives, on one core, compared with versions with loops or (B, N, N) tensors."""

import pytest
import torch
import torch.nn.functional as F
from hierarchies import compare, hwv, one_path_each, seconds, tree

from htc.losses import CHAMP, OBJECTIVES, ConditionalSoftmax, StopEvent, conditional_priors, objective_by_name

BATCH = 64


@pytest.fixture(scope="module")
def targets(hierarchy):
    return one_path_each(hierarchy, BATCH)


def training_step(objective, targets):
    logits = torch.randn(len(targets), objective.num_outputs, requires_grad=True)

    def step():
        logits.grad = None
        objective.loss(logits, targets).backward()

    return step


@pytest.mark.parametrize("name", OBJECTIVES)
def test_loss_forward_and_backward(benchmark, hierarchy, targets, name):
    benchmark(training_step(objective_by_name(name, hierarchy, targets), targets))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_probabilities(benchmark, hierarchy, name):
    objective = objective_by_name(name, hierarchy)
    benchmark(objective.probabilities, torch.randn(BATCH, objective.num_outputs))


def test_conditional_softmax_against_a_loop_over_sibling_groups(benchmark, hierarchy, targets):
    groups = [(hierarchy.sibling_group == g).nonzero().squeeze(1) for g in range(int(hierarchy.sibling_group[-1]) + 1)]
    logits = torch.randn(BATCH, hierarchy.num_nodes, requires_grad=True)

    def loop():
        logits.grad = None
        loss = logits.new_zeros(())
        for group in groups:
            loss = loss - (logits[:, group].log_softmax(1) * targets[:, group]).sum()
        (loss / BATCH).backward()

    compare(benchmark, training_step(ConditionalSoftmax(hierarchy), targets), loop, at_least=10)


def distances_by_walking(hierarchy):
    """(N, N) distances between labels, one pair at a time."""
    ways = []
    for node in range(hierarchy.num_nodes):
        way = [node]
        while hierarchy.parents[way[-1]]:
            way.append(hierarchy.parents[way[-1]][0])
        ways.append(way)
    distance = torch.zeros(hierarchy.num_nodes, hierarchy.num_nodes)
    for a, up in enumerate(ways):
        for b, other in enumerate(ways):
            common = next((node for node in up if node in other), None)
            distance[a, b] = len(up) + len(other) if common is None else up.index(common) + other.index(common)
    return distance


def test_champ_against_tensors_of_all_pairs(benchmark, hierarchy):
    """A step at B = 16, and the time to build the objective."""
    targets = one_path_each(hierarchy, 16)
    distance = distances_by_walking(hierarchy)
    build_slow = seconds(lambda: distances_by_walking(hierarchy), rounds=1)
    severity = (distance / distance.max() + 1) ** 2 - 1
    logits = torch.randn(16, hierarchy.num_nodes, requires_grad=True)
    beta = 1e-4

    def all_pairs():
        logits.grad = None
        to_true = severity.expand(16, -1, -1).masked_fill(~targets[:, None, :], torch.inf)  # (B, N, N): label, true label
        weight = 1 + beta * to_true.amin(2)
        F.binary_cross_entropy_with_logits(logits, targets.float(), weight=weight.masked_fill(targets, 1.0)).backward()

    objective = CHAMP(hierarchy, beta)
    torch.testing.assert_close(
        objective.loss(logits, targets),
        F.binary_cross_entropy_with_logits(
            logits, targets.float(), weight=1 + beta * severity.expand(16, -1, -1).masked_fill(~targets[:, None], 9e9).amin(2)
        ),
    )
    build = seconds(lambda: CHAMP(hwv(), beta)) - seconds(hwv)
    benchmark.extra_info.update(build_seconds=round(build, 4), straightforward_build_seconds=round(build_slow, 2))
    assert build < 0.1
    compare(benchmark, training_step(objective, targets), all_pairs, at_least=10)


def test_priors(benchmark, hierarchy):
    benchmark(conditional_priors, one_path_each(hierarchy, 2003), hierarchy)


@pytest.mark.parametrize("name", [*OBJECTIVES, "stop"])
def test_cost_per_node_from_1_000_to_100_000_nodes(benchmark, one_core, name):
    per_node = []
    for times in (1, 100):
        hierarchy = tree((10 * times, 90 * times, 300 * times, 600 * times))
        targets = one_path_each(hierarchy, 16)
        stop = name == "stop"
        objective = StopEvent(hierarchy, ConditionalSoftmax) if stop else objective_by_name(name, hierarchy, targets)
        step = training_step(objective, targets)
        step()
        per_node.append(seconds(step, rounds=7) / hierarchy.num_nodes)
    benchmark.extra_info["cost_per_node_ratio"] = round(per_node[1] / per_node[0], 2)
    benchmark.pedantic(step, rounds=1)
    assert per_node[1] <= 2 * per_node[0]
