"""Problems as tokens, and tokens as text.

One tokenizer serves all tasks: the characters of each are the first of those of the task that has most.
"""

from collections.abc import Iterable, Sequence

from rlkl.model.sequences import Sequences, from_tokens
from rlkl.tasks.operands import Operands
from rlkl.tasks.registry import TASKS, Task
from rlkl.tasks.tokenizer import character_tokenizer

TOKENIZER = character_tokenizer(max((task.CHARACTERS for task in TASKS.values()), key=len))
END_TOKEN: int = TOKENIZER.eos_token_id
SLACK = 64  # tokens that a completion may be longer than the right one before it is cut: about one scratchpad line


def encode(texts: Iterable[str]) -> list[list[int]]:
    """The tokens of texts."""
    return TOKENIZER(list(texts))["input_ids"]


def decode(samples: Iterable[Sequence[int]]) -> list[str]:
    """The texts of tokens, without the end token."""
    return [str(TOKENIZER.decode(list(sample), skip_special_tokens=True)) for sample in samples]


def right_sequences(task: Task, operands: Sequence[Operands]) -> Sequences:
    """Prompts with their right completions."""
    return from_tokens(encode(map(task.prompt, operands)), encode(map(task.completion, operands)), END_TOKEN)


def longest_completion(task: Task, operands: Iterable[Operands]) -> int:
    """The number of tokens that completions may have: that of the longest right one, its end token, and some slack."""
    return max(len(task.completion(pair)) for pair in operands) + 1 + SLACK


def positions_needed(task: Task, digits: int) -> int:
    """The positions that a model needs for problems of so many digits."""
    longest = task.longest(digits)
    return len(task.prompt(longest)) + longest_completion(task, [longest])
