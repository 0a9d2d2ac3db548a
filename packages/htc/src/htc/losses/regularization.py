"""Penalties on a classifier's weights."""

from torch import Tensor

from htc.labels.hierarchy import Hierarchy


def recursive_regularization(weight: Tensor, hierarchy: Hierarchy) -> Tensor:
    """Half the sum of squared differences between the output weights of each node and of its parents.

    Args:
        weight: (N, H) of the output layer, a row for each node.

    Returns:
        A scalar, to be multiplied and added to the loss.

    Source: Gopal and Yang, "Recursive Regularization for Large-scale Classification with Hierarchical and Graphical
    Dependencies", KDD 2013.
    """
    parent, child = hierarchy.edges.to(weight.device)
    return 0.5 * (weight[child] - weight[parent]).square().sum()
