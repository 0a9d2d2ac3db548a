"""The first sentences of a report have the numbers of its table."""

import pytest

from htc.report.labels import label
from htc.report.records import Scores
from htc.report.verdict import caveat, verdict, wins


def losses(**hf1):
    """By method the hF1 of each seed, under two rules and two metrics."""
    return {
        name: [Scores(v, {rule: {"hf1_micro": v, "hf1_samples": v} for rule in ("threshold", "top_down")}) for v in values]
        for name, values in hf1.items()
    }


BCE, SOFTMAX = label("bce"), label("conditional_softmax")
THREE = losses(bce=[0.5, 0.52, 0.51], conditional_softmax=[0.8, 0.83, 0.82], focal=[0.81, 0.8, 0.82])


def test_who_leads_and_who_trails():
    assert wins(THREE) == ({"conditional_softmax": 4}, 4)
    said = f"{SOFTMAX} leads 4 of 4 combinations of rule and metric, with an hF1-AUC of 0.817 ± 0.038; {BCE} trails by 0.31"
    assert verdict(THREE) == f"{said} (0.510 ± 0.025), the other has 0.810."
    four = THREE | losses(leaf_softmax=[0.7, 0.7, 0.7])
    assert verdict(four) == f"{said} (0.510 ± 0.025), the others have 0.700 to 0.810."
    assert caveat(THREE).startswith(
        f"By hF1-AUC {SOFTMAX} is not significantly different from {label('focal')}, the next: +0.007 ("
    )


@pytest.mark.parametrize(
    ("found", "first", "second"),
    [
        (losses(bce=[0.5]), f"{BCE} leads 4 of 4 combinations of rule and metric, with an hF1-AUC of 0.500.", ""),
        (
            losses(bce=[0.5], focal=[0.5]),
            f"{BCE} leads 4 of 4 combinations of rule and metric, with an hF1-AUC of 0.500.",
            f"Of so few seeds there is no interval: {BCE} differs from {label('focal')} by +0.000 in hF1-AUC.",
        ),
    ],
)
def test_one_seed_or_method_has_no_interval(found, first, second):
    assert (verdict(found), caveat(found)) == (first, second)
