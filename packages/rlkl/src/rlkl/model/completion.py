"""A model's completions of the problems of its task, and their grades."""

from collections.abc import Callable, Sequence
from random import Random

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from rlkl import rollout
from rlkl.model.language_model import task_of
from rlkl.model.sequences import next_token_logits
from rlkl.model.texts import END_TOKEN, decode, drafts, encode, longest_completion, positions_needed, right_sequences
from rlkl.rollout.engine import Rollouts
from rlkl.tasks.operands import Operands
from rlkl.tasks.registry import Task
from rlkl_htc_common.errors import InputError


def sample(task: Task, kind: str, digits: int, examples: int, seed: int, trained_digits: int | None = None) -> list[Operands]:
    """Problems for an evaluation, determined by the seed.

    Args:
        kind: `identical`: all operands have this many digits; `varying`: one has, the other at most; or `training_mix`: as in
            training, and in the paper's RL figures. Up to the trained digits it is the mix of pre-training, beyond them the mix
            of fine-tuning, in which half of the problems have two operands with more digits than trained.
        trained_digits: N; for `training_mix` only.
    """
    rng = Random(f"{kind}-{digits}-{seed}")
    if kind != "training_mix":
        draw = {"identical": task.identical, "varying": task.varying}[kind]
        return [draw(digits, rng) for _ in range(examples)]
    if trained_digits is None:
        raise ValueError("a training mix depends on trained_digits.")
    if digits <= trained_digits:
        return [task.balanced(digits, rng) for _ in range(examples)]
    return [task.longer(trained_digits, digits, rng) for _ in range(examples)]


def check_positions(task: Task, positions: int, digits: int) -> None:
    """Raise InputError if a model has too few positions for this number of digits."""
    needed = positions_needed(task, digits) if digits < positions else digits + 1  # a text is longer than a number in it
    if needed > positions:
        raise InputError(
            f"{task.PLURAL} of {digits} digits need {needed} positions and the model has {positions}: "
            "use fewer digits, or pre-train a model with more architecture.positions."
        )


def roll_out(
    model: GPT2LMHeadModel, operands: Sequence[Operands], temperature: float, generator: torch.Generator | None = None
) -> tuple[list[list[int]], Rollouts]:
    """Sample completions of problems of the model's task. Returns: the prompts' tokens, and the rollouts."""
    task = task_of(model)
    prompts = encode(map(task.prompt, operands))
    return prompts, rollout.generate(
        model,
        prompts,
        max_new_tokens=longest_completion(task, operands),
        end_token=END_TOKEN,
        temperature=temperature,
        generator=generator,
        draft=drafts(task, operands),
    )


def complete(
    model: GPT2LMHeadModel,
    operands: Sequence[Operands],
    *,
    temperature: float = 0.0,
    seed: int = 0,
    batch_size: int = 100,
    advance: Callable[[int], object] = lambda done: None,
) -> list[str]:
    """The model's completions of problems of its task.

    Args:
        temperature: 0 for greedy decoding.
        seed: of the sampling.
        advance: called after each batch with its number of problems, for a progress bar.
    """
    generator = torch.Generator().manual_seed(seed)
    task = task_of(model)
    texts = [task.completion(pair) for pair in operands]
    order = sorted(range(len(operands)), key=lambda index: len(texts[index]))
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        unknown = batch
        if temperature == 0:
            right = completes_right(model, [operands[index] for index in batch])
            unknown = [index for index, is_right in zip(batch, right.tolist(), strict=True) if not is_right]
        if unknown:
            _, rollouts = roll_out(model, [operands[index] for index in unknown], temperature, generator)
            for index, text in zip(unknown, decode(rollouts.samples()), strict=True):
                texts[index] = text
        advance(len(batch))
    return texts


@torch.no_grad()
def completes_right(model: GPT2LMHeadModel, operands: Sequence[Operands], batch_size: int | None = None) -> Tensor:
    """Whether the model's greedy completion is exactly the right one.

    One pass over the right texts is enough; a rollout would take hundreds of steps.

    Args: batch_size: see `Sequences.parts`.

    Returns:
        (B,) bool
    """
    right = []
    for _, part in right_sequences(task_of(model), operands).parts(model.device, batch_size):
        likeliest = next_token_logits(model, part).argmax(-1)  # (b, t)
        right.append(((likeliest == part.targets) | ~part.mask).all(1))
    return torch.cat(right)


def grades(task: Task, operands: Sequence[Operands], texts: Sequence[str]) -> list[bool]:
    """Whether each answer is right."""
    return [task.grade(pair, text) for pair, text in zip(operands, texts, strict=True)]


def accuracy(model: GPT2LMHeadModel, operands: Sequence[Operands], temperature: float = 0.0) -> float:
    """The share of problems that the model answers right. Args: temperature: 0 for greedy decoding."""
    right = grades(task_of(model), operands, complete(model, operands, temperature=temperature))
    return sum(right) / len(right)
