"""What a model makes of additions: its completions, and whether their answers are right."""

from collections.abc import Callable, Sequence
from random import Random

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from rlkl import addition, rollout
from rlkl.addition import Operands
from rlkl.errors import InputError
from rlkl.rollout import Rollouts
from rlkl.sequences import next_token_logits
from rlkl.texts import END_TOKEN, decode, encode, longest_completion, positions_needed, right_sequences

OPERANDS: dict[str, Callable[[int, Random], Operands]] = {"identical": addition.identical, "varying": addition.varying}


def sample(kind: str, digits: int, examples: int, seed: int) -> list[Operands]:
    """Additions for an evaluation, the same for the same seed. Args: kind: `identical` or `varying`."""
    rng = Random(f"{kind}-{digits}-{seed}")
    return [OPERANDS[kind](digits, rng) for _ in range(examples)]


def check_positions(positions: int, digits: int) -> None:
    """Refuse operands that a model has no positions for. Raises InputError."""
    needed = positions_needed(digits)
    if needed > positions:
        raise InputError(
            f"additions of {digits} digits need {needed} positions and the model has {positions}: "
            "use fewer digits, or pre-train a model with more architecture.positions."
        )


def roll_out(
    model: GPT2LMHeadModel, operands: Sequence[Operands], temperature: float, generator: torch.Generator | None = None
) -> tuple[list[list[int]], Rollouts]:
    """Let the model complete the prompts of additions. Returns: the prompts' tokens, and what was sampled."""
    prompts = encode(map(addition.prompt, operands))
    return prompts, rollout.generate(
        model,
        prompts,
        max_new_tokens=longest_completion(operands),
        end_token=END_TOKEN,
        temperature=temperature,
        generator=generator,
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
    """The completions that the model gives to additions.

    Args:
        temperature: 0 for the most likely character each time.
        seed: of the sampling.
        advance: called with the number of additions done after each batch, for a progress bar.
    """
    generator = torch.Generator().manual_seed(seed)
    texts = [addition.completion(pair) for pair in operands]
    order = sorted(range(len(operands)), key=lambda index: len(texts[index]))
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        unknown = batch
        if temperature == 0:
            right = completes_right(model, [operands[index] for index in batch])
            unknown = [index for index, is_right in zip(batch, right.tolist(), strict=True) if not is_right]
        if unknown:
            _, rollouts = roll_out(model, [operands[index] for index in unknown], temperature, generator)
            for index, text in zip(unknown, decode(rollouts), strict=True):
                texts[index] = text
        advance(len(batch))
    return texts


@torch.no_grad()
def completes_right(model: GPT2LMHeadModel, operands: Sequence[Operands]) -> Tensor:
    """Whether the model, taking the most likely character each time, writes exactly the right completion.

    One pass over the right texts tells, where rolling them out takes hundreds of steps.

    Returns:
        (B,) bool
    """
    sequences = right_sequences(operands).to(model.device)
    likeliest = next_token_logits(model, sequences).argmax(-1)  # (B, T)
    return ((likeliest == sequences.targets) | ~sequences.mask).all(1)


def grades(operands: Sequence[Operands], texts: Sequence[str]) -> list[bool]:
    """Whether each answer is right."""
    return [addition.grade(pair, text) for pair, text in zip(operands, texts, strict=True)]


def accuracy(model: GPT2LMHeadModel, operands: Sequence[Operands]) -> float:
    """The share of additions that the model answers right, taking the most likely character each time."""
    right = grades(operands, complete(model, operands))
    return sum(right) / len(right)
