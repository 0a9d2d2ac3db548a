"""Models joined to an encoder: what they share with the flat one, what they need, what they refuse."""

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import AlbertConfig, AlbertModel, BertConfig, BertForMaskedLM, BertModel, PreTrainedTokenizerFast

from htc import Hierarchy, InputError
from htc.experiment.classifiers import HBGLClassifier, suitable_mixing
from htc.losses import BCE, ConditionalSoftmax, LeafSoftmax
from htc.losses.binary import BCEAtBaseRates
from htc.models.classifier import Parts
from htc.settings import MODELS
from rlkl_htc_common.models.encoders import TextEncoder, load_encoder, load_masked_lm_transform
from rlkl_htc_common.models.settings import EncoderConfig

from ..conftest import random_dag, random_tree, single_paths

DIM = 16
SPECIAL = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
WORDS = [*SPECIAL.values(), *(f"n{i}" for i in range(40)), "word"]
SETTINGS = {
    "flat": {},
    "hitin": {"height": 2, "mixing": None, "pooling": "sum", "pooled_dropout": 0.5, "on_top": False},
    "hgclr": {
        "weight": 0.1,
        "threshold": 0.001,
        "temperature": 1.0,
        "similarity_temperature": 1.0,
        "gate_heads": 2,
        "graph_heads": 2,
    },
    "hbgl": {
        "history_mask": 0.5,
        "global_steps": 3,
        "global_learning_rate": 1e-3,
        "masked": 0.15,
        "masked_at_end": 0.3,
        "copies": 4,
    },
}
CONFIG = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 20, "max_position_embeddings": 40}
MADE = [random_tree, random_dag]


def tokenizer(**special):
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, **(SPECIAL | special))


def encoder(pooling="mean", **config):
    torch.manual_seed(1)
    model = BertModel(BertConfig(vocab_size=len(WORDS), hidden_size=DIM, **CONFIG | config))
    return TextEncoder(model, tokenizer(), pooling, max_length=20)


def made(name, hierarchy, objective=None, trained=True, of=None, **settings):
    of = of or encoder()
    parts = Parts(of, trained, hierarchy, objective or BCE(hierarchy), hidden=8, dropout=0.1)
    torch.manual_seed(2)
    return MODELS[name].maker()(parts, **SETTINGS[name] | settings)


def batch(documents=5, length=7):
    ids = torch.randint(5, len(WORDS), (documents, length))
    mask = torch.ones_like(ids)
    for document in range(documents):
        mask[document, length - document :] = 0
    return {"input_ids": ids, "attention_mask": mask}


def loss_of(classifier, objective, inputs, targets):
    if classifier.own_loss:
        return classifier(inputs | {"targets": targets})
    return objective.loss(classifier(inputs), targets)


def several_paths(hierarchy, documents):
    chosen = torch.rand(documents, hierarchy.num_nodes) < 0.1
    chosen[:, -1] = True
    return hierarchy.close(chosen)


@pytest.mark.parametrize("make", MADE, ids=["tree", "dag"])
@pytest.mark.parametrize("name", MODELS)
def test_everything_that_is_trained_gets_a_gradient(name, make):
    """On several paths; where one had none, several processes would wait for it."""
    hierarchy = make(0)
    classifier, objective = made(name, hierarchy), BCE(hierarchy)
    loss_of(classifier.train(), objective, batch(), several_paths(hierarchy, 5)).backward()
    trained = {n: p for n, p in classifier.named_parameters() if p.requires_grad}
    assert not [n for n, parameter in trained.items() if parameter.grad is None]
    assert all(parameter.grad.isfinite().all() for parameter in trained.values())
    assert any(parameter.grad.abs().sum() > 0 for n, parameter in trained.items() if n.startswith("encoder."))


@pytest.mark.parametrize("make", MADE, ids=["tree", "dag"])
@pytest.mark.parametrize("name", MODELS)
def test_scores_do_not_depend_on_the_batch_nor_on_the_order_of_documents(name, make):
    classifier, inputs = made(name, make(1)).eval(), batch()
    together, order = classifier(inputs), torch.randperm(5)
    alone = torch.cat([classifier({key: value[[i]] for key, value in inputs.items()}) for i in range(5)])
    torch.testing.assert_close(together, alone)
    torch.testing.assert_close(together[order], classifier({key: value[order] for key, value in inputs.items()}))


@pytest.mark.parametrize("name", MODELS)
def test_training_lowers_the_loss(name):
    hierarchy = random_tree(2)
    classifier, objective, inputs = made(name, hierarchy), BCE(hierarchy), batch()
    targets = single_paths(hierarchy, 5)
    classifier.prepare(seed=0)
    optimizer = torch.optim.AdamW(classifier.train().parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        loss = loss_of(classifier, objective, inputs, targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("objective", [BCE, LeafSoftmax, ConditionalSoftmax])
def test_hitin_on_top_is_the_flat_model_before_training_bit_for_bit(objective, training):
    hierarchy, inputs = random_tree(3), batch()
    classifiers = [made("flat", hierarchy, objective(hierarchy)), made("hitin", hierarchy, objective(hierarchy), on_top=True)]
    logits = []
    for classifier in classifiers:
        classifier.standardize(torch.randn(9, DIM, generator=torch.Generator().manual_seed(3)))
        torch.manual_seed(4)
        logits.append(classifier.train(training)(inputs))
    assert torch.equal(*logits)


def test_hgclr_is_the_flat_model_but_for_its_loss_bit_for_bit():
    hierarchy, inputs = random_tree(3), batch()
    one, other = made("flat", hierarchy), made("hgclr", hierarchy)
    assert torch.equal(one.eval()(inputs), other.eval()(inputs))
    assert one.head.state_dict().keys() == other.head.state_dict().keys()
    other.contrast.forward = None  # neither the graph nor anything else of it is asked
    assert torch.equal(one(inputs), other(inputs))


def test_the_loss_of_hgclr_is_that_of_two_views_and_their_contrast():
    hierarchy, inputs = random_tree(3), batch()
    objective, targets = ConditionalSoftmax(hierarchy), single_paths(hierarchy, 5)
    alone = made("hgclr", hierarchy, objective, weight=0.0, threshold=0.0).eval()
    value = alone(inputs | {"targets": targets})
    torch.testing.assert_close(value, 2 * objective.loss(alone(inputs), targets))  # every word is kept
    contrasted = made("hgclr", hierarchy, objective, weight=1.0, threshold=0.0).eval()(inputs | {"targets": targets})
    assert contrasted > value


@pytest.mark.parametrize("on_top", [False, True])
def test_hitin_starts_at_base_rates(on_top):
    hierarchy = random_tree(4)
    targets = single_paths(hierarchy, 50)
    objective = BCEAtBaseRates(hierarchy, targets)
    classifier = made("hitin", hierarchy, objective, on_top=on_top)
    before = classifier.eval()(batch())
    classifier.set_output_bias(objective.initial_bias)
    biases = [value for name, value in classifier.head.state_dict().items() if "readout" in name and name.endswith("bias")]
    biases += [classifier.head.state_dict()["1.base.4.bias"]] if on_top else []
    torch.testing.assert_close(torch.stack(biases).sum(0), objective.initial_bias)
    assert not torch.equal(classifier(batch()), before)


@pytest.mark.parametrize("on_top", [False, True])
def test_output_weights_are_those_of_every_layer(on_top):
    shapes = [tuple(weight.shape) for weight in made("hitin", random_tree(4), on_top=on_top).output_weights]
    assert shapes == [(30, DIM)] * 3 + ([(30, 8)] if on_top else [])


def test_hitin_in_evaluation_takes_some_documents_at_a_time(monkeypatch):
    inputs = batch()
    whole = made("hitin", random_tree(4)).eval()(inputs)
    monkeypatch.setattr("htc.experiment.classifiers.CELLS", 30 * DIM * 2)
    parts = made("hitin", random_tree(4)).eval()
    torch.testing.assert_close(parts(inputs), whole)
    assert parts._at_a_time == 2


@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler"])
def test_vectors_from_words_are_those_from_tokens(pooling):
    of, inputs = encoder(pooling).eval(), batch()
    words = of.model.get_input_embeddings()(inputs["input_ids"])
    assert torch.equal(of.from_words(words, inputs["attention_mask"]), of(**inputs))
    assert of.tokenize([]) == []
    assert of.embed([]).shape == (0, DIM)


def test_many_labels_are_mixed_by_scales():
    assert [suitable_mixing(labels) for labels in (1, 1000, 1001)] == ["matrix", "matrix", "scale"]
    assert "1.leaves.2.scale" in made("hitin", random_tree(0, 1001)).head.state_dict()
    assert "1.leaves.2.along_labels.weight" in made("hitin", random_tree(0, 1001), mixing="matrix").head.state_dict()


def test_hbgl_takes_the_masked_lm_head_of_the_encoders_files(tmp_path):
    config = BertConfig(vocab_size=len(WORDS), hidden_size=DIM, **CONFIG)
    for name, kind in {"with": BertForMaskedLM, "without": BertModel}.items():
        kind(config).save_pretrained(tmp_path / name)
        tokenizer().save_pretrained(tmp_path / name)
    head = load_masked_lm_transform(str(tmp_path / "with"))
    assert load_masked_lm_transform(str(tmp_path / "without")) is None
    hierarchy = random_tree(5)
    of = load_encoder(EncoderConfig(str(tmp_path / "with"), max_length=20, frozen=False))
    known, vectors = made("hbgl", hierarchy, of=of), torch.randn(3, DIM)
    torch.testing.assert_close(known.head.transform(vectors), head(vectors))
    assert not known._global["new_transform"]
    new = made("hbgl", hierarchy, of=load_encoder(EncoderConfig(str(tmp_path / "without"), max_length=20, frozen=False)))
    assert new._global["new_transform"]


def test_hbgl_begins_with_the_names_of_labels():
    hierarchy = Hierarchy.from_paths([["n1 n2", "n3"]])
    of = encoder()
    words = of.model.embeddings.word_embeddings.weight
    rows = made("hbgl", hierarchy, of=of).head.rows
    torch.testing.assert_close(rows[0], words[WORDS.index("n1")] + words[WORDS.index("n2")])
    torch.testing.assert_close(rows[1], words[WORDS.index("n3")])


def test_the_global_stage_moves_label_vectors_alone():
    classifier = made("hbgl", random_tree(6))
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    classifier.prepare(seed=0)
    moved = {name for name, value in classifier.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.split(".")[1] for name in moved} == {"rows", "transform"}  # the transform is new
    again = made("hbgl", random_tree(6))
    again.prepare(seed=0)
    without = made("hbgl", random_tree(6), global_steps=0)
    without.prepare(seed=0)
    assert torch.equal(without.head.rows, before["head.rows"])


def test_texts_leave_room_for_labels():
    hierarchy = random_tree(7)
    assert HBGLClassifier.most_tokens(encoder(), hierarchy) == 40 - hierarchy.max_depth - 1
    config = BertConfig(vocab_size=len(WORDS), hidden_size=DIM, **CONFIG | {"max_position_embeddings": 4})
    short = TextEncoder(BertModel(config), tokenizer(), max_length=4)
    with pytest.raises(InputError, match=r"4 positions, too few for \d+ levels"):
        HBGLClassifier.most_tokens(short, hierarchy)
    for name in ("flat", "hitin", "hgclr"):
        assert MODELS[name].maker().most_tokens(encoder(), hierarchy) is None


@pytest.mark.parametrize("name", ["hgclr", "hbgl"])
def test_encoders_that_do_not_go_with_a_model(name):
    config = AlbertConfig(vocab_size=len(WORDS), hidden_size=DIM, embedding_size=8, **CONFIG)
    other = TextEncoder(AlbertModel(config), tokenizer(), max_length=20)
    with pytest.raises(InputError, match=r"take a BERT|can do so for a BERT only"):
        made(name, random_tree(0), of=other)


def test_a_tokenizer_without_a_mask():
    of = encoder()
    of.tokenizer = tokenizer(mask_token=None)
    with pytest.raises(InputError, match="needs a tokenizer with a MASK token"):
        made("hbgl", random_tree(0), of=of)


def test_names_without_tokens():
    of = encoder()
    of.tokenizer.backend_tokenizer.normalizer = normalizers.Replace("gone", "")
    with pytest.raises(InputError, match="the tokenizer finds nothing in 'gone'"):
        made("hbgl", Hierarchy.from_paths([["n1", "gone"]]), of=of)


@pytest.mark.parametrize("heads", ["gate_heads", "graph_heads"])
def test_heads_that_do_not_divide_the_vectors(heads):
    with pytest.raises(InputError, match=f"divided among 6 heads; set {heads} to a divisor of 16, such as 4"):
        made("hgclr", random_tree(0), **{heads: 6})
