"""The first sentence of a report has the numbers of its table."""

from dataclasses import replace

import pytest

from rlkl.report.records import Analysis
from rlkl.report.verdict import of_analysis, of_methods
from rlkl_htc_common.report.records import read_record

from .test_reproduction import PAIRS, RUNS, run

FACTS = {"model": "m", "fingerprint": "f", "reference": None, "task": "addition", "trained_digits": 5, "examples": 1}
FACTS |= {"problems": 1, "samples": 1, "detection": {}, "counterfactual": {"groups": []}, "drift": None}
FACTS |= {"git_commit": None, "versions": {}}
FEW = {name: seeds[:2] for name, seeds in RUNS.items()}
ONE = {name: seeds[:1] for name, seeds in RUNS.items()}
BOTH = [*PAIRS, ["matched mean", "standard KL"]]


ABOVE = "prioritized KL: N+2 accuracy 0.65; standard KL: 0.25 (difference +0.40, +0.37 to +0.44, 3 seeds)."
BELOW = "standard KL: N+2 accuracy 0.25; matched mean: 0.65 (difference -0.40, -0.65 to -0.15, 3 seeds)."
FEW_SAID = "prioritized KL: N+2 accuracy 0.66; standard KL: 0.25 (difference +0.40, +0.42). prioritized KL is the highest of 3."
GAP = "Highest is prioritized KL, 0.653 ± 0.152; standard KL is below it (difference -0.40, -0.44 to -0.37, 3 seeds)."
ALL = "prioritized KL and matched mean are above standard KL; prioritized KL is not significantly different from matched mean"
LARGEST = "Largest difference: prioritized KL and standard KL (+0.40, +0.37 to +0.44, 3 seeds)."
PLACES = {f"{place}, {name}": RUNS[f"{name} KL"] for place in ("A2C", "PPO") for name in ("prioritized", "standard")}
PLACES |= {"alone, prioritized": RUNS["matched mean"], "alone, standard": RUNS["prioritized KL"]}
OF_PLACES = [[f"{place}, prioritized", f"{place}, standard"] for place in ("A2C", "alone", "PPO")]
KINDS = "prioritized is above standard in 2 of 3 (A2C, PPO), not significantly different in 1 (alone)"
LARGEST_PLACE = "Largest difference: prioritized and standard, A2C (+0.40, +0.37 to +0.44, 3 seeds)."
OTHERS = {name: [replace(each, model="another") for each in seeds] for name, seeds in PLACES.items() if "alone" in name}
UNSURE = [["matched mean", "prioritized KL"], ["prioritized KL", "matched mean"]]
UNSURE_SAID = [f"{one} is not significantly different from {other}" for one, other in UNSURE]


@pytest.mark.parametrize(
    ("runs", "pairs", "said"),
    [
        (RUNS, PAIRS, f"{ABOVE} prioritized KL is the highest of 3."),
        (RUNS, [["standard KL", "matched mean"]], f"{BELOW} {GAP}"),
        (RUNS, BOTH, f"N+2 accuracy: {ALL}. {LARGEST} Highest: prioritized KL, 0.653 ± 0.152."),
        (PLACES, OF_PLACES, f"N+2 accuracy: {KINDS}. {LARGEST_PLACE} Highest: A2C, prioritized, 0.653 ± 0.152."),
        (PLACES | OTHERS, OF_PLACES, f"N+2 accuracy: {KINDS}. {LARGEST_PLACE}"),  # of several models none is the highest
        (RUNS, UNSURE, f"N+2 accuracy: {'; '.join(UNSURE_SAID)}. Highest: prioritized KL, 0.653 ± 0.152."),
        (FEW, BOTH, "N+2 accuracy: 3 comparisons, of too few seeds for intervals. Largest difference: "),
        (ONE, BOTH, "3 comparisons of N+2 accuracy, of one seed each. Highest: matched mean, 0.70."),
        (FEW, PAIRS[:1], FEW_SAID),
        (ONE, PAIRS[:1], "prioritized KL: N+2 accuracy 0.60; standard KL: 0.20. Highest is matched mean, 0.70."),
        ({"alone": [run(0.5)]}, [], "alone: N+2 accuracy 0.50, the highest of 1."),
    ],
)
def test_methods(runs, pairs, said):
    found = of_methods(runs, pairs)
    assert found.startswith(said) if said.endswith(": ") else found == said


def test_one_wrong_character_has_a_price():
    mean = {"low": 0.0, "high": 0.5}
    group = {"group": "critical", "places": 9, "right": mean | {"mean": 0.4}, "wrong": mean | {"mean": 0.1}, "lost": 0.75}
    group |= {"importance": {"mean": 0.3, "low": 0.2, "high": 0.4}}
    found = {"base_rate": 0.02, "average_precision": 0.21, "r_precision": 0.3, "curve": []}
    result = FACTS | {"counterfactual": {"groups": [group]}, "detection": {"critical": {"min_entropy": found}}}
    assert of_analysis(read_record(Analysis, result, "x")) == (
        "One wrong character (critical) loses 75% of the right answers: 0.10 are left of 0.40 (difference 0.30, 0.20 to 0.40). "
        "Uncertainty by min entropy finds critical tokens with an average precision of 0.21; chance would have 0.02."
    )


def test_an_analysis_without_places_or_questions_says_nothing():
    assert of_analysis(read_record(Analysis, FACTS, "x")) == ""
