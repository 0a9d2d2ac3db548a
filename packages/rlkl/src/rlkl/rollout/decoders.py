"""Token-by-token decoding of a GPT-2: two decoders with the same results, one for CPUs and one for GPUs.

`DynamicDecoder` reads only the used columns of its cache and drops finished rows. This is fast on a CPU, where a step costs as
much as its arithmetic and memory reads. `StaticDecoder` does the same work at every step, so that the step can be compiled and
replayed as a CUDA graph. This is fast on a GPU, where a step would otherwise wait for kernel launches.

Both take prompts with left padding: at a step, all rows write the same column of the cache, and each row counts its positions
from its first token.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import GPT2LMHeadModel

BUCKET = 128  # the part of a static cache that is read grows by this many columns; each size is compiled once
COMPILED_STEPS = 64  # most (size, temperature) pairs that a process may compile; torch raises an error beyond


class Decoder(Protocol):
    """Continues a batch of rows, one token at a time."""

    def start(self, prompts: Tensor, padding: Tensor, copies: int, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Read each prompt once, and choose the first token of its `copies` rows.

        Args:
            prompts: (P, S) tokens, padded on the left.
            padding: (P,) number of padding columns of each prompt.
            copies: G rows per prompt; row p * G + g continues prompt p.
            noise: (P * G,) in [0, 1), random numbers for the choice.

        Returns:
            (P * G,) the tokens, and their log-probabilities in float32. Valid until the next call.
        """
        ...

    def step(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Append the last chosen tokens and choose the next ones. Args: noise (b,). Returns: as `start`, (b,)."""
        ...

    def drop(self, ended: Tensor) -> Tensor:
        """Drop finished rows, or keep them if that is cheaper.

        Args:
            ended: (b,) bool

        Returns:
            (b',) the rows that remain, in the decoder's order.
        """
        ...


MakeDecoder = Callable[[GPT2LMHeadModel, int, int, float], Decoder]


def choose(logits: Tensor, noise: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Sample one token per row by inverse transform sampling; at temperature 0, take the most likely one.

    Args:
        logits: (b, V) float32
        noise: (b,) float64, uniform in [0, 1), one number per choice.

    Returns:
        (b,) the tokens, and (b,) their log-probabilities under the sampling distribution.
    """
    if temperature == 0:
        log_probs = logits.log_softmax(-1)
        chosen = logits.argmax(-1)
    else:
        log_probs = (logits / temperature).log_softmax(-1)
        below = log_probs.double().exp().cumsum(-1)  # (b, V), in float64 for unlikely tokens
        chosen = (below <= noise[:, None] * below[:, -1:]).sum(-1)
    return chosen, log_probs.gather(1, chosen[:, None]).squeeze(1)


def filled_up(ended: Tensor) -> Tensor:
    """The rows that remain, when rows from the end take the places of those that ended. Args: ended (b,). Returns: (b',)."""
    going = int((~ended).sum())
    kept = torch.arange(len(ended), device=ended.device)
    kept[ended[:going].nonzero().squeeze(1)] = going + (~ended[going:]).nonzero().squeeze(1)
    return kept[:going]


def read_prompts(model: GPT2LMHeadModel, prompts: Tensor, padding: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """One pass over the prompts, padded on the left.

    Args:
        prompts: (P, S)
        padding: (P,)

    Returns:
        (P, V) float32 logits after the last token, and for each layer its keys and values, (P, H, S, D).
    """
    place = torch.arange(prompts.shape[1], device=prompts.device)
    output = model(
        input_ids=prompts,
        attention_mask=(place >= padding[:, None]).long(),
        position_ids=(place - padding[:, None]).clamp_min(0),
        use_cache=True,
        logits_to_keep=1,
    )
    return output.logits[:, -1].float(), [(layer.keys, layer.values) for layer in output.past_key_values.layers]


class DynamicDecoder:
    """Decoder with dynamic shapes: reads only the used columns of unfinished rows.

    Args:
        model: in eval mode.
        rows: the number of rows.
        columns: the largest number of tokens in a row, padding included.
        temperature: the logits are divided by it.
    """

    def __init__(self, model: GPT2LMHeadModel, rows: int, columns: int, temperature: float) -> None:
        config = model.config
        self.model, self.temperature = model, temperature
        dim = config.n_embd // config.n_head
        shape = (config.n_layer, rows, config.n_head)
        # With one query per row, attention is limited by reading these. Keys are stored transposed: both products below then
        # read along rows, which is faster than scaled_dot_product_attention on a CPU.
        self.keys = torch.empty(*shape, dim, columns, dtype=model.dtype, device=model.device)  # (layers, b, H, D, columns)
        self.values = torch.empty(*shape, columns, dim, dtype=model.dtype, device=model.device)  # (layers, b, H, columns, D)

    def start(self, prompts: Tensor, padding: Tensor, copies: int, noise: Tensor) -> tuple[Tensor, Tensor]:
        """See Decoder."""
        logits, layers = read_prompts(self.model, prompts, padding)
        self.used = prompts.shape[1]
        for layer, (keys, values) in enumerate(layers):
            self.keys[layer, ..., : self.used] = keys.repeat_interleave(copies, 0).transpose(2, 3)
            self.values[layer, :, :, : self.used] = values.repeat_interleave(copies, 0)
        self.padding = padding.repeat_interleave(copies)  # (b,)
        padded = torch.arange(int(padding.max()), device=padding.device) < self.padding[:, None]  # (b, most padding)
        self.bias = torch.zeros_like(padded, dtype=self.model.dtype).masked_fill_(padded, float("-inf"))[:, None, None]
        self.tokens, log_probs = choose(logits.repeat_interleave(copies, 0), noise, self.temperature)
        return self.tokens, log_probs

    def step(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """See Decoder."""
        transformer: Any = self.model.transformer
        column, self.used = self.used, self.used + 1
        x = transformer.wte(self.tokens) + transformer.wpe(column - self.padding)  # (b, W)
        for block, keys, values in zip(transformer.h, self.keys, self.values, strict=True):
            x = x + self._attention(block.attn, block.ln_1(x), keys, values, column)
            x = x + block.mlp(block.ln_2(x))
        logits = self.model.lm_head(transformer.ln_f(x)).float()
        self.tokens, log_probs = choose(logits, noise, self.temperature)
        return self.tokens, log_probs

    def _attention(self, layer: Any, x: Tensor, keys: Tensor, values: Tensor, column: int) -> Tensor:
        rows, heads, dim = keys.shape[:3]
        query, key, value = layer.c_attn(x).view(rows, 3, heads, dim).unbind(1)  # each (b, H, D)
        keys[..., column], values[:, :, column] = key, value
        keys, values = keys[..., : self.used].flatten(0, 1), values[:, :, : self.used].flatten(0, 1)
        scores = torch.bmm((query * layer.scaling).view(rows * heads, 1, dim), keys).view(rows, heads, 1, -1)
        scores[..., : self.bias.shape[-1]] += self.bias  # masks padding
        mixed = torch.bmm(scores.softmax(-1).flatten(0, 1), values)  # (b * H, 1, D)
        return layer.c_proj(mixed.view(rows, heads * dim))

    def drop(self, ended: Tensor) -> Tensor:
        """See Decoder."""
        kept = filled_up(ended)
        going = len(kept)
        holes = ended[:going].nonzero().squeeze(1)
        movers = kept[holes]
        self.keys[:, holes, ..., : self.used] = self.keys[:, movers, ..., : self.used]
        self.values[:, holes, :, : self.used] = self.values[:, movers, :, : self.used]
        self.keys, self.values = self.keys[:, :going], self.values[:, :going]
        self.bias, self.padding, self.tokens = self.bias[kept], self.padding[kept], self.tokens[kept]
        return kept


class LayerCache(torch.nn.Module):
    """Keys and values of one layer, (R, H, C, D) each. In buffers: a CUDA graph needs fixed memory addresses."""

    keys: Tensor
    values: Tensor

    def __init__(self, model: GPT2LMHeadModel, rows: int, columns: int) -> None:
        super().__init__()
        shape = (rows, model.config.n_head, columns, model.config.n_embd // model.config.n_head)
        self.register_buffer("keys", torch.zeros(shape, dtype=model.dtype, device=model.device))
        self.register_buffer("values", torch.zeros(shape, dtype=model.dtype, device=model.device))


class StaticCache(torch.nn.Module):
    """The state that changes from step to step, for R rows and C columns."""

    layers: Any  # a ModuleList of LayerCache
    column: Tensor  # (1,) int64, the next column to write
    padding: Tensor  # (R,) int64
    tokens: Tensor  # (R,) int64, chosen last
    log_probs: Tensor  # (R,) float32, of these
    noise: Tensor  # (R,) float64

    def __init__(self, model: GPT2LMHeadModel, rows: int, columns: int) -> None:
        super().__init__()
        self.rows, self.columns = rows, columns
        self.layers = torch.nn.ModuleList(LayerCache(model, rows, columns) for _ in range(model.config.n_layer))
        self.register_buffer("column", torch.zeros(1, dtype=torch.int64, device=model.device))
        for name, dtype in {
            "padding": torch.int64,
            "tokens": torch.int64,
            "log_probs": torch.float32,
            "noise": torch.float64,
        }.items():
            self.register_buffer(name, torch.zeros(rows, dtype=dtype, device=model.device))


def advance(model: GPT2LMHeadModel, state: StaticCache, columns: int, temperature: float) -> None:
    """One step of all rows of a cache, in place; it never waits for the device.

    Args:
        columns: the number of columns to read; at least those in use.
    """
    transformer: Any = model.transformer
    place = torch.arange(columns, device=state.column.device)
    seen = (place >= state.padding[:, None]) & (place <= state.column)  # (R, columns)
    x = transformer.wte(state.tokens) + transformer.wpe(state.column - state.padding)  # (R, W)
    for block, layer in zip(transformer.h, state.layers, strict=True):
        rows, heads, _, dim = layer.keys.shape
        query, key, value = block.attn.c_attn(block.ln_1(x)).view(rows, 3, heads, 1, dim).unbind(1)  # each (R, H, 1, D)
        layer.keys.index_copy_(2, state.column, key)
        layer.values.index_copy_(2, state.column, value)
        mixed = F.scaled_dot_product_attention(
            query,
            layer.keys[:, :, :columns],
            layer.values[:, :, :columns],
            attn_mask=seen[:, None, None],
            scale=block.attn.scaling,
        )  # (R, H, 1, D)
        x = x + block.attn.c_proj(mixed.reshape(rows, heads * dim))
        x = x + block.mlp(block.ln_2(x))
    tokens, log_probs = choose(model.lm_head(transformer.ln_f(x)).float(), state.noise, temperature)
    state.tokens.copy_(tokens)
    state.log_probs.copy_(log_probs)
    state.column.add_(1)


Advance = Callable[[GPT2LMHeadModel, StaticCache, int, float], None]


@cache
def compiled_advance() -> Advance:
    """`advance`, compiled for each number of columns; on CUDA replayed as a graph."""
    limits = torch._dynamo.config
    limits.recompile_limit = max(limits.recompile_limit, COMPILED_STEPS)
    return torch.compile(advance, mode="reduce-overhead", fullgraph=True, dynamic=False)


class StaticDecoder:
    """Decoder with the static shapes of its cache. Finished rows stay, and unused columns are masked.

    Args:
        model: in eval mode.
        state: a cache with room for all rows and columns.
        temperature: the logits are divided by it.
        advance: the step, compiled or not.
    """

    def __init__(
        self,
        model: GPT2LMHeadModel,
        state: StaticCache,
        temperature: float,
        advance: Advance,
    ) -> None:
        self.model, self.state, self.temperature, self.advance = model, state, temperature, advance

    def start(self, prompts: Tensor, padding: Tensor, copies: int, noise: Tensor) -> tuple[Tensor, Tensor]:
        """See Decoder."""
        logits, layers = read_prompts(self.model, prompts, padding)
        state, self.rows, self.used = self.state, len(noise), prompts.shape[1]
        for buffer in state.buffers():
            buffer.zero_()  # a masked column must not hold NaN
        for layer, (keys, values) in zip(state.layers, layers, strict=True):
            layer.keys[: self.rows, :, : self.used] = keys.repeat_interleave(copies, 0)
            layer.values[: self.rows, :, : self.used] = values.repeat_interleave(copies, 0)
        state.column.fill_(self.used)
        state.padding[: self.rows] = padding.repeat_interleave(copies)
        chosen, log_probs = choose(logits.repeat_interleave(copies, 0), noise, self.temperature)
        state.tokens[: self.rows] = chosen
        return chosen, log_probs

    def step(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """See Decoder."""
        self.used += 1
        self.state.noise[: self.rows] = noise
        self.advance(self.model, self.state, -(-self.used // BUCKET) * BUCKET, self.temperature)
        return self.state.tokens[: self.rows], self.state.log_probs[: self.rows]

    def drop(self, ended: Tensor) -> Tensor:
        """See Decoder."""
        return torch.arange(len(ended), device=ended.device)


_caches: WeakKeyDictionary[GPT2LMHeadModel, StaticCache] = WeakKeyDictionary()


def static_cache(model: GPT2LMHeadModel, rows: int, columns: int) -> StaticCache:
    """A cache with at least this many rows and columns; the model's last one if it is large enough.

    It lives as long as the model, because a CUDA graph works for one memory address only.
    """
    kept = _caches.get(model)
    like = model.lm_head.weight
    if kept is not None and (kept.layers[0].keys.dtype, kept.column.device) != (like.dtype, like.device):
        kept = None
    if kept is None or kept.rows < rows or kept.columns < columns:
        if kept is not None:
            rows, columns = max(rows, kept.rows), max(columns, kept.columns)
        kept = _caches[model] = StaticCache(model, 1 << (rows - 1).bit_length(), -(-columns // BUCKET) * BUCKET)
    return kept


def static_decoder(model: GPT2LMHeadModel, rows: int, columns: int, temperature: float) -> StaticDecoder:
    """A StaticDecoder with a compiled step."""
    return StaticDecoder(model, static_cache(model, rows, columns), temperature, compiled_advance())


def fastest_decoder(model: GPT2LMHeadModel, rows: int, columns: int, temperature: float) -> Decoder:
    """The decoder for the device that the model is on."""
    decoder: MakeDecoder = static_decoder if model.device.type == "cuda" else DynamicDecoder
    return decoder(model, rows, columns, temperature)
