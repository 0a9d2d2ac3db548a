"""The rollout engine: batched sampling from a GPT-2, with a key-value cache that is allocated once.

Each prompt is read once, for any number of rows, and a decoder of `decoders.py` then continues the rows. Or, where a draft says
what may follow, `drafts.py` checks many tokens in one pass. The samples of a row depend on the generator, its index and its
prompt, but not on the end of other rows or on the batch size. The engine does not depend on the task.

Left out on purpose: architectures other than GPT-2, beam search, top-k and top-p (rollouts must come from the policy itself),
and continuous batching (new prompts in the place of finished rows). On a CPU, continuous batching was half as fast as shrinking
batches: if rows are at different columns, every step reads up to the furthest column.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from rlkl.rollout.decoders import Decoder, MakeDecoder, fastest_decoder
from rlkl.rollout.drafts import Draft, continue_with_drafts

CHECK_EVERY = 8  # steps between checks for finished rows: each check waits for the device


@dataclass(frozen=True)
class Rollouts:
    """Sampled tokens, aligned at the first one.

    Attributes:
        tokens: (B, T) int64, padded with the end token.
        log_probs: (B, T) float, of the sampled tokens under the sampling distribution; 0 after a row's end.
        lengths: (B,) int64, tokens in each row, end token included; T if the row was cut.
    """

    tokens: Tensor
    log_probs: Tensor
    lengths: Tensor

    @property
    def mask(self) -> Tensor:
        """(B, T) bool, the sampled tokens."""
        return torch.arange(self.tokens.shape[1], device=self.lengths.device) < self.lengths[:, None]

    def samples(self) -> list[list[int]]:
        """The tokens of each row, end token included."""
        return [row[:length] for row, length in zip(self.tokens.tolist(), self.lengths.tolist(), strict=True)]


@torch.no_grad()
def generate(
    model: GPT2LMHeadModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    end_token: int,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
    samples_per_prompt: int = 1,
    make_decoder: MakeDecoder = fastest_decoder,
    draft: Draft | None = None,
) -> Rollouts:
    """Continue every prompt until the end token.

    Args:
        model: in eval mode; the cache has its precision, log-probabilities are computed in float32.
        prompts: P token sequences, none of them empty.
        max_new_tokens: rows that do not end are cut here.
        end_token: the token that ends a row.
        temperature: the logits are divided by it; 0 takes the most likely token.
        generator: the source of randomness, on the CPU. The noise of a row does not depend on the end of other rows.
        noise: (T, B) float64 in [0, 1), T at least max_new_tokens, the random numbers; by default drawn from the generator. To
            get the same samples for a subset of the prompts, pass the columns of its rows.
        samples_per_prompt: G rows per prompt: B = P * G, and row p * G + g continues prompt p.
        make_decoder: makes the decoder, by default the fastest one for the model's device.
        draft: what may follow the tokens of a row (`drafts.Draft`). It changes no sample; the better it is, the faster are
            rollouts in float32 on a CPU. Elsewhere it is not used.

    Raises:
        ValueError: if a prompt is empty, max_new_tokens or samples_per_prompt is too small, or prompt and new tokens do not fit
            into the model's positions.
    """
    _check(model, prompts, max_new_tokens, samples_per_prompt)
    batch = len(prompts) * samples_per_prompt
    if temperature == 0:
        noise = torch.zeros(1, 1, dtype=torch.float64).expand(max_new_tokens, batch)  # (T, B)
    elif noise is None:
        noise = torch.rand(max_new_tokens, batch, dtype=torch.float64, generator=generator)
    noise = noise.to(model.device)
    tokens = torch.full((max_new_tokens, batch), end_token, device=model.device)  # (T, B)
    log_probs = torch.zeros(max_new_tokens, batch, device=model.device)
    if draft is not None and model.device.type == "cpu" and model.dtype == torch.float32:
        for row in continue_with_drafts(model, prompts, samples_per_prompt, noise, end_token, temperature, draft):
            tokens[: len(row.tokens), row.index] = torch.tensor(row.tokens)
            log_probs[: len(row.tokens), row.index] = torch.tensor(row.log_probs)
        return _aligned(tokens, log_probs, end_token)
    order = sorted(range(len(prompts)), key=lambda prompt: -len(prompts[prompt]))
    rows = torch.tensor(order)[:, None] * samples_per_prompt + torch.arange(samples_per_prompt)  # (P, G)
    columns = len(prompts[order[0]]) + max_new_tokens
    decoder = make_decoder(model, batch, columns, temperature)
    _continue(decoder, [prompts[prompt] for prompt in order], rows.to(model.device), noise, tokens, log_probs, end_token)
    return _aligned(tokens, log_probs, end_token)


def _aligned(tokens: Tensor, log_probs: Tensor, end_token: int) -> Rollouts:
    """Rollouts from (T, B) tokens and their log-probabilities, which are undefined after a row's end."""
    after = (tokens == end_token).cumsum(0) - (tokens == end_token).int()  # (T, B) end tokens before each token
    sampled = after == 0
    lengths = sampled.sum(0)
    width = int(lengths.max())
    return Rollouts(
        tokens.masked_fill(~sampled, end_token)[:width].T.contiguous(),
        log_probs.masked_fill(~sampled, 0.0)[:width].T.contiguous(),
        lengths,
    )


def _check(model: GPT2LMHeadModel, prompts: Sequence[Sequence[int]], max_new_tokens: int, samples_per_prompt: int) -> None:
    if not prompts or not all(prompts):
        raise ValueError("there must be prompts, and none may be empty.")
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens is {max_new_tokens} and must be at least 1.")
    if samples_per_prompt < 1:
        raise ValueError(f"samples_per_prompt is {samples_per_prompt} and must be at least 1.")
    longest = max(map(len, prompts))
    if longest + max_new_tokens > model.config.n_positions:
        raise ValueError(
            f"a prompt of {longest} tokens and {max_new_tokens} new ones need {longest + max_new_tokens} positions; "
            f"the model has {model.config.n_positions}."
        )


def _continue(
    decoder: Decoder,
    prompts: Sequence[Sequence[int]],
    rows: Tensor,
    noise: Tensor,
    tokens: Tensor,
    log_probs: Tensor,
    end_token: int,
) -> None:
    """Continue p prompts until all their rows have ended.

    Args:
        rows: (p, G) their indices among all B rows.
        noise: (T, B) random numbers of the choices.
        tokens: (T, B) output: the sampled tokens; undefined after a row's end.
        log_probs: (T, B) output, likewise.
    """
    device, longest = tokens.device, max(map(len, prompts))
    padding = torch.tensor([longest - len(prompt) for prompt in prompts], device=device)  # (p,)
    inputs = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts], device=device)  # (p, S)
    copies, rows = rows.shape[1], rows.flatten()  # (b,)
    ended = torch.zeros(len(rows), dtype=torch.bool, device=device)
    tokens[0, rows], log_probs[0, rows] = decoder.start(inputs, padding, copies, noise[0, rows])
    for step in range(1, len(tokens)):
        if step % CHECK_EVERY == 0:
            ended |= (tokens[step - CHECK_EVERY : step, rows] == end_token).any(0)
            if ended.all():
                break
            kept = decoder.drop(ended)
            rows, ended = rows[kept], ended[kept]
        tokens[step, rows], log_probs[step, rows] = decoder.step(noise[step, rows])
