"""The report on a reproduction: where models start, and what fine-tuning by several methods makes of them."""

from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from common.figures import to_svg
from common.report import Picture, Section, markdown_table, write_report
from common.runs import write_atomically
from rlkl.report_methods import (
    Runs,
    axis_figure,
    before_finetuning,
    comma_pictures,
    comparison_table,
    curve_pictures,
    curves_table,
    findings,
    result_table,
    weights_figure,
    weights_text,
)
from rlkl.report_start import Start, digits_figure, start_sections
from rlkl.tasks import task_named

COMMAS_TEXT = (
    "The probability of the right character at the comma before digit N+1 of a list (figure 7), measured on the same problems "
    "throughout, with the right text before it."
)
KEPT = ("history", "wall_seconds", "run_dir", "model", "trained_digits", "digits")


def summarize(starts: dict[str, Start], methods: list[str], results: list[dict[str, Any]]) -> dict[str, Any]:
    """Gather what the report shows.

    Args:
        starts: what `rlkl.evaluate.gather` says about each model that runs start from.
        methods: their names.
        results: result.json of each run: seed by seed, all methods in order.

    Returns:
        `starts`, `seeds`, and `methods`: by method the list over seeds of what was logged.
    """
    runs: Runs = {name: [] for name in methods}
    for name, result in zip(cycle(methods), results, strict=False):
        runs[name].append({key: result[key] for key in KEPT})
    return {
        "starts": starts,
        "seeds": list(dict.fromkeys(result["seed"] for result in results)),
        "methods": runs,
        "git_commit": results[0]["git_commit"],
        "versions": results[0]["versions"],
    }


def write_rl_report(output: Path, title: str, summary: dict[str, Any], command: str) -> Path:
    """Write report.html, table.md and one SVG per figure into a folder.

    Args:
        summary: what `summarize` gave, with `compare`, pairs of methods; `axis`, a key and its values, or None; `wall_seconds`.

    Returns:
        The report.
    """
    runs, starts, pairs = summary["methods"], summary["starts"], summary["compare"]
    main_table = result_table(runs, before_finetuning(runs, starts))
    pictures, commas = curve_pictures(runs), comma_pictures(runs)
    first = list(pictures.values())
    if summary["axis"] is not None:
        key, values = summary["axis"]["key"], summary["axis"]["values"]
        pictures["axis"] = Picture(to_svg(axis_figure(runs, key, values)), f"What is reached, by {key}.")
        first.insert(0, pictures["axis"])
    weights = weights_figure(runs)
    if weights is not None:
        caption = "Weights of the KL, over all tokens and collects: share of tokens in each tenth."
        pictures["weights"] = Picture(to_svg(weights), caption)
    digits = Picture(to_svg(digits_figure(next(iter(starts.values())))), "Accuracy before fine-tuning.")
    for name, picture in (pictures | commas | {"accuracy_by_digits": digits}).items():
        write_atomically(output / f"{name}.svg", picture.svg)
    write_atomically(output / "table.md", markdown_table(main_table) + "\n")
    sections = [
        Section("The result", findings(runs, pairs), [main_table, comparison_table(runs, pairs), curves_table(runs)], first),
        Section("Critical commas, one by one", [COMMAS_TEXT], [], list(commas.values())),
        Section("The weights", weights_text(runs), [], [pictures["weights"]] if weights is not None else []),
        *(section for start in starts.values() for section in start_sections(start)),
    ]
    file = output / "report.html"
    write_report(file, title, _lead(summary), sections, _facts(summary, command))
    return file


def _lead(summary: dict[str, Any]) -> str:
    count = len(summary["seeds"])
    over = f"the mean over {count} seeds with its 95% interval (Student t)" if count > 1 else "from one seed"
    first = next(iter(summary["methods"].values()))[0]
    plurals = {task_named(start["task"]).PLURAL for start in summary["starts"].values()}
    trained, digits = f"up to N = {first['trained_digits']} digits", f"{first['digits']} digits"
    if len(summary["starts"]) > 1:
        trained, digits = "up to N digits", "more"
    kinds = " or ".join(sorted(plurals))
    return (
        f"Pre-trained on {kinds} of {trained}, fine-tuned by reinforcement learning on {digits}, by several methods. What that "
        f"reaches is {over}."
    )


def _facts(summary: dict[str, Any], command: str) -> list[tuple[str, str]]:
    seconds = [run["wall_seconds"] for runs in summary["methods"].values() for run in runs]
    models = ", ".join(f"{start['model']} ({start['fingerprint']})" for start in summary["starts"].values())
    return [
        ("command", command),
        ("starting from", models),
        ("commit", str(summary["git_commit"])),
        ("versions", ", ".join(f"{name} {version}" for name, version in summary["versions"].items())),
        ("seeds", ", ".join(map(str, summary["seeds"]))),
        (
            "time",
            f"{summary['wall_seconds'] / 60:.1f} minutes, without what was done before; a run takes {np.mean(seconds):.0f} s",
        ),
    ]
