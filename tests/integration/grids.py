"""The grids of conf/, composed as `reproduce` does it."""

from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import htc.commands.reproduce
import htc.experiment.config
import rlkl.commands.config
import rlkl.commands.reproduce
from rlkl_htc_common.commands.grid import compose_methods

CONF = Path(__file__).resolve().parents[2] / "conf"
FOLDER = "a 'folder', of: 3\\"
MODULES = {
    "htc": (htc.experiment.config, htc.commands.reproduce),
    "rlkl": (rlkl.commands.config, rlkl.commands.reproduce),
}
GRIDS = [
    (file.parents[1].name, file.stem)
    for file in sorted(CONF.glob("*/experiment/*.yaml"))
    if not file.read_text().splitlines()[1].startswith("# rlkl-pretrain")
]


def grid_of(package, *given):
    """Its config, its methods, and the run of each by name."""
    configs, reproduce = MODULES[package]
    configs.register()
    with initialize_config_dir(str(CONF / package), version_base="1.3"):
        composed = compose("reproduce", list(given))
        if package == "htc" and OmegaConf.is_missing(composed.dataset, "dir"):
            given = [*given, "dataset.dir=folder"]
            composed = compose("reproduce", given)
        config = OmegaConf.to_object(composed)
        methods = compose_methods("reproduce", config.methods, given)
    return config, methods, {method.name: reproduce.run_of(method.config) for method in methods}
