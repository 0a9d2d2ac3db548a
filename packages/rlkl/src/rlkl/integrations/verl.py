"""The weighted KL in verl: its PPO loss with weights on the KL term.

    loss = partial(prioritized_ppo_loss, config=actor_config, exponent=10.0, vocabulary=151_936)
    trainer.actor_rollout_wg.set_loss_fn(loss)

verl's loss is not copied. It computes the KL of each token by one call of `kl_penalty`; during the loss, that name stands for a
function that weighs its result and counts the calls. If a verl computes its loss in another way, an error is raised; it never
trains with a uniform KL.

verl asks the reference for log-probabilities only. `WithReferenceEntropy` makes a trainer ask for the entropy too, and keeps it
with the batch as `ref_entropy`.

Written for the worker loss of verl 0.9 and 0.10.dev, from their code; verl was not run with it.
"""

import importlib
import inspect
import math
from typing import Any

from torch import Tensor

from rlkl.certainty import from_entropy
from rlkl.weighting import prioritized
from rlkl_htc_common.errors import InputError

KNOWN = "0.9 and 0.10.dev"  # the versions of verl whose loss was read
SIGNATURE = ("config", "model_output", "data", "dp_group")  # of their ppo_loss
LOSSES = "verl.workers.utils.losses"
ENTROPY = "ref_entropy"  # the field of the batch with the reference's entropies


def prioritized_ppo_loss(
    config: Any, model_output: Any, data: Any, dp_group: Any = None, *, exponent: float, vocabulary: int
) -> tuple[Tensor, dict[str, Any]]:
    """verl's `ppo_loss` with the KL of each token times certainty ** exponent. With exponent 0, it is verl's, bit for bit.

    Args:
        config: verl's actor config, with `use_kl_loss`.
        model_output, data, dp_group: as verl passes them; `data` has `ref_entropy` (B, T), see `WithReferenceEntropy`.
        exponent: of the reference's certainty (the paper's beta).
        vocabulary: its size.

    Returns:
        The loss, and verl's metrics; `kl_loss` among them is of the weighted KL.

    Raises:
        InputError: without a KL in the loss, or without the reference's entropies.
        RuntimeError: if verl's loss is not as in the versions that are known.
    """
    if not (config.use_kl_loss and config.kl_loss_coef > 0):
        raise InputError("There is no KL to weigh. Set actor.use_kl_loss=True, and actor.kl_loss_coef above 0.")
    if not 0 <= exponent < math.inf:
        raise InputError(f"exponent must be a number of at least 0, not {exponent}.")
    if ENTROPY not in data:
        raise InputError(f"The batch has no {ENTROPY}. Put WithReferenceEntropy before RayPPOTrainer in the trainer's bases.")
    losses = _module(LOSSES)
    check_signature(losses.ppo_loss)
    entropies = data.select(ENTROPY).to_padded_tensor()[ENTROPY]  # (B, T), as verl does with ref_log_prob
    certainty = from_entropy(entropies, vocabulary)
    weights, theirs, calls = prioritized(certainty, certainty >= 0, exponent), losses.kl_penalty, 0

    def weighed(logprob: Tensor, ref_logprob: Tensor, kl_penalty: str) -> Tensor:
        nonlocal calls
        calls += 1
        if logprob.shape != weights.shape:
            raise _moved(f"its KL has the shape {tuple(logprob.shape)}, not {tuple(weights.shape)}")
        left_out = weights == 0  # times 0, an infinite KL would be NaN
        sides = (side.masked_fill(left_out, 0.0) for side in (logprob, ref_logprob))
        divergence: Tensor = theirs(*sides, kl_penalty)
        return weights * divergence

    losses.kl_penalty = weighed
    try:
        loss, metrics = losses.ppo_loss(config, model_output, data, dp_group)
    finally:
        losses.kl_penalty = theirs
    if calls != 1:
        raise _moved(f"it computed the KL {calls} times, not once")
    return loss, metrics


class WithReferenceEntropy:
    """For a trainer of verl: also keep the entropy of the reference's pass, as `ref_entropy`.

    class Trainer(WithReferenceEntropy, RayPPOTrainer): ...
    """

    def _compute_ref_log_prob(self, batch: Any) -> Any:
        """The reference's log-probabilities and entropies. Args: batch: a DataProto. Returns: a DataProto."""
        fields, padding = _module("verl.utils.tensordict_utils"), _module("verl.workers.utils.padding")
        shared = getattr(self, "ref_in_actor", False)  # with LoRA, the reference is the actor without its adapter
        group = self.actor_rollout_wg if shared else self.ref_policy_wg  # type: ignore[attr-defined]
        name, seen = "compute_log_prob" if shared else "compute_ref_log_prob", []
        theirs = getattr(group, name)

        def with_entropy(data: Any) -> Any:
            fields.assign_non_tensor(data, calculate_entropy=True)
            output = theirs(data)
            seen.append(padding.no_padding_2_padding(fields.get(output, "entropy"), data))
            return output

        setattr(group, name, with_entropy)
        try:
            found = super()._compute_ref_log_prob(batch)  # type: ignore[misc]
        finally:
            setattr(group, name, theirs)
        if len(seen) != 1:
            raise _moved(f"its trainer took {len(seen)} passes of the reference, not one")
        found.batch[ENTROPY] = seen[0].float()
        return found


def check_signature(ppo_loss: Any) -> None:
    """Raise RuntimeError if a verl's loss takes other arguments than those of the known versions."""
    found = tuple(inspect.signature(ppo_loss).parameters)
    if found != SIGNATURE:
        raise _moved(f"its ppo_loss takes ({', '.join(found)}), not ({', '.join(SIGNATURE)})")


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"rlkl.integrations.verl needs verl {KNOWN}, with {name}: {error}.") from None


def _moved(what: str) -> RuntimeError:
    return RuntimeError(
        f"verl does not compute what the weighted KL relies on: {what}. Its code is other than in {KNOWN}; nothing was trained "
        "with it."
    )
