"""The classifier: text vector -> head -> logits, with the encoder in front where it is trained too."""

import torch
from torch import Tensor, nn


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

    Source: Plaud et al., CoNLL 2024, appendix: dropout, linear, ReLU, linear.
    """

    def __init__(self, encoder: nn.Module | None, dim: int, hidden: int, num_outputs: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.encoder = encoder
        self.structure = nn.Identity()
        self.head = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, num_outputs)
        )

    def forward(self, inputs: Tensor | dict[str, Tensor]) -> Tensor:
        """Logits. Args: inputs: vectors (B, dim), or token ids and mask (B, T). Returns: (B, K)."""
        if isinstance(inputs, Tensor):
            vectors = inputs
        elif self.encoder is None:
            raise ValueError("a classifier without an encoder takes vectors.")
        else:
            vectors = self.encoder(**inputs)
        return self.head(self.structure(vectors))


@torch.inference_mode()
def predict_in_batches(model: Classifier, inputs: list[Tensor | dict[str, Tensor]]) -> Tensor:
    """Logits of all batches, one after the other, in evaluation mode: (n, K)."""
    training = model.training
    model.eval()
    logits = torch.cat([model(batch).float() for batch in inputs])
    model.train(training)
    return logits
