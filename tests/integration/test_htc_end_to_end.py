"""htc as its users meet it: the console entry points on a small dataset of their own, right and wrong input."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from htc.commands import evaluate as evaluate_app
from htc.commands import predict as predict_app
from htc.commands import reproduce as reproduce_app
from htc.commands import train as train_app
from htc.commands.train import train
from htc.experiment.build import load_dataset
from htc.experiment.config import train_config

from .entry_points import call
from .htc_runs import common_arguments, place

__all__ = ["place"]  # a fixture


@pytest.fixture(scope="module")
def trained(place):
    """The folder of a model, fine-tuned from the console."""
    command = [sys.executable, "-m", "htc.commands.train", *common_arguments(place), f"run_dir={place / 'trained'}"]
    command += ["encoder=minilm", "training.encoder_learning_rate=3e-3", "training.learning_rate=1e-2", "training.epochs=6"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "argmax_leaf" in done.stdout
    return place / "trained/model"


def test_a_run_leaves_what_it_should(trained):
    run = trained.parent
    assert {f.name for f in run.iterdir()} == {
        "config.yaml",
        "metrics.jsonl",
        "result.json",
        "documents.safetensors",
        "model",
        ".lock",
    }
    result = json.loads((run / "result.json").read_text())
    assert result["test"]["hf1_auc"] > 0.8, "the words tell the labels, so the model must have learnt them"
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 6
    assert {f.name for f in trained.iterdir()} == {
        "config.json",
        "hierarchy.json",
        "head.safetensors",
        "seen.safetensors",
        "calibration.safetensors",
        "encoder",
        "manifest.json",
    }


def test_evaluating_the_saved_model_gives_the_numbers_of_training(trained, place, monkeypatch, capsys):
    arguments = [f"model={trained}", "dataset=custom", f"dataset.dir={place / 'data'}", f"cache_dir={place / 'cache'}"]
    code, out, _ = call(evaluate_app, [*arguments, f"output={place / 'scores.json'}"], monkeypatch, capsys)
    assert code == 0
    assert "test: 24 documents" in out
    scores = json.loads((place / "scores.json").read_text())["test"]
    expected = json.loads((trained.parent / "result.json").read_text())["test"]
    for rule, row in scores["rules"].items():
        low, high = row.pop("hf1_samples_interval")
        assert low <= row["hf1_samples"] <= high
        assert row == expected["rules"][rule]
    assert scores["hf1_auc"] == pytest.approx(expected["hf1_auc"], abs=1e-6)
    code, _, err = call(evaluate_app, [*arguments, f"output={place / 'scores.json'}"], monkeypatch, capsys)
    assert code == 2
    assert "exists; choose another output" in err


def test_predicting_from_the_command_line_a_file_and_standard_input(trained, place, monkeypatch, capsys):
    model = f"model={trained}"
    code, out, _ = call(predict_app, [model, "text=opera's melody, a=b (violin)"], monkeypatch, capsys)
    assert code == 0
    assert out.splitlines()[0] == "opera's melody, a=b (violin)"
    assert "Arts" in out.splitlines()[1]
    assert "Music" in out.splitlines()[2]
    (place / "texts.txt").write_text("atom energy\n\ncell gene plant\n")
    code, out, _ = call(predict_app, [model, f"input={place / 'texts.txt'}", "format=jsonl"], monkeypatch, capsys)
    labels = [[step["label"] for step in json.loads(line)["labels"][0]] for line in out.splitlines()]
    assert labels == [["Science", "Physics"], ["Science", "Biology"]]
    code, again, _ = call(
        predict_app, [model, "format=jsonl", "batch_size=1"], monkeypatch, capsys, stdin="atom energy\ncell gene plant\n"
    )
    for line, other in zip(out.splitlines(), again.splitlines(), strict=True):
        assert json.loads(line)["text"] == json.loads(other)["text"]
    (place / "texts.jsonl").write_text('{"text": "movie actor"}\n')
    code, out, _ = call(predict_app, [model, f"input={place / 'texts.jsonl'}", "decoder=tuned_threshold"], monkeypatch, capsys)
    assert "Film" in out


def test_probabilities_fall_along_the_path(trained, monkeypatch, capsys):
    _, out, _ = call(predict_app, [f"model={trained}", "text=light force", "format=jsonl"], monkeypatch, capsys)
    (path,) = json.loads(out)["labels"]
    assert path[0]["probability"] >= path[1]["probability"]


def test_the_last_model_is_the_default_and_its_absence_is_reported(tmp_path, monkeypatch, capsys):
    code, _, err = call(predict_app, [f"runs={tmp_path}", "text=x"], monkeypatch, capsys)
    assert code == 2
    assert "no trained model under" in err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"token": ["a"], "label": ["Arts", "Musik"]}', "the label 'Musik' is not in the taxonomy; did you mean 'Music'?"),
        ('{"token": [""], "label": ["Arts", "Music"]}', "the document's text is empty"),
        ('{"token": ["a"], "label": []}', "the document has no label"),
        ('{"token": ["a"]}', "the document has no 'label'"),
        ('{"label": ["Arts"]}', "has neither 'token' nor 'text'"),
        ('{"token": ["a"], "label": ["Arts", "Music"]', "malformed JSON"),
        ('["a"]', "expected one JSON object a line"),
        ('{"token": ["a"], "label": "Arts"}', "'label' must be a list"),
        ('{"token": ["a"], "label": [["Arts"], "Music"]}', "names only, or paths"),
        ('{"token": 5, "label": ["Arts"]}', "'token' must be a text"),
    ],
)
def test_a_bad_document_is_reported_with_its_line(line, message, place, tmp_path, monkeypatch, capsys):
    data = tmp_path / "data"
    data.mkdir()
    (data / "labels.taxonomy").write_text((place / "data/labels.taxonomy").read_text())
    (data / "documents.jsonl").write_text('{"token": ["fine"], "label": ["Arts", "Music"]}\n' + line + "\n")
    arguments = [*common_arguments(place), f"dataset.dir={data}", f"run_dir={tmp_path / 'run'}"]
    code, _, err = call(train_app, arguments, monkeypatch, capsys)
    assert code == 2
    last = err.splitlines()[-1]
    assert last.startswith(f"prog: {data / 'documents.jsonl'}:2: ")
    assert message in last


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dataset.dir=/no/such/folder"], "/no/such/folder: no such folder"),
        (["dataset.taxonomy=none.taxonomy"], "none.taxonomy: cannot read the taxonomy: No such file"),
        (["dataset.train=none.jsonl"], "none.jsonl: cannot read the documents: No such file"),
        (["training.epochs=0"], "training.epochs must be positive"),
        (["training.epoch=3"], "unknown key 'training.epoch'; did you mean 'epochs'?"),
        (["+epochs=3"], "unknown key 'epochs'; known here: cache_dir"),
        (["+training.epoch=3"], "unknown key 'training.epoch'"),
        (["training.epochs=three"], "training.epochs: Value 'three'"),
        (["loss=bse"], "Could not find 'loss/bse'"),
        (["loss.name=bse"], "loss.name must be one of bce"),
        (["dataset.dev_fraction=0.9"], "must be positive shares"),
        (["select=dev/accuracy"], "select must be null, one of dev/hf1_auc, dev/hf1_micro, or dev/RULE/METRIC, such as"),
        (["seed=-1"], "seed must be from 0"),
        (["head.hidden=0"], "head.hidden must be at least 1"),
        (["head.dropout=1.5"], "head.dropout must be"),
        (["encoder.batch_size=0"], "encoder.batch_size must be at least 1"),
        (["loss=bce_prior_bias", "loss.prior_smoothing=0"], "smoothing must be positive"),
        (["Broken wrist"], "expected key=value and read 'Broken wrist'"),
        (["encoder.name=no/model"], "cannot be had from the hub"),
    ],
)
def test_bad_settings_are_reported(arguments, message, place, tmp_path, monkeypatch, capsys):
    code, _, err = call(train_app, [*common_arguments(place), f"run_dir={tmp_path / 'run'}", *arguments], monkeypatch, capsys)
    assert code == 2
    assert message in err.splitlines()[-1]
    assert "Traceback" not in err


def test_a_mistake_does_not_occupy_the_run_directory(place, tmp_path, monkeypatch, capsys):
    arguments = [*common_arguments(place), f"run_dir={tmp_path / 'run'}"]
    assert call(train_app, [*arguments, "loss.name=bse"], monkeypatch, capsys)[0] == 2
    assert call(train_app, [*arguments, "encoder.name=no/model"], monkeypatch, capsys)[0] == 2
    assert call(train_app, [*arguments, "training.epochs=1"], monkeypatch, capsys)[0] == 0


def test_documents_that_changed_are_noticed(place, tmp_path, monkeypatch, capsys):
    data = tmp_path / "data"
    data.mkdir()
    for file in (place / "data").iterdir():
        (data / file.name).write_text(file.read_text())
    arguments = [*common_arguments(place), f"dataset.dir={data}", f"run_dir={tmp_path / 'run'}", "training.epochs=1"]
    assert call(train_app, arguments, monkeypatch, capsys)[0] == 0
    text = (data / "documents.jsonl").read_text()
    (data / "documents.jsonl").write_text(text.replace('"Film"', '"Music"'))
    code, _, err = call(train_app, arguments, monkeypatch, capsys)
    assert (code, "holds a run with another config (different: data_fingerprint)" in err) == (2, True)


def test_documents_that_were_trained_on_are_not_for_testing(trained, place, monkeypatch, capsys):
    arguments = [f"model={trained}", "dataset=custom", f"dataset.dir={place / 'data'}", "dataset.split_seed=5"]
    code, _, err = call(evaluate_app, arguments, monkeypatch, capsys)
    assert code == 2
    assert "were trained on; draw the splits as the training did: dataset.split_seed=0" in err


def test_two_processes_on_one_run_are_refused(place, tmp_path, monkeypatch, capsys):
    arguments = [*common_arguments(place), f"run_dir={tmp_path / 'run'}"]
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        code, _, err = call(train_app, arguments, monkeypatch, capsys)
    assert (code, "another process is at work in" in err) == (2, True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"caf\xe9\n", ":1: the line is not UTF-8 text"),
        (b"\n\n", "there is no text in"),
    ],
)
def test_texts_that_cannot_be_read(trained, content, message, tmp_path, monkeypatch, capsys):
    (tmp_path / "texts (1).txt").write_bytes(content)
    code, _, err = call(predict_app, [f"model={trained}", f"input={tmp_path / 'texts (1).txt'}"], monkeypatch, capsys)
    assert (code, message in err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["seeds=[0,0]"], "an entry only once"),
        (["seeds=[]"], "at least one entry"),
        (["jobs=0"], "jobs must be at least 1"),
        (["+methods={other: {loss: bce}}"], "methods: bce and other do not differ"),
        (["+methods={plain: {loss: focal, loss.gamma: 0}}"], "methods: bce and plain do not differ"),
        (["+methods={hot: {loss: bce, loss.tau: 2}}"], "methods: hot: unknown key 'loss.tau'; known here: name, recursive_reg"),
        (["+methods={hot: {loss: bse}}"], "methods: hot: In 'reproduce': Could not find 'loss/bse'"),
        (["+methods={late: {loss: bce, seed: 3}}"], "methods: late cannot set seed; it can set cache_dir, encoder"),
        (["seed=7"], "takes seeds=[...]"),
        (["tries=[{seed: 3}]"], "tries: number 1 cannot set seed; it can set cache_dir, encoder"),
        (["tries=[{training.epochs: 2},{training.epochs: 2}]"], "bce, try 1 and bce, try 2 do not differ"),
    ],
)
def test_grids_that_are_none(place, arguments, message, monkeypatch, capsys):
    code, _, err = call(
        reproduce_app,
        ["experiment=hwv", f"dataset.dir={place / 'data'}", f"output={place / 'o'}", *arguments],
        monkeypatch,
        capsys,
    )
    assert (code, message in err) == (2, True)


@pytest.mark.slow
def test_a_killed_reproduction_leaves_no_worker(place):
    arguments = [a for a in common_arguments(place) if not a.startswith(("loss=", "runs="))]
    arguments += [
        "experiment=hwv",
        "training.epochs=3000",
        f"runs={place / 'endless'}",
        f"output={place / 'endless_report'}",
        "jobs=2",
    ]
    process = subprocess.Popen([sys.executable, "-m", "htc.commands.reproduce", *arguments], stderr=subprocess.DEVNULL)
    wait_for(lambda: len(list((place / "endless").glob("htc/hwv/*/checkpoints/step-*"))) >= 2)
    workers = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    assert len(workers) >= 2
    process.kill()
    process.wait()
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in workers))


def test_ctrl_c_stops_a_reproduction_soon_and_keeps_what_was_done(place):
    arguments = [a for a in common_arguments(place) if not a.startswith(("loss=", "runs="))]
    arguments += [
        "experiment=hwv",
        "training.epochs=3000",
        f"runs={place / 'stopped'}",
        f"output={place / 'stopped_report'}",
        "jobs=2",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "htc.commands.reproduce", *arguments], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        wait_for(lambda: len(list((place / "stopped").glob("htc/hwv/*/checkpoints/step-*"))) >= 2)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=120)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err
    assert list((place / "stopped").glob("htc/hwv/*/checkpoints/step-*"))


def wait_for(condition, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_a_model_of_another_hierarchy_is_refused(trained, place, tmp_path, monkeypatch, capsys):
    (tmp_path / "labels.taxonomy").write_text("Root\tA\tB\n")
    (tmp_path / "documents.jsonl").write_text("".join(f'{{"token": ["t{i}"], "label": ["A"]}}\n' for i in range(20)))
    arguments = [f"model={trained}", "dataset=custom", f"dataset.dir={tmp_path}"]
    code, _, err = call(evaluate_app, arguments, monkeypatch, capsys)
    assert code == 2
    assert "was trained on another hierarchy (6 nodes)" in err
    assert f"the dataset that it was trained on: dataset=custom dataset.dir={place / 'data'}." in err


def test_a_damaged_model_is_refused(trained, tmp_path, monkeypatch, capsys):
    for file in trained.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "encoder").symlink_to(trained / "encoder")
    (tmp_path / "head.safetensors").write_bytes(b"broken")
    code, _, err = call(predict_app, [f"model={tmp_path}", "text=x"], monkeypatch, capsys)
    assert (code, "the saved model is damaged" in err) == (2, True)
    code, _, err = call(predict_app, [f"model={trained.parent}", "text=x"], monkeypatch, capsys)
    assert (code, f"did you mean {trained}?" in err) == (2, True)


def test_several_paths_are_refused_by_a_softmax_and_taken_by_bce(place, tmp_path, monkeypatch, capsys):
    (tmp_path / "labels.taxonomy").write_text((place / "data/labels.taxonomy").read_text())
    (tmp_path / "documents.jsonl").write_text(
        "".join(f'{{"token": ["song {i}"], "label": [["Arts", "Music"], ["Science"]]}}\n' for i in range(30))
    )
    arguments = [*common_arguments(place), f"dataset.dir={tmp_path}", f"run_dir={tmp_path / 'run'}"]
    code, _, err = call(train_app, arguments, monkeypatch, capsys)
    assert (code, f"{tmp_path / 'documents.jsonl'}:" in err and "needs a single path" in err) == (2, True)
    grid = ["experiment=hwv", f"dataset.dir={tmp_path}", f"runs={tmp_path / 'runs'}", f"output={tmp_path / 'o'}"]
    code, _, err = call(reproduce_app, grid, monkeypatch, capsys)
    assert (code, "leaf softmax needs one leaf and its ancestors" in err) == (2, True)
    assert not (tmp_path / "runs").exists(), "the error comes before any training"
    arguments = [*common_arguments(place, "bce"), f"dataset.dir={tmp_path}", f"run_dir={tmp_path / 'run2'}"]
    assert call(train_app, arguments, monkeypatch, capsys)[0] == 0


def test_the_reproduction_ends_in_a_report_and_skips_what_is_done(place, monkeypatch, capsys):
    output = place / "report"
    arguments = [a for a in common_arguments(place) if not a.startswith("loss=")]
    arguments += ["experiment=hwv", "seeds=[0,1]", f"output={output}", "jobs=2", "title=Tiny"]
    code, out, err = call(reproduce_app, arguments, monkeypatch, capsys)
    assert code == 0, err
    assert "| conditional softmax |" in out
    page = (output / "report.html").read_text()
    assert page.count('role="img"') == 8
    for words in ("Who wins, and where the winner changes", "Rare labels and deep ones", "What a model gets wrong"):
        assert words in page
    assert "95% over documents" in page
    summary = json.loads((output / "summary.json").read_text())
    assert list(summary["losses"]) == [
        "bce",
        "bce_prior_bias",
        "leaf_softmax",
        "conditional_softmax",
        "conditional_softmax_la",
    ]
    assert [run["documents"] for run in summary["losses"]["bce"]] == [24, 24]
    runs = list((place / "runs").glob("htc/hwv/*/result.json"))
    assert len(runs) == 2 * 5
    written = [run.stat().st_mtime_ns for run in runs]
    assert call(reproduce_app, arguments, monkeypatch, capsys)[0] == 0
    assert [run.stat().st_mtime_ns for run in runs] == written


def test_a_process_reads_documents_once_for_all_runs_that_share_them(place, monkeypatch, capsys):
    read = []

    def counted(config, tables, cache_dir):
        read.append(config.split_seed)
        return load_dataset(config, tables, cache_dir)

    monkeypatch.setattr(reproduce_app, "load_dataset", counted)
    arguments = [a for a in common_arguments(place) if not a.startswith("loss=")]
    arguments += ["experiment=hwv", "seeds=[0,1]", "hydra/launcher=basic", "training.epochs=2", f"output={place / 'once'}"]
    arguments += [f"~methods.{name}" for name in ("leaf_softmax", "conditional_softmax", "conditional_softmax_la")]
    code, _, err = call(reproduce_app, arguments, monkeypatch, capsys)
    assert code == 0, err
    in_the_report = [0, 1, 0]
    assert read == [0, 1, *in_the_report]
    code, _, err = call(reproduce_app, arguments, monkeypatch, capsys)
    assert code == 0, err
    assert read == 2 * [0, 1, *in_the_report], "documents may have changed"

    grid = json.loads((place / "once/grid.json").read_text())
    for run in grid["runs"]:  # each alone, in documents that no other run has had
        alone = replace(train_config(run["config"], grid["dataset"]), run_dir=str(place / "alone" / Path(run["run_dir"]).name))
        expected = json.loads((Path(run["run_dir"]) / "result.json").read_text())
        result = train(alone, progress=False)
        assert {key: result[key] for key in ("kept", "dev", "test")} == {key: expected[key] for key in ("kept", "dev", "test")}


def test_of_several_tries_the_best_on_dev_is_run_with_every_seed(place, monkeypatch, capsys):
    output = place / "tried"
    arguments = [a for a in common_arguments(place) if not a.startswith("loss=")]
    arguments += ["experiment=hwv", "seeds=[0,1]", f"output={output}"]
    arguments += [f"~methods.{name}" for name in ("leaf_softmax", "conditional_softmax", "conditional_softmax_la")]
    arguments += ["tries=[{training.learning_rate: 1e-7}, {training.learning_rate: 1e-2}]"]
    code, _, err = call(reproduce_app, arguments, monkeypatch, capsys)
    assert code == 0, err
    summary = json.loads((output / "summary.json").read_text())
    assert [each["method"] for each in summary["tries"]] == ["bce", "bce_prior_bias"] * 2
    for worse, better in zip(summary["tries"][:2], summary["tries"][2:], strict=True):
        assert (worse["chosen"], better["chosen"]) == (False, True)
        assert worse["hf1_auc"] < better["hf1_auc"]
        assert "training.learning_rate=0.01" in better["settings"]
    runs = list((place / "runs").glob("htc/hwv/*/config.yaml"))
    assert sum("learning_rate: 1.0e-07" in run.read_text() for run in runs) == 2  # of the first seed alone
    assert len({run["where"] for run in summary["runs"]}) == 4
    page = (output / "report.html").read_text()
    for words in ("What was tried", "training, s"):
        assert words in page
    cost = summary["losses"]["bce"][0]["cost"]
    for part in ("training_processor_seconds", "prediction_processor_seconds"):
        assert cost[part] > 0
    assert cost["memory"] > 10**8
