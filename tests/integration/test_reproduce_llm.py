"""rlkl-reproduce-llm from the command line: what it refuses without TRL, and a small comparison where TRL is installed."""

import importlib.util
import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from rlkl.commands import reproduce_llm as app
from rlkl.integrations.sums_settings import SumsSettings
from rlkl_htc_common.commands.report import draw
from rlkl_htc_common.runs.directory import RunDirectory, read_config_file

from ..rlkl.inspection.models import save
from ..rlkl.integrations.test_sums import SETTINGS
from .entry_points import call

SMALL = (
    "steps=4",
    "evaluate_every=2",
    "copies=1",
    "general_tokens=4",
    "calibration_completions=8",
    "learning_rate=0.01",
    "hydra/launcher=basic",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("llm") / "model", positions=256)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (["steps=0"], "methods: prioritized: steps must be at least 1, not 0"),
        (["llm=alphas", "uses=0"], "methods: prioritized, alpha 0.01: uses must be at least 1"),
        (["seeds=[]"], "seeds and methods must each hold at least one entry"),
        (["seeds=[1,1]"], "seeds must hold each seed only once"),
        (["seeds=[-1]"], "seeds must be from 0"),
        (["seed=1"], "takes seeds=[...], and not seed"),
        (["+methods.mine={seed:3}"], "takes seeds=[...], and not seed"),
        (["+methods.mine={model:other}"], "model must be the same for all methods"),
        (["+methods.mine={copies:1}"], "copies must be the same for all methods"),
        (["+methods.mine={weighting:uniform}"], "methods: mine: weighting must be one of none, standard"),
        (["+methods.mine={weight:standard}"], "methods: mine: unknown key 'weight'"),
        (["+methods.mine={alpha:0.1}"], "methods: prioritized and mine do not differ"),
        (["+methods.mine={weighting:none,alpha:3}"], "methods: no KL and mine do not differ"),
        (["+methods.mine={weighting:none,alpha:0}"], "methods: no KL and mine do not differ"),
        (["compare=[[prioritized,uniform]]"], "compare must hold pairs of methods, of prioritized, standard"),
        (["compare=[[prioritized]]"], "compare must hold pairs of methods"),
        (["llm=betas"], "betas"),
        (["step=3"], "unknown key 'step'; did you mean 'steps'?"),
    ],
)
def test_grids_that_could_only_fail_later_are_refused(given, problem, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, _, err = call(app, given, monkeypatch, capsys)
    assert (code, "Traceback" in err) == (2, False)
    assert problem in err
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(importlib.util.find_spec("trl") is not None, reason="TRL is installed")
def test_without_trl_the_extra_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, _, err = call(app, [], monkeypatch, capsys)
    assert code == 2
    assert "pip install 'rlkl[trl]'" in err
    assert not list(tmp_path.iterdir())


def test_another_release_of_trl_is_refused_in_a_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(app, "require", lambda *names: None)
    monkeypatch.setitem(sys.modules, "rlkl.integrations.trl", None)  # its import raises, as it does for other releases
    code, _, err = call(app, [], monkeypatch, capsys)
    assert (code, "Traceback" in err) == (2, False)
    assert "rlkl.integrations.trl" in err


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        ("a.gguf", "is no folder with a config.json, which TRL loads"),
        ("empty", "is no folder with a config.json"),
        ("./none", "there is no model './none'"),
        ("addition-n3", "addition-n3 has no token for the end of a line"),
    ],
)
def test_models_that_trl_cannot_take_are_refused(model, problem, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(app, "check_runs", lambda config, runs: None)  # it asks for TRL
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    (tmp_path / "empty").mkdir()
    code, _, err = call(app, [f"model={model}"], monkeypatch, capsys)
    assert (code, "Traceback" in err) == (2, False)
    assert problem in err


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    """Where a comparison of three methods with two seeds goes, and its command; rewards are those a random model gets."""
    pytest.importorskip("trl", reason="the extra rlkl[trl] is not installed")
    import rlkl.integrations.trl.sums

    place = tmp_path_factory.mktemp("made")
    told = [*SMALL, f"model={folder}", f"runs={place / 'runs'}", f"output={place / 'out'}", "seeds=[0,1]"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rlkl.integrations.trl.sums, "right_sum", _lengths)
        yield place, ["llm=one", "+methods.matched={weighting:matched_mean}", "+methods.none={weighting:none}", *told]


def _lengths(completions, **columns):
    """Rewards that a random model gets."""
    return [float(len(text) % 3) for text in completions]


def test_a_comparison_ends_in_a_report_that_can_be_drawn_again(made, monkeypatch, capsys):
    place, told = made
    code, out, err = call(app, told, monkeypatch, capsys)
    assert code == 0, err
    for part in ("| before |", "| fine-tuned |", "| matched |", "| none |", "report: "):
        assert part in out
    output = place / "out"
    summary = json.loads((output / "summary.json").read_text())
    assert {name: len(runs) for name, runs in summary["methods"].items()} == {"fine-tuned": 2, "matched": 2, "none": 2}
    results = sorted((place / "runs/rlkl/llm").glob("*/result.json"))
    assert len(results) == 7  # and what is measured before, once
    for file in results:
        assert not (file.parent / ".model").exists()
        if not file.parent.name.startswith("before"):
            lines = [json.loads(line) for line in (file.parent / "metrics.jsonl").read_text().splitlines()]
            assert [line["step"] for line in lines if "eval/kl_other_text" in line] == [0, 2, 4]
            assert lines[0]["eval/kl_other_text"] == 0 < lines[-1]["eval/kl_other_text"]
            assert (file.parent / "inspection/inspection.html").exists()
    page = (output / "report.html").read_text()
    assert 'href="inspection/inspection.html"' in page
    assert "before" in (output / "inspection/inspection.html").read_text()

    written = {file: file.stat().st_mtime_ns for file in results}
    assert call(app, told, monkeypatch, capsys)[0] == 0  # nothing is run again
    assert {file: file.stat().st_mtime_ns for file in results} == written

    other = place / "other"
    other.mkdir()
    shutil.copy(output / "summary.json", other)
    (other / "inspection").mkdir()
    shutil.copy(output / "inspection/inspection.html", other / "inspection")
    draw(other)
    assert _words(other) == _words(output)
    assert (other / "table.md").read_text() == (output / "table.md").read_text()
    draw(output)
    assert _words(other) == _words(output)


def _words(folder):
    """A report without its figures."""
    return re.sub(r"<svg.*?</svg>", "", (folder / "report.html").read_text(), flags=re.DOTALL)


def test_a_killed_run_starts_again_and_a_command_runs_one_alone(made, monkeypatch, capsys):
    place, told = made
    if not (place / "out/summary.json").exists():
        call(app, told, monkeypatch, capsys)
    summary = json.loads((place / "out/summary.json").read_text())
    (listed,) = [run for run in summary["runs"] if run["name"] == "matched" and "seed1" in run["where"]]
    run = place / "runs/rlkl/llm" / listed["where"].rpartition("/")[2]
    before = json.loads((run / "result.json").read_text())
    (run / "result.json").unlink()  # as if it had been killed: the rest is there
    (run / ".model").mkdir()
    program, *alone = shlex.split(listed["command"])
    assert program == "rlkl-reproduce-llm"
    code, out, err = call(app, [*alone, f"output={place / 'one'}", "hydra/launcher=basic"], monkeypatch, capsys)
    assert code == 0, err
    after = json.loads((run / "result.json").read_text())

    def numbers(result):
        timed = ("charts/seconds", "charts/cpu_seconds")
        return [{key: value for key, value in line.items() if key not in timed} for line in result["history"]]

    assert numbers(after) == numbers(before)
    assert not (run / ".model").exists()
    assert "fine-tuned" in out


def test_runs_that_start_at_the_same_time_read_what_was_measured_before(folder, tmp_path):
    settings = SumsSettings(**SETTINGS | {"model": str(folder)})
    first = app.before(settings, str(tmp_path))
    with RunDirectory(first["run_dir"], read_config_file(Path(first["run_dir"]) / "config.yaml")).locked():
        assert app.before(settings, str(tmp_path)) == first
