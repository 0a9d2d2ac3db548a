"""A report is drawn again from what is published of it, with the same numbers and without any run."""

import json
import re
import shutil
from pathlib import Path

import pytest

from rlkl_htc_common.commands.report import draw
from rlkl_htc_common.errors import InputError

RESULTS = Path(__file__).resolve().parents[2] / "results"


def words(folder):
    """A report without its figures, whose lines depend on Matplotlib's version."""
    return re.sub(r"<svg.*?</svg>|<style>.*?</style>", "", (folder / "report.html").read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("name", ["htc-icd10cm", "rlkl-levels-before", pytest.param("rlkl-in-reward", marks=pytest.mark.slow)])
def test_a_summary_is_enough(name, tmp_path, capsys):
    shutil.copy(RESULTS / name / "summary.json", tmp_path)
    draw(tmp_path)
    assert "from summary.json" in capsys.readouterr().out
    assert (tmp_path / "table.md").read_text() == (RESULTS / name / "table.md").read_text()
    assert words(tmp_path) == words(RESULTS / name)
    assert {file.name for file in tmp_path.iterdir()} == {file.name for file in (RESULTS / name).iterdir()}


def test_so_is_an_analysis(tmp_path):
    shutil.copy(RESULTS / "rlkl-analysis/analysis.json", tmp_path)
    draw(tmp_path)
    assert words(tmp_path) == words(RESULTS / "rlkl-analysis")


def test_of_a_grid_whose_runs_are_gone_the_summary_is_drawn(tmp_path, capsys):
    shutil.copy(RESULTS / "rlkl-levels-before/summary.json", tmp_path)
    (tmp_path / "grid.json").write_text(json.dumps({"package": "rlkl", "runs": [{"run_dir": str(tmp_path / "gone")}]}))
    draw(tmp_path)
    assert "from summary.json" in capsys.readouterr().out
    (tmp_path / "gone").mkdir()  # damaged, and so not passed over
    with pytest.raises(InputError, match="gone"):
        draw(tmp_path)


@pytest.mark.parametrize(
    ("content", "problem"), [("{}", "is of none of rlkl, htc"), ('{"package": "htc"}', "is missing"), ("x", "cannot")]
)
def test_what_is_no_summary_is_refused(content, problem, tmp_path):
    (tmp_path / "summary.json").write_text(content)
    with pytest.raises(InputError, match=problem):
        draw(tmp_path)
