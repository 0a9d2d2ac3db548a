"""The controls of the KL in fine-tuning: in the advantages, off where rewards teach nothing, gated by the current policy."""

import math

import pytest
import torch

from rlkl.commands.finetune import check, check_shares
from rlkl.distributions import entropy, token_log_probs
from rlkl.finetuning.experience import Experience, Scores, learn_from
from rlkl.finetuning.learner import clip_ranges, current_weights, loss_terms
from rlkl.model.sequences import Sequences, joined
from rlkl.weighting import top_share_of_rows, window_means
from rlkl_htc_common.errors import InputError

from .. import recipes
from .test_finetune import a_learner

V = 5


@pytest.fixture
def batch():
    """Four episodes of two prompts, five, three, six and one tokens; the second prompt's rewards are equal."""
    torch.manual_seed(0)
    lengths = torch.tensor([7, 5, 8, 3])
    sequences = Sequences(torch.randint(0, V, (4, 8)), torch.full((4,), 2), lengths)
    shape = (4, 7)
    scores = Scores(-torch.rand(shape), torch.rand(shape), torch.rand(shape), torch.randn(shape), 2 * torch.randn(*shape, V))
    return sequences, torch.tensor([1.0, -1.0, 1.0, 1.0]), scores


def learnt(batch, algorithm, penalty, alpha=2.0):
    algorithm.check()
    penalty.check()
    algorithm.check_with(penalty)
    return learn_from(*batch, penalty, alpha, algorithm, torch.Generator().manual_seed(0))


def tokens_of(mask, row):
    return mask[row].nonzero().squeeze(1).tolist()


GROUPED = ("grpo", "rloo", "gspo", "cispo", "zcpo")


@pytest.mark.parametrize("weighting", ["standard", "prioritized", "matched_mean", "certain_tokens", "kl_cov"])
@pytest.mark.parametrize("name", ["a2c", "ppo", *GROUPED])
def test_the_kl_of_the_future_is_taken_off_the_advantages(batch, name, weighting):
    sequences, _, scores = batch
    mask = sequences.mask
    algorithm = recipes.algorithm(name, group_size=1 if name in ("a2c", "ppo") else 2)
    share = {"share": 0.5} if weighting in ("certain_tokens", "kl_cov") else {}
    penalty = recipes.penalty(weighting, placement="future", estimator="k1", **share)
    found, without = learnt(batch, algorithm, penalty), learnt(batch, algorithm, recipes.penalty("none"))
    for row in range(4):
        places = tokens_of(mask, row)
        for start in places:
            ahead = sum(float(found.weights[row, at] * scores.divergences[row, at]) for at in places if at >= start)
            taken = float(without.advantages[row, start] - found.advantages[row, start])
            assert taken == pytest.approx(2.0 * ahead, abs=1e-5)
    assert not found.advantages[~mask].any()
    assert torch.equal(found.returns, without.returns)


@pytest.mark.parametrize("name", GROUPED)
@pytest.mark.parametrize("weighting", ["standard", "prioritized"])
def test_a_zero_sum_kl_compares_the_episodes_of_a_group(batch, name, weighting):
    sequences, _, scores = batch
    mask, algorithm = sequences.mask, recipes.algorithm(name, group_size=2)
    penalty = recipes.penalty(weighting, placement="zero_sum", estimator="exact")
    found, without = learnt(batch, algorithm, penalty), learnt(batch, algorithm, recipes.penalty("none"))
    means = []
    for row in range(4):
        places = tokens_of(mask, row)
        means.append(sum(float(found.weights[row, at] * scores.divergences[row, at]) for at in places) / len(places))
    middle = (means[0] + means[1]) / 2
    expected = [means[0] - middle, means[1] - middle, 0.0, 0.0]  # no KL in the constant group
    for row in range(4):
        for at in tokens_of(mask, row):
            taken = float(without.advantages[row, at] - found.advantages[row, at])
            assert taken == pytest.approx(2.0 * expected[row], abs=1e-5)


@pytest.mark.parametrize("far", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("placement", ["future", "zero_sum"])
def test_a_token_of_weight_0_takes_nothing_off(batch, placement, far):
    sequences, rewards, scores = batch
    spoilt = Scores(scores.log_probs, scores.entropies, scores.values, torch.full((4, 7), far), scores.reference_logits)
    algorithm = recipes.algorithm("grpo", group_size=2)
    none = recipes.penalty("prioritized", placement=placement, estimator="k1", beta=1e30)
    expected = learnt((sequences, rewards, spoilt), algorithm, recipes.penalty("none")).advantages
    assert torch.equal(learnt((sequences, rewards, spoilt), algorithm, none).advantages, expected)


@pytest.mark.parametrize(
    ("placement", "estimator"), [("loss", "k2"), ("reward", "k1"), ("future", "k1"), ("zero_sum", "exact")]
)
def test_groups_with_equal_rewards_have_no_kl(batch, placement, estimator):
    algorithm = recipes.algorithm("grpo", group_size=2)
    penalty = recipes.penalty("standard", placement=placement, estimator=estimator, off_constant_groups=True)
    found = learnt(batch, algorithm, penalty)
    assert found.weights.unique(dim=1).squeeze(1).tolist() == [1, 1, 0, 0]
    if placement != "loss":
        assert not found.advantages[2:].any()


def steps_of(batch, algorithm, penalty, logits):
    """The terms of the loss at a step. Args: logits (4, 7, V) of the policy."""
    experience = learnt(batch, algorithm, penalty)
    mask = experience.sequences.mask
    values = torch.zeros(4, 7)
    return experience, loss_terms(logits, values, experience, penalty, 2.0, algorithm, mask.sum(), mask.sum(), mask.sum())


@pytest.mark.parametrize("name", ["ppo", "grpo", "gspo", "zcpo"])
def test_clipped_tokens_have_no_kl(batch, name):
    algorithm = recipes.algorithm(name, group_size=2, entropy_coefficient=0.0, clip_range=0.2, clip_range_high=0.3)
    penalty = recipes.penalty("standard", off_clipped=True)
    logits = torch.randn(4, 7, V, requires_grad=True)
    experience, terms = steps_of(batch, algorithm, penalty, logits)
    mask, targets = experience.sequences.mask, experience.sequences.targets
    log_probs = token_log_probs(logits.detach(), targets)
    reference = token_log_probs(experience.reference_logits, targets)
    total, kept = 0.0, 0
    for row in range(4):
        places = tokens_of(mask, row)
        moved = [float(log_probs[row, at] - experience.log_probs[row, at]) for at in places]
        for at, own in zip(places, moved, strict=True):
            ratio = math.exp(sum(moved) / len(moved) if name == "gspo" else own)
            advantage = float(experience.advantages[row, at])
            if not ((advantage > 0 and ratio > 1.3) or (advantage < 0 and ratio < 0.8)):
                total += 0.5 * float(log_probs[row, at] - reference[row, at]) ** 2
                kept += 1
    assert terms["kl_loss"].item() == pytest.approx(2.0 * total / int(mask.sum()), rel=1e-5)
    assert 0 < kept < int(mask.sum())
    policy = torch.autograd.grad(terms["policy_loss"], logits, retain_graph=True)[0].abs().sum(-1) == 0
    divergence = torch.autograd.grad(terms["kl_loss"], logits)[0].abs().sum(-1) == 0
    assert (divergence <= (policy | ~mask)).all()  # where there is no KL, there is no policy gradient either


@pytest.mark.parametrize("window", [1, 3])
def test_the_gate_follows_the_current_policy(batch, window):
    algorithm = recipes.algorithm("grpo", group_size=2, clip_range=0.2, clip_range_high=0.28, clip_range_uncertain=0.5)
    penalty = recipes.penalty("certain_tokens", certainty_of="current", entropy_window=window, share=0.4)
    experience, mask = learnt(batch, algorithm, penalty), batch[0].mask
    for seed in range(3):
        torch.manual_seed(seed)
        logits = 3 * torch.randn(4, 7, V)
        weights = current_weights(logits, experience, penalty)
        gate = top_share_of_rows(window_means(entropy(logits), mask, window), mask, 0.4)
        assert torch.equal(weights == 0, gate)
        assert penalty.averaged_over(weights, mask) == penalty.averaged_over(experience.weights, mask)  # known before the step
        low, high = clip_ranges(weights, algorithm)
        assert torch.equal(low, torch.where(gate, 0.5, 0.2))
        assert torch.equal(high, torch.where(gate, 0.5, 0.28))
    sampled = recipes.penalty("certain_tokens", certainty_of="policy", entropy_window=window, share=0.4)
    assert torch.equal(current_weights(logits, experience, sampled), experience.weights)


def test_a_gate_of_the_current_policy_leaves_constant_groups_off(batch):
    penalty = recipes.penalty("certain_tokens", certainty_of="current", off_constant_groups=True, share=0.4)
    experience = learnt(batch, recipes.algorithm("grpo", group_size=2), penalty)
    weights = current_weights(torch.randn(4, 7, V), experience, penalty)
    assert not weights[2:].any()
    assert weights[:2].any()


def test_archers_clip_ranges_by_a_loop(batch):
    algorithm = recipes.algorithm("grpo", group_size=2, clip_range=0.2, clip_range_uncertain=0.5, entropy_coefficient=0.0)
    penalty = recipes.penalty("certain_tokens", certainty_of="current", mean_over="penalized", share=0.4)
    logits = torch.randn(4, 7, V)
    experience, terms = steps_of(batch, algorithm, penalty, logits)
    mask, targets = experience.sequences.mask, experience.sequences.targets
    gate = top_share_of_rows(entropy(logits), mask, 0.4)
    log_probs, total = token_log_probs(logits, targets), 0.0
    for row in range(4):
        for at in tokens_of(mask, row):
            clip, advantage = 0.5 if gate[row, at] else 0.2, float(experience.advantages[row, at])
            ratio = math.exp(float(log_probs[row, at] - experience.log_probs[row, at]))
            total += min(ratio * advantage, min(max(ratio, 1 - clip), 1 + clip) * advantage)
    assert terms["policy_loss"].item() == pytest.approx(-total / int(mask.sum()), rel=1e-5)


PUBLISHED = [
    ("dapo", "none", {}),
    ("gspo", "none", {}),
    ("cispo", "standard", {}),
    ("grpo", "future", {}),
    ("a2c", "future", {}),
    ("zcpo", "zero_sum", {}),
    ("grpo", "zcpo_masks", {}),
    ("gspo", "zcpo_masks", {}),
    ("archer", "archer_published", {}),
    ("grpo", "ares", {"share": 0.2}),
]


@pytest.mark.parametrize(("algorithm", "penalty", "change"), PUBLISHED)
def test_published_choices_learn_the_same_in_parts(model, algorithm, penalty, change):
    config = recipes.recipe("finetune", f"algorithm={algorithm}", f"penalty={penalty}")
    check(config)
    how = {**vars(config.algorithm), "episodes": 8, "minibatch_size": 4, "passes": 2}
    how |= {"group_size": 2} if how["group_size"] > 1 else {}
    weighed = recipes.penalty(**{**vars(config.penalty), **change})
    found = []
    for at_a_time in (None, 1):
        learner = a_learner(model, recipes.algorithm(**how | {"micro_batch_size": at_a_time}), weighed)
        episodes, _ = learner.sample_episodes(0)
        rewards = torch.tensor([1.0, -1.0, -1.0, 1.0, 1.0, 1.0, -1.0, 1.0])
        found.append(learner.update(0, episodes, rewards))
    assert found[0] == pytest.approx(found[1], rel=2e-3, abs=1e-5)
    assert all(math.isfinite(value) for value in found[0].values())


def graded(learner, rounds):
    """Let each round of samples have these rewards. Returns: which rounds were sampled."""
    sample, asked = learner.sample_episodes, []

    def episodes_of(number, again=0):
        asked.append(again)
        return sample(number, again)[0], torch.tensor(rounds[again])

    learner.sample_episodes = episodes_of
    return asked


ALIKE, VARIED = [1.0, 1.0], [1.0, -1.0]
ROUNDS = [  # how, rewards of each round, rounds that are sampled, number of episodes
    ("left_out", [VARIED + ALIKE + VARIED], [0], 4),
    ("left_out", [VARIED + VARIED + VARIED], [0], 6),
    ("resampled", [VARIED + ALIKE + ALIKE, ALIKE + VARIED + ALIKE, VARIED + VARIED + ALIKE], [0, 1, 2], 6),
    ("resampled", [VARIED * 3, ALIKE * 3, ALIKE * 3], [0], 6),
    ("resampled", [VARIED + ALIKE + ALIKE, ALIKE * 3, ALIKE * 3], [0, 1, 2], 2),
    ("resampled", [ALIKE * 3, ALIKE * 3, ALIKE + ALIKE + VARIED], [0, 1, 2], 2),
]


@pytest.mark.parametrize(("how", "rounds", "sampled", "expected"), ROUNDS)
def test_groups_with_equal_rewards_are_left_out_or_resampled(model, how, rounds, sampled, expected):
    algorithm = recipes.algorithm("grpo", episodes=6, group_size=2, minibatch_size=2, constant_groups=how, resamples=2)
    learner = a_learner(model, algorithm, recipes.penalty("standard"))
    asked, update = graded(learner, rounds), learner.update
    seen = {}

    def watched(number, episodes, rewards):
        seen.update(episodes=episodes, rewards=rewards)
        return update(number, episodes, rewards)

    learner.update = watched
    metrics = learner.learn(0)
    assert asked == sampled
    assert len(seen["rewards"]) == len(seen["episodes"].lengths) == expected
    assert (seen["rewards"].view(-1, 2).sum(1) == 0).all()  # a right and a wrong one in each group
    assert metrics["rollout/success"] == pytest.approx(
        sum(reward == 1.0 for reward in rounds[0]) / 6
    )  # of the first sample only
    alike = sum(one == other for one, other in zip(rounds[0][::2], rounds[0][1::2], strict=True))
    assert metrics["rollout/constant_groups"] == pytest.approx(alike / 3)
    assert math.isfinite(metrics["losses/loss"])


@pytest.mark.parametrize("how", ["left_out", "resampled"])
def test_without_any_varied_group_no_step_is_made(model, how):
    algorithm = recipes.algorithm("grpo", episodes=4, group_size=2, minibatch_size=2, constant_groups=how, resamples=1)
    learner = a_learner(model, algorithm, recipes.penalty("standard"))
    graded(learner, [ALIKE * 2, ALIKE * 2])
    before = learner.model.policy.lm_head.weight.clone()
    assert set(learner.learn(0)) == {"rollout/success", "rollout/length", "rollout/constant_groups"}
    assert torch.equal(learner.model.policy.lm_head.weight, before)


def test_a_further_sample_has_other_problems(model):
    learner = a_learner(model, recipes.algorithm("grpo", episodes=4, group_size=2), recipes.penalty("standard"))
    first, again, other = (learner.sample_episodes(0, which)[0].tokens for which in (0, 1, 2))
    assert torch.equal(first, learner.sample_episodes(0)[0].tokens)
    for one, two in ((first, again), (again, other)):
        assert one.shape != two.shape or not torch.equal(one, two)


def test_batches_of_other_lengths_are_joined():
    parts = [
        Sequences(torch.tensor([[1, 2, 3]]), torch.tensor([1]), torch.tensor([3])),
        Sequences(torch.tensor([[4, 5]]), torch.tensor([1]), torch.tensor([2])),
    ]
    whole = joined(parts, 9)
    assert whole.tokens.tolist() == [[1, 2, 3], [4, 5, 9]]
    assert whole.mask.tolist() == [[True, True], [True, False]]


@pytest.mark.parametrize(("group", "minibatch", "most"), [(5, 5, 5), (4, 6, 2), (3, 4, 1)])
def test_as_many_processes_as_the_smallest_step_has_episodes(group, minibatch, most):
    algorithm = recipes.algorithm("grpo", episodes=60, group_size=group, minibatch_size=minibatch, constant_groups="left_out")
    check_shares(algorithm, most)
    with pytest.raises(InputError, match=f"as few as {most} episodes"):
        check_shares(algorithm, most + 1)


def test_the_clip_fraction_counts_what_is_outside(model):
    algorithm = recipes.algorithm("gspo", episodes=4, group_size=2, minibatch_size=2, passes=2, learning_rate=0.01)
    learner = a_learner(model, algorithm, recipes.penalty("none"))
    episodes, _ = learner.sample_episodes(0)
    assert 0 < learner.update(0, episodes, torch.tensor([1.0, -1.0, 1.0, -1.0]))["losses/clip_fraction"] <= 1


def test_the_surrogate_of_an_experience_is_that_of_its_parts(batch):
    """The loss of GSPO is a mean over episodes, so its parts are weighed by how many they are."""
    algorithm = recipes.algorithm("gspo", group_size=2, clip_range=0.5, clip_range_high=0.5)
    experience = learnt(batch, algorithm, recipes.penalty("none"))
    logits, four = torch.randn(4, 7, V), torch.tensor(4)

    def policy_loss(rows):
        part: Experience = experience[rows]
        width = part.sequences.inputs.shape[1]
        given = (logits[rows, :width], torch.zeros(len(rows), width), part, recipes.penalty("none"), 0.0, algorithm)
        return loss_terms(*given, part.sequences.mask.sum(), four)["policy_loss"]

    parts = [policy_loss(torch.tensor(rows)) for rows in ([0], [1, 2], [3])]
    torch.testing.assert_close(sum(parts), policy_loss(torch.arange(4)))
