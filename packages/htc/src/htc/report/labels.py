"""What the report calls objectives, rules and metrics, and how it takes means over seeds."""

from typing import Any

from rlkl_htc_common.report.statistics import Interval, over_seeds

LABELS = {
    "bce": "BCE",
    "bce_prior_bias": "BCE, output bias at base rates",
    "focal": "focal",
    "champ": "CHAMP",
    "conditional_sigmoid": "conditional sigmoid",
    "leaf_softmax": "leaf softmax",
    "parameter_sharing_softmax": "parameter-sharing softmax",
    "conditional_softmax": "conditional softmax",
    "conditional_softmax_la": "conditional softmax, logit-adjusted",
    "threshold": "threshold 0.5",
    "tuned_threshold": "tuned threshold",
    "top_down": "top-down",
    "top_down_until": "top-down until 0.5",
    "top_down_threshold": "top-down threshold 0.5",
    "argmax_leaf": "argmax leaf",
    "argmax_end": "argmax end",
    "expected_hf": "expected hF1",
    "crm": "CRM",
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

Losses = dict[str, list[dict[str, Any]]]
"""For each loss the test scores of its seeds."""


def label(loss: str) -> str:
    """What the report calls an objective."""
    return LABELS.get(loss, loss)


def over_seeds_of(runs: list[dict[str, Any]], rule: str, metric: str) -> Interval | None:
    """None where the rule is not defined for the objective, or the metric not for the label sets."""
    if not all(metric in run["rules"].get(rule, {}) for run in runs):
        return None
    return over_seeds([run["rules"][rule][metric] for run in runs])


def of_own_rule(run: dict[str, Any]) -> dict[str, Any]:
    """The scores of a run under the rule that suits its objective and documents."""
    return run["rules"][run["decoder"]]


def own_rules(losses: Losses) -> str:
    """Which rules these are."""
    return ", ".join(dict.fromkeys(LABELS[run["decoder"]] for runs in losses.values() for run in runs))
