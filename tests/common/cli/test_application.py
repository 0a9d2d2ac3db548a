import sys

import pytest

from rlkl_htc_common.cli.application import conf_dir, run_application
from rlkl_htc_common.errors import InputError


def test_conf_is_found_from_below_and_by_variable(tmp_path, monkeypatch):
    (tmp_path / "conf/app").mkdir(parents=True)
    (tmp_path / "a/b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a/b")
    monkeypatch.delenv("RLKL_HTC_CONF", raising=False)
    assert conf_dir("app") == tmp_path / "conf/app"
    monkeypatch.setenv("RLKL_HTC_CONF", str(tmp_path))
    with pytest.raises(InputError, match="no folder conf/app in RLKL_HTC_CONF="):
        conf_dir("app")


def run(monkeypatch, tmp_path, task, *arguments):
    (tmp_path / "conf/app").mkdir(parents=True, exist_ok=True)
    (tmp_path / "conf/app/main.yaml").write_text(
        "seed: 1\nname: ???\nhydra: {run: {dir: .}, output_subdir: null, job_logging: {root: {handlers: [console]}}}\n"
    )
    monkeypatch.setenv("RLKL_HTC_CONF", str(tmp_path / "conf"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["prog", *arguments])
    with pytest.raises(SystemExit) as stop:
        run_application(task, application="app", config="main")
    return stop.value.code


def fail_with(error):
    def task(config):
        raise error

    return task


def test_exit_codes(monkeypatch, tmp_path, capsys):
    assert run(monkeypatch, tmp_path, lambda config: None) == 0
    assert run(monkeypatch, tmp_path, fail_with(InputError("file:3: wrong."))) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "prog: file:3: wrong."
    assert run(monkeypatch, tmp_path, fail_with(KeyboardInterrupt())) == 130
    assert run(monkeypatch, tmp_path, lambda config: config.name) == 2
    assert "name must be given" in capsys.readouterr().err
    assert run(monkeypatch, tmp_path, lambda config: None, "sed=3") == 2
    assert capsys.readouterr().err == "prog: unknown key 'sed'; did you mean 'seed'?\n"


def test_a_bug_keeps_its_traceback(monkeypatch, tmp_path):
    with pytest.raises(ZeroDivisionError):
        run(monkeypatch, tmp_path, lambda config: 1 / 0)
