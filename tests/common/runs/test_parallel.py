import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlkl_htc_common.errors import InputError
from rlkl_htc_common.runs.parallel import run_all

PROGRAM = """
import sys, time
from pathlib import Path
from rlkl_htc_common.cli import interruption
from rlkl_htc_common.runs.parallel import run_all

def run(number):
    Path(f"{number}.begun").touch()
    if sys.argv[1] == "evaluating":
        time.sleep(120)
    with interruption.finishing() as interrupted:
        Path(f"{number}.training").touch()
        if interrupted.wait(120):
            time.sleep(float(sys.argv[2]))  # the current step
            Path(f"{number}.saved").touch()
            raise KeyboardInterrupt
    return {}

if __name__ == "__main__":
    interruption.answer_signals("program")
    try:
        run_all(run, [1, 2, 3, 4], 2, "runs")
    except KeyboardInterrupt:
        sys.exit(interruption.exit_code())
"""
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def double(number):
    return {"value": 2 * number}


def test_results_come_in_order():
    assert [result["value"] for result in run_all(double, [3, 1, 2], 2, "runs")] == [6, 2, 4]
    assert run_all(double, [], 2, "runs") == []


def root(number):
    if number < 0:
        raise InputError(f"{number} has no root.")
    return {"value": number**0.5, "whole": 1 // number}


def test_a_run_that_fails_lets_the_others_go_on(tmp_path):
    with pytest.raises(InputError, match=r"^2 of 3 roots failed; the others are done: -1 has no root\. -4 has no root\.$"):
        run_all(root, [-1, 9, -4], 2, "roots")
    with pytest.raises(ZeroDivisionError):  # a bug
        run_all(root, [0, 9], 1, "roots")


def start(folder, *arguments):
    (folder / "program.py").write_text(PROGRAM)

    def as_in_the_foreground():
        for number in CODES:
            signal.signal(number, signal.SIG_DFL)

    return subprocess.Popen(
        [sys.executable, "program.py", *arguments],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=as_in_the_foreground,
    )


def wait_for(folder, pattern, process, count=2):
    deadline = time.monotonic() + 100
    while len(list(folder.glob(pattern))) < count:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def names(folder, pattern):
    return sorted(file.name for file in folder.glob(pattern))


def told(process):
    """What it said, besides its progress bars, once it and its workers have ended."""
    _, err = process.communicate(timeout=60)  # until the last of them has closed its standard error
    assert "Traceback" not in err
    assert "resource_tracker" not in err
    return [line for line in err.splitlines() if line.startswith("program: ")]


@pytest.mark.parametrize("group", [False, True], ids=["the process", "its group"])
@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize(
    ("phase", "pattern", "saved"), [("evaluating", "*.begun", []), ("training", "*.training", ["1.saved", "2.saved"])]
)
def test_an_interruption_ends_all_runs_those_in_training_with_a_checkpoint(phase, pattern, saved, number, group, tmp_path):
    process = start(tmp_path, phase, "0.5")
    wait_for(tmp_path, pattern, process)
    (os.killpg if group else os.kill)(process.pid, number)
    (sentence,) = told(process)
    assert sentence.startswith("program: interrupted")
    assert process.returncode == CODES[number]
    assert names(tmp_path, "*.saved") == saved
    assert names(tmp_path, "*.begun") == ["1.begun", "2.begun"]


def test_a_second_ctrl_c_leaves_no_worker_behind(tmp_path):
    process = start(tmp_path, "training", "60")
    wait_for(tmp_path, "*.training", process)
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.3)
    assert told(process)[1:] == ["program: stopped at once; what was finished or saved before is kept."]
    assert process.returncode == 130
    assert not names(tmp_path, "*.saved")


def test_ctrl_c_while_workers_start_begins_no_run(tmp_path):
    process = start(tmp_path, "training", "0")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while len(children.read_text().split()) < 3:  # the resource tracker, and two workers
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)
    assert len(told(process)) == 1
    assert process.returncode == 130
    assert not names(tmp_path, "*.begun")
