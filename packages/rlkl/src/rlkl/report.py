"""The report on a reproduction: where the model starts, and what each KL penalty makes of it."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common.figures import COLORS, line_with_interval, new_figure, to_svg
from common.report import Picture, Section, Table, markdown_table, write_report
from common.runs import write_atomically
from common.statistics import Interval, over_seeds
from rlkl.scratchpad_view import to_html
from rlkl.tasks import task_named

LABELS = {
    "none": "no KL",
    "standard": "standard KL",
    "prioritized": "prioritized KL",
    "matched_mean": "uniform KL, matched mean",
}
COLUMNS = (
    ("eval/accuracy_N", "N accuracy"),
    ("eval/accuracy_longer", "N+1 accuracy"),
    ("critical/comma", "probability on critical commas"),
    ("critical/lists", "probability of copying all operand lists"),
)
SMOOTHED = 5  # collects that the curve of successes is averaged over

COMMAS_TEXT = (
    "The probability of the right character at the comma before digit N+1 of a list (figure 7), measured on the same problems "
    "throughout, with the right text before it."
)

Runs = dict[str, list[dict[str, Any]]]  # by penalty, the results of its seeds


def summarize(start: dict[str, Any], results: list[dict[str, Any]]) -> dict[str, Any]:
    """Gather what the report shows.

    Args:
        start: what `rlkl.evaluate.evaluate` says about the model that all runs start from.
        results: result.json of each run; every penalty with the same seeds in the same order.

    Returns:
        `start`, `seeds`, and `penalties`: by penalty the list over seeds of what was logged.
    """
    penalties: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        run = {"history": result["history"], "wall_seconds": result["wall_seconds"], "run_dir": result["run_dir"]}
        penalties.setdefault(result["penalty"], []).append(run)
    return {
        "start": start,
        "trained_digits": results[0]["trained_digits"],
        "digits": results[0]["digits"],
        "seeds": list(dict.fromkeys(result["seed"] for result in results)),
        "penalties": penalties,
        "git_commit": results[0]["git_commit"],
        "versions": results[0]["versions"],
    }


def write_rl_report(output: Path, title: str, summary: dict[str, Any], command: str) -> Path:
    """Write report.html, table.md and one SVG per figure into a folder. Returns: the report."""
    runs: Runs = summary["penalties"]
    extra = summary["digits"] - summary["trained_digits"]
    main_table = result_table(runs, before_finetuning(summary), extra)
    figures = {
        "success": (
            _success_figure(runs),
            f"Right answers among the sampled episodes, averaged over {SMOOTHED} collects.",
        ),
        "accuracy_longer": (
            _history_figure(runs, "eval/accuracy_longer", f"accuracy on N+{extra} digits"),
            f"Greedy accuracy on varying operands of N+{extra} digits during fine-tuning (figure 4, top).",
        ),
        "critical_commas": (
            _history_figure(runs, "critical/comma", "probability of the comma"),
            "Probability that the policy gives to the critical commas, by teacher forcing (figure 4, bottom).",
        ),
        "operand_lists": (
            _history_figure(runs, "critical/lists", "probability"),
            "Probability that the policy copies every operand list of a problem right, by teacher forcing.",
        ),
        "retention": (
            _history_figure(runs, "eval/accuracy_N", "accuracy on N digits"),
            "What becomes of the skill that was there before: accuracy on varying operands of N digits.",
        ),
        "weights": (_weights_figure(runs), "Weights of the KL, over all tokens and collects: share of tokens in each tenth."),
        "accuracy_by_digits": (_digits_figure(summary["start"]), "Accuracy before fine-tuning, with 95% bootstrap intervals."),
    }
    pictures = {name: Picture(to_svg(figure), caption) for name, (figure, caption) in figures.items() if figure is not None}
    commas = _commas_figures(runs)
    for name, picture in (pictures | commas).items():
        write_atomically(output / f"{name}.svg", picture.svg)
    write_atomically(output / "table.md", markdown_table(main_table) + "\n")
    curves = [pictures[name] for name in ("success", "accuracy_longer", "critical_commas", "operand_lists", "retention")]
    sections = [
        Section("The result", findings(runs, extra), [main_table, comparison_table(runs, extra)], curves),
        Section("Critical commas, one by one", [COMMAS_TEXT], [], list(commas.values())),
        Section("The weights", _weights_text(runs), [], [pictures["weights"]] if "weights" in pictures else []),
        _start_section(summary["start"], pictures["accuracy_by_digits"]),
        Section(
            "Scratchpads",
            [
                "What the model writes before fine-tuning: the stronger the colour, the less certain it was of the character; "
                "boxes are critical tokens; the first wrong character is underlined."
            ],
            [],
            [
                Picture(to_html(pad), "right answer" if pad["right"] else "wrong answer", wide=True)
                for pad in summary["start"]["scratchpads"]
            ],
        ),
    ]
    file = output / "report.html"
    write_report(file, title, _lead(summary), sections, _facts(summary, command))
    return file


def _lead(summary: dict[str, Any]) -> str:
    count, plural = len(summary["seeds"]), task_named(summary["start"]["task"]).PLURAL
    over = f"the mean over {count} seeds with its 95% interval (Student t)" if count > 1 else "from one seed"
    return (
        f"A model pre-trained on {plural} of up to {summary['trained_digits']} digits is fine-tuned by reinforcement learning "
        f"on {summary['digits']} digits, with several KL penalties to the model as it was. What fine-tuning reaches is {over}."
    )


def _facts(summary: dict[str, Any], command: str) -> list[tuple[str, str]]:
    seconds = [run["wall_seconds"] for runs in summary["penalties"].values() for run in runs]
    return [
        ("command", command),
        ("starting model", f"{summary['start']['model']} ({summary['start']['fingerprint']})"),
        ("commit", str(summary["git_commit"])),
        ("versions", ", ".join(f"{name} {version}" for name, version in summary["versions"].items())),
        ("seeds", ", ".join(map(str, summary["seeds"]))),
        (
            "time",
            f"{summary['wall_seconds'] / 60:.1f} minutes, without what was done before; a run takes {np.mean(seconds):.0f} s",
        ),
    ]


def _logged(run: dict[str, Any], key: str) -> list[tuple[int, float]]:
    return [(line["step"], line[key]) for line in run["history"] if line.get(key) is not None]


def _final(runs: list[dict[str, Any]], key: str) -> Interval:
    return over_seeds([_logged(run, key)[-1][1] for run in runs])


def _cell(interval: Interval) -> str:
    return f"{interval.mean:.3f}" if interval.values == 1 else f"{interval.mean:.3f} ± {interval.half_width:.3f}"


def before_finetuning(summary: dict[str, Any]) -> dict[str, float]:
    """The columns of the result for the model that all runs start from, its accuracies on many problems."""
    first = next(iter(summary["penalties"].values()))[0]["history"][0]
    varying = {row["digits"]: row["accuracy"] for row in summary["start"]["rows"] if row["operands"] == "varying"}
    accuracies = {
        "eval/accuracy_N": varying[summary["trained_digits"]],
        "eval/accuracy_longer": varying.get(summary["digits"], first["eval/accuracy_longer"]),
    }
    return first | accuracies


def result_table(runs: Runs, before: dict[str, float], extra: int = 1) -> Table:
    """Penalty x {N accuracy, accuracy on more digits, probability on critical commas}, after fine-tuning and before."""
    first = ["before", *(f"{before[key]:.3f}" for key, _ in COLUMNS), "-"]
    rows = []
    means = []
    for penalty, seeds in runs.items():
        columns = [_final(seeds, key) for key, _ in COLUMNS]
        success = over_seeds([_last_successes(run) for run in seeds])
        rows.append([LABELS.get(penalty, penalty), *map(_cell, [*columns, success])])
        means.append([interval.mean for interval in [*columns, success]])
    best = {(1 + int(np.argmax(column)), 1 + index) for index, column in enumerate(zip(*means, strict=True))}
    return Table(
        columns=["penalty", *(name.replace("N+1", f"N+{extra}") for _, name in COLUMNS), "success of sampled episodes"],
        rows=[first, *rows],
        caption="Greedy accuracy on varying operands after the last collect; successes over the last five. Best: stressed.",
        best=best,
    )


def _last_successes(run: dict[str, Any]) -> float:
    return float(np.mean([value for _, value in _logged(run, "rollout/success")][-SMOOTHED:]))


def compare(runs: Runs, better: str, worse: str, key: str) -> Interval | None:
    """The difference between two penalties after fine-tuning, paired over seeds; None where it cannot be told."""
    if better not in runs or worse not in runs or len(runs[better]) < 2:
        return None
    pairs = zip(runs[better], runs[worse], strict=True)
    return over_seeds([_logged(a, key)[-1][1] - _logged(b, key)[-1][1] for a, b in pairs])


def findings(runs: Runs, extra: int = 1) -> list[str]:
    """The paper's expectation about accuracy on more digits, held against paired differences."""
    key, name = COLUMNS[1][0], COLUMNS[1][1].replace("N+1", f"N+{extra}")
    sentences = [
        f"{name}: prioritized KL is {verdict(difference)} {LABELS[other]}, by {difference.mean:+.3f} (95% interval "
        f"{_range(difference)}, paired over {difference.values} seeds)."
        for other, difference in _differences(runs, key)
    ]
    if sentences:
        sentences.append(
            "Intervals hold the luck of RL, from one pre-trained model and on one set of test problems. Each stands for "
            "itself: of twenty comparisons one is expected to miss by chance."
        )
    return sentences


def verdict(difference: Interval) -> str:
    """What a difference's interval tells."""
    return "above" if difference.low > 0 else "below" if difference.high < 0 else "not told apart from"


def _differences(runs: Runs, key: str) -> list[tuple[str, Interval]]:
    pairs = [(other, compare(runs, "prioritized", other, key)) for other in runs if other != "prioritized"]
    return [(other, difference) for other, difference in pairs if difference is not None]


def comparison_table(runs: Runs, extra: int = 1) -> Table:
    """How the prioritized penalty differs from each other one, in everything that the result's table shows."""
    rows = [
        [name.replace("N+1", f"N+{extra}"), LABELS[other], f"{difference.mean:+.3f}", _range(difference), verdict(difference)]
        for key, name in COLUMNS
        for other, difference in _differences(runs, key)
    ]
    caption = "Prioritized KL against the others, paired over seeds."
    return Table(["", "against", "difference", "95% interval", "prioritized KL is"], rows, caption)


def _range(interval: Interval) -> str:
    return f"{interval.low:+.3f} to {interval.high:+.3f}"


def _history_figure(runs: Runs, key: str, label: str) -> Figure:
    figure, axes = new_figure()
    for index, (penalty, seeds) in enumerate(runs.items()):
        x = [step for step, _ in _logged(seeds[0], key)]
        curves = [[value for _, value in _logged(run, key)] for run in seeds]
        line_with_interval(axes, x, curves, LABELS.get(penalty, penalty), COLORS[index], marker="o")
    axes.set_xlabel("collects")
    axes.set_ylabel(label)
    _within_probabilities(axes)
    axes.legend(fontsize=9)
    return figure


def _within_probabilities(axes: Axes) -> None:
    """Bands of few seeds may reach beyond 0 and 1; the axis does not."""
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, -0.02), min(high, 1.02))


def _success_figure(runs: Runs) -> Figure:
    figure, axes = new_figure()
    for index, (penalty, seeds) in enumerate(runs.items()):
        curves = [[value for _, value in _logged(run, "rollout/success")] for run in seeds]
        window = min(SMOOTHED, len(curves[0]))
        smooth = [np.convolve(curve, np.ones(window) / window, mode="valid").tolist() for curve in curves]
        x = list(range(window, len(curves[0]) + 1))
        line_with_interval(axes, x, smooth, LABELS.get(penalty, penalty), COLORS[index])
    axes.set_xlabel("collects")
    axes.set_ylabel("success of sampled episodes")
    _within_probabilities(axes)
    axes.legend(fontsize=9)
    return figure


def _commas_figures(runs: Runs) -> dict[str, Picture]:
    """One figure for each critical comma (figure 7): scratchpad line and operand."""
    keys = sorted(key for key in next(iter(runs.values()))[0]["history"][0] if key.startswith("critical/comma_"))
    pictures = {}
    for key in keys:
        step, operand = key.removeprefix("critical/comma_step").split("_operand")
        caption = f"The comma before digit N+1 in scratchpad line {step}, operand {operand}."
        picture = Picture(to_svg(_history_figure(runs, key, "probability of the comma")), caption)
        pictures[key.replace("critical/", "critical_")] = picture
    return pictures


def _weights_figure(runs: Runs) -> Figure | None:
    if "prioritized" not in runs:
        return None
    figure, axes = new_figure()
    keys = sorted(key for key in runs["prioritized"][0]["history"][1] if key.startswith("weights/share_"))
    shares = [np.mean([value for run in runs["prioritized"] for _, value in _logged(run, key)]) for key in keys]
    axes.bar(np.arange(len(keys)) / len(keys) + 0.5 / len(keys), shares, 0.9 / len(keys), color=COLORS[0])
    axes.set_yscale("log")
    axes.set_xlabel("weight of the KL, J^beta")
    axes.set_ylabel("share of tokens")
    return figure


def _weights_text(runs: Runs) -> list[str]:
    means = {name: over_seeds([_logged(run, "weights/mean")[0][1] for run in seeds]) for name, seeds in runs.items()}
    cells = "; ".join(f"{LABELS.get(name, name)} {_cell(mean)}" for name, mean in means.items())
    return [f"Mean weight in the first collect: {cells}."]


def _digits_figure(start: dict[str, Any]) -> Figure:
    figure, axes = new_figure()
    for index, kind in enumerate(dict.fromkeys(row["operands"] for row in start["rows"])):
        rows = [row for row in start["rows"] if row["operands"] == kind]
        means = np.array([row["accuracy"] for row in rows])
        bars = [means - [row["low"] for row in rows], [row["high"] for row in rows] - means]
        digits = [row["digits"] for row in rows]
        axes.errorbar(digits, means, bars, marker="o", capsize=3, color=COLORS[index], label=f"{kind} operands")
        axes.set_xticks(digits)
    axes.set_xlabel("digits")
    axes.set_ylabel("accuracy")
    axes.legend(fontsize=9)
    return figure


def _start_section(start: dict[str, Any], picture: Picture) -> Section:
    tables = [_accuracy_table(start), _errors_table(start), _certainty_table(start), _unsure_table(start)]
    return Section("The starting point", [], tables, [picture])


def _accuracy_table(start: dict[str, Any]) -> Table:
    trained = start["trained_digits"]
    rows = []
    for row in start["rows"]:
        beyond = row["digits"] - trained
        shares = [f"{row[key]:.0%}" if row["wrong"] else "-" for key in ("critical", "operand_lists")]
        interval = f"{row['low']:.3f} to {row['high']:.3f}"
        name = f"{row['digits']} (N{beyond:+d})" if beyond else f"{trained} (N)"
        rows.append([row["operands"], name, f"{row['accuracy']:.3f}", interval, str(row["wrong"]), *shares])
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
            f"The model before fine-tuning, {start['examples']:,} problems a row, and where it errs (tables 4, 5). "
            f"Where all are wrong, resampling cannot tell how sure that is: up to {3 / start['examples']:.3f} may be right."
        ),
    )


def _errors_table(start: dict[str, Any]) -> Table:
    longer = [row for row in start["rows"] if row["digits"] == start["trained_digits"] + 1]
    rows = []
    for row in longer:
        by_field: dict[str, int] = {}
        for place in row["fields"]:
            by_field[place["field"]] = by_field.get(place["field"], 0) + place["count"]
        often = sorted(by_field.items(), key=lambda item: -item[1])
        rows += [[row["operands"], name, str(count), f"{count / row['wrong']:.0%}"] for name, count in often]
    return Table(
        ["operands", "first wrong character is in", "answers", "share"], rows, "Where wrong answers on N+1 digits begin."
    )


def _certainty_table(start: dict[str, Any]) -> Table:
    names = {"critical": "critical tokens", "operand lists": "other characters of the operand lists"}
    gaps = start["certainty"]["gaps"]
    return Table(
        columns=["characters", "certainty against all others"],
        rows=[[names[name], f"{gap['mean']:+.4f} ± {gap['deviation']:.4f}"] for name, gap in gaps.items()],
        caption=f"Certainty gap on {start['certainty']['problems']} problems of N+1 digits: mean and deviation (table 1).",
    )


def _unsure_table(start: dict[str, Any]) -> Table:
    rows = [
        [place["field"], str(place["step"]) if place["step"] else "-", f"{place['certainty']:.4f}"]
        for place in start["certainty"]["places"][:8]
    ]
    return Table(["characters", "scratchpad line", "mean certainty"], rows, "Where the model is least certain on N+1 digits.")
