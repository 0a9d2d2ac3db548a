"""What a model says of each token of a completion, and what a reference says beside it.

Shapes: (b, C) predictions of a batch, C of its columns at a time; (N,) the tokens of one completion; V the size of the
vocabulary. The logits of a whole batch, (B, T, V), are never there at once: `LOGITS_AT_ONCE` of them are.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlkl import kl
from rlkl.certainty import CERTAINTIES
from rlkl.distributions import at_least_float32, expectation
from rlkl.inspection.models import CausalModel
from rlkl.inspection.texts import Passage
from rlkl.model.sequences import Sequences, from_samples
from rlkl_htc_common.errors import InputError

LOGITS_AT_ONCE = 2**25  # elements: 128 MB in float32
DESCRIBED_AT_ONCE = 2**19  # elements: 2 MB in float32, which stay in a processor's cache: three times as fast
ESTIMATORS = ("exact", *kl.SAMPLED)


@dataclass(frozen=True)
class Measure:
    """What is measured.

    Attributes:
        certainty: one of `rlkl.certainty.CERTAINTIES`.
        certainty_temperature: the logits are divided by it for the certainty.
        estimator: of the KL to the reference: `exact`, over the vocabulary; or of `rlkl.kl`, from the token alone.
        alternatives: how many of the likeliest tokens to keep.
    """

    certainty: str = "negentropy"
    certainty_temperature: float = 1.0
    estimator: str = "exact"
    alternatives: int = 5


class Scores(NamedTuple):
    """What a model says of tokens, of shape (...) each.

    Attributes:
        certainty: from 0 to 1.
        entropy: in nats.
        log_prob: of the token itself.
        rank: 1 for the likeliest token.
        alternatives: (..., K) the likeliest tokens, the first of them first; the token itself may be among them.
        alternative_log_probs: (..., K)
        kl: in nats, of the model to the reference; NaN without one.
        reference_certainty: likewise.
    """

    certainty: Tensor
    entropy: Tensor
    log_prob: Tensor
    rank: Tensor
    alternatives: Tensor
    alternative_log_probs: Tensor
    kl: Tensor
    reference_certainty: Tensor


def describe(logits: Tensor, targets: Tensor, measure: Measure, reference_logits: Tensor | None = None) -> Scores:
    """Scores of tokens from the logits that predict them.

    Args:
        logits: (b, C, V)
        targets: (b, C) the tokens.
        reference_logits: (b, C, V) of the reference.
    """
    columns = max(1, DESCRIBED_AT_ONCE // logits.shape[-1]) if logits.device.type == "cpu" else targets.numel()
    of_rows = [logits.flatten(0, 1), targets.flatten()]
    if reference_logits is not None:
        of_rows.append(reference_logits.flatten(0, 1))
    described = [_describe(measure, *part) for part in zip(*(each.split(columns) for each in of_rows), strict=True)]
    return Scores(*(torch.cat(values).unflatten(0, targets.shape) for values in zip(*described, strict=True)))


def _describe(measure: Measure, logits: Tensor, targets: Tensor, reference_logits: Tensor | None = None) -> Scores:
    """As `describe`. Args: logits (n, V); targets (n,); reference_logits (n, V)."""
    log_probs = at_least_float32(logits).log_softmax(-1)
    chosen = log_probs.gather(-1, targets[..., None])  # (b, C, 1)
    top = log_probs.topk(min(measure.alternatives, log_probs.shape[-1]), dim=-1)
    certainty = CERTAINTIES[measure.certainty]
    entropy = -expectation(log_probs, log_probs)
    divergence = sure = torch.full_like(entropy, torch.nan)
    if reference_logits is not None:
        sure = certainty(reference_logits, measure.certainty_temperature)
        if measure.estimator == "exact":
            divergence = kl.exact(logits, reference_logits)
        else:
            others = at_least_float32(reference_logits).log_softmax(-1).gather(-1, targets[..., None])
            divergence = kl.SAMPLED[measure.estimator](chosen, others).squeeze(-1)
    return Scores(
        certainty=certainty(logits, measure.certainty_temperature),
        entropy=entropy.clamp_min(0.0),
        log_prob=chosen.squeeze(-1),
        rank=(log_probs > chosen).sum(-1) + 1,
        alternatives=top.indices,
        alternative_log_probs=top.values,
        kl=divergence,
        reference_certainty=sure,
    )


@torch.no_grad()
def score(
    model: CausalModel,
    passages: Sequence[Passage],
    measure: Measure,
    *,
    reference: CausalModel | None = None,
    batch_size: int = 20,
    advance: Callable[[int], object] = lambda done: None,
) -> list[Scores]:
    """What a model says of each token of completions.

    Args:
        passages: with completions, which the model has positions for.
        reference: with the same tokens as the model, and for an exact KL as many logits.
        batch_size: completions at a time, at most; fewer where their logits would be too many.
        advance: called with the number of completions done after each batch.

    Returns:
        For each passage its scores, (N,), on the CPU.

    Raises:
        InputError: the model gives no numbers (NaN).
    """
    sequences = from_samples([each.prompt_tokens for each in passages], [each.completion_tokens for each in passages], 0)
    found: list[Scores | None] = [None] * len(passages)
    for rows in _batches(sequences, model.vocabulary, batch_size):
        batch = sequences[torch.tensor(rows)].to(model.model.device)
        scores, first = _score_batch(model, reference, batch, measure)
        mask = batch.mask[:, first:].cpu()
        for place, row in enumerate(rows):
            found[row] = Scores(*(values[place][mask[place]] for values in scores))
        advance(len(rows))
    of_all = [each for each in found if each is not None]
    if any(bool(each.entropy.isnan().any()) for each in of_all):
        raise InputError(f"{model.name} gives NaN for some tokens: its weights are damaged, or too large for its dtype.")
    return of_all


def _score_batch(model: CausalModel, reference: CausalModel | None, batch: Sequences, measure: Measure) -> tuple[Scores, int]:
    """Scores (b, C) of the columns from the first one that predicts a token of a completion, and which that is."""
    first = int(batch.prompt_lengths.min()) - 1
    models = [model] if reference is None or reference is model else [model, reference]
    parts = []
    for columns, logits in in_parts(models, batch.inputs, first):
        own, others = logits[0], None if reference is None else logits[-1]
        scores = describe(own, batch.targets[:, columns], measure, others)
        parts.append(Scores(*(values.cpu() for values in scores)))
    return Scores(*(torch.cat(values, dim=1) for values in zip(*parts, strict=True))), first


def in_parts(models: Sequence[CausalModel], inputs: Tensor, first: int) -> Iterator[tuple[slice, list[Tensor]]]:
    """The logits of models, some columns at a time, with the keys and values of the columns before.

    Args:
        inputs: (b, T) tokens that they read.
        first: the first column whose logits are wanted.

    Yields:
        The columns, and for each model (b, C, V) logits.

    Raises:
        InputError: there must be several parts, and a model keeps no keys and values.
    """
    columns = inputs.shape[1]
    width = max(1, LOGITS_AT_ONCE // (inputs.shape[0] * max(model.vocabulary for model in models)))
    skips = all(_can_skip_logits(model.model) for model in models)
    starts = list(range(first if skips else 0, columns, width))
    if len(starts) > 1 and starts[0] > 0:
        starts.insert(0, 0)  # the prompt, in a part by itself
    caches: list[Any] = [None] * len(models)
    for start, end in pairwise([0, *starts[1:], columns]):
        wanted = min(end - start, end - max(start, first))
        logits = []
        for number, each in enumerate(models):
            more = {"logits_to_keep": max(wanted, 1)} if skips else {}
            if len(starts) > 1:
                more |= {"past_key_values": caches[number]}
            output = each.model(input_ids=inputs[:, start:end], use_cache=len(starts) > 1, **more)
            caches[number] = getattr(output, "past_key_values", None)
            if end < columns and caches[number] is None:
                raise InputError(f"{each.name} keeps no keys and values, so that long completions need too much memory.")
            logits.append(output.logits[:, -max(wanted, 1) :])
        if wanted > 0:
            yield slice(end - wanted, end), logits


def _can_skip_logits(model: Any) -> bool:
    """Whether a model can leave out the logits of the first columns."""
    return "logits_to_keep" in inspect.signature(model.forward).parameters


def _batches(sequences: Sequences, vocabulary: int, batch_size: int) -> Iterator[list[int]]:
    """Rows of about the same length, as many as their logits allow."""
    batch: list[int] = []
    prompts, lengths = sequences.prompt_lengths.tolist(), sequences.lengths.tolist()
    for row in sorted(range(len(lengths)), key=lambda row: (prompts[row], lengths[row])):
        kept = max(lengths[other] for other in [*batch, row]) - min(prompts[other] for other in [*batch, row])
        if batch and (len(batch) == batch_size or (len(batch) + 1) * kept * vocabulary > LOGITS_AT_ONCE):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
