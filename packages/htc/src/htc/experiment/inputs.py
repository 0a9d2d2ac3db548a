"""Documents as the classifier takes them: vectors of a frozen encoder, or token ids for one that is trained."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from htc.datasets.stored_texts import StoredTexts, stored_numbers
from htc.losses import Objective
from htc.models.classifier import Classifier
from htc.scoring.parts import Probabilities, ProbabilityParts
from rlkl_htc_common.models.encoders import Features, TextEncoder
from rlkl_htc_common.training.trainer import to_device

TEXTS = 2**12  # that are tokenized at a time
CELLS = 2**27  # documents x labels whose probabilities are in memory at a time: 512 MiB


class Inputs(ABC):
    """The model's inputs for D documents, addressed by their numbers."""

    @abstractmethod
    def batch(self, documents: Tensor) -> Tensor | dict[str, Tensor]:
        """What the classifier is called with. Args: documents (b,) int64."""

    @abstractmethod
    def lengths(self, documents: Tensor) -> Tensor | None:
        """(b,) lengths for bucketing, None where all inputs are alike."""

    def in_parts(
        self,
        model: Classifier,
        objective: Objective,
        documents: Tensor,
        batch_size: int = 256,
        accelerator: Accelerator | None = None,
    ) -> Probabilities:
        """`probabilities`, which are computed part by part, whenever they are read, where all are too many for memory."""
        nodes = objective.hierarchy.num_nodes
        at_once = max(1, CELLS // (nodes * batch_size)) * batch_size
        compute = partial(self.probabilities, model, objective, batch_size=batch_size, accelerator=accelerator)
        if len(documents) <= at_once:
            return compute(documents)
        return ProbabilityParts(lambda: map(compute, documents.split(at_once)), (len(documents), nodes))

    @torch.inference_mode()
    def probabilities(
        self,
        model: Classifier,
        objective: Objective,
        documents: Tensor,
        batch_size: int = 256,
        accelerator: Accelerator | None = None,
    ) -> Tensor:
        """Node probabilities.

        Args:
            documents: (n,) int64.
            accelerator: with several processes, each computes its share, and all get the whole.

        Returns:
            (n, N) float32 on the CPU, in the order asked for.
        """
        if accelerator is None or accelerator.num_processes == 1:
            return self._probabilities(model, objective, documents, batch_size)
        mine = documents[accelerator.process_index :: accelerator.num_processes]
        shares = gather_object([self._probabilities(model, objective, mine, batch_size)])
        whole = torch.empty(len(documents), shares[0].shape[1])
        for process, share in enumerate(shares):
            whole[process :: accelerator.num_processes] = share
        return whole

    @torch.inference_mode()
    def logits(self, model: Classifier, documents: Tensor, num_outputs: int, batch_size: int = 256) -> Tensor:
        """The model's outputs. Args: documents (n,) int64; num_outputs: K. Returns: (n, K) float32 on the CPU."""
        return self._outputs(model, documents, batch_size, num_outputs, lambda logits: logits)

    def _probabilities(self, model: Classifier, objective: Objective, documents: Tensor, batch_size: int) -> Tensor:
        return self._outputs(model, documents, batch_size, objective.hierarchy.num_nodes, objective.probabilities)

    def _outputs(
        self, model: Classifier, documents: Tensor, batch_size: int, columns: int, convert: Callable[[Tensor], Tensor]
    ) -> Tensor:
        if not len(documents):
            return torch.empty(0, columns)
        device = next(model.parameters()).device
        lengths = self.lengths(documents)
        order = torch.arange(len(documents)) if lengths is None else lengths.argsort(stable=True)
        training = model.training
        model.eval()
        outputs = torch.empty(len(documents), columns)
        for rows in order.split(batch_size):
            batch = self.batch(documents[rows])
            outputs[rows] = convert(model(to_device(batch, device)).float()).cpu()
        model.train(training)
        return outputs


class VectorInputs(Inputs):
    """Vectors computed beforehand. Args: vectors (D, dim), in memory or in files."""

    def __init__(self, vectors: Tensor | Features) -> None:
        self.vectors = vectors

    def batch(self, documents: Tensor) -> Tensor:
        """(b, dim)."""
        return self.vectors[documents]

    def lengths(self, documents: Tensor) -> None:
        """Vectors are all alike."""
        return None


class TokenInputs(Inputs):
    """Token ids, padded batch by batch; those of texts on disk are on disk, too.

    Args: encoder: tokenizes and pads; texts: D texts.
    """

    def __init__(self, encoder: TextEncoder, texts: Sequence[str]) -> None:
        self._encoder = encoder
        lengths = [torch.empty(0, dtype=torch.long)]

        def token_ids() -> Iterator[Tensor]:  # a list of lists takes ten times as much
            for first in range(0, len(texts), TEXTS):
                some = encoder.tokenize(texts[first : first + TEXTS])
                lengths.append(torch.tensor([len(ids) for ids in some]))
                yield torch.tensor([number for ids in some for number in ids], dtype=torch.int32)

        if isinstance(texts, StoredTexts):
            self._token_ids = stored_numbers(token_ids(), texts.folder)
        else:
            self._token_ids = torch.cat([torch.empty(0, dtype=torch.int32), *token_ids()])
        self._lengths = torch.cat(lengths)
        self._starts = self._lengths.cumsum(0) - self._lengths

    def batch(self, documents: Tensor) -> dict[str, Tensor]:
        """input_ids and attention_mask, (b, T) with T the longest of the batch."""
        starts, lengths = self._starts[documents].tolist(), self._lengths[documents].tolist()
        spans = zip(starts, lengths, strict=True)
        return self._encoder.pad([self._token_ids[start : start + length].tolist() for start, length in spans])

    def lengths(self, documents: Tensor) -> Tensor:
        """(b,) in tokens."""
        return self._lengths[documents]
