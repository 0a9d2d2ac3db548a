"""Answers that back off to inner nodes until a promised coverage holds: split-conformal prediction in a hierarchy.

A document's largest answer is the most probable path to a leaf (`top_down`), or, where documents have several paths, every
node. The answer at a threshold is what of it has a probability above the threshold: a path that ends higher up, the higher the
threshold is, and the empty answer in the end. An answer is right if the document has every label of it; the empty one always
is. As answers are nested, a right one stays right at a higher threshold. So one number a document is enough: its
`wrong_score`, the least threshold at which its answer is right. Of n held-out documents the threshold is the
ceil((n + 1) coverage)-th smallest of these. If a new document is drawn like them, its answer is right with a probability of at
least `coverage`, whatever the model is (on average over held-out documents; with ties the coverage may be higher).

>>> hierarchy = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"], ["Science"]])
>>> probabilities = torch.tensor([[0.9, 0.1, 0.6, 0.3], [0.8, 0.2, 0.7, 0.1], [0.6, 0.4, 0.2, 0.4]])  # Arts, Science, ...
>>> targets = hierarchy.encode([["Arts", "Film"], ["Arts", "Music"], ["Science"]])
>>> wrong_score(probabilities, targets, hierarchy)  # Music is wrong, nothing is, Arts is
tensor([0.6000,   -inf, 0.6000])
>>> least = conformal_threshold(wrong_score(probabilities, targets, hierarchy), coverage=0.5)
>>> hierarchy.decode(back_off(probabilities, hierarchy, least))
[[('Arts',)], [('Arts', 'Music')], []]

Sources: Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World", 2005; Angelopoulos et al., "Conformal Risk
Control", arXiv 2208.02814, for nested answers; Mortier et al., "Conformal prediction in hierarchical classification with
constrained representation complexity", arXiv 2501.19038, for inner nodes as answers.
"""

import math
from fractions import Fraction
from numbers import Real

import torch
from torch import Tensor

from htc.decoding.rules import cap_at_parents, top_down
from htc.labels.hierarchy import Hierarchy
from htc.labels.label_sets import LabelSets, Scores, as_sparse_sets
from htc.labels.sparse_sets import SparseSets
from rlkl_htc_common.errors import InputError


def largest_answer(probabilities: Scores, hierarchy: Hierarchy, several: bool = False) -> Tensor:
    """The probabilities of the labels of each document's largest answer, those of others at -inf.

    Args:
        probabilities: (B, N); each is lowered to those of its parents first, so that answers hold all ancestors.
        several: whether documents have several paths: then every node is in it, else the most probable path to a leaf.

    Returns:
        (B, N), never more for a node than for a parent.
    """
    capped = cap_at_parents(probabilities, hierarchy)
    return capped if several else capped.where(top_down(capped, hierarchy), -torch.inf)


def back_off(probabilities: Scores, hierarchy: Hierarchy, threshold: float, several: bool = False) -> Tensor:
    """The answer at a threshold: the labels of the largest answer with a higher probability.

    Args: probabilities (B, N); threshold: of `conformal_threshold`; several: as `largest_answer`. Returns: (B, N) bool, closed
    under ancestors; empty where even the top label is not sure enough.
    """
    return largest_answer(probabilities, hierarchy, several) > threshold


def wrong_score(probabilities: Scores, targets: LabelSets, hierarchy: Hierarchy, several: bool = False) -> Tensor:
    """The least threshold at which each document's answer is right: the highest probability of a wrong label in the largest.

    Args: probabilities (B, N); targets: the label sets of B documents; several: as `largest_answer`. Returns: (B,), -inf where
    the largest answer is right.
    """
    answers = largest_answer(probabilities, hierarchy, several)
    true = hierarchy.close(as_sparse_sets(targets, hierarchy, "targets"))
    if len(true) != len(answers):
        raise InputError(f"there are probabilities of {len(answers)} documents, but label sets of {len(true)}.")
    return answers.masked_fill(true.dense().to(answers.device), -torch.inf).amax(1)


def score_by_depth(probabilities: Scores, hierarchy: Hierarchy, several: bool = False) -> Tensor:
    """The highest probability in the largest answer at each depth: the answer reaches the depth at lower thresholds.

    Args: probabilities (B, N); several: as `largest_answer`. Returns: (B, max_depth), not rising; -inf where there is none.
    """
    answers = largest_answer(probabilities, hierarchy, several)
    return torch.stack([answers[:, level].amax(1) for level in hierarchy.levels], dim=1)


def conformal_threshold(wrong_scores: Tensor, coverage: float) -> float:
    """The least threshold at which at least ceil((n + 1) coverage) of n held-out documents have a right answer.

    >>> conformal_threshold(torch.tensor([0.9, 0.2, 0.4, 0.7]), coverage=0.6)  # the third smallest of four
    0.699999988079071

    Args:
        wrong_scores: (n,) of `wrong_score`, of documents on which neither the model nor anything before it was trained.
        coverage: the promise, between 0 and 1.

    Raises:
        InputError: for another coverage, or too few documents for it.
    """
    check_coverage(coverage)
    share, n = Fraction(repr(float(coverage))), len(wrong_scores)  # 0.9 is nine tenths: no rounding moves the rank
    rank = math.ceil((n + 1) * share)
    if rank > n:
        needed = math.ceil(share / (1 - share))
        raise InputError(
            f"coverage={coverage:g} cannot be promised from {n} held-out documents: it needs at least {needed}; give more of "
            "them, or promise less."
        )
    return float(wrong_scores.sort().values[rank - 1])


def check_coverage(coverage: float) -> None:
    """Raise InputError unless the coverage is a number between 0 and 1, without these."""
    value = float(coverage) if isinstance(coverage, Real) and not isinstance(coverage, bool) else math.nan
    if not 0 < value < 1:
        hint = f"; for {value:g}% give {value / 100:g}" if 1 < value < 100 else ""
        raise InputError(f"coverage must be between 0 and 1, such as 0.9, not {coverage!r}{hint}.")


def has_several_paths(targets: SparseSets, hierarchy: Hierarchy) -> bool:
    """Whether a document has several most specific labels. Args: targets (D, N), closed."""
    return bool((hierarchy.most_specific(targets).sum(1) > 1).any())
