"""htc-train, htc-evaluate and `htc.train` with texts in memory and on disk: the same runs, to the last digit."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import htc
from htc.commands import evaluate as evaluate_app
from htc.commands import train as train_app
from htc.datasets.stored_texts import StoredTexts, TextFile
from htc.experiment.inputs import TokenInputs
from rlkl_htc_common.models.encoders import load_encoder
from rlkl_htc_common.models.settings import EncoderConfig

from .entry_points import call
from .htc_runs import common_arguments, place

__all__ = ["place"]  # a fixture

TIMES = ("cost", "wall_time", "wall_seconds", "finished", "started")
TRAININGS = {
    "frozen": ["model=flat"],
    "fine-tuned": ["encoder=minilm", "training.micro_batch_size=4"],
    "hgclr": ["model=hgclr", "model.graph_heads=4", "model.threshold=0.1"],
    "hbgl": ["model=hbgl", "model.global_steps=2", "model.copies=4"],
}


def contents(run):
    """All that a run left, but times: result.json, config.yaml, and the tensors and the settings of its model."""
    result = {key: value for key, value in json.loads((run / "result.json").read_text()).items() if key not in TIMES}
    tensors = {file.relative_to(run): load_file(file) for file in run.rglob("*.safetensors")}
    return result, (run / "config.yaml").read_text(), (run / "model/config.json").read_text(), tensors


@pytest.mark.parametrize("training", TRAININGS)
def test_a_run_is_the_same(training, place, tmp_path, monkeypatch, capsys):
    found, finish, files = {}, TextFile.finish, []
    monkeypatch.setattr(TextFile, "finish", lambda file: files.append(file) or finish(file))
    for kept in ("memory", "disk"):
        arguments = [a for a in common_arguments(place) if not a.startswith(("loss=", "runs=", "cache_dir="))]
        arguments += [f"runs={tmp_path / kept}", f"cache_dir={tmp_path / kept / 'cache'}", *TRAININGS[training]]
        arguments += ["training.epochs=2", "tracking.mode=disabled", f"dataset.texts={kept}"]
        code, _, err = call(train_app, arguments, monkeypatch, capsys)
        assert code == 0, err
        (run,) = (tmp_path / kept / "htc/custom").iterdir()
        config = (run / "config.yaml").read_text()
        (run / "config.yaml").write_text(config.replace(str(tmp_path / kept), ""))
        found[kept] = (run.name, *contents(run))
        assert not [file for file in (tmp_path / kept / "cache").rglob("*") if file.suffix != ".safetensors"]
        scores = tmp_path / f"{kept}.json"
        arguments = [f"model={run / 'model'}", "dataset=custom", f"dataset.dir={place / 'data'}", f"output={scores}"]
        arguments += [f"dataset.texts={kept}", f"cache_dir={tmp_path / kept / 'cache'}", "coverage=0.8"]
        code, _, err = call(evaluate_app, arguments, monkeypatch, capsys)
        assert code == 0, err
    assert len(files) == 2  # of the training and of the evaluation with texts on disk
    (*memory, tensors), (*disk, others) = found["memory"], found["disk"]
    assert memory == disk
    assert tensors.keys() == others.keys()
    for file, each in tensors.items():
        assert all(torch.equal(each[name], others[file][name]) for name in each), file
    scores = [json.loads((tmp_path / f"{kept}.json").read_text())["test"] for kept in ("memory", "disk")]
    assert scores[0] == scores[1]


def test_from_python(place, tmp_path):
    lines = (place / "data/documents.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    frame = pd.DataFrame({"body": [r["token"][0] for r in records], "topics": [" > ".join(r["label"]) for r in records]})
    frame.assign(unused=range(len(frame))).to_parquet(tmp_path / "a.parquet")
    settings = {"encoder.name": str(place / "encoder"), "runs": str(tmp_path / "runs"), "cache_dir": str(tmp_path / "cache")}
    settings |= {"training.epochs": 1, "head.hidden": 8, "tracking.mode": "disabled"}
    models = [
        htc.train(tmp_path / "a.parquet", text="body", labels="topics", progress=False, **settings, **more)
        for more in ({"dataset.texts": "disk", "run_dir": str(tmp_path / "first")}, {"dataset": {"texts": "memory"}})
    ]
    assert models[0].result["test"] == models[1].result["test"]
    assert models[0].result["config_hash"] == models[1].result["config_hash"]
    with pytest.raises(htc.InputError, match=r"dataset\.texts must be one of auto, memory, disk, not 'ram'"):
        htc.train(frame, text="body", labels="topics", progress=False, **settings, **{"dataset.texts": "ram"})


def test_token_ids_of_texts_on_disk_are_on_disk(place, tmp_path):
    encoder = load_encoder(EncoderConfig(str(place / "encoder"), max_length=32))
    dataset = htc.datasets.load_custom(place / "data", texts="disk", cache_dir=tmp_path)
    assert isinstance(dataset.texts, StoredTexts)
    stored, plain = TokenInputs(encoder, dataset.texts), TokenInputs(encoder, list(dataset.texts))
    documents = torch.tensor([7, 3, 119, 0])
    assert torch.equal(stored.lengths(documents), plain.lengths(documents))
    assert stored.batch(documents)["input_ids"].tolist() == plain.batch(documents)["input_ids"].tolist()
    maps = Path("/proc/self/maps").read_text().splitlines()
    assert any(f"{tmp_path}/" in line and "rw-p" in line and line.endswith("(deleted)") for line in maps)
