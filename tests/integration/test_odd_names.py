"""Files, folders and columns with names that people have, on every command: they are found, written, and named in commands."""

import csv
import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from htc.commands import evaluate as evaluate_app
from htc.commands import predict as predict_app
from htc.commands import reproduce as reproduce_app
from htc.commands import train as train_app
from rlkl.commands import analyze as analyze_app
from rlkl.commands import evaluate as rl_evaluate_app
from rlkl.commands import finetune as finetune_app
from rlkl.commands import pretrain as pretrain_app
from rlkl.commands import reproduce as rl_reproduce_app

from .entry_points import call
from .htc_runs import WORDS, common_arguments, place
from .test_rlkl_end_to_end import pretrained

__all__ = ["place", "pretrained"]  # fixtures

ODD = "R&D=2024, [a] {b} (1) ${x} \\${y} 'q' \"r\" #é文 ~50%"
TEXT, AREA, TOPIC, PART = "text (all)", "area, wide", "topic=[x] ${y}", "which 'part'?"


def called(app, arguments, monkeypatch, capsys):
    code, out, err = call(app, arguments, monkeypatch, capsys)
    assert code == 0, err
    return out


@pytest.fixture
def table(tmp_path):
    """A CSV file of that name, with columns of such names."""
    file = tmp_path / f"{ODD}.csv"
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([TEXT, PART, AREA, TOPIC])
        for i in range(20):
            for (area, topic), words in WORDS.items():
                writer.writerow([f"{words} {i}", ("train", "train", "train", "dev", "test")[i % 5], area, topic])
    columns = [f"dataset.text={TEXT}", f"dataset.split={PART}", f'dataset.levels=["{AREA}",{TOPIC}]']
    return ["dataset=table", f"dataset.file={file}", *columns]


def test_htc(table, place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / ODD
    arguments = [a for a in common_arguments(place) if not a.startswith(("dataset", "cache_dir", "encoder.name"))]
    shutil.copytree(place / "encoder", f"encoder {ODD}")
    arguments += [f"cache_dir=cache {ODD}", f"encoder.name=encoder {ODD}", f"tracking.group={ODD}", *table]
    called(train_app, [*arguments, f"run_dir={ODD}"], monkeypatch, capsys)
    assert (run / "result.json").exists()
    assert (tmp_path / f"cache {ODD}").is_dir()
    (tmp_path / f"in {ODD}.txt").write_text("gene plant animal\n")
    given = [f"model={ODD}/model", f"input=in {ODD}.txt", "format=jsonl"]
    assert json.loads(called(predict_app, given, monkeypatch, capsys))["text"] == "gene plant animal"
    given = [f"model={ODD}/model", f"output=out {ODD}.json", f"cache_dir=cache {ODD}", *table]
    called(evaluate_app, given, monkeypatch, capsys)
    assert (tmp_path / f"out {ODD}.json").exists()


def test_a_reproduction_of_htc_names_commands_that_lead_to_its_runs(table, place, tmp_path, monkeypatch, capsys):
    arguments = [a for a in common_arguments(place) if not a.startswith(("dataset", "loss", "runs"))]
    given = [*arguments, *table, f"output={tmp_path / ODD}", f"runs={tmp_path / 'runs'}", "seeds=[0]"]
    given += ["+methods={half: {loss: conditional_softmax_la, loss.tau: 0.5}}", "~methods.bce", "~methods.bce_prior_bias"]
    given += [f"~methods.{name}" for name in ("leaf_softmax", "conditional_softmax", "conditional_softmax_la")]
    called(reproduce_app, [*given, "training.epochs=1", "jobs=1", f"title={ODD}"], monkeypatch, capsys)
    (run,) = json.loads((tmp_path / ODD / "summary.json").read_text())["runs"]
    program, *again = shlex.split(run["command"])
    assert program == "htc-train"
    assert f"dataset.text={TEXT}" in again
    left = [f"runs={tmp_path / 'runs'}", f"cache_dir={place / 'cache'}"]  # not given, as they change nothing
    out = called(train_app, [*again, *left], monkeypatch, capsys)
    assert out.splitlines()[-1] == f"run: {run['where']}"


def test_a_sweep_in_folders_of_such_names(place, tmp_path, monkeypatch, capsys):
    (tmp_path / ODD).mkdir()
    monkeypatch.chdir(tmp_path / ODD)
    given = ["--multirun", "hydra/launcher=basic", *common_arguments(place), "training.epochs=1", "seed=0,1"]
    for arguments, where in (([], "outputs/multirun/*"), ([f'hydra.sweep.dir="sweep {ODD}"'], "sweep *")):
        called(train_app, [*given, *arguments], monkeypatch, capsys)
        (folder,) = Path().glob(where)
        assert [json.loads((folder / n / "job.json").read_text())["error"] for n in "01"] == [None, None]
    assert folder.name == f"sweep {ODD}"


@pytest.fixture
def model(pretrained, tmp_path):
    """A model in a folder of that name."""
    shutil.copytree(pretrained / "model", tmp_path / f"model {ODD}")
    return f"model {ODD}"


QUICK = ["algorithm.episodes=4", "algorithm.iterations=1", "algorithm.minibatch_size=2", "evaluation_examples=1"]


def test_rlkl(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    called(rl_evaluate_app, [f"model={model}", f"output={ODD}.json", "examples=2", "generations=2"], monkeypatch, capsys)
    assert json.loads((tmp_path / f"{ODD}.json").read_text())["model"] == model
    called(finetune_app, [f"model={model}", f"run_dir=run {ODD}", *QUICK], monkeypatch, capsys)
    assert (tmp_path / f"run {ODD}" / "result.json").exists()
    given = [f"model=run {ODD}/model", f"reference={model}", f"output=analysis {ODD}", "examples=2", "problems=1", "samples=1"]
    called(analyze_app, given, monkeypatch, capsys)
    assert (tmp_path / f"analysis {ODD}" / "report.html").exists()
    given = ["trained_digits=1", "architecture={layers: 1, heads: 1, width: 8, positions: 384}", "evaluation_examples=1"]
    given += [f"run_dir=pretrained {ODD}", "training.epochs=1", "training.examples_per_epoch=4", "training.batch_size=4"]
    called(pretrain_app, given, monkeypatch, capsys)
    assert (tmp_path / f"pretrained {ODD}" / "model").is_dir()


def test_a_reproduction_of_rlkl_names_commands_that_lead_to_its_runs(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = [
        f"model={model}",
        f'models=["{model}"]',
        f"output=out {ODD}",
        f"runs=runs {ODD}",
        "seeds=[0]",
        "examples=2",
        "jobs=1",
    ]
    given += [
        "~experiment",
        "title=two",
        "+methods={a: {penalty.beta: 1}, b: {penalty.beta: 2}}",
        "axis=penalty.beta",
        *QUICK,
    ]
    called(rl_reproduce_app, given, monkeypatch, capsys)
    summary = json.loads((tmp_path / f"out {ODD}" / "summary.json").read_text())
    assert list(summary["starts"]) == [model]
    assert summary["axis"]["lines"]
    run = summary["runs"][-1]
    _, *again = shlex.split(run["command"])
    assert f"model={model}" in again
    assert called(finetune_app, [*again, f"runs=runs {ODD}"], monkeypatch, capsys).splitlines()[-1] == f"run: {run['where']}"


@pytest.mark.parametrize("name", [ODD, "$HOME $(x) `y`", "back\\slash\\"])
@pytest.mark.parametrize(
    ("target", "variable", "key"), [("reproduce-htc", "DIR", "dataset.dir"), ("predict-htc", "TEXT", "text")]
)
@pytest.mark.parametrize("given", ["argument", "environment"])
def test_make_hands_texts_on_as_they_are(given, target, variable, key, name, tmp_path):
    for program in ("htc-reproduce", "htc-predict"):
        (tmp_path / program).write_text('#!/bin/sh\nprintf "%s\\0" "$@"\n')
        (tmp_path / program).chmod(0o755)
    command = ["make", "-s", "-o", ".venv/.installed", f"BIN={tmp_path}", target, "DATASET=wos"]
    command += [f"{variable}={name}"] if given == "argument" else []
    environment = {"PATH": "/usr/bin:/bin", variable: name}
    folder = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    assert f"{key}={name}" in done.stdout.split("\0")
