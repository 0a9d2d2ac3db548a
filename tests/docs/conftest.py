import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The folder of the built pages, and what Sphinx complained of."""
    folder = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-m", "sphinx", "--keep-going", "-n", "-q", "-b", "html", "-d", str(folder / "trees")]
    done = subprocess.run([*command, str(DOCS), str(folder / "html")], capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    return folder / "html", done.stderr
