"""A model as an ONNX graph: the probabilities of the model, for every objective and every batch."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from htc import Hierarchy, InputError
from htc.experiment import onnx
from htc.experiment.onnx import TextToProbabilities, export_onnx
from htc.experiment.saved_model import SavedModel
from htc.losses.by_name import OBJECTIVES, objective_by_name
from htc.scoring.calibration import Tempered
from htc.settings import OBJECTIVES as ENTRIES

from ..conftest import random_dag, random_tree
from .test_classifiers import encoder, made

onnxruntime = pytest.importorskip("onnxruntime")
TREE, DAG = random_tree(0), random_dag(0)
IN_A_DAG = ("bce", "champ", "conditional_sigmoid", "leaf_softmax")
TEXTS = ["word", "n1 n2 n3 n4 word n6", "n7 n7 n7 unknown"]


def saved(name="flat", hierarchy=TREE, loss="bce", stop=False, temperature=None):
    objective = objective_by_name(loss, hierarchy, **({"stop": True} if stop else {}))
    if temperature:
        objective = Tempered(objective, torch.tensor(temperature))
    of = encoder()
    classifier = made(name, hierarchy, objective, trained=name in ("hgclr", "hbgl"), of=of).eval()
    for parameter in classifier.head.parameters():
        torch.nn.init.normal_(parameter)  # probabilities that are not all alike
    if not classifier.reads_tokens:
        classifier.encoder = None
    seen = torch.zeros(0, dtype=torch.long)
    return SavedModel(of.eval(), classifier, objective.eval(), hierarchy, 0.5, "top_down", seen, {}, {})


def run(file: Path, model, texts):
    batch = model.encoder.pad(model.encoder.tokenize(texts))
    (found,) = onnxruntime.InferenceSession(file).run(["probabilities"], {name: ids.numpy() for name, ids in batch.items()})
    return found


CASES = {
    **{loss: {"loss": loss} for loss in OBJECTIVES},
    **{f"{loss}, stop": {"loss": loss, "stop": True} for loss in OBJECTIVES if "stop" in ENTRIES[loss].reads},
    **{f"{loss}, dag": {"loss": loss, "hierarchy": DAG} for loss in IN_A_DAG},
    "hitin": {"name": "hitin", "loss": "conditional_softmax"},
    "hgclr": {"name": "hgclr"},
    "a temperature": {"loss": "conditional_softmax", "temperature": [2.0]},
    "bce, a temperature": {"temperature": [2.0]},
    "champ, dag, temperatures": {
        "loss": "champ",
        "hierarchy": DAG,
        "temperature": [1.0 + 0.1 * n for n in range(DAG.max_depth)],
    },
    "a single label": {"hierarchy": Hierarchy(["a"], [[]])},
}
OFTEN = (
    "bce",
    "conditional_softmax, stop",
    "parameter_sharing_softmax",
    "conditional_sigmoid, dag",
    "hitin",
    "bce, a temperature",
)


@pytest.mark.parametrize("case", [case if case in OFTEN else pytest.param(case, marks=pytest.mark.slow) for case in CASES])
def test_the_graph_has_the_probabilities_of_the_model(case, tmp_path):
    model = saved(**CASES[case])
    file = export_onnx(model, tmp_path / "onnx")
    for texts in (TEXTS, TEXTS[:1], TEXTS[1:] * 4):
        np.testing.assert_allclose(run(file, model, texts), model.probabilities_of(texts).numpy(), atol=1e-5)


def test_what_lies_beside_the_graph_is_enough_to_use_it(tmp_path):
    from tokenizers import Tokenizer

    model = saved()
    file = export_onnx(model, tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert len(tokenizer.encode("word " * 100).ids) == model.encoder.max_length
    ids = np.array([tokenizer.encode("n1 word").ids])
    (found,) = onnxruntime.InferenceSession(file).run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
    np.testing.assert_allclose(found, model.probabilities_of(["n1 word"]).numpy(), atol=1e-5)
    assert tuple(json.loads((tmp_path / "hierarchy.json").read_text())["names"]) == model.hierarchy.names


def test_the_model_is_left_as_it_was(tmp_path):
    model = saved(loss="conditional_softmax")
    before = model.probabilities_of(TEXTS)
    modes = [part.training for part in (model.encoder, model.classifier)]
    export_onnx(model, tmp_path)
    assert torch.equal(model.probabilities_of(TEXTS), before)
    assert [part.training for part in (model.encoder, model.classifier)] == modes


def test_what_cannot_be_exported(tmp_path):
    with pytest.raises(InputError, match="level by level"):
        export_onnx(saved("hbgl"), tmp_path / "hbgl")
    assert not (tmp_path / "hbgl").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match="exists already"):
        export_onnx(saved(), tmp_path / "full")
    (tmp_path / "file").write_text("precious")
    with pytest.raises(InputError, match="exists already"):
        export_onnx(saved(), tmp_path / "file")
    with pytest.raises(InputError, match="cannot write there"):
        export_onnx(saved(), tmp_path / "file" / "onnx")
    assert {place.name for place in tmp_path.iterdir()} == {"full", "file"}


def test_a_graph_with_other_probabilities_is_refused(tmp_path, monkeypatch):
    model, write = saved(), onnx._write
    wrong = TextToProbabilities(replace(model, objective=Tempered(model.objective, torch.tensor([3.0])))).eval()
    monkeypatch.setattr(onnx, "_write", lambda whole, batch, file: (wrong(**batch), write(wrong, batch, file)))
    with pytest.raises(InputError, match="differ by up to"):
        export_onnx(model, tmp_path / "onnx")
    assert not list(tmp_path.iterdir()), "it is not kept"


class OneBatch(TextToProbabilities):
    """Its graph takes as many texts as it was exported with."""

    def forward(self, input_ids, attention_mask):
        return super().forward(input_ids, attention_mask).reshape(len(input_ids), -1)


class Unsupported(TextToProbabilities):
    """What it does depends on its numbers."""

    def forward(self, input_ids, attention_mask):
        found = super().forward(input_ids, attention_mask)
        return found if bool(found.max() > 0.3) else found + 1


@pytest.mark.parametrize(("kind", "message"), [(OneBatch, "the graph cannot be run"), (Unsupported, "torch cannot export")])
def test_what_the_exporter_cannot_do_is_said_in_a_sentence(kind, message, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx, "TextToProbabilities", kind)
    with pytest.raises(InputError, match=message) as error:
        export_onnx(saved(), tmp_path / "onnx")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())
