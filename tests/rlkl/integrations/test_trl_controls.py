"""The controls of the KL in TRL: ZCPO's coefficients in place of the advantages, and gates on the current policy's entropy."""

import math

import pytest
import torch

pytest.importorskip("trl", reason="the extra rlkl[trl] is not installed")

from rlkl import kl, weighting
from rlkl.distributions import entropy
from rlkl.integrations.trl import PrioritizedKLConfig, PrioritizedKLTrainer
from rlkl.integrations.trl.weights import zero_sum_coefficients
from rlkl_htc_common.errors import InputError

from .trl_runs import a_batch, parameters, prompts, settings, untrained

ZERO_SUM = {"via": "zero_sum", "kl_estimator": "exact", "weight_exponent": 1.5}


@pytest.mark.parametrize("scale", [1.0, 0.01, 1e3])
def test_coefficients_by_the_formula(scale):
    torch.manual_seed(0)
    rewards = torch.tensor([1.0, 0.0, 0.0, 0.25, 1.0, 1.0, 1.0, 1.0, 0.3, 0.1, 0.2, 0.0])
    drift, expected = torch.rand(12), []
    for start in (0, 4, 8):
        group, drifts = rewards[start : start + 4].tolist(), drift[start : start + 4].tolist()
        above = [reward - sum(group) / 4 for reward in group]
        largest = max(map(abs, above))
        for own, its in zip(above, drifts, strict=True):
            expected.append(own / largest - 2.0 * (its - sum(drifts) / 4) if len(set(group)) > 1 else 0.0)
    centred = (rewards.view(3, 4) - rewards.view(3, 4).mean(1, keepdim=True)) * scale  # however TRL scales them
    found = zero_sum_coefficients(centred.flatten(), drift, 4, 2.0)
    assert found.tolist() == pytest.approx(expected, abs=1e-5)
    assert found.view(3, 4).sum(1).tolist() == pytest.approx([0, 0, 0], abs=1e-5)


def moved(trainer):
    """Let the policy be another one than the reference."""
    with torch.no_grad():
        generator = torch.Generator().manual_seed(1)
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def logits_of(trainer, model, batch):
    """(B, T, V) at the sampling temperature."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    attention = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=attention).logits.float()
    return logits[:, -batch["completion_ids"].shape[1] - 1 : -1] / trainer.temperature


def varied(completions, **columns):
    """Rewards of two groups of four: the first equal, the second not."""
    return [1.0] * 4 + [float(k) for k in range(len(completions) - 4)]


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
@pytest.mark.parametrize("weighting_name", ["standard", "prioritized"])
def test_zcpo_takes_the_place_of_the_advantages(trl_model, tmp_path, weighting_name, scale):
    given = ZERO_SUM | {"kl_weighting": weighting_name, "temperature": 0.8, "scale_rewards": scale}
    given |= {"weight_exponent": None} if weighting_name == "standard" else {}
    args = settings(PrioritizedKLConfig, tmp_path, **given)
    trainer = PrioritizedKLTrainer(trl_model, varied, args, prompts())
    moved(trainer)
    batch = a_batch(trainer)
    mask, weights = batch["completion_mask"].bool(), batch["kl_weights"]
    exact = kl.exact(logits_of(trainer, trainer.model, batch), logits_of(trainer, trainer.ref_model, batch))
    torch.testing.assert_close(batch["kl_exact"][mask], exact[mask], rtol=1e-4, atol=1e-5)
    means = [float((weights[row] * exact[row])[mask[row]].mean()) for row in range(8)]
    above, middle = [k - 1.5 for k in range(4)], sum(means[4:]) / 4
    expected = [0.0] * 4 + [above[k] / 1.5 - 0.5 * (means[4 + k] - middle) for k in range(4)]
    assert batch["advantages"].tolist() == pytest.approx(expected, abs=1e-4)
    assert "ref_logits" not in batch  # no (B, T, V) tensor is kept for the loss


def test_without_a_kl_the_rewards_alone_are_left(trl_model, tmp_path):
    args = settings(PrioritizedKLConfig, tmp_path, via="zero_sum", kl_estimator="exact", kl_weighting="none")
    trainer = PrioritizedKLTrainer(trl_model, varied, args, prompts())
    moved(trainer)
    assert a_batch(trainer)["advantages"].tolist() == pytest.approx([0.0] * 4 + [-1, -1 / 3, 1 / 3, 1], abs=1e-5)


def test_the_loss_has_no_kl_besides(trl_model, tmp_path):
    """The gradient is that of TRL without a KL, for these advantages."""
    trainer = untrained(trl_model, tmp_path, **ZERO_SUM)
    moved(trainer)
    batch = a_batch(trainer, rows=4)
    trainer.current_gradient_accumulation_steps = 1
    gradients = []
    for beta in (trainer.beta, 0.0):
        trainer.beta = beta
        trainer.model.zero_grad()
        trainer._compute_loss(trainer.model, batch).backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in trainer.model.parameters()]))
    assert torch.equal(*gradients)
    assert gradients[0].abs().max() > 0


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"loss_type": "grpo", "importance_sampling_level": "sequence"},
        {"loss_type": "dapo", "epsilon_high": 0.28},
        {"loss_type": "cispo", "epsilon_high": 5.0},
        {"peft": True},
        {"top_entropy_quantile": 0.5},
        {"kl_off_constant_groups": True},
    ],
    ids=str,
)
def test_it_trains(trl_run, more):
    trainer = trl_run(ZERO_SUM | {"beta": 20.0}, **more)
    assert parameters(trainer).isfinite().all()
    logged = trainer.state.log_history
    assert logged[-2]["kl_weighting/kl"] > 0
    assert 0 < logged[0]["kl_weighting/mean_weight"] <= 1


def test_the_coefficient_matters(trl_run):
    one, other = (parameters(trl_run(ZERO_SUM, beta=beta, learning_rate=0.05)) for beta in (0.1, 50.0))
    assert not torch.equal(one, other)


@pytest.mark.parametrize("window", [1, 3])
def test_windows_of_the_current_policys_entropy(trl_model, tmp_path, window):
    given = {"kl_weighting": "top_entropy", "token_share": 0.4, "entropy_window": window}
    trainer = untrained(trl_model, tmp_path, kl_estimator="k2", kl_bias_correction="none", **given)
    batch = a_batch(trainer, rows=4)
    moved(trainer)  # after the completions were sampled
    trainer.current_gradient_accumulation_steps = 1
    trainer._metrics["train"].clear()
    trainer._compute_loss(trainer.model, batch)
    mask, logits = batch["completion_mask"].bool(), logits_of(trainer, trainer.model, batch)
    gate = weighting.top_share_of_rows(weighting.window_means(entropy(logits), mask, window), mask, 0.4)
    log_probs = logits.log_softmax(-1).gather(-1, batch["completion_ids"][..., None]).squeeze(-1)
    divergence = 0.5 * (log_probs - batch["ref_per_token_logps"]).square()
    logged = trainer._metrics["train"]
    assert logged["kl_weighting/weighted_kl"][0] == pytest.approx(float((divergence * ~gate)[mask].mean()), rel=1e-3)
    assert logged["kl_weighting/mean_weight"][0] == pytest.approx(float((~gate)[mask].float().mean()))


REFUSED = [
    ({"via": "zero_sum"}, "Set kl_estimator='exact'"),
    ({"via": "zero_sum", "kl_estimator": "k2"}, "Set kl_estimator='exact'"),
    ({**ZERO_SUM, "num_iterations": 2}, "it would be stale"),
    ({**ZERO_SUM, "steps_per_generation": 4}, "it would be stale"),
    ({**ZERO_SUM, "kl_off_clipped": True}, "looks at the policy in the loss"),
    ({"via": "zero_sum", "kl_estimator": "exact", "kl_weighting": "top_entropy"}, "looks at the policy in the loss"),
    ({**ZERO_SUM, "kl_bias_correction": "ratio"}, "Use kl_bias_correction='none'"),
    ({**ZERO_SUM, "multi_objective_aggregation": "normalize_then_sum"}, "Use 'sum_then_normalize'"),
    ({"entropy_window": 4}, "entropy_window has no effect on kl_weighting='prioritized'"),
    ({"entropy_window": 0, "kl_weighting": "top_entropy"}, "must be at least 1, not 0"),
]


@pytest.mark.parametrize(("given", "message"), REFUSED, ids=[f"{given}" for given, _ in REFUSED])
def test_what_would_be_silently_wrong_is_refused(tmp_path, given, message):
    with pytest.raises(InputError, match=message):
        settings(PrioritizedKLConfig, tmp_path, **given)


def test_a_completion_of_weight_0_has_any_kl(trl_model, tmp_path):
    trainer = untrained(trl_model, tmp_path, via="zero_sum", kl_estimator="exact", kl_weighting="none")
    with torch.no_grad():
        trainer.ref_model.lm_head.weight.mul_(1e30)
    assert all(math.isfinite(value) for value in a_batch(trainer)["advantages"].tolist())
