"""Commands compose their config first, and then import the modules that do the work."""

from importlib import import_module
from typing import Any

from rlkl_htc_common.cli.interruption import importing
from rlkl_htc_common.cli.program import begin


def run(distribution: str, command: str, configs: str) -> None:
    """Run a command: answer signals, then `compose_and_do`."""
    begin(distribution)
    compose_and_do(distribution, command, configs)


def compose_and_do(distribution: str, command: str, configs: str) -> None:
    """Compose a command's config, then import and run its work.

    Args:
        distribution: its distribution, also the name of its folder of configs. Its work is `task(config)` of the module
            `DISTRIBUTION.commands.COMMAND`.
        command: the name of its config.
        configs: the module with the schemas: `SCHEMAS`, by command, and `register`.
    """
    from rlkl_htc_common.commands.application import run_application  # here: signals must be answered first

    known = import_module(configs)
    known.register()
    work = Later(f"{distribution}.commands.{command}")
    run_application(work, application=distribution, config=command, schema=known.SCHEMAS[command])


class Later:
    """`task(config)` of a module, imported at the first call. Args: module: its name."""

    def __init__(self, module: str) -> None:
        self.module = module

    def __call__(self, config: Any) -> Any:
        with importing():
            module = import_module(self.module)
        return module.task(config)
