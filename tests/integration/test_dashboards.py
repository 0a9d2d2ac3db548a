import json

import pytest

from rlkl_htc_common import dashboards

from .entry_points import call


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
    assert sections[0]["panels"][0]["config"]["metrics"] == ["train/loss"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["push=true"], "entity=NAME must be given"),
        (["dashboards=[{name: a, project: p, sections: [{name: s, panels: [{title: t, metric: [x]}]}]}]"], "metric"),
        (["dashboards=[{name: a, project: p}]"], "sections"),
    ],
)
def test_mistakes_are_reported(arguments, message, tmp_path, monkeypatch, capsys):
    code, _, err = call(dashboards.main, [*arguments, f"output={tmp_path}"], monkeypatch, capsys)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
