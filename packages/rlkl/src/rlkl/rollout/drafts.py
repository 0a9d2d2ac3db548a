"""Rollouts that check drafts: many tokens of a row in one pass, where something foresees them.

A draft proposes how a row goes on. One pass reads the proposed tokens, and after each, a token is chosen from the policy and
the random number of that place. The row keeps the choices up to the first that differs from its draft, and that one. So its
tokens are those of a rollout without drafts, for any drafts; the rejection rule of speculative decoding (Leviathan et al. 2023,
arXiv 2211.17192) is not needed, because the random numbers are given. Only the rounding of logits differs, as it does between
batch sizes.

The cache is read once for each draft, not for each token, and products have more rows: that is faster on a CPU. On a GPU, whose
steps are compiled for one token per row, drafts are not used; nor in half precision, whose rounding would change samples.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import GPT2LMHeadModel

from rlkl.rollout.decoders import choose, filled_up

LONGEST = 24  # tokens in a draft; 32 are as fast, 48 a fifth slower
AT_A_TIME = 400  # tokens in one pass: activations stay in the processor's cache

Draft = Callable[[int, Sequence[int], int], Sequence[int]]
"""(row, its sampled tokens, n) -> at most n tokens that may follow; any, or none."""


class RaggedCache:
    """Keys and values of rows of different lengths; row r has its tokens in the columns below lengths[r].

    Args:
        model: in eval mode.
        rows, columns: the most there can be.
    """

    def __init__(self, model: GPT2LMHeadModel, rows: int, columns: int) -> None:
        config = model.config
        shape = (config.n_layer, 2, rows, config.n_head, columns, config.n_embd // config.n_head)
        self.model = model
        self.kept = torch.zeros(shape, dtype=model.dtype, device=model.device)  # a masked column must not hold NaN
        self.lengths = torch.zeros(rows, dtype=torch.int64, device=model.device)

    def read(self, rows: slice, tokens: Tensor) -> Tensor:
        """Read tokens behind those in the cache, without making the rows longer.

        Args:
            rows: b of them.
            tokens: (b, k), padded on the right by any.

        Returns:
            (b, k, V) float32 logits after each.
        """
        transformer: Any = self.model.transformer
        width, lengths = tokens.shape[1], self.lengths[rows]
        columns = lengths[:, None] + torch.arange(width, device=tokens.device)  # (b, k)
        used = int(lengths.max()) + width
        hidden_from = torch.arange(used, device=tokens.device) > columns[..., None]  # (b, k, used)
        bias = torch.zeros(hidden_from.shape, dtype=self.kept.dtype, device=tokens.device)
        bias = bias.masked_fill_(hidden_from, float("-inf"))[:, None]
        positions = columns.clamp_max(self.model.config.n_positions - 1)  # padding may be beyond
        x = transformer.wte(tokens) + transformer.wpe(positions)  # (b, k, W)
        for block, kept in zip(transformer.h, self.kept, strict=True):
            x = x + self._attention(block.attn, block.ln_1(x), kept[:, rows], columns, bias)
            x = x + block.mlp(block.ln_2(x))
        return self.model.lm_head(transformer.ln_f(x)).float()

    def _attention(self, layer: Any, x: Tensor, kept: Tensor, columns: Tensor, bias: Tensor) -> Tensor:
        keys, values = kept  # (b, H, columns, D) each
        rows, width, heads, dim = *x.shape[:2], keys.shape[1], keys.shape[3]
        query, key, value = layer.c_attn(x).view(rows, width, 3, heads, dim).unbind(2)  # each (b, k, H, D)
        row = torch.arange(rows, device=x.device)[:, None]
        keys[row, :, columns], values[row, :, columns] = key, value
        used = bias.shape[-1]
        mixed = F.scaled_dot_product_attention(
            query.transpose(1, 2),
            keys[:, :, :used],
            values[:, :, :used],
            attn_mask=bias,
            scale=layer.scaling,
        )  # (b, H, k, D)
        return layer.c_proj(mixed.transpose(1, 2).reshape(rows, width, heads * dim))

    def keep(self, rows: Tensor) -> None:
        """Keep these rows, in this order, which moves only rows from the end. Args: rows: (b',)."""
        moved = (rows != torch.arange(len(rows), device=rows.device)).nonzero().squeeze(1)
        if len(moved):
            used = int(self.lengths.max())
            self.kept[:, :, moved, :, :used] = self.kept[:, :, rows[moved], :, :used]
        self.lengths = self.lengths[rows]


class Row:
    """A row that is being continued.

    Attributes:
        index: among all rows.
        next: the tokens that the cache does not hold yet: the prompt, then the last choice.
        tokens, log_probs: the choices, and their log-probabilities.
        ended: whether it has.
    """

    def __init__(self, index: int, prompt: Sequence[int]) -> None:
        self.index, self.next = index, list(prompt)
        self.tokens: list[int] = []
        self.log_probs: list[float] = []
        self.ended = False

    def take(self, fed: Sequence[int], chosen: Sequence[int], log_probs: Sequence[float], limit: int, end: int) -> int:
        """Take the choices up to the first that the draft did not foresee.

        Args:
            fed: `next` and the draft.
            chosen, log_probs: the choice after each of them.
            limit: the most tokens.

        Returns:
            How many of the tokens that were fed are the row's.
        """
        first = last = len(self.next) - 1
        while last + 1 < len(fed) and fed[last + 1] == chosen[last] != end and len(self.tokens) + last - first + 1 < limit:
            last += 1
        self.tokens += chosen[first : last + 1]
        self.log_probs += log_probs[first : last + 1]
        self.next = [self.tokens[-1]]
        self.ended = self.tokens[-1] == end or len(self.tokens) == limit
        return last + 1


def continue_with_drafts(
    model: GPT2LMHeadModel,
    prompts: Sequence[Sequence[int]],
    copies: int,
    noise: Tensor,
    end_token: int,
    temperature: float,
    draft: Draft,
) -> list[Row]:
    """Continue p prompts until all their rows have ended.

    Args:
        copies: G rows per prompt; row p * G + g continues prompt p.
        noise: (T, p * G) random numbers of the choices; a row has at most T tokens.

    Returns:
        The rows, in order.
    """
    rows = [Row(number, prompts[number // copies]) for number in range(len(prompts) * copies)]
    limit, going, longest = len(noise), list(rows), LONGEST
    cache = RaggedCache(model, len(rows), max(map(len, prompts)) + limit + LONGEST)
    while going:
        before = sum(len(row.tokens) for row in going)
        step = AT_A_TIME // (1 + longest)
        for start in range(0, len(going), step):
            together = slice(start, min(start + step, len(going)))
            _check_drafts(cache, together, going[together], noise, end_token, temperature, draft, longest)
        gained = sum(len(row.tokens) for row in going) - before
        longest = min(LONGEST, 2 * gained // len(going) - 1)  # where drafts are often wrong, they cost more than they give
        kept = filled_up(torch.tensor([row.ended for row in going], device=model.device))
        cache.keep(kept)
        going = [going[number] for number in kept.tolist()]
    return rows


def _check_drafts(
    cache: RaggedCache,
    place: slice,
    rows: Sequence[Row],
    noise: Tensor,
    end_token: int,
    temperature: float,
    draft: Draft,
    longest: int,
) -> None:
    """One pass over drafts of some rows. Args: place: of the rows in the cache; longest: a draft may be."""
    limit, device = len(noise), noise.device
    fed = [[*row.next, *draft(row.index, row.tokens, min(longest, limit - len(row.tokens) - 1))] for row in rows]
    width = max(map(len, fed))
    tokens = torch.tensor([[*each, *[0] * (width - len(each))] for each in fed], device=device)  # (b, k)
    first = torch.tensor([len(row.tokens) - len(row.next) + 1 for row in rows], device=device)
    places = (first[:, None] + torch.arange(width, device=device)).clamp(0, limit - 1)  # (b, k) of the choices
    index = torch.tensor([row.index for row in rows], device=device)[:, None]
    logits = cache.read(place, tokens)
    chosen, log_probs = choose(logits.flatten(0, 1), noise[places, index].flatten(), temperature)
    chosen, log_probs = chosen.view_as(tokens), log_probs.view_as(tokens)
    taken = [
        row.take(of_row, choices, of_choices, limit, end_token)
        for row, of_row, choices, of_choices in zip(rows, fed, chosen.tolist(), log_probs.tolist(), strict=True)
    ]
    cache.lengths[place] += torch.tensor(taken, device=device)
