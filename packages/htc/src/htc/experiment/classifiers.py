"""The models that know the hierarchy, each joined to a text encoder: what `htc-train model=` makes.

| | in training | at prediction |
|---|---|---|
| `HiTINClassifier` | `HiTIN` in place of the flat head, or on top of it | the same |
| `HGCLRClassifier` | the flat model, and a second pass over each text, with `HGCLR`'s term of the loss | the flat model |
| `HBGLClassifier` | the encoder's layers, run by `HBGL`; the global stage before | the same, level by level |

Where a model can have the flat head, it has that, not one of its authors' own, so that models differ in what they are about.
"""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from htc.labels.hierarchy import Hierarchy
from htc.models.classifier import Classifier, Parts
from htc.models.coding_tree import coding_tree
from htc.models.hbgl import HBGL, SpecialTokens, check_bert, name_rows, new_transform
from htc.models.hbgl_global import global_stage
from htc.models.hgclr import HGCLR
from htc.models.hitin import HiTIN, Mixing, Pooling
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.models.encoders import load_masked_lm_transform

log = logging.getLogger(__name__)

MOST_BY_MATRIX = 1000  # labels that HiTIN mixes by a matrix where nothing else is asked for
CELLS = 2**25  # numbers in the largest layer of HiTIN at a time, outside of training


def suitable_mixing(labels: int) -> Mixing:
    """How HiTIN mixes so many labels where nothing else is asked for."""
    return "matrix" if labels <= MOST_BY_MATRIX else "scale"


class HiTINClassifier(Classifier):
    """The text vector, summed up a coding tree of the labels.

    Args: parts: what it is made from; the settings are those of `htc.settings.ModelSettings`.
    """

    def __init__(
        self, parts: Parts, *, height: int, mixing: Mixing | None, pooling: Pooling, pooled_dropout: float, on_top: bool
    ) -> None:
        dim, labels, outputs = parts.encoder.dim, parts.hierarchy.num_nodes, parts.objective.num_outputs
        super().__init__(parts.part, dim, parts.hidden if on_top else 1, outputs, parts.dropout)
        assert isinstance(self.head, nn.Sequential)
        hitin = HiTIN(
            coding_tree(parts.hierarchy, height),
            dim,
            outputs,
            mixing=mixing or suitable_mixing(labels),
            pooling=pooling,
            base=self.head[1:] if on_top else None,
            dropout=parts.dropout,
            pooled_dropout=pooled_dropout,
        )
        self.head = nn.Sequential(self.head[0], hitin)
        self._at_a_time = max(1, CELLS // (labels * dim))  # documents

    def logits(self, vectors: Tensor) -> Tensor:
        """(B, dim) -> (B, K); outside of training some documents at a time, as there is a vector for each label."""
        if self.training:
            return self.head(vectors)
        return torch.cat([self.head(some) for some in vectors.split(self._at_a_time)])

    def set_output_bias(self, bias: Tensor) -> None:
        """Start the logits at given values: the last output layer has this bias, all others 0. Args: bias (K,)."""
        with torch.no_grad():
            for layer in self._output_layers:
                layer.bias.zero_()
            self._output_layers[-1].bias.copy_(bias)

    @property
    def output_weights(self) -> Sequence[Tensor]:
        """(K, hidden) each: of each layer of the coding tree that is read, and of the flat head."""
        return [layer.weight for layer in self._output_layers]

    @property
    def _output_layers(self) -> list[nn.Linear]:
        assert isinstance(self.head, nn.Sequential)
        hitin = self.head[1]
        assert isinstance(hitin, HiTIN)
        of_base = [hitin.base[-1]] if isinstance(hitin.base, nn.Sequential) else []
        return [layer for layer in (*hitin.readout.children(), *of_base) if isinstance(layer, nn.Linear)]


class HGCLRClassifier(Classifier):
    """The flat model, which in training sees each text a second time, with the words that its labels attend to.

    Args: parts: what it is made from, with an encoder that is trained; the settings: `htc.settings.ModelSettings`.

    Raises:
        InputError: for an encoder without word embeddings of the size of its vectors; see `htc.models.hgclr.HGCLR`.
    """

    own_loss = True

    def __init__(self, parts: Parts, *, gate_heads: int, graph_heads: int, **settings: float) -> None:
        super().__init__(parts.part, parts.encoder.dim, parts.hidden, parts.objective.num_outputs, parts.dropout)
        model = parts.encoder.model
        if not hasattr(model, "embeddings") or model.get_input_embeddings().weight.shape[1] != parts.encoder.dim:
            raise InputError(
                f"model=hgclr reads words and labels with the encoder's embeddings, and {type(model).__name__} has none of the "
                "size of its vectors; take a BERT."
            )
        names = parts.encoder.tokenize(parts.hierarchy.names)
        self.contrast = HGCLR(
            parts.hierarchy,
            names,
            parts.encoder.dim,
            gate_heads=gate_heads,
            graph_heads=graph_heads,
            dropout=parts.dropout,
            **settings,
        )
        self._loss = parts.objective.loss  # a function: its module is no part of this one

    def forward(self, inputs: Tensor | dict[str, Tensor]) -> Tensor:
        """Logits; in training, where `targets` (B, N) are among the inputs, the loss, a scalar."""
        if isinstance(inputs, Tensor) or "targets" not in inputs:
            return super().forward(inputs)
        encoder: Any = self.encoder
        mask, targets = inputs["attention_mask"], inputs["targets"]

        def loss(vectors: Tensor) -> Tensor:
            logits = self.logits(vectors).float()
            with torch.autocast(logits.device.type, enabled=False):
                return self._loss(logits, targets)

        words = encoder.model.get_input_embeddings()(inputs["input_ids"])
        vectors = encoder.from_words(words, mask)
        added = self.contrast(
            vectors,
            words,
            targets,
            embed=lambda ids: encoder.model.embeddings(input_ids=ids),
            encode=lambda seen: encoder.from_words(seen, mask),
            loss=loss,
        )
        return loss(vectors) + added


class HBGLClassifier(Classifier):
    """BERT, writing the labels level by level.

    What comes before the output layer of BERT's masked-LM head is taken from the encoder's files. Those of MiniLM, as of most
    encoders of sentences, have no such head: then a new one stands in for it, which the global stage trains, too. That costs
    what the head of a language model knows already: how to turn a [MASK] into a word that fits.

    Args: parts: what it is made from; the settings: `htc.settings.ModelSettings`.

    Raises:
        InputError: for an encoder that is no BERT, a tokenizer without special tokens, or a label whose name has no token.
    """

    reads_tokens = True
    own_loss = True

    def __init__(
        self,
        parts: Parts,
        *,
        history_mask: float,
        global_steps: int,
        global_learning_rate: float,
        masked: float,
        masked_at_end: float,
        copies: int,
    ) -> None:
        nn.Module.__init__(self)
        self.encoder = parts.encoder
        bert = parts.encoder.model
        check_bert(bert)
        if getattr(bert, "pooler", None) is not None:
            bert.pooler.requires_grad_(False)  # no part of what is computed
        transform = new_transform(parts.encoder.dim, ACT2FN[bert.config.hidden_act])
        source = parts.encoder.source if parts.trained else ""  # a model that is saved brings its own
        known = load_masked_lm_transform(source) if source else None
        if known is not None:
            transform[0].load_state_dict(known.get_submodule("dense").state_dict())
            transform[2].load_state_dict(known.get_submodule("LayerNorm").state_dict())
        elif source:
            log.info("%s has no masked-LM head; HBGL begins with a new one.", source)
        rows = name_rows(bert.embeddings.word_embeddings, _pieces(parts))
        self.head = HBGL(parts.hierarchy, rows, _special_tokens(parts.encoder.tokenizer), transform, history_mask)
        self._global: dict[str, Any] = {
            "steps": global_steps,
            "learning_rate": global_learning_rate,
            "share": (masked, masked_at_end),
        }
        self._global |= {"copies": copies, "new_transform": known is None}

    @staticmethod
    def most_tokens(encoder: Any, hierarchy: Hierarchy) -> int:
        """What leaves positions for every level and [SEP] behind a text."""
        check_bert(encoder.model)
        positions = encoder.model.config.max_position_embeddings
        room = positions - hierarchy.max_depth - 1
        if room < 3:
            raise InputError(f"the encoder has {positions} positions, too few for {hierarchy.max_depth} levels of labels.")
        return room

    def standardize(self, vectors: Tensor) -> None:
        """Nothing: there are no text vectors."""

    def prepare(self, seed: int) -> None:
        """The global stage: the label vectors learn the hierarchy. Args: seed: of what is masked."""
        assert isinstance(self.head, HBGL)
        if self._global["steps"]:
            encoder: Any = self.encoder
            losses = global_stage(self.head, encoder.model, seed=seed, **self._global)
            log.info("global stage: %d steps, loss %.4f, at the end %.4f", len(losses), losses[0], losses[-1])

    def forward(self, inputs: Tensor | dict[str, Tensor]) -> Tensor:
        """Logits (B, N); in training, where `targets` (B, N) are among the inputs, the loss, a scalar."""
        if isinstance(inputs, Tensor):
            raise ValueError("HBGL reads tokens, not vectors.")
        assert isinstance(self.head, HBGL)
        encoder: Any = self.encoder
        if "targets" in inputs:
            return self.head.loss(encoder.model, inputs["input_ids"], inputs["attention_mask"], inputs["targets"])
        return self.head.decode(encoder.model, inputs["input_ids"], inputs["attention_mask"]).logits


def _pieces(parts: Parts) -> list[list[int]]:
    """The token ids of each label's name, without special tokens. Raises InputError for a name without any."""
    pieces = parts.encoder.tokenizer(list(parts.hierarchy.names), add_special_tokens=False)["input_ids"]
    for name, ids in zip(parts.hierarchy.names, pieces, strict=True):
        if not ids:
            raise InputError(f"model=hbgl begins with the names of labels, and the tokenizer finds nothing in {name!r}.")
    return pieces


def _special_tokens(tokenizer: Any) -> SpecialTokens:
    found = SpecialTokens(tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.mask_token_id)
    for name, token in found._asdict().items():
        if token is None:
            raise InputError(f"model=hbgl needs a tokenizer with a {name.upper()} token, which that of the encoder lacks.")
    return found
