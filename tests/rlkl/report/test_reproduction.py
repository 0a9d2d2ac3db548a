"""The sentences and tables of the report, on numbers that are known."""

from dataclasses import replace

import numpy as np
import pytest

from rlkl.report.conditions import compared, conditions_figure, conditions_table
from rlkl.report.curves import axis_figure, weights_figure, weights_pictures
from rlkl.report.drift import drift_pictures, drift_table
from rlkl.report.methods import (
    COLUMNS,
    before_finetuning,
    comparison_table,
    curves_table,
    difference,
    findings,
    measured,
    result_table,
    steps_table,
)
from rlkl.report.pools import pools_table
from rlkl.report.records import Axis, Evaluation, Run, Start
from rlkl.report.start import certainty_levels_table, digits_figure, levels_table
from rlkl.report.verdict import of_conditions
from rlkl_htc_common.report.records import read_record
from rlkl_htc_common.report.styles import styles_of

LONGER = "eval/accuracy_longer"
GREEDY = {"operands": "varying", "temperature": 0.0, "examples": 100}
POSITIONS = [{"start": 0.0, "end": 0.5, "kl": 0.003, "tokens": 9}, {"start": 0.5, "end": 1.0, "kl": 0.001, "tokens": 9}]


def run(longer, success=0.5, shares=(0.0, 1.0), kl=0.002):
    first = {"step": 0, **{key: 0.1 for key, _ in COLUMNS}}
    weights = {f"weights/share_{number}": share for number, share in enumerate(shares)}
    middle = {"step": 1, "rollout/success": 0.0, **weights}
    last = {"step": 2, **{key: 0.9 for key, _ in COLUMNS}, LONGER: longer, "rollout/success": success, **weights}
    drift = {name: {"kl": kl, "changed": 0.01, "positions": POSITIONS} for name in ("N", "N+2")}
    facts = {"trained_digits": 5, "digits": 7, "model": "m", "evaluation": GREEDY}
    return read_record(Run, {"history": [first, middle, last], "drift": drift, **facts}, "a run")


RUNS = {
    "standard KL": [run(0.2), run(0.3), run(0.25)],
    "prioritized KL": [run(0.6), run(0.72), run(0.64)],
    "matched mean": [run(0.7), run(0.6), run(0.66)],
}
PAIRS = [["prioritized KL", "standard KL"], ["prioritized KL", "matched mean"]]


def test_differences_are_paired_over_seeds():
    found = difference(RUNS, "prioritized KL", "standard KL", LONGER)
    assert found.mean == pytest.approx((0.4 + 0.42 + 0.39) / 3)
    assert found.low > 0.3
    assert difference({name: runs[:1] for name, runs in RUNS.items()}, *PAIRS[0], LONGER) is None


def test_findings_say_what_is_significant():
    sentences = findings(RUNS, PAIRS)
    assert sentences[0].startswith("N+2 accuracy: prioritized KL is above standard KL, by +0.403")
    assert sentences[1].startswith("N+2 accuracy: prioritized KL is not significantly different from matched mean, by +0.000")
    assert findings({name: runs[:1] for name, runs in RUNS.items()}, PAIRS) == []


def test_every_difference_is_in_the_table():
    table = comparison_table(RUNS, PAIRS)
    assert len(table.rows) == 2 * len(COLUMNS)
    assert ["prioritized KL", "above", "standard KL", "+0.403", "+0.365 to +0.441", "N+2 accuracy"] in table.rows
    same = ["prioritized KL", "not significantly different from", "standard KL", "+0.000", "+0.000 to +0.000", "N accuracy"]
    assert same in table.rows
    assert [table.rows[row][-1] for row in table.shown] == ["N+2 accuracy"] * 2


def test_the_table_holds_the_means_and_marks_the_best():
    table = result_table(RUNS)
    assert table.columns[2] == "N+2 accuracy"
    assert table.rows[0] == ["before", "0.100", "0.100", "0.100", "0.100", "–"]
    assert "on the same 100 problems: greedy accuracy on varying operands;" in table.caption
    assert [row[0] for row in table.rows[1:]] == list(RUNS)
    assert [row[2].split(" ")[0] for row in table.rows[1:]] == ["0.250", "0.653", "0.653"]
    assert (2, 2) in table.best or (3, 2) in table.best
    assert (1, 2) not in table.best
    assert {(1, 1), (2, 1), (3, 1)} <= table.best  # all as good


def test_what_was_before_was_measured_on_what_comes_after():
    assert before_finetuning(RUNS) == {"before": pytest.approx([0.1] * 4)}
    others = {"another": [replace(run(0.2), model="n")], **RUNS}
    assert list(before_finetuning(others)) == ["before: n", "before: m"]
    sampled = Evaluation("training_mix", 2.0, 100)
    changed = [replace(run(0.2), evaluation=sampled), replace(run(0.2), evaluation=sampled)]
    changed[0].history[0][LONGER] = 0.3
    found = before_finetuning({"sampled": changed, **RUNS})
    assert list(found) == ["before: sampled", "before: standard KL | prioritized KL | matched mean"]
    assert found["before: sampled"] == pytest.approx([0.1, 0.2, 0.1, 0.1])
    farther = {"farther": [replace(run(0.2), digits=8)], "near": [run(0.2)]}
    assert list(before_finetuning(farther)) == ["before: farther", "before: near"]
    both = "accuracy at temperature 2 on the training mix or greedy accuracy on varying operands"
    assert measured({"sampled": changed, **RUNS}).split(" or ") == both.split(" or ")


def test_the_histogram_is_of_a_method_whose_weights_differ():
    assert weights_pictures(RUNS, styles_of(RUNS)) == {}
    runs = RUNS | {"shuffled": [run(0.2, shares=(0.25, 0.75))]}
    pictures = weights_pictures(runs, styles_of(runs))
    assert "shuffled: 25.00%" in pictures["weights"].svg
    assert not any(f"{name}: " in pictures["weights"].svg for name in RUNS)
    (outline,) = weights_figure({"shuffled": runs["shuffled"]}, styles_of(runs)).axes[0].patches
    assert outline.get_data().values.tolist() == [0.25, 0.75]


def test_against_an_axis_a_line_goes_through_methods_by_their_value():
    runs = {"b": [run(0.4), run(0.6)], "a": [run(0.2), run(0.3)], "c": [run(0.8), run(0.8)], "d": [run(0.1), run(0.1)]}
    curves = axis_figure(runs, Axis("penalty.alpha", {"b": {"b": 5.0, "a": 1.0}})).axes[0].lines
    assert len(curves) == len(COLUMNS)
    assert curves[1].get_xydata() == pytest.approx(np.array([[1.0, 0.25], [5.0, 0.5]]))
    axes = axis_figure(runs, Axis("penalty.alpha", {"one": {"b": 5.0, "a": 1.0}, "other": {"c": 0.02, "d": 0.5}})).axes[0]
    known, longer, _, longer_of_other = axes.lines
    assert known.get_ydata().tolist() == pytest.approx([0.9, 0.9])
    assert longer.get_xydata() == pytest.approx(np.array([[1.0, 0.25], [5.0, 0.5]]))
    assert longer_of_other.get_xydata() == pytest.approx(np.array([[0.02, 0.8], [0.5, 0.1]]))
    assert [text.get_text() for text in axes.get_legend().get_texts()][1::2] == ["one: N+2 accuracy", "other: N+2 accuracy"]
    assert axes.get_xscale() == "symlog"


def test_pools_put_the_seeds_of_all_models_together():
    runs = {"a, ours": [run(0.9), run(0.8)], "b, ours": [run(0.5), run(0.6)], "a, other": [run(0.1), run(0.2)]}
    runs["b, other"] = [run(0.55), run(0.4)]
    table = pools_table(runs, {"ours": ["a, ours", "b, ours"], "other": ["a, other", "b, other"]})
    assert [row[0] for row in table.rows] == ["ours", "other"]
    assert table.rows[0][2].startswith("0.700 (")
    assert table.rows[0][3] == "–"
    assert table.rows[1][3].startswith("0.875 (")  # all of a, three of four pairs of b


def test_what_each_step_gains():
    table = steps_table(RUNS, ["standard KL", "matched mean", "prioritized KL"])
    assert [row[0] for row in table.rows] == [
        "standard KL → matched mean",
        "matched mean → prioritized KL",
        "standard KL → prioritized KL",
    ]
    assert [row[1] for row in table.rows] == ["+0.403", "+0.000", "+0.403"]
    assert [row[3] for row in table.rows] == ["100%", "0%", "100%"]
    assert [row[3] for row in steps_table(RUNS, ["matched mean", "prioritized KL"]).rows] == ["–", "–"]


def test_drift_by_method():
    runs = {"one": [run(0.2, kl=0.001), run(0.3, kl=0.003)], "another": [run(0.2, kl=0.004)]}
    table = drift_table(runs)
    assert [name.split(":")[0] for name in table.columns[1:]] == ["N", "N", "N+2", "N+2"]
    assert table.rows[0][1] == "1.000, 3.000"
    assert table.rows[1][1:] == ["4.000", "1.000", "4.000", "1.000"]
    pictures = drift_pictures(runs, styles_of(runs))
    assert list(pictures) == ["drift_price", "drift_N", "drift_N_2"]
    assert "another, run 0: 0.20 at 4 nats" in pictures["drift_price"].svg


def test_findings_of_many_comparisons_are_gathered():
    runs = {"ours": [run(0.5), run(0.52), run(0.48)]}
    runs |= {f"other {i}": [run(i / 10), run(i / 10 + 0.02), run(i / 10 - 0.01)] for i in range(9)}
    said = findings(runs, [["ours", f"other {i}"] for i in range(9)])
    assert said[0].endswith("ours is above other 0 | other 1 | other 2 | other 3 | other 4.")
    assert [sentence.split(" other ")[0].rpartition(": ")[2] for sentence in said[1:]] == [
        "ours is not significantly different from",
        "ours is below",
    ]
    assert len(findings(runs, [["ours", "other 1"]])) == 1


def test_starting_models_side_by_side():
    def start(model, trained, accuracies, task="addition"):
        rows = [
            {"operands": "varying", "digits": trained + k, "accuracy": a, "low": a - 0.05, "high": a + 0.05}
            for k, a in enumerate(accuracies)
        ]
        gaps = {"critical": {"mean": -0.2, "deviation": 0.1}}
        facts = {"model": model, "task": task, "trained_digits": trained, "examples": 50}
        return read_record(Start, {**facts, "rows": rows, "certainty": {"gaps": gaps}}, model)

    starts = {"a": start("a", 3, [0.9, 0.5]), "b": start("b", 5, [0.8, 0.4, 0.1], "subtraction")}
    table = levels_table(starts)
    assert table.columns == ["model", "operands", "N", "N+1", "N+2"]
    assert table.rows[0] == ["N = 3 (a)", "varying", "0.900 (0.850 to 0.950)", "0.500 (0.450 to 0.550)", "–"]
    assert table.rows[1][0] == "N = 5 subtraction (b)"
    assert certainty_levels_table(starts).rows[0] == ["N = 3 (a)", "-0.2000 ± 0.1000"]
    figure = digits_figure(starts)
    assert [label.get_text() for label in figure.axes[0].get_legend().get_texts()] == [
        "N = 3 (a), varying",
        "N = 5 subtraction (b), varying",
    ]


def test_curves_as_numbers():
    table = curves_table(RUNS)
    assert [row[0] for row in table.rows] == list(RUNS)
    ours = table.rows[1]
    assert ours[1].startswith("0.653 (0.6")  # fewer than four scores are all kept
    assert ours[2].startswith("0.377 ±")  # from .1 to .6, .72 and .64
    assert ours[3] == f"{2 * 0.4 / (0.64 - 0.1):.1f}"  # of three seeds the second to reach one half
    assert ours[4] == "100%"
    assert table.rows[0][3:] == ["never", "0%"]


def of_first(success, longer):
    """A run whose first episodes succeed so often, and that ends at this accuracy."""
    made = run(longer)
    return replace(made, history=[made.history[0], {**made.history[1], "rollout/success": success}, *made.history[2:]])


OF_CONDITIONS = {
    "easy, p": [of_first(s, y) for s, y in ((0.4, 0.9), (0.6, 0.8), (0.5, 0.85))],
    "easy, s": [of_first(s, y) for s, y in ((0.4, 0.91), (0.6, 0.79), (0.5, 0.86))],
    "rare, p weak": [of_first(0.0, y) for y in (0.1, 0.0, 0.2)],
    "rare, p": [of_first(s, y) for s, y in ((0.0, 0.5), (0.02, 0.45), (0.01, 0.55))],
    "rare, s": [of_first(s, y) for s, y in ((0.0, 0.1), (0.02, 0.05), (0.01, 0.05))],
}
CONDITIONS = {
    "easy": {"prioritized": ["easy, p"], "standard": ["easy, s"]},
    "rare": {"prioritized": ["rare, p weak", "rare, p"], "standard": ["rare, s"]},
}


def test_conditions_are_in_the_order_of_their_successes_each_with_its_best_methods():
    rare, easy = compared(OF_CONDITIONS, CONDITIONS)
    assert (rare.name, rare.one, rare.other) == ("rare", "rare, p", "rare, s")
    assert (rare.success.mean, easy.success.mean) == pytest.approx((0.01, 0.5))
    assert rare.gain.mean == pytest.approx((0.4 + 0.4 + 0.5) / 3)
    table = conditions_table(OF_CONDITIONS, CONDITIONS)
    assert table.columns[2:4] == ["best prioritized", "best standard"]
    assert [row[0] for row in table.rows] == ["rare", "easy"]
    assert table.rows[0][4] == "+0.433"
    assert of_conditions(OF_CONDITIONS, CONDITIONS) == (
        "Best prioritized is above best standard in 1; not significantly different from best standard in 1 of 2 conditions. "
        "Difference by successes before: +0.43 at 0.01 (rare); -0.00 at 0.50 (easy)."
    )
    figure = conditions_figure(OF_CONDITIONS, CONDITIONS)
    assert {text.get_text() for text in figure.axes[0].texts} >= {"rare", "easy"}


def test_conditions_of_single_seeds_have_no_differences():
    single = {name: seeds[:1] for name, seeds in OF_CONDITIONS.items()}
    assert [row[4:] for row in conditions_table(single, CONDITIONS).rows] == [["–", "–"]] * 2
    assert of_conditions(single, CONDITIONS) == "2 conditions, of one seed each: best prioritized and best standard."
    conditions_figure(single, CONDITIONS)
