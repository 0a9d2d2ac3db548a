"""The console scripts."""

from functools import partial

from rlkl_htc_common.commands.entry import run

_run = partial(run, "rlkl", configs="rlkl.commands.config")


def pretrain() -> None:
    """rlkl-pretrain."""
    _run("pretrain")


def finetune() -> None:
    """rlkl-finetune."""
    _run("finetune")


def evaluate() -> None:
    """rlkl-evaluate."""
    _run("evaluate")


def analyze() -> None:
    """rlkl-analyze."""
    _run("analyze")


def reproduce() -> None:
    """rlkl-reproduce."""
    _run("reproduce")


def inspect() -> None:
    """rlkl-inspect."""
    _run("inspect")


def reproduce_llm() -> None:
    """rlkl-reproduce-llm."""
    _run("reproduce_llm")
