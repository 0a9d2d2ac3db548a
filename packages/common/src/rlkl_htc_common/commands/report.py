"""make report: draw a report again from the files of its runs.

python -m rlkl_htc_common.commands.report FOLDER    the folder of a reproduction or a multirun
"""

if __name__ == "__main__":  # before the slow imports
    from rlkl_htc_common.cli.program import begin

    begin("rlkl-htc-common")


import sys
from importlib import import_module
from pathlib import Path

from rlkl_htc_common.cli.interruption import stoppable
from rlkl_htc_common.cli.program import program_name
from rlkl_htc_common.commands.application import BAD_INPUT, print_result
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.report.run_list import GRID
from rlkl_htc_common.report.sweep import finish
from rlkl_htc_common.runs.directory import read_json
from rlkl_htc_common.runs.sweeps import RECORD
from rlkl_htc_common.terminal import printable

PACKAGES = ("rlkl", "htc")  # whose `commands.reproduce.draw` draws the report of a grid


def draw(folder: Path) -> None:
    """Draw the report in a folder again.

    Raises:
        InputError: if the folder is of neither kind, or a run is missing or damaged.
    """
    if (folder / GRID).exists():
        package = read_json(folder / GRID, "give the command of the reproduction again").get("package")
        if package not in PACKAGES:
            raise InputError(
                f"{folder / GRID} is of none of {', '.join(PACKAGES)}; give the command of the reproduction again."
            )
        print_result(f"report: {import_module(f'{package}.commands.reproduce').draw(folder)}")
    elif any(folder.glob(f"*/{RECORD}")):
        finish(program_name(), folder)
    else:
        raise InputError(f"{folder} holds neither {GRID} of a reproduction nor */{RECORD} of a multirun.")


def main() -> None:
    """The entry point."""
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print_result(str(__doc__).strip())
        return
    try:
        if len(arguments) != 1 or not arguments[0] or arguments[0].startswith("-"):
            raise InputError("expected one folder: python -m rlkl_htc_common.commands.report FOLDER")
        if not Path(arguments[0]).is_dir():
            raise InputError(f"{arguments[0]} is no folder.")
        with stoppable():
            draw(Path(arguments[0]))
    except InputError as error:
        print(printable(f"{program_name()}: {error}", keep=""), file=sys.stderr)
        sys.exit(BAD_INPUT)


if __name__ == "__main__":
    main()
