"""A model's probabilities at critical tokens, on fixed problems by teacher forcing.

The model reads the right text, and its prediction is measured at each place. So every place counts for every model, even if the
model would not reach it in its own rollouts, and no character is confused with its neighbour.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rlkl.analysis.critical_tokens import CriticalToken, critical_tokens
from rlkl.distributions import token_log_probs
from rlkl.model.sequences import Sequences, next_token_logits
from rlkl.model.texts import right_sequences
from rlkl.tasks.operands import Operands
from rlkl.tasks.registry import Task
from rlkl.tasks.scratchpad import OPERAND_LISTS

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel


def critical_places(task: Task, operands: Sequence[Operands], trained_digits: int) -> list[tuple[int, int, CriticalToken]]:
    """(row, column, token) of each critical token's prediction in `rlkl.model.texts.right_sequences`."""
    return [
        (row, len(task.prompt(pair)) + token.position - 1, token)
        for row, pair in enumerate(operands)
        for token in critical_tokens(task, pair, trained_digits)
    ]


def operand_list_mask(task: Task, operands: Sequence[Operands], sequences: Sequences) -> Tensor:
    """(B, T) bool, predictions of characters of operand lists in `rlkl.model.texts.right_sequences`."""
    mask = torch.zeros_like(sequences.mask)
    for row, pair in enumerate(operands):
        column = len(task.prompt(pair)) - 1
        for piece in task.pieces(pair):
            mask[row, column : column + len(piece.text)] = piece.field in OPERAND_LISTS
            column += len(piece.text)
    return mask


class CriticalProbabilities:
    """A policy's probability of the critical comma, the first critical character of each list (figures 4 and 7).

    In the first scratchpad line, it is the comma before digit N + 1. The window slides: in the second line it is the comma
    before digit N, in the third before digit N - 1. So operands of N + 1 digits have all three.

    Args:
        task: the task.
        operands: the problems to measure on.
        trained_digits: N.

    Raises:
        ValueError: if no operand is longer than N digits.
    """

    def __init__(self, task: Task, operands: Sequence[Operands], trained_digits: int) -> None:
        self.trained_digits, self.sequences = trained_digits, right_sequences(task, operands)
        self.places = [
            place
            for place in critical_places(task, operands, trained_digits)
            if place[2].character == "," and place[2].digit + place[2].step == trained_digits + 2
        ]
        self.lists = operand_list_mask(task, operands, self.sequences)
        if not self.places:
            raise ValueError(f"no operand has more than {trained_digits} digits.")

    @torch.no_grad()
    def scores(self, model: "GPT2LMHeadModel", batch_size: int | None = None) -> dict[str, float]:
        """Means over the problems.

        Args:
            model: whose probabilities.
            batch_size: see `Sequences.parts`.

        Returns:
            `critical/comma`, the probability of the comma, over all places and by scratchpad line and operand; and
            `critical/lists`, the probability that every copy of the operands' digits is right, given the right text between.
        """
        log_probs = torch.zeros(self.lists.shape)  # (B, T)
        for rows, part in self.sequences.parts(model.device, batch_size):
            found = token_log_probs(next_token_logits(model, part), part.targets)  # (b, t)
            log_probs[rows, : found.shape[1]] = found.cpu()
        groups: dict[str, list[Tensor]] = {}
        for row, column, token in self.places:
            probability = log_probs[row, column].exp()
            groups.setdefault("critical/comma", []).append(probability)
            groups.setdefault(f"critical/comma_step{token.step}_operand{token.operand}", []).append(probability)
        groups["critical/lists"] = list(log_probs.masked_fill(~self.lists, 0.0).sum(1).exp())
        return {name: torch.stack(values).mean().item() for name, values in groups.items()}
