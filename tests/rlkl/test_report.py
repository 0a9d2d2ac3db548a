"""The sentences and tables of the report, on numbers that are known."""

import pytest

from rlkl.report import COLUMNS, before_finetuning, compare, comparison_table, findings, result_table


def run(longer, success=0.5):
    first = {"step": 0, **{key: 0.1 for key, _ in COLUMNS}}
    last = {"step": 2, **{key: 0.9 for key, _ in COLUMNS}, "eval/accuracy_longer": longer, "rollout/success": success}
    return {"history": [first, {"step": 1, "rollout/success": 0.0}, last]}


RUNS = {
    "standard": [run(0.2), run(0.3), run(0.25)],
    "prioritized": [run(0.6), run(0.72), run(0.64)],
    "matched_mean": [run(0.7), run(0.6), run(0.66)],
}


def test_differences_are_paired_over_seeds():
    difference = compare(RUNS, "prioritized", "standard", "eval/accuracy_longer")
    assert difference.mean == pytest.approx((0.4 + 0.42 + 0.39) / 3)
    assert difference.low > 0.3
    assert compare(RUNS, "prioritized", "none", "eval/accuracy_longer") is None
    assert compare({name: runs[:1] for name, runs in RUNS.items()}, "prioritized", "standard", "eval/accuracy_longer") is None


def test_findings_say_what_can_be_told():
    sentences = [sentence for sentence in findings(RUNS, extra=2) if sentence.startswith("N+2 accuracy")]
    assert sentences[0].startswith("N+2 accuracy: prioritized KL is above standard KL, by +0.403")
    assert sentences[1].startswith("N+2 accuracy: prioritized KL is not told apart from uniform KL, matched mean, by +0.000")
    assert findings({"standard": RUNS["standard"]}) == []


def test_every_difference_is_in_the_table():
    table = comparison_table(RUNS, extra=2)
    assert len(table.rows) == 2 * len(COLUMNS)
    assert ["N+2 accuracy", "standard KL", "+0.403", "+0.365 to +0.441", "above"] in table.rows
    assert ["N accuracy", "standard KL", "+0.000", "+0.000 to +0.000", "not told apart from"] in table.rows


def test_the_table_holds_the_means_and_marks_the_best():
    before = {key: 0.123 for key, _ in COLUMNS}
    table = result_table(RUNS, before, extra=2)
    assert table.columns[2] == "N+2 accuracy"
    assert table.rows[0][:3] == ["before", "0.123", "0.123"]
    assert [row[0] for row in table.rows[1:]] == ["standard KL", "prioritized KL", "uniform KL, matched mean"]
    assert [row[2].split(" ")[0] for row in table.rows[1:]] == ["0.250", "0.653", "0.653"]
    assert (2, 2) in table.best or (3, 2) in table.best
    assert (1, 2) not in table.best


def test_what_was_before_comes_from_the_large_evaluation():
    rows = [
        {"operands": kind, "digits": digits, "accuracy": value}
        for kind, digits, value in (("identical", 5, 0.8), ("varying", 5, 0.9), ("varying", 6, 0.3))
    ]
    summary = {"penalties": RUNS, "start": {"rows": rows}, "trained_digits": 5, "digits": 6}
    found = before_finetuning(summary)
    assert (found["eval/accuracy_N"], found["eval/accuracy_longer"], found["critical/comma"]) == (0.9, 0.3, 0.1)
