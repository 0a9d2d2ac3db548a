"""Objectives and models by name: what each is called, what makes it, and which settings it reads. Without torch.

An objective that is added to `OBJECTIVES` is a choice of `htc-train loss=` (with a file in conf/htc/loss), of
`htc.losses.objective_by_name` and of the classifier for scikit-learn, and reports call it by its title. A model that is added
to `MODELS` is a choice of `htc-train model=` (with a file in conf/htc/model, and its recipes in conf/htc/training).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from importlib import import_module
from typing import Any

AUTO = "auto"  # where an objective is asked for by name: that which suits the labels (`htc.losses.suitable_objective`)
AUTO_READS = ("stop", "prior_smoothing", "recursive_regularization")  # what is read by one of those that it may come to


@dataclass(kw_only=True)
class LossSettings:
    """The settings of an objective.

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
        return _imported(self.made_by)


def _imported(place: str) -> Callable[..., Any]:
    """Args: place: `module:name`."""
    module, _, name = place.partition(":")
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
    return name, _without_inert(kept, INERT)


def _without_inert(settings: dict[str, Any], inert: Iterable[tuple[str, Any, str, Any]]) -> dict[str, Any]:
    kept = dict(settings)
    for key, value, other, plain in inert:
        if kept.get(key) == value and other in kept:
            kept[other] = plain
    return {key: value + 0.0 if isinstance(value, float) else value for key, value in kept.items()}  # no -0.0


def names_of_settings() -> tuple[str, ...]:
    """All settings there are."""
    return tuple(each.name for each in fields(LossSettings))


FLAT = "flat"  # the model that knows no hierarchy


@dataclass(kw_only=True)
class ModelSettings:
    """The settings of a model. The numbers are in the YAML of each choice, conf/htc/model.

    Attributes:
        height: of HiTIN's coding tree: 2 for labels, groups of them, and a root.
        mixing: what makes a text vector different from label to label: `matrix`, of labels by labels, as published; or `scale`,
            a factor and a shift for each label. Null: the matrix for up to 1,000 labels, scale for more.
        pooling: of the nodes of a layer of the coding tree: `sum`, `mean` or `max`; `root` reads the root alone.
        pooled_dropout: of pooled layers.
        on_top: add HiTIN's logits to those of the flat head, starting at 0: before training it is the flat model.
        weight: lambda, of the contrastive loss. At 0 the second view of each text is still learned from.
        threshold: gamma: a word stays in the second view if its attention to the document's labels reaches this share. The more
            labels there are, the smaller it must be.
        temperature: of the Gumbel-softmax of that attention.
        similarity_temperature: of the contrastive loss.
        gate_heads: of the attention of words to labels; they must divide the size of the encoder's vectors.
        graph_heads: of the attention between labels; likewise.
        history_mask: how often a level's labels are hidden, in training, from the levels below.
        global_steps: of the stage before training, in which the label vectors learn the hierarchy; 0 leaves it out.
        global_learning_rate: in that stage.
        masked, masked_at_end: the share of labels hidden there, at its first step and at its last.
        copies: how many ways of hiding labels a step there has; memory grows with it, and with the labels squared.
    """

    height: int
    mixing: str | None = None
    pooling: str = "sum"
    pooled_dropout: float
    on_top: bool = False
    weight: float
    threshold: float
    temperature: float
    similarity_temperature: float
    gate_heads: int
    graph_heads: int
    history_mask: float
    global_steps: int
    global_learning_rate: float
    masked: float
    masked_at_end: float
    copies: int


@dataclass(frozen=True)
class NamedModel:
    """A model that can be asked for by name.

    Attributes:
        title: what reports call it.
        made_by: `module:name` of a `htc.models.classifier.Classifier`, which is called with
            `htc.models.classifier.Parts` and, by name, the settings that it reads.
        reads: of `ModelSettings`.
        head: the settings of the config's `head` that it reads.
        at_prediction: the model that it is once it is trained, where that is another.
        trains_encoder: whether it makes no sense with a frozen encoder.
        own_loss: for a model with a training loss of its own, the objective that its scores are decoded as.
        whole_batches: whether the loss of a batch is no mean over its documents, so that micro-batches change the outcome.
    """

    title: str
    made_by: str
    reads: tuple[str, ...] = ()
    head: tuple[str, ...] = ("hidden", "dropout", "standardize")
    at_prediction: str | None = None
    trains_encoder: bool = False
    own_loss: str | None = None
    whole_batches: bool = False

    def maker(self) -> Callable[..., Any]:
        """The class or function, imported."""
        return _imported(self.made_by)


MODELS: dict[str, NamedModel] = {
    FLAT: NamedModel("flat", "htc.models.classifier:FlatClassifier"),
    "hitin": NamedModel(
        "HiTIN",
        "htc.experiment.classifiers:HiTINClassifier",
        ("height", "mixing", "pooling", "pooled_dropout", "on_top"),
        whole_batches=True,
    ),
    "hgclr": NamedModel(
        "HGCLR",
        "htc.experiment.classifiers:HGCLRClassifier",
        ("weight", "threshold", "temperature", "similarity_temperature", "gate_heads", "graph_heads"),
        at_prediction=FLAT,
        trains_encoder=True,
        whole_batches=True,
    ),
    "hbgl": NamedModel(
        "HBGL",
        "htc.experiment.classifiers:HBGLClassifier",
        ("history_mask", "global_steps", "global_learning_rate", "masked", "masked_at_end", "copies"),
        head=(),
        trains_encoder=True,
        own_loss="bce",
        whole_batches=True,
    ),
}
INERT_OF_MODELS = (  # as `INERT`
    ("weight", 0, "similarity_temperature", 1.0),
    ("global_steps", 0, "global_learning_rate", 0.0),
    ("global_steps", 0, "masked", 0.0),
    ("global_steps", 0, "masked_at_end", 0.0),
    ("global_steps", 0, "copies", 0),
    ("global_steps", 1, "masked_at_end", 0.0),
)
VALUES_OF_MODELS: dict[str, tuple[Callable[[Any], bool], str]] = {  # whether a setting can be so, and what it must be
    "height": (lambda value: 2 <= value <= 100, "from 2 to 100"),
    "mixing": (lambda value: value in (None, "matrix", "scale"), "matrix, scale, or null"),
    "pooling": (lambda value: value in ("sum", "mean", "max", "root"), "sum, mean, max, or root"),
    **dict.fromkeys(("gate_heads", "graph_heads", "copies"), (lambda value: value >= 1, "at least 1")),
    **dict.fromkeys(("weight", "global_steps"), (lambda value: value >= 0, "at least 0")),
    **dict.fromkeys(("temperature", "similarity_temperature", "global_learning_rate"), (lambda value: value > 0, "positive")),
    **dict.fromkeys(("pooled_dropout", "threshold"), (lambda value: 0 <= value < 1, "at least 0 and less than 1")),
    **dict.fromkeys(("history_mask", "masked", "masked_at_end"), (lambda value: 0 <= value <= 1, "from 0 to 1")),
}


def plainest_model(settings: dict[str, Any]) -> dict[str, Any]:
    """The plainest settings of a model with the same effect; see `plainest`."""
    return _without_inert(settings, INERT_OF_MODELS)
