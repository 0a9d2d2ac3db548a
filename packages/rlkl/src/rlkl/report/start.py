"""The part of the report on a model before fine-tuning: how well it calculates, where it errs, and where it is unsure."""

from matplotlib.figure import Figure

from rlkl.report.records import Start
from rlkl.report.scratchpad_view import to_html
from rlkl_htc_common.report.figures import legend, line, new_figure, picture
from rlkl_htc_common.report.page import Picture, Section, Table
from rlkl_htc_common.report.styles import styles_of

SCRATCHPADS_TEXT = (
    "What the model writes before fine-tuning: the stronger the colour, the less certain it was of the character; boxes are "
    "critical tokens; the first wrong character is underlined."
)

GAPS = {
    "critical": "critical tokens",
    "operand lists": "other characters of the operand lists",
    "lowest": "the least certain others of one field and line",
}


def scratchpads_section(start: Start, *, folded: bool = False) -> Section:
    """A few of a model's scratchpads, coloured."""
    pads = [Picture(to_html(pad), "right answer" if pad["right"] else "wrong answer") for pad in start.scratchpads]
    return Section(f"Scratchpads of {start.model}", [SCRATCHPADS_TEXT], [], pads, folded=folded)


def start_section(start: Start) -> Section:
    """What is known of a model that runs start from."""
    tables = [_accuracy_table(start), _errors_table(start), _certainty_table(start), _unsure_table(start)]
    return Section(f"Before fine-tuning: {start.model}", [], tables, [digits_picture({start.model: start})], folded=True)


def digits_picture(starts: dict[str, Start]) -> Picture:
    """`digits_figure` with its caption."""
    caption = (
        "Accuracy before fine-tuning by digits beyond those of training (the paper's figure 2), with 95% bootstrap intervals."
    )
    return picture(digits_figure(starts), "Accuracy before fine-tuning", caption)


def digits_figure(starts: dict[str, Start]) -> Figure:
    """Accuracy by digits beyond those of training: a line for each model, which has a colour, and each kind of operands."""
    figure, axes = new_figure()
    named = [(name, kind) for name in starts for kind in _kinds(starts[name])]
    labels = [f"{kind} operands" if len(starts) == 1 else f"{_level(name, starts[name])}, {kind}" for name, kind in named]
    for (name, kind), label, style in zip(named, labels, styles_of(labels).values(), strict=True):
        start = starts[name]
        rows = [row for row in start.rows if row.operands == kind]
        beyond = [row.digits - start.trained_digits for row in rows]
        axes.vlines(beyond, [row.low for row in rows], [row.high for row in rows], color=style.color, linewidth=1.4)
        line(axes, beyond, [row.accuracy for row in rows], label, style, markers=True)
    ticks = sorted({row.digits - start.trained_digits for start in starts.values() for row in start.rows})
    axes.set_xticks(ticks, [_beyond(digits) for digits in ticks])
    axes.set_xlabel("digits")
    axes.set_ylabel("accuracy")
    legend(axes)
    return figure


def _kinds(start: Start) -> list[str]:
    return list(dict.fromkeys(row.operands for row in start.rows))


def _beyond(digits: int) -> str:
    return f"N{digits:+d}" if digits else "N"


def _level(name: str, start: Start) -> str:
    """A model in the tables of several: its task is named where it is not addition."""
    task = "" if start.task == "addition" else f" {start.task}"
    return f"N = {start.trained_digits}{task} ({name})"


def levels_table(starts: dict[str, Start]) -> Table:
    """The accuracies of several models, with their intervals (tables 4 and 5)."""
    beyond = sorted({row.digits - start.trained_digits for start in starts.values() for row in start.rows})
    rows = []
    for name, start in starts.items():
        for kind in _kinds(start):
            found = {row.digits - start.trained_digits: row for row in start.rows if row.operands == kind}
            cells = [f"{r.accuracy:.3f} ({r.low:.3f} to {r.high:.3f})" if (r := found.get(k)) else "–" for k in beyond]
            rows.append([_level(name, start), kind, *cells])
    examples = " or ".join(sorted({f"{start.examples:,}" for start in starts.values()}))
    caption = (
        f"Accuracy before fine-tuning, {examples} problems each, with 95% bootstrap intervals (tables 4 and 5); "
        "–: longer than the model has positions for."
    )
    return Table(["model", "operands", *map(_beyond, beyond)], rows, caption, texts={1})


def certainty_levels_table(starts: dict[str, Start]) -> Table:
    """How much less certain models are of critical tokens than of others (table 1)."""
    kinds = list(dict.fromkeys(name for start in starts.values() for name in start.certainty.gaps))
    rows = []
    for name, start in starts.items():
        gaps = start.certainty.gaps
        cells = [f"{gap.mean:+.4f} ± {gap.deviation:.4f}" if (gap := gaps.get(kind)) else "–" for kind in kinds]
        rows.append([_level(name, start), *cells])
    return Table(
        ["model", *(GAPS[kind] for kind in kinds)],
        rows,
        "Certainty against that of all other characters, on N+1 digits: mean and deviation over problems (table 1).",
    )


def _accuracy_table(start: Start) -> Table:
    trained = start.trained_digits
    rows = []
    for row in start.rows:
        beyond = row.digits - trained
        shares = [f"{share:.0%}" if row.wrong else "-" for share in (row.critical, row.operand_lists)]
        interval = f"{row.low:.3f} to {row.high:.3f}"
        name = f"{row.digits} (N{beyond:+d})" if beyond else f"{trained} (N)"
        rows.append([row.operands, name, f"{row.accuracy:.3f}", interval, str(row.wrong), *shares])
    return Table(
        columns=[
            "operands",
            "digits",
            "accuracy",
            "95% interval",
            "wrong",
            "begin at a critical token",
            "begin in an operand list",
        ],
        rows=rows,
        caption=(
            f"The model before fine-tuning, {start.examples:,} problems a row, and where it errs (tables 4, 5). "
            f"Where all are wrong, resampling cannot tell how sure that is: up to {3 / start.examples:.3f} may be right."
        ),
    )


def _errors_table(start: Start) -> Table:
    longer = [row for row in start.rows if row.digits == start.trained_digits + 1]
    rows = []
    for row in longer:
        by_field: dict[str, int] = {}
        for place in row.fields:
            by_field[place.field] = by_field.get(place.field, 0) + place.count
        often = sorted(by_field.items(), key=lambda item: -item[1])
        rows += [[row.operands, name, str(count), f"{count / row.wrong:.0%}"] for name, count in often]
    return Table(
        ["operands", "first wrong character is in", "answers", "share"], rows, "Where wrong answers on N+1 digits begin."
    )


def _certainty_table(start: Start) -> Table:
    gaps = start.certainty.gaps
    return Table(
        columns=["characters", "certainty against all others"],
        rows=[[GAPS[name], f"{gap.mean:+.4f} ± {gap.deviation:.4f}"] for name, gap in gaps.items()],
        caption=f"Certainty gap on {start.certainty.problems} problems of N+1 digits: mean and deviation (table 1).",
    )


def _unsure_table(start: Start) -> Table:
    rows = [
        [place.field, str(place.step) if place.step else "-", f"{place.certainty:.4f}"] for place in start.certainty.places[:8]
    ]
    return Table(["characters", "scratchpad line", "mean certainty"], rows, "Where the model is least certain on N+1 digits.")
