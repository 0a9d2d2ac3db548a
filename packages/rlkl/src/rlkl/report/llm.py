"""The report of rlkl-reproduce-llm: what a language model learns of one-digit sums by several methods, and what it keeps."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rlkl_htc_common.report.figures import line, line_with_interval, new_figure, note, over, picture, spread_out
from rlkl_htc_common.report.page import First, Picture, Section, Table, markdown_table, write_pictures, write_report
from rlkl_htc_common.report.records import GridSummary, of_grid, read_record
from rlkl_htc_common.report.run_list import GRID, runs_section
from rlkl_htc_common.report.statistics import Interval, over_seeds, share_over_seeds, told_over_seeds
from rlkl_htc_common.report.styles import Style, styles_of
from rlkl_htc_common.report.tables import MISSING, best_of, cell, difference_table
from rlkl_htc_common.runs.directory import read_config, read_json, write_atomically

ADVICE = "remove it, and give the command of the reproduction again"
INSPECTION, PAGE = "inspection", "inspection.html"  # of a run, and its copy beside the report
GREEDY, SAMPLED, KEPT, MOVED = MEASURES = ("eval/greedy", "eval/sampled", "eval/kl_other_text", "eval/kl_sums")
NAMES = {
    GREEDY: "held-out sums, greedy",
    SAMPLED: "held-out sums, sampled",
    KEPT: "KL on other text",
    MOVED: "KL on the sums",
}
SCALE = {GREEDY: 1, SAMPLED: 1, KEPT: 1000, MOVED: 1000}  # KL in nats per 1,000 tokens
FORMS = {GREEDY: ".3f", SAMPLED: ".3f", KEPT: ".2f", MOVED: ".1f"}
SMOOTHED = 8  # steps that the success of sampled answers is averaged over
CAVEAT = (
    "One model, one easy task that it half solves before, and few steps: what is found here need not hold elsewhere. "
    "Intervals hold the variance over seeds, on one set of prompts. Each comparison stands for itself: of twenty, one is "
    "expected to miss by chance."
)
MEASURED = (
    "Held-out sums are 27 of the 100 one-digit sums, both orders of a sum together; in training they are neither asked nor "
    "among the solved examples. Each prompt has four solved sums and one to solve. Sampled: at temperature 1, one sample each.",
    "KL on other text: KL(reference || policy), exact, on what the reference itself says after a dozen general prompts. It is "
    "0 where nothing was lost. KL on the sums: KL(policy || reference), exact, on the policy's own sampled answers. Both in "
    "nats per 1,000 tokens.",
)


@dataclass(frozen=True, slots=True)
class Run:
    """What is kept of a fine-tuning: `history`, one dict for each step, with evaluations at some; seconds of the processor."""

    history: list[dict[str, float | None]]
    seed: int
    settings: dict[str, Any]
    exponent: float | None = None
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0

    def logged(self, key: str) -> list[tuple[int, float]]:
        """When something was logged, and its value."""
        return [(int(each["step"] or 0), value) for each in self.history if (value := each.get(key)) is not None]

    def last(self, key: str) -> float:
        """The last value of a measure, as it is shown."""
        return self.logged(key)[-1][1] * SCALE[key]


Runs = dict[str, list[Run]]
"""By method, the runs of its seeds."""


@dataclass(frozen=True, slots=True)
class Start:
    """The model before: its weights' hash, how many parameters, and what is measured of it."""

    fingerprint: str
    parameters: int
    measured: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMSummary(GridSummary):
    """A grid: the model before, runs by method, pairs of methods to compare, and the method of the inspected run."""

    package: str = "rlkl-llm"
    before: Start
    methods: Runs
    compare: list[list[str]] = field(default_factory=list)
    inspected: str = ""


def draw(folder: Path) -> Path:
    """Draw the report from the run directories, into its folder. Returns: the report.

    Raises:
        InputError: where a part of it is missing or damaged.
    """
    plain = read_json(folder / GRID, ADVICE)
    summary = summarize(plain)
    summary.save(folder)
    shown = next((run for run in plain["runs"] if run["method"] == summary.inspected), None)
    page = None if shown is None else Path(shown["run_dir"]) / INSPECTION / PAGE
    if page is not None and page.exists():
        (folder / INSPECTION).mkdir(exist_ok=True)
        shutil.copyfile(page, folder / INSPECTION / PAGE)
    return write_llm_report(folder, summary)


def redraw(folder: Path) -> Path:
    """Draw the report again from its summary.json. Returns: the report. Raises InputError where that is missing or damaged."""
    return write_llm_report(folder, LLMSummary.load(folder, ADVICE))


def summarize(plain: dict[str, Any]) -> LLMSummary:
    """Gather what the report shows. Args: plain: what `rlkl.commands.reproduce_llm` left in grid.json. Raises InputError."""
    methods: dict[str, list[Any]] = {}
    configs = []
    for run in plain["runs"]:
        folder = Path(run["run_dir"])
        result = read_json(folder / "result.json", ADVICE)
        methods.setdefault(run["method"], []).append(result)
        configs.append(read_config(folder))
    found = {"methods": methods} | of_grid(plain["runs"], configs, next(iter(methods.values()))[0])
    return read_record(LLMSummary, plain | found, "the results")


def write_llm_report(output: Path, summary: LLMSummary) -> Path:
    """Write report.html, table.md, one SVG per figure and CSV files into a folder. Returns: the report."""
    runs, styles = summary.methods, styles_of(summary.methods)
    hero, curves = price_picture(summary), curve_pictures(runs, styles)
    write_pictures(output, {"result": hero} | curves)
    first = First(verdict(summary), CAVEAT, hero, result_table(summary), styles)
    write_atomically(output / "table.md", markdown_table(first.table) + "\n")
    sections = [
        Section("Methods compared", findings(summary), [comparison_table(summary)] if summary.compare else []),
        Section("During fine-tuning", ["Means over seeds, with 95% intervals."], [], list(curves.values()), legend=styles),
        Section("How it was measured", MEASURED),
        Section("What was tried", tried(summary), [settings_table(runs)]),
        *_inspected(output, summary),
        runs_section(summary.runs),
    ]
    file = output / "report.html"
    write_report(file, summary.title, _lead(summary), sections, _facts(summary), first, styles)
    return file


def final(runs: Sequence[Run], key: str) -> Interval:
    """The last value, over seeds."""
    average = share_over_seeds if key in (GREEDY, SAMPLED) else over_seeds
    return average([run.last(key) for run in runs])


def difference(runs: Runs, one: str, other: str, key: str) -> Interval | None:
    """How much higher one method ends than another, paired over seeds; None from a single seed."""
    if len(runs[one]) < 2:
        return None
    return over_seeds([a.last(key) - b.last(key) for a, b in zip(runs[one], runs[other], strict=True)])


def verdict(summary: LLMSummary) -> str:
    """What the first pair of methods learned and kept, with numbers, and who learned most."""
    runs, start = summary.methods, summary.before.measured
    ends = {method: final(seeds, GREEDY) for method, seeds in runs.items()}
    best = max(ends, key=lambda method: ends[method].mean)
    pair = summary.compare[0] if summary.compare else [best]
    learned = "; ".join(f"{ends[method].mean:.2f} with {method}" for method in pair)
    kept = " and ".join(f"{final(runs[method], KEPT).mean:.2f}" for method in pair)
    said = f"Held-out sums solved (greedy): {start[GREEDY]:.2f} before; {learned}{_by(summary, pair, GREEDY)}."
    said += f" KL on other text, per 1,000 tokens: {kept}{_by(summary, pair, KEPT)}."
    return said if best in pair else f"{said} Most solved: {best}, {ends[best].mean:.2f}."


def _by(summary: LLMSummary, pair: Sequence[str], key: str) -> str:
    """The difference of a pair, in brackets, and whether it is none that counts."""
    found = difference(summary.methods, pair[0], pair[1], key) if len(pair) == 2 else None
    if found is None:
        return ""
    if found.few:
        return f" (differences {found.shown('+.2f')})"
    none = "" if found.is_sure else "no significant difference: "
    return f" ({none}{found.mean:+.2f}, {found.low:+.2f} to {found.high:+.2f})"


def findings(summary: LLMSummary) -> list[str]:
    """Which methods solve more, and which keep more: a sentence for all that one method is above, or below."""
    said: dict[tuple[str, str, str], list[str]] = {}
    for key, word in ((GREEDY, "held-out sums solved"), (KEPT, "KL on other text")):
        for one, other in summary.compare:
            found = difference(summary.methods, one, other, key)
            if found is not None:
                by = found.shown(f"+{FORMS[key]}") if found.few else f"{found.mean:+{FORMS[key]}}"
                said.setdefault((word, one, found.verdict), []).append(f"{other} ({by})")
    return [f"In {word}, {one} is {verdict} {'; '.join(others)}." for (word, one, verdict), others in said.items()]


def result_table(summary: LLMSummary) -> Table:
    """Method x what it learned and kept, after a row for the model before."""
    runs, start = summary.methods, summary.before.measured
    columns = {key: [final(seeds, key) for seeds in runs.values()] for key in MEASURES}
    rows = [["before", *(f"{start[key] * SCALE[key]:{FORMS[key]}}" for key in MEASURES), MISSING]]
    for number, (method, seeds) in enumerate(runs.items()):
        minutes = float(np.mean([run.cpu_seconds / 60 for run in seeds]))
        rows.append([method, *(_cell(columns[key][number], FORMS[key]) for key in MEASURES), f"{minutes:.1f}"])
    best = {(1 + row, place) for place, key in enumerate(MEASURES[:2], 1) for row in best_of(columns[key])}
    best |= {(1 + row, 3) for row in best_of(columns[KEPT], lowest=True)}
    caption = (
        "After the last step; KL in nats per 1,000 tokens. The best of each column is in bold; the KL on the sums has none."
    )
    return Table(["method", *NAMES.values(), "minutes of a core"], rows, caption, best=best)


def _cell(interval: Interval | None, form: str) -> str:
    """As `cell`, with half the width in as many digits as the mean."""
    if interval is None or interval.few or interval.lopsided:
        return cell(interval, form)
    return f"{interval.mean:{form}} ± {interval.half_width:{form.lstrip('+')}}"


def comparison_table(summary: LLMSummary) -> Table:
    """How pairs of methods differ in everything measured."""
    pairs = [f"{one} - {other}" for one, other in summary.compare]
    columns = {NAMES[key]: [difference(summary.methods, one, other, key) for one, other in summary.compare] for key in MEASURES}
    caption = "Paired over seeds, with 95% intervals; in bold those that leave out 0. KL in nats per 1,000 tokens."
    table = difference_table("difference", pairs, columns, caption)
    forms = [f"+{FORMS[key]}" for key in MEASURES]
    cells = [
        [_cell(found, form) for found, form in zip(row, forms, strict=True)] for row in zip(*columns.values(), strict=True)
    ]
    return replace(table, rows=[[pair, *row] for pair, row in zip(pairs, cells, strict=True)])


def price_picture(summary: LLMSummary) -> Picture:
    """What each method learned, by what it lost on other text."""
    caption = (
        "Higher is better at held-out sums, further left keeps more. Large: means over seeds; faint: runs. The dotted line is "
        "the model before."
    )
    if len({method.partition(", ")[0] for method in summary.methods}) < len(summary.methods):
        caption += " A thin line joins one method at several strengths."
    return picture(price_figure(summary), "Accuracy on held-out sums by KL on other text", caption)


def price_figure(summary: LLMSummary) -> Figure:
    """Greedy accuracy on held-out sums against KL on other text."""
    figure, axes = new_figure()
    runs, styles = summary.methods, styles_of(summary.methods)
    means: dict[str, list[tuple[float, float]]] = {}
    for method, seeds in runs.items():
        kept, solved = [run.last(KEPT) for run in seeds], [run.last(GREEDY) for run in seeds]
        x, y, style = float(np.mean(kept)), float(np.mean(solved)), styles[method]
        axes.scatter(kept, solved, s=14, color=style.color, marker=style.marker, alpha=0.35, linewidths=0)
        axes.plot([x], [y], color=style.color, marker=style.marker, markersize=8, linestyle="none", label=method)
        note(axes, x, y, f"{method}: {y:.3f} at {x:.2f} nats")
        means.setdefault(method.partition(", ")[0], []).append((x, y))
    for family, points in means.items():
        color = next(styles[method].color for method in runs if method.partition(", ")[0] == family)
        axes.plot(*zip(*points, strict=True), color=color, linewidth=0.8, alpha=0.6)
    axes.axhline(summary.before.measured[GREEDY], color="#5c6470", linestyle=":", linewidth=1)
    axes.set_xlabel("KL on other text, nats per 1,000 tokens")
    axes.set_ylabel("held-out sums, greedy")
    return figure


def curve_pictures(runs: Runs, styles: Mapping[str, Style]) -> dict[str, Picture]:
    """What happens during fine-tuning."""
    success = f"Right answers among the sampled ones, over {SMOOTHED} steps, on training sums."
    figures = {
        "success": (_success_figure(runs, styles), success),
        "held_out": (_evaluated_figure(runs, GREEDY, styles), "Held-out sums, greedy."),
        "kept": (_evaluated_figure(runs, KEPT, styles), "KL(reference || policy) on other text: what is lost there."),
        "moved": (_evaluated_figure(runs, MOVED, styles), "KL(policy || reference) on the policy's answers to held-out sums."),
    }
    return {name: picture(figure, caption.partition(":")[0], caption) for name, (figure, caption) in figures.items()}


def _success_figure(runs: Runs, styles: Mapping[str, Style]) -> Figure:
    figure, axes = new_figure()
    for method, seeds in runs.items():
        logged = [run.logged("rollout/success") for run in seeds]
        window = np.ones(min(SMOOTHED, len(logged[0]))) / min(SMOOTHED, len(logged[0]))
        means = np.mean([np.convolve([value for _, value in each], window, "valid") for each in logged], axis=0)
        steps = [step for step, _ in logged[0]][-len(means) :]
        line(axes, steps, means.tolist(), method, styles[method])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("steps")
    axes.set_ylabel("right answers")
    return figure


def _evaluated_figure(runs: Runs, key: str, styles: Mapping[str, Style]) -> Figure:
    figure, axes = new_figure()
    for method, seeds in runs.items():
        logged = [run.logged(key) for run in seeds]
        average = share_over_seeds if key == GREEDY else over_seeds
        found = over([[value * SCALE[key] for _, value in each] for each in logged], average)
        steps = [step for step, _ in logged[0]]
        line_with_interval(axes, steps, found, method, styles[method], markers=True, of=len(runs))
    if key != GREEDY:
        spread_out(axes)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("steps")
    axes.set_ylabel(NAMES[key] if key == GREEDY else f"{NAMES[key]}, per 1,000 tokens")
    return figure


def tried(summary: LLMSummary) -> list[str]:
    """The settings that all runs share, and what the share of relaxed tokens led to."""
    run = next(iter(summary.methods.values()))[0]
    shared = {key: run.settings.get(key) for key in ("steps", "uses", "prompts", "completions", "learning_rate")}
    said = [
        f"GRPO by TRL: {shared['steps']} steps of the optimizer with a constant learning rate of "
        f"{shared['learning_rate']:g}; each batch has {shared['prompts']} prompts with {shared['completions']} answers each, "
        f"for {shared['uses']} steps. All {summary.before.parameters / 1e6:.1f} million weights are trained, in float32."
    ]
    exponents = sorted({f"{run.exponent:.3g}" for runs in summary.methods.values() for run in runs if run.exponent is not None})
    if exponents:
        share = next(run.settings["share"] for runs in summary.methods.values() for run in runs if run.exponent is not None)
        said.append(
            f"A share of {share:g} of the tokens has a weight below one half. Measured on the reference's own answers before "
            f"training, this is a power of the certainty of {', '.join(exponents)} (one for each set of prompts)."
        )
    return said


def settings_table(runs: Runs) -> Table:
    """In what the methods differ, and the mean weight that they have."""
    keys = list(dict.fromkeys(key for seeds in runs.values() for key in seeds[0].settings if key != "seed"))
    differing = [key for key in keys if len({repr(seeds[0].settings.get(key)) for seeds in runs.values()}) > 1]
    rows = []
    for method, seeds in runs.items():
        settings = [str(seeds[0].settings.get(key, MISSING)) for key in differing]
        weights = [value for run in seeds for _, value in run.logged("weights/mean")]
        rows.append([method, *settings, f"{np.mean(weights):.3f}" if weights else MISSING])
    return Table(["method", *differing, "mean weight"], rows, "A dash: without effect on this method.")


def _inspected(output: Path, summary: LLMSummary) -> list[Section]:
    """Where the page of rlkl-inspect is, if there is one."""
    if not (output / INSPECTION / PAGE).exists():
        return []
    link = Markup('<a href="{}/{}">rlkl-inspect on some held-out sums</a>').format(INSPECTION, PAGE)
    said = Markup("{}: the answers of one run with {}, and what the model before says of them, token by token.")
    return [Section("Where the model is unsure", [said.format(link, summary.inspected)])]


def _lead(summary: LLMSummary) -> str:
    return (
        f"A pre-trained language model of {summary.before.parameters / 1e6:.0f} million parameters learns one-digit sums by "
        f"reinforcement learning with TRL, by several methods. Numbers are {told_over_seeds(len(summary.seeds))}."
    )


def _facts(summary: LLMSummary) -> list[tuple[str, str]]:
    times = [run for runs in summary.methods.values() for run in runs]
    cpu, wall = (float(np.mean([getattr(run, key) for run in times])) for key in ("cpu_seconds", "wall_seconds"))
    return [
        *summary.facts(("weights of the model before (hash)", summary.before.fingerprint)),
        ("time of a run", f"{cpu:.0f} s of a core, {wall:.0f} s in all"),
    ]
