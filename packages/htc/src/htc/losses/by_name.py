"""Objectives by name, for configs and `HierarchicalClassifier`, and the default objective for given labels."""

from typing import Any, NamedTuple

from torch import Tensor

from htc import settings
from htc.labels.hierarchy import Hierarchy
from htc.labels.sparse_sets import SparseSets
from htc.losses.base import Objective
from htc.losses.stop import StopEvent
from htc.settings import AUTO
from rlkl_htc_common.errors import InputError

__all__ = ["AUTO", "OBJECTIVES", "SOFTMAX_OBJECTIVES", "Suitable", "objective_by_name", "suitable_objective"]

OBJECTIVES = tuple(settings.OBJECTIVES)
SOFTMAX_OBJECTIVES = tuple(name for name, entry in settings.OBJECTIVES.items() if "stop" in entry.reads)


class Suitable(NamedTuple):
    """The name of an objective, whether it needs a stop event, and the reason for the choice (a clause for messages)."""

    name: str
    stop: bool
    reason: str


def suitable_objective(hierarchy: Hierarchy, targets: Tensor | SparseSets) -> Suitable:
    """The objective for given labels: conditional_softmax if each document has one path, with a stop event if paths end at
    inner nodes; bce if documents have several paths, or the hierarchy is a DAG.

    >>> hierarchy = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"], ["Science"]])
    >>> suitable_objective(hierarchy, hierarchy.encode([["Arts", "Music"], ["Science"]])).name
    'conditional_softmax'
    >>> suitable_objective(hierarchy, hierarchy.encode([["Arts", "Music"], ["Arts"]]))[:2]
    ('conditional_softmax', True)
    >>> suitable_objective(hierarchy, hierarchy.encode([[["Arts", "Music"], ["Science"]], ["Arts"]])).reason
    '1 of 2 training documents have several paths'

    Args:
        targets: (D, N) bool, closed under ancestors, dense or sparse; training documents only.
    """
    if not hierarchy.is_tree:
        return Suitable("bce", False, "the hierarchy has labels with several parents")
    ends = hierarchy.most_specific(SparseSets.of(targets))
    several = int((ends.sum(1) > 1).sum())
    if several:
        return Suitable("bce", False, f"{several:,} of {len(targets):,} training documents have several paths")
    above = len(ends.document[~hierarchy.is_leaf[ends.node]].unique())
    if above:
        reason = f"each training document has one path, and {above:,} of {len(targets):,} end at an inner node"
        return Suitable("conditional_softmax", True, reason)
    return Suitable("conditional_softmax", False, "each training document has one path to a leaf")


def objective_by_name(name: str, hierarchy: Hierarchy, targets: Tensor | SparseSets | None = None, **given: Any) -> Objective:
    """One of `htc.settings.OBJECTIVES`.

    >>> hierarchy = Hierarchy.from_paths([["Arts", "Music"], ["Arts", "Film"]])
    >>> objective_by_name("focal", hierarchy, gamma=1.0).gamma
    1.0

    Args:
        targets: (D, N) bool, dense or sparse: the training targets, for the priors of conditional_softmax_la and
            bce_prior_bias; None for a trained model, which does not need them.
        given: settings that it reads, see `htc.settings.LossSettings`; default: those of its class.

    Raises: InputError: for an unknown name, or settings that it does not read.
    """
    if name not in settings.OBJECTIVES:
        raise InputError(f"the objective must be one of {', '.join(settings.OBJECTIVES)}, not {name!r}.")
    entry = settings.OBJECTIVES[name]
    stop = given.pop("stop", False)
    if stop and "stop" not in entry.reads:
        raise InputError(f"a stop event is for the softmax objectives; {name} takes paths that end anywhere as it is.")
    for setting in given:
        if setting not in entry.made_with:
            known = ", ".join((*entry.made_with, *(["stop"] if "stop" in entry.reads else []))) or "none"
            raise InputError(f"{name} does not read the setting {setting!r}; it reads: {known}.")
    maker = entry.maker()

    def make(hierarchy: Hierarchy, targets: Tensor | SparseSets | None = None) -> Objective:
        return maker(hierarchy, targets, **given) if entry.counts else maker(hierarchy, **given)

    if not stop:
        return make(hierarchy, targets)
    objective = StopEvent(hierarchy, make)
    if not entry.counts or targets is None:
        return objective
    extended_targets = objective.extend(targets)  # stops have priors like every other child
    return StopEvent(hierarchy, lambda extended: make(extended, extended_targets))
