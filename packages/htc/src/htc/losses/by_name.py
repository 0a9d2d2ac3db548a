"""Objectives by name, as configs and `HierarchicalClassifier` ask for them, and the one that suits given labels."""

from typing import NamedTuple

from torch import Tensor

from htc.labels.hierarchy import Hierarchy
from htc.labels.label_sets import labels_per_document
from htc.losses.base import Objective
from htc.losses.binary import BCE, CHAMP, ConditionalSigmoid, Focal
from htc.losses.softmax import ConditionalSoftmax, LeafSoftmax, ParameterSharingSoftmax, conditional_priors, counted_priors
from htc.losses.stop import StopEvent
from rlkl_htc_common.errors import InputError

SOFTMAX_OBJECTIVES = ("leaf_softmax", "parameter_sharing_softmax", "conditional_softmax", "conditional_softmax_la")
OBJECTIVES = ("bce", "focal", "champ", "conditional_sigmoid", *SOFTMAX_OBJECTIVES)
PRIORS = ("smoothed", "counts")
AUTO = "auto"  # for `suitable_objective`, where an objective is asked for by name


class Suitable(NamedTuple):
    """An objective by name, whether it needs a stop event, and why it suits: a clause for people."""

    name: str
    stop: bool
    reason: str


def suitable_objective(hierarchy: Hierarchy, targets: Tensor) -> Suitable:
    """The objective for given labels: conditional_softmax where each document has one path, with a stop event where paths end
    at inner nodes; bce where documents have several paths, or the hierarchy is a DAG.

    >>> hierarchy = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"], ["Science"]])
    >>> suitable_objective(hierarchy, hierarchy.encode([["Arts", "Music"], ["Science"]])).name
    'conditional_softmax'
    >>> suitable_objective(hierarchy, hierarchy.encode([["Arts", "Music"], ["Arts"]]))[:2]
    ('conditional_softmax', True)
    >>> suitable_objective(hierarchy, hierarchy.encode([[["Arts", "Music"], ["Science"]], ["Arts"]])).reason
    '1 of 2 training documents have several paths'

    Args:
        targets: (D, N) bool, closed under ancestors; training documents only.
    """
    if not hierarchy.is_tree:
        return Suitable("bce", False, "the hierarchy has labels with several parents")
    ends = hierarchy.most_specific(targets)
    several = int((labels_per_document(ends) > 1).sum())
    if several:
        return Suitable("bce", False, f"{several:,} of {len(targets):,} training documents have several paths")
    above = int((ends & ~hierarchy.is_leaf).any(1).sum())
    if above:
        reason = f"each training document has one path, and {above:,} of {len(targets):,} end at an inner node"
        return Suitable("conditional_softmax", True, reason)
    return Suitable("conditional_softmax", False, "each training document has one path to a leaf")


def objective_by_name(
    name: str,
    hierarchy: Hierarchy,
    targets: Tensor | None = None,
    *,
    stop: bool = False,
    tau: float = 1.0,
    prior_smoothing: float = 1.0,
    priors: str = "smoothed",
    gamma: float = 2.0,
    alpha: float | None = None,
    beta: float = 1e-4,
    reduction: str = "mean",
    margin: float = 0.0,
    margin_form: str = "edges",
) -> Objective:
    """One of `OBJECTIVES`.

    Args:
        targets: (D, N) bool, the training targets, on which conditional_softmax_la counts its priors; None for a model that is
            trained already and needs them no more.
        stop: give inner nodes a stop event, so that paths may end there; for the softmax objectives.
        tau, prior_smoothing, priors: of conditional_softmax_la: of `ConditionalSoftmax`; of `conditional_priors`; and whether
            these are taken (`smoothed`) or, as in the public code of Plaud et al., `counted_priors` (`counts`).
        gamma, alpha: of focal; that code has an alpha of 0.25.
        beta, reduction: of champ; that code has a reduction of `sum`.
        margin, margin_form: of parameter_sharing_softmax; that code has the form `relative`.

    Raises: InputError: for an unknown name, or settings that do not go with it.
    """

    def make(hierarchy: Hierarchy, targets: Tensor | None) -> Objective:
        match name:
            case "bce":
                return BCE(hierarchy)
            case "focal":
                return Focal(hierarchy, gamma, alpha)
            case "champ":
                return CHAMP(hierarchy, beta, reduction)
            case "conditional_sigmoid":
                return ConditionalSigmoid(hierarchy)
            case "leaf_softmax":
                return LeafSoftmax(hierarchy)
            case "parameter_sharing_softmax":
                return ParameterSharingSoftmax(hierarchy, margin, margin_form)
            case "conditional_softmax_la" if targets is not None:
                return ConditionalSoftmax(hierarchy, _priors(priors, targets, hierarchy, prior_smoothing), tau)
        return ConditionalSoftmax(hierarchy)

    if name not in OBJECTIVES:
        raise InputError(f"the objective must be one of {', '.join(OBJECTIVES)}, not {name!r}.")
    if not stop:
        return make(hierarchy, targets)
    if name not in SOFTMAX_OBJECTIVES:
        raise InputError(f"a stop event is for the softmax objectives; {name} takes paths that end anywhere as it is.")
    objective = StopEvent(hierarchy, lambda extended: make(extended, None))
    if name == "conditional_softmax_la" and targets is not None:
        extended_targets = objective.extend(targets)  # priors of stopping are counted like those of every other child
        return StopEvent(hierarchy, lambda extended: make(extended, extended_targets))
    return objective


def _priors(form: str, targets: Tensor, hierarchy: Hierarchy, smoothing: float) -> Tensor:
    if form not in PRIORS:
        raise InputError(f"priors must be one of {', '.join(PRIORS)}, not {form!r}.")
    return counted_priors(targets, hierarchy) if form == "counts" else conditional_priors(targets, hierarchy, smoothing)
