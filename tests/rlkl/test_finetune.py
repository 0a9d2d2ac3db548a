"""The pieces of fine-tuning put together: the loss, and that updates see the policy that acted."""

import math

import pytest
import torch
from accelerate import Accelerator

from rlkl.actor_critic import ActorCritic
from rlkl.addition import Operands
from rlkl.algorithms import a2c
from rlkl.algorithms.by_name import ALGORITHMS
from rlkl.config import AlgorithmConfig, FinetuneConfig
from rlkl.evaluation import roll_out
from rlkl.experience import Experience, Scores, learn_from
from rlkl.learner import Learner, loss_terms
from rlkl.penalty import Penalty
from rlkl.sequences import Sequences, from_rollouts, token_log_probs
from rlkl.texts import END_TOKEN

V = 3


@pytest.fixture
def episode():
    """One episode of two tokens after a prompt of one: tokens 1 and 2."""
    return Sequences(torch.tensor([[0, 1, 2]]), torch.tensor([1]), torch.tensor([3]))


def terms_of(episode, logits, reference, reward=1.0, scale=0.5, name="a2c", **penalty):
    algorithm = AlgorithmConfig(name=name, value_coefficient=0.1, entropy_coefficient=0.01)
    values, weights = torch.tensor([[0.25, 0.5]], requires_grad=True), torch.tensor([[1.0, 0.5]])
    returns = torch.full((1, 2), reward)
    advantages = (returns - values.detach()) / scale
    old = token_log_probs(logits.detach(), episode.targets)
    batch = Experience(episode, old, advantages, returns, reference, weights, episode.mask)
    two = torch.tensor(2)
    return loss_terms(logits, values, batch, Penalty("standard", **penalty), 2.0, algorithm, two, two), values


@pytest.mark.parametrize("name", ["a2c", "ppo"])
def test_the_loss_by_hand(episode, name):
    logits, reference = torch.zeros(1, 2, V, requires_grad=True), torch.tensor([[[0.0, 2.0, 0.0], [0.0, 0.0, 0.0]]])
    terms, values = terms_of(episode, logits, reference, name=name)
    log_prob = -math.log(3)
    advantages = (1.0 - 0.25, 1.0 - 0.5)
    likely = 1.0 if name == "ppo" else log_prob  # its ratio before the first step, or its log-probability
    assert terms["policy_loss"].item() == pytest.approx(-likely * (advantages[0] + advantages[1]) / 0.5 / 2)
    assert terms["value_loss"].item() == pytest.approx(0.1 * (advantages[0] ** 2 + advantages[1] ** 2) / 2)
    reference_log_prob = 2.0 - math.log(2 + math.exp(2.0))
    assert terms["kl_loss"].item() == pytest.approx(2.0 * 0.5 * (log_prob - reference_log_prob) ** 2 / 2, rel=1e-5)
    assert terms["entropy_loss"].item() == pytest.approx(-0.01 * math.log(3))
    gradient = torch.autograd.grad(terms["value_loss"], values)[0]
    assert (gradient < 0).all()  # the critic is drawn up to the return


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("reward", [1.0, -1.0])
def test_a_step_makes_what_was_good_likelier_and_what_was_bad_less_so(episode, reward, name):
    logits = torch.zeros(1, 2, V, requires_grad=True)
    terms, _ = terms_of(episode, logits, torch.zeros(1, 2, V), reward=reward, name=name)
    gradient = torch.autograd.grad(terms["policy_loss"], logits)[0]
    for step, token in enumerate((1, 2)):
        assert math.copysign(1, gradient[0, step, token].item()) == -reward
    assert ("value_loss" in terms) == ALGORITHMS[name].has_critic


def test_a_kl_in_the_reward_is_no_term_of_the_loss(episode):
    terms, _ = terms_of(episode, torch.zeros(1, 2, V), torch.zeros(1, 2, V), placement="reward", estimator="k1")
    assert set(terms) == {"policy_loss", "value_loss", "entropy_loss"}


def test_the_entropy_is_drawn_up(episode):
    logits = torch.tensor([[[0.0, 2.0, 0.0], [0.0, 0.0, 3.0]]], requires_grad=True)
    terms, _ = terms_of(episode, logits, torch.zeros(1, 2, V))
    stepped = logits.detach() - 10 * torch.autograd.grad(terms["entropy_loss"], logits)[0]
    assert (a2c.entropy(stepped) > a2c.entropy(logits.detach())).all()


@pytest.fixture
def collect():
    """Four episodes of two prompts, three, two, three and one tokens after one of a prompt; and what was said of them."""
    torch.manual_seed(0)
    lengths = torch.tensor([4, 3, 4, 2])
    sequences = Sequences(torch.randint(0, V, (4, 4)), torch.ones(4, dtype=torch.long), lengths)
    scores = Scores(-torch.rand(4, 3), torch.rand(4, 3), torch.rand(4, 3), torch.rand(4, 3), torch.randn(4, 3, V))
    return sequences, torch.tensor([1.0, -1.0, 1.0, 1.0]), scores


def learnt(collect, algorithm, penalty, alpha=2.0):
    algorithm.check()
    penalty.check()
    return learn_from(*collect, penalty, alpha, algorithm, torch.Generator().manual_seed(0))


def test_episodes_of_a_group_are_compared_with_each_other(collect):
    mask = collect[0].mask
    rloo = learnt(collect, AlgorithmConfig(name="rloo", group_size=2), Penalty())
    torch.testing.assert_close(rloo.advantages, torch.tensor([2.0, -2.0, 0.0, 0.0])[:, None] * mask)  # rewards deviate by 1
    grpo = learnt(collect, AlgorithmConfig(name="grpo", group_size=2), Penalty())
    expected = torch.tensor([1.0, -1.0, 0.0, 0.0])[:, None] * mask / math.sqrt(2)
    torch.testing.assert_close(grpo.advantages, expected, rtol=1e-3, atol=1e-6)


def test_a_kl_in_the_reward_is_taken_from_it_token_by_token(collect):
    sequences, rewards, scores = collect
    penalty = Penalty("standard", placement="reward", estimator="k1")
    found = learnt(collect, AlgorithmConfig(name="rloo", group_size=2), penalty)
    returns = rewards - 2.0 * torch.stack([scores.divergences[row][sequences.mask[row]].sum() for row in range(4)])
    expected = (returns - returns[[1, 0, 3, 2]]) / returns.std()
    torch.testing.assert_close(found.advantages[:, 0], expected)
    critic = learnt(collect, AlgorithmConfig(name="a2c"), penalty)
    ahead = rewards[0] - 2.0 * scores.divergences[0, 1:].sum()  # what follows the first token of the first episode
    torch.testing.assert_close(critic.returns[0, 1], ahead)


def test_the_policy_learns_from_the_tokens_of_which_it_is_least_sure(collect):
    sequences, _, scores = collect
    found = learnt(collect, AlgorithmConfig(policy_share=0.34), Penalty()).learns
    assert found.sum() == 3  # of nine
    assert scores.entropies[found].min() >= scores.entropies[sequences.mask & ~found].max()
    assert torch.equal(learnt(collect, AlgorithmConfig(), Penalty()).learns, sequences.mask)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_updates_see_the_policy_that_acted(model, temperature):
    prompts, rollouts = roll_out(model, [Operands(1, 23), Operands(45, 6)], temperature, torch.Generator().manual_seed(0))
    sequences = from_rollouts(prompts, rollouts, END_TOKEN)
    logits, values = ActorCritic(model, initial_value=-0.5)(sequences)
    log_probs = token_log_probs(logits / temperature, sequences.targets)
    torch.testing.assert_close(log_probs[sequences.mask], rollouts.log_probs[rollouts.mask], atol=5e-5, rtol=1e-4)
    assert torch.equal(values, torch.full_like(values, -0.5))


def learner_of(model, **algorithm):
    config = FinetuneConfig(
        algorithm=AlgorithmConfig(**{"episodes": 4, "minibatch_size": 4} | algorithm), evaluation_examples=2
    )
    return Learner(config, model, Accelerator(cpu=True))


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_before_the_first_step_policy_and_reference_agree(model, temperature):
    learner = learner_of(model, temperature=temperature)
    metrics = learner.learn(0)
    assert metrics["losses/kl"] == 0.0
    assert metrics["losses/kl_loss"] == 0.0
    assert metrics["losses/clip_fraction"] == 0.0
    assert learner.model.policy.lm_head.weight is learner.model.policy.transformer.wte.weight
    assert not any(parameter.grad is not None for parameter in learner.reference.parameters())


@pytest.mark.parametrize("algorithm", [{"name": "a2c"}, {"name": "ppo"}, {"name": "grpo", "group_size": 2}])
def test_gradients_of_parts_add_up_to_that_of_the_step(model, algorithm):
    whole, parts = learner_of(model, **algorithm), learner_of(model, micro_batch_size=1, **algorithm)
    episodes, rewards = whole.collect(0)
    rewards = torch.tensor([1.0, -1.0, -1.0, 1.0])
    ours, others = whole.update(0, episodes, rewards), parts.update(0, episodes, rewards)
    assert ours == pytest.approx(others, rel=1e-4, abs=1e-6)
    for one, other in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        if one.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-7)


def test_in_half_precision_one_model_acts_for_the_policy_as_it_becomes(model):
    learner = learner_of(model, precision="bf16", learning_rate=0.1)
    acting = learner.acting()
    before = acting.lm_head.weight.clone()
    metrics = learner.learn(0)
    assert learner.acting() is acting
    assert acting.dtype is torch.bfloat16
    assert not torch.equal(acting.lm_head.weight, before)
    assert torch.equal(acting.lm_head.weight, learner.model.policy.lm_head.weight.bfloat16())
    assert learner.model.policy.lm_head.weight.dtype is torch.float32
    assert math.isfinite(metrics["losses/kl_loss"])
