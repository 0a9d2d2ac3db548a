"""htc-train with every model: trained, killed, gone on with, saved, used by other commands; and what does not go together."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from htc import Hierarchy
from htc.commands import evaluate as evaluate_app
from htc.commands import predict as predict_app
from htc.commands import reproduce as reproduce_app
from htc.commands import train as train_app
from htc.experiment.build import load_dataset
from htc.experiment.saved_model import load_model
from htc.models.hgclr import HGCLR
from htc.settings import MODELS
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.training.checkpoints import Checkpoints

from .entry_points import call
from .htc_runs import common_arguments, place

__all__ = ["place"]  # a fixture

TINY = {"hgclr": ["model.graph_heads=4", "model.threshold=0.1"], "hbgl": ["model.global_steps=2", "model.copies=4"]}
TREE = "Root\tArts\tScience\nArts\tMusic\tFilm\nScience\tPhysics\tBiology\n"
SEVERAL = [["Arts", "Music"], ["Science", "Physics"]]
LABELS = {  # a taxonomy and the labels of documents
    "tree": (TREE, [["Arts", "Music"], ["Arts", "Film"], ["Science", "Physics"]]),
    "inner ends": (TREE, [["Arts"], ["Arts", "Film"], ["Science", "Physics"]]),
    "several paths": (TREE, [SEVERAL, ["Arts", "Film"], ["Science"]]),
}
DAG = Hierarchy.from_pairs([("Arts", "Music"), ("Science", "Physics"), ("Arts", "Acoustics"), ("Science", "Acoustics")])


def documents_in(folder, labels):
    taxonomy, sets = LABELS[labels]
    folder.mkdir()
    (folder / "labels.taxonomy").write_text(taxonomy)
    lines = [json.dumps({"text": f"words {i} of {i % len(sets)}", "label": sets[i % len(sets)]}) + "\n" for i in range(30)]
    (folder / "documents.jsonl").write_text("".join(lines))


def arguments_for(model, place, data, run, *more):
    shared = [a for a in common_arguments(place) if not a.startswith(("loss=", "dataset.dir="))]
    shared += [f"model={model}", f"dataset.dir={data}", f"run_dir={run}", "tracking.mode=disabled", "training.epochs=2"]
    return [*shared, *TINY.get(model, []), *more]


def in_a_dag(dataset):
    """The same documents with labels of a hierarchy that no file can hold."""
    sets = [["Music"], ["Acoustics"], ["Acoustics", "Physics"]]
    targets = DAG.encode([sets[i % 3] for i in range(len(dataset.texts))])
    return replace(dataset, hierarchy=DAG, targets=targets)


@pytest.mark.parametrize("labels", [*LABELS, "dag"])
@pytest.mark.parametrize("model", MODELS)
def test_every_model_on_every_kind_of_labels(model, labels, place, tmp_path, monkeypatch, capsys):
    documents_in(tmp_path / "data", "tree" if labels == "dag" else labels)
    if labels == "dag":
        for command in ("train", "evaluate"):
            monkeypatch.setattr(f"htc.commands.{command}.load_dataset", lambda *given: in_a_dag(load_dataset(*given)))
    arguments = arguments_for(model, place, tmp_path / "data", tmp_path / "run", "training.micro_batch_size=3")
    code, _, err = call(train_app, arguments, monkeypatch, capsys)
    assert code == 0, err
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert result["model"] == model
    assert {"precision_at", "r_precision", "average_precision"} <= set(result["test"])

    saved = [f"model={tmp_path / 'run/model'}"]
    data = ["dataset=custom", f"dataset.dir={tmp_path / 'data'}", f"cache_dir={place / 'cache'}"]
    code, _, err = call(evaluate_app, [*saved, *data, f"output={tmp_path / 'scores.json'}"], monkeypatch, capsys)
    assert code == 0, err
    scores = json.loads((tmp_path / "scores.json").read_text())["test"]
    assert scores["hf1_auc"] == pytest.approx(result["test"]["hf1_auc"], abs=1e-6)
    assert set(scores["rules"]) == set(result["test"]["rules"])

    code, out, err = call(predict_app, [*saved, "decoder=top_down", "format=jsonl", "text=words 3"], monkeypatch, capsys)
    assert code == 0, err
    assert json.loads(out)["labels"]


@pytest.mark.parametrize("model", sorted(set(MODELS) - {"flat"}))
def test_a_model_that_is_killed_goes_on_to_the_same_numbers(model, place, tmp_path, monkeypatch, capsys):
    documents_in(tmp_path / "data", "tree")
    encoder = [] if MODELS[model].trains_encoder else ["encoder=minilm"]
    settings = [*encoder, "training.checkpoint_steps=1", "training.epochs=3"]
    whole, killed = (arguments_for(model, place, tmp_path / "data", tmp_path / name, *settings) for name in ("whole", "killed"))
    assert call(train_app, whole, monkeypatch, capsys)[0] == 0
    save = Checkpoints.save

    def save_and_die(self, step, *rest):
        save(self, step, *rest)
        if step in (1, 4):
            raise KeyboardInterrupt

    for _ in range(2):
        monkeypatch.setattr(Checkpoints, "save", save_and_die)
        with pytest.raises(AssertionError):
            assert call(train_app, killed, monkeypatch, capsys)[0] == 0
        monkeypatch.setattr(Checkpoints, "save", save)
    code, _, err = call(train_app, killed, monkeypatch, capsys)
    assert (code, "continuing from step 4" in err) == (0, True), err
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "killed")]
    assert results[0]["test"] == results[1]["test"]
    for file in ("documents.safetensors", "model/head.safetensors", "model/encoder/model.safetensors"):
        one, other = (load_file(tmp_path / name / file) for name in ("whole", "killed"))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_what_is_for_training_alone_is_not_saved(place, tmp_path, monkeypatch, capsys):
    documents_in(tmp_path / "data", "tree")
    for model in ("flat", "hgclr", "hbgl"):
        arguments = arguments_for(model, place, tmp_path / "data", tmp_path / model, "loss=bce", "training.epochs=1")
        assert call(train_app, arguments, monkeypatch, capsys)[0] == 0
    monkeypatch.setattr(HGCLR, "__init__", None)
    monkeypatch.setattr("htc.experiment.classifiers.global_stage", None)
    monkeypatch.setattr("htc.experiment.classifiers.load_masked_lm_transform", None)
    loaded = {model: load_model(tmp_path / model / "model") for model in ("flat", "hgclr", "hbgl")}
    flat, hgclr, hbgl = (set(load_file(tmp_path / model / "model/head.safetensors")) for model in loaded)
    assert flat == hgclr
    assert hbgl == {"rows", "bias", "transform.0.weight", "transform.0.bias", "transform.2.weight", "transform.2.bias"}
    for model in loaded.values():
        assert model.probabilities_of(["words 1", "words of 2"]).shape == (2, 6)
        assert model.probabilities_of([]).shape == (0, 6)
    with pytest.raises(InputError, match=r"reads the tokens of texts.*probabilities_of"):
        loaded["hbgl"].probabilities(torch.zeros(2, 32))


def test_a_run_is_called_by_its_model(place, tmp_path, monkeypatch, capsys):
    documents_in(tmp_path / "data", "tree")
    for model, loss in (("flat", "loss=bce"), ("hitin", "loss=bce"), ("hbgl", "loss=bce"), ("hbgl", "loss=auto")):
        arguments = arguments_for(model, place, tmp_path / "data", "null", f"runs={tmp_path}", loss, "training.epochs=1")
        code, _, err = call(train_app, arguments, monkeypatch, capsys)
        assert code == 0, err
    runs = sorted(run.name.rpartition("-")[0] for run in (tmp_path / "htc/custom").iterdir())
    assert runs == ["bce-seed0", "hbgl-seed0", "hitin-bce-seed0"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["model=hgclr", "encoder=minilm_frozen"], "model=hgclr trains its text encoder, and encoder.frozen=true keeps it"),
        (["model=hbgl", "encoder.frozen=true"], "model=hbgl trains its text encoder"),
        (["model=hbgl", "loss=focal"], "has a loss of its own and takes no loss=focal; these take any: flat, hitin, hgclr."),
        (["model=hbgl", "loss=conditional_softmax"], "takes no loss=conditional_softmax"),
        (["model=hbgl", "loss=bce", "loss.recursive_regularization=0.1"], "takes no loss.recursive_regularization"),
        (["model=hbgl", "loss.stop=true"], "takes no loss.stop"),
        (["model=hbgl", "select=dev/expected_hf/f1_macro"], "the rule expected_hf takes the probabilities of one path"),
        (["model=hgclr"], "vectors of size 32 cannot be divided among 12 heads; set graph_heads to a divisor of 32, such as 8"),
        (["model=hitin", "model.height=1"], "model.height must be from 2 to 100, not 1"),
        (["model=hitin", "model.height=1000000000"], "model.height must be from 2 to 100"),
        (["model=hitin", "model.mixing=rows"], "model.mixing must be matrix, scale, or null, not rows"),
        (["model=hitin", "model.pooling=first"], "model.pooling must be sum, mean, max, or root, not first"),
        (["model=hitin", "model.pooled_dropout=1"], "model.pooled_dropout must be at least 0 and less than 1"),
        (["model=hgclr", "model.weight=-1"], "model.weight must be at least 0"),
        (["model=hgclr", "model.temperature=0"], "model.temperature must be positive"),
        (["model=hgclr", "model.threshold=inf"], "model.threshold must be a finite number"),
        (["model=hbgl", "model.masked=2"], "model.masked must be from 0 to 1"),
        (["model=hbgl", "model.copies=0"], "model.copies must be at least 1"),
        (["model=hitin", "model.weight=1"], "unknown key 'model.weight'"),
        (["model=flat", "model.height=2"], "unknown key 'model.height'"),
        (["model=hitin", "model.name=flat"], "model.name=flat lacks the settings of that model; give model=flat instead"),
        (["model.name=hgclr"], "give model=hgclr instead"),
        (["model.name=lstm"], "model.name must be one of flat, hitin, hgclr, hbgl, not 'lstm'"),
        (["model=lstm"], "Could not find 'model/lstm'"),
        (["training.decay=cosine"], "training.decay must be linear or constant, not 'cosine'"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_what_does_not_go_together(settings, message, place, tmp_path, monkeypatch, capsys):
    shared = [a for a in common_arguments(place) if not a.startswith("loss=")]
    code, _, err = call(train_app, [*shared, f"run_dir={tmp_path / 'run'}", *settings], monkeypatch, capsys)
    assert (code, message in err.splitlines()[-1]) == (2, True), err
    assert not (tmp_path / "run/result.json").exists()


def test_a_model_is_a_method_of_a_reproduction(place, tmp_path, monkeypatch, capsys):
    """Among others, with encoders of their own; and its title is in the report."""
    documents_in(tmp_path / "data", "tree")
    shared = [a for a in common_arguments(place) if not a.startswith(("loss=", "runs=", "dataset.dir="))]
    shared += ["experiment=hwv", "seeds=[0]", "jobs=1", f"dataset.dir={tmp_path / 'data'}", "split_per_seed=false"]
    shared += [f"runs={tmp_path / 'runs'}", f"output={tmp_path / 'report'}", "training.epochs=1", "tracking.mode=disabled"]
    shared += [f"~methods.{name}" for name in ("bce", "bce_prior_bias", "leaf_softmax", "conditional_softmax_la")]
    methods = "+methods={hitin: {model: hitin, loss: bce}, hbgl: {model: hbgl, model.global_steps: 0, loss: bce}}"
    code, out, err = call(reproduce_app, [*shared, methods], monkeypatch, capsys)
    assert code == 0, err
    for title in ("conditional softmax", "HiTIN", "HBGL"):
        assert f"| {title} |" in out.replace("**", "")
    commands = [run["command"] for run in json.loads((tmp_path / "report/grid.json").read_text())["runs"]]
    assert "model=hitin" in commands[-2].split()
    assert {"model=hbgl", "encoder=minilm", "model.global_steps=0"} <= set(commands[-1].split())
    code, _, err = call(
        reproduce_app, [*shared, "+methods={a: {model: hbgl}, b: {model: hbgl, loss: bce}}"], monkeypatch, capsys
    )
    assert (code, "methods: a and b do not differ" in err) == (2, True), err
