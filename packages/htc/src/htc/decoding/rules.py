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

import torch
from torch import Tensor

from htc.labels.hierarchy import Hierarchy, spread
from htc.labels.label_sets import LabelSets, Scores, as_label_sets, as_scores, in_parts
from htc.metrics.counts import precision_recall_f
from htc.metrics.ranking import curve_counts
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
    probabilities = as_scores(probabilities, hierarchy, "probabilities")
    out = probabilities.T.clone(memory_format=torch.contiguous_format)  # (N, B)
    for parent, child in hierarchy.edges_by_level(probabilities.device):
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
    the curve over the sorted values of `max_over_descendants`. With T true labels, k predictions have an F1 of at most
    2T / (k + T); so only those highest values are sorted that could still beat the best F1 of a few thresholds. Of equally good
    thresholds the highest is taken, half-way to the next lower score, so that it does not equal one document's score.

    Args: probabilities (D, N); targets: the label sets of D documents. Returns: the threshold.

    Raises:
        InputError: if no document has a label.
    """
    probabilities = as_scores(probabilities, hierarchy, "probabilities")
    targets = hierarchy.close(as_label_sets(targets, hierarchy, "targets"))
    if not bool(targets.any()):
        raise InputError("a threshold is tuned on documents with labels, and there are none.")
    true = int(targets.sum())
    most = _most_labels(probabilities, targets, hierarchy, true)
    scores, is_true = _highest(probabilities, targets, hierarchy, most)
    true_positives = is_true.cumsum(0)
    f1 = 2 * true_positives / (torch.arange(1, most + 1, device=scores.device) + true)
    last_of_its_value = torch.cat([scores[1:] < scores[:-1], scores.new_full((1,), most == targets.numel(), dtype=torch.bool)])
    best = int(torch.where(last_of_its_value, f1, -1.0).argmax())
    below = scores[best + 1] if best + 1 < most else scores.new_zeros(())
    between = (scores[best] + below) / 2
    return float(between if between > below else scores[best])  # there may be no number between two scores


def _most_labels(probabilities: Tensor, targets: Tensor, hierarchy: Hierarchy, true: int) -> int:
    """The largest number of predictions (of D x N) whose F1 may still reach the best F1 of some thresholds."""
    thresholds = torch.logspace(-6, 0, 61)
    parts = [curve_counts(of_them, some, hierarchy, thresholds) for some, of_them in in_parts(probabilities, targets)]
    f1 = float(precision_recall_f(torch.stack(parts).sum(0))[2].max())
    return targets.numel() if f1 == 0 else min(targets.numel(), int(true * (2 / f1 - 1)) + 2)


def _highest(probabilities: Tensor, targets: Tensor, hierarchy: Hierarchy, most: int) -> tuple[Tensor, Tensor]:
    """The highest values of `max_over_descendants`, descending, and whether their labels are true; both (most,)."""
    scores, is_true = probabilities.new_empty(0), targets.new_empty(0)
    for some, of_them in in_parts(probabilities, targets):
        scores = torch.cat([scores, hierarchy.max_over_descendants(some).flatten()])
        is_true = torch.cat([is_true, of_them.flatten()])
        scores, order = scores.topk(min(most, len(scores)))
        is_true = is_true[order]
    return scores, is_true
