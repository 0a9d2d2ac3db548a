"""The console scripts, which answer signals and `--version` before they import torch."""

from common.entry import run


def pretrain() -> None:
    """rlkl-pretrain."""
    run("rlkl.pretrain", "rlkl")


def finetune() -> None:
    """rlkl-finetune."""
    run("rlkl.finetune", "rlkl")


def evaluate() -> None:
    """rlkl-evaluate."""
    run("rlkl.evaluate", "rlkl")
