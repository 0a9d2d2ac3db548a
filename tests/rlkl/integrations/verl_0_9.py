"""A stand-in for the parts of verl 0.9 that the adapter touches, as its code was read, with tensors in place of TensorDict.

verl/workers/utils/losses.py, ppo_loss(config, model_output, data, dp_group): it selects the fields that it knows, so others are
lost, pads them, and calls `kl_penalty(logprob=, ref_logprob=, kl_penalty=)` of its module once if config.use_kl_loss.
verl/trainer/ppo/ray_trainer.py, _compute_ref_log_prob(batch): one pass of the reference, which is not asked for entropies.
"""

import sys
from types import ModuleType, SimpleNamespace

import torch


class Batch(dict):
    """What the adapter uses of a TensorDict."""

    def select(self, *names):
        return Batch({name: self[name] for name in names})

    def to_padded_tensor(self):
        return self


def config(**more):
    """The actor's config."""
    given = {"use_kl_loss": True, "kl_loss_coef": 0.5, "kl_loss_type": "low_var_kl", "clip_ratio": 0.2}
    return SimpleNamespace(**(given | more))


LOSSES = """
import torch

def kl_penalty(logprob, ref_logprob, kl_penalty):
    if kl_penalty == "kl":
        return logprob - ref_logprob
    if kl_penalty == "mse":
        return 0.5 * (logprob - ref_logprob).square()
    moved = (ref_logprob - logprob).clamp(-20, 20)
    return (moved.exp() - moved - 1).clamp(-10, 10)

def agg_loss(loss_mat, loss_mask):
    return torch.where(loss_mask, loss_mat, 0.0).sum() / loss_mask.sum()

def ppo_loss(config, model_output, data, dp_group=None):
    log_prob = model_output["log_probs"]
    data = data.select("response_mask", "old_log_probs", "advantages", "ref_log_prob").to_padded_tensor()
    mask = data["response_mask"].to(bool)
    ratio = (log_prob - data["old_log_probs"]).exp()
    clipped = ratio.clamp(1 - config.clip_ratio, 1 + config.clip_ratio)
    loss = agg_loss(torch.maximum(-data["advantages"] * ratio, -data["advantages"] * clipped), mask)
    metrics = {}
    if config.use_kl_loss:
        kld = kl_penalty(logprob=log_prob, ref_logprob=data["ref_log_prob"], kl_penalty=config.kl_loss_type)
        kl_loss = agg_loss(loss_mat=kld, loss_mask=mask)
        loss = loss + kl_loss * config.kl_loss_coef
        metrics["kl_loss"] = kl_loss.detach()
    return loss, metrics
"""


def install(monkeypatch, losses=LOSSES):
    """Make the stand-in importable as verl. Returns: its module of losses."""
    made = {}
    for name in ("verl", "verl.workers", "verl.workers.utils", "verl.utils"):
        made[name] = ModuleType(name)
        made[name].__path__ = []
    made["verl.workers.utils.losses"] = ModuleType("verl.workers.utils.losses")
    exec(losses, vars(made["verl.workers.utils.losses"]))
    fields = ModuleType("verl.utils.tensordict_utils")
    fields.assign_non_tensor = lambda data, **given: data.update(given)
    fields.get = lambda data, name: data[name]
    padding = ModuleType("verl.workers.utils.padding")
    padding.no_padding_2_padding = lambda tensor, data: (
        torch.nested.to_padded_tensor(tensor, 0.0) if tensor.is_nested else tensor
    )
    made |= {"verl.utils.tensordict_utils": fields, "verl.workers.utils.padding": padding}
    for name, module in made.items():
        monkeypatch.setitem(sys.modules, name, module)
    return made["verl.workers.utils.losses"]


class RayPPOTrainer:
    """The reference's pass of verl's trainer. Args: entropies (B, T) of the reference; ref_in_actor: LoRA."""

    def __init__(self, log_probs, entropies, ref_in_actor=False):
        self.ref_in_actor, self.asked = ref_in_actor, []

        def infer(data):
            self.asked.append(dict(data))
            return {"log_probs": log_probs} | ({"entropy": entropies} if data["calculate_entropy"] else {})

        name = "compute_log_prob" if ref_in_actor else "compute_ref_log_prob"
        setattr(self, "actor_rollout_wg" if ref_in_actor else "ref_policy_wg", SimpleNamespace(**{name: infer}))

    def _compute_ref_log_prob(self, batch):
        data = Batch(batch) | {"calculate_entropy": False, "compute_loss": False}
        if self.ref_in_actor:
            output = self.actor_rollout_wg.compute_log_prob(data | {"no_lora_adapter": True})
        else:
            output = self.ref_policy_wg.compute_ref_log_prob(data)
        return SimpleNamespace(batch={"ref_log_prob": output["log_probs"].float()})
