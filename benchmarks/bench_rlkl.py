"""make benchmark: rollouts of the embedded model, 50 additions of 8 digits sampled at temperature 1, on all cores.

The same rollouts three ways: by rlkl's engine, by transformers' `generate` with its cache, and by one full forward per
token, as the paper's public code does. The last would take minutes: its forwards are timed at every STRIDE-th length and
stand for the others, since their cost depends on the length only.
"""

import os
from random import Random

import pytest
import torch

from rlkl import addition
from rlkl.evaluation import roll_out
from rlkl.language_model import load_model
from rlkl.sequences import from_rollouts, next_token_logits
from rlkl.texts import END_TOKEN, encode, longest_completion

BATCH, DIGITS, STRIDE = 50, 8, 40
ROUNDS = 5


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    return load_model("addition-n5")


@pytest.fixture(scope="module")
def operands():
    rng = Random(0)
    return [addition.identical(DIGITS, rng) for _ in range(BATCH)]


def tell(benchmark, tokens):
    benchmark.extra_info["tokens_per_second"] = round(tokens / benchmark.stats.stats.median)


def test_rollouts(benchmark, model, operands):
    generator = torch.Generator()

    def run():
        return roll_out(model, operands, 1.0, generator.manual_seed(0))[1]

    rollouts = benchmark.pedantic(run, rounds=ROUNDS, warmup_rounds=1)
    tell(benchmark, int(rollouts.lengths.sum()))


def test_rollouts_by_transformers_generate(benchmark, model, operands):
    prompts = encode(map(addition.prompt, operands))
    width = max(map(len, prompts))
    inputs = torch.tensor([[END_TOKEN] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    limit = longest_completion(addition, operands)

    def run():
        torch.manual_seed(0)
        return model.generate(
            input_ids=inputs, attention_mask=mask, do_sample=True, top_k=0, max_new_tokens=limit, pad_token_id=END_TOKEN
        )

    tokens = benchmark.pedantic(run, rounds=ROUNDS, warmup_rounds=1)[:, width:]
    ended = (tokens == END_TOKEN).int().cumsum(1)
    tell(benchmark, int((ended == 0).sum() + (ended.amax(1) > 0).sum()))


@torch.no_grad()
def test_rollouts_without_a_cache(benchmark, model, operands):
    prompts, rollouts = roll_out(model, operands, 1.0, torch.Generator().manual_seed(0))
    sequences = from_rollouts(prompts, rollouts, END_TOKEN)
    start, steps = max(map(len, prompts)), rollouts.tokens.shape[1]
    lengths = range(start, start + steps, STRIDE)

    def run():
        for length in lengths:
            logits = model(input_ids=sequences.tokens[:, :length], use_cache=False).logits[:, -1]
            torch.multinomial(logits.softmax(-1), 1)

    benchmark.pedantic(run, rounds=1, warmup_rounds=1)
    tell(benchmark, int(rollouts.lengths.sum()) * len(lengths) / steps)


def test_scoring_the_same_tokens_in_one_pass(benchmark, model, operands):
    sequences = from_rollouts(*roll_out(model, operands, 1.0, torch.Generator().manual_seed(0)), END_TOKEN)
    with torch.no_grad():
        benchmark.pedantic(next_token_logits, args=(model, sequences), rounds=ROUNDS, warmup_rounds=1)
    tell(benchmark, int(sequences.mask.sum()))
