"""Figures that compare objectives: under each rule, at each threshold, on each level."""

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from htc.report.labels import MAIN_RULES, METRICS, label, of_own_rule, over_seeds_of, own_rules, rule_label
from htc.report.records import Curve, Losses
from rlkl_htc_common.report.figures import heat_map, line, line_with_band, new_figure, note, picture, without_outliers
from rlkl_htc_common.report.page import Picture
from rlkl_htc_common.report.styles import Style

Styles = Mapping[str, Style]


def comparison_pictures(losses: Losses, styles: Styles) -> dict[str, Picture]:
    """By the names of their files; those of thresholds only where all runs kept their curves."""
    own = f"Accuracy at each level of the hierarchy, each objective under its own rule ({own_rules(losses)})."
    rules, arrows = rules_figure(losses, styles)
    caption = "Micro hF1 of each objective under each inference rule, with 95% intervals over seeds"
    pictures = {
        "objectives_and_rules": picture(
            rules, "Micro hF1 by rule", f"{caption}; arrows: far below or above." if arrows else f"{caption}."
        ),
        "accuracy_per_level": picture(level_figure(losses, styles), "Accuracy by level", own),
    }
    curves = {loss: [run.curve for run in runs if run.curve is not None] for loss, runs in losses.items()}
    if all(len(curves[loss]) == len(runs) for loss, runs in losses.items()):
        pictures["hf1_by_threshold"] = picture(
            threshold_figure(curves, styles),
            "Micro hF1 by threshold",
            "Micro hF1 against the threshold. Lines: mean over seeds; bands: lowest to highest.",
        )
        pictures["precision_recall"] = picture(
            precision_recall_figure(curves, styles),
            "Precision by recall",
            "Micro hierarchical precision against recall over all thresholds, mean over seeds.",
        )
    return pictures


def rules_figure(losses: Losses, styles: Styles) -> tuple[Figure, bool]:
    """Micro hF1 of each objective under each rule, and whether arrows stand for outliers."""
    figure, axes = new_figure(6.4, 3.8)
    points = []
    for i, (loss, runs) in enumerate(losses.items()):
        name, style = label(loss), styles[label(loss)]
        found = {x: over_seeds_of(runs, rule, "hf1_micro") for x, rule in enumerate(MAIN_RULES)}
        intervals = {x + (i - (len(losses) - 1) / 2) * 0.8 / len(losses): each for x, each in found.items() if each is not None}
        axes.plot(
            list(intervals),
            [each.mean for each in intervals.values()],
            color=style.color,
            marker=style.marker,
            linestyle="none",
            markersize=5,
            label=name,
        )
        axes.vlines(
            list(intervals),
            [each.low for each in intervals.values()],
            [each.high for each in intervals.values()],
            color=style.color,
            linestyle=style.dash,
            linewidth=1.6,
        )
        for x, each in intervals.items():
            note(axes, x, each.mean, f"{name}, {rule_label(MAIN_RULES[round(x)])}: {each}")
            points.append((x, each, name, style))
    arrows = without_outliers(axes, points)
    axes.set_xticks(np.arange(len(MAIN_RULES)), [rule_label(rule) for rule in MAIN_RULES])
    axes.set_ylabel("micro hF1")
    axes.grid(axis="x", visible=False)
    return figure, arrows


def rules_by_objective(losses: Losses, metric: str) -> tuple[list[str], list[list[str | float | None]]]:
    """A table of an objective a row and a rule a column, with means over seeds; None where a rule is not defined."""
    found = {loss: [over_seeds_of(runs, rule, metric) for rule in MAIN_RULES] for loss, runs in losses.items()}
    rows: list[list[str | float | None]] = [
        [label(loss), *(None if each is None else each.mean for each in intervals)] for loss, intervals in found.items()
    ]
    return ["objective", *map(rule_label, MAIN_RULES)], rows


def rules_heat_map(losses: Losses, metric: str) -> Picture:
    """The table of `rules_by_objective` as coloured cells."""
    columns, rows = rules_by_objective(losses, metric)
    values = [[math.nan if isinstance(cell, str) or cell is None else cell for cell in row[1:]] for row in rows]
    figure = heat_map([str(row[0]) for row in rows], columns[1:], values)
    caption = f"{METRICS[metric]} of each objective under each inference rule on test, mean over seeds."
    return picture(figure, f"{METRICS[metric]} by objective and rule", caption)


def threshold_figure(curves: Mapping[str, list[Curve]], styles: Styles) -> Figure:
    """Micro hF1 against the threshold."""
    figure, axes = new_figure()
    for loss, found in curves.items():
        line_with_band(axes, found[0].thresholds, [curve.f1 for curve in found], label(loss), styles[label(loss)])
    axes.set_xlabel("threshold")
    axes.set_ylabel("micro hF1")
    return figure


def precision_recall_figure(curves: Mapping[str, list[Curve]], styles: Styles) -> Figure:
    """Precision against recall over all thresholds."""
    figure, axes = new_figure()
    for loss, found in curves.items():
        recall, precision = (np.mean(values, axis=0) for values in zip(*((c.recall, c.precision) for c in found), strict=True))
        line(axes, recall.tolist(), precision.tolist(), label(loss), styles[label(loss)])
    axes.set_xlabel("hierarchical recall")
    axes.set_ylabel("hierarchical precision")
    return figure


def level_figure(losses: Losses, styles: Styles) -> Figure:
    """Accuracy at each level, each objective under its own rule."""
    figure, axes = new_figure()
    levels: list[int] = []
    for loss, runs in losses.items():
        accuracies = [of_own_rule(run)["accuracy_per_level"] for run in runs]
        levels = list(range(1, len(accuracies[0]) + 1))
        line_with_band(axes, levels, accuracies, label(loss), styles[label(loss)], markers=True)
    axes.set_xticks(levels)
    axes.set_xlabel("level (1 is the top)")
    axes.set_ylabel("accuracy")
    return figure
