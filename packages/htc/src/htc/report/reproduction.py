"""The report on a reproduction: objectives x inference rules x metrics, over seeds."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from htc.decoding.by_name import ALL_RULES
from htc.report.against import against_section, load_other
from htc.report.comparison_section import comparison_section, labels_section
from htc.report.errors_section import errors_section
from htc.report.labels import (
    ERRORS,
    MAIN_RULES,
    METRICS,
    SET_METRICS,
    label,
    of_own_rule,
    over_seeds_of,
    own_rules,
    rule_label,
)
from htc.report.records import Curve, Losses, Scores, Summary
from rlkl_htc_common.report.figures import COLORS, line_with_band, new_figure, to_svg
from rlkl_htc_common.report.page import Picture, Section, Table, markdown_table, write_report
from rlkl_htc_common.report.run_list import runs_section
from rlkl_htc_common.report.statistics import FEWEST, Interval, over_seeds, share_over_seeds, told_over_seeds
from rlkl_htc_common.report.tables import best_of, cell, interval_table
from rlkl_htc_common.runs.directory import write_atomically

EXPECTED_HF = (
    "The rule 'expected hF1' gives each document the label set with the largest expected hF1 under the model's own "
    "probabilities: it aims at hF1 samples, not at hF1 micro, and needs the probabilities of one path."
)

SCALES = (
    "Objectives differ in how their probabilities are scaled: a fixed threshold of 0.5 favours some of them, a tuned one does "
    "so less."
)


def redraw(folder: Path) -> Path:
    """Draw the report again from its summary.json. Returns: the report. Raises InputError where that is missing or damaged."""
    return write_htc_report(folder, Summary.load(folder, "give the command of the reproduction again"))


def summarize(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Gather the test scores of all runs, seeds side by side.

    Args:
        results: result.json of each run, with the name of its `method`; each with the same seeds in the same order.

    Returns:
        What `Summary` needs of them: the test scores by method, and where they come from.
    """
    losses: dict[str, list[Any]] = {}
    seeds: dict[str, list[int]] = {}
    for result in results:
        losses.setdefault(result["method"], []).append(result["test"])
        seeds.setdefault(result["method"], []).append(result["seed"])
    return {
        "dataset": results[0]["dataset"],
        "seeds": next(iter(seeds.values())),
        "losses": losses,
        "git_commit": results[0]["git_commit"],
        "versions": results[0]["versions"],
    }


def write_htc_report(output: Path, summary: Summary) -> Path:
    """Write report.html, table.md and one SVG per figure into a folder.

    Returns:
        The report.

    Raises:
        InputError: where it is to compare with a reproduction that is not there, or of other documents.
    """
    losses = summary.losses
    pictures = _pictures(losses)
    for name, picture in pictures.items():
        write_atomically(output / f"{name}.svg", picture.svg)
    main_table = _main_table(losses, "hf1_micro")
    write_atomically(output / "table.md", markdown_table(main_table) + "\n")
    sections = [
        Section(
            "The result",
            [*_findings(losses), EXPECTED_HF],
            [main_table, _main_table(losses, "hf1_samples")],
            [pictures["objectives_and_rules"]],
        ),
        Section(
            "Thresholds", [SCALES], [_threshold_table(losses)], [pictures["hf1_by_threshold"], pictures["precision_recall"]]
        ),
        comparison_section(losses, summary.best_two),
        Section("Levels", [], [], [pictures["accuracy_per_level"]]),
        *_further_sections(summary),
        Section("Every metric of every rule", [], _full_tables(losses)),
        runs_section(summary.runs),
    ]
    file = output / "report.html"
    write_report(file, summary.title, _lead(summary), sections, summary.facts())
    return file


def _further_sections(summary: Summary) -> list[Section]:
    """What not every reproduction has: labels by frequency and depth, another reproduction, errors."""
    sections = [labels_section(summary.losses)]
    if summary.against is not None:
        other = load_other(summary.against, summary.dataset, list(summary.losses), summary.seeds)
        sections.append(against_section(summary.losses, other.losses, summary.against))
    if summary.errors is not None:
        sections.append(errors_section(summary.errors))
    return [section for section in sections if section is not None]


def _pictures(losses: Losses) -> dict[str, Picture]:
    figures = {
        "objectives_and_rules": (
            _rules_figure(losses),
            "Micro hF1 of each objective under each inference rule, with 95% intervals over seeds.",
        ),
        "hf1_by_threshold": (
            _threshold_figure(losses),
            "Micro hF1 against the threshold. Lines: mean over seeds; bands: lowest to highest.",
        ),
        "precision_recall": (
            _precision_recall_figure(losses),
            "Micro hierarchical precision against recall over all thresholds, mean over seeds.",
        ),
        "accuracy_per_level": (
            _level_figure(losses),
            f"Accuracy at each level of the hierarchy, each objective under its own rule ({own_rules(losses)}).",
        ),
    }
    return {name: Picture(to_svg(figure), caption) for name, (figure, caption) in figures.items()}


def _lead(summary: Summary) -> str:
    data, numbers = summary.dataset, told_over_seeds(len(summary.seeds))
    return (
        f"{data.train:,} training, {data.dev:,} dev and {data.test:,} test documents; {data.nodes:,} labels, "
        f"{data.leaves:,} of them leaves, on {len(data.levels)} levels. Every number is {numbers}, on the test split."
    )


def _main_table(losses: Losses, metric: str) -> Table:
    columns: dict[str, list[Interval | None]] = {
        "hF1-AUC": [share_over_seeds([run.hf1_auc for run in runs]) for runs in losses.values()],
        **{rule_label(rule): [over_seeds_of(runs, rule, metric) for runs in losses.values()] for rule in MAIN_RULES},
    }
    caption = f"HF1-AUC, and {METRICS[metric]} under each inference rule; the best of each column is in bold."
    return interval_table("objective", list(map(label, losses)), columns, caption)


def _threshold_table(losses: Losses) -> Table:
    columns: dict[str, list[Interval | None]] = {
        "tuned threshold": [share_over_seeds([run.tuned_threshold for run in runs]) for runs in losses.values()],
        "hF1 micro at 0.5": [over_seeds_of(runs, "threshold", "hf1_micro") for runs in losses.values()],
        "hF1 micro at the tuned one": [over_seeds_of(runs, "tuned_threshold", "hf1_micro") for runs in losses.values()],
    }
    caption = "The threshold is tuned on the dev split for micro hF1."
    return interval_table("objective", list(map(label, losses)), columns, caption, bold=False)


def _full_tables(losses: Losses) -> list[Table]:
    rules = [rule for rule in ALL_RULES if any(rule in runs[0].rules for runs in losses.values())]
    return [_full_table({loss: runs for loss, runs in losses.items() if rule in runs[0].rules}, rule) for rule in rules]


def _full_table(losses: Losses, rule: str) -> Table:
    found = {metric: [over_seeds_of(runs, rule, metric) for runs in losses.values()] for metric in (*SET_METRICS, *ERRORS)}
    rows = {metric: intervals for metric, intervals in found.items() if any(intervals)}
    return Table(
        columns=["metric", *(label(loss) for loss in losses)],
        rows=[[METRICS[metric], *map(cell, intervals)] for metric, intervals in rows.items()],
        caption=f"Inference: {rule_label(rule)}. Lower is better in "
        f"{', '.join(METRICS[name] for name in ERRORS if name in rows)}.",
        best={
            (row, column + 1)
            for row, (metric, intervals) in enumerate(rows.items())
            for column in best_of(intervals, lowest=metric in ERRORS)
        },
    )


def _findings(losses: Losses) -> list[str]:
    """The paper's expectation about micro hF1 at 0.5, compared with paired differences between objectives."""
    expected = (
        ("conditional_softmax_la", "conditional_softmax"),
        ("conditional_softmax", "bce"),
        ("conditional_softmax", "bce_prior_bias"),
    )
    sentences = []
    for better, worse in expected:
        if better not in losses or worse not in losses or len(losses[better]) < 2:
            continue
        pairs = zip(losses[better], losses[worse], strict=True)
        difference = over_seeds([a.rules["threshold"]["hf1_micro"] - b.rules["threshold"]["hf1_micro"] for a, b in pairs])
        expectation = f"Expected: {label(better)} above {label(worse)} on micro hF1 at 0.5."
        if difference.few:
            sentences.append(f"{expectation} Found: {difference.shown('+.3f')}, the differences of {difference.values} seeds.")
            continue
        sentences.append(
            f"{expectation} Found: {difference.verdict} it, by {difference.mean:+.3f} (95% interval {difference.low:+.3f} to "
            f"{difference.high:+.3f}, paired over {difference.values} seeds)."
        )
    return sentences


def _rules_figure(losses: Losses) -> Figure:
    figure, axes = new_figure(7.0, 3.6)
    for i, (loss, runs) in enumerate(losses.items()):
        found = {x: over_seeds_of(runs, rule, "hf1_micro") for x, rule in enumerate(MAIN_RULES)}
        intervals = {x: interval for x, interval in found.items() if interval is not None}
        shift = (i - (len(losses) - 1) / 2) * 0.8 / len(losses)
        axes.errorbar(
            np.array(list(intervals)) + shift,
            [interval.mean for interval in intervals.values()],
            None if len(runs) < FEWEST else [interval.half_width for interval in intervals.values()],
            fmt="o",
            markersize=5,
            capsize=3,
            color=COLORS[i],
            label=label(loss),
        )
    axes.set_xticks(np.arange(len(MAIN_RULES)), [rule_label(rule) for rule in MAIN_RULES])
    axes.set_ylabel("micro hF1")
    axes.grid(axis="x", visible=False)
    figure.legend(loc="outside upper center", ncols=2, fontsize=9)
    return figure


def _curve(run: Scores) -> Curve:
    assert run.curve is not None
    return run.curve


def _threshold_figure(losses: Losses) -> Figure:
    figure, axes = new_figure()
    for i, (loss, runs) in enumerate(losses.items()):
        line_with_band(
            axes,
            _curve(runs[0]).thresholds,
            [_curve(run).f1 for run in runs],
            label(loss),
            COLORS[i],
        )
    axes.set_xlabel("threshold")
    axes.set_ylabel("micro hF1")
    axes.legend(fontsize=9)
    return figure


def _precision_recall_figure(losses: Losses) -> Figure:
    figure, axes = new_figure()
    for i, (loss, runs) in enumerate(losses.items()):
        recall = np.mean([_curve(run).recall for run in runs], axis=0)
        precision = np.mean([_curve(run).precision for run in runs], axis=0)
        axes.plot(recall, precision, color=COLORS[i], label=label(loss), linewidth=1.6)
    axes.set_xlabel("hierarchical recall")
    axes.set_ylabel("hierarchical precision")
    axes.legend(fontsize=9)
    return figure


def _level_figure(losses: Losses) -> Figure:
    figure, axes = new_figure()
    for i, (loss, runs) in enumerate(losses.items()):
        accuracies = [of_own_rule(run)["accuracy_per_level"] for run in runs]
        levels = list(range(1, len(accuracies[0]) + 1))
        line_with_band(axes, levels, accuracies, label(loss), COLORS[i], marker="o")
    axes.set_xticks(levels)
    axes.set_xlabel("level (1 is the top)")
    axes.set_ylabel("accuracy")
    axes.legend(fontsize=9)
    return figure
