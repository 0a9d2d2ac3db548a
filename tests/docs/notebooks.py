"""The notebooks of examples/: run their cells, in order, in one process, without a kernel.

    python tests/docs/notebooks.py      runs them all and writes what they print into them

A notebook imports nothing of Jupyter, so its code is run as it stands; Jupyter shows the same.
"""

import contextlib
import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def read(file: Path) -> dict[str, Any]:
    """A notebook as JSON."""
    return json.loads(file.read_text(encoding="utf-8"))


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """Its cells of code."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def printed(cell: dict[str, Any]) -> str:
    """What a cell says that it prints."""
    return "".join("".join(output["text"]) for output in cell["outputs"])


def run(notebook: dict[str, Any], folder: Path) -> list[str]:
    """Run a notebook in a folder. Returns: what each of its cells of code printed."""
    names: dict[str, Any] = {"__name__": "__main__"}
    found = []
    with contextlib.chdir(folder):
        for cell in code_cells(notebook):
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                exec(compile("".join(cell["source"]), "cell", "exec"), names)
            found.append(output.getvalue())
    return found


def write(file: Path) -> None:
    """Run a notebook, and write what it prints into it."""
    notebook = read(file)
    with tempfile.TemporaryDirectory() as folder:
        outputs = run(notebook, Path(folder))
    for number, (cell, text) in enumerate(zip(code_cells(notebook), outputs, strict=True), start=1):
        stream = {"name": "stdout", "output_type": "stream", "text": text.splitlines(keepends=True)}
        cell |= {"execution_count": number, "outputs": [stream] if text else []}
    file.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    for each in NOTEBOOKS:
        write(each)
