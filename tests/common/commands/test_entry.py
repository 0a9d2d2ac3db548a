"""What every command does before it imports what takes seconds: its version, and signals."""

import random
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import pytest

PACKAGES = Path(__file__).resolve().parents[3] / "packages"
SCRIPTS = {
    name: target
    for package in ("htc", "rlkl")
    for name, target in tomllib.loads((PACKAGES / package / "pyproject.toml").read_text())["project"]["scripts"].items()
}
MODULES = {
    "htc": [
        "htc.commands.train",
        "htc.commands.evaluate",
        "htc.commands.predict",
        "htc.commands.reproduce",
        "htc.commands.demo",
    ],
    "rlkl": [
        "rlkl.commands.pretrain",
        "rlkl.commands.finetune",
        "rlkl.commands.evaluate",
        "rlkl.commands.analyze",
        "rlkl.commands.inspect",
        "rlkl.commands.reproduce",
        "rlkl.commands.reproduce_llm",
    ],
    "rlkl-htc-common": ["rlkl_htc_common.dashboards", "rlkl_htc_common.manifest", "rlkl_htc_common.commands.report"],
}


def script(name):
    """As the installed console script does it."""
    module, function = SCRIPTS[name].split(":")
    return [
        sys.executable,
        "-c",
        f"import sys\nfrom {module} import {function}\nsys.argv[0] = {name!r}\nsys.exit({function}())",
    ]


COMMANDS = {name: script(name) for name in SCRIPTS} | {
    module: [sys.executable, "-m", module] for modules in MODULES.values() for module in modules
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_our_version(command):
    done = subprocess.run([*COMMANDS[command], "seed=1", "--version"], capture_output=True, text=True, timeout=60)
    distribution = next((name for name, modules in MODULES.items() if command in modules), command.partition("-")[0])
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{distribution} {version(distribution)}\n", "")


def test_every_console_script_and_module_is_known_here():
    assert set(SCRIPTS) == {
        *(f"htc-{name}" for name in ("train", "evaluate", "predict", "reproduce", "demo")),
        *(f"rlkl-{name}" for name in ("pretrain", "finetune", "evaluate", "analyze", "inspect", "reproduce", "reproduce-llm")),
    }
    files = [file for file in PACKAGES.glob("*/src/**/*.py") if '\nif __name__ == "__main__":' in file.read_text()]
    assert all(re.search(r'^    (begin\("|scripts\.)', file.read_text(), re.MULTILINE) for file in files)
    assert {".".join(file.relative_to(PACKAGES).with_suffix("").parts[2:]) for file in files} == {
        m for modules in MODULES.values() for m in modules
    }


@pytest.mark.parametrize(
    "module", ["htc", "rlkl", "htc.commands.scripts", "rlkl.commands.scripts", "rlkl_htc_common.cli.program"]
)
def test_what_comes_before_signals_are_answered_takes_no_time(module):
    code = f"import sys, {module}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert not {"torch", "numpy", "hydra", "omegaconf", "transformers", "importlib.metadata"} & set(done.stdout.split())


def test_names_of_the_package_are_there_when_they_are_asked_for():
    import htc

    assert htc.Hierarchy is htc.labels.hierarchy.Hierarchy
    assert {"Hierarchy", "InputError"} <= set(htc.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Hierarchies'"):
        htc.Hierarchies  # noqa: B018


def answers_sigterm(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^SigCgt:\s*(\w+)", status, re.MULTILINE)[1], 16) >> (signal.SIGTERM - 1) & 1


def outcome(command, seconds, signals, folder):
    """Start a command, send signals some seconds after it answers them. Returns: its exit code and what it wrote."""

    def as_in_the_foreground():
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

    process = subprocess.Popen(
        command, cwd=folder, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=as_in_the_foreground
    )
    while not answers_sigterm(process.pid):  # 20 to 30 ms of Python's own start, many times that on a busy machine
        assert process.poll() is None, process.communicate()
        time.sleep(0.001)
    time.sleep(seconds)
    for number in signals:
        process.send_signal(number)
        time.sleep(0.1)
    _, err = process.communicate(timeout=120)
    return process.returncode, err


SENT = {
    "once": ([signal.SIGINT], 130),
    "twice": ([signal.SIGINT, signal.SIGINT], 130),
    "SIGTERM": ([signal.SIGTERM], 143),
    "SIGHUP": ([signal.SIGHUP], 129),
}


def check_random_moments(command, sent, tries, most, folder):
    signals, code = SENT[sent]
    moments, seen = random.Random(f"{command} {sent}"), Counter()
    for _ in range(tries):
        seconds = moments.uniform(0, most)
        found, err = outcome(COMMANDS[command], seconds, signals, folder)
        sentences = [line for line in err.splitlines() if re.match(r"[\w.-]+: (interrupted|stopped at once)", line)]
        assert found == code, (seconds, err)
        assert "Traceback" not in err, (seconds, err)
        assert 1 <= len(sentences) <= len(signals), (seconds, err)
        seen[len(sentences)] += 1
    print(f"{command}, {sent}: {tries} tries, by number of sentences: {dict(seen)}")


@pytest.mark.parametrize("sent", SENT)
def test_signals_while_modules_are_imported(sent, tmp_path):
    check_random_moments("htc-predict", sent, 3, 1, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("sent", SENT)
@pytest.mark.parametrize("command", ["htc-train", "rlkl.commands.reproduce"])
def test_signals_at_random_moments_of_the_first_six_seconds(command, sent, tmp_path):
    check_random_moments(command, sent, 30, 6, tmp_path)


REPORT = "rlkl_htc_common.commands.report"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "report: expected one folder: python -m rlkl_htc_common.commands.report FOLDER"),
        ([""], "report: expected one folder: python -m rlkl_htc_common.commands.report FOLDER"),
        (["one", "two"], "report: expected one folder: python -m rlkl_htc_common.commands.report FOLDER"),
        (["--folder=x"], "report: expected one folder: python -m rlkl_htc_common.commands.report FOLDER"),
        (["missing"], "report: missing is no folder."),
        ([__file__], f"report: {__file__} is no folder."),
        (
            ["."],
            "report: . holds none of these: grid.json or summary.json of a reproduction, analysis.json, "
            "*/job.json of a multirun.",
        ),
    ],
)
def test_a_report_of_what_is_no_folder_of_runs_is_refused(arguments, message, tmp_path):
    command = [sys.executable, "-m", REPORT, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{message}\n")


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["folder", "--help"]])
def test_the_help_of_report_says_how_it_is_called(arguments):
    done = subprocess.run([sys.executable, "-m", REPORT, *arguments], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"python -m {REPORT} FOLDER" in done.stdout


@pytest.mark.parametrize(
    ("script", "told", "form"),
    [
        ("rlkl-reproduce", "methods={mine: {penalty: standard}}", "'+methods={mine: ...}'"),
        ("rlkl-reproduce", "methods.mine={penalty: standard}", "'+methods={mine: ...}'"),
        ("rlkl-reproduce", "methods.mine.penalty=standard", "'+methods={mine: ...}'"),
        ("htc-reproduce", "methods={mine: {loss: bce}}", "'+methods={mine: ...}'"),
        ("htc-reproduce", "methods.bce.x=1", "'+methods.bce={x: ...}'"),
        ("rlkl-reproduce", "methods=3", None),
        ("htc-train", "loss.tau=2", None),
        ("rlkl-finetune", "penalty.x=1", None),
    ],
)
def test_an_entry_that_is_refused_is_told_with_the_form_that_adds_it(script, told, form):
    done = subprocess.run([*COMMANDS[script], told, "--cfg", "job"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert ("To add an entry" in done.stderr) == (form is not None)
    assert form is None or done.stderr.endswith(f"To add an entry, put a plus in front: {form}.\n")
    if form is not None and "mine" in form:
        added = form.strip("'").replace("...", "{}")
        done = subprocess.run([*COMMANDS[script], added, "--cfg", "job"], capture_output=True, text=True, timeout=60)
        assert (done.returncode, "  mine: {}" in done.stdout) == (0, True)
