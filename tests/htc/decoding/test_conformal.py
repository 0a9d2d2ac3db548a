"""Answers with a promised coverage: by definition on random hierarchies, and by simulation."""

import math
from fractions import Fraction

import pytest
import torch

from htc import Hierarchy, InputError
from htc.decoding.conformal import back_off, conformal_threshold, has_several_paths, score_by_depth, wrong_score
from htc.decoding.rules import top_down, top_down_threshold
from htc.labels.sparse_sets import SparseSets

from ..conftest import random_dag, random_tree, single_paths

SHAPES = [(make, seed, several) for make in (random_tree, random_dag) for seed in range(4) for several in (False, True)]


def documents(hierarchy, number, seed, several):
    """Probabilities, incoherent and with ties, and label sets, (D, N) each."""
    generator = torch.Generator().manual_seed(seed)
    probabilities = (torch.rand(number, hierarchy.num_nodes, generator=generator) * 8).round() / 8
    targets = single_paths(hierarchy, number, seed, leaves_only=False)
    if several:
        targets |= single_paths(hierarchy, number, seed + 100, leaves_only=False)
    pull = torch.rand(number, 1, generator=generator) < 0.7
    return torch.where(targets & pull, probabilities.clamp_min(0.875), probabilities), targets


def answer_by_definition(row, hierarchy, threshold, several):
    """The nodes of one answer: capped by hand, and for one path along the most probable children."""
    capped = []
    for node, above in enumerate(hierarchy.parents):
        capped.append(min([float(row[node]), *(capped[parent] for parent in above)]))
    if several:
        return {node for node, value in enumerate(capped) if value > threshold}
    path, below = set(), [node for node, above in enumerate(hierarchy.parents) if not above]
    while below:
        best = max(below, key=lambda node: (capped[node], -node))
        path.add(best)
        below = [node for node, above in enumerate(hierarchy.parents) if best in above]
    closed = {int(a) for node in path for a in hierarchy.ancestors[1][hierarchy.ancestors[0] == node]}
    return {node for node in closed if capped[node] > threshold}


@pytest.mark.parametrize(("make", "seed", "several"), SHAPES)
def test_answers_and_scores_are_those_of_the_definition(make, seed, several):
    hierarchy = make(seed, 14)
    probabilities, targets = documents(hierarchy, 25, seed, several)
    wrong = wrong_score(probabilities, targets, hierarchy, several)
    by_depth = score_by_depth(probabilities, hierarchy, several)
    for threshold in (-1.0, 0.0, 0.125, 0.5, 0.75, 1.0):
        answers = back_off(probabilities, hierarchy, threshold, several)
        assert bool(hierarchy.is_coherent(answers).all())
        for row, (answer, truth) in enumerate(zip(answers, targets, strict=True)):
            expected = answer_by_definition(probabilities[row], hierarchy, threshold, several)
            assert set(answer.nonzero().squeeze(1).tolist()) == expected
            assert bool((answer & ~truth).any()) == bool(wrong[row] > threshold)
            depth = max([int(hierarchy.depth[node]) for node in expected], default=0)
            assert depth == int((by_depth[row] > threshold).sum())


@pytest.mark.parametrize(("make", "seed", "several"), SHAPES)
def test_the_threshold_is_the_least_one(make, seed, several):
    hierarchy = make(seed, 14)
    probabilities, targets = documents(hierarchy, 40, seed, several)
    wrong = wrong_score(probabilities, targets, hierarchy, several)
    for coverage in (0.5, 0.7, 0.9, 0.97):
        needed = math.ceil(41 * Fraction(str(coverage)))
        threshold = conformal_threshold(wrong, coverage)

        def right(value):
            answers = back_off(probabilities, hierarchy, value, several)
            return int((~(answers & ~targets).any(1)).sum())

        assert right(threshold) >= needed
        lower = [value for value in [-1.0, *probabilities.unique().tolist()] if value < threshold]
        assert all(right(value) < needed for value in lower)


def test_a_model_of_one_path_gives_one_path_and_it_only_gets_shorter(make_tree):
    hierarchy = make_tree(5, 40)
    probabilities, _ = documents(hierarchy, 30, 5, several=False)
    longest = back_off(probabilities, hierarchy, -1.0)
    assert not has_several_paths(SparseSets.of(longest), hierarchy)
    for low, high in zip((-1.0, 0.1, 0.4, 0.8), (0.1, 0.4, 0.8, 1.0), strict=True):
        one, other = back_off(probabilities, hierarchy, low), back_off(probabilities, hierarchy, high)
        assert not bool((other & ~one).any())
    assert not bool(other.any()), "at 1 nothing is left"


def test_known_rules_are_among_the_answers(make_tree):
    hierarchy = make_tree(2)
    probabilities = torch.rand(20, hierarchy.num_nodes, generator=torch.Generator().manual_seed(0))
    several = back_off(probabilities, hierarchy, 0.3, several=True)
    assert torch.equal(several, top_down_threshold(probabilities, hierarchy, 0.3))  # no ties with 0.3
    coherent = hierarchy.sum_along_paths(probabilities.log()).exp()
    assert torch.equal(back_off(coherent, hierarchy, -1.0), top_down(coherent, hierarchy))


@pytest.mark.parametrize(("several", "coverage"), [(False, 0.9), (True, 0.9), (False, 0.6), (True, 0.7)])
def test_the_coverage_of_new_documents_is_as_promised(several, coverage):
    """With n held-out documents and no ties it is between the promise and 1 / (n + 1) more, on average over draws."""
    hierarchy, held_out, draws = random_tree(3, 20), 59, 400
    probabilities, targets = documents(hierarchy, 12000, 1, several)
    generator = torch.Generator().manual_seed(2)
    probabilities = (probabilities + 1e-3 * torch.rand(probabilities.shape, generator=generator)).double()
    wrong = wrong_score(probabilities, targets, hierarchy, several)
    wrong = wrong.where(wrong > -torch.inf, -torch.rand(len(wrong), generator=generator).double() - 1)  # no ties
    found = []
    for _ in range(draws):
        order = torch.randperm(len(wrong), generator=generator)
        threshold = conformal_threshold(wrong[order[:held_out]], coverage)
        found.append(float((wrong[order[held_out:]] <= threshold).double().mean()))
    rank = math.ceil((held_out + 1) * Fraction(str(coverage)))
    mean = rank / (held_out + 1)  # of the beta distribution of coverages
    spread = math.sqrt(mean * (1 - mean) / (held_out + 2))
    found = torch.tensor(found)
    assert abs(float(found.mean()) - mean) < 3 * spread / math.sqrt(draws)
    assert 0.85 < float(found.std()) / spread < 1.15


@pytest.mark.parametrize(
    ("documents", "coverage", "rank"),
    [
        (9, 0.9, 9),
        (10, 0.9, 10),
        (19, 0.9, 18),
        (99, 0.07, 7),
        (99, 0.29, 29),
        (9, 0.7, 7),
        (4, 0.6, 3),
        (1, 0.5, 1),
        (99, 0.99, 99),
    ],
)
def test_no_rounding_moves_the_rank(documents, coverage, rank):
    assert conformal_threshold(torch.arange(1.0, documents + 1).flip(0), coverage) == rank


@pytest.mark.parametrize(
    ("documents", "coverage", "says"),
    [
        (8, 0.9, "coverage=0.9 cannot be promised from 8 held-out documents: it needs at least 9"),
        (50, 0.99, "it needs at least 99"),
        (0, 0.5, "from 0 held-out documents: it needs at least 1"),
        (9, 0.0, "between 0 and 1"),
        (9, 1.0, "between 0 and 1, such as 0.9, not 1.0"),
        (9, 1, "between 0 and 1"),
        (9, -0.1, "between 0 and 1"),
        (9, 90, "not 90; for 90% give 0.9"),
        (9, math.nan, "between 0 and 1"),
        (9, math.inf, "between 0 and 1"),
        (9, "0.9", "between 0 and 1"),
        (9, True, "between 0 and 1"),
        (9, None, "between 0 and 1"),
    ],
)
def test_what_cannot_be_promised_is_refused(documents, coverage, says):
    with pytest.raises(InputError, match=says):
        conformal_threshold(torch.arange(float(documents)), coverage)


def test_other_numbers_of_documents_are_refused():
    hierarchy = Hierarchy.from_paths([["Arts", "Music"], ["Science"]])
    with pytest.raises(InputError, match="probabilities of 2 documents, but label sets of 1"):
        wrong_score(torch.rand(2, 3), hierarchy.encode([["Arts"]]), hierarchy)
