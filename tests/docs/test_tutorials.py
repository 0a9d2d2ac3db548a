"""What the tutorials, some other pages and the README show is what comes: their commands are run, in order, in an empty folder.

A block tagged `sh` or `python` is run. A block tagged `text exact` or `text shape` after it is what it prints: to the letter,
or, where numbers depend on the machine, with any number in place of each number. Blocks that need TRL are run by
tests/rlkl/integrations.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    *("tutorials/htc.md", "tutorials/rlkl.md"),
    *("how-to/own_objective_or_rule.md", "how-to/own_weighting.md", "how-to/own_trainer.md"),
    *("how-to/python.md", "../README.md"),
)
FENCE = re.compile(r"^```(?P<tag>[^\n`]*)\n(?P<code>.*?)^```$", flags=re.DOTALL | re.MULTILINE)
SECONDS = 1800  # for one block, on a machine that has other work


class Block(NamedTuple):
    language: str
    code: str
    output: str | None
    how: str


def blocks(page: str) -> list[Block]:
    """What a page has to run, each with what the page says that it prints."""
    found = []
    for tag, code in FENCE.findall((ROOT / "docs" / page).read_text(encoding="utf-8")):
        if tag in ("sh", "python") and "rlkl.integrations" not in code:
            found.append(Block(tag, code, None, "exact"))
        elif tag.startswith("text ") and found:
            assert found[-1].output is None, f"{page}: two outputs of one block"
            found[-1] = found[-1]._replace(output=code, how=tag.removeprefix("text "))
    return found


def run(block: Block, folder: Path) -> str:
    """Run a block as the reader would, with the environment activated. Returns: its standard output."""
    program = (
        ["bash", "-e", "-o", "pipefail", "-c", block.code] if block.language == "sh" else [sys.executable, "-c", block.code]
    )
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(program, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, f"{block.code}\n{done.stderr[-3000:]}"
    return done.stdout


def shape(text: str) -> str:
    """A text with a mark in place of each number and hash, and without the space that aligns columns."""
    marked = re.sub(r"\b[0-9a-f]{12}\b", "#", text)
    return re.sub(r"[ \t]+", " ", re.sub(r"[+-]?\d+(\.\d+)?", "#", marked)).strip()


@pytest.mark.parametrize("page", PAGES)
def test_pages_have_something_to_run(page):
    assert blocks(page)
    assert {block.how for block in blocks(page)} <= {"exact", "shape"}


def test_a_shape_forgets_numbers_and_nothing_else():
    assert shape("run: a-seed0-0123456789ab  0.5") == shape("run: a-seed1-ba9876543210 12")
    assert shape("  65.7%  Music") == shape(" 3%  Music") != shape("3% Film")


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_print_what_the_page_shows(page, tmp_path):
    for block in blocks(page):
        printed = run(block, tmp_path)
        if block.output is None:
            continue
        if block.how == "exact":
            assert printed.strip() == block.output.strip(), block.code
        else:
            assert shape(printed) == shape(block.output), block.code
