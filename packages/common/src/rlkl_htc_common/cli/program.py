"""How a program begins, before what takes seconds to import: signals are answered, and so is `--version`.

Modules that are run by `python -m` call `begin` above their other imports; console scripts, `rlkl_htc_common.commands.entry`.
"""

import sys

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
