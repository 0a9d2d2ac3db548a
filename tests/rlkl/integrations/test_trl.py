"""TRL's GRPOTrainer with a weighted KL equals TRL's own where it must, to the last bit, and notices where TRL has moved."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("trl", reason="the extra rlkl[trl] is not installed")

from trl import GRPOTrainer

from .trl_runs import SETTINGS, a_batch, parameters, save_model, untrained

WEIGHT_ONE = {
    "standard": {"kl_weighting": "standard"},
    "certainty to the power 0": {"weight_exponent": 0.0},  # certainties are computed, and every weight is 1
    "by a pass of its own": {"weight_exponent": 0.0, "certainty": "min_entropy"},
    "no token uncertain": {"kl_weighting": "certain_tokens", "token_share": 0.0},
    "no token of high entropy": {"kl_weighting": "top_entropy", "token_share": 0.0},
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_weight_one_is_trl_bit_for_bit(trl_run, trl_alone, setting):
    (theirs, log), ours = trl_alone(**SETTINGS[setting]), trl_run({"weight_exponent": 0.0}, **SETTINGS[setting])
    assert torch.equal(theirs, parameters(ours))
    for line, other in zip(log, ours.state.log_history, strict=True):
        timed = ("step_time", "runtime", "_per_second")
        assert {k: v for k, v in line.items() if not k.endswith(timed)}.items() <= other.items()


@pytest.mark.parametrize("weighting", WEIGHT_ONE)
def test_so_is_every_way_to_weight_one(trl_run, trl_alone, weighting):
    assert torch.equal(trl_alone()[0], parameters(trl_run(WEIGHT_ONE[weighting])))


WEIGHT_ZERO = {
    "none": {"kl_weighting": "none"},
    "an exponent that leaves nothing": {"weight_exponent": 1e6},
    "every token uncertain": {"kl_weighting": "certain_tokens", "token_share": 1.0},
    "every token of high entropy": {"kl_weighting": "top_entropy", "token_share": 1.0},
}


@pytest.mark.parametrize(
    ("weighting", "setting"),
    [*((name, "as it comes") for name in WEIGHT_ZERO), *(("none", name) for name in ("two iterations", "lora", "bf16"))],
)
def test_weight_zero_is_trl_without_a_kl_bit_for_bit(trl_run, trl_alone, weighting, setting):
    theirs, _ = trl_alone(**SETTINGS[setting], beta=0.0)
    assert torch.equal(theirs, parameters(trl_run(WEIGHT_ZERO[weighting], **SETTINGS[setting])))
    assert not torch.equal(theirs, trl_alone(**SETTINGS[setting])[0])


def test_no_kl_and_no_weighting_needs_no_reference(trl_run, trl_alone):
    ours = trl_run({"kl_weighting": "none"}, beta=0.0)
    assert ours.ref_model is None
    assert torch.equal(parameters(ours), trl_alone(beta=0.0)[0])


@pytest.mark.parametrize("setting", ["grpo", "dr_grpo", "cispo", "lora", "as it comes"])
@pytest.mark.parametrize("weighting", [{"weight_exponent": 1.5}, {"kl_weighting": "shuffled", "weight_exponent": 1.5}])
def test_k2_in_the_loss_equals_the_kl_in_the_advantages(trl_run, trl_alone, setting, weighting):
    more = SETTINGS[setting] | {"optim": "sgd", "learning_rate": 0.05, "max_steps": 4}
    loss = trl_run(weighting | {"kl_estimator": "k2"}, **more)
    advantages = trl_run(weighting | {"kl_estimator": "k2", "via": "advantages"}, **more)
    torch.testing.assert_close(parameters(loss), parameters(advantages), rtol=0, atol=2e-5)
    assert (parameters(loss) - trl_alone(**more)[0]).abs().max() > 1e-3
    means = [[line["kl_weighting/weighted_kl"] for line in each.state.log_history[:-1]] for each in (loss, advantages)]
    assert means[0] == pytest.approx(means[1], rel=1e-3)


def test_a_run_comes_out_the_same_again(trl_run):
    more = {"kl_weighting": "shuffled", "weight_exponent": 1.5, "certainty": "renyi2", "kl_estimator": "k3"}
    assert torch.equal(parameters(trl_run(more)), parameters(trl_run(more)))


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
def test_a_loss_that_moved_raises_and_never_weighs_uniformly(trl_model, tmp_path, monkeypatch, loss):
    trainer = untrained(trl_model, tmp_path, weight_exponent=1.5)
    batch = a_batch(trainer, rows=4)
    monkeypatch.setattr(GRPOTrainer, "_compute_loss", loss)
    with pytest.raises(RuntimeError, match="multiplied the KL by its coefficient 0 times, not once"):
        trainer._compute_loss(trainer.model, batch)
    assert trainer.beta == 0.5
    assert type(trainer.beta) is float


def test_a_reference_that_moved_raises(trl_model, tmp_path, monkeypatch):
    theirs = GRPOTrainer._generate_and_score_completions

    def copied(self, inputs):
        output = theirs(self, inputs)
        return output | {"ref_per_token_logps": output["ref_per_token_logps"].clone()}

    monkeypatch.setattr(GRPOTrainer, "_generate_and_score_completions", copied)
    with pytest.raises(RuntimeError, match="0 passes gave the log-probabilities of the reference"):
        a_batch(untrained(trl_model, tmp_path, weight_exponent=1.5))


@pytest.mark.slow
@pytest.mark.dist
def test_two_processes_are_trl_in_two_processes_and_weigh_as_one_does(tmp_path, trl_run):
    save_model(tmp_path / "model")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *launcher, str(Path(__file__).parent / "trl_runs.py"), str(tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (torch.load(tmp_path / f"process{rank}.pt") for rank in range(2))
    for name, found in first["parameters"].items():
        assert torch.equal(found, second["parameters"][name]), name
    assert torch.equal(first["parameters"]["standard"], first["parameters"]["trl"])
    assert not torch.equal(first["parameters"]["shuffled"], first["parameters"]["trl"])
    alone = trl_run({"weight_share": 0.3, "calibration_completions": 32}, max_steps=1)
    assert first["exponent"] == second["exponent"] == pytest.approx(alone.calibration.exponent)
    everyone = {name: torch.cat([first[name], second[name]]) for name in ("prioritized", "shuffled", "matched_mean")}
    weights = everyone["prioritized"]
    torch.testing.assert_close(everyone["matched_mean"], weights.mean().expand_as(weights))
    zero_sum = torch.cat([first["zero_sum"], second["zero_sum"]]).view(-1, 4)
    torch.testing.assert_close(zero_sum.sum(1), torch.zeros(4), rtol=0, atol=1e-5)
    assert set(zero_sum.abs().amax(1).round(decimals=4).tolist()) <= {0.0, 1.0}  # the policy is the reference: rewards alone
    order = torch.randperm(len(weights), generator=torch.Generator().manual_seed(42 * 1_000_003))
    assert torch.equal(everyone["shuffled"], weights[order])
