from random import Random

import pytest
import torch

from rlkl.model.completion import sample
from rlkl.model.language_model import load_model
from rlkl.model.texts import END_TOKEN, drafts, encode, longest_completion
from rlkl.rollout import drafts as module
from rlkl.rollout.drafts import LONGEST
from rlkl.rollout.engine import generate
from rlkl.tasks.registry import TASKS

PROMPTS = [[3, 5, 7], [1], [2, 4, 6, 8, 10, 12], [9, 9], [40, 1, 2, 3, 4, 5, 6]]
END, NEVER = 0, 41


def rollouts(model, draft, prompts=PROMPTS, new=60, end=END, temperature=1.0, **more):
    generator = torch.Generator().manual_seed(0)
    return generate(
        model, prompts, max_new_tokens=new, end_token=end, temperature=temperature, generator=generator, draft=draft, **more
    )


def assert_same(some, others):
    assert torch.equal(some.tokens, others.tokens)
    assert torch.equal(some.lengths, others.lengths)
    torch.testing.assert_close(some.log_probs, others.log_probs, atol=2e-4, rtol=1e-4)


def drafts_of(kind, expected):
    """Of rollouts that are known: what follows; that with mistakes; too much of it; others' tokens; the end; nothing."""
    samples, rng = expected.samples(), Random(0)
    return {
        "right": lambda row, sampled, most: samples[row][len(sampled) :][:most],
        "often wrong": lambda row, sampled, most: [
            token if rng.random() < 0.9 else rng.randrange(40) for token in samples[row][len(sampled) :][:most]
        ],
        "of other rows": lambda row, sampled, most: samples[row - 1][len(sampled) :][:most],
        "random": lambda row, sampled, most: [rng.randrange(40) for _ in range(rng.randrange(most + 1))],
        "ends": lambda row, sampled, most: [END] * most,
        "none": lambda row, sampled, most: [],
    }[kind]


@pytest.mark.parametrize("kind", ["right", "often wrong", "of other rows", "random", "ends", "none"])
@pytest.mark.parametrize("end", [END, NEVER])
@pytest.mark.parametrize(("temperature", "copies"), [(0.0, 1), (1.0, 1), (1.0, 3), (2.0, 2)])
def test_drafts_change_no_sample(model, kind, end, temperature, copies):
    expected = rollouts(model, None, temperature=temperature, end=end, samples_per_prompt=copies)
    draft = drafts_of(kind, expected)
    assert_same(rollouts(model, draft, temperature=temperature, end=end, samples_per_prompt=copies), expected)


def test_a_row_can_fill_the_positions_of_the_model(model):
    expected = rollouts(model, None, new=505, end=NEVER)  # 7 + 505 columns: the model has 512 positions
    assert_same(rollouts(model, drafts_of("often wrong", expected), new=505, end=NEVER), expected)
    assert_same(rollouts(model, drafts_of("right", expected), new=505, end=NEVER), expected)


@pytest.mark.parametrize("new", [1, 2, LONGEST, LONGEST + 1])
def test_rows_are_cut_where_they_would_be_without_drafts(model, new):
    expected = rollouts(model, None, new=new, end=NEVER)
    assert_same(rollouts(model, drafts_of("right", expected), new=new, end=NEVER), expected)


def test_samples_are_the_same_for_a_part_of_the_rows(model):
    noise = torch.rand(60, len(PROMPTS), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = rollouts(model, None)
    part = rollouts(model, drafts_of("none", expected), PROMPTS[1:3], noise=noise[:, 1:3])
    assert part.samples() == expected.samples()[1:3]


@pytest.mark.parametrize("name", ["addition-n5", "subtraction-n5", "multiplication-n5"])
@pytest.mark.parametrize("temperature", [0.0, 1.0, 2.0])
def test_a_foreseen_completion_takes_few_passes(name, temperature, monkeypatch):
    """Also a wrong one, which goes on by the rules from what was written."""
    model, task = load_model(name), TASKS[name.partition("-")[0]]
    operands = sample(task, "varying", 6, 12, seed=1)
    prompts, new = encode(map(task.prompt, operands)), longest_completion(task, operands)
    expected = rollouts(model, None, prompts, new, END_TOKEN, temperature)
    passes = []
    check = module._check_drafts
    monkeypatch.setattr(module, "_check_drafts", lambda *args: passes.append(len(args[2])) or check(*args))
    assert_same(rollouts(model, drafts(task, operands), prompts, new, END_TOKEN, temperature), expected)
    if temperature < 2:
        assert sum(passes) < expected.lengths.sum() / 4


def test_drafts_are_not_used_in_half_precision(model):
    half = load_model("addition-n5").to(torch.bfloat16)
    called = []
    rollouts(half, lambda *args: called.append(args) or [], new=3)
    assert not called
