"""The base class of all objectives."""

from torch import Tensor, nn

from htc.labels.hierarchy import Hierarchy
from rlkl_htc_common.errors import InputError


class UnsuitableTargetsError(InputError):
    """An objective is not defined for the labels of a document. Args: document: its row; problem: what is wrong."""

    def __init__(self, document: int, problem: str) -> None:
        super().__init__(f"document {document}: {problem}")
        self.document = document
        self.problem = problem


class Objective(nn.Module):
    """The base class of all objectives; see the package's docstring for the contract.

    Attributes:
        num_outputs: K, the number of logits.
        coherent: whether `probabilities` never gives a node more than its parent.
        one_path: whether they are those of one path: never more for the children of a node together than for the node. In a
            DAG never.
        per_document: `loss` times this is a sum over labels, mean over documents: N for a mean over all B x N cells, else 1.
        initial_bias: (K,) where the bias of the head's output layer starts; None for where any layer's does.
    """

    coherent: bool
    one_path = False
    per_document = 1.0
    initial_bias: Tensor | None = None

    def __init__(self, hierarchy: Hierarchy, num_outputs: int) -> None:
        super().__init__()
        self.hierarchy = hierarchy
        self.num_outputs = num_outputs

    def check_targets(self, targets: Tensor) -> None:
        """Check that the objective is defined for targets. Args: targets (B, N) bool.

        Raises:
            UnsuitableTargetsError: an InputError with the first document for which it is not.
        """
        empty = ~targets.any(1)
        if empty.any():
            raise UnsuitableTargetsError(int(empty.nonzero()[0]), "it has no label.")

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The training loss. Args: logits (B, K); targets (B, N) bool. Returns: a scalar."""
        raise NotImplementedError

    def probabilities(self, logits: Tensor) -> Tensor:
        """Node marginals. Args: logits (B, K). Returns: (B, N)."""
        raise NotImplementedError
