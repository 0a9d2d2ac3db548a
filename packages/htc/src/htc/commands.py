"""The console scripts, which answer signals and `--version` before they import torch."""

from common.entry import run


def train() -> None:
    """htc-train."""
    run("htc.train", "htc")


def evaluate() -> None:
    """htc-evaluate."""
    run("htc.evaluate", "htc")


def predict() -> None:
    """htc-predict."""
    run("htc.predict", "htc")
