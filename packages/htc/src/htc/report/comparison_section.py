"""The part of the report that compares objectives: who wins where, how surely, on which labels."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from htc.report.comparison import ranks, winners
from htc.report.labels import (
    ERRORS,
    MAIN_RULES,
    METRICS,
    label,
    of_own_rule,
    own_rules,
    rule_label,
)
from htc.report.records import BestTwo, Losses
from htc.report.verdict import mean_scores, metrics_of, wins
from rlkl_htc_common.report.figures import line, new_figure, picture
from rlkl_htc_common.report.page import Section, Table
from rlkl_htc_common.report.styles import Style
from rlkl_htc_common.report.tables import MISSING

RANKED = ("hf1_micro", "hf1_macro", "hf1_samples", "f1_macro", "lca_f1_samples", "icm_norm", "exact_match", "tree_distance")
ONE_LABEL = ("wu_palmer", "tree_distance", "mistake_severity")


def comparison_section(losses: Losses, best_two: Sequence[BestTwo] | None) -> Section:
    """Winners and ranks by metric and rule, and paired differences between the best two under each rule."""
    tables = [_winner_table(losses), _rank_table(losses)]
    if best_two is not None:
        tables.insert(0, _difference_table(best_two))
    count, combinations = wins(losses)
    parts = ", ".join(f"{label(objective)} {times} times" for objective, times in count.most_common())
    said = f"Of {combinations} combinations of metric and inference rule, first are: {parts} (ties count for each)."
    return Section("Who wins, and where the winner changes", [said], tables)


def _winner_table(losses: Losses) -> Table:
    rows = []
    for metric in metrics_of(losses):
        best = winners(mean_scores(losses, metric), metric in ERRORS)
        rows.append(
            [METRICS[metric], *(" and ".join(map(label, best[rule])) if rule in best else MISSING for rule in MAIN_RULES)]
        )
    return Table(
        columns=["metric", *(rule_label(rule) for rule in MAIN_RULES)],
        rows=rows,
        caption="The objective with the best mean over seeds, by metric and inference rule. Metrics of one label per document "
        f"({', '.join(METRICS[metric] for metric in ONE_LABEL)}) compare only objectives that predict one path everywhere.",
        texts=set(range(1, len(MAIN_RULES) + 1)),
        csv="winners.csv",
        shown=[number for number, metric in enumerate(metrics_of(losses)) if metric in RANKED],
    )


def _rank_table(losses: Losses) -> Table:
    chosen = [metric for metric in metrics_of(losses) if metric in RANKED]
    rows = []
    for loss in losses:
        cells = []
        for metric in chosen:
            each = [ranks(scores, metric in ERRORS).get(loss) for scores in mean_scores(losses, metric).values() if scores]
            found = [rank for rank in each if rank is not None]
            cells.append(f"{min(found)}" if min(found) == max(found) else f"{min(found)} to {max(found)}")
        rows.append([label(loss), *cells])
    return Table(
        columns=["objective", *(METRICS[metric] for metric in chosen)],
        rows=rows,
        caption="Ranks under each metric; from the best to the worst over inference rules.",
    )


def _difference_table(best_two: Sequence[BestTwo]) -> Table:
    rows = [
        [
            rule_label(found.rule),
            label(found.better),
            label(found.worse),
            f"{found.over_documents.mean:+.3f}",
            found.over_documents.range,
            found.over_seeds.range,
        ]
        for found in best_two
    ]
    return Table(
        columns=["rule", "best", "next", "difference in hF1 samples", "95% over documents", "95% over seeds"],
        rows=rows,
        texts={1, 2},
        caption="The best two objectives under each rule, paired: bootstrap over documents, Student t over seeds. Where an "
        "interval holds 0, the difference is not significant.",
    )


def labels_section(losses: Losses, styles: Mapping[str, Style]) -> Section | None:
    """Rare labels and deep ones; None for results from before these were kept."""
    first = of_own_rule(next(iter(losses.values()))[0])
    if "f1_by_frequency" not in first or "hf1_macro_per_depth" not in first:
        return None
    ranges = first["f1_by_frequency"]
    names, counted = _frequency_names(ranges), ", ".join(f"{row['labels']} labels" for row in ranges)
    by_frequency = _lines(losses, "f1_by_frequency", names, ("training documents of a label", "macro F1"), styles)
    by_depth = _lines(losses, "hf1_macro_per_depth", None, ("depth", "hF1, macro by class"), styles)
    pictures = [
        picture(
            by_frequency,
            "Macro F1 by frequency of labels",
            f"Macro F1 of the labels that occur in test, by how often training saw them ({counted} in the first split), each "
            f"objective under its own rule ({own_rules(losses)}); mean over seeds.",
        ),
        picture(by_depth, "hF1 by depth", "Hierarchical F1 by class at each depth, by the same rules; mean over seeds."),
    ]
    return Section("Rare labels and deep ones", [], [], pictures, True, styles)


def _frequency_names(ranges: Sequence[Mapping[str, Any]]) -> list[str]:
    names, start = [], 0
    for row in ranges:
        most = row["most"]
        names.append(f"over {start - 1}" if most is None else str(most) if most == start else f"{start} to {most}")
        start = 0 if most is None else most + 1
    return names


def _lines(
    losses: Losses, key: str, names: list[str] | None, axis_labels: tuple[str, str], styles: Mapping[str, Style]
) -> Figure:
    figure, axes = new_figure()
    for loss, runs in losses.items():
        of_seeds = [[v["f1"] if isinstance(v, dict) else v for v in of_own_rule(run)[key]] for run in runs]
        values = np.array(of_seeds, dtype=float)  # (seeds, points), NaN where no label is
        shown = ~np.isnan(values).all(0)
        points = np.arange(1, values.shape[1] + 1)[shown]
        means = np.nanmean(values[:, shown], axis=0)
        line(axes, points.tolist(), means.tolist(), label(loss), styles[label(loss)], markers=True)
    ticks = np.arange(1, len(names) + 1) if names else points
    axes.set_xticks(ticks, names)
    axes.set_xlabel(axis_labels[0])
    axes.set_ylabel(axis_labels[1])
    return figure
