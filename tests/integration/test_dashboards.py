import json
from xml.etree import ElementTree

import pytest

from htc.commands import reproduce
from rlkl.commands import finetune
from rlkl_htc_common import dashboards
from rlkl_htc_common.report import dashboard as dashboard_pictures
from rlkl_htc_common.runs.directory import RunDirectory
from rlkl_htc_common.runs.offline import OfflineRun
from rlkl_htc_common.runs.tracking import Tracker, TrackingConfig

from .dashboard_panels import dashboard
from .entry_points import call
from .htc_runs import common_arguments, place

__all__ = ["place"]  # a fixture


def test_dashboards_are_written_and_the_same_each_time(tmp_path, monkeypatch, capsys):
    found = []
    for folder in (tmp_path / "once", tmp_path / "again"):
        code, out, err = call(dashboards.main, [f"output={folder}"], monkeypatch, capsys)
        assert code == 0, err
        assert "htc.json" in out
        found.append({file.name: json.loads(file.read_text()) for file in folder.iterdir()})
    assert found[0] == found[1]
    assert set(found[0]) == {"rlkl.json", "rlkl-pre-training.json", "htc.json"}
    sections = found[0]["htc.json"]["spec"]["section"]["panelBankConfig"]["sections"]
    kinds = [[panel["viewType"] for panel in each["panels"]] for each in sections]
    assert kinds == [["Bar Chart", "Media Browser", "Bar Chart"], ["Run History Line Plot"] * 3, ["Run History Line Plot"] * 3]
    assert sections[2]["panels"][0]["config"]["metrics"] == ["train/learning_rate"]


def titles(svg):
    """What the panels of a drawn workspace are called."""
    return [title.text for title in ElementTree.fromstring(svg.read_text()).iter("{http://www.w3.org/2000/svg}title")]


def test_workspaces_are_drawn_with_the_numbers_of_offline_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("bce", "<b>softmax</b> $x$"):
        run = RunDirectory(tmp_path / "runs" / name[:3].strip("<"), {"seed": 0, "loss": {"name": name}})
        with Tracker(run, TrackingConfig(), job_type="train", name="test") as tracker:
            tracker.log(1, {"train/loss": 0.5, "dev/hf1_auc": 0.25}, {"charts/documents_per_second": 99.5})
            tracker.log(2, {"train/loss": 0.25, "dev/hf1_auc": 0.5}, {"charts/documents_per_second": 101.5})
            tracker.summarize({"test/hf1_auc": 0.75, "test/threshold/hf1_micro": 0.625})
    arguments = [f"runs=[{tmp_path / 'runs'}]", f"output={tmp_path / 'drawn'}"]
    code, out, err = call(dashboards.main, arguments, monkeypatch, capsys)
    assert code == 0, err
    assert str(tmp_path / "drawn" / "htc.svg") in out
    assert {file.name for file in (tmp_path / "drawn").glob("*.svg")} == {"htc.svg"}, "the runs are of no other workspace"
    drawn = ["Micro hF1 by rule", "HF1-AUC", "HF1-AUC on dev", "Loss", "Documents a second"]
    assert titles(tmp_path / "drawn" / "htc.svg") == ["The workspace htc", *drawn]
    text = (tmp_path / "drawn" / "htc.svg").read_text()
    assert "prefers-color-scheme:dark" in text
    assert "&lt;b&gt;softmax&lt;/b&gt; $x$" in text


def test_groups_are_named_by_what_tells_them_apart():
    panel = dashboard_pictures.PanelConfig("Loss", ["loss"])
    shown = dashboard_pictures.DashboardConfig(
        "d", "p", ["config.a", "config.b"], [dashboard_pictures.SectionConfig("s", [panel])]
    )
    configs = [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 1, "b": "y"}, {"other": 1}]
    runs = [OfflineRun(config, {1: {"loss": 1.0}, 2: {"loss": 0.5}}, {"loss": 0.5}) for config in configs]
    drawn = dashboard_pictures.draw_dashboard(shown, runs)
    assert [text.text for text in ElementTree.fromstring(drawn).findall("{http://www.w3.org/2000/svg}text")][:2] == ["x", "y"]
    assert dashboard_pictures.draw_dashboard(shown, runs[3:]) is None


@pytest.mark.slow
def test_every_panel_of_htc_is_drawn_from_a_reproduction(place, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "offline")
    arguments = [argument for argument in common_arguments(place) if not argument.startswith("loss=")]
    arguments += ["experiment=hwv", "seeds=[0]", f"output={place / 'out'}", "~methods.leaf_softmax", "~methods.bce"]
    code, _, err = call(reproduce, arguments, monkeypatch, capsys)
    assert code == 0, err
    code, _, err = call(dashboards.main, [f"runs=[{place}]", f"output={tmp_path}"], monkeypatch, capsys)
    assert code == 0, err
    panels = [panel for section in dashboard("htc")["sections"] for panel in section["panels"]]
    found = titles(tmp_path / "htc.svg")
    missing = [panel["title"] for panel in panels if panel["title"] not in found]
    assert missing == ["Micro hF1 of a reproduction, mean over seeds"]
    assert "hF1 micro by objective and rule" in found, "the heat map has its own title"


@pytest.mark.slow
def test_every_panel_of_rlkl_is_drawn_from_a_fine_tuning(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "offline")
    given = [
        "model=addition-n3",
        "algorithm=ppo",
        "algorithm.iterations=2",
        "algorithm.episodes=4",
        "algorithm.minibatch_size=2",
    ]
    given += ["evaluation_examples=2", f"runs={tmp_path / 'runs'}", "extra_digits=1"]
    code, _, err = call(finetune, given, monkeypatch, capsys)
    assert code == 0, err
    code, _, err = call(dashboards.main, [f"runs=[{tmp_path / 'runs'}]", f"output={tmp_path}"], monkeypatch, capsys)
    assert code == 0, err
    found = titles(tmp_path / "rlkl.svg")
    assert [panel["title"] for section in dashboard("rlkl")["sections"] for panel in section["panels"]] == found[1:]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["push=true"], "entity=NAME must be given"),
        (["dashboards=[{name: a, project: p, sections: [{name: s, panels: [{title: t, metric: [x]}]}]}]"], "metric"),
        (["dashboards=[{name: a, project: p}]"], "sections"),
        (
            ["dashboards=[{name: a, project: p, sections: [{name: s, panels: [{title: t, metrics: [x], kind: bar}]}]}]"],
            "panel 't': kind must be one of line, bars, page, not 'bar'",
        ),
        (["runs=[nowhere]"], "nowhere holds no offline run"),
    ],
)
def test_mistakes_are_reported(arguments, message, tmp_path, monkeypatch, capsys):
    code, _, err = call(dashboards.main, [*arguments, f"output={tmp_path}"], monkeypatch, capsys)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
