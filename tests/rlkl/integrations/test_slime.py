"""The advantage function for slime, as slime 0.4.0 calls it; slime itself needs GPUs."""

import inspect
import math

import pytest
import torch

from rlkl import certainty, kl
from rlkl.integrations import slime
from rlkl.integrations.slime import prioritized_advantages
from rlkl_htc_common.errors import InputError

from .slime_0_4_0 import arguments, compute_advantages_and_returns, rollouts

LENGTHS = (4, 1, 6)


@pytest.mark.parametrize("via", ["token", "future"])
@pytest.mark.parametrize("exponent", [0.0, 3.0, 1e6])
def test_advantages_by_a_loop(exponent, via):
    args = arguments(rlkl_exponent=exponent, rlkl_via=via)
    data, logits, _ = rollouts(LENGTHS)
    data["loss_masks"][2][1:3] = 0  # the output of a tool
    advantages, returns = compute_advantages_and_returns(args, data, prioritized_advantages)
    for sample, length in enumerate(LENGTHS):
        weights = certainty.negentropy(logits["reference"][sample]) ** exponent
        taken = [float(weights[t] * (data["log_probs"][sample][t] - data["ref_log_probs"][sample][t])) for t in range(length)]
        counts = data["loss_masks"][sample].tolist()
        for t in range(length):
            ahead = sum(taken[u] for u in range(t, length) if counts[u]) if via == "future" else taken[t]
            assert float(advantages[sample][t]) == pytest.approx(data["rewards"][sample] - 0.5 * ahead, abs=1e-5)
        assert torch.equal(advantages[sample], returns[sample])
        assert advantages[sample].shape == (length,)
        assert not advantages[sample].requires_grad


def test_a_uniform_kl_is_slimes_own():
    """With exponent 0 the KL that is taken off is slime's k1."""
    args, (data, _, _) = arguments(rlkl_exponent=0), rollouts(LENGTHS)
    advantages, _ = compute_advantages_and_returns(args, data, prioritized_advantages)
    for reward, own, divergence in zip(data["rewards"], advantages, data["kl"], strict=True):
        torch.testing.assert_close(own, reward - 0.5 * divergence)


def test_on_policy_it_has_the_gradient_of_the_weighted_k2():
    args, (data, logits, tokens) = arguments(), rollouts((6,))
    advantages, _ = compute_advantages_and_returns(args, data, prioritized_advantages)
    policy = logits["policy"][0].requires_grad_()
    log_probs = policy.log_softmax(-1).gather(-1, tokens[0]).squeeze(-1)
    ratio = (log_probs - log_probs.detach()).exp()  # slime's surrogate before the first step
    ours = torch.autograd.grad(-(ratio * advantages[0]).mean(), policy, retain_graph=True)[0]
    weights = certainty.negentropy(logits["reference"][0]) ** 3.0
    penalty = 0.5 * (weights * kl.k2(log_probs, data["ref_log_probs"][0])).mean()
    expected = torch.autograd.grad(-(ratio * data["rewards"][0]).mean() + penalty, policy)[0]
    torch.testing.assert_close(ours, expected)


def test_log_probs_of_the_rollout_are_taken_where_slime_takes_them():
    data, _, _ = rollouts(LENGTHS)
    data["rollout_log_probs"] = [values - 0.25 for values in data.pop("log_probs")]
    advantages, _ = compute_advantages_and_returns(
        arguments(use_rollout_logprobs=True, rlkl_exponent=0), data, prioritized_advantages
    )
    expected = data["rewards"][0] - 0.5 * (data["rollout_log_probs"][0] - data["ref_log_probs"][0])
    torch.testing.assert_close(advantages[0], expected)


def test_a_vocabulary_may_be_given():
    data, _, _ = rollouts(LENGTHS)
    compute_advantages_and_returns(arguments(vocab_size=..., rlkl_vocabulary=7), data, prioritized_advantages)
    other, _, _ = rollouts(LENGTHS)
    compute_advantages_and_returns(arguments(), other, prioritized_advantages)
    assert all(map(torch.equal, data["advantages"], other["advantages"]))


def test_a_token_of_weight_0_may_have_any_ratio():
    data, _, _ = rollouts(LENGTHS)
    data["ref_entropy"][0][:] = math.log(7)
    data["ref_log_probs"][0][:] = -math.inf
    advantages, _ = compute_advantages_and_returns(arguments(), data, prioritized_advantages)
    assert advantages[0].tolist() == [1.0] * 4


REFUSED = [
    ({"rlkl_exponent": ...}, {}, "rlkl_exponent, the power of the certainty, must be a number of at least 0"),
    ({"rlkl_exponent": -1.0}, {}, "it is -1.0"),
    ({"rlkl_exponent": "10"}, {}, "it is '10'"),
    ({"rlkl_exponent": math.nan}, {}, "it is nan"),
    ({"rlkl_via": "loss"}, {}, "rlkl_via must be one of token, future, not 'loss'"),
    ({"kl_coef": 0.0}, {}, "--kl-coef, the coefficient of the KL, must be above 0"),
    ({"use_kl_loss": True, "kl_loss_coef": 0.01}, {}, "--use-kl-loss adds a second KL"),
    ({"advantage_estimator": "ppo"}, {}, "--advantage-estimator must be one of grpo, cispo, not ppo"),
    ({"advantage_estimator": "gspo"}, {}, "do not treat the advantages of tokens one by one"),
    ({"normalize_advantages": True}, {}, "--normalize-advantages would divide the KL"),
    ({"context_parallel_size": 2, "rlkl_via": "future"}, {}, "needs whole responses"),
    ({}, {"ref_entropy": None}, "slime kept no ref_entropy of these rollouts; it does with --use-rollout-entropy"),
    ({}, {"ref_log_probs": None}, "slime kept no ref_log_probs"),
]


@pytest.mark.parametrize(("given", "kept", "message"), REFUSED, ids=[f"{given} {kept}" for given, kept, _ in REFUSED])
def test_what_would_be_another_kl_is_refused(given, kept, message):
    data, _, _ = rollouts(LENGTHS)
    with pytest.raises(InputError, match=message):
        prioritized_advantages(arguments(**given), data | kept)


def test_slime_calls_it_with_two_arguments():
    assert list(inspect.signature(prioritized_advantages).parameters) == ["args", "rollout_data"]


def test_an_installed_slime_calls_it_as_the_known_one():
    """A canary: it fails where slime's call has moved."""
    loss = pytest.importorskip("slime.backends.megatron_utils.loss", reason="slime is not installed")
    source = inspect.getsource(loss.compute_advantages_and_returns)
    assert "custom_adv_fn(args, rollout_data)" in source, slime.KNOWN
    assert source.index('rollout_data["kl"] = kl') < source.index("custom_adv_fn(")
    assert 'rollout_data["advantages"], rollout_data["returns"]' in source
