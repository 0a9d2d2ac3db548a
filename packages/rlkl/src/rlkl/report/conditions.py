"""The part of the report on when the place of a penalty matters: the best of two kinds of methods, by successes before."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from rlkl.report.methods import COLUMNS, column_names, difference, final, logged
from rlkl.report.records import Runs
from rlkl_htc_common.report.figures import COLORS, new_figure, note, picture
from rlkl_htc_common.report.page import Picture, Table
from rlkl_htc_common.report.statistics import Interval, share_over_seeds
from rlkl_htc_common.report.styles import SOFT
from rlkl_htc_common.report.tables import MISSING

Conditions = Mapping[str, Mapping[str, Sequence[str]]]
"""By condition and kind, the methods to choose the best one of."""
CONDITIONS_TEXT = (
    "In each condition the best method of each kind is chosen by the runs that are shown, so that both kinds look better than "
    "they would in new runs, by about as much where they have equally many methods."
)


class Compared(NamedTuple):
    """A condition: the share of successes among the first sampled episodes, and the best method of each of two kinds."""

    name: str
    success: Interval
    one: str
    other: str
    gain: Interval | None


def compared(runs: Runs, conditions: Conditions) -> list[Compared]:
    """Every condition, from the fewest successes on."""
    key, found = COLUMNS[1][0], []
    for name, kinds in conditions.items():
        one, other = (max(methods, key=lambda method: final(runs[method], key).mean) for methods in kinds.values())
        success = share_over_seeds([logged(run, "rollout/success")[0][1] for run in runs[one]])
        found.append(Compared(name, success, one, other, difference(runs, one, other, key)))
    return sorted(found, key=lambda each: each.success.mean)


def conditions_table(runs: Runs, conditions: Conditions) -> Table:
    """Condition x successes before, the best method of each kind, and their difference."""
    key, longer = COLUMNS[1][0], column_names(runs)[1]
    one, other = next(iter(conditions.values()))
    rows = []
    for each in compared(runs, conditions):
        reached = [f"{final(runs[method], key)} ({method})" for method in (each.one, each.other)]
        gain = [MISSING, MISSING] if each.gain is None else [f"{each.gain.mean:+.3f}", each.gain.range]
        rows.append([each.name, str(each.success), *reached, *gain])
    return Table(
        columns=["condition", "successes before", f"best {one}", f"best {other}", "difference", "95% interval"],
        rows=rows,
        caption=f"{longer}. Successes before: the share of right answers among the episodes of the first iteration, which are "
        f"sampled before any step. {CONDITIONS_TEXT}",
        texts={2, 3},
    )


def conditions_picture(runs: Runs, conditions: Conditions) -> Picture:
    """`conditions_figure` with its caption."""
    one, other = next(iter(conditions.values()))
    title = f"Best {one} minus best {other}, by successes before"
    caption = f"{title}: the gain in {column_names(runs)[1]}, paired over seeds, with 95% intervals. Each point is a condition."
    return picture(conditions_figure(runs, conditions), title, caption)


def conditions_figure(runs: Runs, conditions: Conditions) -> Figure:
    """The gain of one kind of methods over another against the share of successes before fine-tuning."""
    figure, axes = new_figure()
    one, other = next(iter(conditions.values()))
    axes.axhline(0, color=SOFT, linewidth=0.8)
    for number, each in enumerate(compared(runs, conditions)):
        if each.gain is None:
            continue
        x, y = each.success.mean, each.gain.mean
        if not each.gain.few:
            axes.plot([x, x], [each.gain.low, each.gain.high], color=COLORS[0], linewidth=1.8, solid_capstyle="butt")
        axes.plot([x], [y], marker="o", color=COLORS[0], markersize=6, linestyle="none")
        note(axes, x, y, f"{each.name}: {each.gain.shown('+.3f')} at {x:.3g}")
        above = 1 if number % 2 else -1  # neighbours have their names on different sides
        axes.annotate(each.name, (x, y), (5, 7 * above), textcoords="offset points", fontsize=7, color=SOFT, va="center")
    axes.set_xlabel("successes among the first sampled episodes")
    axes.set_ylabel(f"best {one} minus best {other}")
    return figure
