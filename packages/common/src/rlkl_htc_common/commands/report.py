"""make report: draw a report again from the files of its runs, or from its summary if these are gone.

python -m rlkl_htc_common.commands.report FOLDER    the folder of a reproduction, an analysis or a multirun
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
from rlkl_htc_common.report.records import SUMMARY
from rlkl_htc_common.report.run_list import GRID
from rlkl_htc_common.report.sweep import finish
from rlkl_htc_common.runs.directory import read_json
from rlkl_htc_common.runs.sweeps import RECORD
from rlkl_htc_common.terminal import printable

DRAWN_BY = {  # by what `package` in a file says: whose `draw` draws the report of a grid, and whose `redraw` draws it again
    "rlkl": ("rlkl.commands.reproduce", "rlkl.report.reproduction"),
    "htc": ("htc.commands.reproduce", "htc.report.reproduction"),
    "rlkl-llm": ("rlkl.report.llm", "rlkl.report.llm"),
}
ANALYSIS = "analysis.json"
ADVICE = "give the command of the reproduction again"


def draw(folder: Path) -> None:
    """Draw the report in a folder again.

    Raises:
        InputError: if the folder is of no such kind, or a run is missing or damaged.
    """
    if (folder / GRID).exists() and not _runs_are_gone(folder):
        drawing, _ = _drawn_by(folder / GRID)
        print_result(f"report: {import_module(drawing).draw(folder)}")
    elif (folder / SUMMARY).exists():
        _, redrawing = _drawn_by(folder / (GRID if (folder / GRID).exists() else SUMMARY))
        file = import_module(redrawing).redraw(folder)
        print_result(f"report: {file} (from {SUMMARY}, for no run directory is there)")
    elif (folder / ANALYSIS).exists():
        print_result(f"report: {import_module('rlkl.report.analysis').redraw(folder)}")
    elif any(folder.glob(f"*/{RECORD}")):
        finish(program_name(), folder)
    else:
        raise InputError(
            f"{folder} holds none of these: {GRID} or {SUMMARY} of a reproduction, {ANALYSIS}, */{RECORD} of a multirun."
        )


def _runs_are_gone(folder: Path) -> bool:
    """Whether nothing is left of the runs of a grid, whose summary is there."""
    runs = read_json(folder / GRID, ADVICE).get("runs", [])
    return bool(runs) and (folder / SUMMARY).exists() and not any(Path(run["run_dir"]).exists() for run in runs)


def _drawn_by(file: Path) -> tuple[str, str]:
    package = read_json(file, ADVICE).get("package")
    if package not in DRAWN_BY:
        raise InputError(f"{file} is of none of {', '.join(DRAWN_BY)}; {ADVICE}.")
    return DRAWN_BY[package]


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
