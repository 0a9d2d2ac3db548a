"""`make demo`, with a few documents and steps: its page, that finished parts are not run again, and Ctrl-C."""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "examples" / "demo.py"
SMALL = """
import runpy, sys
demo = {file!r}
source = open(demo).read().replace('"dataset.max_documents": 12000', '"dataset.max_documents": 300, "training.epochs": 1')
few = '"algorithm.iterations": {iterations}, "algorithm.episodes": 10, "evaluation_examples": 3'
source = source.replace('"algorithm.iterations": 8', few)
sys.argv[0] = demo
exec(compile(source, demo, "exec"), {{"__name__": "__main__"}})
"""


def small(iterations=1):
    """A command: the demonstration on a few documents."""
    return [sys.executable, "-c", SMALL.format(file=str(DEMO), iterations=iterations)]


def environment():
    return os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def demo():
    spec = importlib.util.spec_from_file_location("demo", DEMO)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_page_is_whole_and_finished_parts_are_not_run_again(tmp_path):
    first = subprocess.run(small(), cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=900)
    assert first.returncode == 0, first.stderr[-3000:]
    assert first.stdout.splitlines()[-1] == "page: outputs/demo/demo.html"
    assert re.findall(r"^(\d of 3): ", first.stderr, flags=re.MULTILINE) == ["1 of 3", "2 of 3", "3 of 3", "3 of 3"]
    page = (tmp_path / "outputs/demo/demo.html").read_text(encoding="utf-8")
    for heading in ("Five sentences, labelled", "with and without the weighting", "Mistakes, coloured by certainty"):
        assert heading in page
    assert "Broken left wrist" in page
    assert "background:rgba(213,94,0" in page
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", page)
    results = {file: file.stat().st_mtime_ns for file in tmp_path.glob("runs/**/result.json")}
    assert len(results) == 3
    again = subprocess.run(small(), cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=900)
    assert again.returncode == 0, again.stderr[-3000:]
    assert {file: file.stat().st_mtime_ns for file in tmp_path.glob("runs/**/result.json")} == results


@pytest.mark.slow
def test_after_ctrl_c_the_same_command_continues(tmp_path):
    process = subprocess.Popen(small(3), cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 600
    while not list(tmp_path.glob("runs/rlkl/**/checkpoints/*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 130, said[-3000:]
    assert "demo: interrupted" in said
    assert "the same command continues" in said
    assert not (tmp_path / "outputs/demo/demo.html").exists()
    done = subprocess.run(small(3), cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "outputs/demo/demo.html").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["a", "b"], "demo: expected at most one folder: python examples/demo.py FOLDER"),
        (["--fast"], "demo: expected at most one folder: python examples/demo.py FOLDER"),
        (["file/demo"], "demo: file/demo: cannot write there: Not a directory."),
    ],
)
def test_bad_input_is_one_sentence(arguments, sentence, demo, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(DEMO), *arguments])
    with pytest.raises(SystemExit) as ended:
        demo.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.strip() == sentence


def test_help_says_what_it_does(demo, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(DEMO), "--help"])
    demo.main()
    assert "in two minutes" in capsys.readouterr().out


def test_a_sentence_without_a_label_has_a_row(demo):
    assert demo._row([]) == ["–", "–", "–"]
    short, long = [demo.htc.predictor.Step("A", 0.9)], [demo.htc.predictor.Step("B", 0.8), demo.htc.predictor.Step("C", 0.7)]
    assert demo._row([short, long]) == ["C", "70%", "B"]
    assert demo._row([short]) == ["A", "90%", "–"]


def test_the_small_demonstration_replaces_what_it_names():
    source = DEMO.read_text(encoding="utf-8")
    assert '"dataset.max_documents": 12000' in source
    assert '"algorithm.iterations": 8' in source


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(("given", "seeds"), [([], "0 $((3 - 1))"), (["SEEDS=9"], "0 $((9 - 1))")])
def test_make_reproduce_takes_seeds(given, seeds):
    command = ["make", "-n", "reproduce", *given]
    planned = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60).stdout
    assert re.search(rf"rlkl-reproduce[^\n]*(?:\n[^\n]*)?{re.escape(seeds)}", planned)
    assert planned.index("rlkl-reproduce") < planned.index("htc-reproduce")
    assert seeds not in planned[planned.index("htc-reproduce") :]
