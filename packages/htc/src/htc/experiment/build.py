"""From config to the objects that it describes."""

from dataclasses import replace

from torch import Tensor

from htc.datasets import Dataset, load_custom, load_icd10cm, load_published, load_table
from htc.experiment.config import CustomConfig, DatasetConfig, Icd10cmConfig, LossConfig, PublishedConfig, TableConfig
from htc.labels.hierarchy import Hierarchy
from htc.losses import AUTO, OBJECTIVES, Objective, base_rate_log_odds, objective_by_name, suitable_objective
from rlkl_htc_common.errors import InputError

LOSSES = ("bce", "bce_prior_bias", *OBJECTIVES[1:])


def load_dataset(config: DatasetConfig) -> Dataset:
    """Load the dataset that a config names."""
    shares = {
        "dev_fraction": config.dev_fraction,
        "test_fraction": config.test_fraction,
        "split_seed": config.split_seed,
    }
    if isinstance(config, Icd10cmConfig):
        return load_icd10cm(max_documents=config.max_documents, **shares)  # type: ignore[arg-type]
    if isinstance(config, PublishedConfig):
        return load_published(config.name, config.dir, config.max_depth)
    if isinstance(config, TableConfig):
        name = None if config.name == "table" else config.name
        columns = {"text": config.text, "levels": config.levels, "path": config.path, "split": config.split}
        separators = {"separator": config.separator, "path_separator": config.path_separator}
        return load_table(config.file, name=name, **columns, **separators, **shares)  # type: ignore[arg-type]
    if isinstance(config, CustomConfig):
        files = {"taxonomy": config.taxonomy, "train": config.train, "dev": config.dev, "test": config.test}
        name = None if config.name == "custom" else config.name
        return load_custom(config.dir, name=name, **files, **shares)  # type: ignore[arg-type]
    raise TypeError(f"no dataset belongs to {type(config).__name__}.")


def choose_loss(config: LossConfig, hierarchy: Hierarchy, train_targets: Tensor) -> tuple[LossConfig, str]:
    """The loss that a config leaves to the training labels, see `htc.losses.suitable_objective`.

    Where that is bce, its output bias starts at the base rates of the labels: started at 0.5 for each of thousands, it predicts
    nothing for a long time. The stop event that a config asks for stays.

    Args: train_targets: (D, N) bool. Returns: the config with a name from `LOSSES`, and the choice in words.
    """
    found = suitable_objective(hierarchy, train_targets)
    name = "bce_prior_bias" if found.name == "bce" else found.name
    chosen = replace(config, name=name, stop=config.stop or found.stop)
    stop = " with a stop event" if found.stop else ""
    return chosen, f"loss: {name}{stop}, because {found.reason}; loss=NAME takes another."


def make_objective(config: LossConfig, hierarchy: Hierarchy, train_targets: Tensor | None) -> Objective:
    """The objective that a config names.

    Args:
        train_targets: (D, N) bool, what priors are counted on; None for a trained model, which needs them no more.

    Raises:
        InputError: for an unknown name, or settings that do not go with it.
    """
    if config.name not in LOSSES:
        raise InputError(f"loss.name must be one of {', '.join(LOSSES)}, or {AUTO} in htc-train, not {config.name!r}.")
    if config.recursive_regularization < 0:
        raise InputError(f"loss.recursive_regularization must not be negative, but is {config.recursive_regularization}.")
    objective = objective_by_name(
        "bce" if config.name == "bce_prior_bias" else config.name,
        hierarchy,
        train_targets,
        stop=config.stop,
        tau=config.tau,
        prior_smoothing=config.prior_smoothing,
        priors=config.priors,
        gamma=config.gamma,
        alpha=config.alpha,
        beta=config.beta,
        reduction=config.reduction,
        margin=config.margin,
        margin_form=config.margin_form,
    )
    if config.recursive_regularization and objective.num_outputs != hierarchy.num_nodes:
        raise InputError(
            f"loss.recursive_regularization needs one output for each node, which {config.name}"
            f"{' with loss.stop' if config.stop else ''} does not have."
        )
    return objective


def initial_bias(config: LossConfig, train_targets: Tensor) -> Tensor | None:
    """Where the head's output bias starts, (K,); None for torch's own start. Args: train_targets (D, N) bool."""
    return base_rate_log_odds(train_targets, config.prior_smoothing) if config.name == "bce_prior_bias" else None
