"""The report on a reproduction: objectives x inference rules x metrics, over seeds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from htc.decoding.by_name import ALL_RULES
from htc.report.against import against_section, load_other
from htc.report.comparison_figures import comparison_pictures
from htc.report.comparison_section import comparison_section, labels_section
from htc.report.cost import cost_section, tries_section, with_cost
from htc.report.errors_section import errors_sections
from htc.report.labels import ERRORS, MAIN_RULES, METRICS, SET_METRICS, label, over_seeds_of, own_rules, rule_label
from htc.report.records import Losses, Summary
from htc.report.verdict import caveat, verdict
from rlkl_htc_common.report.page import First, Section, Table, markdown_table, write_pictures, write_report
from rlkl_htc_common.report.run_list import runs_section
from rlkl_htc_common.report.statistics import Interval, over_seeds, share_over_seeds, told_over_seeds
from rlkl_htc_common.report.styles import Style, styles_of
from rlkl_htc_common.report.tables import best_of, cell, interval_table
from rlkl_htc_common.runs.directory import write_atomically

MEANINGS = (
    "hF1: F1 of label sets with all their ancestors added; hF1-AUC: the area under the hierarchical precision-recall curve "
    "of a document."
)
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
        losses.setdefault(result["method"], []).append(result["test"] | {"cost": result.get("cost")})
        seeds.setdefault(result["method"], []).append(result["seed"])
    return {
        "dataset": results[0]["dataset"],
        "seeds": next(iter(seeds.values())),
        "losses": losses,
        "git_commit": results[0]["git_commit"],
        "versions": results[0]["versions"],
    }


def write_htc_report(output: Path, summary: Summary) -> Path:
    """Write report.html, table.md, one SVG per figure and metrics.csv into a folder.

    Returns:
        The report.

    Raises:
        InputError: where it is to compare with a reproduction that is not there, or of other documents.
    """
    losses, styles = summary.losses, styles_of(map(label, summary.losses))
    pictures = comparison_pictures(losses, styles)
    write_pictures(output, pictures)
    first = First(verdict(losses), caveat(losses), pictures["objectives_and_rules"], _main_table(losses, "hf1_micro"), styles)
    write_atomically(output / "table.md", markdown_table(with_cost(first.table, losses)) + "\n")
    cost = cost_section(losses)
    thresholds = [pictures["hf1_by_threshold"], pictures["precision_recall"]] if "precision_recall" in pictures else []
    sections = [
        *([] if cost is None else [cost]),
        *([] if summary.errors is None else errors_sections(summary.errors)),
        Section("Expected and found", [*_findings(losses), EXPECTED_HF], [_main_table(losses, "hf1_samples")]),
        Section("Thresholds", [SCALES], [_threshold_table(losses)], thresholds, legend=styles),
        comparison_section(losses, summary.best_two),
        Section("Levels", [], [], [pictures["accuracy_per_level"]], True, styles),
        *_further_sections(summary, styles),
        Section("Every metric", [], [_own_rule_table(losses), _metrics_table(losses)], folded=True),
        *([tries_section(summary.tries)] if summary.tries else []),
        runs_section(summary.runs),
    ]
    file = output / "report.html"
    write_report(file, summary.title, _lead(summary), sections, summary.facts(), first, styles)
    return file


def _further_sections(summary: Summary, styles: Mapping[str, Style]) -> list[Section]:
    """What not every reproduction has: labels by frequency and depth, another reproduction."""
    sections = [labels_section(summary.losses, styles)]
    if summary.against is not None:
        other = load_other(summary.against, summary.dataset, list(summary.losses), summary.seeds)
        sections.append(against_section(summary.losses, other.losses, summary.against))
    return [section for section in sections if section is not None]


def _lead(summary: Summary) -> str:
    data, numbers = summary.dataset, told_over_seeds(len(summary.seeds))
    return (
        f"{data.train:,} training, {data.dev:,} dev and {data.test:,} test documents; {data.nodes:,} labels, "
        f"{data.leaves:,} of them leaves, on {len(data.levels)} levels. Every number is {numbers}, on the test split. "
        f"{MEANINGS}"
    )


def _main_table(losses: Losses, metric: str) -> Table:
    columns: dict[str, list[Interval | None]] = {
        "hF1-AUC": [share_over_seeds([run.hf1_auc for run in runs]) for runs in losses.values()],
        **{rule_label(rule): [over_seeds_of(runs, rule, metric) for runs in losses.values()] for rule in MAIN_RULES},
    }
    caption = f"hF1-AUC, and {METRICS[metric]} under each inference rule; the best of each column is in bold."
    return interval_table("objective", list(map(label, losses)), columns, caption)


def _threshold_table(losses: Losses) -> Table:
    columns: dict[str, list[Interval | None]] = {
        "tuned threshold": [share_over_seeds([run.tuned_threshold for run in runs]) for runs in losses.values()],
        "hF1 micro at 0.5": [over_seeds_of(runs, "threshold", "hf1_micro") for runs in losses.values()],
        "hF1 micro at the tuned one": [over_seeds_of(runs, "tuned_threshold", "hf1_micro") for runs in losses.values()],
    }
    caption = "The threshold is tuned on the dev split for micro hF1."
    return interval_table("objective", list(map(label, losses)), columns, caption, bold=False)


def _own_rule_table(losses: Losses) -> Table:
    """Every metric of each objective under the rule that suits it."""
    found = {
        metric: [over_seeds_of(runs, runs[0].decoder, metric) for runs in losses.values()] for metric in (*SET_METRICS, *ERRORS)
    }
    rows = {metric: intervals for metric, intervals in found.items() if any(intervals)}
    lower = ", ".join(METRICS[name] for name in ERRORS if name in rows)
    return Table(
        columns=["metric", *(label(loss) for loss in losses)],
        rows=[[METRICS[metric], *map(cell, intervals)] for metric, intervals in rows.items()],
        caption=f"Each objective under its own rule ({own_rules(losses)}). Lower is better in {lower}.",
        best={
            (row, column + 1)
            for row, (metric, intervals) in enumerate(rows.items())
            for column in best_of(intervals, lowest=metric in ERRORS)
        },
    )


def _metrics_table(losses: Losses) -> Table:
    """Every metric of every rule and objective, for a file."""
    rows = []
    for rule in (rule for rule in ALL_RULES if any(rule in runs[0].rules for runs in losses.values())):
        for metric in (*SET_METRICS, *ERRORS):
            for loss, runs in losses.items():
                found = over_seeds_of(runs, rule, metric)
                if found is not None:
                    numbers = [f"{value:.5f}" for value in (found.mean, found.low, found.high)]
                    rows.append([rule_label(rule), METRICS[metric], label(loss), *numbers, str(found.values)])
    columns = ["inference rule", "metric", "objective", "mean", "low", "high", "seeds"]
    return Table(columns, rows, "Every metric under every inference rule, with 95% intervals.", csv="metrics.csv", shown=[])


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
