import json

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from rlkl_htc_common.errors import InputError
from rlkl_htc_common.models.encoders import cached_features, load_encoder
from rlkl_htc_common.models.settings import PACKAGED, EncoderConfig

TEXTS = ["A river in Africa.", "x", "A much longer text about a composer of operas, her life and her works. " * 5]


@pytest.fixture(scope="module")
def minilm():
    return load_encoder(EncoderConfig(PACKAGED, max_length=256))


def test_batching_and_padding_change_no_vector(minilm):
    together = minilm.embed(TEXTS, batch_size=3)
    alone = torch.cat([minilm.embed([text]) for text in TEXTS])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    assert together.shape == (3, minilm.dim)


def test_similar_texts_have_similar_vectors(minilm):
    river, stream, opera = minilm.embed(["a river in Africa", "a stream in Kenya", "an opera by Verdi"])
    cosine = torch.nn.functional.cosine_similarity
    assert cosine(river, stream, dim=0) > cosine(river, opera, dim=0) + 0.2


@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler"])
def test_poolings(minilm, pooling):
    encoder = load_encoder(EncoderConfig(PACKAGED, pooling, max_length=256))
    inputs = encoder.pad(encoder.tokenize(TEXTS[:1]))
    output = encoder.model(**inputs)
    hidden = output.last_hidden_state
    expected = {"mean": hidden.mean(1), "cls": hidden[:, 0], "pooler": output.pooler_output}[pooling]
    torch.testing.assert_close(encoder.embed(TEXTS[:1]), expected)


def test_long_texts_are_cut(minilm):
    encoder = load_encoder(EncoderConfig(PACKAGED, max_length=16))
    assert [len(ids) for ids in encoder.tokenize(TEXTS)] == [7, 3, 16]


def test_saved_in_transformers_own_format(minilm, tmp_path):
    minilm.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").exists()
    model, tokenizer = AutoModel.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    ids = tokenizer(TEXTS[0], return_tensors="pt")
    torch.testing.assert_close(model(**ids).last_hidden_state.mean(1), minilm.embed(TEXTS[:1]))
    assert load_encoder(EncoderConfig(str(tmp_path), max_length=256)).fingerprint() == minilm.fingerprint()


def test_features_are_computed_once(minilm, tmp_path, monkeypatch):
    first = cached_features(minilm, TEXTS, tmp_path)
    monkeypatch.setattr(type(minilm), "embed", lambda *_, **__: pytest.fail("computed again"))
    assert torch.equal(cached_features(minilm, TEXTS, tmp_path), first)
    with pytest.raises(pytest.fail.Exception, match="computed again"):
        cached_features(minilm, TEXTS[::-1], tmp_path)


def test_features_of_many_texts_are_in_several_files(minilm, tmp_path, monkeypatch):
    monkeypatch.setattr("rlkl_htc_common.models.encoders.PART", 2)
    found = cached_features(minilm, TEXTS, tmp_path)
    parts = torch.cat([minilm.embed(TEXTS[:2]), minilm.embed(TEXTS[2:])])
    assert len(found) == len(TEXTS)
    assert found.shape == parts.shape
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
    for rows in (torch.arange(3), torch.tensor([2, 0, 0, 1]), torch.tensor([], dtype=torch.long)):
        assert torch.equal(found[rows], parts[rows])
    monkeypatch.setattr(type(minilm), "embed", lambda *_, **__: pytest.fail("computed again"))
    assert torch.equal(cached_features(minilm, TEXTS, tmp_path)[torch.arange(3)], parts)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (EncoderConfig("no/such-model", max_length=256), "'no/such-model' is no folder here and cannot be had from the hub"),
        (EncoderConfig(PACKAGED, "max", 256), "encoder.pooling must be one of mean, cls, pooler, not 'max'"),
        (EncoderConfig(PACKAGED, max_length=513), "from 3 to the model's 512 positions, not 513"),
    ],
)
def test_wrong_settings(config, message):
    with pytest.raises(InputError, match=message):
        load_encoder(config)


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(InputError, match="holds no model that transformers can load"):
        load_encoder(EncoderConfig(str(tmp_path), max_length=256))


def test_a_tokenizer_that_cannot_read_texts_is_reported(minilm, tmp_path):
    minilm.save_pretrained(tmp_path)
    file = tmp_path / "tokenizer.json"
    model = json.loads(file.read_text())
    model["model"] = {"type": "WordLevel", "vocab": {"x": 0}, "unk_token": "[UNK]"}
    file.write_text(json.dumps(model))
    with pytest.raises(InputError, match=r"Missing \[UNK\] token from the vocabulary"):
        load_encoder(EncoderConfig(str(tmp_path), max_length=256))
