"""The rollout engine: batched sampling from a GPT-2, with a key-value cache that is allocated once.

Prompts are padded on the left, so that all rows write the same column of the cache at every step, while each row counts its
positions from its own first token. Rows that have ended are taken out of the batch. It knows no task.

Left out on purpose: other architectures than GPT-2, beam search, top-k and top-p (rollouts must come from the policy itself).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

CHECK_EVERY = 8  # steps between looks at which rows have ended: each look waits for the device
COMPACT_BELOW = 0.6  # rows are taken out once fewer than this share of them is still going: taking out copies the cache


@dataclass(frozen=True)
class Rollouts:
    """What was sampled, aligned at its first token.

    Attributes:
        tokens: (B, T) int64, the end token after a row's end.
        log_probs: (B, T) float, of the sampled tokens under the distribution they were sampled from; 0 after a row's end.
        lengths: (B,) int64, tokens in each row, its end token included; T where it did not end.
        ended: (B,) bool, whether the end token was sampled.
    """

    tokens: Tensor
    log_probs: Tensor
    lengths: Tensor
    ended: Tensor

    @property
    def mask(self) -> Tensor:
        """(B, T) bool, the tokens that were sampled."""
        return torch.arange(self.tokens.shape[1], device=self.lengths.device) < self.lengths[:, None]


@torch.no_grad()
def generate(
    model: GPT2LMHeadModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    end_token: int,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Rollouts:
    """Continue every prompt until the end token.

    Args:
        model: in eval mode.
        prompts: B token sequences, none of them empty.
        max_new_tokens: where rows are cut that do not end by themselves.
        end_token: what ends a row.
        temperature: the logits are divided by it; 0 takes the most likely token.
        generator: the source of randomness, on the CPU. What a row gets does not depend on when the others end.

    Raises:
        ValueError: if a prompt is empty, or prompt and new tokens are more than the model has positions for.
    """
    if not prompts or not all(prompts):
        raise ValueError("there must be prompts, and none may be empty.")
    longest = max(map(len, prompts))
    if longest + max_new_tokens > model.config.n_positions:
        raise ValueError(
            f"a prompt of {longest} tokens and {max_new_tokens} new ones need {longest + max_new_tokens} positions; "
            f"the model has {model.config.n_positions}."
        )
    device, batch = model.device, len(prompts)
    padding = torch.tensor([longest - len(prompt) for prompt in prompts], device=device)  # (B,)
    inputs = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts], device=device)  # (B, P)
    tokens = torch.full((batch, max_new_tokens), end_token, device=device)  # (B, T)
    log_probs = torch.zeros(batch, max_new_tokens, device=device)
    decoder = CachedDecoder(model, padding, longest + max_new_tokens)
    rows = torch.arange(batch, device=device)  # (b,) those still going
    ended = torch.zeros(batch, dtype=torch.bool, device=device)
    logits = decoder(inputs)  # (B, V)
    for step in range(max_new_tokens):
        chosen, log_prob = _choose(logits, temperature, rows, batch, generator)  # (b,)
        going = ~ended[rows]
        tokens[rows, step] = torch.where(going, chosen, end_token)
        log_probs[rows, step] = torch.where(going, log_prob, 0.0)
        ended[rows] |= chosen == end_token
        if step % CHECK_EVERY == CHECK_EVERY - 1:
            still = (~ended[rows]).nonzero().squeeze(1)
            if len(still) == 0:
                break
            if len(still) < COMPACT_BELOW * len(rows):
                rows, chosen = rows[still], chosen[still]
                decoder.keep(still)
        if step + 1 < max_new_tokens:
            logits = decoder(chosen[:, None])
    after = (tokens == end_token).cumsum(1) - (tokens == end_token).int()  # (B, T) end tokens before each token
    lengths = (after == 0).sum(1)
    width = int(lengths.max())
    return Rollouts(tokens[:, :width], log_probs[:, :width], lengths, ended)


def _choose(
    logits: Tensor, temperature: float, rows: Tensor, batch: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """One token per row, and its log-probability. Args: logits (b, V); rows (b,) their numbers among the `batch` rows."""
    if temperature == 0:
        log_probs = logits.log_softmax(-1)
        chosen = logits.argmax(-1)
    else:
        log_probs = (logits / temperature).log_softmax(-1)
        # argmax(log p + Gumbel noise) is a sample of p. The noise is drawn for all rows, so that it stays each row's own.
        noise = torch.empty(batch, logits.shape[-1]).exponential_(generator=generator).to(logits.device)[rows]
        chosen = (log_probs - noise.log()).argmax(-1)
    return chosen, log_probs.gather(1, chosen[:, None]).squeeze(1)


class CachedDecoder:
    """A GPT-2 that remembers the keys and values of the tokens it was given.

    Args:
        model: whose weights are used as they are.
        padding: (B,) how many columns each row's prompt is padded with on the left.
        columns: how many tokens it can be given, padding included.
    """

    def __init__(self, model: GPT2LMHeadModel, padding: Tensor, columns: int) -> None:
        config, device = model.config, model.device
        self.transformer: Any = model.transformer
        self.heads, self.head = config.n_head, model.lm_head
        dim = config.n_embd // config.n_head
        shape = (config.n_layer, len(padding), config.n_head)
        # With one query a row, attention takes as long as it takes to read these. Keys are stored transposed: both products
        # below then read along rows, which makes them faster than scaled_dot_product_attention on a CPU.
        self.keys = torch.empty(*shape, dim, columns, dtype=model.dtype, device=device)  # (layers, B, H, D, columns)
        self.values = torch.empty(*shape, columns, dim, dtype=model.dtype, device=device)  # (layers, B, H, columns, D)
        self.padding = padding
        padded = torch.arange(columns, device=device) < padding[:, None]  # (B, columns)
        bias = torch.zeros(padded.shape, dtype=model.dtype, device=device).masked_fill_(padded, float("-inf"))
        self.bias = bias[:, None, None].repeat(1, self.heads, 1, 1)  # (B, H, 1, columns)
        self.used = 0

    def keep(self, rows: Tensor) -> None:
        """Forget all rows but these. Args: rows (b,)."""
        self.keys, self.values = self.keys[:, rows], self.values[:, rows]
        self.bias, self.padding = self.bias[rows], self.padding[rows]

    def __call__(self, tokens: Tensor) -> Tensor:
        """Take the next tokens of every row. Args: tokens (B, S). Returns: (B, V) logits after the last one, float32."""
        start, self.used = self.used, self.used + tokens.shape[1]
        columns = torch.arange(start, self.used, device=tokens.device)  # (S,)
        positions = (columns - self.padding[:, None]).clamp_min(0)  # (B, S)
        x = self.transformer.wte(tokens) + self.transformer.wpe(positions)  # (B, S, W)
        bias = self.bias[..., : self.used]  # (B, H, 1, used)
        if tokens.shape[1] > 1:
            place = torch.arange(self.used, device=tokens.device)
            bias = bias.masked_fill(place > columns[:, None], float("-inf"))  # (B, H, S, used)
            # A padding token sees itself, as there is nothing else and a softmax over nothing is not a number.
            bias = bias.masked_fill(place == columns[:, None], 0.0)
        bias = bias.flatten(0, 1)  # (B * H, S, used)
        for block, keys, values in zip(self.transformer.h, self.keys, self.values, strict=True):
            x = x + self._attention(block.attn, block.ln_1(x), keys, values, start, bias)
            x = x + block.mlp(block.ln_2(x))
        return self.head(self.transformer.ln_f(x[:, -1])).float()

    def _attention(self, layer: Any, x: Tensor, keys: Tensor, values: Tensor, start: int, bias: Tensor) -> Tensor:
        batch, steps, width = x.shape
        qkv: Tensor = layer.c_attn(x).view(batch, steps, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (B, H, S, D)
        keys[..., start : self.used], values[:, :, start : self.used] = key.transpose(2, 3), value
        keys, values = keys[..., : self.used].flatten(0, 1), values[:, :, : self.used].flatten(0, 1)
        scores = torch.baddbmm(bias, query.flatten(0, 1), keys, alpha=layer.scaling)  # (B * H, S, used)
        mixed = torch.bmm(scores.softmax(-1), values).view(batch, self.heads, steps, -1)  # (B, H, S, D)
        return layer.c_proj(mixed.transpose(1, 2).reshape(batch, steps, width))
