"""Inference rules: from node probabilities to predicted label sets, as pure functions `(B, N)` -> bool `(B, N)`.

`threshold` is the multi-label rule. Its sets may be incoherent, unless the probabilities are repaired first (`cap_at_parents`,
`raise_to_descendants`). `top_down_threshold` gives several paths, ending anywhere; `top_down_until` gives one path, ending
anywhere; `top_down` and `argmax_leaf` give one path to a leaf. Rules with a threshold give the empty set if no label reaches
it. `htc.decoding.expected` holds rules that are optimal for a metric.

>>> hierarchy = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"], ["Science", "Physics"], ["Science", "Biology"]])
>>> probabilities = torch.tensor([[0.5, 0.5, 0.4, 0.1, 0.2, 0.3]])  # Arts, Science, Music, Film, Physics, Biology
>>> hierarchy.decode(threshold(probabilities, hierarchy))
[[('Arts',), ('Science',)]]
>>> hierarchy.decode(top_down(probabilities, hierarchy))
[[('Arts', 'Music')]]
>>> hierarchy.decode(top_down_until(probabilities, hierarchy, 0.5))
[[('Arts',)]]
>>> hierarchy.decode(top_down_threshold(probabilities, hierarchy, 0.25))
[[('Arts', 'Music'), ('Science', 'Biology')]]

Source: Plaud et al., CoNLL 2024, section 3.3.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from htc.labels.hierarchy import Hierarchy
from htc.labels.label_sets import LabelSets, Scores, as_scores, as_sparse_sets, in_parts
from htc.labels.sparse_sets import SparseSets, spread
from htc.metrics.counts import precision_recall_f
from htc.metrics.ranking import curve_counts
from htc.metrics.reached import ReachedOverall
from rlkl_htc_common.errors import InputError


def threshold(probabilities: Scores, hierarchy: Hierarchy, value: float = 0.5) -> Tensor:
    """Every node with a probability >= the threshold; at 0.5 optimal for the Hamming loss.

    The public code of Plaud et al. uses >, see `above_threshold`.

    Args: probabilities (B, N); value in [0, 1]. Returns: (B, N) bool, possibly empty, possibly incoherent.
    """
    probabilities = as_scores(probabilities, hierarchy, "probabilities")
    return probabilities >= value


def above_threshold(probabilities: Scores, hierarchy: Hierarchy, value: float = 0.5) -> Tensor:
    """Every node with a probability > the threshold, as in the public code of Plaud et al.; see `threshold`.

    Args: probabilities (B, N); value in [0, 1]. Returns: (B, N) bool, possibly empty, possibly incoherent.
    """
    probabilities = as_scores(probabilities, hierarchy, "probabilities")
    return probabilities > value


def top_down(probabilities: Scores, hierarchy: Hierarchy) -> Tensor:
    """From the root, go to the most probable child until a leaf; ties go to the first node.

    Args: probabilities (B, N). Returns: (B, N) bool, one leaf each and everything above it.
    """
    return top_down_until(probabilities, hierarchy, -torch.inf)


def top_down_until(probabilities: Scores, hierarchy: Hierarchy, value: float = 0.5) -> Tensor:
    """As `top_down`, but stop above the first node whose probability is below the threshold.

    Only the children of each document's current node are read, so the cost does not grow with the number of nodes.

    Args: probabilities (B, N); value in [0, 1]. Returns: (B, N) bool, one path each, or empty if no top node reaches it.
    """
    probabilities = as_scores(probabilities, hierarchy, "probabilities")
    children, starts = (index.to(probabilities.device) for index in hierarchy.children)
    chosen = torch.zeros_like(probabilities, dtype=torch.bool)
    document = torch.arange(len(probabilities), device=probabilities.device)
    at = torch.full_like(document, hierarchy.num_nodes)  # the root; its children come last
    while len(document):
        row, position = spread(starts[at], starts[at + 1] - starts[at])
        score = probabilities[document[row], children[position]]
        best = torch.full_like(document, -torch.inf, dtype=score.dtype).scatter_reduce(0, row, score, "amax")
        first = torch.full_like(document, len(children)).scatter_reduce(
            0, row, position.where(score == best[row], len(children)), "amin"
        )
        goes_on = (first < len(children)) & (best >= value)  # not at a leaf, and not below the threshold
        document, at = document[goes_on], children[first[goes_on]]
        chosen[document, at] = True
    return chosen if hierarchy.is_tree else hierarchy.close(chosen)


def top_down_threshold(probabilities: Scores, hierarchy: Hierarchy, value: float = 0.5) -> Tensor:
    """Every node that reaches the threshold together with all its ancestors: several paths, ending anywhere.

    Args: probabilities (B, N); value in [0, 1]. Returns: (B, N) bool, coherent.
    """
    return cap_at_parents(probabilities, hierarchy) >= value


def cap_at_parents(probabilities: Scores, hierarchy: Hierarchy) -> Tensor:
    """Coherence repair: lower each node to the probability of its parents. Args: probabilities (B, N). Returns: (B, N)."""
    return min_over_ancestors(as_scores(probabilities, hierarchy, "probabilities"), hierarchy)


def min_over_ancestors(values: Tensor, hierarchy: Hierarchy) -> Tensor:
    """`cap_at_parents` of any values, without a check of them. Args: values (B, N). Returns: (B, N)."""
    out = values.T.clone(memory_format=torch.contiguous_format)  # (N, B)
    for parent, child in hierarchy.edges_by_level(values.device):
        out = out.scatter_reduce(0, child[:, None].expand(-1, out.shape[1]), out[parent], "amin")
    return out.T


def raise_to_descendants(probabilities: Scores, hierarchy: Hierarchy) -> Tensor:
    """Coherence repair: raise each node to the largest probability below it. Args: probabilities (B, N). Returns: (B, N)."""
    probabilities = as_scores(probabilities, hierarchy, "probabilities")
    return hierarchy.max_over_descendants(probabilities)


def argmax_leaf(probabilities: Scores, hierarchy: Hierarchy) -> Tensor:
    """The most probable leaf and everything above it; ties go to the first leaf.

    Args: probabilities (B, N). Returns: (B, N) bool, one path each in a tree.
    """
    probabilities = as_scores(probabilities, hierarchy, "probabilities")
    leaves = hierarchy.leaves.to(probabilities.device)
    best = leaves[probabilities[:, leaves].argmax(1, keepdim=True)]
    return hierarchy.close(torch.zeros_like(probabilities, dtype=torch.bool).scatter_(1, best, True))


def tune_threshold(probabilities: Scores, targets: LabelSets, hierarchy: Hierarchy) -> float:
    """The threshold with the highest micro hierarchical F1 on held-out documents, exactly.

    A node is in the ancestor-closed prediction if it or a descendant reaches the threshold. So the curve over all thresholds is
    the curve over the values of `max_over_descendants`. It rises only at values of true labels, so that one of these is best:
    all others are counted, not kept. Of equally good thresholds the highest is taken, half-way to the next lower score, so that
    it does not equal one document's score.

    Args: probabilities (D, N); targets: the label sets of D documents. Returns: the threshold.

    Raises:
        InputError: if no document has a label.
    """
    probabilities = as_scores(probabilities, hierarchy, "probabilities")
    targets = hierarchy.close(as_sparse_sets(targets, hierarchy, "targets"))
    return tune_threshold_in_parts(lambda: in_parts(probabilities, targets), hierarchy)


def tune_threshold_in_parts(parts: Callable[[], Iterable[tuple[Tensor, SparseSets]]], hierarchy: Hierarchy) -> float:
    """The same, for documents in parts, which are read three times.

    Args:
        parts: gives all parts, the same each time: probabilities (d, N), and the label sets, closed under ancestors.
    """
    thresholds = torch.logspace(-6, 0, 25)
    counts, of_true = torch.zeros(3, len(thresholds), dtype=torch.long), [torch.empty(0)]
    for some, true in parts():
        scores = hierarchy.max_over_descendants(some)
        counts += curve_counts(true, scores, thresholds).cpu()
        of_true.append(scores[true.document, true.node].cpu())
    score = torch.cat(of_true).sort(descending=True).values
    if not len(score):
        raise InputError("a threshold is tuned on documents with labels, and there are none.")
    score = score[score >= _lowest(counts, thresholds, len(score))]
    reached = ReachedOverall(score)
    for some, _ in parts():
        reached.count(hierarchy.max_over_descendants(some))
    f1 = 2 * torch.arange(1, len(score) + 1) / (reached.at() + len(torch.cat(of_true)))
    last_of_its_value = torch.cat([score[1:] < score[:-1], torch.ones(1, dtype=torch.bool)])
    best = score[torch.where(last_of_its_value, f1, -1.0).argmax()]
    below = torch.full_like(best, -torch.inf)
    for some, _ in parts():
        scores = hierarchy.max_over_descendants(some)
        below = torch.maximum(below, scores.where(scores < best.to(scores.device), -torch.inf).max().cpu())
    below = below.where(below > -torch.inf, 0.0)
    between = (best + below) / 2
    return float(between if between > below else best)  # there may be no number between two scores


def _lowest(counts: Tensor, thresholds: Tensor, true: int) -> float:
    """A score below which no threshold is best. With k predictions and T true labels, F1 is at most 2T / (k + T).

    Args: counts (3, T'): at the thresholds (T',), ascending; true: T.
    """
    f1 = float(precision_recall_f(counts)[2].max())
    most = float("inf") if f1 == 0 else true * (2 / f1 - 1) + 2
    too_many = thresholds[counts[1] > most]
    return float(too_many[-1]) if len(too_many) else -float("inf")
