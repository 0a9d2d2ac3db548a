"""The weighted KL in slime, as its custom advantage function.

    --custom-advantage-function-path rlkl.integrations.slime.prioritized_advantages
    --custom-config-path rlkl.yaml       with rlkl_exponent: 10.0
    --use-rollout-entropy --kl-coef 0.05 --advantage-estimator grpo

slime calls the function once per batch of rollouts, after it has computed the KL: fn(args, rollout_data). The function puts
lists of tensors, one per sample, into rollout_data["advantages"] and rollout_data["returns"]. With --use-rollout-entropy, slime
keeps the entropy of the reference's pass, so the certainty costs no further pass.

On policy, A - kl_coef * weight * (log p - log q) has the gradient of the weighted k2, as `via="advantages"` in TRL.

Written for slime 0.4.0 (slime/backends/megatron_utils/loss.py), from its code; slime needs GPUs and was not run with it.
"""

import math
from typing import Any

import torch
from torch import Tensor

from rlkl.certainty import from_entropy
from rlkl.weighting import prioritized, to_the_end
from rlkl_htc_common.errors import InputError

KNOWN = "0.4.0"  # the version of slime whose call was read
ESTIMATORS = ("grpo", "cispo")  # of slime: the advantage of a token multiplies a term of this token alone
VIA = ("token", "future")


def prioritized_advantages(args: Any, rollout_data: dict[str, Any]) -> None:
    """Put the advantages into `rollout_data`: the reward minus kl_coef times the weighted log-ratio of the token.

    Args:
        args: slime's arguments, and the keys of the YAML in --custom-config-path. `rlkl_exponent`: of the certainty (the
            paper's beta); 0 for a uniform KL. `rlkl_via`: `token` (default), or `future` for the sum from the token to the end
            of its response (Yao et al. 2026, FRPO, arXiv 2601.10201). `rlkl_vocabulary`: the size of the vocabulary; slime's
            vocab_size if it is not given.
        rollout_data: lists with an entry per sample, R tokens of response each: `rewards` (numbers, normalised by slime),
            `log_probs` (or `rollout_log_probs` with --use-rollout-logprobs), `ref_log_probs`, `ref_entropy` and `loss_masks`
            (R,). Gets `advantages` and `returns`, lists of (R,).

    Raises:
        InputError: for settings with which the KL would be another one, or data that slime was not told to keep.
    """
    _check(args)
    log_probs = _kept(rollout_data, "rollout_log_probs" if args.use_rollout_logprobs else "log_probs", "--kl-coef above 0")
    references = _kept(rollout_data, "ref_log_probs", "--kl-coef above 0, and the reference in --ref-load")
    entropies = _kept(rollout_data, "ref_entropy", "--use-rollout-entropy")
    vocabulary = int(getattr(args, "rlkl_vocabulary", None) or args.vocab_size)
    future = getattr(args, "rlkl_via", "token") == "future"
    masks = rollout_data["loss_masks"] if future else [None] * len(log_probs)
    samples = zip(rollout_data["rewards"], log_probs, references, entropies, masks, strict=True)
    advantages = [
        reward - args.kl_coef * weighted_log_ratio(policy, reference, entropy, vocabulary, args.rlkl_exponent, mask)
        for reward, policy, reference, entropy, mask in samples
    ]
    rollout_data["advantages"] = advantages
    rollout_data["returns"] = list(advantages)


@torch.no_grad()
def weighted_log_ratio(
    log_probs: Tensor, reference: Tensor, entropies: Tensor, vocabulary: int, exponent: float, until_end: Tensor | None = None
) -> Tensor:
    """certainty ** exponent * (log p - log q) of the tokens of a response; 0 where the weight is 0.

    Args:
        log_probs, reference: (R,) of the sampled tokens, under the policy that sampled and under the reference.
        entropies: (R,) of the reference, in nats.
        vocabulary: its size.
        exponent: of the certainty.
        until_end: (R,) 1 for tokens that count; then each gets the sum from it to the end of the response.

    Returns:
        (R,), float32.
    """
    everywhere = torch.ones_like(entropies, dtype=torch.bool)
    weights = prioritized(from_entropy(entropies, vocabulary), everywhere, exponent)
    moved = (weights * (log_probs.float() - reference.float())).masked_fill(weights == 0, 0.0)
    if until_end is None:
        return moved
    return to_the_end(moved[None], until_end.to(moved.device).bool()[None])[0]


def _check(args: Any) -> None:
    """Raise InputError for settings with which the KL would be another one."""
    exponent, via = getattr(args, "rlkl_exponent", None), getattr(args, "rlkl_via", "token")
    if not isinstance(exponent, int | float) or not 0 <= exponent < math.inf:
        raise InputError(
            "rlkl_exponent, the power of the certainty, must be a number of at least 0, in the YAML of --custom-config-path; "
            f"it is {exponent!r}."
        )
    if via not in VIA:
        raise InputError(f"rlkl_via must be one of {', '.join(VIA)}, not {via!r}.")
    if not 0 < args.kl_coef < math.inf:
        raise InputError(f"--kl-coef, the coefficient of the KL, must be above 0, not {args.kl_coef}: at 0 slime has no KL.")
    if getattr(args, "use_kl_loss", False) and args.kl_loss_coef:
        raise InputError("--use-kl-loss adds a second KL without weights. Leave it out.")
    if args.advantage_estimator not in ESTIMATORS:
        raise InputError(
            f"--advantage-estimator must be one of {', '.join(ESTIMATORS)}, not {args.advantage_estimator}: others do not "
            "treat the advantages of tokens one by one."
        )
    if args.normalize_advantages:
        raise InputError("--normalize-advantages would divide the KL by the deviation of the advantages. Leave it out.")
    if via == "future" and getattr(args, "context_parallel_size", 1) > 1:
        raise InputError("rlkl_via=future needs whole responses, which --context-parallel-size splits. Use rlkl_via=token.")


def _kept(rollout_data: dict[str, Any], name: str, how: str) -> list[Tensor]:
    found = rollout_data.get(name)
    if not found:
        raise InputError(f"slime kept no {name} of these rollouts; it does with {how} (slime {KNOWN}).")
    return list(found)
