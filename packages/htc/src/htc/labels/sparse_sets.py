"""`SparseSets`: the label sets of many documents as pairs of document and label.

A document has a few of all labels. So the pairs of 1,000,000 documents take some hundred megabytes, whatever the number of
labels; a cell for each document and label would take 30 GB with 30,000 labels. Rows of cells are made on demand, for the
documents at hand: `sets[documents]`.

Notation for shapes: D documents, N nodes, M pairs.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

PART = 2**14  # documents at a time


class SparseSets:
    """The label sets of D documents. It is indexed as a (D, N) tensor is, and gives dense rows.

    >>> sets = SparseSets.of_pairs(torch.tensor([1, 0, 1]), torch.tensor([2, 0, 1]), (2, 3))
    >>> sets[1]
    tensor([False,  True,  True])
    >>> sets.sum(1)  # labels of each document
    tensor([1, 2])

    Attributes:
        document, node: (M,) int64, the pairs, sorted by document, then by node; each once.
        shape: (D, N).
    """

    def __init__(self, document: Tensor, node: Tensor, shape: tuple[int, int]) -> None:
        """Args: pairs that are sorted and unique; for others see `of_pairs`."""
        self.document, self.node, self.shape = document, node, shape

    @classmethod
    def of_pairs(cls, document: Tensor, node: Tensor, shape: tuple[int, int]) -> "SparseSets":
        """Sets from pairs in any order, maybe repeated. Args: document, node (M,) int64; shape (D, N)."""
        return cls._of_keys(torch.unique(document * shape[1] + node), shape)  # sorted

    @classmethod
    def of(cls, sets: "Tensor | SparseSets") -> "SparseSets":
        """Sets from a (D, N) bool tensor; sparse sets as they are."""
        if isinstance(sets, SparseSets):
            return sets
        if sets.device.type == "cpu":  # twice as fast as torch's
            keys = torch.from_numpy(np.flatnonzero(sets.contiguous().numpy()))
        else:
            keys = sets.flatten().nonzero().squeeze(1)
        return cls._of_keys(keys, (sets.shape[0], sets.shape[1]))

    @classmethod
    def of_lists(cls, nodes: Iterable[Sequence[int]], labels: int) -> "Iterator[SparseSets]":
        """Sets of PART documents at a time, at least once. Args: nodes: of each document, in any order; labels: N."""
        rest = iter(nodes)
        some = list(islice(rest, PART))
        while True:
            counts = torch.tensor(list(map(len, some)), dtype=torch.long)
            document = torch.arange(len(some)).repeat_interleave(counts)
            node = torch.from_numpy(np.fromiter(chain.from_iterable(some), np.int64, int(counts.sum())))
            yield cls(document, node, (len(some), labels))
            some = list(islice(rest, PART))
            if not some:
                return

    @classmethod
    def _of_keys(cls, keys: Tensor, shape: tuple[int, int]) -> "SparseSets":
        sets = cls(keys // shape[1], keys % shape[1], shape)
        sets.__dict__["keys"] = keys
        return sets

    @classmethod
    def joined(cls, parts: "Sequence[SparseSets]") -> "SparseSets":
        """The documents of all parts, one part after another."""
        first = torch.tensor([0, *map(len, parts)]).cumsum(0).tolist()
        document = [part.document + before for part, before in zip(parts, first, strict=False)]
        return cls(torch.cat(document), torch.cat([part.node for part in parts]), (first[-1], parts[0].shape[1]))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, documents: Any) -> Tensor:
        """The rows of documents: (N,) bool of one number; (n, N) bool of a slice, or of numbers or a mask in a tensor."""
        if isinstance(documents, int):
            return self.select(torch.arange(len(self))[documents][None]).dense()[0]
        return self.select(documents).dense()

    def __iter__(self) -> Iterator[Tensor]:
        return (self[document] for document in range(len(self)))

    def __eq__(self, other: object) -> Tensor:  # type: ignore[override]
        """Whether both hold the same sets: () bool."""
        same = isinstance(other, SparseSets) and self.shape == other.shape and torch.equal(self.keys, other.keys)
        return torch.tensor(same)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"SparseSets({len(self.node):,} labels of {self.shape[0]:,} documents, {self.shape[1]:,} nodes)"

    @cached_property
    def keys(self) -> Tensor:
        """(M,) int64, ascending: document * N + node."""
        return self.document * self.shape[1] + self.node

    @cached_property
    def starts(self) -> Tensor:
        """(D + 1,) int64: the pairs of document d are starts[d] to starts[d + 1] - 1."""
        return torch.cat([self.node.new_zeros(1), self.sum(1).cumsum(0)])

    def sum(self, dim: int) -> Tensor:
        """The number of documents with each label (dim 0, (N,)), or of labels of each document (dim 1, (D,))."""
        return torch.bincount((self.node, self.document)[dim], minlength=self.shape[1 - dim])

    def nonzero(self) -> Tensor:
        """(M, 2) int64, the pairs of document and label."""
        return torch.stack([self.document, self.node], dim=1)

    def dense(self) -> Tensor:
        """(D, N) bool: for a bounded number of documents."""
        sets = torch.zeros(self.shape, dtype=torch.bool, device=self.node.device)
        sets[self.document, self.node] = True
        return sets

    def select(self, documents: Any) -> "SparseSets":
        """The sets of some documents, in their order. Args: documents: numbers or a mask in a tensor, or a slice."""
        if isinstance(documents, slice) and documents.step in (None, 1):
            first, end, _ = documents.indices(len(self))
            end = max(first, end)
            pairs = slice(int(self.starts[first]), int(self.starts[end]))
            return SparseSets(self.document[pairs] - first, self.node[pairs], (end - first, self.shape[1]))
        are_numbers = isinstance(documents, Tensor) and documents.dtype == torch.long and not bool((documents < 0).any())
        numbers: Tensor = documents if are_numbers else torch.arange(len(self), device=self.node.device)[documents]
        starts = self.starts[numbers]
        row, pair = spread(starts, self.starts[numbers + 1] - starts)
        return SparseSets(row, self.node[pair], (len(numbers), self.shape[1]))

    def split(self, documents: int) -> Iterator["SparseSets"]:
        """Parts of so many documents, the last one maybe smaller."""
        return (self.select(slice(first, first + documents)) for first in range(0, len(self), documents))

    def keep(self, which: Tensor) -> "SparseSets":
        """Some of the pairs. Args: which: (M,) bool."""
        return SparseSets(self.document[which], self.node[which], self.shape)

    def find(self, document: Tensor, node: Tensor) -> tuple[Tensor, Tensor]:
        """Look pairs up. Args: document, node (n,) int64. Returns: (n,) their places; (n,) bool, whether they are there."""
        wanted = document * self.shape[1] + node
        if not len(self.keys):
            return torch.zeros_like(wanted), torch.zeros_like(wanted, dtype=torch.bool)
        place = torch.searchsorted(self.keys, wanted).clamp_(max=len(self.keys) - 1)
        return place, self.keys[place] == wanted

    def common(self, other: "SparseSets") -> "SparseSets":
        """The labels that each document has in both."""
        return self.keep(other.find(self.document, self.node)[1])


def spread(starts: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Concatenate ragged ranges.

    Args:
        starts, counts: (n,) int64; range i is starts[i], ..., starts[i] + counts[i] - 1.

    Returns:
        Two (sum of counts,) int64: the index of the range, ascending, and the value in it.
    """
    row = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    first = counts.cumsum(0) - counts
    return row, starts[row] + torch.arange(len(row), device=counts.device) - first[row]
