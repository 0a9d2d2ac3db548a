"""Sweeps as a person starts them: killed, started again, with jobs that fail."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

CONF = Path(__file__).resolve().parents[2] / "conf"
PROGRAM = Path(__file__).with_name("sweep_application.py")
TWELVE = ["--multirun", "x=1,2,3,4", "seed=0,1,2", "hydra.sweep.dir=outputs/grid"]  # jobs
OF_ITS_OWN = ["grid=[1,2,3,4]", "seeds=[0,1,2]"]  # the same, as jobs of a command that continues when they are done


@pytest.fixture
def folder(tmp_path):
    """A working directory with the application's configs: ours, but for what is swept over."""
    toy = tmp_path / "conf" / "toy"
    toy.mkdir(parents=True)
    defaults = ["square_schema", "app", {"override /hydra/launcher": "cores"}, "_self_"]
    (toy / "square.yaml").write_text(yaml.safe_dump({"defaults": defaults, "hydra": {"job": {"name": "square"}}}))
    return tmp_path


def start(folder, *arguments, jobs=TWELVE):
    command = [sys.executable, str(PROGRAM), *jobs, *arguments]
    environment = os.environ | {"RLKL_HTC_CONF": str(folder / "conf")}
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.default_int_handler
        ),  # ignored where tests run in the background
    )


def run(folder, *arguments, jobs=TWELVE):
    process = start(folder, *arguments, jobs=jobs)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def begun(folder):
    file = folder / "runs" / "begun.txt"
    return file.read_text().splitlines() if file.exists() else []


def finished(folder):
    return len(list(folder.glob("runs/*/result.json")))


def wait_until(condition, process):
    deadline = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def test_a_sweep_that_is_killed_three_times_ends_with_the_same_table(folder):
    """And does nothing twice but what was under way."""
    for done in (2, 5, 8):
        process = start(folder, "seconds=0.3")
        wait_until(lambda done=done: finished(folder) >= done, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    before = finished(folder)
    assert before < 12
    code, out, err = run(folder)
    assert code == 0, err
    table = (folder / "outputs/grid/table.md").read_text()
    assert table in out
    assert len(begun(folder)) <= 12 + 3 * 4  # a kill costs at most what was under way, one job in each process
    again = run(folder)
    assert (again[0], (folder / "outputs/grid/table.md").read_text()) == (0, table)
    assert len(begun(folder)) <= 12 + 3 * 4

    whole = folder / "whole"
    whole.mkdir()
    (whole / "conf").symlink_to(folder / "conf")
    assert run(whole)[0] == 0
    assert (whole / "outputs/grid/table.md").read_text() == table
    assert len(begun(whole)) == 12
    rows = [line.split(" | ") for line in table.splitlines()[2:]]
    assert [row[0].strip("| ") for row in rows] == ["1", "2", "3", "4"]
    assert rows[1][1:] == ["3", "1.414 ± 0.000", f"6.000 ± {4.302653 / 3**0.5:.3f} |"]  # 4 + 1 + the mean of 0, 1 and 2
    assert table.splitlines()[0] == "| x | runs | dev/root | test/square |", "dev comes first"


@pytest.mark.slow
def test_fifty_kills_at_random_moments_change_no_sweep(folder):
    code, table, _ = run(folder, "runs=whole")
    assert code == 0
    moments, kills, ends = random.Random(0), 0, 0
    started = time.monotonic()
    while kills < 50 or ends == 0:
        assert time.monotonic() - started < 1800, f"{kills} kills, {ends} ends: it does not get on"
        process = start(folder, "seconds=0.1")
        try:
            out, err = process.communicate(timeout=moments.uniform(0, 10))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            kills += 1
        else:
            assert (process.returncode, out) == (0, table), err
            shutil.rmtree(folder / "runs")
            ends += 1


def test_jobs_that_fail_are_named_and_the_others_done(folder):
    code, out, err = run(folder, "refused=[2]", "broken=[3]")
    assert code == 1
    assert "| 1 | 3 | 1.000 ± 0.000 | 3.000" in out
    assert "| 4 | 3 | 2.000 ± 0.000 | 18.000" in out
    failures = [line for line in err.splitlines() if " failed: " in line]
    assert len(failures) == 6
    assert failures[0].startswith("sweep_application: job 3 failed: x must not be 2.0. (sweep_application x=2 seed=0 ")
    assert "outputs/grid/3/job.log" in failures[0]
    assert "job 6 failed: ZeroDivisionError: " in failures[3]
    assert "Traceback" not in err
    log = (folder / "outputs/grid/6/job.log").read_text()
    assert "squaring 3.0" in log
    assert "Traceback" in log
    assert "Traceback" not in (folder / "outputs/grid/3/job.log").read_text()
    page = (folder / "outputs/grid/report.html").read_text()
    assert "6 of 12 jobs done, 6 failed." in page
    code, out, err = run(folder)  # mended: only these are run again
    assert code == 0, err
    assert len(begun(folder)) == 18
    assert json.loads((folder / "outputs/grid/3/job.json").read_text())["error"] is None


@pytest.mark.parametrize("launcher", ["cores", "basic"])
@pytest.mark.parametrize(
    ("number", "send", "code"),
    [
        (signal.SIGINT, os.killpg, 130),
        (signal.SIGINT, os.kill, 130),
        pytest.param(signal.SIGTERM, os.killpg, 143, marks=pytest.mark.slow),
        (signal.SIGTERM, os.kill, 143),
        pytest.param(signal.SIGHUP, os.killpg, 129, marks=pytest.mark.slow),
    ],
)
def test_an_interruption_ends_a_sweep(number, send, code, launcher, folder):
    process = start(folder, "seconds=1", f"hydra/launcher={launcher}")
    wait_until(lambda: finished(folder) >= 1, process)
    send(process.pid, number)
    out, err = process.communicate(timeout=60)  # until the last of its processes is gone
    assert process.returncode == code
    assert "Traceback" not in err
    (sentence,) = [line for line in err.splitlines() if line.startswith("sweep_application: ")]
    assert "interrupted" in sentence
    assert not out
    done = len(begun(folder))
    assert done < 12
    again, _, err = run(folder)
    assert again == 0, err
    assert len(begun(folder)) <= 12 + 4, "what was done is not done again"


def test_a_second_ctrl_c_leaves_no_process_behind(folder):
    process = start(folder, "seconds=60")
    wait_until(lambda: begun(folder), process)
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.3)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err


CLIMBER = """
import json

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser


class Climber(BasicSweeper):
    # It takes scores as Optuna's sweeper does.
    def sweep(self, arguments):
        overrides = OverridesParser.create().parse_overrides([*self._parse_config(), *arguments])
        (batch,) = self.split_arguments(overrides, None)
        scores = []
        for job in self.launcher.launch(batch, initial_job_idx=0):
            try:
                scores.append(float(job.return_value))
            except Exception as error:
                scores.append(type(error).__name__)
        print(json.dumps(scores))
"""


@pytest.mark.parametrize("launcher", ["cores", "basic"])
def test_a_sweeper_gets_scores_and_failures(launcher, folder, monkeypatch):
    plugins = folder / "plugins" / "hydra_plugins"
    plugins.mkdir(parents=True)
    (plugins / "climber.py").write_text(CLIMBER)
    monkeypatch.setenv("PYTHONPATH", f"{plugins.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    given = ["hydra.sweeper._target_=hydra_plugins.climber.Climber", f"hydra/launcher={launcher}", "x=1,4,9,16", "seed=0"]
    code, out, err = run(folder, *given, "refused=[9]", "broken=[16]")
    assert code == 1
    assert json.loads(out.splitlines()[0]) == [1.0, 2.0, "JobError", "JobError"]
    assert "job 2 failed: x must not be 9.0." in err
    assert json.loads((folder / "outputs/grid/1/job.json").read_text())["score"] == 2.0


def test_a_typo_is_reported_before_any_job_begins(folder):
    code, _, err = run(folder, "second=1")
    assert code == 2
    assert "did you mean 'seconds'?" in err
    assert not begun(folder)


def test_a_cluster_in_small(folder):
    """submitit's local executor: what a SLURM cluster does, on this machine."""
    code, out, err = run(folder, "hydra/launcher=submitit_local", "x=1,2", "seed=0,1", "hydra.launcher.timeout_min=5")
    assert code == 0, err
    assert "| 2 | 2 | 1.414, 1.414 | 5.000, 6.000 |" in out
    assert len({json.loads(file.read_text())["process"] for file in folder.glob("runs/*/result.json")}) == 4


def test_a_grid_that_is_killed_three_times_ends_with_the_same_numbers(folder):
    for done in (2, 5, 8):
        process = start(folder, "seconds=0.3", jobs=OF_ITS_OWN)
        wait_until(lambda done=done: finished(folder) >= done, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    code, out, err = run(folder, jobs=OF_ITS_OWN)
    assert code == 0, err
    assert [float(number) for number in out.split()] == [x**2 + 1 + seed for x in (1, 2, 3, 4) for seed in (0, 1, 2)]
    assert len(begun(folder)) <= 12 + 3 * 4
    assert json.loads((folder / "outputs/grid/4/job.json").read_text())["overrides"]["x"] == "2.0"


def test_jobs_of_a_grid_that_fail_are_named_and_the_others_done(folder):
    code, out, err = run(folder, "refused=[2]", "broken=[3]", jobs=OF_ITS_OWN)
    assert (code, out) == (2, "")
    (sentence,) = [line for line in err.splitlines() if line.startswith("sweep_application: ")]
    assert sentence.startswith("sweep_application: 6 of 12 squares failed; the others are done: x must not be 2.0. x must not ")
    assert "ZeroDivisionError" in sentence
    assert sentence.endswith("(and 1 more)")
    assert "Traceback" not in err
    assert finished(folder) == 6


@pytest.mark.parametrize("launcher", ["cores", "basic"])
@pytest.mark.parametrize(("number", "send", "code"), [(signal.SIGINT, os.killpg, 130), (signal.SIGTERM, os.kill, 143)])
def test_an_interruption_ends_a_grid(number, send, code, launcher, folder):
    process = start(folder, "seconds=1", f"hydra/launcher={launcher}", jobs=OF_ITS_OWN)
    wait_until(lambda: finished(folder) >= 1, process)
    send(process.pid, number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "")
    assert "Traceback" not in err
    (sentence,) = [line for line in err.splitlines() if line.startswith("sweep_application: ")]
    assert "interrupted" in sentence
    assert len(begun(folder)) < 12


@pytest.mark.parametrize("jobs", [OF_ITS_OWN, ["x=1"]], ids=["grid", "one"])
def test_an_error_that_an_interruption_led_to_does_not_hide_it(jobs, folder):
    """Libraries clean up after a KeyboardInterrupt, and that may fail: OmegaConf, when it comes amid the composing of a job."""
    process = start(folder, "seconds=60", "cleaned_up=[1]", "hydra/launcher=basic", jobs=jobs)
    wait_until(lambda: begun(folder), process)
    os.kill(process.pid, signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "nothing to clean up" not in err + out
    assert len([line for line in err.splitlines() if line.startswith("sweep_application: ")]) == 1


def test_a_second_ctrl_c_leaves_no_process_of_a_grid_behind(folder):
    process = start(folder, "seconds=60", jobs=OF_ITS_OWN)
    wait_until(lambda: begun(folder), process)
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.3)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err


def test_a_grid_on_a_cluster_in_small(folder):
    given = ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5"]
    code, out, err = run(folder, *given, jobs=["grid=[1,2]", "seeds=[0,1]"])
    assert code == 0, err
    assert out.split() == ["2.0", "3.0", "5.0", "6.0"]
