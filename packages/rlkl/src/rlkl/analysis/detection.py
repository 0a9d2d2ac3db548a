"""Does uncertainty alone detect the critical tokens?

Critical tokens are defined by the task (`critical_tokens`); the prioritized KL finds them by the reference's certainty. The
score of a character is 1 - certainty, on right completions by teacher forcing. Three labels are tested: the character is
critical; it is further along its list than any in training; a wrong greedy answer has its first error there (this label needs
no definition of critical tokens). Only the order of scores counts: `max_probability` and `min_entropy` are functions of each
other and give the same result.

Precision and recall are four lines of NumPy, since rlkl does not depend on scikit-learn. On 300 random inputs with ties,
scikit-learn's `precision_recall_curve` gave the same curves to the last digit.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlkl.analysis.critical_tokens import CriticalToken, critical_tokens, first_error, untrained_tokens
from rlkl.analysis.drift import right_fields
from rlkl.calibration import fitted_temperature
from rlkl.certainty import CERTAINTIES, disagreement, mixture, negentropy
from rlkl.model.language_model import task_of
from rlkl.model.sequences import next_token_logits
from rlkl.model.texts import right_sequences
from rlkl.tasks.operands import Operands
from rlkl.tasks.registry import Task

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

Labels = NDArray[np.bool_]
Scores = NDArray[np.float64]
FITTED, ENSEMBLE, DISAGREEMENT = "negentropy_at_fitted_temperature", "negentropy_of_ensemble", "disagreement_of_ensemble"
RECALLS = tuple(level / 20 for level in range(1, 21))


def precision_recall(labels: Labels, scores: Scores) -> tuple[Scores, Scores]:
    """Precision and recall at every score threshold, highest first.

    Args:
        labels: (n,) at least one is true.
        scores: (n,) equal scores share one threshold.

    Returns:
        (k,) precision and (k,) recall, for k different scores.

    Raises:
        ValueError: if no label is true.
    """
    if not labels.any():
        raise ValueError("nothing is labelled: there is nothing to find.")
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)  # the last place of each score
    found = np.cumsum(labels[order])[last]
    return found / (last + 1), found / found[-1]


def average_precision(labels: Labels, scores: Scores) -> float:
    """Average precision: the area under the precision-recall curve, without interpolation.

    A random order gives the base rate. Args, Raises: as `precision_recall`.
    """
    precision, recall = precision_recall(labels, scores)
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def r_precision(labels: Labels, scores: Scores) -> float:
    """Precision among the R highest scores, where R is the number of true labels; it equals the recall there.

    Ties at the border count with their expected number, as in a random order.
    Args, Raises: as `precision_recall`.
    """
    if not labels.any():
        raise ValueError("nothing is labelled: there is nothing to find.")
    count = int(labels.sum())
    border = np.sort(scores)[-count]
    above, at = scores > border, scores == border
    return float((labels[above].sum() + labels[at].mean() * (count - above.sum())) / count)


@torch.no_grad()
def uncertainties(
    model: "GPT2LMHeadModel",
    operands: Sequence[Operands],
    batch_size: int = 50,
    *,
    temperature: float | None = None,
    ensemble: Sequence["GPT2LMHeadModel"] = (),
) -> dict[str, list[Scores]]:
    """1 - certainty before each token of the right completions, end token included.

    In float64: most characters are so certain that float32 loses their order.

    Args:
        temperature: a fitted one (`heldout_temperature`), at which negentropy is measured, too.
        ensemble: further models, pre-trained like this one, for the certainty of their mean and for their disagreement.

    Returns:
        By name of the certainty (`rlkl.certainty.CERTAINTIES`, and what the arguments add), one array per problem.
    """
    found: dict[str, list[Scores]] = {}
    sequences = right_sequences(task_of(model), operands)
    for rows in torch.arange(len(operands)).split(batch_size):
        batch = sequences[rows]
        members = [next_token_logits(each, batch.to(each.device)).double() for each in (model, *ensemble)]  # (b, T, V) each
        for name, values in _uncertainties(members, temperature).items():
            found.setdefault(name, []).extend(row[mask].numpy() for row, mask in zip(values.cpu(), batch.mask, strict=True))
    return found


def _uncertainties(members: Sequence[Tensor], temperature: float | None) -> dict[str, Tensor]:
    """Args: members: the logits (b, T, V) of the model, and of the others of its ensemble. Returns: (b, T) by name."""
    found = {name: 1 - certainty(members[0], 1.0) for name, certainty in CERTAINTIES.items()}
    if temperature is not None:
        found[FITTED] = 1 - negentropy(members[0], temperature)
    if len(members) > 1:
        logits = torch.stack(list(members))
        found[ENSEMBLE] = 1 - negentropy(mixture(logits))
        found[DISAGREEMENT] = disagreement(logits)
    return found


@torch.no_grad()
def heldout_temperature(model: "GPT2LMHeadModel", operands: Sequence[Operands], batch_size: int = 50) -> float:
    """The temperature that fits the right completions of problems (`rlkl.calibration.fitted_temperature`).

    Raises:
        InputError: where none does.
    """
    sequences = right_sequences(task_of(model), operands).to(model.device)
    batches = [sequences[rows] for rows in torch.arange(len(operands)).split(batch_size)]
    logits = torch.cat([next_token_logits(model, batch)[batch.mask] for batch in batches])  # (tokens, V)
    return fitted_temperature(logits, torch.cat([batch.targets[batch.mask] for batch in batches]))


def critical_labels(
    task: Task,
    operands: Sequence[Operands],
    trained_digits: int,
    tokens: Callable[[Task, Operands, int], list[CriticalToken]] = critical_tokens,
) -> list[Labels]:
    """For each problem, a label for each token of its right completion; false for the end token.

    Args:
        tokens: the tokens to label, `critical_tokens` or `untrained_tokens` of `rlkl.analysis.critical_tokens`.
    """
    found = []
    for pair in operands:
        labels = np.zeros(len(task.completion(pair)) + 1, dtype=bool)
        labels[[token.position for token in tokens(task, pair, trained_digits)]] = True
        found.append(labels)
    return found


def first_error_labels(task: Task, operands: Sequence[Operands], texts: Sequence[str]) -> list[Labels]:
    """For each answer, labels up to its first error: false for the right tokens, true for the first wrong one.

    Tokens after the error do not count. A deviation that leaves the answer right is not an error.

    Args:
        texts: the model's completions.

    Returns:
        For each problem, one label per right token, and one for the first wrong token if there is one.
    """
    found = []
    for pair, text in zip(operands, texts, strict=True):
        position = first_error(task, pair, text)
        labels = np.zeros(len(task.completion(pair)) + 1 if position is None else position + 1, dtype=bool)
        labels[-1] = position is not None and not task.grade(pair, text)
        found.append(labels)
    return found


def detection(labels: Sequence[Labels], scores: Sequence[Scores], fields: Sequence[Sequence[str]]) -> dict[str, Any]:
    """How well scores detect the labels, over the characters of all problems together.

    Args:
        labels: one array per problem.
        scores, fields: per problem, at least as many as labels; the rest is ignored.

    Returns:
        The number of `characters` and of those `labelled`; `base_rate`, `average_precision` and `r_precision`; `curve`, the
        highest precision at a recall of at least 0.05, 0.10, ... 1; and `fields`, the fields of the R highest scores.

    Raises:
        ValueError: if no label is true.
    """
    wanted = np.concatenate(labels)
    score = np.concatenate([row[: len(mine)] for row, mine in zip(scores, labels, strict=True)])
    names = [name for row, mine in zip(fields, labels, strict=True) for name in row[: len(mine)]]
    precision, recall = precision_recall(wanted, score)
    highest = np.argsort(-score, kind="stable")[: int(wanted.sum())]
    return {
        "characters": len(wanted),
        "labelled": int(wanted.sum()),
        "base_rate": float(wanted.mean()),
        "average_precision": average_precision(wanted, score),
        "r_precision": r_precision(wanted, score),
        "curve": [{"recall": level, "precision": float(precision[recall >= level - 1e-9].max())} for level in RECALLS],
        "fields": dict(Counter(names[index] for index in highest).most_common()),
    }


def detect(
    model: "GPT2LMHeadModel",
    operands: Sequence[Operands],
    texts: Sequence[str],
    trained_digits: int,
    *,
    temperature: float | None = None,
    ensemble: Sequence["GPT2LMHeadModel"] = (),
) -> dict[str, dict[str, Any]]:
    """The detection of each label by each certainty.

    Args:
        texts: the model's greedy completions.
        temperature, ensemble: see `uncertainties`.

    Returns:
        `critical`, `untrained` (`untrained_tokens`) and `first_error`, each with a `detection` by name of the certainty; a
        label that is nowhere true is left out.
    """
    task = task_of(model)
    scores = uncertainties(model, operands, temperature=temperature, ensemble=ensemble)
    fields = right_fields(task, operands)
    questions = {
        "critical": critical_labels(task, operands, trained_digits),
        "untrained": critical_labels(task, operands, trained_digits, untrained_tokens),
        "first_error": first_error_labels(task, operands, texts),
    }
    return {
        question: {name: detection(labels, values, fields) for name, values in scores.items()}
        for question, labels in questions.items()
        if any(row.any() for row in labels)
    }
