"""Additions as tokens, and tokens as text."""

from collections.abc import Iterable, Sequence

from rlkl import addition
from rlkl.addition import Operands
from rlkl.rollout import Rollouts
from rlkl.sequences import Sequences, from_tokens
from rlkl.tokenizer import character_tokenizer

TOKENIZER = character_tokenizer()
END_TOKEN: int = TOKENIZER.eos_token_id
SLACK = 64  # tokens that a completion may be longer than the right one before it is cut: about one scratchpad line


def encode(texts: Iterable[str]) -> list[list[int]]:
    """The tokens of texts."""
    return TOKENIZER(list(texts))["input_ids"]


def decode(rollouts: Rollouts) -> list[str]:
    """The texts of rollouts, without the end token."""
    return [
        str(TOKENIZER.decode(row[:length], skip_special_tokens=True))
        for row, length in zip(rollouts.tokens.tolist(), rollouts.lengths.tolist(), strict=True)
    ]


def right_sequences(operands: Sequence[Operands]) -> Sequences:
    """Prompts with their right completions."""
    return from_tokens(encode(map(addition.prompt, operands)), encode(map(addition.completion, operands)), END_TOKEN)


def longest_completion(operands: Iterable[Operands]) -> int:
    """The number of tokens that completions may have: that of the longest right one, its end token, and some slack."""
    return max(len(addition.completion(pair)) for pair in operands) + 1 + SLACK


def positions_needed(digits: int) -> int:
    """The positions that a model needs to add numbers of so many digits."""
    nines = Operands(10**digits - 1, 10**digits - 1)
    return len(addition.prompt(nines)) + longest_completion([nines])
