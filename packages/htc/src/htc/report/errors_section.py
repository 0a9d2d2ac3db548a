"""The part of the report that looks at what one model gets wrong."""

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from torch import Tensor

from htc.datasets import Dataset
from htc.decoding.by_name import decode
from htc.labels.hierarchy import Hierarchy
from htc.labels.taxonomy import PATH_SEPARATOR
from htc.report.documents import worst_table
from htc.report.labels import rule_label
from htc.scoring.error_analysis import Calibration, calibration_per_level, confused_siblings, f1_per_node
from rlkl_htc_common.report.figures import COLORS, new_figure, to_svg
from rlkl_htc_common.report.page import Picture, Section, Table
from rlkl_htc_common.terminal import printable

NARROWEST = 0.0005  # of the figure's width: what is narrower is not drawn
MAP = colormaps["cividis"]


def errors_section(name: str, dataset: Dataset, probabilities: Tensor, decoder: str, tuned_threshold: float) -> Section:
    """Confused siblings, the worst documents, calibration, and the hierarchy coloured by F1.

    Args:
        name: what to call the model.
        dataset: whose test split is looked at.
        probabilities: (D, N) of the test documents.
        decoder: the inference rule to look at, a name from `htc.scoring.evaluate_rules.ALL_RULES`.
        tuned_threshold: for the rule of that name.
    """
    hierarchy, documents = dataset.hierarchy, dataset.splits["test"]
    targets = dataset.targets[documents]
    predicted = decode(decoder, probabilities, hierarchy, tuned_threshold)
    texts = [dataset.texts[i] for i in documents.tolist()]
    calibration = calibration_per_level(probabilities, targets, hierarchy)
    errors = ", ".join(f"{level.error:.3f}" for level in calibration)
    pictures = [
        Picture(
            to_svg(_icicle(hierarchy, targets, f1_per_node(targets, predicted))),
            "The hierarchy, one row for each level, a label as wide as it has test documents, coloured by its F1.",
            wide=True,
        ),
        Picture(
            to_svg(_reliability(calibration)),
            "How often labels are true that are held for so probable, level by level (probabilities below 0.01 left out). "
            f"Expected calibration errors: {errors}.",
        ),
    ]
    return Section(
        "What a model gets wrong",
        [f"{name}, first seed, test split, inference: {rule_label(decoder)}."],
        [_confusion_table(hierarchy, targets, predicted), worst_table(hierarchy, texts, targets, predicted, probabilities)],
        pictures,
    )


def _confusion_table(hierarchy: Hierarchy, targets: Tensor, predicted: Tensor) -> Table:
    rows = []
    for pair in confused_siblings(targets, predicted, hierarchy) if hierarchy.is_tree else []:
        above = hierarchy.paths[pair.true][:-1]
        rows.append(
            [
                PATH_SEPARATOR.join(above) or "(top)",
                hierarchy.names[pair.true],
                hierarchy.names[pair.predicted],
                f"{pair.documents} of {pair.of}",
            ]
        )
    return Table(
        columns=["below", "true", "predicted in its place", "documents"],
        rows=rows,
        caption="The siblings that are taken for each other most often.",
        texts={0, 1, 2},
    )


def _reliability(levels: list[Calibration]) -> Figure:
    figure, axes = new_figure()
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle="--")
    for depth, level in enumerate(levels, start=1):
        shown = level.cells >= 10
        axes.plot(
            level.confidence[shown],
            level.frequency[shown],
            marker="o",
            markersize=4,
            color=COLORS[(depth - 1) % len(COLORS)],
            label=f"level {depth}",
        )
    axes.set_xlabel("probability")
    axes.set_ylabel("share that is true")
    axes.legend(fontsize=9)
    return figure


def _icicle(hierarchy: Hierarchy, targets: Tensor, f1: Tensor) -> Figure:
    """Rectangles from the top level down, each child below its (in a DAG, first) parent."""
    figure, axes = new_figure(11.0, 0.9 + 0.55 * hierarchy.max_depth)
    ends = hierarchy.most_specific(targets).sum(0).double()
    weight = _weights(hierarchy, ends)
    total = float(weight[hierarchy.levels[0]].sum())
    left = torch.zeros(hierarchy.num_nodes, dtype=torch.double)
    next_free = torch.zeros(hierarchy.num_nodes + 1, dtype=torch.double)  # the last one is the root's
    for node in range(hierarchy.num_nodes):
        parent = hierarchy.parents[node][0] if hierarchy.parents[node] else hierarchy.num_nodes
        left[node] = next_free[parent]
        next_free[parent] += weight[node]
        next_free[node] = left[node]
    for depth, level in enumerate(hierarchy.levels, start=1):
        nodes = [n for n in range(level.start, level.stop) if float(weight[n]) > NARROWEST * total]
        colors = [MAP(float(f1[n])) if not np.isnan(float(f1[n])) else (0.85, 0.85, 0.85, 1.0) for n in nodes]
        spans = [(float(left[n]) / total, float(weight[n]) / total) for n in nodes]
        axes.broken_barh(spans, (-depth, 0.94), facecolors=colors, edgecolor="white", linewidth=0.3)
        for n, (start, width), color in zip(nodes, spans, colors, strict=True):
            if width > 0.05:
                name = printable(hierarchy.names[n], keep="")
                fits = max(3, int(150 * width))
                shown = name if len(name) <= fits else name[: fits - 1] + "…"
                ink = "black" if sum(color[:3]) > 1.5 else "white"
                axes.text(
                    start + width / 2,
                    0.47 - depth,
                    shown,
                    ha="center",
                    va="center",
                    fontsize=6,
                    parse_math=False,
                    color=ink,
                )
    axes.set_xlim(0, 1)
    axes.set_ylim(-hierarchy.max_depth - 0.1, 0)
    axes.axis("off")
    figure.colorbar(ScalarMappable(cmap=MAP), ax=axes, label="F1", fraction=0.03, pad=0.01)
    return figure


def _weights(hierarchy: Hierarchy, ends: Tensor) -> Tensor:
    """How many ends are at or below each node, those of a DAG going to first parents only. Args: ends (N,). Returns: (N,)."""
    weight = ends.clone()
    for node in reversed(range(hierarchy.num_nodes)):
        if hierarchy.parents[node]:
            weight[hierarchy.parents[node][0]] += weight[node]
    return weight
