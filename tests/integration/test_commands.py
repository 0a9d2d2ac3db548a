"""The command that a report gives for a run leads to that run."""

import shlex
from dataclasses import asdict, replace

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from rlkl_htc_common.cli.grammar import literal
from rlkl_htc_common.cli.plain_text import as_override, text_keys
from rlkl_htc_common.commands import hydra_defaults
from rlkl_htc_common.runs.commands import commands_of
from rlkl_htc_common.runs.directory import config_hash

from .grids import CONF, FOLDER, GRIDS, grid_of

PROGRAMS = {"htc": ("htc-train", "train"), "rlkl": ("rlkl-finetune", "finetune")}
OF_TWO_PROFILES = ("hwv", "controls")


@pytest.mark.parametrize(
    ("package", "experiment", "profile"),
    [
        (package, experiment, profile)
        for package, experiment in GRIDS
        for profile in ("embedded", *(["paper"] if experiment in OF_TWO_PROFILES else []))
    ],
)
def test_the_command_of_a_run_composes_to_its_config(package, experiment, profile):
    program, application = PROGRAMS[package]
    given = [f"experiment={experiment}", f"profile={profile}"]
    _, methods, by_name = grid_of(package, *given)
    runs = [replace(run, seed=3) for run in by_name.values()]
    if package == "htc":
        runs = [
            replace(run, dataset=replace(run.dataset, dir=FOLDER) if hasattr(run.dataset, "dir") else run.dataset)
            for run in runs
        ]
    with initialize_config_dir(str(CONF / package), version_base="1.3"):
        commands = commands_of(program, application, runs, [method.choices for method in methods])
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
    hydra_defaults.register()
    with initialize_config_dir(str(CONF / "htc"), version_base="1.3"):
        config = compose("app", [f"+key={literal(value)}"])
    assert config.key == value
