"""The answers that inference rules, and promised coverages, give to one text."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from htc.decoding.by_name import rules_for
from htc.predictor import LabelPath, Predictor, paths_of
from rlkl_htc_common.errors import InputError

COVERAGES = (0.8, 0.9, 0.95)


class Way(NamedTuple):
    """A way to answer: an inference rule, or a promised coverage.

    Attributes:
        title: what the page calls it.
        decoder: the rule's name; None for a coverage.
        coverage: the promise; None for a rule.
    """

    title: str
    decoder: str | None = None
    coverage: float | None = None

    @property
    def key(self) -> str:
        """What the command line calls it."""
        return f"decoder={self.decoder}" if self.coverage is None else f"coverage={self.coverage:g}"


class Answer(NamedTuple):
    """A way's answer to a text: its label set (N,) bool, closed, and its paths."""

    way: Way
    labels: Tensor
    paths: list[LabelPath]


def ways_of(model: Predictor, coverage: float | None = None) -> list[Way]:
    """How a model can answer: its own way first, then the other rules, then coverages if it was saved with what they need.

    Args: coverage: the model's own way is this promise; None for its rule.
    """
    tuned = model.model.tuned_threshold
    rules = {
        name: Way(f"{rule.title} {tuned:.2f}" if rule.tuned else rule.title, decoder=name)
        for name, rule in rules_for(model.model.objective.one_path).items()
        if model.temperature is None or not rule.tuned
    }
    promises = {
        promise: Way(f"coverage {promise:.0%}" if round(promise, 2) == promise else f"coverage {promise:.4g}", coverage=promise)
        for promise in sorted({*COVERAGES, *([] if coverage is None else [coverage])})
        if promise == coverage or _can_promise(model, promise)
    }
    own = rules[model.decoder] if coverage is None else promises[coverage]
    return [own, *(way for way in (*rules.values(), *promises.values()) if way is not own)]


def _can_promise(model: Predictor, coverage: float) -> bool:
    try:
        model.check_promise(coverage)
    except InputError:
        return False
    return True


def answers_of(model: Predictor, probabilities: Tensor, ways: Sequence[Way]) -> list[Answer]:
    """The answers to a text. Args: probabilities (N,) of its labels. Returns: one for each way."""
    given = probabilities[None]
    found = []
    for way in ways:
        labels = model.decide(given, way.decoder, way.coverage)
        found.append(Answer(way, labels[0], paths_of(labels, given, model.hierarchy)[0]))
    return found
