"""One-digit sums for a language model: what is held out, what is measured, and which settings have an effect."""

import re
from dataclasses import asdict

import pytest
import torch

from rlkl.inspection.models import CausalModel
from rlkl.integrations import smollm2, sums
from rlkl.integrations.sums_settings import WEIGHTINGS, SumsSettings
from rlkl_htc_common.errors import InputError

from ..inspection.models import byte_tokenizer, causal_model, save

SETTINGS = {
    "model": "smollm2",
    "weighting": "prioritized",
    "alpha": 0.1,
    "share": 0.1,
    "calibration_completions": 8,
    "loss": "grpo",
    "clip_high": 0.2,
    "leave_out_truncated": False,
    "kl_off_constant_groups": False,
    "steps": 4,
    "uses": 2,
    "prompts": 2,
    "completions": 4,
    "max_new_tokens": 4,
    "learning_rate": 0.01,
    "evaluate_every": 2,
    "copies": 1,
    "general_tokens": 5,
    "seed": 0,
}


def asked(row):
    return tuple(map(int, re.fullmatch(r"(\d) \+ (\d) =", row["prompt"].split("\n")[-1]).groups()))


def shown(row):
    return [tuple(map(int, re.findall(r"\d+", line))) for line in row["prompt"].split("\n")[:-1]]


def test_no_held_out_sum_is_in_training_in_any_order():
    training, held_out = smollm2.split_pairs()
    assert sorted([*training, *held_out]) == smollm2.PAIRS
    assert (len(training), len(held_out)) == (73, 27)
    assert {(b, a) for a, b in held_out} == set(held_out)
    for row in smollm2.digit_sums(300, 0, training):
        assert not {asked(row), *(pair[:2] for pair in shown(row))} & set(held_out)


def test_held_out_sums_are_all_asked_after_solved_ones_of_training():
    training, held_out = smollm2.split_pairs()
    rows = smollm2.held_out_sums(2, seed=1)
    assert rows == smollm2.held_out_sums(2, seed=1) != smollm2.held_out_sums(2, seed=2)
    assert [asked(row) for row in rows] == [pair for pair in held_out for _ in range(2)]
    for row in rows:
        assert row["answer"] == str(sum(asked(row)))
        assert len(shown(row)) == smollm2.EXAMPLES
        assert all((a, b) in training and a + b == total for a, b, total in shown(row))


@pytest.mark.parametrize(("completion", "success"), [(" 7\n", 1), (" 7", 1), (" 17\n", 0), ("", 0), ("\n7", 0)])
def test_the_verifier_agrees_with_the_reward(completion, success):
    row = {"prompt": "1 + 1 = 2\n3 + 4 =", "answer": "7"}
    assert smollm2.solves(row["prompt"], completion) == success
    assert smollm2.right_sum([completion], [row["answer"]]) == [success]


def lined(scale=3.0):
    """A random model whose completions end with the line."""
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = smollm2.LINE_END
    return CausalModel("tiny", causal_model(positions=256, scale=scale).model, tokenizer)


def test_a_model_keeps_all_of_itself():
    model = lined()
    general = sums.general_passages(model, 6)
    assert [each.prompt for each in general] == list(sums.GENERAL_PROMPTS)
    assert all(1 <= len(each.completion_tokens) <= 6 for each in general)
    found = sums.evaluate(model, model, general, copies=1, most=4)
    assert found == sums.evaluate(model, model, general, copies=1, most=4)
    assert found["eval/kl_other_text"] == found["eval/kl_sums"] == 0
    assert 0 <= found["eval/greedy"] <= 1


def test_what_is_lost_is_the_kl_of_the_reference_to_the_policy_on_its_own_text():
    reference, policy = lined(), lined(scale=2.5)
    general = sums.general_passages(reference, 6)
    policy.model.train()
    found = sums.evaluate(policy, reference, general, copies=1, most=4)
    assert policy.model.training
    total, count = 0.0, 0
    for each in general:
        ids, start = torch.tensor([[*each.prompt_tokens, *each.completion_tokens]]), len(each.prompt_tokens) - 1
        p, q = (m.model(input_ids=ids).logits[0, start:-1].detach().log_softmax(-1) for m in (reference, policy))
        total, count = total + float((p.exp() * (p - q)).sum()), count + len(p)
    assert found["eval/kl_other_text"] == pytest.approx(total / count, rel=1e-4)
    assert found["eval/kl_sums"] > 0


def test_a_model_without_a_token_for_the_end_of_a_line_is_refused(tmp_path):
    with pytest.raises(InputError, match="addition-n3 has no token for the end of a line"):
        sums.load_for_sums("addition-n3")
    folder = str(save(tmp_path / "model"))
    assert sums.load_for_sums(folder).tokenizer.eos_token == smollm2.LINE_END


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"weighting": "prioritised"}, "weighting must be one of none, standard, prioritized"),
        ({"loss": "ppo"}, "loss must be one of grpo, dapo"),
        ({"alpha": 0.0}, "alpha must be positive, not 0.0; for no KL choose weighting=none"),
        ({"alpha": float("nan")}, "alpha must be positive"),
        ({"alpha": -1.0}, "alpha must be positive"),
        ({"share": 1.0}, "share must be above 0 and below 1"),
        ({"share": float("nan")}, "share must be above 0 and below 1"),
        ({"completions": 1}, "completions must be at least 2"),
        *(
            ({name: 0}, f"{name} must be at least 1, not 0")
            for name in ("steps", "uses", "prompts", "copies", "evaluate_every")
        ),
        *(({name: 0}, f"{name} must be at least 1, not 0") for name in ("max_new_tokens", "general_tokens")),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"learning_rate": float("inf")}, "learning_rate must be positive"),
        ({"clip_high": -0.2}, "clip_high must be positive"),
        ({"seed": -1}, "seeds must be from 0"),
    ],
)
def test_what_could_only_fail_later_is_refused(given, problem):
    SumsSettings(**SETTINGS).check()
    with pytest.raises(InputError, match=re.escape(problem)):
        SumsSettings(**SETTINGS | given).check()


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_settings_without_an_effect_make_no_other_run(weighting):
    run = SumsSettings(**SETTINGS | {"weighting": weighting})
    run.check()
    changed = {"alpha": 7.0, "share": 0.5, "calibration_completions": 3, "kl_off_constant_groups": True}
    effects = {
        name: run.effective() != SumsSettings(**asdict(run) | {name: value}).effective() for name, value in changed.items()
    }
    by_share, kl = weighting not in ("none", "standard"), weighting != "none"
    assert effects == {"alpha": kl, "share": by_share, "calibration_completions": by_share, "kl_off_constant_groups": kl}


def test_without_a_second_use_nothing_is_clipped():
    once, higher = (SumsSettings(**SETTINGS | {"uses": 1, "clip_high": clip}) for clip in (0.2, 0.28))
    assert once.effective() == higher.effective()
    assert SumsSettings(**SETTINGS).effective() != SumsSettings(**SETTINGS | {"clip_high": 0.28}).effective()
