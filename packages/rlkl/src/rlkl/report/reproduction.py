"""The report on a reproduction: where models start, and what fine-tuning by several methods makes of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rlkl.report.conditions import CONDITIONS_TEXT, conditions_picture, conditions_table
from rlkl.report.curves import axis_picture, comma_pictures, curve_pictures, result_picture, weights_pictures, with_weights
from rlkl.report.drift import DRIFT_TEXT, drift_pictures, drift_table
from rlkl.report.methods import comparison_table, curves_table, findings, result_table, steps_table, weights_text
from rlkl.report.pools import pools_table
from rlkl.report.records import Summary
from rlkl.report.start import certainty_levels_table, digits_picture, levels_table, scratchpads_section, start_section
from rlkl.report.verdict import CAVEAT, INTERVALS, listed, of_conditions, of_methods, of_starts
from rlkl.tasks.registry import task_named
from rlkl_htc_common.report.page import First, Section, markdown_table, write_pictures, write_report
from rlkl_htc_common.report.records import of_grid, read_record
from rlkl_htc_common.report.run_list import GRID, runs_section
from rlkl_htc_common.report.statistics import told_over_seeds
from rlkl_htc_common.report.styles import Style, styles_of
from rlkl_htc_common.runs.directory import read_config, read_json, write_atomically

COMMAS_TEXT = (
    "The probability of the right character at the first critical comma of a list (the paper's figure 7): in the first "
    "scratchpad line that before digit N+1, in the second that before digit N, in the third that before digit N-1; measured "
    "on the same problems throughout, with the right text before it."
)
BANDS_TEXT = "Means over seeds. Bands are 95% intervals; where they would hide each other, of many methods, they are left out."
MEANING = "Prioritized: each token's KL is multiplied by J^beta, where J, from 0 to 1, is the pre-trained model's certainty. "
ADVICE = "remove it, and give the command of the reproduction again"


def draw(folder: Path) -> Path:
    """Draw the report of a reproduction from its run directories, into its folder. Returns: the report.

    Raises:
        InputError: where a part of it is missing or damaged.
    """
    summary = summarize(read_json(folder / GRID, ADVICE))
    summary.save(folder)
    return write_rl_report(folder, summary)


def redraw(folder: Path) -> Path:
    """Draw the report again from its summary.json. Returns: the report. Raises InputError where that is missing or damaged."""
    return write_rl_report(folder, Summary.load(folder, ADVICE))


def summarize(grid: dict[str, Any]) -> Summary:
    """Gather what the report shows.

    Args:
        grid: what `rlkl.commands.reproduce` left: `starts`, what is known of each model that runs start from; `runs`, of each
            its method, seed, folder, metrics and command; and the fields of `Summary` on what to compare.
    """
    methods: dict[str, list[Any]] = {}
    results, configs = [], []
    for run in grid["runs"]:
        folder = Path(run["run_dir"])
        result = read_json(folder / "result.json", ADVICE)
        drift = read_json(folder / f"drift-{result['history'][-1]['step']}.json", ADVICE)
        methods.setdefault(run["method"], []).append(result | {"drift": drift})
        results.append(result)
        configs.append(read_config(folder) | {"model": result["model"], "reference": result["reference"]})
    first = (results or list(grid["starts"].values()))[0]
    found = {"package": "rlkl", "methods": methods} | of_grid(grid["runs"], configs, first)
    return read_record(Summary, grid | found, "the results")


def write_rl_report(output: Path, summary: Summary) -> Path:
    """Write report.html, table.md, one SVG per figure and CSV files into a folder. Returns: the report."""
    starts, styles = summary.starts, styles_of(summary.methods)
    digits = digits_picture(starts)
    write_pictures(output, {"accuracy_by_digits": digits})
    if summary.methods:
        first, sections = _methods(summary, styles, output)
    else:
        first, sections = First(of_starts(starts), INTERVALS, digits, levels_table(starts)), []
    write_atomically(output / "table.md", markdown_table(first.table) + "\n")
    pads = [scratchpads_section(start, folded=number > 0) for number, start in enumerate(starts.values()) if start.scratchpads]
    before = [start_section(start) for start in starts.values()]
    if len(starts) > 1:
        tables = [certainty_levels_table(starts), *([levels_table(starts)] if summary.methods else [])]
        before.insert(0, Section("The models before", [], tables, [digits], folded=True))
    runs = [runs_section(summary.runs)] if summary.runs else []
    file = output / "report.html"
    write_report(file, summary.title, _lead(summary), [*pads, *sections, *before, *runs], _facts(summary), first, styles)
    return file


def _methods(summary: Summary, styles: Mapping[str, Style], output: Path) -> tuple[First, list[Section]]:
    """What fine-tuning made of the models: the finding, and the sections on it; writes the figures."""
    runs, pairs = summary.methods, summary.compare
    pictures, commas = curve_pictures(runs, styles), comma_pictures(runs, styles)
    drifts, weights, result = drift_pictures(runs, styles), weights_pictures(runs, styles), result_picture(runs, styles)
    along = {} if summary.axis is None else {"axis": axis_picture(runs, summary.axis)}
    rare = {} if summary.conditions is None else {"conditions": conditions_picture(runs, summary.conditions)}
    write_pictures(output, {"result": result} | along | rare | pictures | commas | drifts | weights)
    tables = [comparison_table(runs, pairs), curves_table(runs)]
    if summary.steps is not None:
        tables.insert(0, steps_table(runs, summary.steps))
    if summary.pools:
        tables.insert(0, pools_table(runs, summary.pools))
    first = First(of_methods(runs, pairs), CAVEAT, along.get("axis", result), result_table(runs))
    sections = []
    if summary.conditions is not None:
        first = First(
            of_conditions(runs, summary.conditions), CAVEAT, rare["conditions"], conditions_table(runs, summary.conditions)
        )
        sections = [Section("All methods", [CONDITIONS_TEXT], [result_table(runs)], [result], True, styles)]
    drawn = list(pictures.values()) if not along else [result, *pictures.values()]
    weighing = {method: styles[method] for method in with_weights(runs)}
    return first, [
        *sections,
        Section("Methods compared", findings(runs, pairs), [table for table in tables if table.rows]),
        Section("During fine-tuning", [BANDS_TEXT], [], drawn, legend=styles),
        Section("How far the policy moved", DRIFT_TEXT, [drift_table(runs)], list(drifts.values()), True, styles),
        Section("Critical commas, one by one", [COMMAS_TEXT], [], list(commas.values()), True, styles),
        Section("The weights", weights_text(runs), [], list(weights.values()), True, weighing),
    ]


def _lead(summary: Summary) -> str:
    kinds = listed(list(dict.fromkeys(task_named(start.task).PLURAL for start in summary.starts.values())), "or")
    if not summary.methods:
        return f"Models pre-trained on {kinds} of up to N digits, on N digits and more, before any fine-tuning."
    count = len(summary.seeds)
    first = next(iter(summary.methods.values()))[0]
    trained, digits = f"up to N = {first.trained_digits} digits", f"{first.digits} digits"
    if len(summary.starts) > 1:
        trained, digits = "up to N digits", "more"
    weighted = any(
        run.settings.get("penalty.weighting") == "prioritized" or "penalty.beta" in run.settings for run in summary.runs
    )
    return (
        f"Pre-trained on {kinds} of {trained}, fine-tuned by reinforcement learning on {digits}, by several methods. "
        f"{MEANING if weighted else ''}Numbers are {told_over_seeds(count)}."
    )


def _facts(summary: Summary) -> list[tuple[str, str]]:
    models = ", ".join(f"{start.model} ({start.fingerprint})" for start in summary.starts.values())
    seconds = [run.wall_seconds for runs in summary.methods.values() for run in runs]
    a_run = [("time of a run", f"{np.mean(seconds):.0f} s")] if seconds else []
    return [*summary.facts(("starting from", models)), *a_run]
