"""Completions that a model samples, from its own distribution: no top-k, no top-p."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from rlkl import rollout
from rlkl.inspection.models import CausalModel
from rlkl.rollout.decoders import choose

Advance = Callable[[int], object]


def sample(
    model: CausalModel,
    prompts: Sequence[Sequence[int]],
    new_tokens: Sequence[int],
    *,
    temperature: float = 1.0,
    generator: torch.Generator,
    batch_size: int = 20,
    advance: Advance = lambda done: None,
) -> list[list[int]]:
    """Continue prompts until the model ends them.

    Args:
        prompts: B token sequences, none of them empty.
        new_tokens: for each the most that may be sampled, at least 1.
        temperature: the logits are divided by it; 0 takes the most likely token.
        generator: the source of randomness, on the CPU.
        batch_size: prompts at a time.
        advance: called with the number of prompts done after each batch.

    Returns:
        The tokens of each, an end token included if it was sampled.
    """
    found: list[list[int]] = [[] for _ in prompts]
    continue_batch = _by_engine if model.task is not None else _by_transformers
    for batch in _batches(model, prompts, new_tokens, batch_size):
        most = max(new_tokens[row] for row in batch)
        sampled = continue_batch(model, [list(prompts[row]) for row in batch], most, temperature, generator)
        for row, tokens in zip(batch, sampled, strict=True):
            found[row] = tokens[: new_tokens[row]]
        advance(len(batch))
    return found


def _batches(
    model: CausalModel, prompts: Sequence[Sequence[int]], new_tokens: Sequence[int], batch_size: int
) -> Iterator[list[int]]:
    """Rows of about the same length, as many as leave each of them the positions that it may need."""
    batch: list[int] = []
    for row in sorted(range(len(prompts)), key=lambda row: (len(prompts[row]), new_tokens[row])):
        longest = len(prompts[row]) + max(new_tokens[other] for other in [*batch, row])
        if batch and (len(batch) == batch_size or (model.positions is not None and longest > model.positions)):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _by_engine(
    model: CausalModel, prompts: list[list[int]], most: int, temperature: float, generator: torch.Generator
) -> list[list[int]]:
    """rlkl's own models, by rlkl's own engine."""
    return rollout.generate(
        model.model,
        prompts,
        max_new_tokens=most,
        end_token=model.end_tokens[0],
        temperature=temperature,
        generator=generator,
    ).samples()


@torch.no_grad()
def _by_transformers(
    model: CausalModel, prompts: list[list[int]], most: int, temperature: float, generator: torch.Generator
) -> list[list[int]]:
    device, longest, ends = model.model.device, max(map(len, prompts)), model.end_tokens
    tokens = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts], device=device)  # (b, S)
    read = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    settings = GenerationConfig(
        max_new_tokens=most, eos_token_id=ends or None, pad_token_id=ends[0] if ends else 0, do_sample=False
    )
    chooses = LogitsProcessorList([_Chooses(temperature, generator)])
    sampled = model.model.generate(input_ids=tokens, attention_mask=read, generation_config=settings, logits_processor=chooses)
    return [_up_to_end(row, set(ends)) for row in sampled[:, longest:].tolist()]


class _Chooses(LogitsProcessor):
    """Samples as rlkl's own engine does: leaves only the sampled token of each row, for a greedy search to take."""

    def __init__(self, temperature: float, generator: torch.Generator) -> None:
        self._temperature, self._generator = temperature, generator

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Args: scores (b, V) logits. Returns: (b, V), -inf but for one token of each row."""
        noise = torch.rand(len(scores), dtype=torch.float64, generator=self._generator).to(scores.device)
        chosen, _ = choose(scores.float(), noise, self._temperature)
        return torch.full_like(scores, -torch.inf).scatter_(1, chosen[:, None], 0.0)


def _up_to_end(tokens: list[int], ends: set[int]) -> list[int]:
    """A row up to its first end token, which counts; what follows pads it."""
    return tokens[: next((place for place, token in enumerate(tokens) if token in ends), len(tokens)) + 1]
