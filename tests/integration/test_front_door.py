"""The way in from Python: `htc.train`, and models that are saved, pushed to the hub, and loaded again."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import huggingface_hub
import numpy as np
import pandas as pd
import pytest
from huggingface_hub import HfApi, ModelCard
from hydra import compose, initialize_config_dir

import htc
from htc import InputError, Predictor
from htc.commands import train as train_app
from htc.experiment import hub as hub_module

from .entry_points import call
from .htc_runs import place

__all__ = ["place"]  # a fixture

TEXTS = ["violin song", "atom energy", "cell gene plant animal cell gene", "force"]


@pytest.fixture(scope="module")
def frame(place):
    lines = (place / "data" / "documents.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return pd.DataFrame(
        {
            "id": range(len(records)),
            "body": [record["token"][0] for record in records],
            "topics": [" > ".join(record["label"]) for record in records],
            "paths": [[record["label"]] for record in records],
            "area": [record["label"][0] for record in records],
            "topic": [record["label"][1] for record in records],
        }
    )


@pytest.fixture(scope="module")
def settings(place):
    return {
        "encoder": {"name": str(place / "encoder")},
        "runs": str(place / "runs"),
        "cache_dir": str(place / "cache"),
        "training": {"epochs": 2, "micro_batch_size": 16},
        "head.hidden": 16,
        "tracking.mode": "disabled",
    }


@pytest.fixture(scope="module")
def model(frame, settings):
    return htc.train(frame, text="body", labels="topics", progress=False, **settings)


def probabilities(model):
    return model.predict_proba(TEXTS)


@pytest.mark.parametrize(
    ("labels", "more"),
    [
        ("paths", {}),
        (["area", "topic"], {}),
        (None, {"dataset.path": "topics"}),
        (None, {"dataset": {"levels": ["area", "topic"]}}),
    ],
)
def test_every_form_of_labels_trains_the_same_model(labels, more, model, frame, settings):
    other = htc.train(frame, text="body", labels=labels, progress=False, **settings, **more)
    assert other.result["test"] == model.result["test"]
    np.testing.assert_array_equal(probabilities(other), probabilities(model))


def test_labels_without_levels(frame, settings):
    model = htc.train(frame, text="body", labels="topic", progress=False, **settings)
    assert sorted(model.labels) == ["Biology", "Film", "Music", "Physics"]


def test_the_command_finds_the_run_of_a_file(frame, settings, tmp_path, monkeypatch, capsys):
    frame.to_csv(tmp_path / "a.csv", index=False)
    model = htc.train(tmp_path / "a.csv", text="body", labels="topics", progress=False, **settings)
    result = (Path(model.result["run_dir"]) / "result.json").read_bytes()
    arguments = ["dataset=table", f"dataset.file={tmp_path / 'a.csv'}", "dataset.text=body", "dataset.path=topics"]
    arguments += [f"encoder.name={settings['encoder']['name']}", f"runs={settings['runs']}", "head.hidden=16"]
    arguments += ["training.epochs=2", f"cache_dir={settings['cache_dir']}", "tracking.mode=disabled"]
    code, out, _ = call(train_app, arguments, monkeypatch, capsys)
    assert code == 0
    assert f"run: {model.result['run_dir']}" in out
    assert (Path(model.result["run_dir"]) / "result.json").read_bytes() == result


def test_splits_of_a_data_set_are_kept(frame, settings):
    parts = {"train": frame[:60], "validation": frame[60:80], "test": frame[80:]}
    data = datasets.DatasetDict({name: datasets.Dataset.from_pandas(part) for name, part in parts.items()})
    model = htc.train(data, text="body", labels="paths", progress=False, **settings)
    assert [model.result["dataset"][split] for split in ("train", "dev", "test")] == [60, 20, 40]
    others = {"dev": frame[60:80], "test": frame[80:]}
    by_themselves = htc.train(frame[:60], text="body", labels="paths", **others, progress=False, **settings)
    np.testing.assert_array_equal(probabilities(by_themselves), probabilities(model))


def test_the_result_has_scores_with_intervals(model):
    test = model.result["test"]
    low, high = test["rules"][model.decoder]["hf1_samples_interval"]
    assert low <= test["rules"][model.decoder]["hf1_samples"] <= high
    assert test["hf1_auc_interval"][0] <= test["hf1_auc"] <= test["hf1_auc_interval"][1]
    again = htc.load(model.result["run_dir"])
    assert again.result == model.result


def test_it_works_in_an_empty_folder_and_says_nothing_on_standard_output(place, frame, tmp_path):
    frame.to_csv(tmp_path / "a.csv", index=False)
    code = (
        "import htc\n"
        f"settings = {{'encoder.name': {str(place / 'encoder')!r}, 'training.epochs': 1, 'tracking.mode': 'disabled'}}\n"
        "model = htc.train('a.csv', text='body', labels='topics', **settings)\n"
        "assert model.predict(['violin song'])\n"
        "try:\n    htc.train('a.csv', text='nope')\nexcept htc.InputError as error:\n    assert 'nope' in str(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "training" in done.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.csv", "runs"]


def test_no_bar_without_progress(frame, settings, tmp_path, capfd):
    htc.train(frame, text="body", labels="topics", progress=False, seed=5, **{**settings, "cache_dir": str(tmp_path)})
    assert "it/s" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"text": "nope"}, "there is no column 'nope'"),
        ({"labels": "nope"}, "there is no column 'nope' .labels."),
        ({"labels": ["area", "nope"]}, "there is no column 'nope'"),
        ({"labels": "id"}, "labels are texts, but 0 is a number"),
        ({"text": ["body"]}, r"text must be the name of a column, as a text\."),
        ({"labels": True}, "labels must be the name of a column, as a text, or a list of such"),
        ({"labels": ["area", 3]}, "labels must be the name of a column"),
        ({"labels": []}, "there is no column of labels"),
        ({"loss": "nope"}, "Could not find 'loss/nope'"),
        ({"loss": "leaf_softmax", "loss.tau": 1}, "unknown key"),
        ({"sed": 1}, "unknown key 'sed'; did you mean 'seed'"),
        ({"training": {"epoch": 1}}, "unknown key 'training.epoch'; did you mean 'epochs'"),
        ({"seed": "x"}, "seed: Value 'x' of type 'str' could not be converted"),
        ({"seed": -1}, "seed must be from 0"),
        ({"loss": "bce,focal"}, "loss"),
        ({"dataset": "icd10cm"}, "data and dataset='icd10cm' are both given"),
        ({"data": None}, "text is given without data"),
        ({"data": 3}, "data of the type int cannot be read"),
        ({"data": "no such.csv"}, r"no such\.csv: cannot read the table"),
        ({"encoder": {"name": "no/such"}}, "the encoder 'no/such'"),
        ({"run_dir": "/proc/no"}, "cannot write the run directory"),
    ],
)
def test_bad_input_is_an_input_error(arguments, says, frame, settings):
    given = {"data": frame, "text": "body", "labels": "topics", "progress": False, **settings, **arguments}
    with pytest.raises(InputError, match=says):
        htc.train(given.pop("data"), **given)


@pytest.mark.parametrize("include_encoder", [False, True])
@pytest.mark.parametrize("load", [htc.load, Predictor.from_pretrained])
def test_a_saved_model_predicts_the_same(model, include_encoder, load, tmp_path):
    assert model.save_pretrained(tmp_path / "a" / "b", include_encoder=include_encoder) is None
    folder = tmp_path / "a" / "b"
    assert (folder / "encoder").is_dir() is include_encoder
    assert {file.suffix for file in folder.rglob("*") if file.is_file()} <= {".json", ".safetensors", ".md", ".txt"}
    loaded = load(str(folder))
    np.testing.assert_array_equal(probabilities(loaded), probabilities(model))
    assert loaded.predict(TEXTS) == model.predict(TEXTS)
    assert loaded.result == {key: value for key, value in model.result.items() if key != "run_dir"}
    loaded.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "encoder").is_dir() is include_encoder
    np.testing.assert_array_equal(probabilities(load(tmp_path / "again")), probabilities(model))


def test_an_encoder_in_the_folder_is_the_one_that_is_used(frame, settings, place, tmp_path):
    shutil.copytree(place / "encoder", tmp_path / "encoder")
    other = {**settings, "encoder": {"name": str(tmp_path / "encoder")}, "runs": str(tmp_path / "runs")}
    model = htc.train(frame, text="body", labels="topics", progress=False, **other)
    model.save_pretrained(tmp_path / "with", include_encoder=True)
    model.save_pretrained(tmp_path / "without")
    expected = probabilities(model)
    shutil.rmtree(tmp_path / "encoder")
    np.testing.assert_array_equal(probabilities(htc.load(tmp_path / "with")), expected)
    with pytest.raises(InputError, match="the encoder"):
        htc.load(tmp_path / "without")
    weights = tmp_path / "with" / "encoder" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(InputError, match=r"encoder/model\.safetensors is not as manifest\.json says"):
        htc.load(tmp_path / "with")


def test_a_folder_is_saved_to_again(model, frame, settings, tmp_path):
    other = htc.train(frame, text="body", labels="topics", seed=3, progress=False, **settings)
    model.save_pretrained(tmp_path, include_encoder=True)
    card = (tmp_path / "README.md").read_text()
    (tmp_path / "README.md").write_text(card + "\nMy words.\n")
    model.save_pretrained(tmp_path, include_encoder=True)
    assert "My words." in (tmp_path / "README.md").read_text()  # the same model
    other.save_pretrained(tmp_path)
    assert "My words." not in (tmp_path / "README.md").read_text()
    assert not (tmp_path / "encoder").exists()
    np.testing.assert_array_equal(probabilities(htc.load(tmp_path)), probabilities(other))
    with pytest.raises(InputError, match="is where the model was loaded from"):
        model.save_pretrained(model.folder)
    (tmp_path / "a file").write_text("")
    with pytest.raises(InputError, match="cannot save the model"):
        model.save_pretrained(tmp_path / "a file" / "b")


def test_the_card_holds_what_the_result_holds(model, tmp_path):
    model.save_pretrained(tmp_path)
    card = ModelCard.load(tmp_path / "README.md")
    assert (card.data.library_name, card.data.pipeline_tag) == ("htc", "text-classification")
    assert "hierarchical-text-classification" in card.data.tags
    row = model.result["test"]["rules"][model.decoder]
    assert {each.metric_type: each.metric_value for each in card.data.eval_results} == {
        name: pytest.approx(row[name], abs=1e-4) for name in ("hf1_micro", "hf1_samples", "f1_macro", "exact_match")
    }
    low, high = row["hf1_samples_interval"]
    assert f"| hF1 samples | {row['hf1_samples']:.3f} ({low:.3f} to {high:.3f}) |" in card.text
    for words in ("6 labels, 4 of them", "Arts, Science", "84 for train, 12 for dev, 24 for test", "htc.load(", "## Limits"):
        assert words in card.text
    assert str(tmp_path.parent) not in card.text
    assert card.data.base_model is None  # a folder of this machine


def test_the_card_of_foreign_names(model, tmp_path):
    settings = json.loads(json.dumps(model.model.settings))
    result = json.loads(json.dumps(model.result))
    result["dataset"]["name"] = "a: [b]\n---\n<script>|x|\x1b[2J"
    card = hub_module.model_card(model.hierarchy, settings, result, own_encoder=False)
    card.save(tmp_path / "README.md")
    again = ModelCard.load(tmp_path / "README.md")
    assert again.data.eval_results[0].dataset_name == "a: [b]\\n---\\n<script>|x|\\x1b[2J"
    assert "<script>" not in again.text
    assert "\x1b" not in again.content
    without = hub_module.model_card(model.hierarchy, settings, None, own_encoder=False)
    assert "was not found, so that there are none" in without.text


@pytest.mark.parametrize("kind", ["flat", "hitin"])
def test_a_fine_tuned_encoder_is_saved_too(kind, frame, settings, tmp_path):
    fine = {**settings, "encoder.frozen": False, "training": {"epochs": 1, "batch_size": 60, "micro_batch_size": 60}}
    model = htc.train(frame[:60], text="body", labels="topics", model=kind, progress=False, **fine)
    model.save_pretrained(tmp_path / "a")
    assert (tmp_path / "a" / "encoder" / "model.safetensors").is_file()
    np.testing.assert_array_equal(probabilities(htc.load(tmp_path / "a")), probabilities(model))
    assert f"`{kind}`" in (tmp_path / "a" / "README.md").read_text()


def test_it_can_be_called_within_another_application_of_hydra(frame, settings, tmp_path):
    (tmp_path / "config.yaml").write_text("mine: 1\n")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        htc.train(frame, text="body", labels="topics", progress=False, **settings)
        assert compose("config").mine == 1


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A folder in place of the hub: what is pushed is copied there, and downloaded from there."""
    folder = tmp_path / "hub"

    def upload(self, *, repo_id, folder_path, **options):
        shutil.copytree(folder_path, folder / repo_id)
        return f"commit of {repo_id}"

    def download(repo_id, *, allow_patterns, **options):
        if not (folder / repo_id).is_dir():
            raise huggingface_hub.errors.LocalEntryNotFoundError(f"there is no {repo_id}")
        return str(folder / repo_id)

    class Address(str):
        repo_id = property(str)

    monkeypatch.setattr(HfApi, "create_repo", lambda self, repo_id, **options: Address(repo_id))
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    monkeypatch.setattr(hub_module, "snapshot_download", download)
    monkeypatch.setattr(
        huggingface_hub.hub_mixin,
        "hf_hub_download",
        lambda repo_id, filename, **options: download(repo_id, allow_patterns=[]) + "/" + filename,
    )
    return folder


@pytest.mark.parametrize("by", ["push_to_hub", "save_pretrained"])
def test_a_pushed_model_predicts_the_same(by, model, hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if by == "push_to_hub":
        assert model.push_to_hub("me/my-model", include_encoder=True) == "commit of me/my-model"
    else:
        model.save_pretrained("mine", include_encoder=True, push_to_hub=True, repo_id="me/my-model")
    assert (hub / "me" / "my-model" / "README.md").is_file()
    for load in (htc.load, Predictor.from_pretrained):
        loaded = load("me/my-model", decoder="threshold", batch_size=2)
        assert (loaded.decoder, loaded.batch_size) == ("threshold", 2)
        np.testing.assert_array_equal(probabilities(loaded), probabilities(model))
    assert Predictor.from_pretrained("me/my-model").decoder == model.decoder


def test_what_cannot_be_pushed_or_loaded_is_refused(model, hub):
    with pytest.raises(InputError, match=r"is a folder on this machine, .*include_encoder=True"):
        model.push_to_hub("me/my-model")
    with pytest.raises(InputError, match="cannot push to 'not a name'"):
        model.push_to_hub("not a name", include_encoder=True)
    for load in (htc.load, Predictor.from_pretrained):
        with pytest.raises(InputError, match="'me/nothing' is no folder here, and cannot be had from the hub: there is no"):
            load("me/nothing")
    with pytest.raises(InputError, match="is no folder here, and cannot be had from the hub"):
        Predictor.from_pretrained("not a name/at all/x")
