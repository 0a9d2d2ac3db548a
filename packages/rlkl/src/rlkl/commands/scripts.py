"""The console scripts, which answer signals and `--version` before they import torch."""

from rlkl_htc_common.cli.entry import run


def pretrain() -> None:
    """rlkl-pretrain."""
    run("rlkl.commands.pretrain", "rlkl")


def finetune() -> None:
    """rlkl-finetune."""
    run("rlkl.commands.finetune", "rlkl")


def evaluate() -> None:
    """rlkl-evaluate."""
    run("rlkl.commands.evaluate", "rlkl")


def analyze() -> None:
    """rlkl-analyze."""
    run("rlkl.commands.analyze", "rlkl")


def reproduce() -> None:
    """rlkl-reproduce."""
    run("rlkl.commands.reproduce", "rlkl")
