"""The part of the report that looks at what one model gets wrong."""

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from htc.datasets import Dataset
from htc.labels.hierarchy import Hierarchy
from htc.labels.sparse_sets import SparseSets
from htc.labels.taxonomy import PATH_SEPARATOR
from htc.report.documents import table_of, worst
from htc.report.icicle import icicle
from htc.report.labels import rule_label
from htc.report.records import Confused, Errors, Level, Node
from htc.scoring.error_analysis import Calibration, Confusion, calibration_per_level, confused_siblings, f1_per_node
from htc.scoring.evaluate_rules import decode_in_parts
from htc.scoring.parts import Probabilities
from rlkl_htc_common.report.figures import legend, line, new_figure, picture
from rlkl_htc_common.report.page import Picture, Section, Table
from rlkl_htc_common.report.styles import SOFT, Style, ordered

FEWEST_CELLS = 10  # of a bin of probability that is drawn


def look_at(name: str, dataset: Dataset, probabilities: Probabilities, decoder: str, tuned_threshold: float) -> Errors:
    """What a model gets wrong.

    Args:
        name: what to call the model.
        dataset: whose test split is looked at.
        probabilities: (D, N) of the test documents, or in parts.
        decoder: the inference rule to look at, a name from `htc.decoding.by_name.ALL_RULES`.
        tuned_threshold: for the rule of that name.
    """
    hierarchy, documents = dataset.hierarchy, dataset.splits["test"]
    targets = dataset.targets.select(documents)
    predicted = decode_in_parts(decoder, probabilities, hierarchy, tuned_threshold)
    texts = dataset.texts_of(documents)
    pairs = confused_siblings(targets, predicted, hierarchy) if hierarchy.is_tree else []
    return Errors(
        model=name,
        rule=decoder,
        confused=[_confused(hierarchy, pair) for pair in pairs],
        worst=worst(hierarchy, texts, targets, predicted, probabilities),
        calibration=[_level(found) for found in calibration_per_level(probabilities, targets, hierarchy)],
        hierarchy=_nodes(hierarchy, targets, f1_per_node(targets, predicted)),
    )


def _confused(hierarchy: Hierarchy, pair: Confusion) -> Confused:
    below = PATH_SEPARATOR.join(hierarchy.paths[pair.true][:-1]) or "(top)"
    return Confused(below, hierarchy.names[pair.true], hierarchy.names[pair.predicted], pair.documents, pair.of)


def _level(found: Calibration) -> Level:
    often = found.cells >= FEWEST_CELLS
    return Level(found.confidence[often].tolist(), found.frequency[often].tolist(), found.error)


def _nodes(hierarchy: Hierarchy, targets: SparseSets, f1: Tensor) -> list[Node]:
    """Places from the top level down, each child below its (in a DAG, first) parent."""
    weight = _weights(hierarchy, hierarchy.most_specific(targets).sum(0).double())
    total = float(weight[hierarchy.levels[0]].sum())
    left = torch.zeros(hierarchy.num_nodes, dtype=torch.double)
    next_free = torch.zeros(hierarchy.num_nodes + 1, dtype=torch.double)  # the last one is the root's
    for node in range(hierarchy.num_nodes):
        parent = hierarchy.parents[node][0] if hierarchy.parents[node] else hierarchy.num_nodes
        left[node] = next_free[parent]
        next_free[parent] += weight[node]
        next_free[node] = left[node]
    return [
        Node(hierarchy.names[n], depth, float(left[n]) / total, float(weight[n]) / total, float(f1[n]))
        for depth, level in enumerate(hierarchy.levels, start=1)
        for n in range(level.start, level.stop)
        if float(weight[n]) > 0
    ]


def _weights(hierarchy: Hierarchy, ends: Tensor) -> Tensor:
    """How many ends are at or below each node, those of a DAG going to first parents only. Args: ends (N,). Returns: (N,)."""
    weight = ends.clone()
    for node in reversed(range(hierarchy.num_nodes)):
        if hierarchy.parents[node]:
            weight[hierarchy.parents[node][0]] += weight[node]
    return weight


def errors_sections(errors: Errors) -> list[Section]:
    """The hierarchy coloured by F1; then confused siblings, the worst documents, and calibration."""
    which = f"{errors.model}, first seed, test split, inference: {rule_label(errors.rule)}."
    wide = (
        "One row for each level, a label as wide as it has test documents, coloured by its F1; a click shows what is below it."
    )
    found = [Section("The hierarchy by F1", [which], [], [Picture(icicle(errors.hierarchy, "Labels by F1", wide), wide, True)])]
    said = ", ".join(f"{level.error:.3f}" for level in errors.calibration)
    calibration = picture(
        _reliability(errors.calibration),
        "Calibration by level",
        "How often labels are true that are held for so probable, level by level (probabilities below 0.01 left out). "
        f"Expected calibration errors: {said}.",
    )
    tables = [_confusion_table(errors.confused), table_of(errors.worst)]
    wrong = Section("What a model gets wrong", [which], tables, [calibration], folded=True)
    return [*(found if errors.hierarchy else []), wrong]


def _confusion_table(confused: Sequence[Confused]) -> Table:
    return Table(
        columns=["below", "true", "predicted in its place", "documents"],
        rows=[[pair.below, pair.true, pair.predicted, f"{pair.documents} of {pair.of}"] for pair in confused],
        caption="The siblings that are taken for each other most often.",
        texts={0, 1, 2},
    )


def _reliability(levels: Sequence[Level]) -> Figure:
    figure, axes = new_figure()
    axes.plot([0, 1], [0, 1], color=SOFT, linewidth=1, linestyle="--")
    for depth, (level, color) in enumerate(zip(levels, ordered(len(levels)), strict=True), start=1):
        line(axes, level.confidence, level.frequency, f"level {depth}", Style(color), markers=True)
    axes.set_xlabel("probability")
    axes.set_ylabel("share that is true")
    legend(axes)
    return figure
