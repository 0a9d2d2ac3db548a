"""HBGL: BERT reads the text, then writes the labels level by level, as sets.

Every label has a vector of the size of a word embedding, which it is read as and scored with. The sequence is

    source tokens | T_0 ... T_{H-1} | P_0 ... P_H

with T_h, the history, the sum of the vectors of the document's labels at depth h + 1, and P_h, always [MASK], the place where
those labels are predicted; behind its last level a document has a [SEP] to predict. The source sees itself; T_h sees the source
and T_0 ... T_h; P_h sees the source, T_0 ... T_{h-1} and itself (`attention_blocks`). Training takes one pass over all
(`HBGL.loss`); predicting takes one step for each level, from keys and values that are kept (`HBGL.decode`).

Before, the label vectors learn the hierarchy alone (`global_stage`): the labels are one sequence, each at the position of its
depth, in which parents and children see each other and masked labels are to be found.

It has its own loss and takes no objective. What it gives for a label is its logit at the step of its depth, given what it
predicted at the steps before: a score for every rule and metric. Trees, forests and DAGs (a label's level is the longest way
down to it), any label sets that are closed under ancestors. The encoder must be a BERT: its layers are run here.

Source: Jiang et al., "Exploiting Global and Local Hierarchies for Hierarchical Text Classification", EMNLP 2022. Different from
the authors' code: an empty prediction stays empty, where theirs becomes label 0; at a step only labels of its level are
predicted; masked leaves that no one can tell apart share their targets, where theirs has them one label off; the [SEP] of the
global stage, which nothing sees, is left out.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from htc.labels.hierarchy import Hierarchy
from htc.losses.base import UnsuitableTargetsError
from htc.models.hgclr import init_as_bert
from rlkl_htc_common.errors import InputError

Bert = Any
"""A BertModel of transformers."""


class SpecialTokens(NamedTuple):
    """The ids of three tokens."""

    cls: int
    sep: int
    mask: int


class Decoded(NamedTuple):
    """What `HBGL.decode` gives for B documents, C labels and H levels.

    Attributes:
        logits: (B, C), of each label at the step of its depth.
        stop: (B, H), of [SEP] at each step.
    """

    logits: Tensor
    stop: Tensor


class HBGL(nn.Module):
    """The label vectors, and what is read off BERT with them.

    Args:
        hierarchy: C labels in H levels.
        rows: (C, d), where the label vectors start, see `name_rows`.
        tokens: of the encoder's tokenizer.
        transform: of a masked-LM head, what comes before its output layer, (..., d) -> (..., d). None for a new one, with
            random weights, where the encoder comes without such a head.
        history_mask: how often T_h is [MASK] in training.

    Raises:
        InputError: for another number of rows.
    """

    depth: Tensor

    def __init__(
        self,
        hierarchy: Hierarchy,
        rows: Tensor,
        tokens: SpecialTokens,
        transform: nn.Module | None = None,
        history_mask: float = 0.5,
    ) -> None:
        super().__init__()
        if len(rows) != hierarchy.num_nodes:
            raise InputError(f"HBGL needs a vector for each of the {hierarchy.num_nodes} labels, not {len(rows)}.")
        self.hierarchy, self.tokens, self.history_mask = hierarchy, tokens, history_mask
        self.rows = nn.Parameter(rows.detach().clone())
        self.bias = nn.Parameter(torch.zeros(1 + len(rows)))  # of [SEP], then of the labels
        self.transform = new_transform(rows.shape[1]) if transform is None else transform
        self.register_buffer("depth", hierarchy.depth, persistent=False)

    def loss(self, bert: Bert, input_ids: Tensor, attention_mask: Tensor, targets: Tensor) -> Tensor:
        """Binary cross-entropy of [SEP] and all labels, mean over the steps up to each document's [SEP].

        Args: input_ids, attention_mask (B, S), with room for H + 1 more positions; targets (B, C) bool. Returns: a scalar.

        Raises:
            InputError: for targets that are not closed under ancestors, or a text that is too long.
        """
        self.check_targets(targets)
        history = self.history(bert, targets)
        if self.training:
            masked = torch.rand(history.shape[:2], device=history.device) < self.history_mask
            history = torch.where(masked[..., None], self._word(bert, self.tokens.mask), history)
        logits = self.scores(bert, self.hidden(bert, input_ids, attention_mask, history), slice(0, len(self.rows)))
        wanted, steps = self.wanted(targets)
        costs = F.binary_cross_entropy_with_logits(logits, wanted.to(logits.dtype), reduction="none").mean(2)  # (B, H + 1)
        return costs[steps].mean()

    def check_targets(self, targets: Tensor) -> None:
        """Raise UnsuitableTargetsError for targets (B, C) with a label whose parent is missing: its level would be wrong."""
        coherent = self.hierarchy.is_coherent(targets)
        if not coherent.all():
            raise UnsuitableTargetsError(
                int((~coherent).nonzero()[0]),
                "HBGL writes labels level by level, and it has a label without its parent; close its labels under ancestors.",
            )

    def wanted(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        """What is to be predicted at each step. Args: targets (B, C) bool.

        Returns: (B, H + 1, 1 + C) bool, [SEP] first; (B, H + 1) bool, whether the step counts, being that of a level or of
            [SEP].
        """
        step = torch.arange(self.hierarchy.max_depth + 1, device=targets.device)
        levels = (targets * self.depth).amax(1, keepdim=True)  # (B, 1)
        of_labels = targets[:, None] & (self.depth == step[:, None] + 1)  # (B, H + 1, C)
        return torch.cat([(step == levels)[..., None], of_labels], 2), step <= levels

    def history(self, bert: Bert, sets: Tensor) -> Tensor:
        """T_h for each level, [MASK] where a set is empty. Args: sets (B, C) bool. Returns: (B, H, d), without gradient."""
        rows, mask = self.rows.detach(), self._word(bert, self.tokens.mask).detach()
        sums = [self._sum(sets[:, level], rows[level], mask) for level in self.hierarchy.levels]
        return torch.stack(sums, 1)

    @staticmethod
    def _sum(sets: Tensor, rows: Tensor, empty: Tensor) -> Tensor:
        """The sum of the rows of each set. Args: sets (B, n); rows (n, d); empty (d,). Returns: (B, d)."""
        return torch.where(sets.any(1, keepdim=True), sets.to(rows.dtype) @ rows, empty)

    def hidden(self, bert: Bert, input_ids: Tensor, attention_mask: Tensor, history: Tensor) -> Tensor:
        """The last layer at P_0 ... P_H, in one pass over all. Args: history (B, H, d). Returns: (B, H + 1, d)."""
        steps = history.shape[1] + 1
        mask = self._word(bert, self.tokens.mask).expand(len(history), steps, -1)
        lengths = self._lengths(bert, attention_mask)
        step = torch.arange(steps, device=lengths.device)
        sequence = torch.cat(
            [
                bert.embeddings(input_ids=input_ids),
                embed(bert, history, lengths + step[:-1]),
                embed(bert, mask, lengths + step),
            ],
            1,
        )
        return run(bert, sequence, attention_blocks(attention_mask.bool(), steps))[:, -steps:]

    def scores(self, bert: Bert, hidden: Tensor, labels: slice) -> Tensor:
        """Logits of [SEP] and of some labels. Args: hidden (..., d); labels: n of C. Returns: (..., 1 + n)."""
        transformed = self.transform(hidden)
        rows = torch.cat([self._word(bert, self.tokens.sep)[None], self.rows[labels]])
        return transformed @ rows.T + torch.cat([self.bias[:1], self.bias[1:][labels]])

    @torch.no_grad()
    def decode(self, bert: Bert, input_ids: Tensor, attention_mask: Tensor) -> Decoded:
        """The logit of every label, level by level: those above 0 at a level are the history of the levels below.

        Args: input_ids, attention_mask (B, S). Raises: InputError: for a text that is too long.
        """
        lengths = self._lengths(bert, attention_mask)
        visible = attention_mask.bool()[:, None]  # (B, 1, keys)
        cache = KeysAndValues(kept=input_ids.shape[1])
        run(bert, bert.embeddings(input_ids=input_ids), visible, cache)
        mask = self._word(bert, self.tokens.mask)
        history = mask.new_empty(len(input_ids), 0, len(mask))
        logits, stop = [], []
        for step, level in enumerate(self.hierarchy.levels):
            words = torch.cat([history, mask.expand(len(input_ids), 1, -1)], 1)  # T_{step - 1}, if there is one, and P_step
            new = words.shape[1]
            positions = lengths + step - torch.arange(new - 1, -1, -1, device=lengths.device)
            sees = torch.ones(new, new, dtype=torch.bool, device=words.device).tril().expand(len(words), -1, -1)
            visible = torch.cat([visible[:, -1:].expand(-1, new, -1), sees], 2)
            cache.kept = new - 1
            scores = self.scores(bert, run(bert, embed(bert, words, positions), visible, cache)[:, -1], level)
            visible = visible[:, -1:, :-1]
            stop.append(scores[:, 0])
            logits.append(scores[:, 1:])
            history = self._sum(scores[:, 1:] > 0, self.rows[level], mask)[:, None]
        return Decoded(torch.cat(logits, 1), torch.stack(stop, 1))

    def sets(self, decoded: Decoded) -> Tensor:
        """The authors' own rule: the labels above 0, up to the first level where [SEP] is above 0 or no label is.

        Returns: (B, C) bool, possibly empty, possibly incoherent.
        """
        chosen = decoded.logits > 0
        empty = torch.stack([~chosen[:, level].any(1) for level in self.hierarchy.levels], 1)
        goes_on = ~(empty | (decoded.stop > 0)).cummax(1).values  # (B, H)
        return chosen & goes_on[:, self.depth - 1]

    def _word(self, bert: Bert, token: int) -> Tensor:
        """(d,)."""
        return bert.embeddings.word_embeddings.weight[token]

    def _lengths(self, bert: Bert, attention_mask: Tensor) -> Tensor:
        """The tokens of each text, (B, 1). Raises InputError unless all positions behind them exist."""
        check_bert(bert)
        lengths = attention_mask.sum(1, keepdim=True)
        room = bert.config.max_position_embeddings - self.hierarchy.max_depth - 1
        if int(lengths.max()) > room:
            raise InputError(
                f"a text of {int(lengths.max())} tokens leaves no positions for {self.hierarchy.max_depth} levels and [SEP] "
                f"behind it; cut texts at {room} tokens (encoder.max_length)."
            )
        return lengths


def attention_blocks(source: Tensor, steps: int) -> Tensor:
    """Who sees whom, in the order source, T_0 ... T_{steps - 2}, P_0 ... P_{steps - 1}.

    >>> attention_blocks(torch.tensor([[True, False]]), 3)[0, 2:].int()  # the source's second token is padding
    tensor([[1, 0, 1, 0, 0, 0, 0],
            [1, 0, 1, 1, 0, 0, 0],
            [1, 0, 0, 0, 1, 0, 0],
            [1, 0, 1, 0, 0, 1, 0],
            [1, 0, 1, 1, 0, 0, 1]], dtype=torch.int32)

    Args:
        source: (B, S) bool, false for padding.
        steps: H + 1.

    Returns:
        (B, queries, keys) bool, both S + 2 steps - 1 many.
    """
    history = torch.ones(steps - 1, steps - 1, dtype=torch.bool, device=source.device).tril()
    before = torch.ones(steps, steps - 1, dtype=torch.bool, device=source.device).tril(-1)
    itself = torch.eye(steps, dtype=torch.bool, device=source.device)
    length = source.shape[1]
    sees = torch.zeros(length + 2 * steps - 1, length + 2 * steps - 1, dtype=torch.bool, device=source.device)
    sees[length:-steps, length:-steps] = history
    sees[-steps:, length:-steps] = before
    sees[-steps:, -steps:] = itself
    sees = sees.repeat(len(source), 1, 1)
    sees[:, :, :length] = source[:, None]
    return sees


class KeysAndValues:
    """The keys and values of every layer, for transformers' attention, which calls `update` with those of the new positions.

    Attributes:
        kept: how many of the next new positions, from the first, stay.
    """

    def __init__(self, kept: int) -> None:
        self.kept = kept
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Args: keys, values (B, heads, new, d / heads). Returns: those kept before and these."""
        known = self._layers.get(layer)
        old = 0 if known is None else known[0].shape[2]
        if known is not None:
            keys, values = torch.cat([known[0], keys], 2), torch.cat([known[1], values], 2)
        self._layers[layer] = keys[:, :, : old + self.kept], values[:, :, : old + self.kept]
        return keys, values


def run(bert: Bert, hidden: Tensor, sees: Tensor, cache: KeysAndValues | None = None) -> Tensor:
    """BERT's layers with an attention mask of our own.

    Args: hidden (B, queries, d); sees (B or 1, queries or 1, keys) bool; cache: has the keys before. Returns: (B, queries, d).
    """
    hides = torch.zeros(sees.shape, dtype=hidden.dtype, device=hidden.device).masked_fill(~sees, torch.finfo(hidden.dtype).min)
    for layer in bert.encoder.layer:
        hidden = layer(hidden, hides[:, None].expand(-1, -1, hidden.shape[1], -1), past_key_values=cache)
    return hidden


def embed(bert: Bert, words: Tensor, positions: Tensor, token_type: int = 1) -> Tensor:
    """BERT's embedding layer. Args: words (B, n, d); positions (B or 1, n). Returns: (B, n, d)."""
    positions = positions.expand(len(words), -1)
    return bert.embeddings(inputs_embeds=words, position_ids=positions, token_type_ids=torch.full_like(positions, token_type))


def check_bert(model: Bert) -> None:
    """Raise InputError unless the encoder is one that HBGL can run."""
    kind = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
    if kind != "bert" or model.config.type_vocab_size < 2:
        raise InputError(f"HBGL runs the layers of the encoder itself, and can do so for a BERT only, not for {kind!r}.")


def name_rows(words: nn.Embedding, name_ids: Sequence[Sequence[int]]) -> Tensor:
    """The sum of the word embeddings of each name. Args: name_ids: C lists of token ids, no special tokens. Returns: (C, d)."""
    return torch.stack([words.weight[list(ids)].sum(0) for ids in name_ids]).detach()


def new_transform(dim: int, activation: nn.Module | None = None) -> nn.Sequential:
    """BERT's masked-LM head without its output layer, with new weights. Args: dim: d; activation: GELU by default."""
    layers = nn.Linear(dim, dim), activation or nn.GELU(), nn.LayerNorm(dim, eps=1e-12)
    return nn.Sequential(*layers).apply(init_as_bert)
