import copy

import pytest
import torch

from rlkl.analysis.drift import Comparison, compare, drift, kl_by_position, right_fields
from rlkl.model.texts import right_sequences
from rlkl.tasks import addition
from rlkl.tasks.addition import Operands, completion

PAIRS = [Operands(12, 9), Operands(123, 45), Operands(7, 0), Operands(31, 31), Operands(0, 5)]


@pytest.fixture(scope="module")
def policy(model):
    moved = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return moved


def kl_the_slow_way(policy, reference, sequences):
    """(B, T) with two loops, and no padding: each text goes through the models by itself."""
    found = torch.zeros(sequences.mask.shape, dtype=torch.float64)
    for row, (tokens, length) in enumerate(zip(sequences.tokens, sequences.lengths.tolist(), strict=True)):
        inputs = tokens[None, : length - 1]
        p, q = (each(inputs).logits[0].double().softmax(-1) for each in (policy, reference))
        for column in range(length - 1):
            found[row, column] = (p[column] * (p[column] / q[column]).log()).sum()
    return found


@torch.no_grad()
def test_it_is_the_kl_of_each_prediction_however_batched(model, policy):
    sequences = right_sequences(addition, PAIRS)
    found = compare(policy, model, sequences, batch_size=2)
    expected = kl_the_slow_way(policy, model, sequences)
    assert found.kl[found.mask].numpy() == pytest.approx(expected[found.mask].numpy(), rel=1e-3, abs=1e-5)
    assert found.kl[found.mask].min() > -1e-6
    whole = compare(policy, model, sequences)
    assert torch.equal(whole.changed[whole.mask], found.changed[found.mask])
    assert 0 < found.changed[found.mask].float().mean() < 1
    other = compare(model, policy, sequences)
    assert not torch.allclose(other.kl, whole.kl, rtol=0.01), "the policy comes first"
    assert torch.equal(other.changed[other.mask], whole.changed[whole.mask])


def test_a_copy_has_not_moved(model):
    found = compare(copy.deepcopy(model), model, right_sequences(addition, PAIRS))
    assert (found.kl[found.mask] == 0).all()
    assert not found.changed[found.mask].any()
    assert all(part["kl"] == 0 for part in kl_by_position(found))
    total = drift(found, right_fields(addition, PAIRS))
    assert (total["kl"], total["changed"]) == (0, 0)


def test_fields_are_those_of_the_characters():
    (row,) = right_fields(addition, [Operands(12, 9)])
    text = completion(Operands(12, 9))
    assert len(row) == len(text) + 1
    assert row[-1] == "end"
    assert "".join(c for c, field in zip(text, row, strict=False) if field == "answer") == "2 1"
    assert "".join(c for c, field in zip(text, row, strict=False) if field == "operand 1") == "[1,2][1][]"


def test_positions_are_relative_to_each_completion():
    """Completions of 4 and of 2 tokens, behind prompts of different length; outside of them stands what must not count."""
    mask = torch.tensor([[0, 1, 1, 1, 1, 0], [0, 0, 0, 1, 1, 0]]).bool()
    values = torch.full((2, 6), torch.nan)
    values[mask] = torch.tensor([1.0, 2.0, 3.0, 4.0, 10.0, 20.0])
    comparison = Comparison(values, mask, mask)
    assert kl_by_position(comparison, bins=2) == [
        {"start": 0.0, "end": 0.5, "kl": pytest.approx(13 / 3), "tokens": 3},
        {"start": 0.5, "end": 1.0, "kl": pytest.approx(9.0), "tokens": 3},
    ]
    finer = kl_by_position(comparison, bins=100)
    assert [(part["start"], part["kl"]) for part in finer] == [
        (0.0, pytest.approx(5.5)),
        (0.25, 2.0),
        (0.5, pytest.approx(11.5)),
        (0.75, 4.0),
    ]


def test_parts_and_fields_put_the_whole_together(model, policy):
    comparison = compare(policy, model, right_sequences(addition, PAIRS))
    total = drift(comparison, right_fields(addition, PAIRS))
    assert total["kl"] == pytest.approx(comparison.kl[comparison.mask].mean().item())
    assert total["tokens"] == sum(len(completion(pair)) + 1 for pair in PAIRS)
    for parts in (total["fields"].values(), kl_by_position(comparison, bins=7)):
        assert sum(part["tokens"] for part in parts) == total["tokens"]
        assert sum(part["kl"] * part["tokens"] for part in parts) / total["tokens"] == pytest.approx(total["kl"], rel=1e-5)
    with pytest.raises(ValueError, match="needs a field"):
        drift(comparison, right_fields(addition, PAIRS[::-1]))


def test_drift_shows_the_field_that_moved():
    fields = [["sum", "sum", "carry"], ["carry"]]
    mask = torch.tensor([[1, 1, 1], [0, 0, 1]]).bool()
    values = torch.tensor([[3.0, 5.0, 0.0], [9.0, 9.0, 2.0]])
    changed = torch.tensor([[1, 0, 0], [1, 1, 0]]).bool()
    assert drift(Comparison(values, changed, mask), fields) == {
        "kl": 2.5,
        "changed": 0.25,
        "tokens": 4,
        "fields": {
            "sum": {"kl": 4.0, "changed": 0.5, "tokens": 2},
            "carry": {"kl": 1.0, "changed": 0.0, "tokens": 2},
        },
    }
