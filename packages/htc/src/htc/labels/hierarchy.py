"""`Hierarchy`: the label hierarchy, shared by objectives, decoders, metrics and datasets.

Nodes are numbered breadth first: parents before children, each level a contiguous range, each sibling group a contiguous
range within it (in a tree). The root is not a node. The structure is stored as index tensors, so that operations are a few
tensor operations for any number of nodes.

Notation for shapes: B or D documents, N nodes, L leaves, E edges, G sibling groups.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from htc.labels.cached import cached_tensor
from htc.labels.graph import breadth_first
from htc.labels.names import clean, read_labels, read_name, read_pairs, read_path, rows_of
from htc.labels.sparse_sets import SparseSets, spread
from htc.labels.taxonomy import PATH_SEPARATOR, ROOT, read_taxonomy, write_taxonomy
from rlkl_htc_common.errors import InputError

Labels = Iterable[str] | Iterable[Iterable[str]]
Sets = TypeVar("Sets", Tensor, SparseSets)


class Hierarchy:
    """An immutable label hierarchy: a tree, a forest, or a directed acyclic graph.

    Build one with `from_taxonomy`, `from_paths` or `from_pairs`; the constructor takes nodes in any order.

    Args:
        names: the name of each node, cleaned by `htc.labels.names`; need not be unique (see `node`).
        parents: for each node, the indices of its parents; empty for a root.

    Attributes:
        num_nodes: N, without the root.
        names: N names in node order.
        paths: N tuples of names from a top node down to the node (in a DAG: along each node's first parent).
        depth: (N,) int64, 1 at the top; in a DAG, by the longest way up.
        max_depth: the largest depth.
        edges: (2, E) int64, parent above child, sorted by the depth of the child.
        is_tree: whether no node has two parents.
        is_leaf: (N,) bool.
        leaves: (L,) int64, ascending.

    Raises:
        InputError: for a cycle, no nodes, siblings with the same name, or an invalid name.
    """

    def __init__(self, names: Sequence[str], parents: Sequence[Sequence[int]]) -> None:
        self._build([read_name(name) for name in names], parents)

    @torch.inference_mode(False)
    def _build(self, names: Sequence[str], parents: Sequence[Sequence[int]]) -> None:
        if not names:
            raise InputError("a hierarchy needs at least one node.")
        if len(names) != len(parents):
            raise ValueError(f"{len(names)} names but parents for {len(parents)} nodes.")
        for above in parents:
            if isinstance(above, int | np.integer) or above is None:
                raise InputError(f"parents must be a list for each node, [] for a root, but one is {above}.")
        if not all(0 <= parent < len(names) for above in parents for parent in above):
            raise InputError(f"parents must be positions of nodes, from 0 to {len(names) - 1}; a root has none.")
        order, depth = breadth_first(names, parents)
        rank = {old: new for new, old in enumerate(order)}
        self.names = tuple(names[old] for old in order)
        self.parents = tuple(tuple(rank[p] for p in dict.fromkeys(parents[old])) for old in order)
        self.num_nodes = len(order)
        self.depth = torch.tensor([depth[old] for old in order])
        self.max_depth = int(self.depth[-1])
        self.is_tree = all(len(p) <= 1 for p in self.parents)
        self.paths = self._paths()
        edges = [(p, child) for child, above in enumerate(self.parents) for p in above]
        self.edges = torch.tensor(edges, dtype=torch.long).reshape(-1, 2).T.contiguous()  # (2, E)
        self.is_leaf = torch.ones(self.num_nodes, dtype=torch.bool).index_fill(0, self.edges[0], False)
        self.leaves = self.is_leaf.nonzero().squeeze(1)
        self._by_path = {path: node for node, path in enumerate(self.paths)}
        if len(self._by_path) < self.num_nodes:
            twice = next(path for node, path in enumerate(self.paths) if self._by_path[path] != node)
            raise InputError(f"two siblings have the same path {PATH_SEPARATOR.join(twice)!r}; give them different names.")
        read = [clean(name) for name in self.names]
        if read != list(self.names):  # saved by an earlier version, which cleaned names differently
            for node, path in enumerate(self.paths):
                self._by_path.setdefault(tuple(map(clean, path)), node)
        self._by_name: dict[str, list[int]] = {}
        for node, name in enumerate(read):
            self._by_name.setdefault(name, []).append(node)

    # Ways to build one

    @classmethod
    def from_taxonomy(cls, file: str | Path) -> "Hierarchy":
        """Read a taxonomy file (see `htc.labels.taxonomy` for the format); always a forest. Raises InputError with the line."""
        return cls.from_paths(read_taxonomy(file))

    @classmethod
    def from_paths(cls, paths: Iterable[Iterable[str]]) -> "Hierarchy":
        """The smallest forest that holds all paths; a path is a list of names from a top node down.

        >>> Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"], ["Science"]]).names
        ('Arts', 'Science', 'Music', 'Film')

        Args:
            paths: lists of names, or rows of an array or a DataFrame, which may be padded with blanks at the end.

        Raises:
            InputError: with the number of the path (from 0), for an empty path or an invalid name (`htc.labels.names`).
        """
        index: dict[tuple[str, ...], int] = {}
        parents: list[list[int]] = []
        for number, given in enumerate(rows_of(paths, "paths")):
            try:
                path = read_path(given)
            except InputError as error:
                raise InputError(f"path {number}: {error}") from error
            for end in range(1, len(path) + 1):
                if path[:end] not in index:
                    index[path[:end]] = len(parents)
                    parents.append([index[path[: end - 1]]] if end > 1 else [])
        return cls([path[-1] for path in index], parents)

    @classmethod
    def from_pairs(cls, pairs: Iterable[Iterable[str | None]] | Mapping[str | None, Iterable[str]]) -> "Hierarchy":
        """A forest or a DAG from (parent, child) pairs; equal names are one node.

        A child with a blank parent (None, NaN, an empty text) is a top label. So is a child of `Root`, if `Root` has no parent:
        the root is not a node.

        >>> Hierarchy.from_pairs([("Science", "Biology"), ("Health", "Biology")]).is_tree
        False
        >>> Hierarchy.from_pairs({"Arts": ["Music", "Film"], "Film": []}).names
        ('Arts', 'Music', 'Film')

        Args:
            pairs: lists, tuples, or rows of an array or a DataFrame, parents first; or `{parent: [child, ...]}`. A dictionary
                `{child: parent}` is refused, because it does not show which of two names is the parent.

        Raises:
            InputError: for a self-parent, a cycle, or, with the number of the pair (from 0), an invalid name.
        """
        edges = list(dict.fromkeys(read_pairs(pairs)))
        if all(parent is None for parent, child in edges if child == ROOT):
            edges = [(None if parent == ROOT else parent, child) for parent, child in edges if child != ROOT]
        for parent, child in edges:
            if parent == child:
                raise InputError(
                    f"{parent!r} is given as its own parent, and a name means one node here; for a child with its parent's "
                    f"name give paths: Hierarchy.from_paths([[{parent!r}, {child!r}], ...])."
                )
        index = {name: i for i, name in enumerate(dict.fromkeys(name for edge in edges for name in edge if name is not None))}
        parents: list[list[int]] = [[] for _ in index]
        for parent, child in edges:
            if parent is not None:
                parents[index[child]].append(index[parent])
        return cls(list(index), parents)

    @classmethod
    def load(cls, file: str | Path) -> "Hierarchy":
        """Read a file of `save`. Raises InputError for names that are not texts."""
        content = json.loads(Path(file).read_text(encoding="utf-8"))
        if not all(isinstance(name, str) for name in content["names"]):
            raise InputError(f"{file}: labels are named by texts.")
        hierarchy = cls.__new__(cls)
        hierarchy._build(content["names"], content["parents"])  # with the saved names
        return hierarchy

    def save(self, file: str | Path) -> None:
        """Write the hierarchy as JSON, a tree or a DAG; keeps the node order."""
        Path(file).write_text(self._json(), encoding="utf-8")

    def save_taxonomy(self, file: str | Path) -> None:
        """Write a tree as a taxonomy file, which `from_taxonomy` reads back. Raises InputError."""
        self.parent  # noqa: B018  raises unless this is a tree
        write_taxonomy(file, self.paths)

    def _json(self) -> str:
        return json.dumps({"names": self.names, "parents": self.parents}, ensure_ascii=False)

    @cached_property
    def fingerprint(self) -> str:
        """A hash (16 hexadecimal digits) of names, parents and node order."""
        return hashlib.sha256(self._json().encode()).hexdigest()[:16]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hierarchy) and (self.names, self.parents) == (other.names, other.parents)

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        kind = "tree" if self.is_tree else "DAG"
        return f"Hierarchy({kind}: {self.num_nodes} nodes, {len(self.leaves)} leaves, depth {self.max_depth})"

    # Index tensors

    @cached_tensor
    def levels(self) -> tuple[slice, ...]:
        """The range of nodes at depth 1, 2, ..."""
        ends = torch.bincount(self.depth)[1:].cumsum(0).tolist()
        return tuple(slice(start, end) for start, end in pairwise([0, *ends]))

    @cached_tensor
    def parent(self) -> Tensor:
        """(N,) int64, the parent of each node, -1 for a root. Raises InputError for a DAG."""
        if not self.is_tree:
            raise InputError("this operation needs a tree, but the hierarchy has nodes with several parents.")
        return torch.tensor([above[0] if above else -1 for above in self.parents])

    @cached_tensor
    def sibling_group(self) -> Tensor:
        """(N,) int64, the sibling group of each node, 0 for the roots; groups are numbered from 0 to G - 1 in node order."""
        return torch.unique(self.parent, return_inverse=True)[1]

    @cached_tensor
    def closure(self) -> Tensor:
        """(3, M) int64: node, ancestor-or-self, and the number of edges between; sorted by node, then by ancestor."""
        above: list[dict[int, int]] = []
        for node, parents in enumerate(self.parents):
            steps = {node: 0}
            for parent in parents:
                for ancestor, distance in above[parent].items():
                    steps[ancestor] = min(steps.get(ancestor, self.num_nodes), distance + 1)
            above.append(steps)
        rows = [(node, ancestor, steps[ancestor]) for node, steps in enumerate(above) for ancestor in sorted(steps)]
        return torch.tensor(rows).T.contiguous()

    @property
    def ancestors(self) -> Tensor:
        """(2, M) int64: every (node, ancestor-or-self) pair, sorted; the sparse form of the ancestor closure."""
        return self.closure[:2]

    @cached_tensor
    def closure_size(self) -> Tensor:
        """(N,) int64, the number of ancestors of each node, itself included; in a tree its depth."""
        return torch.bincount(self.ancestors[0], minlength=self.num_nodes)

    @cached_tensor
    def distance_to_root(self) -> Tensor:
        """(N,) int64, the number of edges on the shortest way up to the root; in a tree the depth."""
        distance: list[int] = []
        for parents in self.parents:
            distance.append(1 + min((distance[p] for p in parents), default=0))
        return torch.tensor(distance)

    @cached_tensor
    def height(self) -> Tensor:
        """(N,) int64, the number of edges on the longest way down to a leaf. The root's height is `max_depth`."""
        height = [0] * self.num_nodes
        for node in reversed(range(self.num_nodes)):
            for parent in self.parents[node]:
                height[parent] = max(height[parent], height[node] + 1)
        return torch.tensor(height)

    @cached_tensor
    def children(self) -> tuple[Tensor, Tensor]:
        """The children of each node, and last of the root: (E + roots,) int64, and the start of each node's, (N + 2,)."""
        below = self.edges[:, self.edges[0].argsort(stable=True)]
        roots = torch.tensor([node for node, above in enumerate(self.parents) if not above])
        counts = torch.bincount(below[0], minlength=self.num_nodes)
        starts = torch.cat([counts.new_zeros(1), counts, torch.tensor([len(roots)])]).cumsum(0)
        return torch.cat([below[1], roots]), starts

    # Operations along the hierarchy

    def ancestors_of(self, nodes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Every ancestor-or-self of each of the given nodes.

        Args:
            nodes: (n,) int64.

        Returns:
            Three (m,) int64: the row of the node in `nodes`, ascending; the ancestor; the number of edges up to it (shortest).
        """
        counts = self.closure_size.to(nodes.device)
        row, position = spread((counts.cumsum(0) - counts)[nodes], counts[nodes])
        _, ancestor, distance = self.closure.to(nodes.device)
        return row, ancestor[position], distance[position]

    def close(self, sets: Sets) -> Sets:
        """Add the ancestors of every member. Args: sets (D, N) bool, dense or sparse. Returns: likewise."""
        pairs = SparseSets.of(sets)
        row, ancestor, _ = self.ancestors_of(pairs.node)
        if isinstance(sets, SparseSets):
            return SparseSets.of_pairs(pairs.document[row], ancestor, pairs.shape)
        closed = torch.zeros_like(sets, dtype=torch.bool)
        closed[pairs.document[row], ancestor] = True
        return closed

    def most_specific(self, sets: Sets) -> Sets:
        """Keep members without a descendant in the set. Args: sets (D, N) bool, dense or sparse. Returns: likewise."""
        pairs = SparseSets.of(sets)
        row, ancestor, edges = self.ancestors_of(pairs.node)
        document, ancestor = pairs.document[row[edges > 0]], ancestor[edges > 0]
        if isinstance(sets, SparseSets):
            place, found = pairs.find(document, ancestor)
            return pairs.keep(torch.ones_like(pairs.node, dtype=torch.bool).index_fill_(0, place[found], False))
        specific = sets.clone()
        specific[document, ancestor] = False
        return specific

    def is_coherent(self, sets: Tensor | SparseSets) -> Tensor:
        """Whether each set holds all parents of its members. Args: sets (D, N) bool, dense or sparse. Returns: (D,) bool."""
        pairs = SparseSets.of(sets)
        row, parent, edges = self.ancestors_of(pairs.node)
        document, parent = pairs.document[row[edges == 1]], parent[edges == 1]
        missing = ~pairs.find(document, parent)[1]
        return torch.ones(len(pairs), dtype=torch.bool, device=missing.device).index_fill_(0, document[missing], False)

    def sum_along_paths(self, values: Tensor) -> Tensor:
        """For each node, the sum of values from a top node down to it; in a DAG, along the path with the smallest sum.

        Args: values (B, N). Returns: (B, N).
        """
        if not self.is_tree:
            return self._smallest_sum_along_paths(values)
        parent = self.parent.to(values.device)
        out = [values[:, self.levels[0]]]
        for above, level in pairwise(self.levels):
            out.append(values[:, level] + out[-1][:, parent[level] - above.start])
        return torch.cat(out, dim=1)

    def _smallest_sum_along_paths(self, values: Tensor) -> Tensor:
        out = values.T  # (N, B)
        for parent, child in self.edges_by_level(values.device):
            index = child[:, None].expand(-1, out.shape[1])
            smallest = torch.full_like(out, torch.inf).scatter_reduce(0, index, out[parent], "amin")
            out = out + smallest.where(smallest < torch.inf, 0.0)
        return out.T

    def edges_by_level(self, device: torch.device) -> list[tuple[Tensor, ...]]:
        """The edges (parents, children) into depth 2, 3, ..."""
        return [edges.to(device).unbind() for edges in self._edges_by_level]

    @cached_tensor
    def _edges_by_level(self) -> list[Tensor]:
        depth = self.depth[self.edges[1]]
        return [self.edges[:, depth == level] for level in range(2, self.max_depth + 1)]

    def sum_over_leaves(self, leaf_values: Tensor) -> Tensor:
        """For each node, the sum over the leaves below it. Args: leaf_values (B, L). Returns: (B, N)."""
        leaf, ancestor = (index.to(leaf_values.device) for index in self._leaves_below)
        summed = leaf_values.new_zeros(self.num_nodes, leaf_values.shape[0])  # (N, B): index_add_ is fastest on rows
        return summed.index_add_(0, ancestor, leaf_values.T[leaf]).T

    @cached_tensor
    def _leaves_below(self) -> tuple[Tensor, Tensor]:
        pairs = self.ancestors[:, self.is_leaf[self.ancestors[0]]]
        return (torch.cumsum(self.is_leaf, 0) - 1)[pairs[0]], pairs[1]  # (M,) the column of a leaf; an ancestor-or-self

    def max_over_descendants(self, values: Tensor) -> Tensor:
        """For each node, the largest value of it and its descendants. Args: values (B, N). Returns: (B, N)."""
        out = values.T.clone(memory_format=torch.contiguous_format)  # (N, B)
        for above, below in reversed(self.edges_by_level(values.device)):
            index = above[:, None].expand(-1, out.shape[1])
            out = out.scatter_reduce(0, index, out[below], reduce="amax")
        return out.T

    # Names in, names out

    def node(self, label: str | Iterable[str]) -> int:
        """The index of the node with this name, or with this path if the name is ambiguous.

        Raises:
            InputError: with the nearest spelling for an unknown label, with the possible paths for an ambiguous one.
        """
        if isinstance(label, Iterable) and not isinstance(label, str):
            return self._node_at(read_path(label))
        label = read_name(label)
        nodes = self._by_name.get(label)
        if nodes is None:
            raise InputError(f"the label {label!r} is not in the taxonomy{self._hint(label)}")
        if len(nodes) > 1:
            options = " or ".join(repr(list(self.paths[n])) for n in nodes[:4])
            raise InputError(f"the label {label!r} stands in {len(nodes)} places; give its path, e.g. {options}.")
        return nodes[0]

    def _hint(self, label: str) -> str:
        path = label.split(PATH_SEPARATOR)
        if tuple(path) in self._by_path:
            return f"; give a path as a list of names, {path}."
        if label in ("nan", "None", "<NA>"):
            return "; it may be a blank of which astype(str) made a text: leave blanks as they are."
        near = get_close_matches(label, list(self._by_name), n=1, cutoff=0.5)
        return f"; did you mean {near[0]!r}?" if near else "."

    def _node_at(self, path: tuple[str, ...]) -> int:
        if path in self._by_path:
            return self._by_path[path]
        for name in path:
            if name not in self._by_name:
                self.node(name)  # raises, with the nearest spelling
        if not self.is_tree:  # a node of a DAG may have several paths; only one is stored
            steps = [self.node(name) for name in path]
            if not self.parents[steps[0]] and all(a in self.parents[b] for a, b in pairwise(steps)):
                return steps[-1]
        end = next(end for end in range(1, len(path) + 1) if path[:end] not in self._by_path)
        above = f"a child of {PATH_SEPARATOR.join(path[: end - 1])!r}" if end > 1 else "a top label"
        raise InputError(f"the path {PATH_SEPARATOR.join(path)!r} is not in the taxonomy: {path[end - 1]!r} is not {above}.")

    def resolve(self, labels: Labels) -> list[int]:
        """The nodes of one document's labels, not yet closed under ancestors.

        Args:
            labels: one path from a top node down, a set of names, or a list of paths: a list, tuple, set, array, Series or
                iterator of texts; blanks are padding (see `names`). In a set of names, the parent in the set resolves an
                ambiguous name.

        Raises:
            InputError: for an unknown or ambiguous label, a dictionary of scores, or no label.
        """
        return self._nodes_of(read_labels(labels))

    def _nodes_of(self, labels: list[str | tuple[str, ...]]) -> list[int]:
        if not labels:
            raise InputError("no label is given.")
        names = tuple(label for label in labels if isinstance(label, str))
        if len(names) < len(labels):
            return [self.node(label) for label in labels]
        if names in self._by_path:
            return [self._by_path[names]]
        return self._resolve_set(names)

    def _resolve_set(self, names: tuple[str, ...]) -> list[int]:
        ambiguous = [name for name in names if len(self._by_name.get(name, ())) > 1]
        chosen = {self.node(name) for name in names if name not in ambiguous}
        while ambiguous:
            for name in ambiguous:
                below_chosen = [n for n in self._by_name[name] if chosen.intersection(self.parents[n])]
                if len(below_chosen) == 1:
                    break
            else:
                self.node(ambiguous[0])  # raises, with the possible paths
            chosen.add(below_chosen[0])
            ambiguous.remove(name)
        return sorted(chosen)

    def encode(self, label_sets: Iterable[Labels], allow_empty: bool = False) -> Tensor:
        """Multi-hot targets, closed under ancestors; for many documents see `encode_sparse`.

        >>> hierarchy = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"], ["Science"]])
        >>> hierarchy.encode([["Arts", "Film"], [["Arts", "Music"], ["Science"]]]).int()
        tensor([[1, 0, 0, 1],
                [1, 1, 1, 0]], dtype=torch.int32)

        Args:
            label_sets: for each of D documents, labels as for `resolve`; for arrays of 0 and 1 see
                `htc.labels.label_sets.as_label_sets`.
            allow_empty: whether a document may have no label, as in predictions.

        Returns:
            (D, N) bool.

        Raises:
            InputError: with the number of the document (from 0).
        """
        return self.encode_sparse(label_sets, allow_empty).dense()

    def encode_sparse(self, label_sets: Iterable[Labels], allow_empty: bool = False) -> SparseSets:
        """The same as pairs of document and label, which take no memory for labels that documents do not have."""

        def nodes() -> Iterator[list[int]]:
            for document, labels in enumerate(rows_of(label_sets, "label sets", ordered=True)):
                try:
                    read = read_labels(labels)
                    yield [] if allow_empty and not read else self._nodes_of(read)
                except InputError as error:
                    raise InputError(f"document {document}: {error}") from error

        return self.closed_sets(nodes())

    def closed_sets(self, nodes: Iterable[Sequence[int]]) -> SparseSets:
        """Label sets from the nodes of each document, closed under ancestors. Args: nodes: D lists of node numbers."""
        return SparseSets.joined(list(map(self.close, SparseSets.of_lists(nodes, self.num_nodes))))

    def decode(self, sets: Tensor | SparseSets) -> list[list[tuple[str, ...]]]:
        """For each document, the paths of its most specific labels (members without a descendant in the set).

        Args: sets (D, N) bool, dense or sparse. Returns: D lists of paths.
        """
        found: list[list[tuple[str, ...]]] = [[] for _ in range(len(sets))]
        ends = self.most_specific(SparseSets.of(sets))
        for document, node in zip(ends.document.tolist(), ends.node.tolist(), strict=True):
            found[document].append(self.paths[node])
        return found

    def _paths(self) -> tuple[tuple[str, ...], ...]:
        paths: list[tuple[str, ...]] = []
        for name, above in zip(self.names, self.parents, strict=True):
            paths.append((*paths[above[0]], name) if above else (name,))
        return tuple(paths)
