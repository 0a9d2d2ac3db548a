"""The weights of the KL per token, with statistics over the completions of all processes.

Shapes: (B, T) completions of this process; V the size of the vocabulary.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor

from rlkl import certainty as measures
from rlkl.algorithms import zcpo
from rlkl.algorithms.groups import constant_groups
from rlkl.calibration import rank_weights
from rlkl.distributions import at_least_float32
from rlkl.weighting import prioritized, shuffled, top_share_of_rows

BINS = 10


def renyi2(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """The normalised negentropy with Renyi's entropy of order 2, -log sum p^2, instead of Shannon's: 1 + log(sum p^2) / log V.

    Args:
        logits: (..., V)
        temperature: the logits are divided by it first.

    Returns:
        (...) from 0 to 1, between `negentropy` and `min_entropy`.
    """
    if logits.shape[-1] == 1:  # certain, where both entropies are 0
        return measures.max_probability(logits, temperature)
    log_probs = torch.log_softmax(at_least_float32(logits) / temperature, dim=-1)
    return (1 + torch.logsumexp(2 * log_probs, dim=-1) / math.log(logits.shape[-1])).clamp(0.0, 1.0)


CERTAINTIES: dict[str, Callable[[Tensor, float], Tensor]] = {**measures.CERTAINTIES, "renyi2": renyi2}


@dataclass(frozen=True)
class Weights:
    """Turns certainties into weights.

    Attributes:
        weighting: as in the config, except `top_entropy`, which needs the policy.
        exponent: of the certainty, for `prioritized`, `matched_mean` and `shuffled`.
        token_share: for `certain_tokens`.
        measured: (N,) certainties in ascending order, for `rank`.
        share: the share of tokens with a weight below one half, for `rank`.
    """

    weighting: str
    exponent: float | None = None
    token_share: float = 0.2
    measured: Tensor | None = None
    share: float | None = None

    def of(self, certainty: Tensor, mask: Tensor, accelerator: Accelerator, seed: int) -> Tensor:
        """Args: certainty, mask (B, T); seed: the same in all processes, for `shuffled`. Returns: (B, T), no gradient."""
        if self.weighting == "rank":
            assert self.measured is not None
            assert self.share is not None
            return rank_weights(certainty, self.measured, self.share)
        if self.weighting == "certain_tokens":
            return (~top_share_of_rows(-certainty, mask, self.token_share)).to(certainty.dtype)
        assert self.exponent is not None
        weights = prioritized(certainty, mask, self.exponent)
        if self.weighting == "matched_mean":
            return torch.full_like(weights, global_mean(weights, mask, accelerator))
        if self.weighting == "shuffled":
            return shuffled_over_processes(weights, mask, accelerator, seed)
        return weights


def global_mean(values: Tensor, mask: Tensor, accelerator: Accelerator) -> float:
    """The mean over the tokens of all processes. Args: values, mask (B, T)."""
    total, count = global_sums(torch.stack([values[mask].float().sum(), mask.sum().float()]), accelerator)
    return total / max(count, 1.0)


def global_sums(values: Tensor, accelerator: Accelerator) -> list[float]:
    """The sums over processes. Args: values (n,)."""
    sums: list[float] = accelerator.reduce(values.detach(), reduction="sum").tolist()
    return sums


def shuffled_over_processes(weights: Tensor, mask: Tensor, accelerator: Accelerator, seed: int) -> Tensor:
    """`rlkl.weighting.shuffled` over the tokens of all processes; independent of the number of processes.

    Args: weights, mask (B, T); T may differ between processes, B not. Returns: (B, T).
    """
    generator = torch.Generator().manual_seed(seed)
    if accelerator.num_processes == 1:
        return shuffled(weights, mask, generator)
    rows, columns = weights.shape
    everyone = accelerator.gather(accelerator.pad_across_processes(weights.contiguous(), dim=1))  # (processes * B, longest T)
    masks = accelerator.gather(accelerator.pad_across_processes(mask.to(torch.uint8).contiguous(), dim=1)).bool()
    start = accelerator.process_index * rows
    return shuffled(everyone, masks, generator)[start : start + rows, :columns]


def zero_sum_coefficients(advantages: Tensor, drift: Tensor, completions: int, coefficient: float) -> Tensor:
    """ZCPO's coefficients, which take the place of advantages (`rlkl.algorithms.zcpo`).

    Args:
        advantages: (N,) of the completions of all processes, group after group; divided by the same number in each group.
        drift: (N,) the mean weighted KL per token of each completion.
        completions: per group.
        coefficient: of the KL.

    Returns:
        (N,); they sum to 0 in each group, and are 0 in a group with equal advantages.
    """
    rewards = zcpo.advantages(advantages, completions)
    relative = zcpo.relative_drift(drift[:, None], torch.ones_like(drift, dtype=torch.bool)[:, None], completions)
    return rewards - coefficient * relative.masked_fill(constant_groups(advantages, completions), 0.0)


def statistics(weights: Tensor, divergence: Tensor, mask: Tensor, accelerator: Accelerator) -> dict[str, float]:
    """Metrics of a batch: KL, weighted KL, mean weight, share below one half, and a histogram of weights in tenths.

    Args: weights, divergence, mask (B, T). Returns: numbers over the tokens of all processes.
    """
    w, kl = weights.detach()[mask].float(), divergence.detach()[mask].float()
    bins = torch.bincount((w * BINS).long().clamp(0, BINS - 1), minlength=BINS)
    local = torch.stack([w.new_tensor(len(w)), kl.sum(), (w * kl).sum(), w.sum(), (w < 0.5).sum().float(), *bins.float()])
    count, *sums = global_sums(local, accelerator)
    means = [total / max(count, 1.0) for total in sums]
    names = ["kl", "weighted_kl", "mean_weight", "share_below_half", *(f"weights/{k / BINS:.1f}" for k in range(BINS))]
    return dict(zip((f"kl_weighting/{name}" for name in names), means, strict=True))
