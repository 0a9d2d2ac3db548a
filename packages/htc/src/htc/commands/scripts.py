"""The console scripts."""

from functools import partial

from rlkl_htc_common.commands.entry import run

_run = partial(run, "htc", configs="htc.experiment.config")


def train() -> None:
    """htc-train."""
    _run("train")


def evaluate() -> None:
    """htc-evaluate."""
    _run("evaluate")


def predict() -> None:
    """htc-predict."""
    _run("predict")


def demo() -> None:
    """htc-demo."""
    _run("demo")


def reproduce() -> None:
    """htc-reproduce."""
    _run("reproduce")
