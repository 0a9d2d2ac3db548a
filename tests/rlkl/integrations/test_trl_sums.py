"""One fine-tuning on one-digit sums with TRL, on a tiny random model."""

import pytest
import torch

pytest.importorskip("trl", reason="the extra rlkl[trl] is not installed")

from rlkl.integrations.smollm2 import split_pairs
from rlkl.integrations.sums_settings import SumsSettings
from rlkl.integrations.trl import sums

from ..inspection.models import save
from .test_sums import SETTINGS, asked, shown


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(save(tmp_path_factory.mktemp("sums") / "model", positions=256))


@pytest.fixture
def prompts(monkeypatch):
    """Rewards that a random model gets; gives the prompts that were rewarded."""
    seen = []

    def reward(completions, prompts, **columns):
        seen.extend(prompts)
        return [float(len(text) % 3) for text in completions]

    monkeypatch.setattr(sums, "right_sum", reward)
    return seen


def trained(folder, tmp_path, **more):
    lines, evaluations = [], []

    def evaluate(model):
        evaluations.append(model.training)
        return {"eval/measured": float(len(evaluations))}

    settings = SumsSettings(**SETTINGS | more)
    trainer = sums.fine_tune(settings, folder, str(tmp_path), evaluate, lambda *line: lines.append(line))
    return trainer, lines


def weights(trainer):
    return torch.cat([each.detach().flatten() for each in trainer.model.parameters()])


def test_every_step_is_logged_and_evaluations_stand_at_their_step(folder, tmp_path, prompts):
    trainer, lines = trained(folder, tmp_path, steps=5, evaluate_every=2)
    assert [step for step, _ in lines] == [1, 2, 3, 4, 5]
    assert {step: line["eval/measured"] for step, line in lines if "eval/measured" in line} == {2: 1.0, 4: 2.0, 5: 3.0}
    assert [step for step, line in lines if "rollout/success" in line] == [1, 3, 5]
    assert all({"losses/kl", "weights/mean", "losses/clip_fraction"} <= line.keys() for _, line in lines)
    assert trainer.calibration.share == pytest.approx(0.1, abs=0.05)
    assert lines[-1][1]["losses/kl"] > 0


def test_no_held_out_sum_is_sampled_from(folder, tmp_path, prompts):
    trained(folder, tmp_path)
    _, held_out = split_pairs()
    assert prompts
    for prompt in prompts:
        row = {"prompt": prompt}
        assert not {asked(row), *(pair[:2] for pair in shown(row))} & set(held_out)


@pytest.mark.parametrize("more", [{}, {"weighting": "none"}, {"weighting": "none", "loss": "dapo", "clip_high": 0.28}])
def test_a_run_comes_out_the_same_again_and_not_with_another_seed(folder, tmp_path, prompts, more):
    one, again, other = (weights(trained(folder, tmp_path, seed=seed, **more)[0]) for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_evaluations_do_not_change_the_training(folder, tmp_path, prompts):
    assert torch.equal(
        weights(trained(folder, tmp_path, evaluate_every=1)[0]), weights(trained(folder, tmp_path, evaluate_every=9)[0])
    )


def test_methods_are_trls_own_options():
    dapo = {"weighting": "none", "loss": "dapo", "clip_high": 0.28, "leave_out_truncated": True}
    args = sums.arguments(SumsSettings(**SETTINGS | dapo), "out")
    assert (args.beta, args.loss_type, args.epsilon, args.epsilon_high) == (0.0, "dapo", 0.2, 0.28)
    assert args.mask_truncated_completions
    args = sums.arguments(SumsSettings(**SETTINGS), "out")
    assert (args.beta, args.kl_weighting, args.share, args.num_iterations) == (0.1, "prioritized", 0.1, 2)
    assert args.generation_batch_size == SETTINGS["prompts"] * SETTINGS["completions"]
