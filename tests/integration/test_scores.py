"""What the jobs of sweeps return and show, and what is said before something is begun that takes days."""

import json
import logging

import pytest
import torch

from htc.commands import reproduce as reproduce_app
from htc.commands import train as train_app
from htc.experiment.config import TrainConfig
from rlkl.commands import finetune as finetune_app
from rlkl.commands import pretrain as pretrain_app
from rlkl.commands import reproduce as rl_reproduce_app
from rlkl.commands.config import ArchitectureConfig
from rlkl_htc_common.models.settings import EncoderConfig
from rlkl_htc_common.training import trainer as training

from ..rlkl import recipes
from .entry_points import call
from .htc_runs import common_arguments, place
from .test_rlkl_end_to_end import pretrained

__all__ = ["place", "pretrained"]  # fixtures

JOBS = {"dev/hf1_auc": "dev/hf1_auc", "dev/top_down/f1_macro": "dev/top_down/f1_macro", "null": "dev/hf1_auc"}


def records(folder):
    return [
        json.loads((folder / str(number) / "job.json").read_text()) for number in range(len(list(folder.glob("*/job.json"))))
    ]


def test_a_job_of_htc_returns_what_epochs_are_selected_by(place, tmp_path, monkeypatch, capsys):
    given = ["--multirun", f"hydra.sweep.dir={tmp_path}", f"select={','.join(JOBS)}", *common_arguments(place)]
    code, out, err = call(train_app, given, monkeypatch, capsys)
    assert code == 0, err
    for record, name in zip(records(tmp_path), JOBS.values(), strict=True):
        kept = json.loads((tmp_path / record["run_dir"] / "result.json").read_text())["kept"]
        assert record["score"] == kept[name]
        assert next(iter(record["metrics"])) == name
    header, _, *rows = [line for line in out.splitlines() if line.startswith("|")]
    columns = [cell.strip() for cell in header.strip("|").split("|")]
    dev = [name.startswith("dev/") for name in columns[2:]]
    assert columns[:2] == ["select", "runs"]
    assert dev == sorted(dev, reverse=True)
    assert sum(dev) == 3
    assert len(rows) == 3


def test_a_job_of_rlkl_returns_an_accuracy(pretrained, tmp_path, monkeypatch, capsys):
    given = ["--multirun", f"hydra.sweep.dir={tmp_path}", f"runs={tmp_path}", f"model={pretrained / 'model'}", "seed=0,1"]
    given += ["algorithm.episodes=4", "algorithm.iterations=1", "algorithm.minibatch_size=2", "evaluation_examples=4"]
    code, out, err = call(finetune_app, given, monkeypatch, capsys)
    assert code == 0, err
    for record in records(tmp_path):
        history = json.loads((tmp_path / record["run_dir"] / "result.json").read_text())["history"]
        assert record["score"] == history[-1]["eval/accuracy_longer"]
    assert "±" not in out, "two seeds are shown as values"
    given = ["--multirun", f"hydra.sweep.dir={tmp_path / 'pretrain'}", f"runs={tmp_path}", "seed=0,1", "trained_digits=1"]
    given += ["architecture={layers: 1, heads: 1, width: 8, positions: 384}", "evaluation_examples=1"]
    given += ["training.epochs=1", "training.examples_per_epoch=4", "training.batch_size=4"]
    code, _, err = call(pretrain_app, given, monkeypatch, capsys)
    assert code == 0, err
    assert [record["score"] for record in records(tmp_path / "pretrain")] == [0.0, 0.0]


@pytest.fixture
def without_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize(
    ("encoder", "warned"),
    [
        (EncoderConfig("bert-base-uncased", frozen=False), True),
        (EncoderConfig("bert-base-uncased", frozen=True), False),
        (EncoderConfig("minilm", frozen=False), False),
        (EncoderConfig("small", frozen=False), False),
    ],
)
def test_a_large_encoder_without_a_gpu(encoder, warned, place, without_gpu, caplog, monkeypatch):
    if encoder.name == "small":
        encoder.name = str(place / "encoder")
    with caplog.at_level(logging.WARNING):
        train_app.warn_if_slow(TrainConfig(encoder=encoder), runs=4)
    assert ("no CUDA device was found: fine-tuning bert-base-uncased" in caplog.text) == warned
    assert ("days for each of 4 runs" in caplog.text) == warned
    caplog.clear()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    train_app.warn_if_slow(TrainConfig(encoder=encoder))
    assert not caplog.text


@pytest.mark.parametrize(
    ("app", "arguments", "said"),
    [
        (train_app, ["encoder=bert", "encoder.name=no/such"], "fine-tuning no/such is sized for a GPU and takes days"),
        (reproduce_app, ["profile=paper", "encoder.name=no/such"], "fine-tuning no/such is sized for a GPU and takes days for"),
        (rl_reproduce_app, ["profile=paper", "model=no/such"], "profile=paper is sized for a GPU and takes hours to days for"),
    ],
)
def test_the_papers_size_is_warned_of_before_it_begins(app, arguments, said, place, tmp_path, without_gpu, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    documents = [] if app is rl_reproduce_app else ["dataset=custom", f"dataset.dir={place / 'data'}"]
    code, _, err = call(app, [*arguments, *documents], monkeypatch, capsys)
    assert code == 2  # the model is not there
    assert f"no CUDA device was found: {said}" in err


def test_pretraining_of_the_papers_size(tmp_path, without_gpu, monkeypatch, caplog):
    class EnoughError(Exception):
        pass

    def stop(*arguments, **more):
        raise EnoughError

    monkeypatch.setattr(pretrain_app, "Trainer", stop)
    monkeypatch.setattr(pretrain_app, "LARGE", 1000)
    assert training.LARGE == 50_000_000
    architecture = ArchitectureConfig(layers=1, heads=1, width=8, positions=768, dropout=0.0)
    config = recipes.pretraining({}, architecture=architecture, run_dir=str(tmp_path / "run"))
    with caplog.at_level(logging.WARNING), pytest.raises(EnoughError):
        pretrain_app.pretrain(config)
    assert "no CUDA device was found: pre-training 0 million parameters is sized for a GPU and takes weeks" in caplog.text
