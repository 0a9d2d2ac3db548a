"""Where a model is uncertain, and where its answers go wrong."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray

from rlkl.analysis.critical_tokens import critical_tokens, first_error, piece_at
from rlkl.certainty import negentropy
from rlkl.model.completion import grades
from rlkl.model.language_model import task_of
from rlkl.model.sequences import Sequences, from_tokens, next_token_logits
from rlkl.model.texts import END_TOKEN, encode, right_sequences
from rlkl.tasks.operands import Operands
from rlkl.tasks.registry import Task
from rlkl.tasks.scratchpad import OPERAND_LISTS, Piece

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel


@torch.no_grad()
def certainties(model: "GPT2LMHeadModel", sequences: Sequences) -> list[list[float]]:
    """The model's negentropy before each completion token (end token included), for each of B sequences."""
    values = negentropy(next_token_logits(model, sequences.to(model.device))).cpu()  # (B, T)
    return [row[mask].tolist() for row, mask in zip(values, sequences.mask, strict=True)]


def certainty_gaps(model: "GPT2LMHeadModel", operands: Sequence[Operands], trained_digits: int) -> dict[str, Any]:
    """How much less certain the model is at groups of characters (Table 1), on right completions.

    The gap of a group in one problem is the mean certainty of its characters minus the mean of all other characters.

    Returns:
        `gaps`: `mean` and `deviation` of each group's gap over problems. The groups: `critical` tokens; the other characters of
        the `operand lists`; `lowest`, the field and scratchpad line with the lowest gap, without its critical tokens.
        `places`: the mean certainty by scratchpad line and field.
    """
    task = task_of(model)
    gaps: dict[str, list[float]] = {"critical": [], "operand lists": []}
    of_places: dict[tuple[int, str], list[float]] = {}
    places: dict[tuple[int, str], list[float]] = {}
    for pair, values in zip(operands, certainties(model, right_sequences(task, operands)), strict=True):
        critical = {token.position for token in critical_tokens(task, pair, trained_digits)}
        fields = [piece for piece in task.pieces(pair) for _ in piece.text]
        lists = {position for position, piece in enumerate(fields) if piece.field in OPERAND_LISTS} - critical
        certainty = np.array(values[: len(fields)])
        for name, chosen in (("critical", critical), ("operand lists", lists)):
            if chosen:
                gaps[name].append(_gap(certainty, chosen))
        by_place: dict[tuple[int, str], set[int]] = {}
        for position, piece in enumerate(fields):
            place = (piece.step, "critical" if position in critical else piece.field)
            by_place.setdefault(place, set()).add(position)
            places.setdefault(place, []).append(values[position])
        for place, chosen in by_place.items():
            if place[1] != "critical":
                of_places.setdefault(place, []).append(_gap(certainty, chosen))
    gaps["lowest"] = min(of_places.values(), key=np.mean)
    means = [{"step": step, "field": field, "certainty": float(np.mean(at))} for (step, field), at in places.items()]
    return {
        "problems": len(operands),
        "gaps": {name: {"mean": float(np.mean(at)), "deviation": float(np.std(at))} for name, at in gaps.items() if at},
        "places": sorted(means, key=lambda place: place["certainty"]),
    }


def _gap(certainty: NDArray[np.float64], chosen: set[int]) -> float:
    """The mean certainty of the chosen characters minus that of all others."""
    inside = np.isin(np.arange(len(certainty)), list(chosen))
    return float(certainty[inside].mean() - certainty[~inside].mean())


def errors(task: Task, operands: Sequence[Operands], texts: Sequence[str], trained_digits: int) -> dict[str, Any]:
    """Where wrong answers begin: the first character that differs from the right completion.

    Returns:
        `wrong`, the number of wrong answers; `critical`, the share of them whose first wrong character is a critical token;
        `operand_lists`, the share where it is in any copy of an operand's digits, critical tokens included; and `fields`, the
        number by field and scratchpad line.
    """
    graded = zip(operands, texts, grades(task, operands, texts), strict=True)
    wrong = [(pair, text) for pair, text, right in graded if not right]
    starts: list[tuple[Piece, bool]] = []
    for pair, text in wrong:
        position = first_error(task, pair, text)
        assert position is not None  # a right completion has a right answer
        is_critical = position in {token.position for token in critical_tokens(task, pair, trained_digits)}
        starts.append((piece_at(task, pair, position), is_critical))
    count = max(1, len(wrong))
    fields = Counter((piece.step, piece.field) for piece, _ in starts)
    return {
        "wrong": len(wrong),
        "critical": sum(is_critical for _, is_critical in starts) / count,
        "operand_lists": sum(piece.field in OPERAND_LISTS for piece, _ in starts) / count,
        "fields": [{"step": step, "field": field, "count": number} for (step, field), number in fields.most_common()],
    }


class Scratchpad(TypedDict):
    """What a model wrote, with its certainty at each character; critical tokens by their positions."""

    prompt: str
    text: str
    certainty: list[float]
    right: bool
    first_error: int | None
    critical: list[int]


def scratchpads(
    model: "GPT2LMHeadModel", operands: Sequence[Operands], texts: Sequence[str], trained_digits: int
) -> list[Scratchpad]:
    """Completions with the model's certainty at each character, for `rlkl.report.scratchpad_view`."""
    task = task_of(model)
    sequences = from_tokens(encode(map(task.prompt, operands)), encode(texts), END_TOKEN)
    return [
        {
            "prompt": task.prompt(pair),
            "text": text,
            "certainty": values[: len(text)],
            "right": task.grade(pair, text),
            "first_error": first_error(task, pair, text),
            "critical": [token.position for token in critical_tokens(task, pair, trained_digits)],
        }
        for pair, text, values in zip(operands, texts, certainties(model, sequences), strict=True)
    ]
