"""PPO, GRPO and RLOO by their definitions."""

import pytest
import torch

from rlkl.algorithms import a2c, grpo, ppo, rloo
from rlkl.algorithms.by_name import ALGORITHMS
from rlkl_htc_common.errors import InputError

from .. import recipes


@pytest.fixture
def batch():
    torch.manual_seed(0)
    old = -torch.rand(3, 4)
    return old + torch.randn(3, 4) / 2, old, torch.randn(3, 4), torch.rand(3, 4) < 0.7


def test_the_clipped_loss_by_hand(batch):
    log_probs, old, advantages, mask = batch
    expected = []
    for p, q, a in zip(log_probs[mask].tolist(), old[mask].tolist(), advantages[mask].tolist(), strict=True):
        ratio = torch.tensor(p - q).exp().item()
        expected.append(min(ratio * a, min(max(ratio, 0.8), 1.2) * a))
    assert ppo.policy_loss(log_probs, old, advantages, mask, 0.2).item() == pytest.approx(-sum(expected) / len(expected))


def test_no_gradient_beyond_the_clip_range_but_back_into_it(batch):
    log_probs, old, advantages, mask = batch
    log_probs.requires_grad_()
    ppo.policy_loss(log_probs, old, advantages, mask, 0.2).backward()
    ratio = (log_probs - old).exp()
    stopped = ((ratio > 1.2) & (advantages > 0)) | ((ratio < 0.8) & (advantages < 0))
    assert stopped[mask].any()
    assert (~stopped)[mask].any()
    assert torch.equal(log_probs.grad != 0, mask & ~stopped)
    beyond = ppo.beyond_clip_range(log_probs, old, 0.2)
    assert torch.equal(beyond, (ratio > 1.2) | (ratio < 0.8))


def test_before_the_first_step_ppo_and_a2c_pull_alike(batch):
    log_probs, _, advantages, mask = batch
    log_probs.requires_grad_()
    ours = torch.autograd.grad(ppo.policy_loss(log_probs, log_probs.detach(), advantages, mask), log_probs)[0]
    theirs = torch.autograd.grad(a2c.policy_loss(log_probs, advantages, mask), log_probs)[0]
    torch.testing.assert_close(ours, theirs)


def test_group_advantages_by_definition():
    returns = torch.tensor([1.0, -1.0, -1.0, 1.0, 1.0, 1.0])
    left_out = rloo.advantages(returns, 3)
    assert left_out.tolist() == pytest.approx([1 - -1.0, -1 - 0.0, -1 - 0.0, 0.0, 0.0, 0.0])
    relative = grpo.advantages(returns, 3)
    first = returns[:3]
    torch.testing.assert_close(relative[:3], (first - first.mean()) / first.std(), rtol=1e-3, atol=0.0)
    assert relative[3:].tolist() == [0.0, 0.0, 0.0]  # all alike: nothing to learn, and nothing divided by zero


def test_leaving_out_is_the_mean_baseline_scaled():
    returns = torch.randn(12)
    groups = returns.view(3, 4)
    expected = (groups - groups.mean(1, keepdim=True)) * 4 / 3
    torch.testing.assert_close(rloo.advantages(returns, 4), expected.flatten())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "dpo"}, "algorithm.name must be one of a2c, ppo, grpo, rloo"),
        ({"name": "grpo", "episodes": 48}, "episodes must be a multiple of algorithm.group_size"),
        ({"name": "rloo", "group_size": 1}, "needs groups of at least 2"),
        ({"precision": "fp16"}, "algorithm.precision must be one of"),
        ({"policy_share": 0.0}, "must be positive"),
        ({"policy_share": 1.2}, "must be from 0 to 1"),
        ({"micro_batch_size": 0}, "must be positive or null"),
        ({"passes": 0}, "algorithm.passes must be positive"),
        ({"name": "ppo", "clip_range": -1.0}, "algorithm.clip_range must be positive"),
        ({"name": "ppo", "clip_range_uncertain": 0.0}, "algorithm.clip_range_uncertain must be positive or null"),
        ({"name": "rloo", "clip_range_uncertain": 0.5}, "is for ppo and grpo; rloo clips nothing"),
    ],
)
def test_bad_values(change, message):
    with pytest.raises(InputError, match=message):
        recipes.algorithm(**change).check()


def test_a_clip_range_of_uncertain_tokens_needs_such_tokens():
    with pytest.raises(InputError, match=r"penalty.weighting is standard"):
        recipes.algorithm(name="grpo", clip_range_uncertain=0.5).check_with(recipes.penalty("standard"))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_has_groups_that_its_episodes_divide_into(name):
    recipes.algorithm(name=name).check()
