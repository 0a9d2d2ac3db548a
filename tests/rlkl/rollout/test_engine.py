import copy

import pytest
import torch

from rlkl.distributions import token_log_probs
from rlkl.model.sequences import from_samples, next_token_logits
from rlkl.rollout import engine
from rlkl.rollout.engine import generate

PROMPTS = [[3, 5, 7], [1], [2, 4, 6, 8, 10, 12], [9, 9], [40, 1, 2, 3, 4, 5, 6]]
END = 0


def sample(model, temperature=1.0, seed=0, prompts=PROMPTS, new=40, end=END, **more):
    generator = torch.Generator().manual_seed(seed)
    return generate(model, prompts, max_new_tokens=new, end_token=end, temperature=temperature, generator=generator, **more)


def assert_same(some, others):
    assert torch.equal(some.tokens, others.tokens)
    assert torch.equal(some.lengths, others.lengths)
    torch.testing.assert_close(some.log_probs, others.log_probs, atol=1e-5, rtol=1e-5)


def uncached_greedy(model, prompt, new=40):
    """One full forward per token."""
    tokens = list(prompt)
    for _ in range(new):
        logits = model(torch.tensor([tokens])).logits[0, -1]
        tokens.append(int(logits.argmax()))
        if tokens[-1] == END:
            break
    return tokens[len(prompt) :]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_log_probs_are_those_of_uncached_teacher_forcing(model, temperature):
    rollouts = sample(model, temperature)
    assert rollouts.lengths.unique().numel() > 1  # rows end at different times
    rows = zip(PROMPTS, rollouts.tokens, rollouts.log_probs, rollouts.lengths, strict=True)
    for prompt, tokens, log_probs, length in rows:
        whole = torch.tensor([[*prompt, *tokens[:length].tolist()]])
        logits = model(whole[:, :-1]).logits[0, len(prompt) - 1 :] / temperature
        expected = logits.log_softmax(-1).gather(1, whole[0, len(prompt) :, None]).squeeze(1)
        torch.testing.assert_close(log_probs[:length], expected, atol=2e-5, rtol=1e-4)
        assert not log_probs[length:].any()
        assert (tokens[length:] == END).all()


def test_sequences_of_rollouts_say_the_same_in_one_pass(model):
    rollouts = sample(model)
    sequences = from_samples(PROMPTS, rollouts.samples(), END)
    log_probs = token_log_probs(next_token_logits(model, sequences), sequences.targets)
    assert torch.equal(sequences.mask.sum(1), rollouts.lengths)
    torch.testing.assert_close(log_probs[sequences.mask], rollouts.log_probs[rollouts.mask], atol=2e-5, rtol=1e-4)


def test_greedy_is_the_most_likely_token_each_time(model):
    rollouts = sample(model, temperature=0.0)
    for prompt, tokens, length in zip(PROMPTS, rollouts.tokens, rollouts.lengths, strict=True):
        assert tokens[:length].tolist() == uncached_greedy(model, prompt)


def test_a_row_does_not_depend_on_when_the_others_end(model, monkeypatch):
    expected = sample(model)
    for every in (1, 3, 1000):
        monkeypatch.setattr(engine, "CHECK_EVERY", every)
        assert_same(sample(model), expected)


def test_each_prompt_is_read_once(model):
    read = []
    hook = model.register_forward_pre_hook(
        lambda module, args, kwargs: read.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    sample(model, samples_per_prompt=4)
    hook.remove()
    assert read == [(5, 7)]


def test_fewer_new_tokens_are_the_first_of_more(model):
    assert torch.equal(sample(model, new=5).tokens, sample(model, new=40).tokens[:, :5])


def test_greedy_draws_no_random_numbers(model):
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    generate(model, PROMPTS, max_new_tokens=5, end_token=END, temperature=0.0, generator=generator)
    assert torch.equal(generator.get_state(), before)


def test_log_probs_of_a_model_in_bfloat16_are_float32(model):
    low = copy.deepcopy(model).to(torch.bfloat16)
    rollouts = sample(low)
    sequences = from_samples(PROMPTS, rollouts.samples(), END)
    log_probs = token_log_probs(next_token_logits(low, sequences), sequences.targets)
    sampled = rollouts.log_probs[rollouts.mask]
    assert sampled.dtype == torch.float32
    assert not torch.equal(sampled, sampled.bfloat16().float())
    torch.testing.assert_close(log_probs[sequences.mask], sampled, atol=0.25, rtol=0.05)


def test_the_same_seed_gives_the_same_rollouts_and_another_seed_others(model):
    assert torch.equal(sample(model, seed=1).tokens, sample(model, seed=1).tokens)
    assert sample(model, seed=1).tokens.tolist() != sample(model, seed=2).tokens.tolist()


def test_samples_follow_the_distribution(model):
    first = sample(model, prompts=[[3, 5, 7]] * 20_000, new=1).tokens[:, 0]
    expected = model(torch.tensor([[3, 5, 7]])).logits[0, -1].softmax(-1)
    counts = first.bincount(minlength=41)
    deviations = (counts - 20_000 * expected) / (20_000 * expected * (1 - expected)).sqrt()
    assert deviations.abs().max() < 4.5


def test_lengths_and_ends(model):
    rollouts = sample(model, new=5)
    assert rollouts.tokens.shape == rollouts.log_probs.shape
    assert rollouts.tokens.shape[1] == rollouts.lengths.max() <= 5
    for tokens, length in zip(rollouts.tokens, rollouts.lengths, strict=True):
        ended = length < rollouts.tokens.shape[1] or tokens[-1] == END
        assert (tokens[length - 1] == END) == ended
        assert (tokens[: length - 1] != END).all()


@pytest.mark.parametrize(
    ("prompts", "new", "message"),
    [
        ([], 5, "must be prompts"),
        ([[1], []], 5, "none may be empty"),
        ([[1, 2]], 511, "513 positions"),
        ([[1]], 0, "at least 1"),
    ],
)
def test_bad_input(model, prompts, new, message):
    with pytest.raises(ValueError, match=message):
        generate(model, prompts, max_new_tokens=new, end_token=END)


def test_all_positions_can_be_used(model):
    rollouts = generate(model, [[1, 2]], max_new_tokens=510, end_token=41)
    assert rollouts.lengths.tolist() == [510]


def test_samples_are_asked_for(model):
    with pytest.raises(ValueError, match="samples_per_prompt is 0 and must be at least 1"):
        sample(model, samples_per_prompt=0)
