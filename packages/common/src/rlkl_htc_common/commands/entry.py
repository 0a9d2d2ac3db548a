"""Commands: each composes its config before it imports what does its work."""

from importlib import import_module
from typing import Any

from rlkl_htc_common.cli.program import begin


def run(distribution: str, command: str, configs: str) -> None:
    """Be a command: answer signals, and then see `compose_and_do`."""
    begin(distribution)
    compose_and_do(distribution, command, configs)


def compose_and_do(distribution: str, command: str, configs: str) -> None:
    """Compose a command's config, and only then import what does its work.

    Args:
        distribution: that it comes with, after which its folder of configs is called; its work is `task(config)` of the module
            `DISTRIBUTION.commands.COMMAND`.
        command: what its config is called.
        configs: the module with the schemas of configs: `SCHEMAS`, by command, and `register`.
    """
    from rlkl_htc_common.commands.application import run_application  # here, for signals are answered by now

    known = import_module(configs)
    known.register()
    work = Later(f"{distribution}.commands.{command}")
    run_application(work, application=distribution, config=command, schema=known.SCHEMAS[command])


class Later:
    """`task(config)` of a module that is imported when it is called. Args: module: its name."""

    def __init__(self, module: str) -> None:
        self.module = module

    def __call__(self, config: Any) -> Any:
        return import_module(self.module).task(config)
