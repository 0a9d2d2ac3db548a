"""What holds for every hierarchy, objective, rule and metric, on whatever hypothesis comes up with."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from htc import Hierarchy, metrics
from htc.decoding.by_name import ALL_RULES
from htc.decoding.expected import expected_hf
from htc.losses import CHAMP

from .conftest import random_dag, random_tree, reordered, single_paths
from .decoding.test_expected import distribution, expected_hf_of
from .test_invariances import OBJECTIVES, SET_METRICS, logits_for

seeds = st.integers(0, 10**6)
sizes = st.integers(2, 30)


@given(seed=seeds, nodes=sizes, dag=st.booleans(), share=st.floats(0, 0.6))
def test_coherent_predictions_have_one_micro_f1(seed, nodes, dag, share):
    h = (random_dag if dag else random_tree)(seed, max(nodes, 4))
    torch.manual_seed(seed)
    targets, predictions = single_paths(h, 8, seed), h.close(torch.rand(8, h.num_nodes) < share)
    micro = metrics.f1(targets, predictions, h, "micro")
    assert micro == pytest.approx(metrics.hierarchical_precision_recall_f(targets, predictions, h)[2], abs=1e-12)
    assert micro == pytest.approx(metrics.path_constrained_f1(targets, predictions, h), abs=1e-12)


@given(seed=seeds, nodes=sizes, inner=st.booleans(), beta=st.sampled_from([0.5, 1.0, 2.0]), peaked=st.floats(0, 5))
def test_nothing_is_above_the_exact_decoder_under_its_own_distribution(seed, nodes, inner, beta, peaked):
    h = random_tree(seed, nodes)
    probabilities, ends = distribution(h, 3, seed, inner, peaked)
    exact = expected_hf(probabilities, h, beta)
    torch.manual_seed(seed)
    others = [rule(probabilities, h, 0.4) for rule in ALL_RULES.values()] + [torch.rand(3, nodes) < 0.3]
    for row in range(3):
        best = expected_hf_of(exact[row][None], ends[row], h, beta)
        for other in others:
            closed = h.close(other)[row][None]
            if closed.any():
                assert expected_hf_of(closed, ends[row], h, beta) <= best + 1e-9


@given(name=st.sampled_from(sorted(OBJECTIVES)), seed=seeds, nodes=sizes, scale=st.floats(0, 8))
def test_probabilities_are_coherent_where_promised(name, seed, nodes, scale):
    h = random_tree(seed, nodes)
    objective = OBJECTIVES[name](h)
    probabilities = objective.probabilities(scale * logits_for(objective).double())
    assert ((probabilities >= 0) & (probabilities <= 1 + 1e-9)).all()
    parent, child = h.edges
    if objective.coherent:
        assert (probabilities[:, child] <= probabilities[:, parent] + 1e-9).all()
    if objective.one_path:
        together = torch.zeros_like(probabilities).index_add(1, parent, probabilities[:, child])
        assert (together <= probabilities + 1e-9).all()
        torch.testing.assert_close(probabilities[:, h.levels[0]].sum(1), torch.ones(8, dtype=torch.double))


@given(name=st.sampled_from(sorted(set(OBJECTIVES) - {"adjusted"})), seed=seeds, nodes=sizes)  # see test_invariances
def test_no_loss_knows_the_order_of_nodes_siblings_or_documents(name, seed, nodes):
    h = random_tree(seed, nodes)
    other, new_number = reordered(h, seed)
    a, b = OBJECTIVES[name](h), OBJECTIVES[name](other)
    targets = single_paths(h, 8, seed)
    moved = torch.empty_like(targets).index_copy(1, new_number, targets)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(seed))
    found = b.loss(logits_for(b)[order].double(), moved[order])
    torch.testing.assert_close(found, a.loss(logits_for(a).double(), targets))


@given(name=st.sampled_from(sorted(SET_METRICS)), seed=seeds, nodes=sizes, dag=st.booleans())
def test_no_metric_knows_the_order_of_nodes_siblings_or_documents(name, seed, nodes, dag):
    h = (random_dag if dag else random_tree)(seed, max(nodes, 5))
    if name == "hf1_macro_depth_2" and h.max_depth < 2:
        return
    other, new_number = reordered(h, seed)
    torch.manual_seed(seed)
    targets, predictions = single_paths(h, 8, seed), torch.rand(8, h.num_nodes) < 0.3
    order = torch.randperm(8)
    moved = [torch.empty_like(x).index_copy(1, new_number, x)[order] for x in (targets, predictions)]
    assert SET_METRICS[name](*moved, other) == pytest.approx(SET_METRICS[name](targets, predictions, h), abs=1e-9)


class LargestTensor(TorchDispatchMode):
    """Remembers how many elements the largest tensor had that any operation gave."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **kwargs or {})
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


@pytest.mark.parametrize("make", [random_tree, random_dag])
def test_champ_takes_memory_linear_in_nodes(make):
    for nodes in (200, 2000):
        h: Hierarchy = make(0, nodes)
        objective, targets = CHAMP(h), single_paths(h, 4)
        logits = torch.randn(4, nodes, requires_grad=True)
        with LargestTensor() as largest:
            objective.loss(logits, targets).backward()
        assert largest.elements <= 2 * 4 * nodes
