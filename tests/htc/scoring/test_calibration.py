"""Temperatures: what they find, and that marginals stay coherent; the calibration error by definition."""

import pytest
import torch

from htc import Hierarchy, InputError
from htc.decoding.rules import cap_at_parents, top_down
from htc.labels.sparse_sets import SparseSets
from htc.losses import (
    BCE,
    CHAMP,
    ConditionalSigmoid,
    ConditionalSoftmax,
    Focal,
    LeafSoftmax,
    ParameterSharingSoftmax,
    StopEvent,
)
from htc.scoring.calibration import CalibrationErrors, Tempered, fit_temperature, marginal_log_loss, output_depth

from ..conftest import random_dag, random_tree

ON_TREES = {
    "bce": BCE,
    "focal": Focal,
    "champ": CHAMP,
    "conditional_sigmoid": ConditionalSigmoid,
    "leaf_softmax": LeafSoftmax,
    "conditional_softmax": ConditionalSoftmax,
    "parameter_sharing_softmax": ParameterSharingSoftmax,
    "leaf_softmax with stops": lambda hierarchy: StopEvent(hierarchy, LeafSoftmax),
    "conditional_softmax with stops": lambda hierarchy: StopEvent(hierarchy, ConditionalSoftmax),
    "parameter_sharing_softmax with stops": lambda hierarchy: StopEvent(hierarchy, ParameterSharingSoftmax),
}
ON_DAGS = ("bce", "focal", "champ", "conditional_sigmoid", "leaf_softmax")
CASES = [(name, random_tree) for name in ON_TREES] + [(name, random_dag) for name in ON_DAGS]


def random_logits(objective, documents=200, seed=0):
    return 4 * torch.randn(documents, objective.num_outputs, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def drawn(objective, logits, seed=1):
    """Label sets drawn from the model itself: its probabilities are then calibrated. (D, N) bool."""
    hierarchy, generator = objective.hierarchy, torch.Generator().manual_seed(seed)
    marginals = objective.probabilities(logits)
    marginals = marginals if objective.coherent else cap_at_parents(marginals, hierarchy)
    if not objective.one_path:  # the marginals alone matter
        return torch.rand(marginals.shape, generator=generator) < marginals
    node, _ = hierarchy.edges
    ends = marginals.clone().index_add_(1, node, -marginals[:, hierarchy.edges[1]]).clamp_min(0)
    chosen = torch.multinomial(ends, 1, generator=generator)
    return hierarchy.close(torch.zeros_like(marginals, dtype=torch.bool).scatter_(1, chosen, True))


@pytest.mark.parametrize(("name", "make"), CASES)
def test_children_never_exceed_their_parents(name, make):
    hierarchy = make(1)
    objective = ON_TREES[name](hierarchy)
    logits = random_logits(objective).float()
    by_depth = torch.linspace(0.2, 3.0, hierarchy.max_depth)[torch.randperm(hierarchy.max_depth)]
    for temperature in (torch.tensor([0.3]), torch.tensor([5.0]), by_depth):
        tempered = Tempered(objective, temperature)
        assert tempered.coherent
        assert tempered.one_path == objective.one_path
        found = tempered.probabilities(logits)
        parent, child = hierarchy.edges
        assert bool((found[:, child] <= found[:, parent] + 1e-6).all())
        assert bool(((found >= 0) & (found <= 1 + 1e-6)).all())
        if objective.one_path:
            below = torch.zeros_like(found).index_add_(1, parent, found[:, child])
            assert bool((below <= found + 1e-5).all())


@pytest.mark.parametrize(("name", "make"), CASES)
def test_a_temperature_of_one_changes_nothing(name, make):
    objective = ON_TREES[name](make(2))
    logits = random_logits(objective)
    expected = objective.probabilities(logits)
    expected = expected if objective.coherent else cap_at_parents(expected, objective.hierarchy)
    for temperature in (torch.ones(1), torch.ones(objective.hierarchy.max_depth)):
        torch.testing.assert_close(Tempered(objective, temperature).probabilities(logits), expected)


@pytest.mark.parametrize(("name", "make"), CASES)
def test_the_temperature_of_logits_that_were_scaled_is_found(name, make):
    objective = ON_TREES[name](make(3))
    logits = random_logits(objective, 3000)
    targets = drawn(objective, logits)
    (found,) = fit_temperature(2.5 * logits, targets, objective).tolist()
    assert found == pytest.approx(2.5, rel=0.15)
    assert fit_temperature(2.5 * logits, targets, objective).tolist() == [found], "always the same"


@pytest.mark.parametrize("name", ["conditional_softmax", "conditional_sigmoid", "conditional_softmax with stops", "bce"])
def test_each_depth_has_its_temperature(name):
    hierarchy = Hierarchy.from_paths([[f"a{i}", f"b{j}", f"c{k}"] for i in range(3) for j in range(3) for k in range(2)])
    objective = ON_TREES[name](hierarchy)
    logits = random_logits(objective, 4000) / 2
    if name == "bce":  # so that it is coherent as it is
        logits = logits - 3.0 * (output_depth(objective) - 1) + 3
    given = torch.tensor([0.5, 1.5, 3.0])
    targets = drawn(objective, logits)
    scaled = logits * given[output_depth(objective) - 1]
    found = fit_temperature(scaled, targets, objective, by_depth=True)
    assert found.tolist() == pytest.approx(given.tolist(), rel=0.25)
    plain, one = objective.probabilities(scaled), Tempered(objective, fit_temperature(scaled, targets, objective))
    losses = [marginal_log_loss(p, targets) for p in (plain, one.probabilities(scaled))]
    losses.append(marginal_log_loss(Tempered(objective, found).probabilities(scaled), targets))
    assert losses[0] > losses[1] > losses[2]


def test_a_few_documents_that_are_all_right_give_the_lowest_temperature_and_all_wrong_the_highest():
    hierarchy = Hierarchy.from_paths([["Arts"], ["Science"]])
    objective = ConditionalSoftmax(hierarchy)
    logits, targets = torch.tensor([[1.0, -1.0]]), torch.tensor([[True, False]])
    assert fit_temperature(logits, targets, objective).item() == pytest.approx(0.05, abs=0.2)
    assert fit_temperature(logits, ~targets, objective).item() == pytest.approx(20.0)


@pytest.mark.parametrize("temperature", [[0.0], [-1.0], [float("nan")], [float("inf")], [1.0, 1.0, 1.0], []])
def test_other_temperatures_are_refused(temperature):
    hierarchy = Hierarchy.from_paths([["Arts", "Music"], ["Science"]])
    with pytest.raises(InputError, match="temperature"):
        Tempered(BCE(hierarchy), torch.tensor(temperature))


def test_no_document_is_refused():
    hierarchy = Hierarchy.from_paths([["Arts", "Music"], ["Science"]])
    with pytest.raises(InputError, match="there is none"):
        fit_temperature(torch.empty(0, 3), torch.empty(0, 3, dtype=torch.bool), BCE(hierarchy))


@pytest.mark.parametrize("make", [random_tree, random_dag])
def test_the_calibration_error_is_that_of_the_definition(make):
    hierarchy = make(4)
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(50, hierarchy.num_nodes, generator=generator)
    probabilities[0, :] = 1.0
    targets = torch.rand(probabilities.shape, generator=generator) < probabilities
    whole, parts = CalibrationErrors(hierarchy), CalibrationErrors(hierarchy)
    whole.update(SparseSets.of(targets), probabilities)
    for rows in torch.arange(50).split(7):
        parts.update(SparseSets.of(targets[rows]), probabilities[rows])
    rows = top_down(probabilities, hierarchy).nonzero().tolist()
    for depth in (None, *range(1, hierarchy.max_depth + 1)):
        bins = [[] for _ in range(15)]
        for document, node in rows:
            if depth in (None, int(hierarchy.depth[node])):
                value = float(probabilities[document, node])
                bins[min(14, int(value * 15))].append(float(targets[document, node]) - value)
        labels = sum(map(len, bins))
        expected = sum(abs(sum(each)) for each in bins) / labels if labels else None
        found = whole.compute()
        found = found["error"] if depth is None else found["by_depth"][depth - 1]
        assert found == (None if expected is None else pytest.approx(expected, abs=1e-6))
    assert parts.compute()["error"] == pytest.approx(whole.compute()["error"])
    assert parts.compute()["log_loss"] == pytest.approx(float(marginal_log_loss(probabilities, targets)))
