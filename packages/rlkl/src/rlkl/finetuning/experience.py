"""The training data of an iteration: episodes, their scores by policy, critic and reference, and their advantages."""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from rlkl.algorithms import a2c, rloo, zcpo
from rlkl.algorithms.by_name import ALGORITHMS
from rlkl.algorithms.groups import constant_groups
from rlkl.distributions import entropy, token_log_probs
from rlkl.model.actor_critic import ActorCritic
from rlkl.model.sequences import Sequences, next_token_logits
from rlkl.penalty import Penalty
from rlkl.settings import AlgorithmSettings
from rlkl.weighting import to_the_end, top_share
from rlkl_htc_common.errors import InputError

SMALLEST_DEVIATION = 0.1  # limits the scaling of advantages to a factor of 10, if nearly all rewards are equal


@dataclass(frozen=True)
class Scores:
    """Scores of B episodes of T predictions each, before the update.

    Attributes:
        log_probs: (B, T) of the sampled tokens, under the policy.
        entropies: (B, T) of the policy.
        values: (B, T) of the critic.
        divergences: (B, T) the KL to the reference, by the penalty's estimator; 0 if the KL is a term of the loss.
        reference_logits: (B, T, V)
    """

    log_probs: Tensor
    entropies: Tensor
    values: Tensor
    divergences: Tensor
    reference_logits: Tensor


@dataclass(frozen=True)
class Experience:
    """Training data from B episodes of T predictions each.

    Attributes:
        sequences: the episodes.
        log_probs: (B, T) of the sampled tokens, under the policy that sampled them.
        advantages: (B, T), scaled.
        returns: (B, T) the critic's targets.
        reference_logits: (B, T, V)
        weights: (B, T) of the KL.
        learns: (B, T) bool, the tokens that the policy learns from.
    """

    sequences: Sequences
    log_probs: Tensor
    advantages: Tensor
    returns: Tensor
    reference_logits: Tensor
    weights: Tensor
    learns: Tensor

    def __getitem__(self, rows: Tensor) -> "Experience":
        """Select episodes, and drop columns with only padding. Args: rows (b,) int64."""
        sequences = self.sequences[rows]
        width = sequences.inputs.shape[1]
        tensors = (self.log_probs, self.advantages, self.returns, self.reference_logits, self.weights, self.learns)
        return Experience(sequences, *(tensor[rows, :width] for tensor in tensors))


@torch.no_grad()
def score(sequences: Sequences, model: ActorCritic, reference: GPT2LMHeadModel, penalty: Penalty, temperature: float) -> Scores:
    """One pass over the episodes with the policy that sampled them, and one with the reference."""
    logits, values = model(sequences)
    logits = logits / temperature
    reference_logits = next_token_logits(reference, sequences)
    divergences = torch.zeros_like(values)
    if penalty.placement != "loss" and not penalty.is_absent:
        divergences = penalty.divergence(logits, reference_logits / temperature, sequences.targets)
    return Scores(
        token_log_probs(logits, sequences.targets),
        entropy(logits),
        values,
        divergences,
        reference_logits,
    )


def learn_from(
    sequences: Sequences,
    rewards: Tensor,
    scores: Scores,
    penalty: Penalty,
    alpha: float,
    algorithm: AlgorithmSettings,
    generator: torch.Generator,
) -> Experience:
    """Compute the advantages and the weights of the KL.

    Args:
        sequences: B episodes; episodes of one prompt are adjacent.
        rewards: (B,)
        scores: of the episodes.
        alpha: the coefficient of the KL, if it is in the advantages (`taken_off`).
        generator: for random weights (`shuffled`).

    Raises:
        InputError: as `advantages_of`.
    """
    mask = sequences.mask
    advantages, returns, scale = advantages_of(rewards, scores.values, mask, algorithm)
    weights = penalty.weights(
        scores.reference_logits,
        mask,
        log_probs=scores.log_probs,
        advantages=advantages,
        entropies=scores.entropies,
        generator=generator,
    )
    constant = _in_constant_groups(rewards, penalty, algorithm)
    if penalty.off_constant_groups:
        weights = weights.masked_fill(constant[:, None], 0.0)
    if penalty.placement != "loss":
        ahead = taken_off(penalty.placement, alpha * weights, scores.divergences, mask, constant, algorithm)
        advantages = advantages - ahead
        if penalty.placement == "reward" and algorithm.has_critic:
            returns = returns - scale * ahead
    learns = top_share(scores.entropies, mask, algorithm.policy_share)
    return Experience(sequences, scores.log_probs, advantages, returns, scores.reference_logits, weights, learns)


def advantages_of(rewards: Tensor, values: Tensor, mask: Tensor, algorithm: AlgorithmSettings) -> tuple[Tensor, Tensor, float]:
    """The advantages of tokens and the critic's targets, from the task's rewards only.

    Advantages are in standard deviations of the episodes' rewards (GRPO: of each group), so that one learning rate suits all.

    Args:
        rewards: (B,) of episodes.
        values, mask: (B, T)

    Returns:
        Advantages and returns, (B, T) each, 0 outside the mask; and the deviation, at least SMALLEST_DEVIATION.

    Raises:
        InputError: for a single episode, which has no deviation; and as `a2c.at_last_token` and the algorithm.
    """
    if len(rewards) < 2:
        raise InputError(f"advantages are measured in deviations of the reward: give at least 2 episodes, not {len(rewards)}.")
    of_tokens = a2c.at_last_token(rewards, mask)  # (B, T)
    of_episodes = of_tokens.sum(1)  # (B,)
    scale = max(of_episodes.std().item(), SMALLEST_DEVIATION)
    of_group = ALGORITHMS[algorithm.name].group_advantages
    if of_group is None:
        advantages = a2c.gae(of_tokens, values, mask, algorithm.gamma, algorithm.gae_lambda)
        return advantages / scale, (values + advantages).masked_fill(~mask, 0.0), scale
    of_members = of_group(of_episodes / scale, algorithm.group_size)  # (B,)
    return of_members[:, None] * mask, torch.zeros_like(values), scale


def _in_constant_groups(rewards: Tensor, penalty: Penalty, algorithm: AlgorithmSettings) -> Tensor:
    """(B,) bool, the episodes whose group has equal rewards; none where the penalty does not distinguish them."""
    if penalty.off_constant_groups or penalty.placement == "zero_sum":
        return constant_groups(rewards, algorithm.group_size)
    return torch.zeros_like(rewards, dtype=torch.bool)


def taken_off(
    placement: str, weights: Tensor, divergences: Tensor, mask: Tensor, constant: Tensor, algorithm: AlgorithmSettings
) -> Tensor:
    """The amount that a KL outside the loss subtracts from each token's advantage.

    Args:
        placement: `reward`: `kl_ahead`; `future`: the sum from the token to the end of its episode (Yao et al. 2026, FRPO,
            arXiv 2601.10201); `zero_sum`: the episode's mean minus that of its group, 0 in constant groups
            (`zcpo.relative_drift`).
        weights: (B, T), multiplied by the coefficient.
        divergences, mask: (B, T); the KL of a masked token, or of weight 0, may have any value.
        constant: (B,) bool, the episodes of groups with equal rewards.

    Returns:
        (B, T), 0 outside the mask.
    """
    if placement == "reward":
        return kl_ahead(weights, divergences, mask, algorithm)
    costs = _costs(weights, divergences, mask)
    if placement == "future":
        return to_the_end(costs, mask).masked_fill(~mask, 0.0)
    relative = zcpo.relative_drift(costs, mask, algorithm.group_size).masked_fill(constant, 0.0)
    return relative[:, None] * mask


def _costs(weights: Tensor, divergences: Tensor, mask: Tensor) -> Tensor:
    """(B, T) the weighted KL; 0 outside the mask and for tokens of weight 0, whose KL may have any value."""
    return (weights * divergences).masked_fill(~mask | (weights == 0), 0.0)


def kl_ahead(weights: Tensor, divergences: Tensor, mask: Tensor, algorithm: AlgorithmSettings) -> Tensor:
    """The amount that a KL in the reward subtracts from each token's advantage: the weighted future KL.

    It is subtracted after the task's rewards are divided by their deviation. If the KL were divided too, it would lose its
    coefficient when all rewards are equal. So alpha has the same unit as for a KL in the loss: standard deviations of the
    task's reward per nat.

    With a critic, this is the KL's part of the generalised advantage, which is linear in rewards. Without one, it is the sum
    from the token to the end of its episode, minus the mean over the other episodes of the prompt (0 after their end): a token
    does not influence the past, and a baseline that does not depend on the token leaves the gradient unbiased. At the first
    token, this equals RLOO on the KL of the whole episode.

    Args:
        weights: (B, T), multiplied by the coefficient.
        divergences, mask: (B, T); the KL of a masked token, or of weight 0, may have any value.

    Returns:
        (B, T), 0 outside the mask.
    """
    costs = _costs(weights, divergences, mask)
    if algorithm.has_critic:
        return a2c.gae(costs, torch.zeros_like(costs), mask, algorithm.gamma, algorithm.gae_lambda)
    to_come = a2c.gae(costs, torch.zeros_like(costs), mask, gamma=1.0, lam=1.0)
    return rloo.advantages(to_come, algorithm.group_size).masked_fill(~mask, 0.0)
