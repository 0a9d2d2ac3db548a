"""What a model makes of additions: its completions, and whether their answers are right."""

from collections.abc import Callable, Iterable, Sequence
from random import Random

import torch
from transformers import GPT2LMHeadModel

from rlkl import addition, rollout
from rlkl.addition import Operands
from rlkl.errors import InputError
from rlkl.rollout import Rollouts
from rlkl.tokenizer import character_tokenizer

OPERANDS: dict[str, Callable[[int, Random], Operands]] = {"identical": addition.identical, "varying": addition.varying}
SLACK = 64  # characters that a completion may be longer than the right one before it is cut: about one scratchpad line

TOKENIZER = character_tokenizer()
END_TOKEN: int = TOKENIZER.eos_token_id


def sample(kind: str, digits: int, examples: int, seed: int) -> list[Operands]:
    """Additions for an evaluation, the same for the same seed. Args: kind: `identical` or `varying`."""
    rng = Random(f"{kind}-{digits}-{seed}")
    return [OPERANDS[kind](digits, rng) for _ in range(examples)]


def encode(texts: Iterable[str]) -> list[list[int]]:
    """The tokens of texts."""
    return TOKENIZER(list(texts))["input_ids"]


def decode(rollouts: Rollouts) -> list[str]:
    """The texts of rollouts, without the end token."""
    return [
        str(TOKENIZER.decode(row[:length], skip_special_tokens=True))
        for row, length in zip(rollouts.tokens.tolist(), rollouts.lengths.tolist(), strict=True)
    ]


def longest_completion(operands: Iterable[Operands]) -> int:
    """The number of tokens that completions may have: that of the longest right one, its end token, and some slack."""
    return max(len(addition.completion(pair)) for pair in operands) + 1 + SLACK


def check_positions(model: GPT2LMHeadModel, digits: int) -> None:
    """Refuse operands that the model has no positions for. Raises InputError."""
    nines = Operands(10**digits - 1, 10**digits - 1)
    needed = len(addition.prompt(nines)) + longest_completion([nines])
    if needed > model.config.n_positions:
        raise InputError(
            f"additions of {digits} digits need {needed} positions; the model has {model.config.n_positions}: "
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
    order = sorted(range(len(operands)), key=lambda index: len(addition.completion(operands[index])))
    texts = [""] * len(operands)
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        _, rollouts = roll_out(model, [operands[index] for index in batch], temperature, generator)
        for index, text in zip(batch, decode(rollouts), strict=True):
            texts[index] = text
        advance(len(batch))
    return texts


def grades(operands: Sequence[Operands], texts: Sequence[str]) -> list[bool]:
    """Whether each answer is right."""
    return [addition.grade(pair, text) for pair, text in zip(operands, texts, strict=True)]


def accuracy(model: GPT2LMHeadModel, operands: Sequence[Operands]) -> float:
    """The share of additions that the model answers right, taking the most likely character each time."""
    right = grades(operands, complete(model, operands))
    return sum(right) / len(right)
