import json
import logging
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlkl_htc_common.errors import InputError
from rlkl_htc_common.runs.directory import RunDirectory
from rlkl_htc_common.runs.offline import read_offline_runs
from rlkl_htc_common.runs.tracking import Tracker, TrackingConfig


def lines(run):
    return [json.loads(line) for line in run.metrics_file.read_text().splitlines()]


def test_metrics_go_to_the_file(tmp_path):
    run = RunDirectory(tmp_path, {"seed": 0})
    with Tracker(run, TrackingConfig("disabled"), job_type="train", name="test") as tracker:
        tracker.log(1, {"loss": 2.0})
        tracker.log(2, {"loss": float("nan")})
    assert lines(run) == [{"step": 1, "loss": 2.0}, {"step": 2, "loss": None}]


def test_a_resumed_run_forgets_what_it_will_log_again(tmp_path):
    run = RunDirectory(tmp_path, {"seed": 0})
    run.metrics_file.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"step": 4, "lo')
    with Tracker(run, TrackingConfig("disabled"), job_type="train", name="test", resume_step=2) as tracker:
        tracker.log(3, {"loss": 1.0})
    assert lines(run) == [{"step": 1}, {"step": 2}, {"step": 3, "loss": 1.0}]


def test_wandb_reads_an_offline_run_back(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = RunDirectory(tmp_path, {"seed": 7, "training": {"epochs": 2}})
    with Tracker(run, TrackingConfig(), job_type="train", name="test") as tracker:
        tracker.log(10, {"train/loss": 0.5})
        tracker.log(20, {"train/loss": 0.25})
        tracker.summarize({"dev/hf1_auc": 0.75})
        tracker.table("worst documents", ["document", "hF1"], [["a text", "0.10"]])
        tracker.page("scratchpads", "<pre>1 + 2</pre>")
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert "train/loss" in output
    assert "0.25" in output
    assert "dev/hf1_auc" in output
    assert "0.75" in output
    (page,) = tmp_path.glob("wandb/offline-run-*/files/media/html/*.html")
    assert "<pre>1 + 2</pre>" in page.read_text()
    (table,) = tmp_path.glob("wandb/offline-run-*/files/media/table/worst documents*.json")
    assert json.loads(table.read_text()) == {"columns": ["document", "hF1"], "data": [["a text", "0.10"]]}


def test_speeds_go_to_wandb_alone_and_offline_runs_are_read_back(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = RunDirectory(tmp_path, {"seed": 7, "training": {"epochs": 2}})
    with Tracker(run, TrackingConfig(), job_type="train", name="test") as tracker:
        tracker.log(10, {"train/loss": 0.5, "weights/share_0.0_0.1": 0.25}, {"charts/documents_per_second": 99.5})
        tracker.summarize({"test/hf1_auc": 0.75})
        tracker.table("scores", ["objective", "rule"], [["bce", 0.5], ["softmax", None]])
        tracker.page("scores/heat_map", "<svg>1</svg>")
    assert lines(run) == [{"step": 10, "train/loss": 0.5, "weights/share_0.0_0.1": 0.25}]
    (found,) = read_offline_runs(tmp_path)
    of_step = {"train/loss": 0.5, "weights/share_0.0_0.1": 0.25, "charts/documents_per_second": 99.5}
    assert found.config["training.epochs"] == 2
    assert found.steps[10] == of_step
    assert found.summary == {**of_step, "test/hf1_auc": 0.75}
    assert found.pages == {"scores/heat_map": "<svg>1</svg>"}
    (table,) = tmp_path.glob("wandb/offline-run-*/files/media/table/scores*.json")
    assert json.loads(table.read_text())["data"] == [["bce", 0.5], ["softmax", None]]


def test_a_run_tracked_in_two_goes_is_read_as_one(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = RunDirectory(tmp_path, {"seed": 7})
    for step in (1, 2):
        with Tracker(run, TrackingConfig(), job_type="train", name="test", resume_step=step - 1) as tracker:
            tracker.log(step, {"train/loss": 1 / step})
        time.sleep(1.1)  # the names of wandb's folders are of seconds
    (found,) = read_offline_runs(tmp_path)
    assert {step: row for step, row in found.steps.items() if row} == {1: {"train/loss": 1.0}, 2: {"train/loss": 0.5}}


@pytest.mark.parametrize("kind", ["nothing", "damaged"])
def test_a_folder_without_a_readable_offline_run_is_refused(kind, tmp_path):
    if kind == "damaged":
        (tmp_path / "wandb/offline-run-1-a").mkdir(parents=True)
        (tmp_path / "wandb/offline-run-1-a/run-a.wandb").write_bytes(b"no run")
    with pytest.raises(InputError, match=r"holds no offline run|is damaged"):
        read_offline_runs(tmp_path)


def test_control_characters_of_texts_and_labels_are_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    odd, shown = "\x1b]0;x\x07<b>\u202eé", r"\x1b]0;x\x07<b>\u202eé"
    with Tracker(RunDirectory(tmp_path, {}), TrackingConfig(), job_type="train", name="test") as tracker:
        tracker.table("worst documents", ["document", "true"], [[odd, odd]])
        tracker.page("scratchpads", f"<pre>{odd}</pre>")
    (page,) = tmp_path.glob("wandb/offline-run-*/files/media/html/*.html")
    assert f"<pre>{shown}</pre>" in page.read_text()
    (table,) = tmp_path.glob("wandb/offline-run-*/files/media/table/worst documents*.json")
    assert json.loads(table.read_text())["data"] == [[shown, shown]]


def test_online_without_a_key_is_offline_with_a_warning(tmp_path, monkeypatch, caplog):
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    run = RunDirectory(tmp_path / "run", {"seed": 0})
    with (
        caplog.at_level(logging.WARNING),
        Tracker(run, TrackingConfig("online"), job_type="train", name="test") as tracker,
    ):
        tracker.log(1, {"loss": 1.0})
    assert "tracked offline" in caplog.text
    assert list((tmp_path / "run").glob("wandb/offline-run-*"))
    assert lines(run) == [{"step": 1, "loss": 1.0}]


def test_an_unknown_mode_is_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE")
    with pytest.raises(InputError, match=r"tracking\.mode must be one of offline, online, disabled, not 'onlin'"):
        Tracker(RunDirectory(tmp_path, {}), TrackingConfig("onlin"), job_type="train", name="test")


def test_the_environment_beats_the_config(tmp_path):
    assert os.environ["WANDB_MODE"] == "disabled"
    run = RunDirectory(tmp_path, {})
    with Tracker(run, TrackingConfig("online"), job_type="train", name="test"):
        pass
    assert not (tmp_path / "wandb").exists()


PAGE = Path(__file__).resolve().parents[3] / "docs/how-to/wandb.md"
TRACKED = """
from rlkl_htc_common.runs import tracking
from rlkl_htc_common.runs.directory import RunDirectory
from rlkl_htc_common.runs.offline import read_offline_runs
from rlkl_htc_common.runs.tracking import Tracker, TrackingConfig

tracking.INIT_TIMEOUT = 100  # seconds
print("PRINTED")
run = RunDirectory("runs/a", {"seed": 0})
with Tracker(run, TrackingConfig(), job_type="train", name="test") as tracker:
    tracker.log(1, {"loss": 1.0})
    raise ValueError("of document RAISED")
"""


@pytest.fixture
def offline_run(tmp_path):
    """A function that tracks a run in a git repository with a changed file, and gives the folder of its offline run."""

    def track(**environment):
        def git(*arguments):
            subprocess.run(["git", "-c", "user.name=n", "-c", "user.email=e@example.org", *arguments], cwd=tmp_path, check=True)

        (tmp_path / "documents.csv").write_text("committed\n")
        (tmp_path / "job.py").write_text(TRACKED)
        git("init", "-q")
        git("remote", "add", "origin", "https://example.org/REMOTE.git")
        git("add", ".")
        git("commit", "-qm", "documents")
        (tmp_path / "documents.csv").write_text("committed\nCHANGED\n")
        inherited = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}  # that of this process
        settings = inherited | {"WANDB_MODE": "offline", "WANDB_X_SERVICE_WAIT": "300", **environment}
        command = [sys.executable, "job.py", "seed=0"]
        done = subprocess.run(command, cwd=tmp_path, env=settings, capture_output=True, text=True, timeout=600, check=False)
        assert "RAISED" in done.stderr
        assert "wandb failed" not in done.stderr
        (log,) = tmp_path.glob("runs/a/wandb/offline-run-*/*.wandb")
        return log.parent

    return track


def records(folder):
    """The records of an offline run."""
    (file,) = folder.glob("*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    return [json.loads(line) for line in output.splitlines()]


def test_the_page_on_wandb_says_what_an_offline_run_holds_and_what_it_does_not(offline_run):
    folder = offline_run(WANDB_SAVE_CODE="true")
    content = b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())
    for secret in (b"CHANGED", b"PRINTED", b"RAISED", b"tracker.log"):
        assert secret not in content
    assert {file.name for file in (folder / "files").rglob("*") if file.is_file()} == {"requirements.txt"}
    documented = set(re.findall(r"`(\w+)`", PAGE.read_text(encoding="utf-8")))
    found = records(folder)
    assert {record["type"] for record in found} - {"header"} <= documented
    keys = {key for record in found if record["type"] == "environment" for key in record["environment"]}
    keys |= {key for record in found if record["type"] == "environment" for key in record["environment"].get("git", {})}
    in_words = {"git", "cpu", "cpu_count", "cpu_count_logical", "memory", "disk", "started_at", "writer_id"}
    assert {"args", "host", "remote_url"} <= keys
    assert {key for key in keys if not key.startswith(("code_path", "gpu", "cuda"))} - in_words <= documented


def test_what_turns_parts_of_it_off(offline_run):
    page = PAGE.read_text(encoding="utf-8")
    settings = dict(re.findall(r"^\| `(WANDB_\w+)=(true|false)` \|", page, flags=re.MULTILINE))
    assert len(settings) == 4
    folder = offline_run(**settings, WANDB_HOST="another")
    found = records(folder)
    assert {record["type"] for record in found} <= {"header", "run", "telemetry", "history", "summary", "exit"}
    (run,) = (record["run"] for record in found if record["type"] == "run")
    assert run["host"] == "another"
    assert "git" not in run
    assert not list((folder / "files").glob("*"))
