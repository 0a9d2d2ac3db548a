"""From config to the objects that it describes."""

from torch import Tensor

from htc.config import CustomConfig, DatasetConfig, Icd10cmConfig, LossConfig
from htc.datasets import Dataset, load_custom, load_icd10cm
from htc.errors import InputError
from htc.hierarchy import Hierarchy
from htc.losses import BCE, ConditionalSoftmax, LeafSoftmax, Objective, base_rate_log_odds, conditional_priors

OBJECTIVES = ("bce", "bce_prior_bias", "leaf_softmax", "conditional_softmax", "conditional_softmax_la")


def load_dataset(config: DatasetConfig) -> Dataset:
    """Load the dataset that a config names."""
    shares = {
        "dev_fraction": config.dev_fraction,
        "test_fraction": config.test_fraction,
        "split_seed": config.split_seed,
    }
    if isinstance(config, Icd10cmConfig):
        return load_icd10cm(max_documents=config.max_documents, **shares)  # type: ignore[arg-type]
    if isinstance(config, CustomConfig):
        files = {"taxonomy": config.taxonomy, "train": config.train, "dev": config.dev, "test": config.test}
        name = None if config.name == "custom" else config.name
        return load_custom(config.dir, name=name, **files, **shares)  # type: ignore[arg-type]
    raise TypeError(f"no dataset belongs to {type(config).__name__}.")


def make_objective(config: LossConfig, hierarchy: Hierarchy, train_targets: Tensor | None) -> Objective:
    """The objective that a config names.

    Args:
        train_targets: (D, N) bool, what priors are counted on; None for a trained model, which needs them no more.
    """
    match config.name:
        case "bce" | "bce_prior_bias":
            return BCE(hierarchy)
        case "leaf_softmax":
            return LeafSoftmax(hierarchy)
        case "conditional_softmax":
            return ConditionalSoftmax(hierarchy)
        case "conditional_softmax_la":
            if train_targets is None:
                return ConditionalSoftmax(hierarchy)
            priors = conditional_priors(train_targets, hierarchy, config.prior_smoothing)
            return ConditionalSoftmax(hierarchy, priors, config.tau)
    raise InputError(f"loss.name must be one of {', '.join(OBJECTIVES)}, not {config.name!r}.")


def initial_bias(config: LossConfig, train_targets: Tensor) -> Tensor | None:
    """Where the head's output bias starts, (K,); None for torch's own start. Args: train_targets (D, N) bool."""
    return base_rate_log_odds(train_targets, config.prior_smoothing) if config.name == "bce_prior_bias" else None
