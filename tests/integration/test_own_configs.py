"""Commands run in any folder, and take YAML files of the user's own from a folder that `--config-dir` names."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.conf import ConfigSourceInfo
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from rlkl_htc_common.commands import hydra_defaults
from rlkl_htc_common.commands.application import conf_dir
from rlkl_htc_common.runs.commands import own_configs

ROOT = Path(__file__).resolve().parents[2]
LICENCE = (ROOT / "LICENSE").read_text()
FILES = {
    "penalty/mine.yaml": "defaults: [prioritized, _self_]\nbeta: 7\n",
    "loss/mine.yaml": "defaults: [conditional_softmax_la, _self_]\nprior_smoothing: 7\n",
    "experiment/mine.yaml": "# @package _global_\ndefaults: [penalties, _self_]\noutput: outputs/mine\n",
}


@pytest.fixture
def place(tmp_path):
    """A folder with the user's files, and with a `conf` that has nothing to do with ours."""
    for name, text in FILES.items():
        (tmp_path / "my conf" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "my conf" / name).write_text(text)
    for other in ("htc", "rlkl"):
        (tmp_path / "conf" / other).mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    ("module", "choice", "key", "value"),
    [
        ("rlkl.commands.finetune", "penalty=mine", "penalty.beta", 7),
        ("htc.commands.train", "loss=mine", "loss.prior_smoothing", 7),
        ("rlkl.commands.reproduce", "experiment=mine", "output", "outputs/mine"),
    ],
)
def test_own_files_are_choices(module, choice, key, value, place):
    command = [sys.executable, "-m", module, "--config-dir", "my conf", choice, "--cfg", "job"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = yaml.safe_load(done.stdout)
    for name in key.split("."):
        found = found[name]
    assert found == value


def test_commands_that_run_something_again_name_the_folder(place):
    hydra_defaults.register()
    with initialize_config_dir(str(conf_dir("rlkl")), version_base="1.3"):
        config = compose("app", return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        assert own_configs() == []
        OmegaConf.set_readonly(config.hydra, False)
        config.hydra.runtime.config_sources.append(ConfigSourceInfo(str(place / "my conf"), "file", "command-line"))
        HydraConfig.instance().set_config(config)
        assert own_configs() == ["--config-dir", str(place / "my conf")]
    HydraConfig.instance().cfg = None


@pytest.mark.parametrize("package", ["common", "htc", "rlkl"])
def test_each_package_has_the_licence(package):
    assert (ROOT / "packages" / package / "LICENSE").read_text() == LICENCE
