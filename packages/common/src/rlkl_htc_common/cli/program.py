"""The start of a program, before slow imports: signals and `--version` are answered.

Modules for `python -m` call `begin` above their other imports; console scripts use `rlkl_htc_common.commands.entry`.
"""

import sys

from rlkl_htc_common.cli import interruption

BAD_INPUT = 2  # the exit code


def begin(distribution: str, extra: str = "train") -> None:
    """Answer signals from here on. Exit after `--version`, with the version of a distribution.

    Exit also if an extra that the command needs is not installed: better now than after the training.
    """
    interruption.answer_signals(program_name())
    show_version_if_asked(distribution)
    from rlkl_htc_common.extras import MissingExtraError, require  # here: the import is slow

    try:
        require(f"{distribution}[{extra}]")
    except MissingExtraError as error:
        print(f"{program_name()}: {error}", file=sys.stderr)
        sys.exit(BAD_INPUT)


def program_name() -> str:
    """The name that the process was started with, without folders and `.py`."""
    return sys.argv[0].rpartition("/")[2].removesuffix(".py")


def show_version_if_asked(distribution: str) -> None:
    """If `--version` is an argument, print name and version of a distribution and exit."""
    if "--version" not in sys.argv[1:]:
        return
    from importlib.metadata import PackageNotFoundError, version  # here: the import is slow

    try:
        print(distribution, version(distribution))
    except PackageNotFoundError:
        print(distribution, "(not installed, so that its version is unknown)")
    sys.exit(0)
