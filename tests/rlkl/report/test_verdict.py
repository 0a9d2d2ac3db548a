"""The first sentence of a report has the numbers of its table."""

import pytest

from rlkl.report.records import Analysis
from rlkl.report.verdict import of_analysis, of_methods
from rlkl_htc_common.report.records import read_record

from .test_reproduction import PAIRS, RUNS, run

FEW = {name: seeds[:2] for name, seeds in RUNS.items()}
ONE = {name: seeds[:1] for name, seeds in RUNS.items()}
BOTH = [*PAIRS, ["matched mean", "standard KL"]]


ABOVE = "prioritized KL: N+2 accuracy 0.65; standard KL: 0.25 (difference +0.40, +0.37 to +0.44, 3 seeds)."
BELOW = "standard KL: N+2 accuracy 0.25; matched mean: 0.65 (difference -0.40, -0.65 to -0.15, 3 seeds)."
FEW_SAID = "prioritized KL: N+2 accuracy 0.66; standard KL: 0.25 (difference +0.40, +0.42). prioritized KL is the highest of 3."
GAP = "Highest is prioritized KL, 0.653 ± 0.152; standard KL is below it (difference -0.40, -0.44 to -0.37, 3 seeds)."
COUNTS = "N+2 accuracy: of 3 comparisons the first method ends above the second in 2, is not significantly different in 1."
LARGEST = "Largest difference: prioritized KL and standard KL (+0.40, +0.37 to +0.44, 3 seeds)."


@pytest.mark.parametrize(
    ("runs", "pairs", "said"),
    [
        (RUNS, PAIRS, f"{ABOVE} prioritized KL is the highest of 3."),
        (RUNS, [["standard KL", "matched mean"]], f"{BELOW} {GAP}"),
        (RUNS, BOTH, f"{COUNTS} {LARGEST} Highest: prioritized KL, 0.653 ± 0.152."),
        (FEW, PAIRS[:1], FEW_SAID),
        (ONE, PAIRS[:1], "prioritized KL: N+2 accuracy 0.60; standard KL: 0.20. Highest is matched mean, 0.70."),
        ({"alone": [run(0.5)]}, [], "alone: N+2 accuracy 0.50, the highest of 1."),
    ],
)
def test_methods(runs, pairs, said):
    assert of_methods(runs, pairs) == said


def test_an_analysis_without_places_or_questions_says_nothing():
    facts = {"model": "m", "fingerprint": "f", "reference": None, "task": "addition", "trained_digits": 5, "examples": 1}
    facts |= {"problems": 1, "samples": 1, "detection": {}, "counterfactual": {"groups": []}, "drift": None}
    assert of_analysis(read_record(Analysis, facts | {"git_commit": None, "versions": {}}, "x")) == ""
