"""`--help` shows what users can choose and set, and says what each of it means."""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

import htc.experiment.config
import rlkl.commands.config
from rlkl_htc_common.commands.help import choices_of, meanings, settings_of

CONF = Path(__file__).resolve().parents[3] / "conf"
COMMANDS = [
    (package, name) for package, of in (("htc", htc.experiment.config), ("rlkl", rlkl.commands.config)) for name in of.SCHEMAS
]
GROUPS = [
    (package, command, group, choice)
    for package, command, groups in (
        ("htc", "train", ("dataset", "loss", "encoder", "model")),
        ("rlkl", "finetune", ("penalty", "algorithm")),
        ("rlkl", "pretrain", ("training",)),
    )
    for group in groups
    for choice in choices_of(group, [CONF / package])
]


def composed(package, command, *overrides):
    {"htc": htc.experiment.config, "rlkl": rlkl.commands.config}[package].register()
    with initialize_config_dir(str(CONF / package), version_base="1.3"):
        return compose(command, list(overrides))


@pytest.mark.parametrize(("package", "command"), COMMANDS)
def test_every_key_of_every_command_has_a_meaning(package, command):
    assert [key for key, _, meaning in settings_of(composed(package, command)) if not meaning] == []


@pytest.mark.parametrize(("package", "command", "group", "choice"), GROUPS)
def test_every_key_of_every_choice_has_a_meaning(package, command, group, choice):
    config = composed(package, command, f"{group}={choice}")
    assert [key for key, _, meaning in settings_of(config) if not meaning] == []


def test_meanings_are_those_of_the_class_and_of_what_it_comes_from():
    class Above:
        """Above.

        Attributes:
            one, two: of both:
                said in two lines.
            three: said above.
        """

    class Below(Above):
        """Below.

        Attributes:
            three: said below, `a`: b.

        No: key.
        """

    both = "of both: said in two lines."
    assert meanings(Below) == {"one": both, "two": both, "three": "said below, `a`: b."}


def test_a_field_with_choices_ends_with_them():
    @dataclass
    class Schema:
        """Settings.

        Attributes:
            one: of a kind.
        """

        one: str = field(default="a", metadata={"choices": ("a", "b")})
        two: str = field(default="a", metadata={"choices": ("a",)})

    assert meanings(Schema) == {"one": "of a kind. One of a, b.", "two": "One of a."}


def test_help_shows_choices_of_users_only(tmp_path):
    (tmp_path / "penalty").mkdir()
    (tmp_path / "penalty" / "mine.yaml").write_text("defaults: [standard, _self_]\nalpha: 3.0\n")
    command = [sys.executable, "-m", "rlkl.commands.finetune", "penalty=mine", "--help", "--config-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "_schema" not in done.stdout
    assert "architecture" not in done.stdout, "which rlkl-finetune does not have"
    assert "  penalty=mine\n" in done.stdout
    assert "  penalty.alpha=3.0\n      the coefficient" in done.stdout
    assert "penalty.beta" not in done.stdout


@pytest.mark.parametrize(
    ("program", "line", "offered"),
    [
        ("htc.commands.train", "htc-train loss=c", "loss=champ loss=conditional_sigmoid loss=conditional_softmax "
         "loss=conditional_softmax_la"),
        ("htc.commands.train", "htc-train dataset=i", "dataset=icd10cm"),
        ("htc.commands.train", "htc-train _", ""),
        ("rlkl.commands.finetune", "rlkl-finetune penalty.al", "penalty.alpha="),
        ("rlkl.commands.finetune", "rlkl-finetune algorithm=p", "algorithm=ppo"),
    ],
)  # fmt: skip
def test_tab_offers_choices_of_users_only(program, line, offered, tmp_path):
    shell = {"COMP_LINE": line, "COMP_POINT": str(len(line))}
    command = [sys.executable, "-m", program, "-sc", "query=bash"]
    done = subprocess.run(command, env={**os.environ, **shell}, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, offered.split(), "")
