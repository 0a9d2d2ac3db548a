"""The pieces of fine-tuning put together: the loss, and that updates see the policy that acted."""

import math

import pytest
import torch

from rlkl.actor_critic import ActorCritic
from rlkl.addition import Operands
from rlkl.algorithms import a2c
from rlkl.config import A2CConfig, FinetuneConfig
from rlkl.evaluation import roll_out
from rlkl.finetune import Finetuning, loss_terms
from rlkl.penalty import Penalty
from rlkl.sequences import Sequences, from_rollouts, token_log_probs
from rlkl.texts import END_TOKEN

V = 3


@pytest.fixture
def episode():
    """One episode of two tokens after a prompt of one: tokens 1 and 2, reward 1."""
    return Sequences(torch.tensor([[0, 1, 2]]), torch.tensor([1]), torch.tensor([3]))


def terms_of(episode, logits, reference, reward=1.0, scale=0.5, **penalty):
    algorithm = A2CConfig(value_coefficient=0.1, entropy_coefficient=0.01)
    values, weights = torch.tensor([[0.25, 0.5]], requires_grad=True), torch.tensor([[1.0, 0.5]])
    penalty = Penalty("standard", alpha=2.0, **penalty)
    return loss_terms(logits, values, reference, weights, episode, torch.tensor([reward]), scale, penalty, algorithm), values


def test_the_loss_by_hand(episode):
    logits, reference = torch.zeros(1, 2, V, requires_grad=True), torch.tensor([[[0.0, 2.0, 0.0], [0.0, 0.0, 0.0]]])
    terms, values = terms_of(episode, logits, reference)
    log_prob = -math.log(3)
    advantages = (1.0 - 0.25, 1.0 - 0.5)
    assert terms["policy_loss"].item() == pytest.approx(-log_prob * (advantages[0] + advantages[1]) / 0.5 / 2)
    assert terms["value_loss"].item() == pytest.approx(0.1 * (advantages[0] ** 2 + advantages[1] ** 2) / 2)
    reference_log_prob = 2.0 - math.log(2 + math.exp(2.0))
    assert terms["kl_loss"].item() == pytest.approx(2.0 * 0.5 * (log_prob - reference_log_prob) ** 2 / 2, rel=1e-5)
    assert terms["entropy_loss"].item() == pytest.approx(-0.01 * math.log(3))
    gradient = torch.autograd.grad(terms["value_loss"], values)[0]
    assert (gradient < 0).all()  # the critic is drawn up to the return


@pytest.mark.parametrize("reward", [1.0, -1.0])
def test_a_step_makes_what_was_good_likelier_and_what_was_bad_less_so(episode, reward):
    logits = torch.zeros(1, 2, V, requires_grad=True)
    terms, _ = terms_of(episode, logits, torch.zeros(1, 2, V), reward=reward)
    gradient = torch.autograd.grad(terms["policy_loss"], logits)[0]
    for step, token in enumerate((1, 2)):
        assert math.copysign(1, gradient[0, step, token].item()) == -reward


def test_the_entropy_is_drawn_up(episode):
    logits = torch.tensor([[[0.0, 2.0, 0.0], [0.0, 0.0, 3.0]]], requires_grad=True)
    terms, _ = terms_of(episode, logits, torch.zeros(1, 2, V))
    stepped = logits.detach() - 10 * torch.autograd.grad(terms["entropy_loss"], logits)[0]
    assert (a2c.entropy(stepped) > a2c.entropy(logits.detach())).all()


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_updates_see_the_policy_that_acted(model, temperature):
    prompts, rollouts = roll_out(model, [Operands(1, 23), Operands(45, 6)], temperature, torch.Generator().manual_seed(0))
    sequences = from_rollouts(prompts, rollouts, END_TOKEN)
    logits, values = ActorCritic(model, initial_value=-0.5)(sequences)
    log_probs = token_log_probs(logits / temperature, sequences.targets)
    torch.testing.assert_close(log_probs[sequences.mask], rollouts.log_probs[rollouts.mask], atol=5e-5, rtol=1e-4)
    assert torch.equal(values, torch.full_like(values, -0.5))


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_before_the_first_step_policy_and_reference_agree(model, temperature):
    algorithm = A2CConfig(episodes=2, minibatch_size=2, temperature=temperature)
    work = Finetuning(FinetuneConfig(algorithm=algorithm, evaluation_examples=2), model, torch.device("cpu"))
    metrics = work.update(0, *work.collect(0))
    assert metrics["losses/kl"] == 0.0
    assert metrics["losses/kl_loss"] == 0.0
    assert work.model.policy.lm_head.weight is work.model.policy.transformer.wte.weight
    assert not any(parameter.grad is not None for parameter in work.reference.parameters())
