"""The classifier: text vector -> head -> logits, with the encoder in front where it is trained too."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from htc.labels.hierarchy import Hierarchy
from htc.losses.base import Objective


@dataclass(frozen=True)
class Parts:
    """What a classifier is made from, whatever its model.

    Attributes:
        encoder: a `rlkl_htc_common.models.encoders.TextEncoder`.
        trained: whether it is trained with the classifier, and so a part of it; if not, inputs are vectors.
        hierarchy: N labels.
        objective: gives the number of outputs, K, and the loss.
        hidden, dropout: of the head.
    """

    encoder: Any
    trained: bool
    hierarchy: Hierarchy
    objective: Objective
    hidden: int
    dropout: float

    @property
    def part(self) -> nn.Module | None:
        """The encoder where it is a part of the classifier."""
        return self.encoder if self.trained else None


class Standardize(nn.Module):
    """Shift and scale each feature to mean 0 and variance 1 over the training documents.

    Vectors come with a scale of their own (0.1 for MiniLM's), which a head trained at 1e-3 is slow to make up for: binary
    cross-entropy above all. Where the encoder is trained they are measured once, before. Its numbers are buffers, so that they
    are saved with the head.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))

    def fit(self, vectors: Tensor) -> None:
        """Measure mean and standard deviation. Args: vectors (n, dim)."""
        self.mean.copy_(vectors.mean(0))
        self.std.copy_(vectors.std(0).clamp(min=1e-6))

    def forward(self, vectors: Tensor) -> Tensor:
        """(B, dim) -> (B, dim)."""
        return (vectors - self.mean) / self.std


class Classifier(nn.Module):
    """An encoder (or none, for vectors computed beforehand) and a two-layer head: the flat model.

    Models that know the hierarchy are subclasses, see `htc.experiment.classifiers`. Whatever a model needs in training alone is
    outside of `head`, which is all that is saved of it beside the encoder.

    Args:
        encoder: called with the items of a token batch, gives (B, dim); None if inputs are vectors already.
        dim: the size of a text vector.
        hidden: the width of the head.
        num_outputs: K, what the objective asks for.
        dropout: before the head.

    Attributes:
        head: (B, dim) -> (B, K).
        reads_tokens: whether it takes no vectors, at prediction either.
        own_loss: whether, in training, it is called with `targets` among its inputs, and gives its loss in place of logits.

    Source: Plaud et al., CoNLL 2024, appendix: dropout, linear, ReLU, linear. The standardisation in front is ours; it does
    nothing until it is fitted.
    """

    head: nn.Module
    reads_tokens = False
    own_loss = False

    def __init__(self, encoder: nn.Module | None, dim: int, hidden: int, num_outputs: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Sequential(
            Standardize(dim), nn.Dropout(dropout), nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, num_outputs)
        )

    @staticmethod
    def most_tokens(encoder: Any, hierarchy: Hierarchy) -> int | None:
        """Where a text must be cut for this model, in tokens; None for where the encoder does. Args: as of `Parts`."""
        return None

    def standardize(self, vectors: Tensor) -> None:
        """Fit the standardisation to vectors of training documents. Args: vectors (n, dim)."""
        assert isinstance(self.head, nn.Sequential)
        standardize = self.head[0]
        assert isinstance(standardize, Standardize)
        standardize.fit(vectors)

    def set_output_bias(self, bias: Tensor) -> None:
        """Start the output layer's bias at given values. Args: bias (K,)."""
        with torch.no_grad():
            self._output.bias.copy_(bias)

    @property
    def output_weights(self) -> Sequence[Tensor]:
        """The weights of each output layer, (K, hidden): those that the recursive regularisation is of."""
        return [self._output.weight]

    @property
    def _output(self) -> nn.Linear:
        assert isinstance(self.head, nn.Sequential)
        output = self.head[-1]
        assert isinstance(output, nn.Linear)
        return output

    def prepare(self, seed: int) -> None:
        """What comes before the first step of a training, and not where it is continued. Args: seed: of the training."""

    def forward(self, inputs: Tensor | dict[str, Tensor]) -> Tensor:
        """Logits. Args: inputs: vectors (B, dim), or token ids and mask (B, T). Returns: (B, K)."""
        if isinstance(inputs, Tensor):
            return self.logits(inputs)
        if self.encoder is None:
            raise ValueError("a classifier without an encoder takes vectors.")
        return self.logits(self.encoder(**inputs))

    def logits(self, vectors: Tensor) -> Tensor:
        """(B, dim) -> (B, K)."""
        return self.head(vectors)


class FlatClassifier(Classifier):
    """The classifier without structure. Args: parts: what it is made from."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts.part, parts.encoder.dim, parts.hidden, parts.objective.num_outputs, parts.dropout)
