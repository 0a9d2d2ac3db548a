"""The classifier: text vector -> head -> logits, with the encoder in front where it is trained too."""

import torch
from torch import Tensor, nn


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
    """An encoder (or none, for vectors computed beforehand), a structure encoder, and a two-layer head.

    The structure encoder is the place for models that mix label structure into the text vector; the baselines of the paper have
    none, so it is the identity.

    Args:
        encoder: called with the items of a token batch, gives (B, dim); None if inputs are vectors already.
        dim: the size of a text vector.
        hidden: the width of the head.
        num_outputs: K, what the objective asks for.
        dropout: before the head.

    Source: Plaud et al., CoNLL 2024, appendix: dropout, linear, ReLU, linear. The standardisation in front is ours; it does
    nothing until it is fitted.
    """

    def __init__(self, encoder: nn.Module | None, dim: int, hidden: int, num_outputs: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.encoder = encoder
        self.structure = nn.Identity()
        self.head = nn.Sequential(
            Standardize(dim), nn.Dropout(dropout), nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, num_outputs)
        )

    def standardize(self, vectors: Tensor) -> None:
        """Fit the standardisation to vectors of training documents. Args: vectors (n, dim)."""
        standardize = self.head[0]
        assert isinstance(standardize, Standardize)
        standardize.fit(vectors)

    def set_output_bias(self, bias: Tensor) -> None:
        """Start the output layer's bias at given values. Args: bias (K,)."""
        output = self.head[-1]
        assert isinstance(output, nn.Linear)
        with torch.no_grad():
            output.bias.copy_(bias)

    @property
    def output_weight(self) -> Tensor:
        """The output layer's weights, (K, hidden)."""
        output = self.head[-1]
        assert isinstance(output, nn.Linear)
        return output.weight

    def forward(self, inputs: Tensor | dict[str, Tensor]) -> Tensor:
        """Logits. Args: inputs: vectors (B, dim), or token ids and mask (B, T). Returns: (B, K)."""
        if isinstance(inputs, Tensor):
            vectors = inputs
        elif self.encoder is None:
            raise ValueError("a classifier without an encoder takes vectors.")
        else:
            vectors = self.encoder(**inputs)
        return self.head(self.structure(vectors))
