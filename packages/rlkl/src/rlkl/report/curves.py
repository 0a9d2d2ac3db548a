"""Figures of the report on what happens during fine-tuning, by method, and on the weights of the KL."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlkl.report.methods import COLUMNS, SMOOTHED, column_names, last, logged, measured
from rlkl.report.records import Axis, Run, Runs
from rlkl_htc_common.report.figures import (
    COLORS,
    dots,
    legend,
    line,
    line_with_interval,
    new_figure,
    note,
    over,
    picture,
    spread_out,
)
from rlkl_htc_common.report.page import Picture
from rlkl_htc_common.report.statistics import over_seeds, share_over_seeds
from rlkl_htc_common.report.styles import Style, styles_of

COMMA = re.compile(r"critical/comma_step(?P<step>\d+)_operand(?P<operand>\d)")
CURVES = {
    "accuracy_longer": ("eval/accuracy_longer", "{longer}", "{longer} during fine-tuning: {how} (the paper's figure 4, top)."),
    "critical_commas": (
        "critical/comma",
        "probability of the comma",
        "Probability that the policy gives to the critical commas, by teacher forcing (the paper's figure 4, bottom).",
    ),
    "operand_lists": (
        "critical/lists",
        "probability",
        "Probability that the policy copies every operand list right, by teacher forcing.",
    ),
    "retention": ("eval/accuracy_N", "accuracy on N digits", "What becomes of the skill before: {how}, of N digits."),
    "kl": ("losses/kl", "nats per token", "KL from the policy to the reference, exact, on the sampled episodes."),
}
NARROWEST = 0.1  # an axis of probabilities
Styles = Mapping[str, Style]


def curve_pictures(runs: Runs, styles: Styles) -> dict[str, Picture]:
    """What happens during fine-tuning."""
    facts = {"longer": column_names(runs)[1], "how": measured(runs)}
    caption = f"Right answers among the sampled episodes, averaged over {SMOOTHED} iterations."
    pictures = {"success": picture(success_figure(runs, styles), "Success of sampled episodes", caption)}
    for name, (key, label, caption) in CURVES.items():
        figure = history_figure(runs, key, label.format(**facts), styles)
        pictures[name] = picture(figure, label.format(**facts), caption.format(**facts))
    return {"accuracy_longer": pictures.pop("accuracy_longer"), **pictures}


def result_picture(runs: Runs, styles: Styles) -> Picture:
    """What each method and run reaches on more digits."""
    key, longer = COLUMNS[1][0], column_names(runs)[1]
    ends = {method: [last(run, key) for run in seeds] for method, seeds in runs.items()}
    figure = dots({method: (share_over_seeds(values), values) for method, values in ends.items()}, styles, longer)
    figure.axes[0].set_xlim(-0.02, 1.02)
    caption = f"{longer} after fine-tuning: {measured(runs)}. Each faint dot is a run; means with 95% intervals."
    return picture(figure, longer, caption)


def history_figure(runs: Runs, key: str, label: str, styles: Styles) -> Figure:
    """What was logged against iterations."""
    figure, axes = new_figure()
    is_share = not key.startswith("losses/")
    for method, seeds in runs.items():
        of_runs = [dict(logged(run, key)) for run in seeds]
        x = [step for step in of_runs[0] if all(step in run for run in of_runs)]  # an iteration may make no step
        if not x:
            continue
        curves = [[run[step] for step in x] for run in of_runs]
        found = over(curves, share_over_seeds if is_share else over_seeds)
        line_with_interval(axes, x, found, method, styles[method], markers=len(x) <= 20, of=len(runs))
    axes.set_xlabel("iterations")
    axes.set_ylabel(label)
    if is_share:
        _within_probabilities(axes)
    else:
        spread_out(axes)
    return figure


def success_figure(runs: Runs, styles: Styles) -> Figure:
    """Successes of sampled episodes, as a moving average."""
    figure, axes = new_figure()
    for method, seeds in runs.items():
        curves = [[value for _, value in logged(run, "rollout/success")] for run in seeds]
        window = min(SMOOTHED, len(curves[0]))
        smooth = [np.convolve(curve, np.ones(window) / window, mode="valid").tolist() for curve in curves]
        x = list(range(window, len(curves[0]) + 1))
        line_with_interval(axes, x, over(smooth, share_over_seeds), method, styles[method], of=len(runs))
    axes.set_xlabel("iterations")
    axes.set_ylabel("success of sampled episodes")
    _within_probabilities(axes)
    return figure


def _within_probabilities(axes: Axes) -> None:
    """No axis goes beyond 0 and 1, or makes much of differences that are nearly none."""
    low, high = axes.get_ylim()
    high = min(high, 1.02)
    axes.set_ylim(max(min(low, high - NARROWEST), -0.02), high)


def axis_picture(runs: Runs, axis: Axis) -> Picture:
    """`axis_figure` with its caption."""
    shown = "means over seeds, and each run's accuracy on more digits" if len(axis.lines) > 1 else "means over seeds, intervals"
    return picture(axis_figure(runs, axis), f"Accuracy by {axis.key}", f"Accuracy, by {axis.key}: {shown}.")


def axis_figure(runs: Runs, axis: Axis) -> Figure:
    """What methods reach against a value of their configs (figure 6): all columns; or of several lines each run's accuracy."""
    figure, axes = new_figure()
    columns = [(column, name) for (column, _), name in zip(COLUMNS, column_names(runs), strict=True)]
    if len(axis.lines) == 1:
        (methods,) = axis.lines.values()
        for color, (column, name) in zip(COLORS, columns, strict=False):
            x, curves = _along(runs, methods, column)
            line_with_interval(axes, x, over(curves, share_over_seeds), name, Style(color), markers=True)
    else:
        for name, style in styles_of(axis.lines).items():
            for (column, title), dash in zip(columns[:2], ("--", "-"), strict=True):
                x, curves = _along(runs, axis.lines[name], column)
                line(axes, x, np.mean(curves, axis=0).tolist(), f"{name}: {title}", style._replace(dash=dash))
            axes.scatter(x * len(curves), np.ravel(curves), s=14, color=style.color, alpha=0.5, linewidths=0)  # more digits
    drawn = [value for methods in axis.lines.values() for value in methods.values()]
    positive = [value for value in drawn if value > 0]
    if min(drawn) >= 0 and max(drawn) > 20 * min(positive, default=max(drawn)):
        axes.set_xscale("symlog", linthresh=min(positive), linscale=0.5)  # logarithmic, but that it has a place for 0
        axes.set_xlim(left=-0.2 * min(positive) if min(drawn) == 0 else 0.8 * min(drawn))
    axes.set_xlabel(axis.key)
    axes.set_ylabel("after fine-tuning")
    _within_probabilities(axes)
    legend(axes, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def _along(runs: Runs, methods: Mapping[str, float], column: str) -> tuple[list[float], list[list[float]]]:
    """The methods' values in order, and by seed what a column comes to at each."""
    ordered = sorted(methods, key=methods.__getitem__)
    seeds = zip(*(runs[method] for method in ordered), strict=True)
    return [methods[method] for method in ordered], [[last(run, column) for run in of_seed] for of_seed in seeds]


def comma_pictures(runs: Runs, styles: Styles) -> dict[str, Picture]:
    """Figures for each critical comma that all methods have (figure 7): scratchpad line and operand."""
    of_runs = [{key for key in seeds[0].history[0] if COMMA.fullmatch(key)} for seeds in runs.values()]
    pictures: dict[str, Picture] = {}
    for key in sorted(set.intersection(*of_runs)):
        found = COMMA.fullmatch(key)
        assert found is not None
        where = f"scratchpad line {found['step']}, operand {found['operand']}"
        figure = history_figure(runs, key, "probability of the comma", styles)
        pictures[key.replace("/", "_")] = picture(figure, f"Comma in {where}", f"The first critical comma in {where}.")
    return pictures


def with_weights(runs: Runs) -> Runs:
    """The methods that do not weigh the KL of all tokens alike."""
    return {method: seeds for method, seeds in runs.items() if max(_shares(seeds), default=1) < 1}


def weights_pictures(runs: Runs, styles: Styles) -> dict[str, Picture]:
    """The histogram of the KL's weights of the methods that have several; none where all weigh all tokens alike."""
    several = with_weights(runs)
    caption = "Weights of the KL, over all tokens and iterations: share of tokens in each tenth."
    return {"weights": picture(weights_figure(several, styles), "Weights of the KL", caption)} if several else {}


def weights_figure(runs: Runs, styles: Styles) -> Figure:
    """The histograms of the KL's weights, as outlines over [0, 1]."""
    figure, axes = new_figure()
    for method, seeds in runs.items():
        shares, style = _shares(seeds), styles[method]
        edges = np.linspace(0, 1, len(shares) + 1)
        axes.stairs(shares, edges, baseline=None, color=style.color, linestyle=style.dash, linewidth=1.8, label=method)
        for middle, share in zip((edges[:-1] + edges[1:]) / 2, shares, strict=True):
            note(axes, float(middle), share or min(each for each in shares if each > 0), f"{method}: {share:.2%}")
    axes.set_yscale("log")
    axes.set_xlabel("weight of the KL")
    axes.set_ylabel("share of tokens")
    return figure


def _shares(seeds: Sequence[Run]) -> list[float]:
    """The share of tokens in each tenth of [0, 1], as a mean over iterations and seeds."""
    keys = sorted({key for run in seeds for line in run.history for key in line if key.startswith("weights/share_")})
    return [float(np.mean([value for run in seeds for _, value in logged(run, key)])) for key in keys]
