import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlkl.certainty import CERTAINTIES, disagreement, from_entropy, max_probability, min_entropy, mixture, negentropy
from rlkl.distributions import entropy

V = 8
logits = st.lists(st.floats(-20, 20), min_size=V, max_size=V).map(torch.tensor)


def log(values):
    return torch.tensor(values, dtype=torch.float64).log()


def test_a_certainty_from_an_entropy_is_negentropy():
    torch.manual_seed(0)
    some = 4 * torch.randn(50, V)
    torch.testing.assert_close(from_entropy(entropy(some), V), negentropy(some), rtol=0, atol=1e-6)
    assert from_entropy(torch.tensor([0.0, math.log(V), 9.0]), V).tolist() == pytest.approx(
        [1, 0, 0], abs=1e-6
    )  # never below 0


def test_values_by_hand():
    half = log([0.5, 0.25, 0.125, 0.125])  # entropy 1.75 bits of 2
    assert negentropy(half).item() == pytest.approx(1 - 1.75 / 2)
    assert min_entropy(half).item() == pytest.approx(1 - 1 / 2)
    assert max_probability(half).item() == pytest.approx(0.5)


def test_a_temperature_divides_the_logits():
    some = torch.tensor([2.0, 1.0, 0.0, -3.0])
    for certainty in CERTAINTIES.values():
        assert torch.equal(certainty(some, 2.0), certainty(some / 2.0))


@pytest.mark.parametrize("name", CERTAINTIES)
def test_uniform_and_certain(name):
    uniform, certain = CERTAINTIES[name](torch.zeros(V)), CERTAINTIES[name](torch.tensor([200.0] + [0.0] * (V - 1)))
    assert certain.item() == 1.0
    assert uniform.item() == pytest.approx(1 / V if name == "max_probability" else 0.0, abs=1e-6)


def test_the_two_certainties_differ_hugely_at_beta_150():
    """Facts of the paper and its code: 100 tokens, one 15 logits above the others, the code at temperature 4."""
    peaked = torch.zeros(100, dtype=torch.float64)
    peaked[0] = 15.0
    assert negentropy(peaked).pow(150).item() == pytest.approx(0.98, abs=0.01)
    assert 1e-20 < min_entropy(peaked, 4.0).pow(150).item() < 4e-20


def test_half_weight_at_beta_150_is_an_entropy_of_21_millinats():
    assert math.log(100) * (1 - 0.5 ** (1 / 150)) == pytest.approx(0.021, abs=5e-4)


@given(logits)
def test_bounds_and_order(some):
    for certainty in CERTAINTIES.values():
        assert 0 <= certainty(some).item() <= 1 + 1e-6
    assert min_entropy(some).item() >= negentropy(some).item() - 1e-5


@pytest.mark.parametrize("name", CERTAINTIES)
def test_shapes_and_shifts(name):
    some = torch.randn(2, 3, V)
    assert CERTAINTIES[name](some).shape == (2, 3)
    torch.testing.assert_close(CERTAINTIES[name](some), CERTAINTIES[name](some + 5.0))
    torch.testing.assert_close(CERTAINTIES[name](some), CERTAINTIES[name](some.flip(-1)))


def test_an_ensemble_is_as_certain_as_the_mean_of_its_distributions():
    generator = torch.Generator().manual_seed(0)
    members = 3 * torch.randn(4, 2, 5, V, generator=generator, dtype=torch.float64)
    mean = members.softmax(-1).mean(0)
    assert torch.allclose(mixture(members).exp(), mean)
    entropies = torch.distributions.Categorical(logits=members).entropy().mean(0)
    assert torch.allclose(disagreement(members), torch.distributions.Categorical(probs=mean).entropy() - entropies)


def test_members_that_are_certain_of_different_tokens_are_uncertain_together():
    members = torch.full((2, V), -math.inf)
    members[0, 0] = members[1, 3] = 0.0
    assert [negentropy(member).item() for member in members] == [1, 1]
    assert negentropy(mixture(members)).item() == pytest.approx(1 - math.log(2) / math.log(V))
    assert disagreement(members).item() == pytest.approx(math.log(2))
    assert disagreement(members[:1].expand(2, V)).item() == 0
