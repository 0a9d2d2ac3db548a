"""The two steps that make groups of nodes by structural entropy, for `htc.models.coding_tree`: merge, then flatten.

The authors of HiTIN keep a list of all links and walk it at every step; with the heaps here 100,000 labels take seconds, also
where thousands of them have one parent.
"""

import heapq
import math
from collections.abc import Sequence

Edge = tuple[int, int, float]  # two nodes, and how many edges of the label hierarchy go between them
Key = tuple[float, float, float]  # of a link: how many edges it stands for; the volume and the cut of the group at its end


def partition(volume: Sequence[float], leaving: Sequence[float], edges: Sequence[Edge], total: float) -> list[int]:
    """The groups of a coding tree of height 2.

    Args:
        volume: of each node, the sum of degrees in the label hierarchy of what it stands for.
        leaving: the edges of the label hierarchy that leave it.
        edges: those between two of the nodes.
        total: the volume of the root.

    Returns:
        For each node the number of its group; groups are numbered by their first members.
    """
    merges = _Merging(volume, leaving, edges, total).merges()
    return _flatten(volume, merges, total)


class _Merging:
    """Merge the two linked groups of lowest delta, again and again.

    A group that has been merged gets a new number, so that a number stands for one volume, one cut and one delta for ever, and
    what the heap holds is out of date exactly if a number in it is no longer in use. A group has a slot for good, that of its
    part with more links. Every link is looked after by one of its two slots, which keeps it in a bucket with its other links to
    groups of the same volume, cut and weight, since these have the same delta: only the first of a bucket is in the heap. So a
    label with 10,000 equal children has one entry, not one for each of them at each step.
    """

    def __init__(self, volume: Sequence[float], leaving: Sequence[float], edges: Sequence[Edge], total: float) -> None:
        self.volume, self.leaving, self.total = list(volume), list(leaving), total  # by number
        self.number = list(range(len(volume)))  # by slot; -1 once it is part of another
        self.kept: list[dict[int, float]] = [{} for _ in volume]  # slot -> the weight of each link that it looks after
        self.given: list[dict[int, float]] = [{} for _ in volume]  # slot -> the weight of each link that others look after
        self.buckets: list[dict[Key, list[tuple[int, int]]]] = [{} for _ in volume]
        self.heap: list[tuple[float, int, int, int, int, Key]] = []
        for a, b, weight in edges:
            self.kept[a][b] = self.given[b][a] = weight

    def merges(self) -> list[tuple[int, int, float]]:
        """For each new group, the numbers of its two parts, the lower one first, and the weight of the link between them."""
        for slot, kept in enumerate(self.kept):
            for other in kept:
                self._put(slot, other)
            for key in list(self.buckets[slot]):
                self._offer(slot, key)
        merged: list[tuple[int, int, float]] = []
        while self.heap:
            _, low, high, slot, number, key = heapq.heappop(self.heap)
            if self.number[slot] != number:
                continue
            first = self._first(slot, key)
            if first is None:
                self.buckets[slot].pop(key, None)
            elif first[0] != low + high - number:
                self._offer(slot, key)
            else:
                merged.append((low, high, key[0]))
                self._merge(slot, first[1], key[0])
        return merged

    def _put(self, slot: int, other: int) -> bool:
        """Put a link into its bucket. Returns: whether the bucket is new."""
        number = self.number[other]
        key = (self.kept[slot][other], self.volume[number], self.leaving[number])
        bucket = self.buckets[slot].setdefault(key, [])
        heapq.heappush(bucket, (number, other))
        return len(bucket) == 1

    def _first(self, slot: int, key: Key) -> tuple[int, int] | None:
        """The number and the slot of the first group in a bucket that is still as it was put there."""
        bucket = self.buckets[slot].get(key)
        while bucket:
            number, other = bucket[0]
            if self.number[other] == number and self.kept[slot].get(other) == key[0]:
                return bucket[0]
            heapq.heappop(bucket)
        return None

    def _offer(self, slot: int, key: Key) -> None:
        """Put the first link of a bucket into the heap; an empty bucket goes."""
        first = self._first(slot, key)
        if first is None:
            del self.buckets[slot][key]
            return
        weight, volume, leaving = key
        number = self.number[slot]
        own, both = self.volume[number], self.volume[number] + volume
        delta = (own - self.leaving[number]) * math.log2(both / own) + (volume - leaving) * math.log2(both / volume)
        delta = (delta - 2 * weight * math.log2(self.total / both)) / self.total
        heapq.heappush(self.heap, (delta, min(number, first[0]), max(number, first[0]), slot, number, key))

    def _merge(self, one: int, other: int, weight: float) -> None:
        """Make one group of two slots."""
        into, gone = (one, other) if len(self.kept[one]) >= len(self.kept[other]) else (other, one)
        number = len(self.volume)
        self.volume.append(self.volume[self.number[one]] + self.volume[self.number[other]])
        self.leaving.append(self.leaving[self.number[one]] + self.leaving[self.number[other]] - 2 * weight)
        self.number[into], self.number[gone] = number, -1
        for links in (self.kept[into], self.given[into]):
            links.pop(gone, None)
        kept, given = self.kept[gone], self.given[gone]
        self.kept[gone], self.given[gone], buckets, self.buckets[gone] = {}, {}, self.buckets[gone], {}
        for key, bucket in buckets.items():
            self._join(self.buckets[into], key, bucket)
        for third, of_link in kept.items():
            if third != into:
                del self.given[third][gone]
                self._add_link(into, third, of_link)
        for third, of_link in given.items():
            if third != into:
                del self.kept[third][gone]
                self._add_link(third, into, of_link)
        for third in (kept.keys() | given.keys()) & self.kept[into].keys():
            self._put(into, third)  # the link may weigh more than before
        for third in self.given[into]:  # this group is another one now, for those who look after a link to it
            if self._put(third, into):
                self._offer(third, (self.kept[third][into], self.volume[number], self.leaving[number]))
        for key in list(self.buckets[into]):
            self._offer(into, key)

    @staticmethod
    def _join(
        buckets: dict[Key, list[tuple[int, int]]],
        key: Key,
        bucket: list[tuple[int, int]],
    ) -> None:
        """Add a bucket to the one of the same key, the smaller to the larger."""
        small, large = sorted((bucket, buckets.get(key, [])), key=len)
        for link in small:
            heapq.heappush(large, link)
        buckets[key] = large

    def _add_link(self, keeper: int, other: int, weight: float) -> None:
        """Add to the link between two slots, whoever looks after it; a new one is looked after by `keeper`."""
        if keeper in self.kept[other]:
            keeper, other = other, keeper
        self.kept[keeper][other] = self.given[other][keeper] = self.kept[keeper].get(other, 0.0) + weight


def _flatten(volume: Sequence[float], merges: Sequence[tuple[int, int, float]], total: float) -> list[int]:
    """Take inner nodes of the binary tree out, the least cut_inside ln(vol(parent) / vol(node)) first, as long as the
    node has an inner node above it, the root aside, or below it.

    A node that goes leaves its cut and its children to its parent. That only ever raises what other nodes cost, so that a cost
    in the heap is at worst too low, and is looked at again where it comes up.

    Returns: for each of the nodes that were merged, the number of its group; one that is left right below the root is a group.
    """
    leaves = len(volume)
    root = leaves + len(merges)
    above = [root] * root
    volumes, cut, inner = [*volume, *[0.0] * len(merges), 0.0], [0.0] * (root + 1), [0] * (root + 1)
    for node, (low, high, weight) in enumerate(merges, start=leaves):
        above[low] = above[high] = node
        volumes[node], cut[node] = volumes[low] + volumes[high], weight
        inner[node] = (low >= leaves) + (high >= leaves)
    if merges and len(merges) == leaves - 1:  # all in one: its last node is the root
        root -= 1
    volumes[root] = total
    gone = [False] * len(above)

    def parent(node: int) -> int:
        """The lowest node above that is still there; what is between is skipped from now on."""
        passed = []
        while above[node] != root and gone[above[node]]:
            passed.append(node)
            node = above[node]
        for below in passed:
            above[below] = above[node]
        return above[node]

    def cost(node: int) -> float:
        return cut[node] * math.log(volumes[parent(node)] / volumes[node])

    heap = [(cost(node), node) for node in range(leaves, root)]
    heapq.heapify(heap)
    while heap:
        known, node = heapq.heappop(heap)
        if parent(node) == root and not inner[node]:
            continue
        if cost(node) > known:
            heapq.heappush(heap, (cost(node), node))
            continue
        gone[node] = True
        cut[parent(node)] += cut[node]
        inner[parent(node)] += inner[node] - 1
    of_leaf = [parent(leaf) for leaf in range(leaves)]
    names = [leaf if group == root else group for leaf, group in enumerate(of_leaf)]
    number = {name: position for position, name in enumerate(dict.fromkeys(names))}
    return [number[name] for name in names]
