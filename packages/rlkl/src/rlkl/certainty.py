"""A model's certainty of the next token, from 0 (uniform over the vocabulary) to 1 (one token has all the probability).

Shapes: V is the size of the vocabulary, `...` any leading dimensions, (B, T) for a batch of sequences.

Logits may be -inf, for tokens without probability; these tokens count in V. With a single token (V = 1, or all others are -inf)
the certainty is 1. Half precision is converted to float32; results are float32, or float64 for float64 logits.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from rlkl.distributions import at_least_float32, entropy, expectation


def negentropy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Normalised negentropy, (H_max - H) / H_max with H_max = log V: the certainty J of the paper (section 4).

    Args:
        logits: (..., V)
        temperature: the logits are divided by it first.

    Returns:
        (...) from 0 to 1.
    """
    if logits.shape[-1] == 1:  # H and H_max are both 0
        return max_probability(logits, temperature)
    log_probs = torch.log_softmax(at_least_float32(logits) / temperature, dim=-1)
    # (log V - H) / log V, computed as the KL to the uniform distribution, to avoid subtracting two large numbers
    return expectation(log_probs, log_probs + math.log(logits.shape[-1])).clamp_min(0.0) / math.log(logits.shape[-1])


def min_entropy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """As `negentropy`, with the min-entropy -log max p instead of H: 1 + log max p / log V. The paper's public code uses it.

    Args:
        logits: (..., V)
        temperature: the logits are divided by it first.

    Returns:
        (...) from 0 to 1, never below `negentropy`; depends only on the most likely token.
    """
    if logits.shape[-1] == 1:
        return max_probability(logits, temperature)
    top = torch.log_softmax(at_least_float32(logits) / temperature, dim=-1).amax(-1)
    return (1 + top / math.log(logits.shape[-1])).clamp_min(0.0)


def max_probability(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """The probability of the most likely token.

    Args:
        logits: (..., V)
        temperature: the logits are divided by it first.

    Returns:
        (...) from 1 / V to 1.
    """
    return torch.softmax(at_least_float32(logits) / temperature, dim=-1).amax(-1)


def mixture(logits: Tensor) -> Tensor:
    """The mean of several models' distributions, whose certainty is that of an ensemble.

    Where the members are each certain of another token, the mean is uncertain: so an ensemble can find what a single
    overconfident model is wrong about.

    Args:
        logits: (K, ..., V) of K members.

    Returns:
        (..., V) log-probabilities.
    """
    return at_least_float32(logits).log_softmax(-1).logsumexp(0) - math.log(len(logits))


def disagreement(logits: Tensor) -> Tensor:
    """How much the members of an ensemble differ: the entropy of their mean, less the mean of their entropies, in nats.

    It is the mutual information of the next token and the member (BALD, Houlsby et al., 2011, arXiv 1112.5745).

    Args: logits: (K, ..., V) of K members. Returns: (...) from 0, where all are equal, to log K.
    """
    return (entropy(mixture(logits)) - entropy(logits).mean(0)).clamp_min(0.0)


def from_entropy(entropy: Tensor, vocabulary: int) -> Tensor:
    """A certainty from an entropy that a trainer has computed: 1 - H / log V, `negentropy` up to rounding.

    Args:
        entropy: (...) in nats: Shannon's; Renyi's of order 2 gives the certainty Renyi-2.
        vocabulary: V, at least 2.

    Returns:
        (...) from 0 to 1, float32.
    """
    return (1 - entropy.float() / math.log(vocabulary)).clamp(0.0, 1.0)


Certainty = Callable[[Tensor, float], Tensor]
CERTAINTIES: dict[str, Certainty] = {
    "negentropy": negentropy,
    "min_entropy": min_entropy,
    "max_probability": max_probability,
}
