"""The console scripts, which answer signals and `--version` before they import torch."""

from rlkl_htc_common.cli.entry import run


def train() -> None:
    """htc-train."""
    run("htc.commands.train", "htc")


def evaluate() -> None:
    """htc-evaluate."""
    run("htc.commands.evaluate", "htc")


def predict() -> None:
    """htc-predict."""
    run("htc.commands.predict", "htc")


def reproduce() -> None:
    """htc-reproduce."""
    run("htc.commands.reproduce", "htc")
