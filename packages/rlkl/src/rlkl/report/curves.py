"""Figures of the report on what happens during fine-tuning, by method, and on the weights of the KL.

Where there are more methods than lines that can be told apart, there are several figures, and the first method is in each.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import cycle
from typing import TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlkl.report.methods import COLUMNS, SMOOTHED, column_names, logged, measured
from rlkl.report.records import Run, Runs
from rlkl_htc_common.report.figures import COLORS, line_with_interval, new_figure, to_svg
from rlkl_htc_common.report.page import Picture

CURVES = len(COLORS)  # lines in a figure that can be told apart
COMMA = re.compile(r"critical/comma_step(?P<step>\d+)_operand(?P<operand>\d)")


Line = TypeVar("Line")


def pictures_of(
    lines: Mapping[str, Line], name: str, draw: Callable[[dict[str, Line]], Figure], caption: str
) -> dict[str, Picture]:
    """A figure of what is known of all methods, or several: `name`, `name_part2`, ... Args: draw: takes CURVES at most."""
    first, *others = lines
    parts = [others[start : start + CURVES - 1] for start in range(0, max(1, len(others)), CURVES - 1)]
    pictures = {}
    for number, part in enumerate(parts, start=1):
        of_parts = f" ({number} of {len(parts)})" if len(parts) > 1 else ""
        figure = draw({method: lines[method] for method in [first, *part]})
        pictures[name if number == 1 else f"{name}_part{number}"] = Picture(to_svg(figure), caption + of_parts)
    return pictures


def curve_pictures(runs: Runs) -> dict[str, Picture]:
    """What happens during fine-tuning."""
    _, longer, *_ = column_names(runs)
    how = measured(runs)
    curves = (
        (
            "accuracy_longer",
            "eval/accuracy_longer",
            longer,
            f"{longer} during fine-tuning: {how} (figure 4, top).",
        ),
        (
            "critical_commas",
            "critical/comma",
            "probability of the comma",
            "Probability that the policy gives to the critical commas, by teacher forcing (figure 4, bottom).",
        ),
        (
            "operand_lists",
            "critical/lists",
            "probability",
            "Probability that the policy copies every operand list right, by teacher forcing.",
        ),
        (
            "retention",
            "eval/accuracy_N",
            "accuracy on N digits",
            f"What becomes of the skill that was there before: {how}, of N digits.",
        ),
        (
            "kl",
            "losses/kl",
            "nats per token",
            "KL from the policy to the reference, exact, on the sampled episodes.",
        ),
    )
    caption = f"Right answers among the sampled episodes, averaged over {SMOOTHED} iterations."
    pictures = pictures_of(runs, "success", success_figure, caption)
    for name, key, label, caption in curves:
        pictures |= pictures_of(runs, name, partial(history_figure, key=key, label=label), caption)
    return pictures


def history_figure(runs: Runs, key: str, label: str) -> Figure:
    """What was logged against iterations."""
    figure, axes = new_figure()
    for color, (method, seeds) in zip(COLORS, runs.items(), strict=False):
        x = [step for step, _ in logged(seeds[0], key)]
        curves = [[value for _, value in logged(run, key)] for run in seeds]
        line_with_interval(axes, x, curves, method, color, marker="o" if len(x) <= 20 else None)
    axes.set_xlabel("iterations")
    axes.set_ylabel(label)
    if not key.startswith("losses/"):
        _within_probabilities(axes)
    axes.legend(fontsize=8)
    return figure


def success_figure(runs: Runs) -> Figure:
    """Successes of sampled episodes, as a moving average."""
    figure, axes = new_figure()
    for color, (method, seeds) in zip(COLORS, runs.items(), strict=False):
        curves = [[value for _, value in logged(run, "rollout/success")] for run in seeds]
        window = min(SMOOTHED, len(curves[0]))
        smooth = [np.convolve(curve, np.ones(window) / window, mode="valid").tolist() for curve in curves]
        line_with_interval(axes, list(range(window, len(curves[0]) + 1)), smooth, method, color)
    axes.set_xlabel("iterations")
    axes.set_ylabel("success of sampled episodes")
    _within_probabilities(axes)
    axes.legend(fontsize=8)
    return figure


def _within_probabilities(axes: Axes) -> None:
    """Bands of few seeds may reach beyond 0 and 1; the axis does not."""
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, -0.02), min(high, 1.02))


def axis_picture(runs: Runs, key: str, lines: Mapping[str, Mapping[str, float]]) -> Picture:
    """`axis_figure` with its caption."""
    shown = "means over seeds, and each run's accuracy on more digits" if len(lines) > 1 else "means over seeds with intervals"
    return Picture(to_svg(axis_figure(runs, key, lines)), f"Accuracy, by {key}: {shown}.")


def axis_figure(runs: Runs, key: str, lines: Mapping[str, Mapping[str, float]]) -> Figure:
    """What methods reach against a value of their configs (figure 6): all columns; or of several lines accuracies, of each run.

    Args: key: the value's name in the config; lines: by name the value of each method on it.
    """
    figure, axes = new_figure()
    columns = [(column, name) for (column, _), name in zip(COLUMNS, column_names(runs), strict=True)]
    if len(lines) == 1:
        (methods,) = lines.values()
        for color, (column, name) in zip(COLORS, columns, strict=False):
            line_with_interval(axes, *_along(runs, methods, column), name, color, "o")
    else:
        for color, (line, methods) in zip(cycle(COLORS), lines.items(), strict=False):
            for (column, name), style in zip(columns[:2], ("--", "-"), strict=True):
                x, curves = _along(runs, methods, column)
                axes.plot(x, np.mean(curves, axis=0), style, color=color, label=f"{line}: {name}")
            axes.scatter(x * len(curves), np.ravel(curves), s=14, color=color, alpha=0.5, linewidths=0)  # more digits
    drawn = [value for methods in lines.values() for value in methods.values()]
    positive = [value for value in drawn if value > 0]
    if min(drawn) >= 0 and max(drawn) > 20 * min(positive, default=max(drawn)):
        axes.set_xscale("symlog", linthresh=min(positive), linscale=0.5)  # logarithmic, but that it has a place for 0
        axes.set_xlim(left=-0.2 * min(positive) if min(drawn) == 0 else 0.8 * min(drawn))
    axes.set_xlabel(key)
    axes.set_ylabel("after fine-tuning")
    _within_probabilities(axes)
    axes.legend(fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def _along(runs: Runs, methods: Mapping[str, float], column: str) -> tuple[list[float], list[list[float]]]:
    """The methods' values in order, and by seed what a column comes to at each."""
    ordered = sorted(methods, key=methods.__getitem__)
    seeds = zip(*(runs[method] for method in ordered), strict=True)
    return [methods[method] for method in ordered], [[logged(run, column)[-1][1] for run in of_seed] for of_seed in seeds]


def comma_pictures(runs: Runs) -> dict[str, Picture]:
    """Figures for each critical comma that all methods have (figure 7): scratchpad line and operand."""
    of_runs = [{key for key in seeds[0].history[0] if COMMA.fullmatch(key)} for seeds in runs.values()]
    pictures: dict[str, Picture] = {}
    for key in sorted(set.intersection(*of_runs)):
        found = COMMA.fullmatch(key)
        assert found is not None
        caption = f"The first critical comma in scratchpad line {found['step']}, operand {found['operand']}."
        name = key.replace("/", "_")
        pictures |= pictures_of(runs, name, partial(history_figure, key=key, label="probability of the comma"), caption)
    return pictures


def weights_pictures(runs: Runs) -> dict[str, Picture]:
    """The histogram of the KL's weights of the methods that have several; none where all weigh all tokens alike."""
    shares = {method: _shares(seeds) for method, seeds in runs.items()}
    several = {method: seeds for method, seeds in runs.items() if max(shares[method]) < 1}
    caption = "Weights of the KL, over all tokens and iterations: share of tokens in each tenth."
    return pictures_of(several, "weights", weights_figure, caption) if several else {}


def weights_figure(runs: Runs) -> Figure:
    """The histograms of the KL's weights, as outlines over [0, 1]."""
    figure, axes = new_figure()
    for color, (method, seeds) in zip(COLORS, runs.items(), strict=False):
        shares = _shares(seeds)
        axes.stairs(shares, np.linspace(0, 1, len(shares) + 1), baseline=None, color=color, linewidth=1.6, label=method)
    axes.set_yscale("log")
    axes.set_xlabel("weight of the KL")
    axes.set_ylabel("share of tokens")
    axes.legend(fontsize=8)
    return figure


def _shares(seeds: Sequence[Run]) -> list[float]:
    """The share of tokens in each tenth of [0, 1], as a mean over iterations and seeds."""
    keys = sorted(key for key in seeds[0].history[1] if key.startswith("weights/share_"))
    return [float(np.mean([value for run in seeds for _, value in logged(run, key)])) for key in keys]
