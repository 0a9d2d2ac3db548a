"""Ctrl-C, SIGTERM and SIGHUP in each phase of a process; in programs that import nothing which takes time."""

import os
import pty
import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import ctypes, sys, time
from pathlib import Path
from rlkl_htc_common.cli import interruption

interruption.answer_signals("program")

def work(event=None, seconds=60):
    Path("begun").touch()
    end = time.monotonic() + seconds
    while time.monotonic() < end and not (event is not None and event.is_set()):
        time.sleep(0.01)

def importing():
    work()

def importing_for_a_task():
    with interruption.stoppable():
        with interruption.importing():  # what is imported would be left by an exception
            work()

def loading():
    with interruption.stoppable():
        work()

def training():
    with interruption.stoppable(), interruption.finishing() as event:
        work(event)
        time.sleep(float(sys.argv[2]))  # the current step
        Path("saved").touch()

def in_a_long_call():
    with interruption.stoppable():
        Path("begun").touch()
        ctypes.CDLL(None).sleep(20)  # the main thread runs no Python code, and holds no lock: as in a call of torch

def in_a_finaliser():
    class Lost:
        def __del__(self):
            work()
    with interruption.stoppable():
        Lost()
        time.sleep(60)

def taken_for_an_error():
    with interruption.stoppable():
        try:
            work()
        except BaseException as error:
            raise ValueError("an extension says so") from error

try:
    globals()[sys.argv[1]]()
except BaseException:
    if interruption.received() is None:
        raise
    Path("unwound").touch()
    sys.exit(interruption.exit_code())
"""
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def start(folder, phase, step=0.0, program=PROGRAM, **options):
    (folder / "program.py").write_text(program)

    def as_in_the_foreground():
        for number in CODES:
            signal.signal(number, signal.SIG_DFL)

    options = {"stderr": subprocess.PIPE, "preexec_fn": as_in_the_foreground, "start_new_session": True} | options
    process = subprocess.Popen([sys.executable, "program.py", phase, str(step)], cwd=folder, text=True, **options)
    deadline = time.monotonic() + 60
    while not (folder / "begun").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    return process


@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize(
    "phase", ["importing", "importing_for_a_task", "loading", "training", "in_a_finaliser", "taken_for_an_error"]
)
def test_one_sentence_and_a_code_that_names_the_signal(phase, number, tmp_path):
    process = start(tmp_path, phase)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == CODES[number]
    (sentence,) = err.splitlines()
    assert sentence.startswith("program: interrupted")
    assert (number.name in sentence) == (number != signal.SIGINT)
    assert "the same command continues" in sentence
    assert (tmp_path / "saved").exists() == (phase == "training")
    assert (tmp_path / "unwound").exists() == (phase in ("loading", "training", "taken_for_an_error"))


def test_the_sentence_comes_while_the_step_goes_on(tmp_path):
    process = start(tmp_path, "training", step=3)
    sent = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline() == (
        "program: interrupted: finishing the current step and saving a checkpoint; the same command continues from there; "
        "a second Ctrl-C stops at once.\n"
    )
    assert time.monotonic() - sent < 2.5
    assert not (tmp_path / "saved").exists()
    assert process.wait(timeout=30) == 130
    assert (tmp_path / "saved").exists()


@pytest.mark.parametrize("pause", [0.02, 0.3, 1.0])
@pytest.mark.parametrize("phase", ["importing", "importing_for_a_task", "loading", "training"])
def test_a_second_ctrl_c_stops_at_once(phase, pause, tmp_path):
    process = start(tmp_path, phase, step=30)
    process.send_signal(signal.SIGINT)
    time.sleep(pause)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in err
    lines = err.splitlines()
    assert lines[0].startswith("program: interrupted")
    assert len(lines) == (2 if phase == "training" else 1)
    assert not (tmp_path / "saved").exists()


@pytest.mark.parametrize(("pause", "saved"), [(0.1, True), (1.0, False)])
def test_an_echo_is_no_second_signal(pause, saved, tmp_path):
    """`timeout`, a shell at its end, and torchrun send to the process what its group was sent already."""
    process = start(tmp_path, "training", step=2.5)
    process.send_signal(signal.SIGTERM)
    time.sleep(pause)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=30) == (143 if saved else 129)
    assert (tmp_path / "saved").exists() == saved


def test_a_terminal_that_closes_may_send_two_between_any_two_lines(tmp_path):
    """The second signal is handled inside the handler of the first one, wherever that has come to."""
    program = PROGRAM.replace(
        "\ntry:\n",
        """
note = interruption._Answering._note

def send_again(self, number):
    if number == 1 and self._came is None:
        interruption._Answering._note = note
        interruption.signal.raise_signal(1)
    note(self, number)

interruption._Answering._note = send_again
try:
""",
        1,
    )
    process = start(tmp_path, "training", program=program)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=30) == 129
    assert (tmp_path / "saved").exists()


def test_what_nohup_ignores_stays_ignored(tmp_path):
    process = start(tmp_path, "loading", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 143


def test_a_terminal_that_is_closed_takes_no_checkpoint_with_it(tmp_path):
    """Writing to it fails; the process was begun on it, and is sent SIGHUP by the system."""
    terminal, mine = pty.openpty()

    def on_this_terminal():
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
        os.setsid()
        import fcntl
        import termios

        fcntl.ioctl(mine, termios.TIOCSCTTY, 0)

    options = {"stdin": mine, "stdout": mine, "stderr": mine, "start_new_session": False, "preexec_fn": on_this_terminal}
    process = start(tmp_path, "training", **options)
    os.close(mine)
    os.close(terminal)
    assert process.wait(timeout=30) == 129
    assert (tmp_path / "saved").exists()


def test_a_long_call_does_not_delay_the_sentence(tmp_path):
    process = start(tmp_path, "in_a_long_call")
    sent = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline().startswith("program: interrupted")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=15) == 130
    assert time.monotonic() - sent < 15


@pytest.mark.parametrize("twice", [False, True])
def test_a_library_waits_for_the_first_ctrl_c_only(twice, tmp_path):
    process = start(tmp_path, "training", 2, PROGRAM.replace('interruption.answer_signals("program")\n', ""))
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    if twice:
        process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode != 0
    assert (tmp_path / "saved").exists() == (not twice)
