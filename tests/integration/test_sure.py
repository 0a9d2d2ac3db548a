"""Answers with a promised coverage and calibrated probabilities, from Python and the command line."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import htc
from htc import InputError
from htc.commands import evaluate as evaluate_app
from htc.commands import predict as predict_app
from htc.experiment.calibration import CALIBRATION
from htc.experiment.saved_model import load_model
from rlkl_htc_common.manifest import accept

from .entry_points import call
from .htc_runs import WORDS, place, train_in

__all__ = ["place"]  # a fixture

TEXTS = ["violin song", "atom energy", "cell gene plant animal cell gene", "force", "zebra quartz"]
HOW_TO_GET_IT = "htc-evaluate model=FOLDER calibrate=true"


@pytest.fixture(scope="module")
def folder(place):
    return train_in(place, "run") / "model"


@pytest.fixture
def old(folder, tmp_path):
    """The same model as earlier versions saved it."""
    shutil.copytree(folder, tmp_path / "old")
    (tmp_path / "old" / CALIBRATION).unlink()
    accept(tmp_path / "old")
    return tmp_path / "old"


def held_out(number):
    """Texts that were not trained on, with their labels."""
    paths = list(WORDS)
    texts = [f"{WORDS[paths[i % 4]]} {WORDS[paths[i % 3]].split()[i % 4]} held {i}" for i in range(number)]
    return texts, [list(paths[i % 4]) for i in range(number)]


def evaluate_arguments(place, model):
    return [f"model={model}", "dataset=custom", f"dataset.dir={place / 'data'}", f"cache_dir={place / 'cache'}"]


def test_answers_back_off(folder):
    model = htc.load(folder)
    calibration = model.model.calibration
    assert len(calibration.wrong_scores["plain"]) == 12
    assert len(calibration.wrong_scores["global"]) == len(calibration.wrong_scores["level"]) == 6
    probabilities = model.predict_proba(TEXTS)
    threshold = calibration.threshold(0.9)
    for answers, row in zip(model.predict(TEXTS, coverage=0.9), probabilities, strict=True):
        assert len(answers) <= 1
        for path in answers:
            assert all(row[model.labels.index(step.label)] > threshold for step in path)
    deep, flat = model.predict_sets(TEXTS, coverage=0.2), model.predict_sets(TEXTS, coverage=0.92)
    assert not bool((flat & ~deep).any())
    streamed = [paths for _, paths in model.stream(iter(TEXTS), coverage=0.9)]
    assert streamed == model.predict(TEXTS, coverage=0.9)
    assert model.predict([], coverage=0.9) == []


@pytest.mark.parametrize("temperature", ["global", "level"])
def test_a_temperature_changes_probabilities_and_keeps_them_coherent(temperature, folder):
    plain, tempered = htc.load(folder), htc.load(folder, temperature=temperature)
    one, other = plain.predict_proba(TEXTS), tempered.predict_proba(TEXTS)
    assert not np.allclose(one, other)
    parent, child = plain.hierarchy.edges
    assert (other[:, child] <= other[:, parent] + 1e-6).all()
    assert tempered.predict(TEXTS, coverage=0.8)
    with pytest.raises(InputError, match=r"coverage=0\.9 cannot be promised from 6 held-out documents: it needs at least 9"):
        tempered.predict(TEXTS, coverage=0.9)


def test_calibrated_on_given_documents_and_saved(old, tmp_path):
    model = htc.load(old)
    before = model.predict_proba(TEXTS)
    for refused in (lambda: model.predict(TEXTS, coverage=0.9), lambda: htc.load(old, temperature="level")):
        with pytest.raises(InputError, match=HOW_TO_GET_IT):
            refused()
    texts, labels = held_out(40)
    model.calibrate(texts, labels)
    answers = model.predict(TEXTS, coverage=0.9)
    model.save_pretrained(tmp_path / "new")
    again = htc.load(tmp_path / "new")
    assert again.predict(TEXTS, coverage=0.9) == answers
    assert np.array_equal(again.predict_proba(TEXTS), before)
    assert len(again.model.calibration.wrong_scores["plain"]) == 40
    htc.load(old).save_pretrained(tmp_path / "new")  # over it: the calibration is of another model now
    assert not (tmp_path / "new" / CALIBRATION).exists()


def test_several_paths_a_document_give_several_paths(old):
    model = htc.load(old)
    texts, labels = held_out(40)
    model.calibrate(texts, [[path, ["Arts", "Film"]] for path in labels])
    assert model.model.calibration.several
    answers = model.predict(TEXTS, coverage=0.5)
    threshold = model.model.calibration.threshold(0.5)
    wanted = torch.from_numpy(model.predict_proba(TEXTS)) > threshold
    assert [len(paths) for paths in answers] == model.hierarchy.most_specific(wanted).sum(1).tolist()


@pytest.mark.parametrize(
    ("texts", "labels", "says"),
    [
        (["a", "b"], [["Arts", "Film"]], "2 texts, but labels of 1"),
        (["a"], [["Arts", "Film"]], "at least 2 held-out documents, and there are 1"),
        ([], [], "at least 2 held-out documents, and there are 0"),
        (["a", "b"], [["Arts", "Film"], []], "held-out document 1 has no label"),
        (["a", "b"], [["Arts", "Film"], ["Nothing"]], "'Nothing' is not in the taxonomy"),
        (["a", ""], [["Arts"], ["Arts"]], "text 1 is empty"),
        ("a text", [["Arts"]], r"give \[text\]"),
    ],
)
def test_documents_that_do_not_suit_are_refused(texts, labels, says, folder):
    with pytest.raises(InputError, match=says):
        htc.load(folder).calibrate(texts, labels)


def test_documents_that_were_trained_on_are_refused(folder, place):
    lines = [json.loads(line) for line in (place / "data" / "documents.jsonl").read_text().splitlines()]
    with pytest.raises(InputError, match="was trained on"):
        htc.load(folder).calibrate([line["token"][0] for line in lines], [line["label"] for line in lines])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"temperature": "high"}, "temperature must be global or level"),
        ({"temperature": 2.0}, "temperature must be global or level"),
        ({"temperature": "level", "decoder": "tuned_threshold"}, "tuned on probabilities without a temperature"),
    ],
)
def test_other_temperatures_are_refused(options, says, folder):
    with pytest.raises(InputError, match=says):
        htc.load(folder, **options)


def test_the_command_gives_the_same(folder, tmp_path, monkeypatch, capsys):
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS) + "\n")
    arguments = [f"model={folder}", f"input={tmp_path / 'texts.txt'}", "coverage=0.9"]
    code, out, err = call(predict_app, [*arguments, "format=jsonl"], monkeypatch, capsys)
    assert code == 0, err
    found = [
        [[(step["label"], step["probability"]) for step in path] for path in json.loads(line)["labels"]]
        for line in out.splitlines()
    ]
    expected = htc.load(folder).predict(TEXTS, coverage=0.9)
    assert found == [[[tuple(step) for step in path] for path in paths] for paths in expected]
    code, _, err = call(predict_app, [*arguments, f"output={tmp_path / 'out.jsonl'}"], monkeypatch, capsys)
    assert code == 0, err
    assert [json.loads(line)["labels"] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == [
        [[step._asdict() for step in path] for path in paths] for paths in expected
    ]
    code, _, err = call(predict_app, [f"model={folder}", "text=zebra", "temperature=level"], monkeypatch, capsys)
    assert code == 0, err


def test_an_empty_answer_says_why(folder, monkeypatch, capsys):
    monkeypatch.setattr("htc.experiment.calibration.conformal_threshold", lambda scores, coverage: 1.0)
    code, out, _ = call(predict_app, [f"model={folder}", "text=zebra", "coverage=0.9"], monkeypatch, capsys)
    assert (code, out) == (0, "zebra\n  (not sure enough for coverage=0.9)\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["coverage=0"], "coverage must be between 0 and 1"),
        (["coverage=90"], "for 90% give 0.9"),
        (["coverage=nan"], "coverage must be between 0 and 1"),
        (["coverage=high"], "coverage"),
        (["coverage=0.99"], "it needs at least 99"),
        (["coverage=0.9", "decoder=top_down"], "coverage and decoder are both given"),
        (["temperature=hot"], "temperature must be global or level"),
        (["temperature=level", "decoder=tuned_threshold"], "tuned on probabilities without a temperature"),
    ],
)
def test_the_command_refuses(arguments, says, folder, monkeypatch, capsys):
    code, _, err = call(predict_app, [f"model={folder}", "text=violin", *arguments], monkeypatch, capsys)
    assert code == 2
    assert says in err
    assert err.count("\n") < 4


def test_evaluation_shows_coverage_and_depth_over_splits(folder, place, tmp_path, monkeypatch, capsys):
    arguments = [*evaluate_arguments(place, folder), "coverage=0.8", f"output={tmp_path / 'scores.json'}"]
    code, out, err = call(evaluate_app, arguments, monkeypatch, capsys)
    assert code == 0, err
    assert "coverage 0.8 promised; test: " in out
    assert "over 20 random splits of dev and test: " in out
    assert "calibration error " in out
    scores = json.loads((tmp_path / "scores.json").read_text())["test"]
    assert set(scores["calibration_error"]) == {"error", "by_depth", "log_loss"}
    assert len(scores["calibration_error"]["by_depth"]) == 2
    assert len(scores["coverage"]["over_splits"]["mean_depth"]["values"]) == 20
    found = json.loads((place / "run" / "result.json").read_text())["test"]
    assert scores["calibration_error"]["log_loss"] == pytest.approx(found["calibration_error"]["log_loss"], rel=1e-5)


def test_evaluation_with_a_temperature(folder, place, monkeypatch, capsys):
    arguments = [*evaluate_arguments(place, folder), "coverage=0.8", "temperature=global"]
    code, out, err = call(evaluate_app, arguments, monkeypatch, capsys)
    assert code == 0, err
    assert "coverage 0.8 promised" in out


def test_evaluation_calibrates_an_old_model(old, folder, place, monkeypatch, capsys):
    code, _, err = call(predict_app, [f"model={old}", "text=violin", "coverage=0.9"], monkeypatch, capsys)
    assert code == 2
    assert HOW_TO_GET_IT in err
    code, _, err = call(evaluate_app, [*evaluate_arguments(place, old), "coverage=0.8"], monkeypatch, capsys)
    assert code == 0, err
    assert not (old / CALIBRATION).exists(), "it was not asked to be saved"
    code, _, err = call(evaluate_app, [*evaluate_arguments(place, old), "calibrate=true"], monkeypatch, capsys)
    assert code == 0, err
    code, _, err = call(predict_app, [f"model={old}", "text=violin", "coverage=0.9"], monkeypatch, capsys)
    assert code == 0, err
    one, other = load_model(folder).calibration, load_model(old).calibration
    assert one.several == other.several
    for name, scores in one.wrong_scores.items():
        torch.testing.assert_close(scores, other.wrong_scores[name], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["coverage=0.8", "split=dev"], "leave split=dev out"),
        (["coverage=0.8", "split=train"], "leave split=train out"),
        (["coverage=1.5"], "coverage must be between 0 and 1"),
        (["coverage=0.99"], "it needs at least 99"),
        (["temperature=hot"], "temperature must be global or level"),
        (["calibrate=true", "dataset.split_seed=5"], "were trained on; draw the splits as the training did"),
    ],
)
def test_evaluation_refuses(arguments, says, folder, place, monkeypatch, capsys):
    code, _, err = call(evaluate_app, [*evaluate_arguments(place, folder), *arguments], monkeypatch, capsys)
    assert code == 2
    assert says in err


def without(name):
    return lambda tensors: {key: value for key, value in tensors.items() if key != name}


@pytest.mark.parametrize(
    "change",
    [
        without("wrong_scores.plain"),
        without("temperature.level"),
        lambda tensors: tensors | {"temperature.global": torch.zeros(1)},
        lambda tensors: tensors | {"temperature.level": torch.ones(7)},
        lambda tensors: tensors | {"wrong_scores.level": torch.tensor([float("nan")])},
        lambda tensors: tensors | {"wrong_scores.plain": torch.ones(2, 2)},
    ],
)
def test_a_damaged_calibration_is_refused(change, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    save_file(change(load_file(folder / CALIBRATION)), tmp_path / "model" / CALIBRATION, {"several": "false"})
    with pytest.raises(InputError, match="is not as manifest"):
        htc.load(tmp_path / "model")
    accept(tmp_path / "model")
    with pytest.raises(InputError, match="the saved model is damaged"):
        htc.load(tmp_path / "model")
