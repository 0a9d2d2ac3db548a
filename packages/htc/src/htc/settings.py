"""The objectives by name: what each is called, which class or function makes it, and which settings it reads. Without torch.

An objective that is added to `OBJECTIVES` is a choice of `htc-train loss=` (with a file in conf/htc/loss), of
`htc.losses.objective_by_name` and of the classifier for scikit-learn, and reports call it by its title.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from importlib import import_module
from typing import Any

AUTO = "auto"  # where an objective is asked for by name: that which suits the labels (`htc.losses.suitable_objective`)
AUTO_READS = ("stop", "prior_smoothing", "recursive_regularization")  # what is read by one of those that it may come to


@dataclass(kw_only=True)
class LossSettings:
    """What an objective can be told.

    The numbers that a command takes are in the YAML of each choice, conf/htc/loss. The two below are not there: those who use
    the library without configs need them, too.

    Attributes:
        tau: the strength of the logit adjustment.
        prior_smoothing: the count added where priors or base rates are counted.
        priors: `smoothed`; or `counts`, as in the public code of Plaud et al.: without smoothing, 1 for what never occurs.
        gamma: how much less a cell counts that is right already; 2 as in Lin et al., 2017.
        alpha: the weight of true cells; null weighs all alike. That code has 0.25, as Lin et al. do.
        beta: how much the distance of a wrong label counts; 1e-4 as in that code.
        reduction: `mean` over labels, or their `sum`, as in that code.
        margin: added to the scores of wrong leaves, times their distance; 0 for none.
        margin_form: the distance in `edges`, or `relative` to the largest, as in that code.
        stop: give inner nodes a stop event, so that paths may end there.
        recursive_regularization: the weight of the penalty on differences between the output weights of parents and children;
            null for none.
    """

    tau: float
    prior_smoothing: float
    priors: str = "smoothed"
    gamma: float = field(default=2.0, metadata={"library": True})
    alpha: float | None = None
    beta: float = field(default=1e-4, metadata={"library": True})
    reduction: str = "mean"
    margin: float
    margin_form: str = "edges"
    stop: bool = False
    recursive_regularization: float | None = None


@dataclass(frozen=True)
class NamedObjective:
    """An objective that can be asked for by name.

    Attributes:
        title: what reports call it.
        made_by: `module:name` of a class or function that is called with a hierarchy, the settings that it reads by name, and,
            where it `counts`, the training targets (D, N) in between, or None for a model that is trained already.
        reads: of `LossSettings`. With `stop` among them it takes a stop event; `recursive_regularization` needs an output for
            each node. The objective is made without these two.
        counts: whether it counts anything on the training targets.
    """

    title: str
    made_by: str
    reads: tuple[str, ...] = ("recursive_regularization",)
    counts: bool = False

    @property
    def made_with(self) -> tuple[str, ...]:
        """The settings that it is made with."""
        return tuple(name for name in self.reads if name not in ("stop", "recursive_regularization"))

    def maker(self) -> Callable[..., Any]:
        """The class or function, imported."""
        module, _, name = self.made_by.partition(":")
        return getattr(import_module(module), name)


_EACH_NODE = ("recursive_regularization",)  # an output for each node
_SOFTMAX = (*_EACH_NODE, "stop")
OBJECTIVES: dict[str, NamedObjective] = {
    "bce": NamedObjective("BCE", "htc.losses.binary:BCE"),
    "bce_prior_bias": NamedObjective(
        "BCE, output bias at base rates", "htc.losses.binary:BCEAtBaseRates", (*_EACH_NODE, "prior_smoothing"), counts=True
    ),
    "focal": NamedObjective("focal", "htc.losses.binary:Focal", (*_EACH_NODE, "gamma", "alpha")),
    "champ": NamedObjective("CHAMP", "htc.losses.binary:CHAMP", (*_EACH_NODE, "beta", "reduction")),
    "conditional_sigmoid": NamedObjective("conditional sigmoid", "htc.losses.binary:ConditionalSigmoid"),
    "leaf_softmax": NamedObjective("leaf softmax", "htc.losses.softmax:LeafSoftmax", ("stop",)),
    "parameter_sharing_softmax": NamedObjective(
        "parameter-sharing softmax", "htc.losses.softmax:ParameterSharingSoftmax", (*_SOFTMAX, "margin", "margin_form")
    ),
    "conditional_softmax": NamedObjective("conditional softmax", "htc.losses.softmax:ConditionalSoftmax", _SOFTMAX),
    "conditional_softmax_la": NamedObjective(
        "conditional softmax, logit-adjusted",
        "htc.losses.softmax:logit_adjusted_softmax",
        (*_SOFTMAX, "tau", "prior_smoothing", "priors"),
        counts=True,
    ),
}
SAME = (  # an objective with some settings, and what it is then
    ("conditional_softmax_la", {"tau": 0}, "conditional_softmax"),
    ("focal", {"gamma": 0, "alpha": None}, "bce"),
    ("champ", {"beta": 0, "reduction": "mean"}, "bce"),
)
INERT = (  # a setting with some value, one that it leaves without effect, and that one's value in plainest settings
    ("priors", "counts", "prior_smoothing", 1.0),
    ("margin", 0, "margin_form", "edges"),
    ("recursive_regularization", 0, "recursive_regularization", None),
)


def plainest(name: str, settings: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The plainest objective and settings with the same effect: a run is made with these, and known by them.

    >>> plainest("focal", {"gamma": 0.0, "alpha": None, "recursive_regularization": 0.0})
    ('bce', {'recursive_regularization': None})
    """
    for objective, values, same in SAME:
        if name == objective and all(settings[key] == value for key, value in values.items()):
            name = same
    kept = {key: value for key, value in settings.items() if key in OBJECTIVES[name].reads}
    for key, value, inert, plain in INERT:
        if kept.get(key) == value and inert in kept:
            kept[inert] = plain
    return name, {key: value + 0.0 if isinstance(value, float) else value for key, value in kept.items()}  # no -0.0


def names_of_settings() -> tuple[str, ...]:
    """All settings there are."""
    return tuple(each.name for each in fields(LossSettings))
