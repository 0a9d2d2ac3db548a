"""The sentences and tables of the report on a language model, from the published summary."""

from pathlib import Path

import pytest

from rlkl.report.llm import LLMSummary, comparison_table, findings, verdict

PUBLISHED = Path(__file__).resolve().parents[3] / "results" / "rlkl-llm"


@pytest.fixture(scope="module")
def summary():
    return LLMSummary.load(PUBLISHED, "")


def test_the_verdict_has_numbers_and_intervals(summary):
    assert verdict(summary) == (
        "Held-out sums solved (greedy): 0.69 before; 0.91 with prioritized; 0.85 with standard (no significant "
        "difference: +0.07, -0.14 to +0.28). KL on other text, per 1,000 tokens: 0.60 and 0.51 (no significant difference: "
        "+0.09, -0.36 to +0.54). Most solved: matched mean, 0.92."
    )


def test_what_a_method_is_above_has_one_sentence(summary):
    solved, kept = findings(summary)
    assert solved == (
        "In held-out sums solved, prioritized is not significantly different from standard (+0.068); matched mean (-0.006); "
        "no KL (+0.025); DAPO without KL (+0.031)."
    )
    assert kept.startswith("In KL on other text, prioritized is not significantly different from standard (+0.09); ")


def test_differences_have_the_digits_of_what_is_compared(summary):
    table = comparison_table(summary)
    assert table.rows[0] == ["prioritized - standard", "+0.068 ± 0.207", "+0.154 ± 0.192", "+0.09 ± 0.45", "+82.0 ± 51.7"]
    assert table.best == {(0, 4)}
