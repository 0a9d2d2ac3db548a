"""`htc.load`: the way in for texts from Python."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import htc
from htc import InputError
from htc.commands import predict as predict_app
from htc.predictor import LARGEST, Step

from .entry_points import call
from .htc_runs import place, train_in

__all__ = ["place"]  # a fixture

TEXTS = ["violin song", "atom energy", "cell gene plant animal cell gene", "force", "actor opera"]


@pytest.fixture(scope="module")
def run(place):
    return train_in(place, "a run")


@pytest.fixture(scope="module")
def model(run):
    return htc.load(run)


def test_predictions_are_paths_with_probabilities(model):
    predictions = model.predict(TEXTS)
    assert len(predictions) == len(TEXTS)
    probabilities = model.predict_proba(TEXTS)
    for prediction, row in zip(predictions, probabilities, strict=True):
        ((top, *below),) = prediction
        assert isinstance(top, Step)
        assert top.label in ("Arts", "Science")
        names = [step.label for step in (top, *below)]
        node = model.hierarchy.node(tuple(names))
        assert (top, *below)[-1].probability == pytest.approx(float(row[node]), abs=5e-5)
        assert model.labels[node] == names[-1]


def test_probabilities_and_sets_are_arrays_over_the_labels(model):
    probabilities, sets = model.predict_proba(TEXTS), model.predict_sets(TEXTS)
    assert probabilities.shape == sets.shape == (len(TEXTS), len(model.labels))
    assert (probabilities.dtype, sets.dtype) == (np.float32, torch.bool)
    assert model.hierarchy.is_coherent(sets).all()
    assert model.predict([]) == []
    assert model.predict_proba([]).shape == (0, len(model.labels))


def test_neither_order_nor_batches_change_a_prediction(model):
    expected = model.predict_proba(TEXTS)
    np.testing.assert_allclose(model.predict_proba(TEXTS[::-1])[::-1], expected, atol=1e-6)
    alone = np.concatenate([model.predict_proba([text]) for text in TEXTS])
    np.testing.assert_allclose(alone, expected, atol=1e-6)


def test_a_stream_of_any_length_is_read_in_parts(model, monkeypatch):
    sizes = []
    monkeypatch.setattr(model, "predict", lambda part: sizes.append(len(part)) or [[] for _ in part])
    many = (f"text {number}" for number in range(32 + 256 + 2 * LARGEST + 5))
    read = [text for text, _ in model.stream(many)]
    assert read[-1] == f"text {len(read) - 1}"
    assert sizes == [32, 256, LARGEST, LARGEST, 5]
    sizes.clear()
    assert len(list(model.stream(iter(TEXTS), at_once=1))) == len(sizes) == len(TEXTS)


def test_the_command_gives_the_same(model, run, tmp_path, monkeypatch, capsys):
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS) + "\n")
    arguments = [f"model={run / 'model'}", f"input={tmp_path / 'texts.txt'}", "format=jsonl"]
    code, out, _ = call(predict_app, arguments, monkeypatch, capsys)
    assert code == 0
    found = [[[Step(**step) for step in path] for path in json.loads(line)["labels"]] for line in out.splitlines()]
    assert found == model.predict(TEXTS)


def test_another_rule_and_another_place(run):
    every = htc.load(run / "model", decoder="threshold", device="cpu")
    assert repr(every) == "Predictor(6 labels, decoder='threshold')"
    assert every.predict_sets(TEXTS).shape == (5, 6)


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ("one text", r"give \[text\]"),
        (["a", ""], "text 1 is empty"),
        (["a", " \n"], "text 1 is empty"),
        ([None], "text 0 is None, not a text"),
        (["a", 3.5], r"text 1 is 3\.5, not a text"),
        ([b"bytes"], "not a text"),
    ],
)
def test_what_is_no_text_is_refused(texts, says, model):
    for method in (model.predict, model.predict_proba, model.predict_sets):
        with pytest.raises(InputError, match=says):
            method(texts)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"decoder": "best"}, "best"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"device": "nowhere"}, "device 'nowhere'"),
    ],
)
def test_bad_options_are_refused(options, says, run):
    with pytest.raises(InputError, match=says):
        htc.load(run, **options)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(InputError, match="not the folder of a trained model"):
        htc.load(tmp_path)
    with pytest.raises(InputError, match="not the folder of a trained model"):
        htc.load(Path("no such folder"))
