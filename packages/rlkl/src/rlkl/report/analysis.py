"""The report of rlkl.commands.analyze: does uncertainty find the critical tokens, what is a character worth, what has moved."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from rlkl.report.drift import position_figure
from rlkl.report.records import Analysis, Drift, Found, Group, Mean
from rlkl.report.verdict import of_analysis
from rlkl.tasks.registry import task_named
from rlkl_htc_common.report.figures import COLORS, legend, line, new_figure, note, picture
from rlkl_htc_common.report.page import First, Section, Table, write_pictures, write_report
from rlkl_htc_common.report.records import provenance, read_record
from rlkl_htc_common.report.styles import INK, styles_of
from rlkl_htc_common.runs.directory import read_json

ANALYSIS = "analysis.json"
QUESTIONS = {
    "critical": "critical tokens",
    "untrained": "characters beyond trained lists",
    "first_error": "first wrong characters",
}
DETECTION_TEXT = (
    "Characters are ranked by 1 - certainty. Critical tokens are those of the paper's definition, among all characters of "
    "right completions; those beyond trained lists are further along an operand's list than any in training; first wrong "
    "characters are those of the model's own greedy answers, up to where these go wrong.",
)
COUNTERFACTUAL_TEXT = (
    "At some places, after a right text, the right character is forced, or the likeliest wrong one; the model goes on from "
    "there. What a character is worth is the difference in right answers at the end."
)


def redraw(folder: Path) -> Path:
    """Draw the report again from its analysis.json. Returns: the report. Raises InputError where that is missing or damaged."""
    return write_analysis_report(folder, read_json(folder / ANALYSIS, "give the command of the analysis again"))


def write_analysis_report(folder: Path, plain: dict[str, Any]) -> Path:
    """Write report.html and one SVG per figure into a folder.

    Args: plain: what `rlkl.commands.analyze.analyze` gave, and its `command`. Returns: the report.
    """
    result = read_record(Analysis, plain, "the analysis")
    beyond, kind = f"{result.trained_digits + 1} digits", task_named(result.task).PLURAL
    caption = "Right answers after the right and the wrong character: means over problems, with 95% bootstrap intervals."
    worth = picture(counterfactual_figure(result.counterfactual.groups), "What a character is worth", caption)
    found = picture(detection_figure(result.detection), "Precision by recall", "Precision by recall, at best for each recall.")
    pictures = {"detection": found, "counterfactual": worth}
    sections = [Section("What uncertainty finds", DETECTION_TEXT, [_detection_table(result)], [found])]
    if result.drift is not None:
        caption = "KL per character to the reference, by how far into the completion it is."
        lines = {f"{digits} digits": [moved.positions] for digits, moved in result.drift.items()}
        pictures["drift"] = picture(position_figure(lines, styles_of(lines)), "Drift by place", caption)
        text = f"On right completions of {result.examples} problems, by teacher forcing, against {result.reference}."
        drift = _drift_table(result.drift)
        sections.append(Section("What has moved", [text], [drift], [pictures["drift"]], legend=styles_of(lines)))
    write_pictures(folder, pictures)
    facts = provenance(result.command, result.git_commit, result.versions, ("model", f"{result.model} ({result.fingerprint})"))
    lead = f"{result.model} on {kind} of {beyond}, one more than it was pre-trained on."
    name = Path(result.model).parent.name if Path(result.model).name == "model" else result.model  # RUN/model: the run's
    first = First(of_analysis(result), COUNTERFACTUAL_TEXT, worth, _counterfactual_table(result))
    write_report(folder / "report.html", f"Where {name} fails, and why", lead, sections, facts, first)
    return folder / "report.html"


def detection_figure(detection: dict[str, dict[str, Found]]) -> Figure:
    """Precision by recall of each certainty, for each question; dotted: what guessing would reach."""
    figure, axes = new_figure()
    asked = {question: title for question, title in QUESTIONS.items() if question in detection}
    names = {
        (question, name): f"{title}, {name.replace('_', ' ')}"
        for question, title in asked.items()
        for name in detection[question]
    }
    for ((question, name), label), style in zip(names.items(), styles_of(names.values()).values(), strict=True):
        found = detection[question][name]
        line(axes, [point.recall for point in found.curve], [point.precision for point in found.curve], label, style)
        axes.axhline(found.base_rate, color=style.color, linewidth=0.6, alpha=0.6, linestyle=":")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    legend(axes)
    return figure


def counterfactual_figure(groups: list[Group]) -> Figure:
    """Right answers after the right and after the wrong character, by group of places."""
    figure, axes = new_figure()
    x = np.arange(len(groups))
    for offset, (key, color) in enumerate((("right", COLORS[0]), ("wrong", COLORS[1]))):
        found: list[Mean] = [getattr(group, key) for group in groups]
        means = np.array([mean.mean for mean in found])
        bars = [means - [mean.low for mean in found], [mean.high for mean in found] - means]
        places = x + 0.4 * offset - 0.2
        axes.bar(places, means, 0.38, color=color, label=f"{key} character")
        axes.errorbar(places, means, bars, fmt="none", capsize=3, ecolor=INK)
        for place, mean, group in zip(places.tolist(), found, groups, strict=True):
            note(axes, place, mean.mean, f"{group.group}, {key} character: {mean.mean:.3f} ({mean.low:.3f} to {mean.high:.3f})")
    axes.set_xticks(x, [group.group for group in groups], parse_math=False)
    axes.set_ylabel("right answers")
    axes.set_ylim(0, 1.2)  # room for the legend
    axes.set_yticks(np.linspace(0, 1, 6))
    legend(axes, ncols=2, loc="upper right")
    return figure


def _detection_table(result: Analysis) -> Table:
    rows = [
        [
            title,
            name.replace("_", " "),
            *(f"{score:.4f}" for score in (found.base_rate, found.average_precision, found.r_precision)),
        ]
        for question, title in QUESTIONS.items()
        for name, found in result.detection.get(question, {}).items()
    ]
    columns = ["to be found", "certainty", "share of characters", "average precision", "R-precision"]
    caption = f"On {result.examples} problems."
    if result.fitted_temperature is not None:
        caption += f" The temperature, fitted on as many others, is {result.fitted_temperature:.3f}."
    if result.ensemble:
        caption += f" The ensemble is {', '.join([result.model, *result.ensemble])}."
    return Table(columns, rows, caption, texts={1})


def _counterfactual_table(result: Analysis) -> Table:
    rows = []
    for group in result.counterfactual.groups:
        worth = group.importance
        difference = f"{worth.mean:+.3f} ({worth.low:+.3f} to {worth.high:+.3f})"
        lost = "–" if group.lost is None else f"{group.lost:.0%}"
        means = [f"{mean.mean:.3f}" for mean in (group.right, group.wrong)]
        rows.append([group.group, str(group.places), *means, difference, lost])
    columns = [
        "characters",
        "places",
        "after the right one",
        "after the wrong one",
        "difference (95% interval)",
        "successes lost",
    ]
    return Table(columns, rows, f"{result.samples} continuations each, in {result.problems} problems.")


def _drift_table(drift: dict[str, Drift]) -> Table:
    rows = []
    for digits, found in drift.items():
        for field, scores in {"all": found, **found.fields}.items():
            rows.append([digits, field, f"{1000 * scores.kl:.2f}", f"{scores.changed:.2%}"])
    return Table(["digits", "characters", "KL per 1,000, nats", "likeliest changed"], rows, texts={1})
