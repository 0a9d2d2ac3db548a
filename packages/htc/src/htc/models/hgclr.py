"""HGCLR: a second view of each training text, of the words that its labels attend to, and a contrastive loss between the two.

The hierarchy is needed in training only. A trained model is the encoder and the head of the baseline, and predicts as that
does.

    names of labels -> the encoder's embeddings, mean over tokens, + a vector for each label -> `LabelGraph` -> (C, d)
    words of a text (B, T, d) against these -> `TokenGate` -> (B, T), 1 for the words that are kept, 0 for others
    words times gate -> encoder -> vectors of the second view (B, d)
    `HGCLR.forward`: the objective's loss of the second view + weight * `nt_xent` of both views

What that gives is added to the objective's loss of the text itself. It can be any objective; the gate takes targets of any
form, several paths too. Trees, forests and DAGs.

Source: Wang et al., "Incorporating Hierarchy into Text Encoder: a Contrastive Learning Approach for Hierarchical Text
Classification", ACL 2022. As published: the Gumbel noise is added to probabilities, not to their logarithms, so that it decides
most words; [CLS] and [SEP] may be dropped (position and type stay); two documents with the same labels count as different.
Different from the authors' code: a label's attention to itself has the learned bias of distance 0, where they divide an edge
weight by 1e-8; a path may have any length, where they have room for 15 edges; layers that are never run are left out.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from htc.labels.hierarchy import Hierarchy
from rlkl_htc_common.errors import InputError

INITIAL_STD = 0.02  # of new weights, as in BERT
MOST_LABELS = 20_000  # (C, C) numbers are kept several times: 1.6 GB each


class LabelGraph(nn.Module):
    """Label features: what a label is called, and one layer of attention between labels that knows how they are related.

    The attention between two labels gets a bias, the same for all heads: b(distance) + the mean of a weight w over the nodes on
    the way between them, each standing for the edge to its parent. The nodes on the way are those that are one of the two or
    above it, and not so for the other; their number is the distance, in a tree the edges by way of the lowest common ancestor
    or the root. In a DAG, where there is no one way, the same nodes and their number are taken; the paper has trees only.

    Args:
        hierarchy: C labels.
        dim: d, the size of the encoder's word vectors.
        heads: of the attention.
        dropout: of the attention and after it.

    Raises:
        InputError: for more labels than a (C, C) matrix fits into memory, or a dim that the heads do not divide.
    """

    distance: Tensor
    ancestors: Tensor

    def __init__(self, hierarchy: Hierarchy, dim: int, heads: int = 12, dropout: float = 0.1) -> None:
        super().__init__()
        if hierarchy.num_nodes > MOST_LABELS:
            raise InputError(
                f"HGCLR lets every label attend to every other, and {hierarchy.num_nodes} labels would not fit into memory; "
                f"at most {MOST_LABELS} do."
            )
        check_heads(dim, heads, "graph_heads")
        self.heads, self.dropout = heads, nn.Dropout(dropout)
        self.register_buffer("ancestors", hierarchy.ancestors, persistent=False)
        self.register_buffer("distance", distances(hierarchy), persistent=False)
        self.distance_bias = nn.Parameter(torch.zeros(int(self.distance.max()) + 1))
        self.edge_weight = nn.Parameter(torch.zeros(hierarchy.num_nodes))
        self.id_embedding = nn.Embedding(hierarchy.num_nodes, dim)
        self.attention_in, self.attention_out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)
        for parameter in (self.distance_bias, self.edge_weight):
            nn.init.normal_(parameter, std=INITIAL_STD)
        self.apply(init_as_bert)

    def bias(self) -> Tensor:
        """(C, C), symmetric; finite everywhere."""
        above = ancestor_matrix(self.ancestors, len(self.edge_weight))
        to_root = torch.sparse.mm(above, self.edge_weight[:, None])  # (C, 1), the sum of w from each label up
        common = torch.sparse.mm(above, self.edge_weight[:, None] * above.to_dense().T)  # (C, C)
        on_the_way = to_root + to_root.T - common - common.T
        return self.distance_bias[self.distance] + on_the_way / self.distance.clamp(min=1)

    def forward(self, names: Tensor) -> Tensor:
        """Args: names (C, d), the mean of the embedded tokens of each label's name. Returns: (C, d), in full precision."""
        with torch.autocast(names.device.type, enabled=False):  # sparse products have no other
            return self._attend(names.float())

    def _attend(self, names: Tensor) -> Tensor:
        features = names + self.id_embedding.weight
        query, key, value = self.attention_in(features).view(len(features), 3, self.heads, -1).permute(1, 2, 0, 3)
        rate = self.dropout.p if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=self.bias().to(query.dtype), dropout_p=rate)
        return self.norm(features + self.dropout(self.attention_out(attended.transpose(0, 1).flatten(1))))


class TokenGate(nn.Module):
    """Which words of a text stand for its labels.

    Every word attends to all labels; of the attention, averaged over heads, a Gumbel-softmax is taken, and a word is kept if
    its share for the document's own labels reaches the threshold.

    Args:
        dim: d.
        heads: of the attention.
        temperature: of the Gumbel-softmax.
        threshold: gamma; 0 keeps every word.

    Raises:
        InputError: if the heads do not divide the dim, or a setting is out of range.
    """

    def __init__(self, dim: int, heads: int = 8, temperature: float = 1.0, threshold: float = 0.02) -> None:
        super().__init__()
        check_heads(dim, heads, "gate_heads")
        if temperature <= 0 or not 0 <= threshold < 1:
            raise InputError(f"the gate needs a temperature above 0 and a threshold in [0, 1), not {temperature}, {threshold}.")
        self.heads, self.temperature, self.threshold = heads, temperature, threshold
        self.query, self.key = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.apply(init_as_bert)

    def shares(self, words: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
        """What of each word's Gumbel-softmax is for the document's labels.

        Args: words (B, T, d); labels (C, d); targets (B, C) bool. Returns: (B, T) in [0, 1].
        """
        query = self.query(words).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, T, d / heads)
        key = self.key(labels).unflatten(-1, (self.heads, -1)).permute(1, 2, 0)  # (heads, d / heads, C)
        attention = (query * query.shape[-1] ** -0.5 @ key).softmax(-1).mean(1)  # (B, T, C)
        sampled = F.gumbel_softmax(attention, tau=self.temperature, dim=-1)
        return torch.einsum("btc,bc->bt", sampled, targets.to(sampled.dtype))

    def forward(self, words: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
        """The gate. Args: as `shares`. Returns: (B, T), exactly 0 or 1; a kept word passes its gradient on to its share."""
        return straight_through(self.shares(words, labels, targets), self.threshold)


class HGCLR(nn.Module):
    """What HGCLR adds to a training loss.

    Args:
        hierarchy: C labels; targets come in its node order.
        name_ids: for each label the token ids of its name, special tokens and all.
        dim: d, the size of the encoder's word vectors and of its text vectors.
        weight: lambda, of the contrastive loss. At 0 the second view is still learned from.
        threshold, temperature, gate_heads: see `TokenGate`.
        graph_heads: see `LabelGraph`.
        similarity_temperature: of the contrastive loss; the authors' is 1, whatever their setting says.
        dropout: 0.1 as in BERT.

    Raises:
        InputError: see `LabelGraph` and `TokenGate`; if not every label has a name.
    """

    name_ids: Tensor
    name_mask: Tensor

    def __init__(
        self,
        hierarchy: Hierarchy,
        name_ids: Sequence[Sequence[int]],
        dim: int,
        weight: float = 0.1,
        threshold: float = 0.02,
        temperature: float = 1.0,
        gate_heads: int = 8,
        graph_heads: int = 12,
        similarity_temperature: float = 1.0,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if len(name_ids) != hierarchy.num_nodes or not all(name_ids):
            raise InputError(f"HGCLR needs the tokens of {hierarchy.num_nodes} names, one for each label, none of them empty.")
        if weight < 0 or similarity_temperature <= 0:
            raise InputError("HGCLR needs a weight that is not negative, and a similarity temperature above 0.")
        self.weight, self.similarity_temperature = weight, similarity_temperature
        self.graph = LabelGraph(hierarchy, dim, graph_heads, dropout)
        self.gate = TokenGate(dim, gate_heads, temperature, threshold)
        self.projection = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(dim, dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(dim, dim)
        ).apply(init_as_bert)
        padded = nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids in name_ids], batch_first=True, padding_value=-1)
        self.register_buffer("name_ids", padded.clamp(min=0), persistent=False)
        self.register_buffer("name_mask", padded >= 0, persistent=False)

    def label_features(self, embed: Callable[[Tensor], Tensor]) -> Tensor:
        """(C, d). Args: embed: token ids (n, W) -> (n, W, d), the encoder's whole embedding layer, which learns from it."""
        mask = self.name_mask[..., None]
        return self.graph((embed(self.name_ids) * mask).sum(1) / mask.sum(1))

    def forward(
        self,
        vectors: Tensor,
        words: Tensor,
        targets: Tensor,
        embed: Callable[[Tensor], Tensor],
        encode: Callable[[Tensor], Tensor],
        loss: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """The term to add.

        Args:
            vectors: (B, d) of the texts, as the head gets them.
            words: (B, T, d), their tokens' word embeddings, without position and type.
            targets: (B, C) bool.
            embed: see `label_features`.
            encode: word embeddings (B, T, d) -> text vectors (B, d), as for the texts themselves.
            loss: text vectors (B, d) -> a scalar: the head and the objective, with the same targets.

        Returns:
            A scalar.
        """
        gate = self.gate(words, self.label_features(embed), targets)
        second = encode(words * gate[..., None])
        views = self.projection(torch.cat([vectors, second]))
        with torch.autocast(views.device.type, enabled=False):
            contrast = nt_xent(views.float(), self.similarity_temperature)
        return loss(second) + self.weight * contrast


def ancestor_matrix(ancestors: Tensor, labels: int) -> Tensor:
    """(C, C) sparse, 1 where the column is the row's label or above it. Args: ancestors (2, M), of a `Hierarchy`; labels: C."""
    ones = torch.ones(ancestors.shape[1], device=ancestors.device)
    return torch.sparse_coo_tensor(ancestors, ones, (labels, labels), is_coalesced=True, check_invariants=False)


def distances(hierarchy: Hierarchy) -> Tensor:
    """(C, C) int64, how many nodes are one of two labels or above it, and not so for the other; in a tree the edges between.

    >>> distances(Hierarchy.from_paths([["Arts", "Music"], ["Science"]]))  # Arts, Science, Music
    tensor([[0, 2, 1],
            [2, 0, 3],
            [1, 3, 0]])
    """
    above = ancestor_matrix(hierarchy.ancestors, hierarchy.num_nodes)
    common = torch.sparse.mm(above, above.to_dense().T)
    size = hierarchy.closure_size
    return size[:, None] + size - 2 * common.long()


def straight_through(shares: Tensor, threshold: float) -> Tensor:
    """1 where the share reaches the threshold, with the gradient of the share, and 0 elsewhere, without.

    Args: shares, of any shape. Returns: the same shape.
    """
    kept = (shares >= threshold).to(shares.dtype)
    return kept + kept * (shares - shares.detach())


def nt_xent(views: Tensor, temperature: float = 1.0) -> Tensor:
    """The normalised, temperature-scaled cross-entropy: of all other views in the batch, find the one of the same document.

    Args: views (2B, d), the first views of B documents, then the second ones in the same order. Returns: a scalar, the mean.

    Source: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", ICML 2020.
    """
    unit = F.normalize(views, dim=1)
    similarity = (unit @ unit.T / temperature).fill_diagonal_(-torch.inf)
    partner = torch.arange(len(views), device=views.device).roll(len(views) // 2)
    return F.cross_entropy(similarity, partner)


def init_as_bert(module: nn.Module) -> None:
    """Weights from N(0, 0.02), biases 0."""
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=INITIAL_STD)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


def check_heads(dim: int, heads: int, setting: str) -> None:
    """Raise InputError unless the heads divide the dim. Args: setting: what their number is called."""
    if heads < 1 or dim % heads:
        most = max(divisor for divisor in range(1, min(dim, max(heads, 1)) + 1) if dim % divisor == 0)
        raise InputError(
            f"vectors of size {dim} cannot be divided among {heads} heads; set {setting} to a divisor of {dim}, such as {most}."
        )
