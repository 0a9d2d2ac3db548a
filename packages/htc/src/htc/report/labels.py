"""What the report calls objectives, rules and metrics, and how it takes means over seeds."""

from typing import Any

from htc import settings
from htc.decoding.by_name import ALL_RULES
from htc.report.records import Losses, Scores
from rlkl_htc_common.report.statistics import Interval, over_seeds, share_over_seeds

METRICS = {
    "hf1_micro": "hF1 micro",
    "hf1_macro": "hF1 macro",
    "hf1_samples": "hF1 samples",
    "hp_micro": "hP micro",
    "hr_micro": "hR micro",
    "f1_micro": "F1 micro",
    "f1_macro": "F1 macro",
    "f1_samples": "F1 samples",
    "path_constrained_f1_micro": "C-F1 micro",
    "path_constrained_f1_macro": "C-F1 macro",
    "path_f1_micro": "P-F1 micro",
    "lca_f1_samples": "LCA-F1 samples",
    "icm_norm": "ICM-norm",
    "wu_palmer": "Wu-Palmer",
    "exact_match": "exact match",
    "hamming_loss": "Hamming loss",
    "incoherence_rate": "incoherent",
    "tree_distance": "tree distance",
    "mistake_severity": "mistake severity",
}
MAIN_RULES = ("threshold", "tuned_threshold", "top_down", "argmax_leaf", "expected_hf")
SET_METRICS = (
    "hf1_micro",
    "hf1_macro",
    "hf1_samples",
    "hp_micro",
    "hr_micro",
    "f1_micro",
    "f1_macro",
    "f1_samples",
    "path_constrained_f1_micro",
    "path_constrained_f1_macro",
    "path_f1_micro",
    "lca_f1_samples",
    "icm_norm",
    "wu_palmer",
    "exact_match",
)
ERRORS = ("hamming_loss", "incoherence_rate", "tree_distance", "mistake_severity")  # lower is better
UNBOUNDED = ("tree_distance", "mistake_severity")  # all others are from 0 to 1


def label(loss: str) -> str:
    """What the report calls an objective or a model, or a method called like one; any other method is called by its name."""
    named = settings.MODELS | settings.OBJECTIVES
    return named[loss].title if loss in named else loss


def rule_label(rule: str) -> str:
    """What the report calls an inference rule."""
    return ALL_RULES[rule].title if rule in ALL_RULES else rule


def over_seeds_of(runs: list[Scores], rule: str, metric: str) -> Interval | None:
    """None where the rule is not defined for the objective, or the metric not for the label sets."""
    if not all(metric in run.rules.get(rule, {}) for run in runs):
        return None
    average = over_seeds if metric in UNBOUNDED else share_over_seeds
    return average([run.rules[rule][metric] for run in runs])


def of_own_rule(run: Scores) -> dict[str, Any]:
    """The scores of a run under the rule that suits its objective and documents."""
    return run.rules[run.decoder]


def own_rules(losses: Losses) -> str:
    """Which rules these are."""
    return ", ".join(dict.fromkeys(rule_label(run.decoder) for runs in losses.values() for run in runs))
