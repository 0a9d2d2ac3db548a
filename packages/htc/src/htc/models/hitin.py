"""HiTIN: the text vector is copied to every label and summed up a coding tree of the labels; each layer of it gives logits.

    vectors (B, d) -> Linear -> (B, N_0, h), a copy for each label -> mixed along the labels
    -> for each layer k = 1 ... K: sum over children, two-layer perceptron, batch norm, ReLU -> (B, N_k, h)
    logits = sum over layers k of Linear_k(pool over the layer's nodes), (B, outputs)

The labels' names are not used, and the logit of a label is not read from the label's own leaf: the hierarchy comes in by what
is summed with what. Since the copies differ by nothing but dropout, label i enters as s_i v + b_i, v being the vector, s_i the
sum of row i of the mixing matrix: all leaves together have rank 2.

Takes trees, forests and DAGs, several paths, and any objective, whose number of logits it gives.

Source: Zhu et al., "HiTIN: Hierarchy-aware Tree Isomorphism Network for Hierarchical Text Classification", ACL 2023. Different
from the authors' code: their sums are block-diagonal matrices made for the first batch, so that smaller batches are left out,
in evaluation too; here they are sums by index, and a document's scores do not depend on its batch.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from htc.models.coding_tree import CodingTree
from rlkl_htc_common.errors import InputError

Mixing = Literal["matrix", "scale"]
Pooling = Literal["sum", "mean", "max", "root"]
MOST_MIXED = 20_000  # labels: a matrix of 1.6 GB


class HiTIN(nn.Module):
    """Text vectors to logits, through a coding tree of the labels.

    Args:
        tree: of N_0 labels, see `htc.models.coding_tree`.
        dim: d, the size of a text vector.
        num_outputs: what the objective asks for.
        hidden: h; d by default, as the authors have it with BERT.
        mixing: how a label's copy is made different from the others: `matrix` is the authors' N_0 x N_0 matrix along the
            labels; `scale` has a factor and a shift for each label instead, which outside of training is all that the matrix
            comes to, for large label sets.
        pooling: of the nodes of a layer; the last layer is the root alone. `root` reads no other layer.
        base: a module (B, d) -> (B, outputs) whose logits are added, such as a baseline's head. The layers' own logits then
            start at 0, so that before training the model is the baseline, to the last bit. The authors have none.
        dropout: of text vectors and of the labels' copies.
        pooled_dropout: of pooled layers.

    Raises:
        InputError: for an unknown mixing or pooling, or a mixing matrix of more than 20,000 labels.
    """

    def __init__(
        self,
        tree: CodingTree,
        dim: int,
        num_outputs: int,
        hidden: int | None = None,
        mixing: Mixing = "matrix",
        pooling: Pooling = "sum",
        base: nn.Module | None = None,
        dropout: float = 0.1,
        pooled_dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if pooling not in ("sum", "mean", "max", "root"):
            raise InputError(f"the pooling of HiTIN must be sum, mean, max or root, not {pooling!r}.")
        hidden = dim if hidden is None else hidden
        self.pooling = pooling
        self.base = base
        self.leaves = nn.Sequential(nn.Dropout(dropout), nn.Linear(dim, hidden), _mixing(mixing, tree.sizes[0], dropout))
        self.layers = nn.ModuleList(
            TreeLayer(parent, size, hidden) for parent, size in zip(tree.parents, tree.sizes[1:], strict=True)
        )
        read = range(tree.height + 1) if pooling != "root" else range(tree.height, tree.height + 1)
        self.readout = nn.ModuleDict({str(layer): nn.Linear(hidden, num_outputs) for layer in read})
        self.pooled_dropout = nn.Dropout(pooled_dropout)
        if base is not None:
            for parameter in self.readout.parameters():
                nn.init.zeros_(parameter)

    @property
    def output_weights(self) -> Sequence[Tensor]:
        """The weight (outputs, h) of each layer that is read; the authors regularise each (`recursive_regularization`)."""
        return [linear.weight for linear in self.readout.children() if isinstance(linear, nn.Linear)]

    def forward(self, vectors: Tensor) -> Tensor:
        """Logits. Args: vectors (B, d), B being any number, from 1. Returns: (B, outputs)."""
        logits = None if self.base is None else self.base(vectors)
        nodes = self.leaves(vectors)  # (B, N_0, h)
        for layer in range(len(self.layers) + 1):
            if layer:
                nodes = self.layers[layer - 1](nodes)  # (B, N_layer, h)
            if str(layer) in self.readout:
                of_layer = self.readout[str(layer)](self.pooled_dropout(self._pool(nodes)))
                logits = of_layer if logits is None else logits + of_layer
        assert logits is not None
        return logits

    def _pool(self, nodes: Tensor) -> Tensor:
        """(B, N_k, h) -> (B, h)."""
        match self.pooling:
            case "mean":
                return nodes.mean(1)
            case "max":
                return nodes.amax(1)
        return nodes.sum(1)


class TreeLayer(nn.Module):
    """From one layer of the coding tree to the next: children summed, a perceptron, batch norm, ReLU.

    Args:
        parent: (N_below,) int64, the parent of each node below.
        size: N, the nodes of this layer.
        dim: h.
    """

    parent: Tensor

    def __init__(self, parent: Tensor, size: int, dim: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("parent", parent, persistent=False)
        self.first, self.inner, self.second, self.outer = (
            nn.Linear(dim, dim),
            RowNorm(dim),
            nn.Linear(dim, dim),
            RowNorm(dim),
        )

    def forward(self, nodes: Tensor) -> Tensor:
        """(B, N_below, h) -> (B, N, h)."""
        sums = nodes.new_zeros(nodes.shape[0], self.size, nodes.shape[2]).index_add(1, self.parent, nodes)
        rows = sums.flatten(0, 1)
        rows = self.outer(self.second(F.relu(self.inner(self.first(rows)))))
        return F.relu(rows).view_as(sums)


class RowNorm(nn.BatchNorm1d):
    """Batch norm over the rows of all documents and nodes; a single row, the root of one document, has no variance and is
    normalised by the running statistics, as in evaluation."""

    def forward(self, input: Tensor) -> Tensor:
        """(rows, h) -> (rows, h)."""
        if not self.training or len(input) > 1:
            return super().forward(input)
        return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class MatrixMixing(nn.Module):
    """A copy for each label, dropout, then a linear map along the labels: out_i = sum over j of W_ij copy_j + b_i."""

    def __init__(self, labels: int, dropout: float) -> None:
        super().__init__()
        self.labels = labels
        self.dropout = nn.Dropout(dropout)
        self.along_labels = nn.Linear(labels, labels)

    def forward(self, vectors: Tensor) -> Tensor:
        """(B, h) -> (B, labels, h)."""
        if not (self.training and self.dropout.p):  # the copies are equal: no need for the matrix
            scale = self.along_labels.weight.sum(1)
            return scale[:, None] * vectors[:, None] + self.along_labels.bias[:, None]
        copies = self.dropout(vectors[:, None].expand(-1, self.labels, -1))
        mixed = torch.matmul(self.along_labels.weight, copies) + self.along_labels.bias[:, None]
        return self.dropout(mixed)


class ScaleMixing(nn.Module):
    """A copy for each label, dropout, then a factor and a shift of its own; they start as those that `MatrixMixing` has."""

    def __init__(self, labels: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.scale = nn.Parameter(torch.randn(labels) * 3**-0.5)  # the sum of n numbers, uniform within 1 / sqrt(n)
        self.shift = nn.Parameter((torch.rand(labels) * 2 - 1) * labels**-0.5)

    def forward(self, vectors: Tensor) -> Tensor:
        """(B, h) -> (B, labels, h)."""
        copies = self.dropout(vectors[:, None].expand(-1, len(self.scale), -1))
        return self.dropout(self.scale[:, None] * copies + self.shift[:, None])


def _mixing(name: str, labels: int, dropout: float) -> nn.Module:
    if name == "scale":
        return ScaleMixing(labels, dropout)
    if name != "matrix":
        raise InputError(f"the mixing of HiTIN must be matrix or scale, not {name!r}.")
    if labels > MOST_MIXED:
        raise InputError(f"a mixing matrix of HiTIN for {labels} labels would not fit into memory; use the mixing 'scale'.")
    return MatrixMixing(labels, dropout)
