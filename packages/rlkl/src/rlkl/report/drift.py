"""The part of the report on how far fine-tuning moved the policy from its reference, the model before, and where."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from rlkl.report.curves import Styles
from rlkl.report.methods import last
from rlkl.report.records import Part, Runs
from rlkl_htc_common.report.figures import line_with_interval, new_figure, note, over, picture, spread_out
from rlkl_htc_common.report.page import Picture, Table
from rlkl_htc_common.report.statistics import over_seeds

DRIFT_TEXT = (
    "On the right completions of 100 problems with varying operands, by teacher forcing, after the last iteration. On N digits "
    "this is what fine-tuning did to skills that were there before; on more digits, where it changed what it was meant to.",
)


def drift_table(runs: Runs) -> Table:
    """By method: KL per character, and the share of characters where another is the likeliest now."""
    digits = _digits(runs)
    rows = []
    for method, seeds in runs.items():
        row = [method]
        for name in digits:
            found = [run.drift[name] for run in seeds if name in run.drift]
            for scores in ([1000 * each.kl for each in found], [100 * each.changed for each in found]):
                row.append(str(over_seeds(scores)) if scores else "–")
        rows.append(row)
    columns = [f"{name}: {what}" for name in digits for what in ("KL per 1,000 characters", "likeliest character changed, %")]
    return Table(["method", *columns], rows, "Drift from the reference: exact KL(policy || reference), in nats.")


def drift_pictures(runs: Runs, styles: Styles) -> dict[str, Picture]:
    """What was reached by how far the policy moved, and where in the completion it moved."""
    price = "One dot a run: higher is better on longer numbers, further left is closer to the model on those that it knew."
    pictures = {"drift_price": picture(price_figure(runs, styles), "Accuracy by drift", price)}
    for name in _digits(runs):
        caption = f"KL per character by how far into the completion it is, on {name} digits."
        figure = position_figure(_positions(runs, name), styles)
        pictures[f"drift_{name.replace('+', '_')}"] = picture(figure, f"Drift on {name} digits", caption)
    return pictures


def _digits(runs: Runs) -> list[str]:
    """N, N+1, ..., those that some run has."""
    return sorted({name for seeds in runs.values() for run in seeds for name in run.drift})


def position_figure(lines: Mapping[str, Sequence[Sequence[Part]]], styles: Styles) -> Figure:
    """KL by position. Args: lines: by name the `positions` of each run."""
    figure, axes = new_figure()
    for name, runs in lines.items():
        x = [50 * (part.start + part.end) for part in runs[0]]
        found = over([[part.kl for part in parts] for parts in runs], over_seeds)
        line_with_interval(axes, x, found, name, styles[name], markers=True, of=len(lines))
    spread_out(axes)
    axes.set_xlabel("place in the completion, %")
    axes.set_ylabel("nats per character")
    return figure


def price_figure(runs: Runs, styles: Styles) -> Figure:
    """What each run reached on longer numbers, by how far its policy moved on those that the model knew."""
    figure, axes = new_figure()
    for method, seeds in runs.items():
        moved = [1000 * run.drift["N"].kl for run in seeds]
        reached = [last(run, "eval/accuracy_longer") for run in seeds]
        style = styles[method]
        axes.scatter(moved, reached, s=24, color=style.color, marker=style.marker, alpha=0.8, linewidths=0, label=method)
        for run, (x, y) in enumerate(zip(moved, reached, strict=True)):
            note(axes, x, y, f"{method}, run {run}: {y:.2f} at {x:.3g} nats")
    axes.set_xscale("log")
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("KL per 1,000 characters on N digits, nats")
    axes.set_ylabel("accuracy on longer numbers")
    return figure


def _positions(runs: Runs, digits: str) -> dict[str, list[list[Part]]]:
    """By method the positions of its runs."""
    found = {method: [run.drift[digits].positions for run in seeds if digits in run.drift] for method, seeds in runs.items()}
    return {method: positions for method, positions in found.items() if positions}
