"""More inference rules for one path, ending anywhere: by information, confidence, similarity or distance.

The information of a node is I(n) = log2(leaves / leaves below n): 0 for the root, largest for leaves. All rules are pure
functions `(B, N)` -> bool `(B, N)`: one node and everything above it, or the empty set, which means the root.

| rule | predicts the node with | optimal for |
|---|---|---|
| `information_weighted` | the largest p(n) (I(n) + lambda), the root included | expected information |
| `most_specific` | the largest I(n) among those with p(n) >= t, or the root | |
| `most_probable` | the largest p(n) among those with I(n) >= t | |
| `plurality` | a way down while the best child beats every sibling rejected before | a heuristic |
| `hie_self` | the largest p(leaf) p(parent of the leaf) | a heuristic |
| `expected_tree_distance` | the largest depth among those with p(n) > 0.5, or the root | `tree_distance` |
| `expected_wu_palmer` | the largest E[2 d(lca) / (d(n) + d(end))], d: depth | `wu_palmer`, the hF1 of one path |
| `expected_zhao` | the largest E[2 I(lca) / (I(n) + I(end))] | Zhao's similarity, equal to Lin's with this I |

The last three need the probabilities of one path in a tree, see `expected`. They need no matrix of all pairs of nodes.

>>> hierarchy = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"], ["Science", "Physics"], ["Science", "Biology"]])
>>> probabilities = torch.tensor([[0.6, 0.4, 0.31, 0.29, 0.35, 0.05]])  # Arts, Science; Music, Film, Physics, Biology
>>> information(hierarchy)
tensor([1., 1., 2., 2., 2., 2.], dtype=torch.float64)
>>> [hierarchy.decode(rule(probabilities, hierarchy))[0] for rule in (most_specific, hie_self, plurality)]
[[('Arts',)], [('Arts', 'Music')], [('Arts',)]]
>>> hierarchy.decode(most_probable(probabilities, hierarchy, 2.0))
[[('Science', 'Physics')]]
>>> hierarchy.decode(information_weighted(probabilities, hierarchy, 0.0))
[[('Science', 'Physics')]]
>>> hierarchy.decode(expected_wu_palmer(probabilities, hierarchy))
[[('Arts', 'Music')]]

Sources: Deng et al., "Hedging Your Bets", CVPR 2012 (DARTS: information and lambda); Valmadre, "Hierarchical Classification at
Multiple Operating Points", NeurIPS 2022; Jain et al., "Test-Time Amendment with a Coarse Classifier for Fine-Grained
Classification", NeurIPS 2023 (HiE-self); Zhao et al., ICCV 2011, and Lin, ICML 1998 (similarity); Plaud et al., "To Each Metric
Its Decoding", ICML 2025.
"""

import torch
from torch import Tensor

from htc.decoding.rules import argmax_leaf
from htc.decoding.similarity_search import most_similar
from htc.labels.hierarchy import Hierarchy
from htc.labels.label_sets import Scores, as_scores
from htc.labels.sparse_sets import spread
from rlkl_htc_common.errors import InputError


def information(hierarchy: Hierarchy) -> Tensor:
    """I(n) = log2(leaves / leaves below n, itself included), in bits. Returns: (N,) float64."""
    node, ancestor = hierarchy.ancestors
    below = torch.bincount(ancestor[hierarchy.is_leaf[node]], minlength=hierarchy.num_nodes)
    return (len(hierarchy.leaves) / below.double()).log2()


def information_weighted(probabilities: Scores, hierarchy: Hierarchy, trade_off: float = 0.0) -> Tensor:
    """The node with the largest p(n) (I(n) + lambda); the root has p = 1 and I = 0. A larger lambda predicts higher nodes.

    Args:
        probabilities: (B, N).
        trade_off: lambda, in bits, not negative.

    Returns:
        (B, N) bool; ties go to the first node, and to the root last.
    """
    if not trade_off >= 0:
        raise InputError(f"the trade-off between information and accuracy must not be negative, but is {trade_off}.")
    probabilities = as_scores(probabilities, hierarchy, "probabilities")
    gain, best = (probabilities * (information(hierarchy).to(probabilities) + trade_off)).max(1)
    return _path_to(best.where(gain >= trade_off, hierarchy.num_nodes), hierarchy)


def most_specific(probabilities: Scores, hierarchy: Hierarchy, value: float = 0.5) -> Tensor:
    """The node with the most information among those with a probability >= the threshold; the root if there is none.

    Args: probabilities (B, N); value in [0, 1]. Returns: (B, N) bool; of equal information the deepest, of these the most
    probable, then the first.
    """
    probabilities = as_scores(probabilities, hierarchy, "probabilities")
    specific = list(zip(information(hierarchy).tolist(), hierarchy.depth.tolist(), strict=True))
    rank = {key: position for position, key in enumerate(sorted(set(specific)))}  # the most specific last
    of_node = torch.tensor([rank[key] for key in specific], device=probabilities.device)
    allowed = probabilities >= value
    most = of_node.where(allowed, -1).amax(1, keepdim=True)
    best = probabilities.where(allowed & (of_node == most), -torch.inf).argmax(1)
    return _path_to(best.where(allowed.any(1), hierarchy.num_nodes), hierarchy)


def most_probable(probabilities: Scores, hierarchy: Hierarchy, bits: float) -> Tensor:
    """The most probable node among those with at least this much information.

    Args: probabilities (B, N); bits: the least information. Returns: (B, N) bool; ties go to the first node.

    Raises:
        InputError: if no node has this much.
    """
    probabilities = as_scores(probabilities, hierarchy, "probabilities")
    known = information(hierarchy).to(probabilities.device)
    candidates = (known >= bits).nonzero().squeeze(1)
    if not len(candidates):
        raise InputError(f"no node has {bits} bits of information; leaves have the most, {float(known.max()):.4f}.")
    return _path_to(candidates[probabilities[:, candidates].argmax(1)], hierarchy)


def plurality(probabilities: Scores, hierarchy: Hierarchy) -> Tensor:
    """From the root, go to the most probable child while it is more probable than every sibling rejected before.

    Only the children of each document's current node are read.

    Args: probabilities (B, N). Returns: (B, N) bool, one path each, at least one node; ties go to the first node.
    """
    probabilities = as_scores(probabilities, hierarchy, "probabilities")
    children, starts = (index.to(probabilities.device) for index in hierarchy.children)
    document = torch.arange(len(probabilities), device=probabilities.device)
    at = torch.full_like(document, hierarchy.num_nodes)
    end, rejected = at.clone(), probabilities.new_full((len(document),), -torch.inf)
    while len(document):
        counts = starts[at + 1] - starts[at]
        document, at, rejected, counts = (values[counts > 0] for values in (document, at, rejected, counts))
        row, position = spread(starts[at], counts)
        score = probabilities[document[row], children[position]]
        best = torch.full_like(rejected, -torch.inf).scatter_reduce(0, row, score, "amax")
        first = torch.full_like(document, len(children)).scatter_reduce(
            0, row, position.where(score == best[row], len(children)), "amin"
        )
        others = score.where(position != first[row], -torch.inf)
        goes_on = best > rejected
        rejected = rejected.scatter_reduce(0, row, others, "amax")
        document, at, rejected = document[goes_on], children[first[goes_on]], rejected[goes_on]
        end[document] = at
    return _path_to(end, hierarchy)


def hie_self(probabilities: Scores, hierarchy: Hierarchy) -> Tensor:
    """The leaf with the largest product of its probability and its parent's (1 for the root).

    Args: probabilities (B, N); the hierarchy must be a tree. Returns: (B, N) bool; ties go to the first leaf.
    """
    probabilities = as_scores(probabilities, hierarchy, "probabilities")
    parent = hierarchy.parent.to(probabilities.device)
    return argmax_leaf(probabilities * probabilities[:, parent].where(parent >= 0, 1.0), hierarchy)


def expected_tree_distance(probabilities: Scores, hierarchy: Hierarchy) -> Tensor:
    """The node with the smallest expected number of edges to the end: the deepest node with a probability above 0.5.

    A step down is one edge nearer to all ends below and one edge further from all others.

    Args: probabilities (B, N) coherent, of one path; the hierarchy must be a tree. Returns: (B, N) bool; empty for the root.
    """
    hierarchy.parent  # noqa: B018  raises unless this is a tree
    probabilities = as_scores(probabilities, hierarchy, "probabilities")
    likely = probabilities > 0.5
    deepest = (likely * hierarchy.depth.to(probabilities.device)).amax(1, keepdim=True)
    candidates = likely & (hierarchy.depth.to(probabilities.device) == deepest)  # one node, if probabilities are of one path
    best = probabilities.where(candidates, -1.0).argmax(1)
    return _path_to(best.where(candidates.any(1), hierarchy.num_nodes), hierarchy)


def expected_wu_palmer(probabilities: Scores, hierarchy: Hierarchy) -> Tensor:
    """The node with the largest expected Wu-Palmer similarity to the end of the path, 2 depth(lca) / (depth + depth).

    In a tree, this similarity is the F1 of the two closed sets. So this is the best single path for the mean hF1 over
    documents; `htc.decoding.expected.expected_hf` gives several paths if that is better.

    Args: probabilities (B, N) coherent, of one path; the hierarchy must be a tree. Returns: (B, N) bool, never empty.
    """
    return _path_to(most_similar(probabilities, hierarchy, hierarchy.depth.double()), hierarchy)


def expected_zhao(probabilities: Scores, hierarchy: Hierarchy) -> Tensor:
    """The node with the largest expected information similarity to the end of the path, 2 I(lca) / (I(n) + I(end)).

    Args: probabilities (B, N) coherent, of one path; the hierarchy must be a tree. Returns: (B, N) bool, never empty.
    """
    return _path_to(most_similar(probabilities, hierarchy, information(hierarchy)), hierarchy)


def _path_to(nodes: Tensor, hierarchy: Hierarchy) -> Tensor:
    """Nodes with all their ancestors; empty for node N. Args: nodes (B,) int64. Returns: (B, N) bool."""
    sets = torch.zeros(len(nodes), hierarchy.num_nodes + 1, dtype=torch.bool, device=nodes.device)
    sets[torch.arange(len(nodes), device=nodes.device), nodes] = True
    return hierarchy.close(sets[:, :-1].contiguous())
