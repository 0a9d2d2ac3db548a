import itertools

import pytest
import torch

from htc import Hierarchy
from htc.metrics.counts import by_class
from htc.scoring.error_analysis import (
    FREQUENCIES,
    calibration_per_level,
    confused_siblings,
    f1_by_frequency,
    f1_per_node,
    worst_documents,
)

from ..conftest import random_tree, single_paths


@pytest.mark.parametrize("seed", range(4))
def test_confused_siblings_by_definition(seed):
    h = random_tree(seed, 15)
    torch.manual_seed(seed)
    true, predicted = single_paths(h, 60, seed), h.close(torch.rand(60, 15) < 0.2)
    counts = {}
    for t, p in zip(true, predicted, strict=True):
        for a, b in itertools.permutations(range(15), 2):
            if h.parents[a] == h.parents[b] and t[a] and not p[a] and p[b] and not t[b]:
                counts[a, b] = counts.get((a, b), 0) + 1
    found = confused_siblings(true, predicted, h, most=1000)
    assert {(pair.true, pair.predicted): pair.documents for pair in found} == counts
    assert all(pair.of == int(true[:, pair.true].sum()) for pair in found)
    assert [pair.documents for pair in found] == sorted((pair.documents for pair in found), reverse=True)
    assert confused_siblings(true, predicted, h, most=3) == found[:3]
    assert confused_siblings(true, true, h) == []


def test_calibration_of_what_is_calibrated_and_of_what_is_not():
    h = Hierarchy.from_paths([["a", "x"], ["b"]])
    torch.manual_seed(0)
    probabilities = torch.rand(20_000, 3)
    true = torch.rand(20_000, 3) < probabilities
    top, below = calibration_per_level(probabilities, true, h)
    assert top.error < 0.01
    assert below.error < 0.02
    assert int(top.cells.sum()) == int((probabilities[:, :2] >= 0.01).sum())
    torch.testing.assert_close(top.confidence, top.frequency, atol=0.03, rtol=0)
    sure = calibration_per_level(probabilities.clamp(min=0.95), true, h)[0]
    assert sure.error == pytest.approx(0.45, abs=0.03)


def test_f1_of_nodes_and_of_rare_ones():
    true = torch.tensor([[1, 0, 0, 1], [1, 1, 0, 0], [0, 1, 0, 0]]).bool()
    predicted = torch.tensor([[1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0]]).bool()
    assert f1_per_node(true, predicted).nan_to_num(-1).tolist() == pytest.approx([1.0, 2 / 3, -1.0, 0.0])
    rows = f1_by_frequency(by_class(true, predicted), torch.tensor([500, 3, 3, 0]))
    assert [row["most"] for row in rows] == [*FREQUENCIES, None]
    assert [row["labels"] for row in rows] == [1, 1, 0, 0, 1]
    assert [row["f1"] for row in rows] == [0.0, pytest.approx(2 / 3), None, None, 1.0]


def test_the_worst_documents_are_those_that_are_wrong_and_sure():
    probabilities = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.95, 0.05], [0.5, 0.5]])
    predicted = torch.tensor([[1, 0], [0, 1], [1, 0], [0, 0]]).bool()
    f = torch.tensor([0.0, 0.0, 1.0, 0.0])
    assert worst_documents(f, probabilities, predicted) == [0, 1, 3, 2]
    assert worst_documents(f, probabilities, predicted, most=2) == [0, 1]
