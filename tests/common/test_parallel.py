import os
import signal
import subprocess
import sys
import time

import pytest

from common.errors import InputError
from common.parallel import run_all

PROGRAM = """
import time
from pathlib import Path
from common.interruption import finishing
from common.parallel import run_all

def run(number):
    Path(f"{number}.begun").touch()
    time.sleep(1)  # a model is loaded, say
    with finishing() as interrupted:
        Path(f"{number}.trains").touch()
        if interrupted.wait(120):
            Path(f"{number}.saved").touch()
    return {}

if __name__ == "__main__":
    run_all(run, [1, 2, 3, 4], 2, "runs")
"""


def double(number):
    return {"value": 2 * number}


def test_results_come_in_order():
    assert [result["value"] for result in run_all(double, [3, 1, 2], 2, "runs")] == [6, 2, 4]
    assert run_all(double, [], 2, "runs") == []


def root(number):
    if number < 0:
        raise ValueError(f"{number} has no root.")
    return {"value": number**0.5, "whole": 1 // number}


def test_a_run_that_fails_lets_the_others_go_on(tmp_path):
    with pytest.raises(InputError, match=r"^2 of 3 roots failed; the others are done: -1 has no root\. -4 has no root\.$"):
        run_all(root, [-1, 9, -4], 2, "roots", ValueError)
    with pytest.raises(ZeroDivisionError):  # a bug
        run_all(root, [0, 9], 1, "roots", ValueError)


@pytest.mark.parametrize(("phase", "saved"), [("begun", []), ("trains", ["1.saved", "2.saved"])])
def test_ctrl_c_ends_runs_and_those_that_train_save_first(phase, saved, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which tests that run in the background ignore
    )
    deadline = time.monotonic() + 100
    while len(list(tmp_path.glob(f"*.{phase}"))) < 2:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert sorted(file.name for file in tmp_path.glob("*.saved")) == saved
    assert len(list(tmp_path.glob("*.begun"))) == 2
