"""How far a policy has moved from a reference, and where: the exact KL on given texts, by teacher forcing.

`compare` runs both models once; the other functions summarise the result. On right completions of N digits, drift shows the
effect of fine-tuning on old skills; on N + 1 digits, where it changed the skill that it trained.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from rlkl import kl
from rlkl.model.completion import sample
from rlkl.model.language_model import task_of
from rlkl.model.sequences import Sequences, next_token_logits
from rlkl.model.texts import right_sequences
from rlkl.tasks.operands import Operands
from rlkl.tasks.registry import Task

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

END_FIELD = "end"  # the field of the end token


class Comparison(NamedTuple):
    """Two models on B texts.

    Attributes:
        kl: (B, T) float, KL(policy || reference) in nats of each prediction.
        changed: (B, T) bool, whether the most likely token differs.
        mask: (B, T) bool, the predictions of completion tokens; values outside it have no meaning.
    """

    kl: Tensor
    changed: Tensor
    mask: Tensor


@torch.no_grad()
def compare(
    policy: "GPT2LMHeadModel", reference: "GPT2LMHeadModel", sequences: Sequences, batch_size: int | None = None
) -> Comparison:
    """Run both models on the same texts.

    Args:
        policy, reference: on one device.
        batch_size: see `Sequences.parts`.

    Returns:
        On the CPU.
    """
    mask = sequences.mask.cpu()
    divergence, changed = torch.zeros(mask.shape), torch.zeros_like(mask)
    for rows, batch in sequences.parts(policy.device, batch_size):
        logits, reference_logits = next_token_logits(policy, batch), next_token_logits(reference, batch)  # (b, t, V)
        width = logits.shape[1]
        divergence[rows, :width] = kl.exact(logits, reference_logits).cpu()
        changed[rows, :width] = (logits.argmax(-1) != reference_logits.argmax(-1)).cpu()
    return Comparison(divergence, changed, mask)


def right_fields(task: Task, operands: Sequence[Operands]) -> list[list[str]]:
    """For each problem, the field of every token of the right completion, end token included."""
    return [[*(piece.field for piece in task.pieces(pair) for _ in piece.text), END_FIELD] for pair in operands]


def kl_by_position(comparison: Comparison, bins: int = 10) -> list[dict[str, float]]:
    """The mean KL by relative position in the completion.

    Args:
        bins: the number of equal parts of each completion.

    Returns:
        For each part with tokens: `start` and `end` as shares of the completion, `kl` per token, and `tokens`.
    """
    place = comparison.mask.cumsum(1) - 1  # (B, T) 0 at the first completion token
    part = (place * bins // comparison.mask.sum(1, keepdim=True).clamp_min(1))[comparison.mask]  # (tokens,)
    values = comparison.kl[comparison.mask]
    found = []
    for number in range(bins):
        inside = part == number
        if inside.any():
            share = {"start": number / bins, "end": (number + 1) / bins}
            found.append(share | {"kl": values[inside].mean().item(), "tokens": int(inside.sum())})
    return found


def drift(comparison: Comparison, fields: Sequence[Sequence[str]]) -> dict[str, object]:
    """The drift, overall and by field.

    Args:
        fields: for each text, the field of every completion token, as from `right_fields`.

    Returns:
        `kl`, the mean per token in nats; `changed`, the share of tokens whose most likely character differs; `tokens`, their
        number; and `fields`, the same for each field.

    Raises:
        ValueError: if the number of fields is not the number of completion tokens.
    """
    if [len(row) for row in fields] != comparison.mask.sum(1).tolist():
        raise ValueError("every completion token needs a field.")
    names = [field for row in fields for field in row]
    values, changed = comparison.kl[comparison.mask], comparison.changed[comparison.mask]  # (tokens,)
    groups = {field: torch.tensor([name == field for name in names]) for field in dict.fromkeys(names)}
    return _means(values, changed) | {
        "fields": {field: _means(values[inside], changed[inside]) for field, inside in groups.items()}
    }


def drift_by_digits(
    policy: "GPT2LMHeadModel",
    reference: "GPT2LMHeadModel",
    digits: Sequence[int],
    operands: str = "varying",
    examples: int = 100,
    seed: int = 1,
) -> dict[str, Any]:
    """Drift on right completions, for several numbers of digits.

    Args:
        digits: of the problems; operands, examples, seed: see `rlkl.model.completion.sample`.

    Returns:
        For each number of digits, named N, N+1 and so on: the result of `drift`, and `positions` from `kl_by_position`.
    """
    task, trained = task_of(policy), policy.config.trained_digits
    found = {}
    for number in digits:
        problems = sample(task, operands, number, examples, seed)
        comparison = compare(policy, reference, right_sequences(task, problems))
        name = f"N{number - trained:+d}" if number != trained else "N"
        found[name] = drift(comparison, right_fields(task, problems)) | {"positions": kl_by_position(comparison)}
    return found


def _means(values: Tensor, changed: Tensor) -> dict[str, object]:
    return {"kl": values.mean().item(), "changed": changed.float().mean().item(), "tokens": len(values)}
