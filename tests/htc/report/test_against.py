import json
import math

import pytest

from htc.report.against import against_section, load_other
from htc.report.labels import label
from htc.report.records import Facts, Scores
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.errors import InputError as CommonInputError

FACTS = {"train": 7, "dev": 1, "test": 2, "hierarchy_fingerprint": "f", "fingerprint": "d"}
DATASET = Facts(**FACTS)


def summary(hf1, losses=("bce", "conditional_softmax"), **facts):
    """hf1: of each seed, under every rule."""
    runs = [{"hf1_auc": v, "rules": {"threshold": {"hf1_micro": v, "hf1_samples": v}}} for v in hf1]
    return {"dataset": FACTS | facts, "seeds": [0, 1, 2], "losses": dict.fromkeys(losses, runs)}


def losses(hf1, names=("bce", "conditional_softmax")):
    return {name: [Scores(**run) for run in runs] for name, runs in summary(hf1, names)["losses"].items()}


def test_differences_are_paired_over_seeds():
    section = against_section(losses([0.6, 0.7, 0.8]), losses([0.5, 0.59, 0.71], ("bce", "focal")), "runs/other")
    assert section.title == "Against other"
    table = section.tables[0]
    assert [row[0] for row in table.rows] == [label("bce")]  # the only one that both have
    half = 4.302653 * 0.01 / math.sqrt(3)  # Student t with two degrees of freedom; .10, .11 and .09
    assert table.rows[0][1:] == [f"+0.100 ± {half:.3f}", f"+0.100 ± {half:.3f}", "–", "–", "–", "–"]
    assert table.best == {(0, 1), (0, 2)}


def test_a_difference_that_may_be_none_is_not_stressed():
    assert against_section(losses([0.6, 0.7, 0.8]), losses([0.5, 0.8, 0.8]), "other").tables[0].best == set()


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        (summary([0.5] * 3, train=8), "train is 8, here it is 7"),
        (summary([0.5] * 3, hierarchy_fingerprint="g"), "hierarchy_fingerprint is g"),
        (summary([0.5] * 3, fingerprint="e"), "draw of its splits"),
        (summary([0.5] * 3, losses=("focal",)), "none of the objectives bce"),
        (summary([0.5] * 3) | {"seeds": [0, 1]}, r"its seeds are \[0, 1\], these are \[0, 1, 2\]"),
    ],
)
def test_what_cannot_be_paired_is_refused(other, problem, tmp_path):
    (tmp_path / "summary.json").write_text(json.dumps(other))
    with pytest.raises(InputError, match=problem):
        load_other(str(tmp_path), DATASET, ["bce"], [0, 1, 2])


def test_a_reproduction_is_read_and_one_that_is_not_there_refused(tmp_path):
    with pytest.raises(CommonInputError, match="cannot be read"):
        load_other(str(tmp_path), DATASET, ["bce"], [0, 1, 2])
    for other in ({}, {"seeds": 3, "dataset": {}, "losses": {}}, {"seeds": [], "methods": {}}):
        (tmp_path / "summary.json").write_text(json.dumps(other))
        with pytest.raises(InputError, match="of no reproduction by htc"):
            load_other(str(tmp_path), DATASET, ["bce"], [0, 1, 2])
    (tmp_path / "summary.json").write_text(json.dumps(summary([0.5] * 3)))
    assert load_other(str(tmp_path), DATASET, ["bce"], [0, 1, 2]).seeds == [0, 1, 2]
