import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel

from htc import Hierarchy, InputError
from htc.losses.base import UnsuitableTargetsError
from htc.models import HBGL, Decoded, SpecialTokens, global_stage, name_rows
from htc.models.hbgl import attention_blocks, run
from htc.models.hbgl_global import global_loss, masked_targets, neighbours

from ..conftest import random_dag, random_tree

DIM, VOCABULARY = 16, 40
TOKENS = SpecialTokens(cls=1, sep=2, mask=3)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def bert(**settings):
    config = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 20, "max_position_embeddings": 64}
    return BertModel(BertConfig(vocab_size=VOCABULARY, hidden_size=DIM, **config | settings), add_pooling_layer=False).eval()


def model(hierarchy, encoder, **settings):
    names = [[4 + n % 30, 5 + n % 20] for n in range(hierarchy.num_nodes)]
    made = HBGL(hierarchy, name_rows(encoder.embeddings.word_embeddings, names), TOKENS, **settings)
    made.rows.data *= 20  # so that some labels are predicted
    made.bias.data.normal_(std=0.5)
    return made.eval()


def texts(documents=4, length=9):
    ids, mask = torch.randint(4, VOCABULARY, (documents, length)), torch.ones(documents, length, dtype=torch.long)
    for document in range(1, documents):
        mask[document, length - document :] = 0
    return ids, mask


def targets_of(hierarchy, documents=4):
    chosen = torch.rand(documents, hierarchy.num_nodes) < 0.1
    chosen[:, -1] = True
    return hierarchy.close(chosen)


@pytest.fixture
def toy():
    """Two levels, so three steps."""
    return Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"], ["Science", "Physics"]])


def test_a_name_is_the_sum_of_its_pieces():
    words = nn.Embedding(10, DIM)
    torch.testing.assert_close(name_rows(words, [[3], [4, 5]])[1], words.weight[4] + words.weight[5])


def test_who_sees_whom_cell_by_cell():
    source = torch.tensor([[True, True, False], [True, True, True]])
    sees = attention_blocks(source, 3)
    names = ["s0", "s1", "s2", "T0", "T1", "P0", "P1", "P2"]
    allowed = {"T0": "T0", "T1": "T0 T1", "P0": "P0", "P1": "T0 P1", "P2": "T0 T1 P2"}
    for document, of_source in enumerate(["s0 s1", "s0 s1 s2"]):
        for row, name in enumerate(names):
            expected = {*of_source.split(), *allowed.get(name, "").split()}
            assert {names[column] for column in sees[document, row].nonzero().flatten().tolist()} == expected


def test_layers_run_as_transformers_runs_them():
    encoder, (ids, mask) = bert(), texts()
    expected = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    found = run(encoder, encoder.embeddings(input_ids=ids), mask.bool()[:, None])
    torch.testing.assert_close(found[mask.bool()], expected[mask.bool()])


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_a_level_is_not_seen_by_itself_nor_by_those_above(toy, implementation):
    encoder = bert(attn_implementation=implementation)
    made, (ids, mask), history = model(toy, encoder), texts(), torch.randn(4, 2, DIM)
    before = made.hidden(encoder, ids, mask, history)
    for level in range(2):
        other = history.clone()
        other[:, level] += torch.randn(4, DIM)
        after = made.hidden(encoder, ids, mask, other)
        torch.testing.assert_close(after[:, : level + 1], before[:, : level + 1])
        assert (after[:, level + 1 :] - before[:, level + 1 :]).abs().amax((0, 2)).gt(1e-4).all()


@pytest.mark.parametrize("make", [random_tree, random_dag], ids=["tree", "dag"])
def test_decoding_step_by_step_is_the_pass_over_all(make):
    hierarchy, encoder = make(0), bert()
    made, (ids, mask) = model(hierarchy, encoder), texts()
    decoded = made.decode(encoder, ids, mask)
    assert (decoded.logits > 0).any(1).all()
    hidden = made.hidden(encoder, ids, mask, made.history(encoder, decoded.logits > 0))
    scores = made.scores(encoder, hidden, slice(0, hierarchy.num_nodes))  # (B, H + 1, 1 + C)
    of_depth = scores[:, hierarchy.depth - 1, 1 + torch.arange(hierarchy.num_nodes)]
    torch.testing.assert_close(decoded.logits, of_depth, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(decoded.stop, scores[:, :-1, 0], atol=1e-5, rtol=1e-4)


def test_scores_do_not_depend_on_the_batch():
    hierarchy, encoder = random_tree(1), bert()
    made, (ids, mask) = model(hierarchy, encoder), texts()
    together = made.decode(encoder, ids, mask).logits
    for document, length in enumerate(mask.sum(1).tolist()):
        alone = made.decode(encoder, ids[document : document + 1, :length], mask[document : document + 1, :length])
        torch.testing.assert_close(alone.logits[0], together[document], atol=1e-5, rtol=1e-4)


def test_what_is_wanted_at_each_step(toy):
    targets = toy.encode([["Arts", "Music"], ["Science"], []], allow_empty=True)
    wanted, counts = model(toy, bert()).wanted(targets)
    names = ["[SEP]", *toy.names]
    found = [[{names[i] for i in step.nonzero().flatten().tolist()} for step in document] for document in wanted]
    assert found[0] == [{"Arts"}, {"Music"}, {"[SEP]"}]
    assert found[1][:2] == [{"Science"}, {"[SEP]"}]
    assert found[2][0] == {"[SEP]"}
    assert counts.tolist() == [[True, True, True], [True, True, False], [True, False, False]]


def test_the_loss_is_a_mean_over_steps_that_count(toy):
    encoder = bert()
    made, (ids, mask) = model(toy, encoder), texts(3)
    targets = toy.encode([["Arts", "Music"], ["Science"], []], allow_empty=True)
    hidden = made.hidden(encoder, ids, mask, made.history(encoder, targets))
    logits = made.scores(encoder, hidden, slice(0, 5))
    wanted, counts = made.wanted(targets)
    expected = nn.functional.binary_cross_entropy_with_logits(logits[counts], wanted[counts].float())
    torch.testing.assert_close(made.loss(encoder, ids, mask, targets), expected)


@pytest.mark.parametrize("make", [random_tree, random_dag], ids=["tree", "dag"])
def test_everything_learns(make):
    hierarchy, encoder = make(2), bert()
    made = model(hierarchy, encoder).train()
    made.loss(encoder, *texts(), targets_of(hierarchy)).backward()
    assert not [name for name, parameter in made.named_parameters() if parameter.grad is None]
    assert made.rows.grad.abs().sum(1).gt(0).all()
    assert all(parameter.grad is not None for name, parameter in encoder.named_parameters() if "pooler" not in name)


def test_the_history_has_no_gradient_and_is_mask_where_empty(toy):
    encoder = bert()
    history = model(toy, encoder).history(encoder, toy.encode([["Arts"], [["Arts", "Music"], ["Arts", "Film"]]]))
    rows = model(toy, encoder).rows
    assert not history.requires_grad
    assert torch.equal(history[0, 1], encoder.embeddings.word_embeddings.weight[3])
    torch.testing.assert_close(history[1, 1], rows[2] + rows[3])


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_history_is_masked_in_training_only(toy, share):
    encoder = bert()
    made, (ids, mask), targets = model(toy, encoder, history_mask=share), texts(), targets_of(toy)
    in_evaluation = made.loss(encoder, ids, mask, targets)
    in_training = made.train().loss(encoder, ids, mask, targets)
    assert (abs(in_training.item() - in_evaluation.item()) > 1e-6) == bool(share)


def test_sets_end_at_the_first_sep_or_where_nothing_is(toy):
    made = model(toy, bert())
    arts, both, nothing = [1.0, -1, 1, -1, -1], [1.0, 1, 1, 1, 1], [-1.0, -1, 1, 1, 1]  # Arts, Science; Music, Film, Physics
    logits = torch.tensor([arts, arts, both, nothing])
    stop = torch.tensor([[-1.0, -1], [-1, 1], [1, -1], [-1, -1]])
    found = made.sets(Decoded(logits, stop))
    assert found.int().tolist() == [[1, 0, 1, 0, 0], [1, 0, 0, 0, 0], [0] * 5, [0] * 5]


def test_numbering_the_labels_otherwise_renumbers_their_scores(reorder):
    hierarchy, encoder = random_tree(3), bert()
    other, new_number = reorder(hierarchy, 1)
    one, two = model(hierarchy, encoder), model(other, encoder)
    order, state = new_number.argsort(), one.state_dict()
    bias = torch.cat([state["bias"][:1], state["bias"][1:][order]])
    two.load_state_dict(state | {"rows": state["rows"][order], "bias": bias})
    ids, mask = texts()
    expected = one.decode(encoder, ids, mask).logits[:, order]
    torch.testing.assert_close(two.decode(encoder, ids, mask).logits, expected, atol=1e-5, rtol=1e-4)


def test_labels_without_their_parents_are_refused(toy):
    encoder = bert()
    targets = torch.tensor([[1, 0, 1, 0, 0], [0, 0, 1, 0, 0]]).bool()
    with pytest.raises(UnsuitableTargetsError, match=r"document 1: .* without its parent"):
        model(toy, encoder).loss(encoder, *texts(2), targets)


@pytest.mark.parametrize(("length", "fits"), [(61, True), (62, False)])
def test_texts_need_room_behind_them(toy, length, fits):
    encoder = bert()
    made, (ids, mask) = model(toy, encoder), texts(1, length)
    if fits:
        made.decode(encoder, ids, mask)
        made.loss(encoder, ids, mask, targets_of(toy, 1))
    else:
        with pytest.raises(InputError, match="cut texts at 61 tokens"):
            made.decode(encoder, ids, mask)


def test_another_encoder_is_refused(toy):
    other = DistilBertModel(DistilBertConfig(vocab_size=VOCABULARY, dim=DIM, n_layers=1, n_heads=2, hidden_dim=20))
    with pytest.raises(InputError, match="a BERT only, not for 'distilbert'"):
        model(toy, bert()).decode(other, *texts())


def test_rows_for_every_label(toy):
    with pytest.raises(InputError, match="each of the 5 labels, not 4"):
        HBGL(toy, torch.zeros(4, DIM), TOKENS)


# The global stage


def test_neighbours_are_parents_and_children(toy):
    assert neighbours(toy).int().tolist() == [
        [0, 1, 1, 0, 0, 0],  # the root, then Arts, Science, Music, Film, Physics
        [1, 0, 0, 1, 1, 0],
        [1, 0, 0, 0, 0, 1],
        [0, 1, 0, 0, 0, 0],
        [0, 1, 0, 0, 0, 0],
        [0, 0, 1, 0, 0, 0],
    ]


@pytest.mark.parametrize(
    ("pairs", "masked", "expected"),
    [
        ([("A", "a"), ("A", "b"), ("B", "c")], "a b c", ["a b", "a b", "c"]),
        ([("A", "a"), ("A", "b"), ("B", "c")], "a c", ["a", "c"]),
        ([("A", "a"), ("A", "b"), ("B", "c")], "A B", ["A", "B"]),  # distinguished by their children
        ([("A", "a"), ("A", "b"), ("B", "b")], "a b", ["a", "b"]),  # b has another parent, too
        ([("A", "a"), ("B", "a"), ("B", "b"), ("A", "b")], "a b", ["a b", "a b"]),
    ],
)
def test_leaves_of_the_same_parents_share_their_targets(pairs, masked, expected):
    hierarchy = Hierarchy.from_pairs(pairs)
    chosen = torch.tensor([[name in masked.split() for name in hierarchy.names]])
    found = [{hierarchy.names[i] for i in row.nonzero().flatten().tolist()} for row in masked_targets(chosen, hierarchy)]
    assert found == [set(names.split()) for names in expected]


def test_leaves_at_the_top_share_theirs():
    assert masked_targets(torch.tensor([[True, True]]), Hierarchy(["a", "b"], [[], []])).all()


def test_masked_labels_that_share_their_targets_get_the_same_scores(toy):
    encoder = bert()
    made = model(toy, encoder)
    masked = torch.tensor([[False, False, True, True, False]])
    losses = [global_loss(made, encoder, masked.clone()) for _ in range(2)]
    assert torch.equal(*losses)


@pytest.mark.parametrize("make", [random_tree, random_dag], ids=["tree", "dag"])
def test_the_global_stage_learns_rows_and_nothing_else(make):
    hierarchy, encoder = make(0), bert()
    made = model(hierarchy, encoder)
    before = {name: value.clone() for name, value in [*made.state_dict().items(), *encoder.state_dict().items()]}
    losses = global_stage(made, encoder, steps=30, learning_rate=1e-2, copies=8, share=(0.15, 0.45))
    after = dict([*made.state_dict().items(), *encoder.state_dict().items()])
    assert {name for name, value in after.items() if not torch.equal(value, before[name])} == {"rows"}
    assert sum(losses[-5:]) < sum(losses[:5])
    assert not made.training
    assert not encoder.training
    assert all(parameter.grad is None for parameter in [*made.parameters(), *encoder.parameters()])
    global_stage(made, encoder, steps=2, copies=8, new_transform=True)
    assert not torch.equal(made.transform[0].weight, before["transform.0.weight"])


def test_the_global_stage_is_the_same_every_time(toy):
    encoder, rows = bert(), []
    for _ in range(2):
        torch.manual_seed(3)
        made = model(toy, encoder)
        global_stage(made, encoder, steps=3, copies=4, seed=5)
        rows.append(made.rows)
    assert torch.equal(*rows)
