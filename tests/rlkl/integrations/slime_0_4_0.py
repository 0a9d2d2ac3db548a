"""A stand-in for the part of slime 0.4.0 that calls a custom advantage function, as its code was read.

slime/backends/megatron_utils/loss.py, compute_advantages_and_returns: the KL per sample is put into rollout_data["kl"]; then
`fn(args, rollout_data)` is called, and "advantages" and "returns" are read; with one optimizer step, the policy's loss is the
clipped surrogate with these advantages. Without --use-rollout-entropy there is no "ref_entropy".
"""

from types import SimpleNamespace

import torch


def arguments(**more):
    """slime's arguments, with the keys of --custom-config-path among them."""
    given = {
        "kl_coef": 0.5,
        "kl_loss_type": "k1",
        "use_kl_loss": False,
        "kl_loss_coef": 0.0,
        "use_rollout_logprobs": False,
        "use_rollout_entropy": True,
        "normalize_advantages": False,
        "advantage_estimator": "grpo",
        "context_parallel_size": 1,
        "vocab_size": 7,
        "rlkl_exponent": 3.0,
    }
    return SimpleNamespace(**{name: value for name, value in (given | more).items() if value is not ...})


def rollouts(lengths, vocabulary=7, seed=0):
    """(data as after slime's passes of reference and actor, logits of both per sample)."""
    generator = torch.Generator().manual_seed(seed)
    logits = {
        side: [2 * torch.randn(length, vocabulary, generator=generator) for length in lengths]
        for side in ("policy", "reference")
    }
    tokens = [torch.randint(vocabulary, (length, 1), generator=generator) for length in lengths]
    of = {side: [each.log_softmax(-1) for each in logits[side]] for side in logits}
    data = {
        "rewards": [1.0, -1.0, 0.5][: len(lengths)],
        "response_lengths": list(lengths),
        "total_lengths": [length + 4 for length in lengths],
        "loss_masks": [torch.ones(length, dtype=torch.int) for length in lengths],
        "log_probs": [p.gather(-1, t).squeeze(-1) for p, t in zip(of["policy"], tokens, strict=True)],
        "ref_log_probs": [p.gather(-1, t).squeeze(-1) for p, t in zip(of["reference"], tokens, strict=True)],
        "ref_entropy": [-(p.exp() * p).sum(-1) for p in of["reference"]],
    }
    return data, logits, tokens


def compute_advantages_and_returns(args, rollout_data, custom):
    """The call, and what slime reads afterwards. Returns: lists of advantages and returns."""
    log_probs = rollout_data["rollout_log_probs" if args.use_rollout_logprobs else "log_probs"]
    rollout_data["kl"] = [p - q for p, q in zip(log_probs, rollout_data["ref_log_probs"], strict=True)]
    custom(args, rollout_data)
    return rollout_data["advantages"], rollout_data["returns"]
