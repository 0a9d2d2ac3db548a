"""What an iteration gives to learn from: episodes, what policy, critic and reference said about them, and what follows."""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from rlkl.algorithms import a2c, rloo
from rlkl.algorithms.by_name import ALGORITHMS
from rlkl.commands.config import AlgorithmConfig
from rlkl.distributions import token_log_probs
from rlkl.model.actor_critic import ActorCritic
from rlkl.model.sequences import Sequences, next_token_logits
from rlkl.penalty import Penalty
from rlkl.weighting import top_share
from rlkl_htc_common.errors import InputError

SMALLEST_DEVIATION = 0.1  # advantages are not scaled up beyond ten times, where nearly all episodes end alike


@dataclass(frozen=True)
class Scores:
    """What was said about B episodes of T predictions each, before anything was learnt from them.

    Attributes:
        log_probs: (B, T) of the sampled tokens, under the policy.
        entropies: (B, T) of the policy.
        values: (B, T) that the critic expected.
        divergences: (B, T) the KL to the reference, by the penalty's estimator; 0 where it is not taken from the rewards.
        reference_logits: (B, T, V)
    """

    log_probs: Tensor
    entropies: Tensor
    values: Tensor
    divergences: Tensor
    reference_logits: Tensor


@dataclass(frozen=True)
class Experience:
    """What B episodes of T predictions each give to learn from.

    Attributes:
        sequences: the episodes.
        log_probs: (B, T) of the sampled tokens, under the policy that acted.
        advantages: (B, T), scaled.
        returns: (B, T) what the critic should have expected.
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
        """Some of the episodes, without columns that only pad. Args: rows (b,) int64."""
        sequences = self.sequences[rows]
        width = sequences.inputs.shape[1]
        tensors = (self.log_probs, self.advantages, self.returns, self.reference_logits, self.weights, self.learns)
        return Experience(sequences, *(tensor[rows, :width] for tensor in tensors))


@torch.no_grad()
def score(sequences: Sequences, model: ActorCritic, reference: GPT2LMHeadModel, penalty: Penalty, temperature: float) -> Scores:
    """One pass over episodes with the policy as it was when it acted, and one with the reference."""
    logits, values = model(sequences)
    logits = logits / temperature
    reference_logits = next_token_logits(reference, sequences)
    divergences = torch.zeros_like(values)
    if penalty.placement == "reward" and not penalty.is_absent:
        divergences = penalty.divergence(logits, reference_logits / temperature, sequences.targets)
    return Scores(
        token_log_probs(logits, sequences.targets),
        a2c.entropy(logits),
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
    algorithm: AlgorithmConfig,
    generator: torch.Generator,
) -> Experience:
    """Advantages, and the weights of the KL.

    Args:
        sequences: B episodes, those of one prompt next to each other.
        rewards: (B,)
        scores: of the episodes.
        alpha: the coefficient of the KL, where it is taken from the rewards (`kl_ahead`).
        generator: for weights that are drawn.

    Raises:
        InputError: as `advantages_of`.
    """
    mask = sequences.mask
    advantages, returns, scale = advantages_of(rewards, scores.values, mask, algorithm)
    if penalty.placement == "reward":
        weights = penalty.weights(scores.reference_logits, mask, entropies=scores.entropies, generator=generator)
        ahead = kl_ahead(alpha * weights, scores.divergences, mask, algorithm)
        advantages = advantages - ahead
        if ALGORITHMS[algorithm.name].has_critic:
            returns = returns - scale * ahead
    else:
        weights = penalty.weights(
            scores.reference_logits,
            mask,
            log_probs=scores.log_probs,
            advantages=advantages,
            entropies=scores.entropies,
            generator=generator,
        )
    learns = top_share(scores.entropies, mask, algorithm.policy_share)
    return Experience(sequences, scores.log_probs, advantages, returns, scores.reference_logits, weights, learns)


def advantages_of(rewards: Tensor, values: Tensor, mask: Tensor, algorithm: AlgorithmConfig) -> tuple[Tensor, Tensor, float]:
    """The advantages of tokens, and the returns that the critic should have expected, of the task's rewards alone.

    Advantages are measured in deviations of the episodes' rewards, GRPO's in those of each group: so one learning rate suits
    all.

    Args:
        rewards: (B,) of episodes.
        values, mask: (B, T)

    Returns:
        (B, T) each, 0 outside the mask; and the deviation, at least SMALLEST_DEVIATION.

    Raises:
        InputError: for a single episode, which has no deviation; and as `a2c.at_last_token` and the algorithm do.
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
    of_members = of_group(of_episodes / scale, algorithm.episodes_per_prompt)  # (B,)
    return of_members[:, None] * mask, torch.zeros_like(values), scale


def kl_ahead(weights: Tensor, divergences: Tensor, mask: Tensor, algorithm: AlgorithmConfig) -> Tensor:
    """What a KL in the reward takes off the advantage of each token: the weighted KL still to come.

    It is taken off after the task's rewards were divided by their deviation: divided with them, it would lose its coefficient
    wherever the task's rewards are all alike. So alpha has the same unit as with a KL in the loss: deviations of the task's
    reward, for a nat.

    With a critic this is the KL's part of the generalised advantage, which is linear in rewards. Without one it is the sum from
    the token to the end of its episode, minus the mean over the others of the prompt (0 where they have ended): a token has no
    part in what is past, and a baseline that does not depend on the token leaves the gradient unbiased. At the first token this
    is what RLOO makes of the KL of the whole episode.

    Args:
        weights: (B, T) with the coefficient.
        divergences, mask: (B, T); the KL of a token that does not count, or of weight 0, may be anything.

    Returns:
        (B, T), 0 outside the mask.
    """
    costs = (weights * divergences).masked_fill(~mask | (weights == 0), 0.0)
    if ALGORITHMS[algorithm.name].has_critic:
        return a2c.gae(costs, torch.zeros_like(costs), mask, algorithm.gamma, algorithm.gae_lambda)
    to_come = a2c.gae(costs, torch.zeros_like(costs), mask, gamma=1.0, lam=1.0)
    return rloo.advantages(to_come, algorithm.episodes_per_prompt).masked_fill(~mask, 0.0)
