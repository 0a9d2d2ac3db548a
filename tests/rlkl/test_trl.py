"""TRL's GRPOTrainer with a weighted KL: where it must equal TRL's own, to the last bit, and where it must refuse."""

import inspect
import json
import math
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

pytest.importorskip("trl", reason="the extra rlkl[trl] is not installed")

from peft import LoraConfig
from trl import GRPOConfig, GRPOTrainer

from rlkl import certainty, weighting
from rlkl.errors import InputError
from rlkl.integrations.trl import PrioritizedKLConfig, PrioritizedKLTrainer, versions
from rlkl.integrations.trl.weights import clipped, constant_groups, renyi2, to_the_end
from .trl_runs import parameters, prompts, save_model, settings, trained

LORA = LoraConfig(r=2, lora_alpha=8, target_modules=["q_proj", "v_proj"], init_lora_weights=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def run(model, tmp_path):
    """A run of either trainer: `run(None, ...)` is TRL's, `run({...}, ...)` ours with those settings. Args: more, of both."""

    def of(ours, peft=False, kind=None, **more):
        classes = (GRPOTrainer, GRPOConfig) if ours is None else (kind or PrioritizedKLTrainer, PrioritizedKLConfig)
        args = settings(classes[1], tmp_path, **(more | (ours or {})))
        return trained(classes[0], model, args, **({"peft_config": LORA} if peft else {}))

    return of


def untrained(model, folder, kind=PrioritizedKLTrainer, peft=False, **more):
    args = settings(PrioritizedKLConfig, folder, **more)
    named = {"peft_config": LORA} if peft else {}
    return kind(model, lambda completions, **_: [float(len(text)) for text in completions], args, prompts(), **named)


def a_batch(trainer, rows=8):
    """A batch of completions as TRL makes it, with our weights."""
    trainer.model.train()
    return trainer._generate_and_score_completions([prompts()[k // 4] for k in range(rows)])


# ---- equal to TRL --------------------------------------------------------------------------------------------------------------

SETTINGS = {
    "as it comes": {},
    "two iterations": {"num_iterations": 2, "gradient_accumulation_steps": 1, "steps_per_generation": 2, "max_steps": 6},
    "grpo": {"loss_type": "grpo"},
    "dr_grpo": {"loss_type": "dr_grpo"},
    "cispo": {"loss_type": "cispo", "epsilon_high": 5.0},
    "sequence ratios": {"importance_sampling_level": "sequence", "loss_type": "grpo", "num_iterations": 2},
    "k3 without the ratio": {"use_bias_correction_kl": False, "num_iterations": 2},
    "temperature": {"temperature": 0.7},
    "entropy bonus": {"entropy_coef": 0.1},
    "top entropy": {"top_entropy_quantile": 0.5},
    "bf16": {"bf16": True},
    "gradient checkpointing": {"gradient_checkpointing": True},
    "sgd": {"optim": "sgd", "learning_rate": 0.1},
    "lora": {"peft": True},
    "lora in bf16": {"peft": True, "bf16": True},
}
WEIGHT_ONE = {
    "standard": {"kl_weighting": "standard"},
    "certainty to the power 0": {"weight_exponent": 0.0},  # certainties are computed, and every weight is 1
    "by a pass of its own": {"weight_exponent": 0.0, "certainty": "min_entropy"},
    "no token uncertain": {"kl_weighting": "certain_tokens", "token_share": 0.0},
    "no token of high entropy": {"kl_weighting": "top_entropy", "token_share": 0.0},
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_weight_one_is_trl_bit_for_bit(run, setting):
    theirs, ours = run(None, **SETTINGS[setting]), run({"weight_exponent": 0.0}, **SETTINGS[setting])
    assert torch.equal(parameters(theirs), parameters(ours))
    for line, other in zip(theirs.state.log_history, ours.state.log_history, strict=True):
        timed = ("step_time", "runtime", "_per_second")
        assert {k: v for k, v in line.items() if not k.endswith(timed)}.items() <= other.items()


@pytest.mark.parametrize("weighting", WEIGHT_ONE)
def test_so_is_every_way_to_weight_one(run, weighting):
    assert torch.equal(parameters(run(None)), parameters(run(WEIGHT_ONE[weighting])))


WEIGHT_ZERO = {
    "none": {"kl_weighting": "none"},
    "an exponent that leaves nothing": {"weight_exponent": 1e6},
    "every token uncertain": {"kl_weighting": "certain_tokens", "token_share": 1.0},
    "every token of high entropy": {"kl_weighting": "top_entropy", "token_share": 1.0},
}


@pytest.mark.parametrize("weighting", WEIGHT_ZERO)
@pytest.mark.parametrize("setting", ["as it comes", "two iterations", "lora", "bf16"])
def test_weight_zero_is_trl_without_a_kl_bit_for_bit(run, weighting, setting):
    theirs = run(None, **SETTINGS[setting], beta=0.0)
    ours = run(WEIGHT_ZERO[weighting], **SETTINGS[setting])
    assert torch.equal(parameters(theirs), parameters(ours))
    assert not torch.equal(parameters(theirs), parameters(run(None, **SETTINGS[setting])))


def test_no_kl_and_no_weighting_needs_no_reference(run):
    ours = run({"kl_weighting": "none"}, beta=0.0)
    assert ours.ref_model is None
    assert torch.equal(parameters(ours), parameters(run(None, beta=0.0)))


@pytest.mark.parametrize("setting", ["grpo", "dr_grpo", "cispo", "lora", "as it comes"])
@pytest.mark.parametrize("weighting", [{"weight_exponent": 1.5}, {"kl_weighting": "shuffled", "weight_exponent": 1.5}])
def test_k2_in_the_loss_equals_the_kl_in_the_advantages(run, setting, weighting):
    more = SETTINGS[setting] | {"optim": "sgd", "learning_rate": 0.05, "max_steps": 4}
    loss = run(weighting | {"kl_estimator": "k2"}, **more)
    advantages = run(weighting | {"kl_estimator": "k2", "via": "advantages"}, **more)
    torch.testing.assert_close(parameters(loss), parameters(advantages), rtol=0, atol=2e-5)
    assert (parameters(loss) - parameters(run(None, **more))).abs().max() > 1e-3
    means = [[line["kl_weighting/weighted_kl"] for line in each.state.log_history[:-1]] for each in (loss, advantages)]
    assert means[0] == pytest.approx(means[1], rel=1e-3)


def test_a_run_comes_out_the_same_again(run):
    more = {"kl_weighting": "shuffled", "weight_exponent": 1.5, "certainty": "renyi2", "kl_estimator": "k3"}
    assert torch.equal(parameters(run(more)), parameters(run(more)))


# ---- certainties and weights -------------------------------------------------------------------------------------------------------

MEASURES = {**certainty.CERTAINTIES, "renyi2": renyi2}


@pytest.mark.parametrize("peft", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("name", MEASURES)
def test_certainties_are_of_the_reference_as_it_was(model, tmp_path, name, temperature, peft):
    from transformers import AutoModelForCausalLM

    given = {"certainty": name, "weight_exponent": 1.0, "certainty_temperature": temperature, "temperature": 0.6}
    trainer = untrained(model, tmp_path, peft=peft, **given)
    trainer.train()  # the policy moves away from the reference
    batch = a_batch(trainer)
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    attention = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    with torch.no_grad():
        before = AutoModelForCausalLM.from_pretrained(model)(input_ids=ids, attention_mask=attention).logits.float()
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


@pytest.fixture
def batch_of(model, tmp_path):
    """The batch of the first step, whose completions are the same for every weighting."""
    return lambda **more: a_batch(untrained(model, tmp_path, **more))


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
def test_weights_stay_with_their_tokens(run, setting):
    trainer = run({"weight_exponent": 1.5}, kind=Watching, **SETTINGS[setting])
    assert trainer.seen == 6


def test_what_is_logged_is_the_mean_over_tokens(model, tmp_path):
    trainer = untrained(model, tmp_path, weight_exponent=1.5, kl_estimator="k2", kl_bias_correction="none")
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


def test_evaluation_weighs_too(model, tmp_path):
    args = settings(
        PrioritizedKLConfig, tmp_path, weight_share=0.3, eval_strategy="steps", eval_steps=2, per_device_eval_batch_size=4
    )
    trainer = PrioritizedKLTrainer(model, lambda completions, **_: [0.0] * len(completions), args, prompts(), prompts())
    trainer.train()
    evaluated = [line for line in trainer.state.log_history if "eval_kl_weighting/kl" in line]
    assert evaluated
    assert evaluated[0]["eval_kl_weighting/mean_weight"] < 1


# ---- estimators ----------------------------------------------------------------------------------------------------------------

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
def test_gradients_are_the_finite_differences(model, tmp_path, name):
    trainer = untrained(model, tmp_path, **({"weight_exponent": 1.5, "beta": 2.0, "epsilon": 10.0} | ESTIMATORS[name]))
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


def test_estimators_differ_as_their_formulas_do(model, tmp_path):
    """The KL's part of the gradient, from each formula on the same batch."""
    trainer = untrained(model, tmp_path, weight_exponent=1.5, loss_type="grpo", epsilon=10.0)
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


def test_all_estimators_train(run):
    after = [parameters(run({"kl_estimator": name, "weight_exponent": 1.0})) for name in ("trl", "k2", "k3", "exact")]
    assert all(found.isfinite().all() for found in after)
    for first in range(4):
        for second in range(first):
            assert not torch.equal(after[first], after[second])


# ---- masks and the KL of the future ---------------------------------------------------------------------------------------------


def test_groups_with_equal_rewards_lose_their_kl(model, tmp_path):
    def rewards(completions, **columns):
        return [1.0] * 4 + [float(k) for k in range(len(completions) - 4)]

    args = settings(PrioritizedKLConfig, tmp_path, kl_weighting="standard", kl_off_constant_groups=True)
    trainer = PrioritizedKLTrainer(model, rewards, args, prompts())
    batch = a_batch(trainer)
    assert batch["kl_weights"][:4].unique().tolist() == [0]
    assert batch["kl_weights"][4:].unique().tolist() == [1]
    assert (batch["advantages"].abs() < 1e-6).tolist() == [True] * 4 + [False] * 4


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [([0.1, 0.1, 0.1, 0.2], [1, 1, 0, 0]), ([1e9, 1e9, 0.0, 1e-7], [1, 1, 0, 0]), ([math.nan, 1.0, math.nan, math.nan], [1] * 4)],
)
def test_groups_are_constant_where_what_was_scored_is_equal(rewards, expected):
    assert constant_groups(torch.tensor(rewards), 2).int().tolist() == expected


def test_tokens_are_clipped_where_trl_clips_them():
    ratio = torch.tensor([[1.3, 1.1, 0.7, 0.9], [1.3, 1.1, 0.7, 0.9], [1.3, 1.1, 0.7, 0.9]])
    advantages = torch.tensor([[1.0], [-1.0], [0.0]])
    expected = [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert clipped(ratio.log(), advantages, 0.2, 0.2).int().tolist() == expected
    assert clipped(ratio.log(), advantages, 0.2, 0.4).int().tolist() == [[0] * 4, [0, 0, 1, 0], [0] * 4]


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_clipped_tokens_lose_their_kl(model, tmp_path, level):
    given = {"kl_weighting": "standard", "kl_off_clipped": True, "importance_sampling_level": level}
    trainer = untrained(model, tmp_path, loss_type="grpo", **given)
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


def test_the_kl_of_the_future_is_taken_from_the_advantages(model, tmp_path):
    given = {"weight_exponent": 1.5, "kl_estimator": "k2", "optim": "sgd", "learning_rate": 0.1}
    trainers = {via: untrained(model, tmp_path, via=via, **given) for via in ("advantages", "future")}
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
    rewards_alone = (plain + 0.5 * batches["advantages"]["kl_weights"] * moved(trainers["advantages"], batches["advantages"]))[:, 0]
    taken = rewards_alone[:, None] - plain
    expected = rewards_alone[:, None] - to_the_end(taken, mask)
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


# ---- calibration ----------------------------------------------------------------------------------------------------------------


def test_a_share_is_the_exponent_that_it_leads_to(run):
    asked = run({"weight_share": 0.3})
    assert asked.calibration.share == pytest.approx(0.3, abs=0.02)
    given = run({"weight_exponent": asked.calibration.exponent})
    assert torch.equal(parameters(asked), parameters(given))  # the measurement leaves the random numbers as they are
    exponents = {line["kl_weighting/exponent"] for line in asked.state.log_history[:-1]}
    assert exponents == {asked.calibration.exponent}


@pytest.mark.parametrize("peft", [False, True], ids=["full", "lora"])
def test_the_share_is_met_on_other_completions_of_the_reference(model, tmp_path, peft):
    trainer = untrained(model, tmp_path, peft=peft, weight_share=0.3, calibration_completions=256)
    torch.manual_seed(5)
    batch = a_batch(trainer, rows=64)
    below = batch["kl_weights"][batch["completion_mask"].bool()] < 0.5
    assert float(below.float().mean()) == pytest.approx(0.3, abs=0.08)


def test_a_tenth_is_what_is_measured_where_nothing_is_given(model, tmp_path):
    assert untrained(model, tmp_path).args.share == 0.1
    assert untrained(model, tmp_path, weight_exponent=2.0).args.share is None
    assert untrained(model, tmp_path, kl_weighting="standard").args.share is None


@pytest.mark.parametrize("weighting", ["prioritized", "rank"])
def test_a_resumed_run_keeps_what_was_measured(model, tmp_path, weighting):
    more = {"kl_weighting": weighting, "weight_share": 0.3, "save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    whole = untrained(model, tmp_path, **more)
    whole.train()
    file = tmp_path / "checkpoint-2/kl_calibration.json"
    assert json.loads(file.read_text())["tokens"] == whole.calibration.tokens
    changed = json.loads(file.read_text()) | {"tokens": 12345}
    file.write_text(json.dumps(changed))
    resumed = untrained(model, tmp_path, **more)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert resumed.calibration.tokens == 12345
    assert resumed.calibration.exponent == whole.calibration.exponent


def test_a_short_dataset_and_a_stream_are_measured_too(model, tmp_path):
    args = settings(PrioritizedKLConfig, tmp_path, weight_share=0.3, calibration_completions=40)
    for dataset in (prompts().select(range(3)), prompts().to_iterable_dataset()):
        trainer = PrioritizedKLTrainer(model, lambda completions, **_: [0.0] * len(completions), args, dataset)
        trainer.train()
        assert 40 <= trainer.calibration.tokens <= 240


# ---- what is refused -------------------------------------------------------------------------------------------------------------

K2 = {"kl_estimator": "k2"}
REFUSED = [
    ({"beta": 0.0}, "beta is 0"),
    ({"beta": 0.0, "kl_weighting": "standard"}, "beta is 0"),
    ({"beta": 0.0, "kl_weighting": "none", "kl_off_constant_groups": True}, "beta is 0"),
    ({"beta": -1.0}, "not negative, not -1.0"),
    ({"beta": math.nan}, "not negative, not nan"),
    ({"sync_ref_model": True}, "sync_ref_model replaces the reference"),
    ({"kl_weighting": "priority"}, "kl_weighting must be one of prioritized, .* not 'priority'"),
    ({"kl_estimator": "k1"}, "kl_estimator must be one of"),
    ({"kl_bias_correction": "yes", **K2}, "kl_bias_correction must be one of"),
    ({"via": "reward"}, "via must be one of"),
    ({"certainty": "entropy"}, "certainty must be one of"),
    ({"certainty_temperature": 0.0}, "certainty_temperature must be positive"),
    ({"weight_exponent": 1.0, "weight_share": 0.1}, "Give one of them"),
    ({"weight_exponent": -1.0}, "not negative"),
    ({"weight_exponent": 1.0, "kl_weighting": "rank"}, "weight_exponent has no effect on kl_weighting='rank'"),
    ({"weight_exponent": 1.0, "kl_weighting": "standard"}, "weight_exponent has no effect"),
    ({"weight_share": 0.1, "kl_weighting": "certain_tokens"}, "weight_share has no effect"),
    ({"weight_share": 1.0}, "above 0 and below 1"),
    ({"token_share": 1.5}, "token_share must be from 0 to 1"),
    ({"calibration_completions": 0}, "at least 1"),
    ({"kl_bias_correction": "none"}, "has no effect on kl_estimator='trl'"),
    ({"kl_estimator": "exact", "kl_bias_correction": "ratio"}, "Use kl_bias_correction='none'"),
    ({"kl_off_clipped": True, "loss_type": "cispo"}, "needs a loss_type that clips"),
    ({"via": "advantages"}, "Set kl_estimator='k2'"),
    ({"via": "future", "kl_estimator": "k3"}, "Set kl_estimator='k2'"),
    ({"via": "advantages", **K2, "kl_bias_correction": "none"}, "leave it out"),
    ({"via": "advantages", **K2, "num_iterations": 2}, "it would be stale"),
    ({"via": "advantages", **K2, "steps_per_generation": 4}, "it would be stale"),
    ({"via": "advantages", **K2, "loss_type": "vespo"}, "needs loss_type to be one of"),
    ({"via": "advantages", **K2, "importance_sampling_level": "sequence"}, "needs importance_sampling_level"),
    ({"via": "advantages", **K2, "top_entropy_quantile": 0.5}, "top_entropy_quantile"),
    ({"via": "advantages", **K2, "off_policy_mask_threshold": 0.5}, "off_policy_mask_threshold"),
    ({"via": "advantages", **K2, "kl_weighting": "top_entropy"}, "looks at the policy in the loss"),
    ({"via": "advantages", **K2, "kl_off_clipped": True}, "looks at the policy in the loss"),
]


@pytest.mark.parametrize(("given", "message"), REFUSED, ids=[f"{given}" for given, _ in REFUSED])
def test_what_would_be_silently_wrong_is_refused(tmp_path, given, message):
    with pytest.raises(InputError, match=message):
        settings(PrioritizedKLConfig, tmp_path, **given)


def test_what_was_changed_after_the_config_was_made_is_checked_again(model, tmp_path):
    args = settings(PrioritizedKLConfig, tmp_path)
    args.beta = 0.0
    with pytest.raises(InputError, match="beta is 0"):
        PrioritizedKLTrainer(model, None, args, prompts())


@pytest.mark.parametrize("args", [None, "plain"])
def test_a_config_without_a_weighting_is_refused(model, tmp_path, args):
    args = None if args is None else settings(GRPOConfig, tmp_path)
    with pytest.raises(InputError, match="args must be a PrioritizedKLConfig, but (nothing|a GRPOConfig) was given"):
        PrioritizedKLTrainer(model, lambda completions, **_: [0.0] * len(completions), args, train_dataset=prompts())


def test_liger_is_refused_where_it_replaces_the_loss(tmp_path, monkeypatch):
    monkeypatch.setattr("rlkl.integrations.trl.config.fused_lm_head", lambda: False)
    with pytest.raises(InputError, match="Before TRL 1.15, use_liger_kernel replaces the loss"):
        settings(PrioritizedKLConfig, tmp_path, use_liger_kernel=True)


def test_unsloth_is_refused(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "unsloth", types.ModuleType("unsloth"))
    with pytest.raises(InputError, match="Run without Unsloth"):
        untrained(model, tmp_path)


def test_a_trainer_that_unsloth_wrote_anew_is_refused():
    with pytest.raises(InputError, match="Run without Unsloth"):
        versions.check_unchanged(type("UnslothGRPOTrainer", (), {"__module__": "unsloth_compiled_cache.UnslothGRPOTrainer"}))


@pytest.mark.parametrize("installed", ["0.29.1", "1.11.0", "1.17.0", "1.16.0.dev0", "2.0.0"])
def test_versions_that_were_not_tried_are_refused(monkeypatch, installed):
    monkeypatch.setattr(versions, "version", lambda name: installed)
    with pytest.raises(ImportError, match=rf"supports TRL 1.12 to 1.16, but TRL {installed} is installed"):
        versions.check_installed()


def test_a_missing_trl_is_asked_for(monkeypatch):
    def missing(name):
        raise versions.PackageNotFoundError(name)

    monkeypatch.setattr(versions, "version", missing)
    with pytest.raises(ImportError, match=r"pip install 'rlkl\[trl\]'"):
        versions.check_installed()


def test_tools_and_a_share_are_refused(model, tmp_path):
    def rollout(prompts, trainer):
        raise AssertionError

    args = settings(PrioritizedKLConfig, tmp_path, weight_share=0.1)
    with pytest.raises(InputError, match="Give weight_exponent"):
        PrioritizedKLTrainer(model, lambda **_: [0.0], args, prompts(), rollout_func=rollout)


# ---- canaries: they fail when TRL's internals move ------------------------------------------------------------------------------


def test_trl_multiplies_the_kl_by_its_coefficient_once():
    source = inspect.getsource(GRPOTrainer._compute_loss)
    assert source.count("self.beta * per_token_kl") == 1
    assert source.count("self.beta") - source.count("self.beta != 0.0") == 1
    assert source.count("self._get_per_token_logps_and_entropies(") == 1
    assert "if advantages.dim() == 1" in source


def test_trl_passes_what_the_hooks_take():
    method = inspect.signature(GRPOTrainer._get_per_token_logps_and_entropies).parameters
    if "args" not in method:  # TRL 1.14 hands everything on
        expected = ["self", "model", "input_ids", "attention_mask", "logits_to_keep", "batch_size", "compute_entropy"]
        assert list(method)[:7] == expected
    source = inspect.getsource(GRPOTrainer._generate_and_score_completions)
    assert 'output["ref_per_token_logps"] = ref_per_token_logps' in source
    assert source.count("ref_per_token_logps, _, _ = self._get_per_token_logps_and_entropies(") == 2
    assert "self._calculate_rewards(" in source


def uniform(self, model, inputs):
    """A loss that has moved: it never multiplies the KL by `self.beta`."""
    *_, length = inputs["completion_ids"].shape
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
    log_probs, *_ = self._get_per_token_logps_and_entropies(model, ids, torch.ones_like(ids), length, compute_entropy=True)
    return (float(self.beta) * (log_probs - inputs["ref_per_token_logps"]) ** 2).mean()


def the_other_way_round(self, model, inputs):
    """A loss whose tensor multiplies the number, which the number does not see."""
    *_, length = inputs["completion_ids"].shape
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
    log_probs, *_ = self._get_per_token_logps_and_entropies(model, ids, torch.ones_like(ids), length, compute_entropy=True)
    return ((log_probs - inputs["ref_per_token_logps"]) ** 2 * self.beta).mean()


@pytest.mark.parametrize("loss", [uniform, the_other_way_round])
def test_a_loss_that_moved_raises_and_never_weighs_uniformly(model, tmp_path, monkeypatch, loss):
    trainer = untrained(model, tmp_path, weight_exponent=1.5)
    batch = a_batch(trainer, rows=4)
    monkeypatch.setattr(GRPOTrainer, "_compute_loss", loss)
    with pytest.raises(RuntimeError, match="multiplied the KL by its coefficient 0 times, not once"):
        trainer._compute_loss(trainer.model, batch)
    assert trainer.beta == 0.5
    assert type(trainer.beta) is float


def test_a_reference_that_moved_raises(model, tmp_path, monkeypatch):
    theirs = GRPOTrainer._generate_and_score_completions

    def copied(self, inputs):
        output = theirs(self, inputs)
        return output | {"ref_per_token_logps": output["ref_per_token_logps"].clone()}

    monkeypatch.setattr(GRPOTrainer, "_generate_and_score_completions", copied)
    with pytest.raises(RuntimeError, match="0 passes gave the log-probabilities of the reference"):
        a_batch(untrained(model, tmp_path, weight_exponent=1.5))


# ---- several processes ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.dist
def test_two_processes_are_trl_in_two_processes_and_measure_what_one_does(tmp_path, run):
    save_model(tmp_path / "model")
    here = Path(__file__).parent
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *launcher, str(here / "trl_runs.py"), str(tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (torch.load(tmp_path / f"process{rank}.pt") for rank in range(2))
    for name in ("trl", "standard", "shuffled", "share"):
        assert torch.equal(first[name]["parameters"], second[name]["parameters"]), name
    assert torch.equal(first["standard"]["parameters"], first["trl"]["parameters"])
    assert not torch.equal(first["shuffled"]["parameters"], first["trl"]["parameters"])
    alone = run({"weight_share": 0.3, "calibration_completions": 32}, max_steps=1)
    assert first["exponent"] == second["exponent"] == pytest.approx(alone.calibration.exponent)
