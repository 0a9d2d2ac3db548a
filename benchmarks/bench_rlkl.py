"""make benchmark: rollouts and updates on additions, on all cores, or on the GPU if there is one.

Rollouts in three ways: with rlkl's engine, with transformers' `generate` and its cache, and with one full forward per token, as
in the paper's public code (whose updates also read the whole prefix of each transition). The last would take minutes, so it is
timed only at every STRIDE-th length: its cost depends only on the length. Within a benchmark, compared versions alternate;
memory is measured in a separate process.
"""

import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from random import Random

import pytest
import torch
from hierarchies import seconds
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from rlkl.analysis.comma_probabilities import CriticalProbabilities
from rlkl.commands.config import register
from rlkl.commands.finetune import settings_of
from rlkl.finetuning.learner import Learner
from rlkl.model.completion import completes_right, roll_out
from rlkl.model.language_model import load_model, move, new_model
from rlkl.model.sequences import from_samples, next_token_logits
from rlkl.model.texts import END_TOKEN, drafts, encode, longest_completion, positions_needed
from rlkl.rollout.decoders import DynamicDecoder, StaticDecoder, advance, static_cache
from rlkl.rollout.engine import generate
from rlkl.tasks import addition
from rlkl_htc_common.commands.application import conf_dir
from rlkl_htc_common.training.trainer import make_accelerator

BATCH, DIGITS, STRIDE = 50, 8, 40
ROUNDS = 5
NEVER = END_TOKEN + 10_000  # an end token that no row samples: all rows get the length that is asked for
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def learner() -> Learner:
    """The learner of rlkl-finetune with default settings."""
    register()
    with initialize_config_dir(str(conf_dir("rlkl")), version_base="1.3"):
        config = OmegaConf.to_object(compose("finetune"))
    penalty, algorithm = settings_of(config)
    model, accelerator = load_model(config.model), make_accelerator()
    return Learner(model, accelerator, penalty=penalty, algorithm=algorithm, extra_digits=1, seed=0)


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    return move(load_model("addition-n5"), DEVICE)


@pytest.fixture(scope="module")
def operands():
    rng = Random(0)
    return [addition.identical(DIGITS, rng) for _ in range(BATCH)]


def report_speed(benchmark, tokens):
    benchmark.extra_info["tokens_per_second"] = round(tokens / benchmark.stats.stats.median)


def wait_for_device():
    """Wait until launched kernels are done."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def peak_memory_mb():
    """Peak memory of the GPU's allocator, or of this process (Linux; getrusage would include its parent's)."""
    if DEVICE.type == "cuda":
        return round(torch.cuda.max_memory_allocated() / 2**20)
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return round(int(line.split()[1]) / 2**10)


def report_memory(benchmark, work):
    """Peak megabytes before and after a piece of work, in a separate process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        before, after = pool.submit(memory_around, work).result()
    benchmark.extra_info.update(peak_memory_mb=after, of_which_before_mb=before)


def memory_around(work):
    """Args: work: sets up and does the work. Returns: peak memory before (with the libraries loaded) and after."""
    before = peak_memory_mb()
    work()
    return before, peak_memory_mb()


def roll_out_once():
    """As `test_rollouts`."""
    rng = Random(0)
    roll_out(
        move(load_model("addition-n5"), DEVICE), [addition.identical(DIGITS, rng) for _ in range(BATCH)], 1.0, torch.Generator()
    )


def sample_and_update_once():
    """As `test_sampling_and_update`."""
    work = learner()
    work.update(0, *work.sample_episodes(0))


def in_turns(one, other, rounds=ROUNDS):
    """The fewest seconds of each."""
    pairs = [(seconds(one, 1), seconds(other, 1)) for _ in range(rounds)]
    return tuple(map(min, zip(*pairs, strict=True)))


def forced(model, prompts, length, **more):
    """Rollouts whose rows all have the same length."""
    rollouts = generate(
        model, prompts, max_new_tokens=length, end_token=NEVER, generator=torch.Generator().manual_seed(0), **more
    )
    wait_for_device()
    return rollouts


def by_generate(model, prompts, limit):
    """Rollouts by transformers. Args: prompts: P token sequences; limit: of new ones. Returns: (P, T), padded by end tokens."""
    width = max(map(len, prompts))
    inputs = torch.tensor([[END_TOKEN] * (width - len(prompt)) + prompt for prompt in prompts], device=DEVICE)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=DEVICE)
    made = model.generate(
        input_ids=inputs, attention_mask=mask, do_sample=True, top_k=0, max_new_tokens=limit, pad_token_id=END_TOKEN
    )
    return made[:, width:]


def uncached_seconds(model, sequences, start, steps):
    """The time of one full forward per token. Args: sequences: the rollouts; start: the prompts' length; steps: new tokens."""
    lengths = range(start, start + steps, STRIDE)

    def run():
        for length in lengths:
            logits = model(input_ids=sequences.tokens[:, :length], use_cache=False).logits[:, -1]
            torch.multinomial(logits.softmax(-1), 1)
        wait_for_device()

    return seconds(run, 1) * steps / len(lengths)


def test_rollouts(benchmark, model, operands):
    generator = torch.Generator()

    def run():
        return roll_out(model, operands, 1.0, generator.manual_seed(0))[1]

    rollouts = benchmark.pedantic(run, rounds=ROUNDS, warmup_rounds=1)
    report_speed(benchmark, int(rollouts.lengths.sum()))
    report_memory(benchmark, roll_out_once)


@pytest.mark.parametrize("digits", [6, DIGITS])
def test_rollouts_with_drafts_against_without(benchmark, model, digits):
    """Samples are the same. At temperature 2 and far beyond the digits of pre-training, few drafts are right."""
    rng = Random(0)
    operands = [addition.longer(5, digits, rng) for _ in range(BATCH)]
    prompts, limit = encode(map(addition.prompt, operands)), longest_completion(addition, operands)

    def run(temperature, draft=None):
        generator = torch.Generator().manual_seed(0)
        found = generate(
            model,
            prompts,
            max_new_tokens=limit,
            end_token=END_TOKEN,
            temperature=temperature,
            generator=generator,
            draft=draft and draft(addition, operands),
        )
        wait_for_device()
        return found

    for temperature in (1.0, 2.0):
        assert torch.equal(run(temperature).tokens, run(temperature, drafts).tokens)
        without, with_drafts = in_turns(partial(run, temperature), partial(run, temperature, drafts), rounds=3)
        benchmark.extra_info[f"times_faster_at_temperature_{temperature:.0f}"] = round(without / with_drafts, 2)
    rollouts = benchmark.pedantic(run, (1.0, drafts), rounds=ROUNDS)
    report_speed(benchmark, int(rollouts.lengths.sum()))


@pytest.mark.parametrize("what", ["right texts", "critical tokens"])
def test_an_evaluation_in_parts_against_one_of_all(benchmark, model, what):
    """100 additions of 8 digits: passes of `Sequences.parts`, and one pass over all."""
    rng = Random(0)
    problems = [addition.identical(DIGITS, rng) for _ in range(100)]
    critical = CriticalProbabilities(addition, problems, 5)
    evaluate = {"right texts": partial(completes_right, model, problems), "critical tokens": partial(critical.scores, model)}
    run = evaluate[what]
    whole, parts = in_turns(partial(run, batch_size=100), run, rounds=3)
    benchmark.pedantic(run, rounds=ROUNDS)
    report_speed(benchmark, int(critical.sequences.mask.sum()))
    benchmark.extra_info["times_faster"] = round(whole / parts, 2)


def test_rollouts_by_transformers_generate(benchmark, model, operands):
    prompts, limit = encode(map(addition.prompt, operands)), longest_completion(addition, operands)

    def run():
        torch.manual_seed(0)
        return by_generate(model, prompts, limit)

    tokens = benchmark.pedantic(run, rounds=ROUNDS, warmup_rounds=1)
    ended = (tokens == END_TOKEN).int().cumsum(1)
    report_speed(benchmark, int((ended == 0).sum() + (ended.amax(1) > 0).sum()))


@torch.no_grad()
def test_rollouts_without_a_cache(benchmark, model, operands):
    prompts, rollouts = roll_out(model, operands, 1.0, torch.Generator().manual_seed(0))
    sequences = from_samples(prompts, rollouts.samples(), END_TOKEN).to(DEVICE)
    start, steps = max(map(len, prompts)), rollouts.tokens.shape[1]
    taken = benchmark.pedantic(uncached_seconds, (model, sequences, start, steps), rounds=1, warmup_rounds=1)
    benchmark.extra_info["tokens_per_second"] = round(int(rollouts.lengths.sum()) / taken)


def test_scoring_the_same_tokens_in_one_pass(benchmark, model, operands):
    prompts, rollouts = roll_out(model, operands, 1.0, torch.Generator().manual_seed(0))
    sequences = from_samples(prompts, rollouts.samples(), END_TOKEN).to(DEVICE)

    @torch.no_grad()
    def run():
        next_token_logits(model, sequences)
        wait_for_device()

    benchmark.pedantic(run, rounds=ROUNDS, warmup_rounds=1)
    report_speed(benchmark, int(sequences.mask.sum()))


def test_prompts_read_once_for_all_their_samples(benchmark, model):
    """8 prompts of 256 tokens, 16 samples of 32 tokens each, compared with a copy of the prompt for each sample."""
    prompts = torch.randint(40, (8, 256), generator=torch.Generator().manual_seed(0)).tolist()
    copies = [prompt for prompt in prompts for _ in range(16)]
    once, each = in_turns(
        lambda: forced(model, prompts, 32, samples_per_prompt=16), lambda: forced(model, copies, 32), rounds=3
    )
    benchmark.pedantic(forced, (model, prompts, 32), {"samples_per_prompt": 16}, rounds=ROUNDS)
    report_speed(benchmark, len(copies) * 32)
    benchmark.extra_info["times_faster"] = round(each / once, 2)


@pytest.mark.skipif(DEVICE.type == "cuda", reason="on a GPU, test_share_of_the_memory_bandwidth compares the decoders")
def test_dynamic_decoder_against_a_static_one(benchmark, model, operands):
    """The static step without compilation: the cost of fixed shapes on a CPU."""
    prompts, limit = encode(map(addition.prompt, operands)), 300

    def static(model, rows, columns, temperature):
        return StaticDecoder(model, static_cache(model, rows, columns), temperature, advance)

    dynamic_seconds, static_seconds = in_turns(
        lambda: forced(model, prompts, limit, make_decoder=DynamicDecoder),
        lambda: forced(model, prompts, limit, make_decoder=static),
        rounds=3,
    )
    benchmark.pedantic(forced, (model, prompts, limit), rounds=ROUNDS)
    report_speed(benchmark, len(prompts) * limit)
    benchmark.extra_info["times_faster"] = round(static_seconds / dynamic_seconds, 2)


def test_cost_per_token_as_digits_grow(benchmark):
    """Microseconds per token for completions of the right length, random weights: 10 additions of 3 to 15 digits."""
    positions = positions_needed(addition, 15)
    model = new_model(addition, layers=3, heads=4, width=96, positions=positions, dropout=0.0, trained_digits=3).eval()
    move(model, DEVICE)
    costs = {}
    for digits in (3, 6, 9, 12, 15):
        nines = addition.Operands(10**digits - 1, 10**digits - 1)
        prompts, length = encode([addition.prompt(nines)] * 10), len(addition.completion(nines)) + 1
        taken = seconds(lambda prompts=prompts, length=length: forced(model, prompts, length), rounds=2)
        costs[digits] = round(1e6 * taken / (len(prompts) * length), 1)
    benchmark.extra_info["microseconds_per_token"] = costs
    benchmark.pedantic(forced, (model, prompts, length), rounds=1)
    report_speed(benchmark, len(prompts) * length)


def test_sampling_and_update(benchmark, model, tmp_path):
    """One iteration of rlkl-finetune with default settings: total, update only, and the other ways of rollout."""
    work = learner()
    work.update(0, *work.sample_episodes(0))
    tokens, updates, iterations = [], [], []

    def sample_and_update():
        started = time.perf_counter()
        episodes, rewards = work.sample_episodes(1)
        iterations.append(time.perf_counter() - started)
        started = time.perf_counter()
        work.update(1, episodes, rewards)
        wait_for_device()
        updates.append(time.perf_counter() - started)
        tokens.append(int(episodes.mask.sum()))
        return episodes

    episodes = benchmark.pedantic(sample_and_update, rounds=3)
    report_speed(benchmark, tokens[-1])
    width, steps = int(episodes.prompt_lengths.max()), int((episodes.lengths - episodes.prompt_lengths).max())
    prompts = [row[:length].tolist() for row, length in zip(episodes.tokens, episodes.prompt_lengths, strict=True)]
    torch.manual_seed(0)
    generated = seconds(lambda: (by_generate(model, prompts, steps), wait_for_device()), 2)
    with torch.no_grad():
        uncached = uncached_seconds(model, episodes, width, steps)
    by_transitions = transition_seconds(model, work.reference, episodes, width, steps)
    update, iteration = min(updates), min(iterations)
    benchmark.extra_info.update(
        update_tokens_per_second=round(tokens[-1] / update),
        update_by_transitions_tokens_per_second=round(1 / by_transitions),
        with_generate_tokens_per_second=round(tokens[-1] / (update + generated)),
        without_a_cache_tokens_per_second=round(tokens[-1] / (uncached + tokens[-1] * by_transitions)),
        share_of_rollouts=round(iteration / (iteration + update), 2),
    )
    report_memory(benchmark, sample_and_update_once)


def transition_seconds(model, reference, sequences, start, steps, rows=10):
    """Seconds per token of an update that reads the whole prefix of each token, with policy and reference, `rows` at a time."""
    lengths = range(start, start + steps, STRIDE)

    def run():
        for length in lengths:
            inputs = {"input_ids": sequences.tokens[:rows, :length], "use_cache": False}
            with torch.no_grad():
                target = reference(**inputs).logits[:, -1].log_softmax(-1)
            model.zero_grad()
            (model(**inputs).logits[:, -1].log_softmax(-1) - target).square().mean().backward()
        wait_for_device()

    model.requires_grad_(True)
    return seconds(run, 1) / (rows * len(lengths))


@pytest.mark.skipif(DEVICE.type != "cuda", reason="needs a CUDA device")
def test_share_of_the_memory_bandwidth(benchmark):
    """85M parameters in bfloat16, 256 rows of 400 tokens: bytes that must be read, relative to the device's copy bandwidth."""
    model = new_model(addition, layers=12, heads=12, width=768, positions=1024, dropout=0.0, trained_digits=3).eval()
    move(model, DEVICE).to(torch.bfloat16)
    prompts, length = [[1] * 30] * 256, 400
    forced(model, prompts, length)  # compiles
    static_seconds, dynamic_seconds = in_turns(
        lambda: forced(model, prompts, length), lambda: forced(model, prompts, length, make_decoder=DynamicDecoder), rounds=3
    )
    benchmark.pedantic(forced, (model, prompts, length), rounds=ROUNDS)
    report_speed(benchmark, len(prompts) * length)
    there = torch.empty(2**31, dtype=torch.uint8, device=DEVICE)

    def copy():
        there.clone()
        torch.cuda.synchronize()

    bandwidth = 2 * len(there) / seconds(copy, rounds=10)  # read and written
    weights = 2 * sum(parameter.numel() for parameter in model.parameters())
    cached = 2 * 2 * 12 * 768 * len(prompts) * sum(range(30, 30 + length))
    benchmark.extra_info.update(
        share_of_bandwidth=round((weights * length + cached) / bandwidth / benchmark.stats.stats.median, 3),
        copied_gb_per_second=round(bandwidth / 1e9),
        times_faster=round(dynamic_seconds / static_seconds, 2),
        peak_memory_mb=peak_memory_mb(),
    )
