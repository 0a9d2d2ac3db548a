"""The part of a hierarchy that a page shows for one text."""

from itertools import pairwise

import pytest
import torch

from htc import Hierarchy
from htc.demo.branches import BESIDE, LEAST, ROWS, branches, cells

TREE = Hierarchy.from_paths(
    [
        ["Arts", "Music", "Opera"],
        ["Arts", "Music", "Song"],
        ["Arts", "Film"],
        ["Science", "Physics"],
        ["Science", "Biology"],
        ["Sports"],
    ]
)
DAG = Hierarchy.from_pairs([("A", "C"), ("B", "C"), ("C", "D"), ("C", "E")])


def vector(hierarchy, **values):
    return torch.tensor([values.get(name, 0.0) for name in hierarchy.names])


def answer(hierarchy, *names):
    return torch.tensor([name in names for name in hierarchy.names])


def flat(group, depth=1):
    for branch in group.shown:
        yield depth, branch.name, branch.chosen
        yield from flat(branch.below, depth + 1)


def test_labels_of_the_answer_stand_with_the_best_beside_them():
    probabilities = vector(TREE, Arts=0.9, Music=0.7, Opera=0.5, Song=0.2, Film=0.2, Science=0.09, Physics=0.05)
    top = branches(TREE, probabilities, answer(TREE, "Arts", "Music", "Opera"))
    assert list(flat(top)) == [
        (1, "Arts", True),
        (2, "Music", True),
        (3, "Opera", True),
        (3, "Song", False),
        (2, "Film", False),
        (1, "Science", False),
        (1, "Sports", False),
    ]
    assert top.shown[0].probability == pytest.approx(0.9)
    assert (top.more, top.most) == (0, 0.0)


def test_what_is_left_out_is_counted():
    probabilities = vector(TREE, Arts=0.9, Music=0.9 - LEAST / 2, Film=LEAST / 2)
    arts = branches(TREE, probabilities, answer(TREE, "Arts")).shown[0]
    assert [branch.name for branch in arts.below.shown] == ["Music"]
    assert (arts.below.more, arts.below.most) == (1, pytest.approx(LEAST / 2))


def test_an_unlikely_label_of_the_answer_is_shown_among_more_likely_ones():
    wide = Hierarchy.from_paths([[f"label {number}"] for number in range(10)])
    probabilities = torch.linspace(0.5, 0.05, 10)
    top = branches(wide, probabilities, torch.arange(10) == 8)
    assert [branch.node for branch in top.shown] == [*range(BESIDE), 8]
    assert (top.more, top.most) == (5, pytest.approx(float(probabilities[BESIDE])))


def test_without_an_answer_the_best_at_the_top_are_shown():
    top = branches(TREE, torch.zeros(TREE.num_nodes), torch.zeros(TREE.num_nodes, dtype=torch.bool))
    assert len(top.shown) == 3
    assert not any(branch.below.shown for branch in top.shown)


def test_what_is_below_two_labels_is_shown_once():
    probabilities = vector(DAG, A=0.9, B=0.8, C=0.7, D=0.6, E=0.1)
    top = branches(DAG, probabilities, answer(DAG, "A", "B", "C", "D"))
    first, second = (branch.below.shown[0] for branch in top.shown)
    assert (first.name, first.again, second.name, second.again) == ("C", False, "C", True)
    assert [branch.name for branch in first.below.shown] == ["D", "E"]
    assert (second.below.shown, second.below.more) == ([], 0)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_however_many_labels_are_likely_the_page_stays_short(share):
    paths = [
        [f"{a}", f"{a}{b}", f"{a}{b}{c}", f"{a}{b}{c}{d}"] for a in range(6) for b in range(6) for c in range(6) for d in "xyz"
    ]
    deep = Hierarchy.from_paths(paths)
    probabilities = torch.full((deep.num_nodes,), share)
    for labels in (torch.zeros(deep.num_nodes, dtype=torch.bool), torch.ones(deep.num_nodes, dtype=torch.bool)):
        shown = list(flat(branches(deep, probabilities, labels)))
        assert ROWS <= len(shown) < 2 * ROWS


def counted(group):
    return len(group.shown) + group.more


def test_each_group_counts_all_of_its_labels():
    top = branches(TREE, torch.rand(TREE.num_nodes), torch.ones(TREE.num_nodes, dtype=torch.bool))
    assert counted(top) == 3
    arts = next(branch for branch in top.shown if branch.name == "Arts")
    assert counted(arts.below) == 2


def test_labels_are_as_wide_as_they_are_probable():
    probabilities = vector(TREE, Arts=0.3, Music=0.2, Opera=0.2, Film=0.1, Science=0.6, Physics=0.6, Sports=0.1)
    found = {cell.name: cell for cell in cells(TREE, probabilities, answer(TREE, "Science", "Physics"))}
    assert set(found) == {"Arts", "Music", "Opera", "Film", "Science", "Physics", "Sports"}
    assert {name: round(cell.width, 6) for name, cell in found.items()} == {
        name: pytest.approx(float(probabilities[TREE.node(name)])) for name in found
    }
    lefts = {name: cell.left for name, cell in found.items()}
    assert lefts == pytest.approx(
        {"Science": 0, "Physics": 0, "Arts": 0.6, "Music": 0.6, "Opera": 0.6, "Film": 0.8, "Sports": 0.9}
    )
    assert found["Physics"].chosen
    assert found["Physics"].said == "60.0%, in the answer"
    assert (found["Film"].chosen, found["Film"].said) == (False, "10.0%")


@pytest.mark.parametrize("hierarchy", [TREE, DAG], ids=["tree", "DAG"])
@pytest.mark.parametrize("seed", range(5))
def test_labels_lie_below_their_parents_and_do_not_overlap(hierarchy, seed):
    probabilities = torch.rand(hierarchy.num_nodes, generator=torch.Generator().manual_seed(seed))  # of several paths
    found = cells(hierarchy, probabilities, torch.zeros(hierarchy.num_nodes, dtype=torch.bool))
    spans = {cell.name: (cell.left, cell.left + cell.width) for cell in found}
    for depth in range(1, hierarchy.max_depth + 1):
        level = sorted(spans[cell.name] for cell in found if cell.depth == depth)
        assert all(end <= start + 1e-9 for (_, end), (start, _) in pairwise(level))
        assert level[-1][1] <= 1 + 1e-9
    for node, above in enumerate(hierarchy.parents):
        if above and hierarchy.names[node] in spans:
            inner, outer = spans[hierarchy.names[node]], spans[hierarchy.names[above[0]]]
            assert outer[0] - 1e-9 <= inner[0]
            assert inner[1] <= outer[1] + 1e-9


def test_where_nothing_is_likely_there_is_no_figure():
    assert cells(TREE, torch.full((TREE.num_nodes,), 1e-4), torch.zeros(TREE.num_nodes, dtype=torch.bool)) == []
