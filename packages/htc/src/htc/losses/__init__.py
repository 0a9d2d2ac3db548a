"""The objectives: the training losses for N nodes, and the conversion of logits to node probabilities.

Each objective is one class with

- `num_outputs`: the number of logits, K;
- `loss(logits, targets)`: logits (B, K), targets (B, N) bool closed under ancestors -> a scalar;
- `probabilities(logits)`: (B, K) -> (B, N), the marginal probability of each node.

| | target sets | probabilities coherent | hierarchy |
|---|---|---|---|
| `BCE`, `BCEAtBaseRates`, `Focal`, `CHAMP` | any | no | any |
| `ConditionalSigmoid` | any | yes | any |
| `LeafSoftmax` | one leaf | yes | any; in a DAG no distribution over paths |
| `ConditionalSoftmax` (with `priors`: logit-adjusted) | one path to any depth; does not learn where paths end | yes | tree |
| `ParameterSharingSoftmax` | one leaf | yes | tree |
| `StopEvent` around one of the three | one path, ending anywhere | yes | tree |

`htc.models.linear.parts_of` has the losses of BCE, ConditionalSigmoid, LeafSoftmax and ConditionalSoftmax a second time, by
parts that share no weights; `tests/htc/models/test_linear.py` compares the two.

They are torch modules only so that `.to(device)` moves their index tensors; they have no parameters.

Source: Plaud, Labeau, Saillenfest and Bonald, "Revisiting Hierarchical Text Classification: Inference and Metrics", CoNLL 2024,
section 3; the binary cross-entropy is the flat multi-label baseline of that paper.
"""

from htc.losses.base import Objective
from htc.losses.binary import BCE, CHAMP, BCEAtBaseRates, ConditionalSigmoid, Focal, base_rate_log_odds
from htc.losses.by_name import AUTO, OBJECTIVES, SOFTMAX_OBJECTIVES, Suitable, objective_by_name, suitable_objective
from htc.losses.regularization import recursive_regularization
from htc.losses.softmax import (
    ConditionalSoftmax,
    LeafSoftmax,
    ParameterSharingSoftmax,
    conditional_priors,
    counted_priors,
    logit_adjusted_softmax,
)
from htc.losses.stop import StopEvent

__all__ = [
    "AUTO",
    "BCE",
    "CHAMP",
    "OBJECTIVES",
    "SOFTMAX_OBJECTIVES",
    "BCEAtBaseRates",
    "ConditionalSigmoid",
    "ConditionalSoftmax",
    "Focal",
    "LeafSoftmax",
    "Objective",
    "ParameterSharingSoftmax",
    "StopEvent",
    "Suitable",
    "base_rate_log_odds",
    "conditional_priors",
    "counted_priors",
    "logit_adjusted_softmax",
    "objective_by_name",
    "recursive_regularization",
    "suitable_objective",
]
