"""The command that a report gives for a run leads to that run."""

import shlex
from dataclasses import asdict
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

import htc.commands.reproduce
import htc.experiment.config
import rlkl.commands.config
import rlkl.commands.reproduce
from rlkl_htc_common.cli.grammar import literal
from rlkl_htc_common.cli.plain_text import as_override, text_keys
from rlkl_htc_common.runs.commands import commands_of
from rlkl_htc_common.runs.directory import config_hash

CONF = Path(__file__).resolve().parents[2] / "conf"
FOLDER = "a 'folder', of: 3\\"
PACKAGES = {"htc": (htc, "htc-train", "train"), "rlkl": (rlkl, "rlkl-finetune", "finetune")}
GRIDS = [
    (file.parents[1].name, file.stem, profile)
    for file in sorted(CONF.glob("*/experiment/*.yaml"))
    for profile in ("embedded", *(["paper"] if file.stem in ("hwv", "controls") else []))
    if not file.read_text().splitlines()[1].startswith("# rlkl-pretrain")
]


@pytest.fixture
def hydra_config():
    yield
    HydraConfig.instance().cfg = None


@pytest.mark.parametrize(("package", "experiment", "profile"), GRIDS)
def test_the_command_of_a_run_composes_to_its_config(package, experiment, profile, hydra_config):
    module, program, application = PACKAGES[package]
    module.config.register()
    told = [f"experiment={experiment}", f"profile={profile}"]
    with initialize_config_dir(str(CONF / package), version_base="1.3"):
        config = compose("reproduce", told, return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        OmegaConf.set_struct(config, False)
        del config["hydra"]
        if package == "htc" and OmegaConf.is_missing(config.dataset, "dir"):
            config.dataset.dir = FOLDER
        runs = module.reproduce.grid(OmegaConf.to_object(config))
        commands = commands_of(program, application, runs)
        assert len(set(commands)) == len(runs)
        for run, command in [*zip(runs, commands, strict=True)][-1:]:
            first, *arguments = shlex.split(command)
            overrides = [as_override(argument, text_keys(type(run))) for argument in arguments]
            again = OmegaConf.to_object(compose(application, overrides))
            assert first == program
            assert config_hash(asdict(again)) == config_hash(asdict(run))
            assert len(overrides) < 25, "only what differs from the defaults is said"


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        3,
        1e-05,
        2.5,
        "word",
        "/a/b-c",
        "../a",
        "./0",
        "/",
        "a b",
        "it's",
        "null",
        "1e-3",
        "",
        "\\",
        "ü,[x]",
        "of ${mine}",
        FOLDER,
        ["a", 1, None],
    ],
)
def test_values_are_written_as_hydra_reads_them(value):
    with initialize_config_dir(str(CONF / "htc"), version_base="1.3"):
        config = compose("app", [f"+key={literal(value)}"])
    assert config.key == value
