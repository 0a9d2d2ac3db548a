"""The loss for verl, as verl 0.9 calls it; verl itself needs GPUs."""

import inspect
import math
import pickle
from functools import partial

import pytest
import torch

from rlkl.integrations import verl
from rlkl.integrations.verl import WithReferenceEntropy, check_signature, prioritized_ppo_loss
from rlkl_htc_common.errors import InputError

from .verl_0_9 import LOSSES, Batch, RayPPOTrainer, config, install

V = 7
KINDS = ("low_var_kl", "mse", "kl")


@pytest.fixture
def losses(monkeypatch):
    return install(monkeypatch)


@pytest.fixture
def batch():
    """Log-probabilities of the policy (B, T), and what verl passes beside."""
    torch.manual_seed(0)
    shape = (3, 5)
    log_probs = (-torch.rand(shape)).requires_grad_()
    data = Batch(
        response_mask=(torch.arange(5) < torch.tensor([5, 2, 4])[:, None]).int(),
        old_log_probs=log_probs.detach() + 0.1 * torch.randn(shape),
        advantages=torch.randn(shape),
        ref_log_prob=-torch.rand(shape),
        ref_entropy=torch.rand(shape) * math.log(V),
    )
    return log_probs, data


@pytest.mark.parametrize("kind", KINDS)
def test_weight_one_is_verls_own_bit_for_bit(losses, batch, kind):
    log_probs, data = batch
    theirs, metrics = losses.ppo_loss(config(kl_loss_type=kind), {"log_probs": log_probs}, data)
    given = {"exponent": 0.0, "vocabulary": V}
    ours, logged = prioritized_ppo_loss(config(kl_loss_type=kind), {"log_probs": log_probs}, data, **given)
    assert torch.equal(theirs, ours)
    assert torch.equal(*(torch.autograd.grad(loss, log_probs, retain_graph=True)[0] for loss in (theirs, ours)))
    assert torch.equal(metrics["kl_loss"], logged["kl_loss"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("exponent", [0.5, 3.0, 40.0])
def test_the_weighted_kl_by_a_loop(losses, batch, exponent, kind):
    log_probs, data = batch
    loss, metrics = prioritized_ppo_loss(
        config(kl_loss_type=kind), {"log_probs": log_probs}, data, exponent=exponent, vocabulary=V
    )
    without, _ = losses.ppo_loss(config(use_kl_loss=False), {"log_probs": log_probs}, data)
    total = 0.0
    for row, place in data["response_mask"].nonzero().tolist():
        weight = (1 - float(data["ref_entropy"][row, place]) / math.log(V)) ** exponent
        moved = float(log_probs[row, place].detach() - data["ref_log_prob"][row, place])
        total += weight * {"low_var_kl": math.exp(-moved) + moved - 1, "mse": moved**2 / 2, "kl": moved}[kind]
    expected = total / int(data["response_mask"].sum())
    assert metrics["kl_loss"].item() == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert loss.item() - without.item() == pytest.approx(0.5 * expected, rel=1e-3, abs=1e-5)


def test_a_token_of_weight_0_has_no_gradient_whatever_its_kl(losses, batch):
    log_probs, data = batch
    data["ref_entropy"][:, 0] = math.log(V)
    data["ref_log_prob"][:, 0] = -math.inf
    settings = config(kl_loss_type="mse")
    loss, _ = prioritized_ppo_loss(settings, {"log_probs": log_probs}, data, exponent=2.0, vocabulary=V)
    without, _ = losses.ppo_loss(config(use_kl_loss=False), {"log_probs": log_probs}, data)
    ours, theirs = (torch.autograd.grad(each, log_probs, retain_graph=True)[0] for each in (loss, without))
    assert loss.isfinite()
    assert torch.equal(ours[:, 0], theirs[:, 0])
    assert not torch.equal(ours[:, 1:], theirs[:, 1:])


def test_verls_function_is_put_back(losses, batch):
    theirs = losses.kl_penalty
    log_probs, data = batch
    prioritized_ppo_loss(config(), {"log_probs": log_probs}, data, exponent=1.0, vocabulary=V)
    with pytest.raises(KeyError):
        prioritized_ppo_loss(config(), {}, data, exponent=1.0, vocabulary=V)
    assert losses.kl_penalty is theirs


def test_workers_get_it_bound_as_verl_binds_its_own(losses, batch):
    log_probs, data = batch
    bound = pickle.loads(pickle.dumps(partial(prioritized_ppo_loss, config=config(), exponent=1.0, vocabulary=V)))
    loss, _ = bound(model_output={"log_probs": log_probs}, data=data, dp_group=None)  # verl's engine passes names
    assert loss.isfinite()


REFUSED = [
    ({"use_kl_loss": False}, {}, {}, "There is no KL to weigh"),
    ({"kl_loss_coef": 0.0}, {}, {}, "There is no KL to weigh"),
    ({}, {"exponent": -1.0}, {}, "exponent must be a number of at least 0, not -1.0"),
    ({}, {"exponent": math.nan}, {}, "exponent must be a number of at least 0"),
    ({}, {}, {"ref_entropy": None}, "The batch has no ref_entropy. Put WithReferenceEntropy before RayPPOTrainer"),
]


@pytest.mark.parametrize(("settings", "given", "without", "message"), REFUSED)
def test_what_would_weigh_nothing_is_refused(losses, batch, settings, given, without, message):
    log_probs, data = batch
    data = Batch({name: values for name, values in data.items() if name not in without})
    with pytest.raises(InputError, match=message):
        prioritized_ppo_loss(config(**settings), {"log_probs": log_probs}, data, **({"exponent": 1.0, "vocabulary": V} | given))


MOVED = {
    "its ppo_loss takes": (
        "def ppo_loss(config, model_output, data, dp_group=None)",
        "def ppo_loss(config, data, model_output)",
    ),
    "computed the KL 0 times": (
        "kld = kl_penalty(logprob=log_prob,",
        "kld = (lambda logprob, ref_logprob, kl_penalty: logprob)(logprob=log_prob,",
    ),
    "computed the KL 2 times": (
        "        kl_loss = agg_loss",
        "        kl_penalty(log_prob, log_prob, 'kl')\n        kl_loss = agg_loss",
    ),
    "its KL has the shape": ("kl_penalty(logprob=log_prob,", "kl_penalty(logprob=log_prob[:, 1:],"),
}


@pytest.mark.parametrize("message", MOVED)
def test_a_loss_that_moved_raises_and_never_weighs_uniformly(monkeypatch, batch, message):
    before, after = MOVED[message]
    assert LOSSES.count(before) == 1
    moved = LOSSES.replace(before, after)
    install(monkeypatch, moved)
    log_probs, data = batch
    with pytest.raises(RuntimeError, match=message):
        prioritized_ppo_loss(config(), {"log_probs": log_probs}, data, exponent=1.0, vocabulary=V)


class Trainer(WithReferenceEntropy, RayPPOTrainer):
    """verl's trainer that keeps the reference's entropies."""


@pytest.mark.parametrize("shared", [False, True], ids=["full", "lora"])
def test_the_reference_is_asked_for_its_entropy(losses, shared):
    log_probs, entropies = -torch.rand(2, 3), torch.rand(2, 3).half()
    trainer = Trainer(log_probs, entropies, ref_in_actor=shared)
    group = trainer.actor_rollout_wg if shared else trainer.ref_policy_wg
    before = dict(vars(group))
    found = trainer._compute_ref_log_prob({"input_ids": torch.ones(2, 3)})
    assert torch.equal(found.batch["ref_log_prob"], log_probs)
    assert torch.equal(found.batch["ref_entropy"], entropies.float())
    (asked,) = trainer.asked
    assert asked["calculate_entropy"]
    assert asked.get("no_lora_adapter", False) == shared
    assert vars(group) == before


def test_a_trainer_without_a_pass_of_the_reference_raises(losses):
    class Moved(RayPPOTrainer):
        def _compute_ref_log_prob(self, batch):
            return None

    trainer = type("Trainer", (WithReferenceEntropy, Moved), {})(torch.zeros(1, 1), torch.zeros(1, 1))
    with pytest.raises(RuntimeError, match="took 0 passes of the reference, not one"):
        trainer._compute_ref_log_prob({})


def test_a_missing_verl_is_asked_for(batch):
    log_probs, data = batch
    with pytest.raises(InputError, match=r"needs verl 0.9 and 0.10.dev, with verl.workers.utils.losses"):
        prioritized_ppo_loss(config(), {"log_probs": log_probs}, data, exponent=1.0, vocabulary=V)


def test_an_installed_verl_computes_its_loss_as_the_known_one():
    """A canary: it fails where verl's loss has moved."""
    found = pytest.importorskip("verl.workers.utils.losses", reason="verl is not installed")
    check_signature(found.ppo_loss)
    assert inspect.getsource(found.ppo_loss).count("kl_penalty(logprob=log_prob, ref_logprob=ref_log_prob") == 1, verl.KNOWN
