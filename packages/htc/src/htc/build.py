"""From config to the objects that it describes."""

from torch import Tensor

from htc.config import CustomConfig, DatasetConfig, Icd10cmConfig, LossConfig
from htc.datasets import Dataset, load_custom, load_icd10cm
from htc.errors import InputError
from htc.hierarchy import Hierarchy
from htc.losses import (
    BCE,
    CHAMP,
    ConditionalSigmoid,
    ConditionalSoftmax,
    Focal,
    LeafSoftmax,
    Objective,
    ParameterSharingSoftmax,
    StopEvent,
    base_rate_log_odds,
    conditional_priors,
)

SOFTMAX_OBJECTIVES = ("leaf_softmax", "parameter_sharing_softmax", "conditional_softmax", "conditional_softmax_la")
OBJECTIVES = ("bce", "bce_prior_bias", "focal", "champ", "conditional_sigmoid", *SOFTMAX_OBJECTIVES)


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

    Raises:
        InputError: for an unknown name, or settings that do not go with it.
    """
    if config.name not in OBJECTIVES:
        raise InputError(f"loss.name must be one of {', '.join(OBJECTIVES)}, not {config.name!r}.")
    if config.recursive_regularization < 0:
        raise InputError(f"loss.recursive_regularization must not be negative, but is {config.recursive_regularization}.")
    if not config.stop:
        objective = _make_objective(config, hierarchy, train_targets)
    elif config.name not in SOFTMAX_OBJECTIVES:
        raise InputError(f"loss.stop is for the softmax objectives; {config.name} takes paths that end anywhere as it is.")
    else:
        objective = _with_stop_event(config, hierarchy, train_targets)
    if config.recursive_regularization and objective.num_outputs != hierarchy.num_nodes:
        raise InputError(
            f"loss.recursive_regularization needs one output for each node, which {config.name}"
            f"{' with loss.stop' if config.stop else ''} does not have."
        )
    return objective


def _with_stop_event(config: LossConfig, hierarchy: Hierarchy, train_targets: Tensor | None) -> Objective:
    objective = StopEvent(hierarchy, lambda extended: _make_objective(config, extended, None))
    if config.name != "conditional_softmax_la" or train_targets is None:
        return objective
    targets = objective.extend(train_targets)  # priors of stopping are counted like those of every other child
    return StopEvent(hierarchy, lambda extended: _make_objective(config, extended, targets))


def _make_objective(config: LossConfig, hierarchy: Hierarchy, train_targets: Tensor | None) -> Objective:
    match config.name:
        case "bce" | "bce_prior_bias":
            return BCE(hierarchy)
        case "focal":
            return Focal(hierarchy, config.gamma)
        case "champ":
            return CHAMP(hierarchy, config.beta)
        case "conditional_sigmoid":
            return ConditionalSigmoid(hierarchy)
        case "leaf_softmax":
            return LeafSoftmax(hierarchy)
        case "parameter_sharing_softmax":
            return ParameterSharingSoftmax(hierarchy, config.margin)
        case "conditional_softmax_la" if train_targets is not None:
            priors = conditional_priors(train_targets, hierarchy, config.prior_smoothing)
            return ConditionalSoftmax(hierarchy, priors, config.tau)
    return ConditionalSoftmax(hierarchy)


def initial_bias(config: LossConfig, train_targets: Tensor) -> Tensor | None:
    """Where the head's output bias starts, (K,); None for torch's own start. Args: train_targets (D, N) bool."""
    return base_rate_log_odds(train_targets, config.prior_smoothing) if config.name == "bce_prior_bias" else None
