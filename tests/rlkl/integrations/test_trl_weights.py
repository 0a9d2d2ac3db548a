"""The weighted KL in TRL: whose certainty it is, what the weights are, and the estimators' gradients."""

import math

import pytest
import torch

pytest.importorskip("trl", reason="the extra rlkl[trl] is not installed")

from transformers import AutoModelForCausalLM

from rlkl import certainty, weighting
from rlkl.algorithms.ppo import clipped
from rlkl.integrations.trl import PrioritizedKLConfig, PrioritizedKLTrainer
from rlkl.integrations.trl.weights import renyi2
from rlkl.weighting import to_the_end

from .trl_runs import SETTINGS, a_batch, parameters, prompts, settings, untrained

MEASURES = {**certainty.CERTAINTIES, "renyi2": renyi2}


@pytest.mark.parametrize("peft", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("name", MEASURES)
def test_certainties_are_of_the_reference_as_it_was(trl_model, tmp_path, name, temperature, peft):
    given = {"certainty": name, "weight_exponent": 1.0, "certainty_temperature": temperature, "temperature": 0.6}
    trainer = untrained(trl_model, tmp_path, peft=peft, **given)
    trainer.train()  # the policy moves away from the reference
    batch = a_batch(trainer)
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    attention = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    with torch.no_grad():
        before = AutoModelForCausalLM.from_pretrained(trl_model)(input_ids=ids, attention_mask=attention).logits.float()
        now = trainer.model(input_ids=ids, attention_mask=attention).logits.float()
    length, mask = batch["completion_ids"].shape[1], batch["completion_mask"].bool()
    expected, moved = (MEASURES[name](logits[:, -length - 1 : -1], temperature)[mask] for logits in (before, now))
    torch.testing.assert_close(batch["kl_weights"][mask], expected, rtol=1e-5, atol=2e-6)
    assert (moved - expected).abs().max() > 1e-3


def test_renyi2_is_one_minus_an_entropy():
    probabilities = torch.tensor([[0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3], [1.0, 0.0, 0.0]])
    expected = [1 + math.log(0.375) / math.log(3), 0.0, 1.0]
    assert renyi2(probabilities.log()).tolist() == pytest.approx(expected, abs=1e-6)
    logits = torch.randn(100, 7) * 3
    middle = renyi2(logits, 2.0)
    assert (certainty.negentropy(logits, 2.0) <= middle + 1e-6).all()
    assert (middle <= certainty.min_entropy(logits, 2.0) + 1e-6).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_renyi2_of_half_precision_and_of_one_token(dtype):
    logits = (4 * torch.randn(3, 5, 41)).to(dtype)
    assert torch.equal(renyi2(logits, 0.7), renyi2(logits.float(), 0.7))
    assert renyi2(logits[..., :1]).eq(1).all()


@pytest.fixture
def batch_of(trl_model, tmp_path):
    """The batch of the first step, whose completions are the same for every weighting."""
    return lambda **more: a_batch(untrained(trl_model, tmp_path, **more))


def test_controls_have_the_weights_that_they_are_named_for(batch_of):
    batch = batch_of(weight_exponent=1.5)
    weights, mask = batch["kl_weights"], batch["completion_mask"].bool()
    certainties = batch_of(weight_exponent=1.0)["kl_weights"]
    torch.testing.assert_close(weights, certainties**1.5)
    matched = batch_of(kl_weighting="matched_mean", weight_exponent=1.5)["kl_weights"]
    torch.testing.assert_close(matched, torch.full_like(weights, float(weights[mask].mean())))
    mixed = batch_of(kl_weighting="shuffled", weight_exponent=1.5)["kl_weights"]
    assert torch.equal(mixed[mask].sort().values, weights[mask].sort().values)
    assert not torch.equal(mixed[mask], weights[mask])
    certain = batch_of(kl_weighting="certain_tokens", token_share=0.3)["kl_weights"]
    assert torch.equal(certain[mask] == 0, weighting.top_share_of_rows(-certainties, mask, 0.3)[mask])
    ranked = batch_of(kl_weighting="rank", weight_share=0.3)["kl_weights"]
    assert (ranked[mask][certainties[mask].argsort()].diff() >= 0).all()
    assert batch_of(kl_weighting="standard")["kl_weights"].unique().tolist() == [1]
    assert batch_of(kl_weighting="none")["kl_weights"].unique().tolist() == [0]


class Watching(PrioritizedKLTrainer):
    """Checks in the loss that the weights lie at the tokens that they were made for."""

    def _compute_loss(self, model, inputs):
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
        attention = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
        length, mask = inputs["completion_ids"].shape[1], inputs["completion_mask"].bool()
        with torch.no_grad():
            logits = self.ref_model(input_ids=ids, attention_mask=attention).logits[:, -length - 1 : -1]
        expected = certainty.negentropy(logits) ** self.args.weight_exponent
        torch.testing.assert_close(inputs["kl_weights"][mask], expected[mask], rtol=1e-4, atol=1e-5)
        self.seen = getattr(self, "seen", 0) + 1
        return super()._compute_loss(model, inputs)


@pytest.mark.parametrize("setting", ["as it comes", "two iterations"])
def test_weights_stay_with_their_tokens(trl_run, setting):
    trainer = trl_run({"weight_exponent": 1.5}, kind=Watching, **SETTINGS[setting])
    assert trainer.seen == 6


def test_what_is_logged_is_the_mean_over_tokens(trl_model, tmp_path):
    trainer = untrained(trl_model, tmp_path, weight_exponent=1.5, kl_estimator="k2", kl_bias_correction="none")
    batch = a_batch(trainer, rows=4)
    batch["ref_per_token_logps"] = batch["ref_per_token_logps"] + torch.randn_like(batch["ref_per_token_logps"])
    trainer.current_gradient_accumulation_steps = 1
    trainer._metrics["train"].clear()
    trainer._compute_loss(trainer.model, batch)
    logged = {name: values[0] for name, values in trainer._metrics["train"].items()}
    weights, mask = batch["kl_weights"], batch["completion_mask"].bool()
    log_probs, *_ = trainer._get_per_token_logps_and_entropies(
        trainer.model,
        torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1),
        torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1),
        mask.shape[1],
    )
    divergence = 0.5 * (log_probs.detach() - batch["ref_per_token_logps"])[mask] ** 2
    weights = weights[mask]
    assert logged["kl_weighting/kl"] == pytest.approx(float(divergence.mean()), rel=1e-5)
    assert logged["kl_weighting/weighted_kl"] == pytest.approx(float((weights * divergence).mean()), rel=1e-5)
    assert logged["kl_weighting/mean_weight"] == pytest.approx(float(weights.mean()), rel=1e-5)
    assert logged["kl_weighting/share_below_half"] == pytest.approx(float((weights < 0.5).float().mean()))
    tenths = [logged[f"kl_weighting/weights/{k / 10:.1f}"] for k in range(10)]
    assert tenths == pytest.approx([float(((weights * 10).long().clamp_max(9) == k).float().mean()) for k in range(10)])


def test_evaluation_weighs_too(trl_model, tmp_path):
    args = settings(
        PrioritizedKLConfig, tmp_path, weight_share=0.3, eval_strategy="steps", eval_steps=2, per_device_eval_batch_size=4
    )
    trainer = PrioritizedKLTrainer(trl_model, lambda completions, **_: [0.0] * len(completions), args, prompts(), prompts())
    trainer.train()
    evaluated = [line for line in trainer.state.log_history if "eval_kl_weighting/kl" in line]
    assert evaluated
    assert evaluated[0]["eval_kl_weighting/mean_weight"] < 1


ESTIMATORS = {
    "trl": {"kl_estimator": "trl"},
    "trl without the ratio": {"kl_estimator": "trl", "use_bias_correction_kl": False},
    "k2": {"kl_estimator": "k2", "kl_bias_correction": "none"},
    "k2 with the ratio": {"kl_estimator": "k2", "kl_bias_correction": "ratio"},
    "k3": {"kl_estimator": "k3", "kl_bias_correction": "none"},
    "k3 with the ratio": {"kl_estimator": "k3", "kl_bias_correction": "ratio"},
    "exact": {"kl_estimator": "exact"},
    "ranks": {"kl_estimator": "k3", "kl_bias_correction": "none", "kl_weighting": "rank", "weight_exponent": None},
    "lora": {"kl_estimator": "k2", "kl_bias_correction": "none", "peft": True},
    "lora exact": {"kl_estimator": "exact", "peft": True},
}


def off_policy(trainer):
    """A batch whose completions an older policy sampled, and whose reference is far away."""
    batch = a_batch(trainer, rows=4)
    log_probs = batch["ref_per_token_logps"]
    batch["old_per_token_logps"] = log_probs + 0.05 * torch.randn_like(log_probs)
    batch["ref_per_token_logps"] = log_probs + 0.5 * torch.randn_like(log_probs)
    if "ref_logits" in batch:
        batch["ref_logits"] = batch["ref_logits"] + torch.randn_like(batch["ref_logits"])
    trainer.current_gradient_accumulation_steps = 1
    return batch


@pytest.mark.parametrize("name", ESTIMATORS)
def test_gradients_are_the_finite_differences(trl_model, tmp_path, name):
    trainer = untrained(trl_model, tmp_path, **({"weight_exponent": 1.5, "beta": 2.0, "epsilon": 10.0} | ESTIMATORS[name]))
    batch = off_policy(trainer)
    trained_parameters = [parameter for parameter in trainer.model.parameters() if parameter.requires_grad]
    trainer._compute_loss(trainer.model, batch).backward()
    gradients = [parameter.grad.clone() for parameter in trained_parameters]
    norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
    step = 5e-4
    losses = []
    for sign in (1, -1):  # along the gradient, where the loss is steepest
        with torch.no_grad():
            for parameter, gradient in zip(trained_parameters, gradients, strict=True):
                parameter.add_(sign * step * gradient / norm)
            losses.append(float(trainer._compute_loss(trainer.model, batch)))
            for parameter, gradient in zip(trained_parameters, gradients, strict=True):
                parameter.sub_(sign * step * gradient / norm)
    assert (losses[0] - losses[1]) / (2 * step) == pytest.approx(float(norm), rel=0.02)


def gradient(trainer, batch):
    trainer.model.zero_grad()
    trainer._compute_loss(trainer.model, batch).backward()
    return torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.requires_grad])


def test_estimators_differ_as_their_formulas_do(trl_model, tmp_path):
    """The KL's part of the gradient, from each formula on the same batch."""
    trainer = untrained(trl_model, tmp_path, weight_exponent=1.5, loss_type="grpo", epsilon=10.0)
    batch = off_policy(trainer)
    mask, weights = batch["completion_mask"], batch["kl_weights"]
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    attention = torch.cat([batch["prompt_mask"], mask], dim=1)

    def expected(formula):
        trainer.model.zero_grad()
        log_probs, *_ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, attention, mask.shape[1])
        kl = formula(log_probs, batch["ref_per_token_logps"], (log_probs - batch["old_per_token_logps"]).exp())
        (trainer.beta * ((weights * kl * mask).sum(1) / mask.sum(1)).mean()).backward()
        return torch.cat([p.grad.flatten() for p in trainer.model.parameters()])

    def ours(**given):
        for name, value in given.items():
            setattr(trainer.args, name, value)
        found = gradient(trainer, batch)
        trainer.args.kl_weighting = "none"
        without = gradient(trainer, batch)
        trainer.args.kl_weighting = "prioritized"
        return found - without

    k2, k3 = lambda p, q, r: 0.5 * (p - q) ** 2, lambda p, q, r: (q - p).exp() - 1 - (q - p)
    for given, formula in (
        ({"kl_estimator": "trl"}, lambda p, q, r: k3(p, q, r) * r),
        ({"kl_estimator": "k2", "kl_bias_correction": "none"}, k2),
        ({"kl_bias_correction": None}, lambda p, q, r: k2(p, q, r) * r.detach()),
        ({"kl_bias_correction": "ratio"}, lambda p, q, r: k2(p, q, r) * r),
        ({"kl_estimator": "k3", "kl_bias_correction": "none"}, k3),
        ({"kl_bias_correction": "detached"}, lambda p, q, r: k3(p, q, r) * r.detach()),
    ):
        torch.testing.assert_close(ours(**given), expected(formula), rtol=1e-3, atol=1e-5)


def test_the_exact_kl_takes_every_weighting(trl_run):
    after = [
        parameters(trl_run({"kl_estimator": "exact", **weighting}))
        for weighting in ({"kl_weighting": "none"}, {"kl_weighting": "standard"}, {"kl_weighting": "top_entropy"})
    ]
    assert torch.equal(after[0], parameters(trl_run({"kl_weighting": "none"}, beta=0.0)))
    assert not torch.equal(after[0], after[1])
    assert not torch.equal(after[1], after[2])


def test_all_estimators_train(trl_run):
    after = [parameters(trl_run({"kl_estimator": name, "weight_exponent": 1.0})) for name in ("trl", "k2", "k3", "exact")]
    assert all(found.isfinite().all() for found in after)
    for first in range(4):
        for second in range(first):
            assert not torch.equal(after[first], after[second])


def test_groups_with_equal_rewards_lose_their_kl(trl_model, tmp_path):
    def rewards(completions, **columns):
        return [1.0] * 4 + [float(k) for k in range(len(completions) - 4)]

    args = settings(PrioritizedKLConfig, tmp_path, kl_weighting="standard", kl_off_constant_groups=True)
    trainer = PrioritizedKLTrainer(trl_model, rewards, args, prompts())
    batch = a_batch(trainer)
    assert batch["kl_weights"][:4].unique().tolist() == [0]
    assert batch["kl_weights"][4:].unique().tolist() == [1]
    assert (batch["advantages"].abs() < 1e-6).tolist() == [True] * 4 + [False] * 4


def test_tokens_are_clipped_where_trl_clips_them():
    ratio = torch.tensor([[1.3, 1.1, 0.7, 0.9], [1.3, 1.1, 0.7, 0.9], [1.3, 1.1, 0.7, 0.9]])
    advantages = torch.tensor([[1.0], [-1.0], [0.0]])
    expected = [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert clipped(ratio.log(), advantages, 0.2, 0.2).int().tolist() == expected
    assert clipped(ratio.log(), advantages, 0.2, 0.4).int().tolist() == [[0] * 4, [0, 0, 1, 0], [0] * 4]


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_clipped_tokens_lose_their_kl(trl_model, tmp_path, level):
    given = {"kl_weighting": "standard", "kl_off_clipped": True, "importance_sampling_level": level}
    trainer = untrained(trl_model, tmp_path, loss_type="grpo", **given)
    batch = off_policy(trainer)
    batch["old_per_token_logps"] = batch["old_per_token_logps"] + torch.linspace(-1, 1, 4)[:, None]
    batch["advantages"] = torch.tensor([1.0, -1.0, 1.0, -1.0])
    trainer._metrics["train"].clear()
    trainer._compute_loss(trainer.model, batch)
    logged = trainer._metrics["train"]
    if level == "token":
        assert 1 - logged["kl_weighting/mean_weight"][0] == pytest.approx(logged["clip_ratio/region_mean"][0])
    assert logged["kl_weighting/mean_weight"][0] < 1
    assert logged["kl_weighting/share_below_half"][0] > 0


def test_the_future_is_summed_to_the_end_of_each_completion():
    values, mask = torch.tensor([[1.0, 2.0, 4.0], [1.0, 2.0, math.nan]]), torch.tensor([[True] * 3, [True, True, False]])
    assert to_the_end(values, mask).tolist() == [[7, 6, 4], [3, 2, 0]]


def test_the_kl_of_the_future_is_taken_from_the_advantages(trl_model, tmp_path):
    given = {"weight_exponent": 1.5, "kl_estimator": "k2", "optim": "sgd", "learning_rate": 0.1}
    trainers = {via: untrained(trl_model, tmp_path, via=via, **given) for via in ("advantages", "future")}
    batches = {}
    for via, trainer in trainers.items():
        with torch.no_grad():
            generator = torch.Generator().manual_seed(1)
            for parameter in trainer.model.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        torch.manual_seed(3)
        batches[via] = a_batch(trainer)
    mask = batches["future"]["completion_mask"].bool()
    plain = batches["advantages"]["advantages"]
    taken = 0.5 * batches["advantages"]["kl_weights"] * moved(trainers["advantages"], batches["advantages"])
    of_rewards = plain + taken
    expected = of_rewards - to_the_end(taken, mask)
    torch.testing.assert_close(batches["future"]["advantages"][mask], expected[mask], rtol=1e-4, atol=1e-5)


def moved(trainer, batch):
    """(B, T) log p - log p_ref."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    attention = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    with torch.no_grad():
        log_probs, *_ = trainer._get_per_token_logps_and_entropies(
            trainer.model, ids, attention, batch["completion_ids"].shape[1]
        )
    return log_probs - batch["ref_per_token_logps"]


@pytest.mark.parametrize("far", [-200.0, 200.0, -math.inf], ids=["unlikely", "likely", "excluded"])
@pytest.mark.parametrize("name", ["trl", "k2", "k3", "exact"])
def test_a_token_of_weight_0_adds_nothing_where_its_kl_is_not_finite(trl_model, tmp_path, name, far):
    trainer = untrained(trl_model, tmp_path, kl_estimator=name, weight_exponent=1.0, beta=1.0)
    batch = off_policy(trainer)
    batch["kl_weights"][:, 0] = 0.0
    expected = gradient(trainer, batch)
    batch["ref_per_token_logps"][:, 0] -= far
    if name == "exact":
        batch["ref_logits"][:, 0, 1:] = -math.inf
    exactly = {} if name == "trl" else {"rtol": 0, "atol": 0}  # TRL's own sum is of the same terms in another order
    torch.testing.assert_close(gradient(trainer, batch), expected, **exactly)
    assert expected.isfinite().all()
