"""The weighted KL in TRL: weights asked for by a share of tokens, and what is refused."""

import json
import math
import sys
import types

import pytest
import torch

pytest.importorskip("trl", reason="the extra rlkl[trl] is not installed")

from transformers import HfArgumentParser
from trl import GRPOConfig

from rlkl.integrations.trl import PrioritizedKLConfig, PrioritizedKLTrainer, versions
from rlkl_htc_common.errors import InputError

from .trl_runs import a_batch, parameters, prompts, settings, untrained


def test_a_share_is_the_exponent_that_it_leads_to(trl_run):
    asked = trl_run({"weight_share": 0.3})
    assert asked.calibration.share == pytest.approx(0.3, abs=0.02)
    given = trl_run({"weight_exponent": asked.calibration.exponent})
    assert torch.equal(parameters(asked), parameters(given))  # the measurement leaves the random numbers as they are
    exponents = {line["kl_weighting/exponent"] for line in asked.state.log_history[:-1]}
    assert exponents == {asked.calibration.exponent}


@pytest.mark.parametrize("peft", [False, True], ids=["full", "lora"])
def test_the_share_is_met_on_other_completions_of_the_reference(trl_model, tmp_path, peft):
    trainer = untrained(trl_model, tmp_path, peft=peft, weight_share=0.3, calibration_completions=256)
    torch.manual_seed(5)
    batch = a_batch(trainer, rows=64)
    below = batch["kl_weights"][batch["completion_mask"].bool()] < 0.5
    assert float(below.float().mean()) == pytest.approx(0.3, abs=0.08)


def test_a_tenth_is_what_is_measured_where_nothing_is_given(trl_model, tmp_path):
    assert untrained(trl_model, tmp_path).args.share == 0.1
    assert untrained(trl_model, tmp_path, weight_exponent=2.0).args.share is None
    assert untrained(trl_model, tmp_path, kl_weighting="standard").args.share is None


@pytest.mark.parametrize("weighting", ["prioritized", "rank"])
def test_a_resumed_run_keeps_what_was_measured(trl_model, tmp_path, weighting):
    more = {"kl_weighting": weighting, "weight_share": 0.3, "save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    whole = untrained(trl_model, tmp_path, **more)
    whole.train()
    file = tmp_path / "checkpoint-2/kl_calibration.json"
    kept = json.loads(file.read_text())
    assert kept["found"]["tokens"] == whole.calibration.tokens
    kept["found"]["tokens"] = 12345
    file.write_text(json.dumps(kept))
    for share, tokens in ((0.3, 12345), (0.4, whole.calibration.tokens)):  # what was not asked for is measured anew
        resumed = untrained(trl_model, tmp_path, **(more | {"weight_share": share}))
        resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
        assert resumed.calibration.tokens == tokens
        assert (resumed.calibration.exponent == whole.calibration.exponent) == (share == 0.3 or weighting == "rank")


def test_a_short_dataset_and_a_stream_are_measured_too(trl_model, tmp_path):
    args = settings(PrioritizedKLConfig, tmp_path, weight_share=0.3, calibration_completions=40)
    for dataset in (prompts().select(range(3)), prompts().to_iterable_dataset()):
        trainer = PrioritizedKLTrainer(trl_model, lambda completions, **_: [0.0] * len(completions), args, dataset)
        trainer.train()
        assert 40 <= trainer.calibration.tokens <= 240


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


def test_arguments_of_a_command_line_are_parsed(tmp_path):
    (parsed,) = HfArgumentParser(PrioritizedKLConfig).parse_args_into_dataclasses(
        [
            "--output_dir",
            str(tmp_path),
            "--use_cpu",
            "--bf16",
            "false",
            "--beta",
            "0.1",
            "--weight_share",
            "0.3",
            "--certainty",
            "renyi2",
        ]
    )
    assert (parsed.weight_share, parsed.weight_exponent, parsed.certainty) == (0.3, None, "renyi2")


def test_what_was_changed_after_the_config_was_made_is_checked_again(trl_model, tmp_path):
    args = settings(PrioritizedKLConfig, tmp_path)
    args.beta = 0.0
    with pytest.raises(InputError, match="beta is 0"):
        PrioritizedKLTrainer(trl_model, None, args, prompts())


@pytest.mark.parametrize("args", [None, "plain"])
def test_a_config_without_a_weighting_is_refused(trl_model, tmp_path, args):
    args = None if args is None else settings(GRPOConfig, tmp_path)
    with pytest.raises(InputError, match=r"args must be a PrioritizedKLConfig, but (nothing|a GRPOConfig) was given"):
        PrioritizedKLTrainer(trl_model, lambda completions, **_: [0.0] * len(completions), args, train_dataset=prompts())


def test_liger_is_refused_where_it_replaces_the_loss(tmp_path, monkeypatch):
    monkeypatch.setattr("rlkl.integrations.trl.config.fused_lm_head", lambda: False)
    with pytest.raises(InputError, match=r"Before TRL 1\.15, use_liger_kernel replaces the loss"):
        settings(PrioritizedKLConfig, tmp_path, use_liger_kernel=True)


def test_unsloth_is_refused(trl_model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "unsloth", types.ModuleType("unsloth"))
    with pytest.raises(InputError, match="Run without Unsloth"):
        untrained(trl_model, tmp_path)


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


def test_tools_and_a_share_are_refused(trl_model, tmp_path):
    def rollout(prompts, trainer):
        raise AssertionError

    args = settings(PrioritizedKLConfig, tmp_path, weight_share=0.1)
    with pytest.raises(InputError, match="Give weight_exponent"):
        PrioritizedKLTrainer(trl_model, lambda **_: [0.0], args, prompts(), rollout_func=rollout)
