"""How commands begin, before what takes seconds to import: signals are answered, and so is `--version`.

Console scripts call `run`; other modules that are run by `python -m` call `begin` above their other imports.
"""

import sys
from importlib import import_module
from typing import Any

from rlkl_htc_common.cli import interruption

BAD_INPUT = 2  # the exit code


def begin(distribution: str, extra: str = "train") -> None:
    """Answer signals from here on, and `--version` with the version of a distribution, at which the process exits.

    It exits, too, where an extra that the command needs is not installed: better now than when a report is drawn.
    """
    interruption.answer_signals(program_name())
    show_version_if_asked(distribution)
    from rlkl_htc_common.extras import MissingExtraError, require  # here, for it takes as long as all else

    try:
        require(f"{distribution}[{extra}]")
    except MissingExtraError as error:
        print(f"{program_name()}: {error}", file=sys.stderr)
        sys.exit(BAD_INPUT)


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
    from rlkl_htc_common.cli.application import run_application  # here, for signals are answered by now

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


def program_name() -> str:
    """What the process was started as, without folders and `.py`."""
    return sys.argv[0].rpartition("/")[2].removesuffix(".py")


def show_version_if_asked(distribution: str) -> None:
    """Print the name and the version of a distribution and exit, if `--version` is among the arguments."""
    if "--version" not in sys.argv[1:]:
        return
    from importlib.metadata import PackageNotFoundError, version  # here, for it takes as long as all else

    try:
        print(distribution, version(distribution))
    except PackageNotFoundError:
        print(distribution, "(not installed, so that its version is unknown)")
    sys.exit(0)
