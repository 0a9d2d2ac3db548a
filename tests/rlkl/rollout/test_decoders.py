import copy
import shutil

import pytest
import torch
from torch._dynamo.utils import counters

from rlkl.rollout import decoders
from rlkl.rollout.decoders import DynamicDecoder, StaticDecoder, choose, static_cache, static_decoder
from rlkl.rollout.engine import generate

PROMPTS = [[3, 5, 7], [1], [2, 4, 6, 8, 10, 12], [9, 9], [40, 1, 2, 3, 4, 5, 6]]
END, NEVER = 0, 41


def eager(model, rows, columns, temperature):
    return StaticDecoder(model, static_cache(model, rows, columns), temperature, decoders.advance)


def sample(model, make_decoder, prompts=PROMPTS, new=60, end=END, temperature=1.0, **more):
    generator = torch.Generator().manual_seed(0)
    return generate(
        model,
        prompts,
        max_new_tokens=new,
        end_token=end,
        temperature=temperature,
        generator=generator,
        make_decoder=make_decoder,
        **more,
    )


def assert_same(some, others):
    assert torch.equal(some.tokens, others.tokens)
    torch.testing.assert_close(some.log_probs, others.log_probs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("end", [END, NEVER])
def test_both_decoders_give_the_same(model, temperature, end):
    expected = sample(model, DynamicDecoder, temperature=temperature, end=end, samples_per_prompt=2)
    assert_same(sample(model, eager, temperature=temperature, end=end, samples_per_prompt=2), expected)


def test_a_static_cache_is_read_up_to_its_last_column(model, monkeypatch):
    monkeypatch.setattr(decoders, "BUCKET", 16)
    expected = sample(model, DynamicDecoder, new=505, end=NEVER)  # 7 + 505 columns: the model has 512 positions
    assert_same(sample(model, eager, new=505, end=NEVER), expected)


def test_what_a_static_cache_held_before_does_not_matter(model):
    expected = sample(model, DynamicDecoder, prompts=PROMPTS[:2])
    kept = static_cache(model, 8, 200)
    for buffer in kept.buffers():
        buffer.fill_(float("nan") if buffer.is_floating_point() else 5)
    assert_same(sample(model, eager, prompts=PROMPTS[:2]), expected)
    assert static_cache(model, 2, 10) is kept


def test_a_static_cache_grows_and_never_shrinks(model):
    decoders._caches.pop(model, None)
    first = static_cache(model, 5, 100)
    assert (first.rows, first.columns) == (8, 128)
    more_rows = static_cache(model, 9, 20)
    assert (more_rows.rows, more_rows.columns) == (16, 128)
    more_columns = static_cache(model, 2, 129)
    assert (more_columns.rows, more_columns.columns) == (16, 256)
    assert static_cache(model, 16, 256) is more_columns


def test_a_static_cache_follows_the_precision_of_its_model(model):
    expected = static_cache(model, 4, 10).layers[0].keys.dtype
    model.to(torch.bfloat16)
    assert static_cache(model, 4, 10).layers[0].keys.dtype == torch.bfloat16
    model.to(torch.float32)
    assert static_cache(model, 4, 10).layers[0].keys.dtype == expected == torch.float32


def test_dropped_rows_leave_the_others_as_they_were(model):
    prompts, padding = torch.tensor([[0, 3], [4, 5], [6, 7], [8, 9]]), torch.tensor([1, 0, 0, 0])
    whole, part = (DynamicDecoder(model, 4, 10, 0.0) for _ in range(2))
    noise = torch.zeros(4, dtype=torch.float64)
    with torch.no_grad():
        for decoder in (whole, part):
            decoder.start(prompts, padding, 1, noise)
            decoder.step(noise)
        kept = part.drop(torch.tensor([True, False, True, False]))
        assert sorted(kept.tolist()) == [1, 3]
        for _ in range(5):
            expected, expected_log_probs = whole.step(noise)
            tokens, log_probs = part.step(noise[:2])
            assert torch.equal(tokens, expected[kept])
            torch.testing.assert_close(log_probs, expected_log_probs[kept])


def test_choice_inverts_the_distribution_function():
    probabilities = torch.tensor([[0.0, 0.25, 0.0, 0.5, 0.25, 0.0]])
    expected = {0.0: 1, 0.2499: 1, 0.2501: 3, 0.7499: 3, 0.7501: 4, 1 - 2**-53: 4}
    for noise, token in expected.items():
        chosen, log_prob = choose(probabilities.log(), torch.tensor([noise], dtype=torch.float64), 1.0)
        assert chosen.item() == token
        torch.testing.assert_close(log_prob, probabilities[0, token].log()[None])


def test_choice_at_a_temperature():
    logits = torch.randn(1, 7, generator=torch.Generator().manual_seed(0)).expand(40_000, -1)
    noise = torch.rand(40_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    chosen, log_probs = choose(logits, noise, 2.0)
    expected = (logits[0] / 2).softmax(-1)
    torch.testing.assert_close(log_probs.exp(), expected[chosen])
    torch.testing.assert_close(chosen.bincount(minlength=7) / 40_000, expected, atol=0.01, rtol=0.0)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_the_compiled_step_is_the_same_and_is_compiled_once_for_each_number_of_columns(model, monkeypatch):
    monkeypatch.setattr(decoders, "BUCKET", 32)
    expected = sample(model, DynamicDecoder)
    before = counters["stats"]["unique_graphs"]
    for _ in range(2):
        assert_same(sample(model, static_decoder), expected)
    assert counters["stats"]["unique_graphs"] - before == -(-(7 + 60) // 32)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_both_decoders_give_the_same(model):
    there = copy.deepcopy(model).to("cuda")
    expected = sample(there, DynamicDecoder)
    assert_same(sample(there, static_decoder), expected)
