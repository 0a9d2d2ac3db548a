"""What is fitted on held-out documents and saved with a model, for answers with a promised coverage and for temperatures.

calibration.safetensors   for probabilities without a temperature, with one for all logits (`global`) and with one for each
                          depth (`level`): the sorted `htc.decoding.conformal.wrong_score` of documents, and the temperatures
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from htc.decoding.conformal import conformal_threshold, has_several_paths
from htc.experiment.inputs import Inputs
from htc.labels.hierarchy import Hierarchy
from htc.labels.label_sets import CELLS
from htc.labels.sparse_sets import SparseSets
from htc.losses import Objective
from htc.models.classifier import Classifier
from htc.scoring.calibration import Tempered, fit_temperature
from htc.scoring.coverage import AnswerScores
from rlkl_htc_common.errors import InputError

CALIBRATION = "calibration.safetensors"
PLAIN, GLOBAL, LEVEL = "plain", "global", "level"
TEMPERATURES = (GLOBAL, LEVEL)
FEWEST = 2  # held-out documents: one for temperatures, one for thresholds


@dataclass(frozen=True)
class Calibration:
    """What held-out documents say about a model.

    Attributes:
        several: whether they have several paths, see `htc.decoding.conformal.largest_answer`.
        wrong_scores: sorted, for probabilities without a temperature (`plain`), of all n documents; with one (`global`,
            `level`), of those on which the temperature was not fitted, so that the promise stays exact.
        temperatures: `global` (1,), `level` (max_depth,).
    """

    several: bool
    wrong_scores: dict[str, Tensor]
    temperatures: dict[str, Tensor]

    def threshold(self, coverage: float, temperature: str | None = None) -> float:
        """The threshold of answers that promise a coverage. Raises InputError if there are too few documents for it."""
        return conformal_threshold(self.wrong_scores[temperature or PLAIN], coverage)

    def save(self, file: Path) -> None:
        """Write the file."""
        wrong = {f"wrong_scores.{name}": scores.contiguous() for name, scores in self.wrong_scores.items()}
        fitted = {f"temperature.{name}": values.contiguous() for name, values in self.temperatures.items()}
        save_file(wrong | fitted, file, {"several": json.dumps(self.several)})

    @classmethod
    def load(cls, file: Path, hierarchy: Hierarchy) -> "Calibration":
        """Read a file of `save`. Raises what a damaged file raises: `LookupError`, `ValueError`, `SafetensorError`."""
        with safe_open(file, "pt") as content:
            several = json.loads(content.metadata()["several"])
            wrong = {name: content.get_tensor(f"wrong_scores.{name}") for name in (PLAIN, *TEMPERATURES)}
            temperatures = {name: content.get_tensor(f"temperature.{name}") for name in TEMPERATURES}
        lengths = {GLOBAL: 1, LEVEL: hierarchy.max_depth}
        fitted = all(values.shape == (lengths[name],) and bool((values > 0).all()) for name, values in temperatures.items())
        scores = all(
            values.ndim == 1 and values.is_floating_point() and not bool(values.isnan().any()) for values in wrong.values()
        )
        if type(several) is not bool or not fitted or not scores:
            raise ValueError(f"{file.name} holds other values")
        return cls(several, wrong, temperatures)


def check_temperature(temperature: str | None) -> None:
    """Raise InputError for a temperature that does not exist."""
    if temperature not in (None, *TEMPERATURES):
        raise InputError(f"temperature must be {' or '.join(TEMPERATURES)}, or none, not {temperature!r}.")


def halves(documents: int) -> tuple[Tensor, Tensor]:
    """Which of n held-out documents temperatures are fitted on, and which give their thresholds: drawn at random, always alike.

    Returns: numbers from 0 to n - 1, in two (n // 2,) and (n - n // 2,) int64.
    """
    order = torch.randperm(documents, generator=torch.Generator().manual_seed(0))
    return order[: documents // 2], order[documents // 2 :]


def calibrate(
    inputs: Inputs, classifier: Classifier, objective: Objective, documents: Tensor, targets: SparseSets, batch_size: int = 256
) -> Calibration:
    """Fit temperatures and score answers on held-out documents.

    Temperatures are fitted on half of the documents, drawn at random, and at most as many as `CELLS` holds.

    Args:
        documents: (n,) int64, their numbers in `inputs`.
        targets: their label sets, closed under ancestors.

    Raises:
        InputError: for fewer than two documents, or one without a label.
    """
    empty = (targets.sum(1) == 0).nonzero()
    if len(empty):
        raise InputError(f"held-out document {int(empty[0])} has no label.")
    if len(documents) < FEWEST:
        raise InputError(f"calibration takes at least {FEWEST} held-out documents, and there are {len(documents)}.")
    hierarchy = objective.hierarchy
    several = has_several_paths(targets, hierarchy)
    fitting, scoring = halves(len(documents))
    fitting = fitting[: max(1, CELLS // max(hierarchy.num_nodes, objective.num_outputs))]
    logits = inputs.logits(classifier, documents[fitting], objective.num_outputs, batch_size)
    device = next(classifier.parameters()).device
    objective.cpu()  # not all devices have float64
    temperatures = {
        GLOBAL: fit_temperature(logits, targets[fitting], objective),
        LEVEL: fit_temperature(logits, targets[fitting], objective, by_depth=True),
    }
    objective.to(device)

    def sorted_scores(scored: Objective, rows: Tensor) -> Tensor:
        probabilities = inputs.in_parts(classifier, scored, documents[rows], batch_size)
        return AnswerScores.of(probabilities, targets.select(rows), hierarchy, several).wrong.float().sort().values

    wrong = {PLAIN: sorted_scores(objective, torch.arange(len(documents)))}
    for name, temperature in temperatures.items():
        wrong[name] = sorted_scores(Tempered(objective, temperature).to(device), scoring)
    return Calibration(several, wrong, temperatures)
