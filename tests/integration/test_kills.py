"""Trainings that are killed at random moments, fifty times each, end in the numbers of one that was left alone."""

import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from dataclasses import replace
from functools import partial

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from safetensors.torch import load_file

import htc.experiment.config
from htc.commands.train import train
from rlkl.commands.config import ArchitectureConfig
from rlkl.commands.finetune import finetune
from rlkl.commands.pretrain import pretrain
from rlkl_htc_common.commands.application import conf_dir
from rlkl_htc_common.runs.tracking import TrackingConfig

from ..rlkl import recipes
from .htc_runs import common_arguments, place

__all__ = ["place"]  # a fixture
KILLS = 50
PATIENCE = 1800  # seconds
OFF = TrackingConfig("disabled")
PRETRAIN = recipes.pretraining(
    trained_digits=1,
    architecture=ArchitectureConfig(layers=2, heads=2, width=32, positions=384, dropout=0.1),
    training={"epochs": 8, "batch_size": 8, "examples_per_epoch": 160, "muon_learning_rate": 4e-3, "checkpoint_steps": 6},
    evaluation_examples=2,
    tracking=OFF,
)
FINETUNE = recipes.finetuning(
    penalty=recipes.penalty("prioritized", beta=10.0),
    algorithm=recipes.algorithm(episodes=6, iterations=30, minibatch_size=3, learning_rate=1e-3),
    evaluate_every=7,
    evaluation_examples=2,
    tracking=OFF,
)


def pretraining(place, run_dir):
    return pretrain(replace(PRETRAIN, run_dir=run_dir))


def finetuning(place, run_dir):
    model = place / "pretrained"
    if not model.exists():
        pretrain(replace(PRETRAIN, run_dir=str(model), training=replace(PRETRAIN.training, epochs=1)))
    return finetune(replace(FINETUNE, model=str(model / "model"), run_dir=run_dir), progress=False)


def classifier_training(encoder, place, run_dir, model=()):
    htc.experiment.config.register()
    given = [f"encoder={encoder}", *common_arguments(place), f"run_dir={run_dir}", "tracking.mode=disabled", *model]
    epochs = 60 if encoder == "minilm_frozen" else 8
    given += [f"training.epochs={epochs}", "training.checkpoint_steps=7"]
    with initialize_config_dir(str(conf_dir("htc")), version_base="1.3"):
        config = OmegaConf.to_object(compose("train", given))
    return train(config, progress=False)


WORK = {
    "pre-training": pretraining,
    "fine-tuning by reinforcement learning": finetuning,
    "a classifier": partial(classifier_training, "minilm_frozen"),
    "a classifier with its encoder": partial(classifier_training, "minilm"),
    "HiTIN": partial(classifier_training, "minilm", model=("model=hitin",)),
    "HGCLR": partial(classifier_training, "minilm", model=("model=hgclr", "model.graph_heads=4")),
    "HBGL": partial(classifier_training, "minilm", model=("model=hbgl", "loss=bce", "model.global_steps=10")),
}


def outcome(folder):
    """All that a run leaves, without when and how long."""
    files = {file.name: file for file in folder.rglob("*") if file.is_file() and not file.name.startswith(".")}
    del files["config.yaml"]  # which names the folder
    del files["manifest.json"]  # the digests of files whose headers have no certain order
    left = {name: load(file) for name, file in files.items()}
    for measured in ("wall_seconds", "cost"):
        left["result.json"].pop(measured, None)  # a fine-tuning has no cost
    return left


def load(file):
    if file.suffix == ".safetensors":  # whose header has no certain order
        return {name: (tensor.shape, tensor.numpy().tobytes()) for name, tensor in load_file(file).items()}
    return json.loads(file.read_text()) if file.name == "result.json" else file.read_bytes()


def killed_after(seconds, work):
    """Do the work in a process of its own, and kill it. Returns: whether it was done before."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0, f"it failed by itself: {status}"
            return True
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


@pytest.mark.slow
@pytest.mark.parametrize("name", WORK)
def test_fifty_kills_change_nothing(name, place, tmp_path):
    work = partial(WORK[name], place)
    work(run_dir=str(tmp_path / "warm"))  # what is kept between runs, such as features of texts
    started = time.monotonic()
    assert killed_after(PATIENCE, partial(work, run_dir=str(tmp_path / "whole")))
    whole, duration = outcome(tmp_path / "whole"), time.monotonic() - started
    moments, kills, ends, folder = random.Random(0), 0, 0, tmp_path / "killed"
    while kills < KILLS or ends == 0:
        assert time.monotonic() - started < PATIENCE, f"{kills} kills, {ends} ends: it does not get on"
        if killed_after(moments.uniform(0, duration / 2), partial(work, run_dir=str(folder))):
            assert outcome(folder) == whole
            shutil.rmtree(folder)
            ends += 1
        else:
            kills += 1
    print(f"{name}: {kills} kills, {ends} whole runs of {duration:.1f} s")
