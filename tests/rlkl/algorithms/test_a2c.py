import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlkl.algorithms import a2c
from rlkl.distributions import entropy


def gae_of_one(reward, values, gamma, lam):
    """The definition: a discounted sum of one-step errors, the reward at the end."""
    rewards = [0.0] * (len(values) - 1) + [reward]
    following = [*values[1:], 0.0]
    errors = [r + gamma * n - v for r, n, v in zip(rewards, following, values, strict=True)]
    return [sum((gamma * lam) ** k * error for k, error in enumerate(errors[start:])) for start in range(len(values))]


@given(st.integers(0, 2**32 - 1), st.sampled_from([(1.0, 1.0), (1.0, 0.95), (0.9, 0.5), (1.0, 0.0)]))
def test_gae_is_its_definition(seed, discounts):
    gamma, lam = discounts
    generator = torch.Generator().manual_seed(seed)
    starts = torch.randint(0, 3, (4,), generator=generator)
    lengths = torch.randint(1, 6, (4,), generator=generator)
    values, rewards = torch.randn(4, 9, generator=generator), torch.randn(4, generator=generator)
    place = torch.arange(9)
    mask = (place >= starts[:, None]) & (place < (starts + lengths)[:, None])
    advantages = a2c.gae(a2c.at_last_token(rewards, mask), values, mask, gamma, lam)
    assert not advantages[~mask].any()
    for row in range(4):
        expected = gae_of_one(rewards[row].item(), values[row][mask[row]].tolist(), gamma, lam)
        torch.testing.assert_close(advantages[row][mask[row]], torch.tensor(expected), atol=1e-5, rtol=1e-5)


def test_without_discounts_the_advantage_is_the_return_minus_the_value():
    values, mask = torch.randn(2, 4), torch.ones(2, 4, dtype=torch.bool)
    rewards = a2c.at_last_token(torch.tensor([1.0, -1.0]), mask)
    torch.testing.assert_close(a2c.gae(rewards, values, mask, 1.0, 1.0), torch.tensor([[1.0], [-1.0]]) - values)


def test_rewards_of_tokens_reach_back():
    mask = torch.tensor([[False, True, True, True]])
    rewards, values = torch.tensor([[0.0, 1.0, -2.0, 4.0]]), torch.tensor([[9.0, 0.5, 0.25, 1.0]])
    advantages = a2c.gae(rewards, values, mask, 0.5, 1.0)
    assert advantages[0].tolist() == pytest.approx([0.0, 1.0 - 1.0 + 1.0 - 0.5, -2.0 + 2.0 - 0.25, 4.0 - 1.0])


def test_losses_by_hand():
    mask = torch.tensor([[True, True, False]])
    log_probs = torch.tensor([[-1.0, -2.0, -9.0]])
    assert a2c.policy_loss(log_probs, torch.tensor([[0.5, -1.0, 7.0]]), mask).item() == pytest.approx(-(-0.5 + 2.0) / 2)
    assert a2c.value_loss(torch.tensor([[1.0, 0.0, 9.0]]), torch.tensor([[0.0, 2.0, 0.0]]), mask).item() == pytest.approx(2.5)
    assert entropy(torch.zeros(1, 1, 8)).item() == pytest.approx(math.log(8))


def test_gradients_by_finite_differences():
    torch.manual_seed(0)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    advantages, values = torch.randn(2, 3).double(), torch.randn(2, 3).double().requires_grad_()
    logits = torch.randn(2, 3, 5).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda lp: a2c.policy_loss(lp, advantages, mask), (values,))
    assert torch.autograd.gradcheck(lambda v: a2c.value_loss(v, advantages, mask), (values,))
    assert torch.autograd.gradcheck(entropy, (logits,))


def test_advantages_carry_no_gradient_into_the_critic():
    values = torch.randn(1, 3, requires_grad=True)
    assert not a2c.gae(torch.ones(1), values, torch.ones(1, 3, dtype=torch.bool)).requires_grad
