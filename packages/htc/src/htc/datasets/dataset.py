"""`Dataset`, and the drawing of documents and splits."""

import hashlib
import random
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from htc.datasets.stored_texts import StoredTexts, same_texts
from htc.labels.hierarchy import Hierarchy
from htc.labels.sparse_sets import SparseSets
from rlkl_htc_common.errors import InputError

FEWEST = 100  # documents that may be asked for
PART = 2**16  # pairs that are hashed at a time


@dataclass(frozen=True)
class Dataset:
    """Documents with their labels.

    Attributes:
        name: the name in reports.
        hierarchy: the label hierarchy, N nodes.
        texts: D texts, in a list or on disk (`htc.datasets.stored_texts`).
        targets: (D, N), closed under ancestors, as pairs of document and label; `targets[documents]` makes dense rows. A bool
            tensor is taken, too.
        splits: `train`, `dev` and `test`, each the (n,) int64 indices of its documents.
        places: file:line of each document, for messages; empty if the documents come from no file.
    """

    name: str
    hierarchy: Hierarchy
    texts: Sequence[str]
    targets: SparseSets
    splits: dict[str, Tensor]
    places: Sequence[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", SparseSets.of(self.targets))

    def cut(self, max_depth: int) -> "Dataset":
        """The same documents with labels down to a depth only. Raises InputError for a depth below 1."""
        if max_depth < 1:
            raise InputError(f"dataset.max_depth must be at least 1, not {max_depth}.")
        kept = (self.hierarchy.depth <= max_depth).nonzero().squeeze(1)
        upper = Hierarchy(
            [self.hierarchy.names[node] for node in kept.tolist()], [self.hierarchy.parents[node] for node in kept.tolist()]
        )
        targets = self.targets.keep(self.targets.node < len(kept))  # upper labels come first
        return replace(self, hierarchy=upper, targets=SparseSets(targets.document, targets.node, (len(targets), len(kept))))

    def fingerprint(self) -> str:
        """A hash (16 hexadecimal digits) of hierarchy, texts, labels and splits."""
        digest = hashlib.sha256(self.hierarchy.fingerprint.encode())
        for number, text in enumerate(self.texts):
            digest.update((text if number == 0 else f"\0{text}").encode("utf-8", "surrogatepass"))
        for part in self.targets.nonzero().split(PART):
            digest.update(part.numpy().tobytes())
        for name, documents in sorted(self.splits.items()):
            digest.update(name.encode() + documents.numpy().tobytes())
        return digest.hexdigest()[:16]

    def text_hashes(self, split: str) -> Tensor:
        """A hash of each text of a split, to detect splits that were drawn differently: (n,) int64."""
        return hashes_of(self.texts_of(self.splits[split]))

    def texts_of(self, documents: Tensor) -> Sequence[str]:
        """The texts of some documents; of texts on disk, a view. Args: documents (n,) int64."""
        if isinstance(self.texts, StoredTexts):
            return self.texts.select(documents)
        return [self.texts[document] for document in documents.tolist()]

    def describe(self) -> str:
        """One line with the sizes of the splits and of the hierarchy."""
        sizes = " / ".join(f"{len(self.splits[name]):,} {name}" for name in ("train", "dev", "test"))
        return f"{self.name}: {sizes} documents, {self.hierarchy}"

    def facts(self) -> dict[str, Any]:
        """The same as numbers, for result files."""
        return {
            "name": self.name,
            **{split: len(documents) for split, documents in self.splits.items()},
            "nodes": self.hierarchy.num_nodes,
            "leaves": len(self.hierarchy.leaves),
            "levels": [level.stop - level.start for level in self.hierarchy.levels],
            "hierarchy_fingerprint": self.hierarchy.fingerprint,
            "fingerprint": self.fingerprint(),
        }


def hashes_of(texts: Iterable[str]) -> Tensor:
    """A hash of each of n texts. Returns: (n,) int64."""
    encoded = (text.encode("utf-8", "surrogatepass") for text in texts)
    return torch.tensor([int.from_bytes(hashlib.sha256(text).digest()[:8], "big", signed=True) for text in encoded])


def split_by_group(groups: Sequence[Hashable], dev: float, test: float, seed: int) -> dict[str, Tensor]:
    """Draw train, dev and test so that no group is in two splits.

    Groups are taken in a random order, first for test, then for dev, until each has its share of the documents; the rest is
    train.

    Args:
        groups: the group of each document; all different for a plain random split.
        dev, test: the shares of documents, each above 0, together below 1.
        seed: for the order of the groups.

    Raises:
        InputError: for shares that leave a split empty.
    """
    if not (dev > 0 and test > 0 and dev + test < 1):
        raise InputError(f"dev and test must be positive shares that sum to less than 1, not {dev} and {test}.")
    numbers = _numbered(groups)
    sizes = np.bincount(numbers).tolist()
    order = list(range(len(sizes)))
    random.Random(hashlib.sha256(f"split {seed}".encode()).digest()).shuffle(order)
    room = {"test": test * len(groups), "dev": dev * len(groups), "train": float("inf")}
    names, filled, split_of = list(room), [0, 0, 0], np.empty(len(order), np.int8)
    for group in order:
        split_of[group] = split = next(i for i, name in enumerate(names) if filled[i] < room[name])
        filled[split] += sizes[group]
    if not all(filled):
        raise InputError(f"{len(groups)} documents in {len(order)} groups are too few to draw train, dev and test splits from.")
    of_document = split_of[numbers]
    return {name: torch.from_numpy(np.flatnonzero(of_document == names.index(name))) for name in ("train", "dev", "test")}


def _numbered(groups: Sequence[Hashable]) -> np.ndarray:
    """The number of each document's group, (n,) int64; groups are numbered as they come."""
    if isinstance(groups, StoredTexts):
        return same_texts(groups)
    known: dict[Hashable, int] = {}
    return np.fromiter((known.setdefault(group, len(known)) for group in groups), np.int64, len(groups))


def draw_by_group(groups: Sequence[Hashable], count: int | None, seed: int) -> list[int]:
    """Draw about so many documents, whole groups only.

    Args:
        groups: for each document the group that it belongs to.
        count: of documents; None for all.
        seed: of the draw.

    Returns:
        The numbers of the documents, in their order.

    Raises:
        InputError: for a count below 100.
    """
    if count is not None and count < FEWEST:
        raise InputError(f"dataset.max_documents must be at least {FEWEST}, not {count}.")
    if count is None or count >= len(groups):
        return list(range(len(groups)))
    members: dict[Hashable, list[int]] = {}
    for document, group in enumerate(groups):
        members.setdefault(group, []).append(document)
    order = list(members)
    random.Random(f"documents {seed}").shuffle(order)
    kept: list[int] = []
    for group in order:
        if len(kept) + len(members[group]) <= count:
            kept += members[group]
    return sorted(kept)
