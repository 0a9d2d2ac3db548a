"""Records go to JSON and come back the same; what is missing or of another kind is named."""

import json
import math
from dataclasses import dataclass, field

import pytest

from rlkl_htc_common.errors import InputError
from rlkl_htc_common.report.records import GridSummary, as_plain, read_record
from rlkl_htc_common.report.run_list import ListedRun
from rlkl_htc_common.report.statistics import Interval


@dataclass(frozen=True)
class Part:
    share: float
    name: str = "part"


@dataclass(frozen=True)
class Whole:
    parts: dict[str, list[Part]]
    interval: Interval | None = None
    numbers: list[float] = field(default_factory=list)


WHOLE = Whole({"a": [Part(0.5), Part(1)], "b": []}, Interval(0.1, math.nan, math.nan, 2, (0.0, 0.2)), [1, 2.5])


def test_a_record_comes_back_from_json():
    plain = json.loads(json.dumps(as_plain(WHOLE), allow_nan=False))
    found = read_record(Whole, plain | {"unknown": 1}, "whole.json")
    assert as_plain(found) == as_plain(WHOLE)
    assert found.parts == WHOLE.parts
    assert found.interval is not None
    assert found.interval.few == (0.0, 0.2)
    assert math.isnan(found.interval.low)


@pytest.mark.parametrize(
    ("plain", "problem"),
    [
        ([], "whole.json must be an object, not list"),
        ({}, "whole.json: parts is missing"),
        ({"parts": []}, r"whole.json: parts must be dict, not \[\]"),
        ({"parts": {"a": {}}}, "whole.json: parts.a must be list, not {}"),
        ({"parts": {"a": [{}]}}, r"whole.json: parts.a\[0\]: share is missing"),
        ({"parts": {"a": [{"share": "x"}]}}, r"parts.a\[0\]: share must be float, not 'x'"),
        ({"parts": {"a": [{"share": 1, "name": 3}]}}, "name must be str, not 3"),
        ({"parts": {}, "interval": 3}, "interval must be an object, not int"),
        ({"parts": {}, "numbers": [True]}, r"numbers\[0\] must be float, not True"),
    ],
)
def test_what_is_wrong_is_named(plain, problem):
    with pytest.raises(InputError, match=problem):
        read_record(Whole, plain, "whole.json")


def test_a_summary_is_saved_and_loaded(tmp_path):
    summary = GridSummary(title="t", seeds=[0], runs=[ListedRun("a", {"seed": 0}, {"f1": 0.5}, "train", "runs/a")])
    summary.save(tmp_path)
    assert GridSummary.load(tmp_path, "run it again") == summary
    (tmp_path / "summary.json").write_text('{"seeds": [0], "runs": ["runs/a"]}')
    assert GridSummary.load(tmp_path, "x").runs == [ListedRun(where="runs/a")]
    (tmp_path / "summary.json").write_text('{"runs": []}')
    with pytest.raises(InputError, match=r"is of no reproduction by .*seeds is missing\)"):
        GridSummary.load(tmp_path, "run it again")
