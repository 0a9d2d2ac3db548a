"""The report on a reproduction: where models start, and what fine-tuning by several methods makes of them."""

from pathlib import Path
from typing import Any

import numpy as np

from rlkl.report.curves import axis_picture, comma_pictures, curve_pictures, weights_pictures
from rlkl.report.drift import DRIFT_TEXT, drift_pictures, drift_table
from rlkl.report.methods import comparison_table, curves_table, findings, result_table, steps_table, weights_text
from rlkl.report.pools import pools_table
from rlkl.report.records import Summary
from rlkl.report.start import certainty_levels_table, digits_figure, levels_table, start_sections
from rlkl.tasks.registry import task_named
from rlkl_htc_common.report.figures import to_svg
from rlkl_htc_common.report.page import Picture, Section, Table, markdown_table, write_report
from rlkl_htc_common.report.records import as_plain, read_record
from rlkl_htc_common.report.run_list import GRID, list_runs, runs_section
from rlkl_htc_common.report.statistics import told_over_seeds
from rlkl_htc_common.runs.directory import read_config, read_json, write_atomically

COMMAS_TEXT = (
    "The probability of the right character at the first critical comma of a list (figure 7): in the first scratchpad line "
    "that before digit N+1, in the second that before digit N, in the third that before digit N-1; measured on the same "
    "problems throughout, with the right text before it."
)
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
    names, metrics, commands, folders = (
        [run[key] for run in grid["runs"]] for key in ("method", "metrics", "command", "run_dir")
    )
    first = (results or list(grid["starts"].values()))[0]
    found = {
        "package": "rlkl",
        "seeds": list(dict.fromkeys(run["seed"] for run in grid["runs"])),
        "methods": methods,
        "runs": [as_plain(run) for run in list_runs(names, configs, metrics, commands, folders)],
        "git_commit": first["git_commit"],
        "versions": first["versions"],
    }
    return read_record(Summary, grid | found, "the results")


def write_rl_report(output: Path, summary: Summary) -> Path:
    """Write report.html, table.md and one SVG per figure into a folder. Returns: the report."""
    starts = summary.starts
    main_table, sections = _method_sections(summary, output) if summary.methods else (levels_table(starts), [])
    write_atomically(output / "table.md", markdown_table(main_table) + "\n")
    digits = digits_figure(starts)
    write_atomically(output / "accuracy_by_digits.svg", to_svg(digits))
    if len(starts) > 1:
        tables = [levels_table(starts), certainty_levels_table(starts)]
        caption = "Accuracy before fine-tuning by digits beyond those of training (figure 2), with 95% bootstrap intervals."
        sections.append(Section("The models before", [], tables, [Picture(to_svg(digits), caption)]))
    sections += [section for start in starts.values() for section in start_sections(start)]
    if summary.runs:
        sections.append(runs_section(summary.runs))
    file = output / "report.html"
    write_report(file, summary.title, _lead(summary), sections, _facts(summary))
    return file


def _method_sections(summary: Summary, output: Path) -> tuple[Table, list[Section]]:
    """What fine-tuning made of the models: the result, and the sections; writes the figures."""
    runs, pairs = summary.methods, summary.compare
    main_table = result_table(runs)
    pictures, commas, drifts = curve_pictures(runs), comma_pictures(runs), drift_pictures(runs)
    first = list(pictures.values())
    if summary.axis is not None:
        pictures["axis"] = axis_picture(runs, summary.axis.key, summary.axis.lines)
        first.insert(0, pictures["axis"])
    tables = [main_table, comparison_table(runs, pairs), curves_table(runs)]
    if summary.steps is not None:
        tables.insert(1, steps_table(runs, summary.steps))
    if summary.pools:
        tables.insert(1, pools_table(runs, summary.pools))
    weights = weights_pictures(runs)
    for name, picture in (pictures | commas | drifts | weights).items():
        write_atomically(output / f"{name}.svg", picture.svg)
    return main_table, [
        Section("The result", findings(runs, pairs), tables, first),
        Section("How far the policy moved", DRIFT_TEXT, [drift_table(runs)], list(drifts.values())),
        Section("Critical commas, one by one", [COMMAS_TEXT], [], list(commas.values())),
        Section("The weights", weights_text(runs), [], list(weights.values())),
    ]


def _lead(summary: Summary) -> str:
    plurals = {task_named(start.task).PLURAL for start in summary.starts.values()}
    kinds = " or ".join(sorted(plurals))
    if not summary.methods:
        return f"Models pre-trained on {kinds} of up to N digits, on N digits and more, before any fine-tuning."
    count = len(summary.seeds)
    first = next(iter(summary.methods.values()))[0]
    trained, digits = f"up to N = {first.trained_digits} digits", f"{first.digits} digits"
    if len(summary.starts) > 1:
        trained, digits = "up to N digits", "more"
    return (
        f"Pre-trained on {kinds} of {trained}, fine-tuned by reinforcement learning on {digits}, by several methods. Numbers "
        f"are {told_over_seeds(count)}."
    )


def _facts(summary: Summary) -> list[tuple[str, str]]:
    models = ", ".join(f"{start.model} ({start.fingerprint})" for start in summary.starts.values())
    seconds = [run.wall_seconds for runs in summary.methods.values() for run in runs]
    a_run = [("time of a run", f"{np.mean(seconds):.0f} s")] if seconds else []
    return [*summary.facts(("starting from", models)), *a_run]
