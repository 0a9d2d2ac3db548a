"""The pieces of fine-tuning put together: the loss, and that updates see the policy that acted."""

import math
from random import Random

import pytest
import torch
from accelerate import Accelerator

from rlkl.algorithms import a2c
from rlkl.algorithms.by_name import ALGORITHMS
from rlkl.commands.finetune import check
from rlkl.distributions import entropy, token_log_probs
from rlkl.finetuning.experience import Experience, Scores, learn_from, score
from rlkl.finetuning.learner import Learner, loss_terms
from rlkl.model.actor_critic import ActorCritic
from rlkl.model.completion import roll_out
from rlkl.model.sequences import Sequences, from_samples
from rlkl.model.texts import END_TOKEN
from rlkl.penalty import Penalty
from rlkl.tasks.addition import Operands

from .. import recipes

V = 3


@pytest.fixture
def episode():
    """One episode of two tokens after a prompt of one: tokens 1 and 2."""
    return Sequences(torch.tensor([[0, 1, 2]]), torch.tensor([1]), torch.tensor([3]))


def terms_of(episode, logits, reference, reward=1.0, scale=0.5, name="a2c", **penalty):
    algorithm = recipes.algorithm(name=name, value_coefficient=0.1, entropy_coefficient=0.01)
    values, weights = torch.tensor([[0.25, 0.5]], requires_grad=True), torch.tensor([[1.0, 0.5]])
    returns = torch.full((1, 2), reward)
    advantages = (returns - values.detach()) / scale
    old = token_log_probs(logits.detach(), episode.targets)
    batch = Experience(episode, old, advantages, returns, reference, weights, episode.mask)
    two = torch.tensor(2)
    return loss_terms(logits, values, batch, recipes.penalty("standard", **penalty), 2.0, algorithm, two, two), values


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
    assert ("value_loss" in terms) == recipes.algorithm(name).has_critic


def test_a_kl_in_the_reward_is_no_term_of_the_loss(episode):
    terms, _ = terms_of(episode, torch.zeros(1, 2, V), torch.zeros(1, 2, V), placement="reward", estimator="k1")
    assert set(terms) == {"policy_loss", "value_loss", "entropy_loss"}


def test_the_entropy_is_drawn_up(episode):
    logits = torch.tensor([[[0.0, 2.0, 0.0], [0.0, 0.0, 3.0]]], requires_grad=True)
    terms, _ = terms_of(episode, logits, torch.zeros(1, 2, V))
    stepped = logits.detach() - 10 * torch.autograd.grad(terms["entropy_loss"], logits)[0]
    assert (entropy(stepped) > entropy(logits.detach())).all()


@pytest.fixture
def batch():
    """Four episodes of two prompts, three, two, three and one tokens after one of a prompt; and what was said of them."""
    torch.manual_seed(0)
    lengths = torch.tensor([4, 3, 4, 2])
    sequences = Sequences(torch.randint(0, V, (4, 4)), torch.ones(4, dtype=torch.long), lengths)
    scores = Scores(-torch.rand(4, 3), torch.rand(4, 3), torch.rand(4, 3), torch.rand(4, 3), torch.randn(4, 3, V))
    return sequences, torch.tensor([1.0, -1.0, 1.0, 1.0]), scores


def learnt(batch, algorithm, penalty, alpha=2.0):
    algorithm.check()
    penalty.check()
    return learn_from(*batch, penalty, alpha, algorithm, torch.Generator().manual_seed(0))


def test_episodes_of_a_group_are_compared_with_each_other(batch):
    mask = batch[0].mask
    rloo = learnt(batch, recipes.algorithm(name="rloo", group_size=2), recipes.penalty())
    torch.testing.assert_close(rloo.advantages, torch.tensor([2.0, -2.0, 0.0, 0.0])[:, None] * mask)  # rewards deviate by 1
    grpo = learnt(batch, recipes.algorithm(name="grpo", group_size=2), recipes.penalty())
    expected = torch.tensor([1.0, -1.0, 0.0, 0.0])[:, None] * mask / math.sqrt(2)
    torch.testing.assert_close(grpo.advantages, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_kl_in_the_reward_is_taken_off_what_is_to_come(batch, name):
    sequences, _, scores = batch
    rewards = torch.tensor([1.0, -1.0, 2.0, 1.0])  # they deviate by 1.26
    algorithm = recipes.algorithm(
        name=name, group_size=1 if recipes.algorithm(name).has_critic else 2, gamma=1.0, gae_lambda=1.0
    )
    with_kl = learnt((sequences, rewards, scores), algorithm, recipes.penalty("standard", placement="reward", estimator="k1"))
    without = learnt((sequences, rewards, scores), algorithm, recipes.penalty("none"))
    kl = scores.divergences.masked_fill(~sequences.mask, 0.0)
    to_come = torch.stack([kl[:, place:].sum(1) for place in range(3)], 1)
    expected = to_come if recipes.algorithm(name).has_critic else to_come - to_come[[1, 0, 3, 2]]  # the other one of the prompt
    expected = 2.0 * expected.masked_fill(~sequences.mask, 0.0)
    torch.testing.assert_close(without.advantages - with_kl.advantages, expected)
    in_rewards = expected * rewards.std() if recipes.algorithm(name).has_critic else torch.zeros(4, 3)
    torch.testing.assert_close(without.returns - with_kl.returns, in_rewards)


@pytest.mark.parametrize("lam", [1.0, 0.9])
def test_with_a_critic_the_kl_is_a_part_of_the_rewards(batch, lam):
    """The generalised advantage is linear: the same as rewards that are divided first and have the KL taken off then."""
    sequences, _, scores = batch
    mask, scale = sequences.mask, 0.1  # all rewards the same: the least deviation
    algorithm = recipes.algorithm(gamma=0.9, gae_lambda=lam)
    found = learnt(
        (sequences, torch.ones(4), scores), algorithm, recipes.penalty("standard", placement="reward", estimator="k1")
    )
    of_tokens = a2c.at_last_token(torch.ones(4), mask) / scale - 2.0 * scores.divergences
    torch.testing.assert_close(found.advantages, a2c.gae(of_tokens, scores.values / scale, mask, 0.9, lam))
    torch.testing.assert_close(found.returns[mask], (scores.values + scale * found.advantages)[mask])


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("reward", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("noise", [1e-4, 0.01, 3.0])
def test_a_kl_in_the_reward_counts_as_its_coefficient_says(name, reward, noise):
    """Two groups of five whose rewards are all the same: nothing saturates, however small or large the coefficient."""
    torch.manual_seed(0)
    sequences = Sequences(torch.zeros(10, 5, dtype=torch.long), torch.ones(10, dtype=torch.long), torch.full((10,), 5))
    shape = (10, 4)
    scores = Scores(
        -torch.rand(shape), torch.rand(shape), torch.rand(shape), noise * torch.randn(shape), 5 * torch.randn(*shape, V)
    )
    algorithm, rewards = recipes.algorithm(name=name), torch.full((10,), reward)
    found = {}
    for alpha in (0.0, 1e-3, 0.01, 1.0, 100.0):
        for weighting in ("standard", "prioritized"):
            penalty = recipes.penalty(weighting, placement="reward", estimator="k1", alpha=alpha, beta=2.0)
            found[weighting, alpha] = learnt((sequences, rewards, scores), algorithm, penalty, alpha).advantages.double()
    for weighting in ("standard", "prioritized"):
        one = found[weighting, 1.0] - found[weighting, 0.0]
        assert one.abs().max() > 0.1 * noise
        for alpha in (1e-3, 0.01, 100.0):
            ours = found[weighting, alpha] - found[weighting, 0.0]
            torch.testing.assert_close(ours / alpha, one, rtol=1e-4, atol=2e-6 / min(alpha, 1.0))
    assert not torch.equal(found["standard", 1.0], found["prioritized", 1.0])


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_token_of_weight_0_takes_nothing_off_the_reward(batch, name):
    sequences, rewards, scores = batch
    algorithm = recipes.algorithm(name=name, group_size=2)
    for far in (math.inf, -math.inf, math.nan):
        divergences = torch.full_like(scores.divergences, far)
        spoilt = Scores(scores.log_probs, scores.entropies, scores.values, divergences, scores.reference_logits)
        expected = learnt((sequences, rewards, spoilt), algorithm, recipes.penalty("none")).advantages
        for penalty in (
            recipes.penalty("none", placement="reward"),
            recipes.penalty("prioritized", placement="reward", beta=1e30),
            recipes.penalty("certain_tokens", placement="reward", share=1.0),
        ):
            assert torch.equal(learnt((sequences, rewards, spoilt), algorithm, penalty).advantages, expected)
        standard = recipes.penalty("standard", placement="reward")
        assert torch.equal(learnt((sequences, rewards, spoilt), algorithm, standard, alpha=0.0).advantages, expected)


@pytest.mark.parametrize(
    "penalty",
    [
        recipes.penalty("none", placement="reward"),
        recipes.penalty("standard", placement="reward", alpha=0.0),
        recipes.penalty("standard"),
    ],
)
def test_no_kl_is_computed_that_nothing_is_taken_off_for(model, penalty, monkeypatch):
    prompts, rollouts = roll_out(model, [Operands(1, 23)], 1.0, torch.Generator().manual_seed(0))
    sequences = from_samples(prompts, rollouts.samples(), END_TOKEN)
    monkeypatch.setattr(Penalty, "divergence", None)
    assert not score(sequences, ActorCritic(model), model, penalty, 1.0).divergences.any()


@pytest.mark.parametrize("name", ["ppo", "grpo"])
def test_uncertain_tokens_have_a_clip_range_of_their_own(episode, name):
    """Archer: the second token, without KL, is clipped at 1.5, the first at 1.2."""
    algorithm = recipes.algorithm(name=name, clip_range=0.2, clip_range_uncertain=0.5, entropy_coefficient=0.0)
    logits, two = torch.zeros(1, 2, V), torch.tensor(2)
    old = token_log_probs(logits, episode.targets) - math.log(1.4)
    ones, weights = torch.ones(1, 2), torch.tensor([[1.0, 0.0]])
    batch = Experience(episode, old, ones, ones, logits, weights, episode.mask)
    penalty = recipes.penalty("certain_tokens")
    algorithm.check()
    algorithm.check_with(penalty)
    terms = loss_terms(logits, ones, batch, penalty, 2.0, algorithm, two, two)
    assert terms["policy_loss"].item() == pytest.approx(-(1.2 + 1.4) / 2)


@pytest.mark.parametrize("algorithm", [{"name": "a2c"}, {"name": "ppo", "passes": 2}, {"name": "grpo", "group_size": 2}])
@pytest.mark.parametrize(
    "penalty",
    [
        {"weighting": "certain_tokens", "certainty_of": "policy", "mean_over": "penalized"},
        {"weighting": "kl_cov", "share_count": "at_least_one", "anchor": "acting"},
        {"weighting": "standard", "estimator": "k3", "correction": "importance"},
    ],
)
def test_published_variants_learn_the_same_in_parts(model, algorithm, penalty):
    def learner(**change):
        how = recipes.algorithm(**{"episodes": 4, "minibatch_size": 4} | algorithm | change)
        check(recipes.finetuning(penalty=recipes.penalty(**penalty), algorithm=how))
        return a_learner(model, how, recipes.penalty(**penalty))

    whole, parts = learner(), learner(micro_batch_size=1)
    episodes, _ = whole.sample_episodes(0)
    rewards = torch.tensor([1.0, -1.0, -1.0, 1.0])
    ours, others = whole.update(0, episodes, rewards), parts.update(0, episodes, rewards)
    assert ours == pytest.approx(others, rel=1e-3, abs=1e-5)
    assert all(math.isfinite(value) for value in ours.values())


def test_the_policy_learns_from_the_tokens_of_which_it_is_least_sure(batch):
    sequences, _, scores = batch
    found = learnt(batch, recipes.algorithm(policy_share=0.34), recipes.penalty()).learns
    assert found.sum() == 3  # of nine
    assert scores.entropies[found].min() >= scores.entropies[sequences.mask & ~found].max()
    assert torch.equal(learnt(batch, recipes.algorithm(), recipes.penalty()).learns, sequences.mask)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_updates_see_the_policy_that_acted(model, temperature):
    prompts, rollouts = roll_out(model, [Operands(1, 23), Operands(45, 6)], temperature, torch.Generator().manual_seed(0))
    sequences = from_samples(prompts, rollouts.samples(), END_TOKEN)
    actor_critic = ActorCritic(model)
    actor_critic.set_value(-0.5)
    logits, values = actor_critic(sequences)
    log_probs = token_log_probs(logits / temperature, sequences.targets)
    torch.testing.assert_close(log_probs[sequences.mask], rollouts.log_probs[rollouts.mask], atol=5e-5, rtol=1e-4)
    assert torch.equal(values, torch.full_like(values, -0.5))


def a_learner(model, algorithm, penalty):
    return Learner(model, Accelerator(cpu=True), penalty=penalty, algorithm=algorithm, extra_digits=1, seed=0)


def test_easier_problems_are_mixed_in(model):
    learner = learner_of(model, episodes=200)
    hard = learner._problem
    rng = Random(0)
    learner.easier_share = 0.3
    digits = [max(len(str(number)) for number in hard(rng)) for _ in range(1000)]
    assert 0.26 < sum(each <= learner.trained_digits for each in digits) / 1000 < 0.34
    assert max(digits) == learner.digits
    learner.easier_share = 0.0
    task = learner.task
    assert hard(Random(1)) == task.longer(learner.trained_digits, learner.digits, Random(1)), "nothing is drawn for it"


def learner_of(model, **algorithm):
    return a_learner(model, recipes.algorithm(**{"episodes": 4, "minibatch_size": 4} | algorithm), recipes.penalty())


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_before_the_first_step_policy_and_reference_agree(model, temperature):
    learner = learner_of(model, temperature=temperature)
    metrics = learner.learn(0)
    assert metrics["losses/kl"] == 0.0
    assert metrics["losses/kl_loss"] == 0.0
    assert learner.model.policy.lm_head.weight is learner.model.policy.transformer.wte.weight
    assert not any(parameter.grad is not None for parameter in learner.reference.parameters())


@pytest.mark.parametrize("algorithm", [{"name": "a2c"}, {"name": "ppo"}, {"name": "grpo", "group_size": 2}])
def test_gradients_of_parts_add_up_to_that_of_the_step(model, algorithm):
    whole, parts = learner_of(model, **algorithm), learner_of(model, micro_batch_size=1, **algorithm)
    episodes, rewards = whole.sample_episodes(0)
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
