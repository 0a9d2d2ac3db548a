"""The part of the report on how far fine-tuning moved the policy from the model that it started from, and where."""

from matplotlib.figure import Figure

from common.figures import COLORS, line_with_interval, new_figure, to_svg
from common.report import Picture, Table
from common.statistics import over_seeds
from rlkl.report_methods import CURVES, Runs

DRIFT_TEXT = (
    "On the right completions of 100 problems with varying operands, by teacher forcing, after the last collect. On N digits "
    "this is what fine-tuning did to skills that were there before; on more digits, where it changed what it was meant to.",
)


def drift_table(runs: Runs) -> Table:
    """By method: KL per character, and the share of characters where another is the likeliest now."""
    digits = _digits(runs)
    rows = []
    for method, seeds in runs.items():
        row = [method]
        for name in digits:
            found = [run["drift"][name] for run in seeds if name in run["drift"]]
            for key, scale in (("kl", 1000), ("changed", 100)):
                row.append(str(over_seeds([scale * values[key] for values in found])) if found else "–")
        rows.append(row)
    columns = [f"{name}: {what}" for name in digits for what in ("KL per 1,000 characters", "likeliest character changed, %")]
    return Table(["method", *columns], rows, "Drift from the model before fine-tuning: exact KL(policy || before), in nats.")


def drift_pictures(runs: Runs) -> dict[str, Picture]:
    """Where in the completion the policy moved."""
    return {
        f"drift_{name.replace('+', '_')}": Picture(
            to_svg(_by_position(runs, name)), f"KL per character by how far into the completion it is, on {name} digits."
        )
        for name in _digits(runs)
    }


def _digits(runs: Runs) -> list[str]:
    """N, N+1, ..., those that some run has."""
    return sorted({name for seeds in runs.values() for run in seeds for name in run["drift"]})


def _by_position(runs: Runs, digits: str) -> Figure:
    figure, axes = new_figure()
    for index, (method, seeds) in enumerate(list(runs.items())[:CURVES]):
        positions = [run["drift"][digits]["positions"] for run in seeds if digits in run["drift"]]
        if positions:
            x = [50 * (part["start"] + part["end"]) for part in positions[0]]
            line_with_interval(axes, x, [[part["kl"] for part in parts] for parts in positions], method, COLORS[index], "o")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("place in the completion, %")
    axes.set_ylabel("nats per character")
    axes.legend(fontsize=8)
    return figure
