"""Which objective wins, under which metric and inference rule, and how surely: from the results of a reproduction."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from htc.report.records import BestTwo
from rlkl_htc_common.report.statistics import bootstrap, over_seeds


def winners(scores: Mapping[str, Mapping[str, float]], lower_is_better: bool) -> dict[str, list[str]]:
    """The best objectives under each rule. Args: scores: rule -> objective -> mean score. Returns: rule -> objectives."""
    return {
        rule: [objective for objective, rank in ranks(by_objective, lower_is_better).items() if rank == 1]
        for rule, by_objective in scores.items()
        if by_objective
    }


def ranks(scores: Mapping[str, float], lower_is_better: bool) -> dict[str, int]:
    """The rank of each objective, 1 for the best; equal scores share the better rank. Args: scores: objective -> mean score."""
    sign = 1 if lower_is_better else -1
    ordered = sorted(sign * score for score in scores.values())
    return {objective: ordered.index(sign * score) + 1 for objective, score in scores.items()}


def paired_difference(
    better: str, worse: str, documents: Mapping[str, Sequence[np.ndarray]], identities: Sequence[np.ndarray], rule: str = ""
) -> BestTwo:
    """The difference between two methods.

    A document counts once, however many seeds had it in their test split: with its mean over them.

    Args:
        better, worse: two of the methods.
        documents: method -> for each seed the scores of its test documents, (D,).
        identities: for each seed which documents these are, (D,) numbers.
        rule: that gave the scores.
    """
    pairs = [a - b for a, b in zip(documents[better], documents[worse], strict=True)]
    _, which = np.unique(np.concatenate(identities), return_inverse=True)
    of_document = np.bincount(which, np.concatenate(pairs)) / np.bincount(which)
    over = bootstrap(of_document.tolist()), over_seeds([float(pair.mean()) for pair in pairs])
    return BestTwo(rule, better, worse, *over)


def best_two(documents: Mapping[str, Sequence[np.ndarray]]) -> tuple[str, str]:
    """The methods with the highest and the second highest mean. Args: as `paired_difference`."""
    means = {method: float(np.mean([scores.mean() for scores in seeds])) for method, seeds in documents.items()}
    first, second = sorted(means, key=means.__getitem__, reverse=True)[:2]
    return first, second


class Documents(NamedTuple):
    """The scores of the test documents.

    Attributes:
        scores: for each loss, for each seed: rule -> hF1 of each document.
        identities: for each seed which documents these are.
    """

    scores: Mapping[str, Sequence[Mapping[str, np.ndarray]]]
    identities: Sequence[np.ndarray]


def best_two_by_rule(documents: Documents, rules: Sequence[str]) -> list[BestTwo]:
    """The best two methods under each rule that two or more have."""
    found = []
    for rule in rules:
        scores = {
            loss: [seed[rule] for seed in seeds] for loss, seeds in documents.scores.items() if all(rule in s for s in seeds)
        }
        if len(scores) > 1:
            found.append(paired_difference(*best_two(scores), scores, documents.identities, rule))
    return found
