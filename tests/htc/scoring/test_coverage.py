"""Coverage and depth of answers, on one split and over many."""

import pytest
import torch

from htc import InputError
from htc.decoding.conformal import back_off, conformal_threshold
from htc.labels.sparse_sets import SparseSets
from htc.scoring.coverage import AnswerScores, coverage_on, coverage_over_splits, coverage_table, expected_coverage
from htc.scoring.parts import ProbabilityParts

from ..conftest import random_dag, random_tree, single_paths


def scored(make=random_tree, documents=900, several=False):
    hierarchy = make(0, 25)
    targets = single_paths(hierarchy, documents, leaves_only=False)
    noise = torch.rand(targets.shape, generator=torch.Generator().manual_seed(0))
    probabilities = (noise + targets) / 2
    return hierarchy, probabilities, targets, AnswerScores.of(probabilities, SparseSets.of(targets), hierarchy, several)


@pytest.mark.parametrize("make", [random_tree, random_dag])
@pytest.mark.parametrize("several", [False, True])
def test_it_is_what_the_answers_give(make, several):
    hierarchy, probabilities, targets, scores = scored(make, 200, several)
    threshold = conformal_threshold(scores.wrong, 0.8)
    answers = back_off(probabilities, hierarchy, threshold, several)
    right = ~(answers & ~targets).any(1)
    depth = (answers * hierarchy.depth).amax(1)
    found = coverage_on(scores, threshold, 0.8)
    assert found["found"]["mean"] == pytest.approx(float(right.double().mean()))
    assert found["found"]["low"] <= found["found"]["mean"] <= found["found"]["high"]
    assert found["mean_depth"]["mean"] == pytest.approx(float(depth.double().mean()))
    assert found["abstained"] == pytest.approx(float((depth == 0).double().mean()))
    assert found["right_of_answered"] == pytest.approx(float(right[depth > 0].double().mean()))


def test_parts_give_the_same():
    hierarchy, probabilities, targets, scores = scored(documents=50)
    parts = ProbabilityParts(lambda: iter(probabilities.split(7)), tuple(probabilities.shape))
    again = AnswerScores.of(parts, SparseSets.of(targets), hierarchy, several=False)
    assert torch.equal(again.wrong, scores.wrong)
    assert torch.equal(again.by_depth, scores.by_depth)


@pytest.mark.parametrize("promised", [0.6, 0.8, 0.9])
def test_over_splits_the_promise_holds(promised):
    *_, scores = scored()
    found = coverage_over_splits(scores, 300, promised)
    low, high = found["expected"]
    assert low < promised < high
    assert len(found["found"]["values"]) == found["splits"] == 20
    assert sum(low <= value <= high for value in found["found"]["values"]) >= 17
    assert found == coverage_over_splits(scores, 300, promised), "always the same splits"
    lines = list(coverage_table(coverage_on(scores, 0.5, promised) | {"over_splits": found}))
    assert lines[0].startswith(f"coverage {promised:g} promised; test: ")
    assert lines[1].startswith("over 20 random splits of dev and test: ")


def test_more_is_promised_by_answers_that_end_higher_up():
    *_, scores = scored()
    depths = [coverage_over_splits(scores, 300, promised)["mean_depth"]["mean"] for promised in (0.5, 0.7, 0.9, 0.99)]
    assert depths == sorted(depths, reverse=True)


def test_the_expected_interval_is_that_of_a_simulation():
    generator = torch.Generator().manual_seed(0)
    low, high = expected_coverage(50, 100, 0.9)
    found = []
    for _ in range(4000):
        scores = torch.rand(150, generator=generator)
        found.append(float((scores[50:] <= conformal_threshold(scores[:50], 0.9)).double().mean()))
    inside = sum(low <= value <= high for value in found) / len(found)
    assert 0.945 <= inside <= 0.98


def test_too_few_documents_are_refused():
    *_, scores = scored(documents=30)
    with pytest.raises(InputError, match="needs at least 19"):
        coverage_over_splits(scores, 10, 0.95)
