"""Scores do not depend on how label sets are stored, nor on the parts in which probabilities come."""

import math

import pytest
import torch

from htc import decoding
from htc.decoding.rules import tune_threshold_in_parts
from htc.labels.sparse_sets import SparseSets
from htc.scoring.error_analysis import calibration_per_level, confused_siblings, worst_documents
from htc.scoring.evaluate_rules import decode_in_parts, evaluate, score_epoch, summary_table
from htc.scoring.parts import ProbabilityParts, with_targets

from ..conftest import random_dag, random_tree, single_paths

DOCUMENTS, NODES = 41, 30


def case(make, several, seed=0):
    hierarchy = make(seed, NODES)
    targets = single_paths(hierarchy, DOCUMENTS, seed, leaves_only=False)
    if several:
        targets = targets | single_paths(hierarchy, DOCUMENTS, seed + 1) | single_paths(hierarchy, DOCUMENTS, seed + 2)
    generator = torch.Generator().manual_seed(seed)
    probabilities = torch.rand(DOCUMENTS, NODES, generator=generator) * 0.7 + 0.3 * targets
    probabilities[::7] = (probabilities[::7] * 4).round() / 4  # ties
    probabilities[5] = 0.0  # empty sets
    return hierarchy, probabilities, targets


def in_parts(probabilities, size):
    return ProbabilityParts(lambda: iter(probabilities.split(size)), tuple(probabilities.shape))


CASES = pytest.mark.parametrize(
    ("make", "several", "one_path"),
    [(random_tree, False, True), (random_tree, True, False), (random_dag, False, False), (random_dag, True, False)],
)


@CASES
@pytest.mark.parametrize("size", [1, 4, 10, 41, 100])
def test_evaluate_gives_the_same_numbers_to_the_last_digit(make, several, one_path, size, monkeypatch):
    monkeypatch.setattr("htc.scoring.parts.CELLS", 10 * NODES)
    hierarchy, probabilities, targets = case(make, several)
    whole = evaluate(probabilities, targets, hierarchy, 0.4, one_path, targets.sum(0))
    sparse = SparseSets.of(targets)
    parts = evaluate(in_parts(probabilities, size), sparse, hierarchy, 0.4, one_path, sparse.sum(0))
    assert str(parts[0]) == str(whole[0])  # nan equals nan
    assert parts[1].keys() == whole[1].keys()
    assert all(torch.equal(parts[1][name], whole[1][name]) for name in whole[1])
    assert math.isfinite(whole[0]["hf1_auc"])


@CASES
def test_thresholds_epochs_and_errors_in_parts(make, several, one_path, monkeypatch):
    monkeypatch.setattr("htc.scoring.parts.CELLS", 10 * NODES)
    hierarchy, probabilities, targets = case(make, several)
    sparse, parts = SparseSets.of(targets), in_parts(probabilities, 3)
    tuned = decoding.tune_threshold(probabilities, targets, hierarchy)
    assert tune_threshold_in_parts(lambda: with_targets(parts, sparse), hierarchy) == tuned
    *whole, of_rule = score_epoch(probabilities, sparse, hierarchy, "top_down")
    *found, in_part = score_epoch(parts, sparse, hierarchy, "top_down")
    assert found == whole
    assert in_part.compute()["hf1_micro"] == of_rule.compute()["hf1_micro"]
    predicted = decode_in_parts("threshold", parts, hierarchy)
    assert torch.equal(predicted.dense(), decoding.threshold(probabilities, hierarchy))
    f = torch.zeros(DOCUMENTS)
    assert worst_documents(f, parts, predicted) == worst_documents(f, probabilities, predicted.dense())
    if make is random_tree:
        assert confused_siblings(sparse, predicted, hierarchy) == confused_siblings(targets, predicted.dense(), hierarchy)
    for one, other in zip(
        calibration_per_level(parts, sparse, hierarchy), calibration_per_level(probabilities, targets, hierarchy), strict=True
    ):
        assert str(one) == str(other)


@pytest.mark.parametrize("size", [1, 3, 7, 20])
@pytest.mark.parametrize("asked", [1, 3, 5, 20, 50])
def test_parts_are_cut_anew(size, asked):
    rows = torch.arange(20)[:, None]
    assert [part.flatten().tolist() for part in in_parts(rows, size).split(asked)] == [
        part.flatten().tolist() for part in rows.split(asked)
    ]


@pytest.mark.parametrize("rules", [["crm"], ["threshold", "top_down_threshold"], ["crm", "expected_tree_distance"], ["r" * 40]])
def test_columns_of_scores_are_aligned(rules):
    row = dict.fromkeys(("hf1_micro", "hf1_samples", "f1_macro", "exact_match", "incoherence_rate"), 0.5)
    _, *lines = summary_table({"test": {"documents": 2, "hf1_auc": 0.5, "rules": dict.fromkeys(rules, row)}}).splitlines()
    assert len({len(line) for line in lines}) == 1
