"""Inference rules by name, for configs and `HierarchicalClassifier`, and the default rule for a model and its documents.

A rule in `ALL_RULES` is a choice of `htc-predict decoder=` and of the scikit-learn classifier. Every training is scored with
it, and reports show its title.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from htc.decoding import expected, rules, single_path
from htc.labels.hierarchy import Hierarchy
from htc.labels.label_sets import Scores
from htc.labels.sparse_sets import SparseSets
from rlkl_htc_common.errors import InputError


@dataclass(frozen=True)
class NamedRule:
    """An inference rule with a name. It can be called like its function.

    Attributes:
        title: its name in reports.
        decide: from probabilities (D, N) and hierarchy (and the threshold if `tuned`) to label sets (D, N) bool.
        one_path: whether it needs the probabilities of one path (`htc.losses.Objective.one_path`).
        tuned: whether it needs a threshold that was tuned on other documents (`htc.decoding.tune_threshold`).
    """

    title: str
    decide: Callable[..., Tensor]
    one_path: bool = False
    tuned: bool = False

    def __call__(self, probabilities: Scores, hierarchy: Hierarchy, tuned_threshold: float | None = None) -> Tensor:
        """Apply the rule. Args: tuned_threshold: for rules that need one; the others ignore it.

        Raises: InputError: if the rule needs a tuned threshold and there is none.
        """
        if not self.tuned:
            return self.decide(probabilities, hierarchy)
        if tuned_threshold is None:
            raise InputError(f"the rule '{self.title}' needs the threshold that was tuned; see htc.decoding.tune_threshold.")
        return self.decide(probabilities, hierarchy, tuned_threshold)


ALL_RULES: dict[str, NamedRule] = {
    "threshold": NamedRule("threshold 0.5", rules.threshold),
    "tuned_threshold": NamedRule("tuned threshold", rules.threshold, tuned=True),
    "top_down": NamedRule("top-down", rules.top_down),
    "top_down_until": NamedRule("top-down until 0.5", rules.top_down_until),
    "top_down_threshold": NamedRule("top-down threshold 0.5", rules.top_down_threshold),
    "argmax_leaf": NamedRule("argmax leaf", rules.argmax_leaf),
    "argmax_end": NamedRule("argmax end", expected.argmax_end, one_path=True),
    "expected_hf": NamedRule("expected hF1", expected.expected_hf, one_path=True),
    "crm": NamedRule("CRM", expected.crm, one_path=True),
    "information_weighted": NamedRule("information-weighted", single_path.information_weighted),
    "most_specific": NamedRule("most specific at 0.5", single_path.most_specific),
    "plurality": NamedRule("plurality", single_path.plurality),
    "hie_self": NamedRule("HiE-self", single_path.hie_self, one_path=True),
    "expected_tree_distance": NamedRule("expected tree distance", single_path.expected_tree_distance, one_path=True),
    "expected_wu_palmer": NamedRule("expected Wu-Palmer", single_path.expected_wu_palmer, one_path=True),
    "expected_zhao": NamedRule("expected Zhao", single_path.expected_zhao, one_path=True),
}


def rules_for(one_path: bool) -> dict[str, NamedRule]:
    """The rules that can decode an objective's probabilities. Args: one_path: the objective's attribute."""
    return {name: rule for name, rule in ALL_RULES.items() if one_path or not rule.one_path}


def check_rule(rule: str, one_path: bool) -> None:
    """Raise InputError for a rule that is unknown or does not fit the probabilities."""
    if rule not in ALL_RULES:
        raise InputError(f"decoder must be one of {', '.join(ALL_RULES)}, not {rule!r}.")
    if rule not in rules_for(one_path):
        raise InputError(
            f"decoder={rule} takes the probabilities of one path, as the softmax objectives give them; this model's are of "
            f"several. Use one of {', '.join(rules_for(one_path))}."
        )


def rule_for(one_path: bool, targets: Tensor | SparseSets, hierarchy: Hierarchy) -> str:
    """The default rule for an objective and its documents.

    Args: one_path: the objective's attribute; targets (D, N) bool, closed, dense or sparse. Returns: a name from `ALL_RULES`.
    """
    ends = hierarchy.most_specific(SparseSets.of(targets))
    several = bool((ends.sum(1) > 1).any())
    inner = not bool(hierarchy.is_leaf.to(ends.node.device)[ends.node].all())
    if one_path:
        return "argmax_end" if inner else "top_down"
    return "top_down_threshold" if several or inner else "top_down"


def decode(rule: str, probabilities: Tensor, hierarchy: Hierarchy, tuned_threshold: float | None = None) -> Tensor:
    """Apply a rule by name. Args: probabilities (D, N); tuned_threshold: see `NamedRule`. Returns: (D, N) bool."""
    return ALL_RULES[rule](probabilities, hierarchy, tuned_threshold)
