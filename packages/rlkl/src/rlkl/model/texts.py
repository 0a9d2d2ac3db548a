"""Problems as tokens, and tokens as text.

One tokenizer is used for all tasks: each task's characters are a prefix of those of the task with the most.
"""

from collections.abc import Callable, Iterable, Sequence

from rlkl.model.sequences import Sequences, from_tokens
from rlkl.tasks.foresight import Foresight
from rlkl.tasks.operands import Operands
from rlkl.tasks.registry import TASKS, Task
from rlkl.tasks.tokenizer import character_tokenizer

TOKENIZER = character_tokenizer(max((task.CHARACTERS for task in TASKS.values()), key=len))
END_TOKEN: int = TOKENIZER.eos_token_id
TOKEN_OF: dict[str, int] = TOKENIZER.get_vocab()
CHARACTERS = sorted(TOKEN_OF, key=TOKEN_OF.__getitem__)  # by token
SLACK = 64  # tokens by which a completion may exceed the right one before it is cut: about one scratchpad line


def encode(texts: Iterable[str]) -> list[list[int]]:
    """Texts to tokens."""
    return TOKENIZER(list(texts))["input_ids"]


def decode(samples: Iterable[Sequence[int]]) -> list[str]:
    """Tokens to texts, without the end token."""
    return [str(TOKENIZER.decode(list(sample), skip_special_tokens=True)) for sample in samples]


def right_sequences(task: Task, operands: Sequence[Operands]) -> Sequences:
    """Sequences of prompts with their right completions."""
    return from_tokens(encode(map(task.prompt, operands)), encode(map(task.completion, operands)), END_TOKEN)


def drafts(task: Task, operands: Sequence[Operands]) -> Callable[[int, Sequence[int], int], list[int]]:
    """What may follow in a completion of each problem, for `rlkl.rollout.generate`: as `rlkl.tasks.foresight` foresees it."""
    foresights = [Foresight(task, pair) for pair in operands]

    def draft(row: int, sampled: Sequence[int], most: int) -> list[int]:
        text = foresights[row].rest("".join(map(CHARACTERS.__getitem__, sampled)), most)
        tokens = [TOKEN_OF[character] for character in text]
        return [*tokens, END_TOKEN] if len(text) < most and text.endswith("\n") else tokens

    return draft


def longest_completion(task: Task, operands: Iterable[Operands]) -> int:
    """The largest number of completion tokens: the longest right completion, the end token, and some slack."""
    return max(len(task.completion(pair)) for pair in operands) + 1 + SLACK


def positions_needed(task: Task, digits: int) -> int:
    """The number of positions that a model needs for problems with this many digits."""
    longest = task.longest(digits)
    return len(task.prompt(longest)) + longest_completion(task, [longest])
