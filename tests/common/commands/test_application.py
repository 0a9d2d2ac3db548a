import sys
from pathlib import Path

import pytest

from rlkl_htc_common.commands.application import conf_dir, run_application
from rlkl_htc_common.errors import InputError

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(("application", "package"), [("htc", None), ("rlkl", None), ("dashboards", "rlkl_htc_common")])
def test_conf_is_the_packages_wherever_one_stands(application, package, tmp_path, monkeypatch):
    (tmp_path / "conf" / application).mkdir(parents=True)  # somebody else's
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    monkeypatch.delenv("RLKL_HTC_CONF", raising=False)
    assert conf_dir(application, package) == ROOT / "conf" / application
    monkeypatch.setenv("RLKL_HTC_CONF", str(tmp_path / "conf"))
    assert conf_dir(application, package) == tmp_path / "conf" / application
    monkeypatch.setenv("RLKL_HTC_CONF", str(tmp_path))
    with pytest.raises(InputError, match=f"no folder .*/{application}; let RLKL_HTC_CONF name"):
        conf_dir(application, package)


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


@pytest.mark.parametrize("name", ["mine", "my conf (1)", "a=b", "größe"])
@pytest.mark.parametrize("option", ["--config-dir {}", "--config-dir={}", "-cd {}"])
def test_a_folder_of_the_users_own_is_searched_too(monkeypatch, tmp_path, name, option):
    (tmp_path / name / "size").mkdir(parents=True)
    (tmp_path / name / "size/small.yaml").write_text("rows: 3\n")
    found = []
    words = [word.format(name) for word in option.split(" ")]
    assert run(monkeypatch, tmp_path, lambda config: found.append(config.size.rows), *words, "+size=small") == 0
    assert found == [3]


def test_a_folder_that_is_not_there_is_reported(monkeypatch, tmp_path, capsys):
    assert run(monkeypatch, tmp_path, lambda config: None, "--config-dir", "not here") == 2
    assert capsys.readouterr().err == f"prog: Additional config directory '{tmp_path}/not here' not found\n"


def test_a_launcher_that_is_not_installed_is_reported_with_its_extra(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("rlkl_htc_common.extras._is_installed", lambda name: False)
    assert run(monkeypatch, tmp_path, lambda config: None, "hydra/launcher=submitit_nowhere") == 2
    message = "prog: this needs hydra-submitit-launcher, not installed here: pip install 'app[cluster]'\n"
    assert capsys.readouterr().err == message
    assert run(monkeypatch, tmp_path, lambda config: None, "hydra/launcher=nowhere") == 2
    assert "Could not find 'hydra/launcher/nowhere'" in capsys.readouterr().err
