"""Label texts with a trained model, from Python.

    import htc

    model = htc.load("runs/htc/icd10cm/RUN/model")     # what htc-train has saved
    model.predict(["Broken left wrist after a fall on the ice"])

gives for each text its paths, each from the top label down: lists of `Step(label, probability)`. `htc-predict` is the same on
the command line. `save_pretrained`, `push_to_hub` and `from_pretrained` are those of the Hugging Face hub's models.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from htc.datasets.dataset import hashes_of
from htc.decoding.by_name import ALL_RULES, check_rule, decode
from htc.decoding.conformal import back_off, check_coverage
from htc.experiment.hub import HubModel, first_line
from htc.experiment.onnx import export_onnx
from htc.experiment.saved_model import SavedModel, load_model
from htc.labels.hierarchy import Hierarchy
from htc.labels.label_sets import CELLS, LabelSets, as_sparse_sets
from htc.labels.sparse_sets import SparseSets
from htc.labels.taxonomy import PATH_SEPARATOR
from rlkl_htc_common.errors import InputError

FIRST, GROWTH, LARGEST = 32, 8, 2048  # texts that are read at a time: few at first, so that answers come soon


class Step(NamedTuple):
    """A label on a path, and its probability."""

    label: str
    probability: float


LabelPath = list[Step]
LABELS, PROBABILITY = "labels", "probability"  # columns of predictions in tables
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


class Predictor(HubModel):
    """A trained model that labels texts.

    Args:
        saved: see `htc.experiment.saved_model`.
        decoder: the inference rule, a name from `htc.decoding.by_name.ALL_RULES`; default: the rule that suits the model.
        batch_size: texts that the encoder takes at a time.
        folder: where it was loaded from.
        temperature: `global` or `level` for calibrated probabilities, see `load`.

    Attributes:
        hierarchy: the labels.
        labels: their N names, in the order of the columns of `predict_proba`.
        decoder: the inference rule.
        temperature: None without.

    Raises:
        InputError: for a rule or a temperature that does not exist or does not suit the model.
    """

    def __init__(
        self,
        saved: SavedModel,
        decoder: str | None = None,
        batch_size: int = 32,
        folder: str | Path | None = None,
        temperature: str | None = None,
    ) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, not {batch_size}.")
        self.model = saved
        self.temperature = temperature
        self._tempered = saved.with_temperature(temperature)
        self.hierarchy: Hierarchy = saved.hierarchy
        self.labels: tuple[str, ...] = saved.hierarchy.names
        self.decoder = decoder or saved.decoder
        self.batch_size = batch_size
        self.folder = None if folder is None else Path(folder)
        check_rule(self.decoder, saved.objective.one_path)
        if temperature is not None and ALL_RULES[self.decoder].tuned:
            raise InputError(
                f"the threshold of the rule {self.decoder!r} was tuned on probabilities without a temperature; give another "
                "rule, or no temperature."
            )

    def predict_proba(self, texts: Sequence[str], progress: bool = False) -> np.ndarray:
        """The probability of each label. Returns: (n, N) float32."""
        return self._probabilities(_checked(texts), progress).numpy()

    def predict_sets(self, texts: Sequence[str], progress: bool = False, coverage: float | None = None) -> Tensor:
        """The labels of each text, with all their ancestors. Args, raises: as `predict`. Returns: (n, N) bool."""
        self.check_promise(coverage)
        return self.decide(self._probabilities(_checked(texts), progress), coverage=coverage)

    def predict(self, texts: Sequence[str], progress: bool = False, coverage: float | None = None) -> list[list[LabelPath]]:
        """The paths of each text: no path where no label reaches the rule's threshold.

        Args:
            texts: n texts.
            progress: whether to show a bar.
            coverage: between 0 and 1: in place of the inference rule, answers that end higher up, where the model is less
                sure, or are empty, so that this share of them is right: every label of the answer is true. The promise is for
                texts like the held-out documents of the model's calibration (`htc.decoding.conformal`).

        Returns:
            For each text its paths, each a list of `Step(label, probability)` from the top down; probabilities have four
            decimal places.

        Raises:
            InputError: for a single text in place of several, or a value that is no text or is empty; for a coverage that
                cannot be promised.
        """
        self.check_promise(coverage)
        bar = "labelling" if progress else None
        probabilities = self._tempered.probabilities_in_parts(_checked(texts), self.batch_size, progress=bar)
        parts = probabilities.split(max(1, CELLS // len(self.labels)))
        return [paths for part in parts for paths in self._paths(part, coverage)]

    def stream(
        self, texts: Iterable[str], at_once: int | None = None, coverage: float | None = None
    ) -> Iterator[tuple[str, list[LabelPath]]]:
        """Each text with its paths, for any number of texts: a part of them is in memory at a time.

        Args:
            at_once: texts that are read before the first of them is answered. Default: few at first, then up to 2,048, because
                texts of similar length make faster batches.
            coverage: see `predict`.
        """
        unread = iter(texts)
        size = at_once or FIRST
        while part := list(islice(unread, size)):
            answers = self.predict(part) if coverage is None else self.predict(part, coverage=coverage)
            yield from zip(part, answers, strict=True)
            size = at_once or min(GROWTH * size, LARGEST)

    def calibrate(self, texts: Sequence[str], labels: LabelSets) -> None:
        """Fit what `coverage` and temperatures need on held-out documents, in place of what the model has; `save_pretrained`
        keeps it.

        Args:
            texts: n texts that the model was not trained on, and that are like those to be labelled.
            labels: the label sets of each (`htc.labels.label_sets.LabelSets`).

        Raises:
            InputError: for unknown labels, or another number of them; for fewer than two texts, or one that was trained on.
        """
        given = _checked(texts)
        targets = self.hierarchy.close(as_sparse_sets(labels, self.hierarchy))
        if len(targets) != len(given):
            raise InputError(f"there are {len(given)} texts, but labels of {len(targets)}.")
        seen = torch.isin(hashes_of(given), self.model.seen).nonzero()
        if len(seen):
            raise InputError(f"text {int(seen[0])} was trained on, as {len(seen)} of them were; give others.")
        self.model.calibrate(given, targets, self.batch_size)
        self._tempered = self.model.with_temperature(self.temperature)

    def export_onnx(self, folder: str | Path) -> Path:
        """Write the model as an ONNX graph. Args, returns, raises: as `htc.experiment.onnx.export_onnx`."""
        return export_onnx(self._tempered, folder)

    @classmethod
    def from_folder(
        cls,
        folder: Path,
        decoder: str | None = None,
        batch_size: int = 32,
        device: str | torch.device | None = None,
        temperature: str | None = None,
    ) -> Self:
        """Load a model from a folder. Args, raises: as `load`."""
        if not (folder / "config.json").exists() and (folder / "model" / "config.json").exists():
            folder /= "model"
        model = load_model(folder)
        if device is not None:
            try:
                for part in (model.encoder, model.classifier, model.objective):
                    part.to(device)
            except (RuntimeError, AssertionError) as error:
                raise InputError(f"device {str(device)!r}: {first_line(error)}") from error
        return cls(model, decoder, batch_size, folder, temperature)

    def _probabilities(self, texts: list[str], progress: bool) -> Tensor:
        return self._tempered.probabilities_of(texts, self.batch_size, progress="labelling" if progress else None)

    def check_promise(self, coverage: float | None) -> None:
        """Raise InputError for a coverage that cannot be promised."""
        if coverage is not None:
            check_coverage(coverage)
            self.model.calibrated().threshold(coverage, self.temperature)

    def decide(self, probabilities: Tensor, decoder: str | None = None, coverage: float | None = None) -> Tensor:
        """The label sets that a rule, or a promised coverage, makes of probabilities.

        Args:
            probabilities: (n, N), as `predict_proba` gives them, as a tensor.
            decoder: the inference rule; default: the model's.
            coverage: see `predict`.

        Returns:
            (n, N) bool, closed under ancestors.
        """
        if coverage is not None:
            calibration = self.model.calibrated()
            threshold = calibration.threshold(coverage, self.temperature)
            return back_off(probabilities, self.hierarchy, threshold, calibration.several)
        sets = decode(decoder or self.decoder, probabilities, self.hierarchy, self.model.tuned_threshold)
        return self.hierarchy.close(sets)

    def _paths(self, probabilities: Tensor, coverage: float | None) -> list[list[LabelPath]]:
        """The paths of each document. Args: probabilities (d, N)."""
        return paths_of(self.decide(probabilities, coverage=coverage), probabilities, self.hierarchy)

    def __repr__(self) -> str:
        return f"Predictor({len(self.labels)} labels, decoder={self.decoder!r})"


def load(
    folder: str | Path,
    *,
    decoder: str | None = None,
    batch_size: int = 32,
    device: str | torch.device | None = None,
    temperature: str | None = None,
) -> Predictor:
    """Load a trained model.

    Args:
        folder: what htc-train saved, RUN/model; or the run's directory, RUN; or a model's name on the Hugging Face hub.
        decoder: the inference rule; default: the rule that suits the model.
        batch_size: texts that the encoder takes at a time.
        device: "cpu", "cuda", "mps"; default: the GPU if there is one.
        temperature: probabilities with a temperature that was fitted on held-out documents (`htc.scoring.calibration`):
            "global" for one, "level" for one for each depth; default: probabilities as the model gives them.

    Raises:
        InputError: if the folder holds no model, or a damaged one; for a rule or a device that does not exist.
    """
    options: dict[str, Any] = {"decoder": decoder, "batch_size": batch_size, "device": device, "temperature": temperature}
    if isinstance(folder, str) and HUB_NAME.fullmatch(folder) and not Path(folder).exists():
        return Predictor.from_pretrained(folder, **options)
    return Predictor.from_folder(Path(folder), **options)


def paths_of(sets: Tensor, probabilities: Tensor, hierarchy: Hierarchy) -> list[list[LabelPath]]:
    """The paths of label sets, one to each most specific label. Args: sets (n, N) bool, closed; probabilities (n, N)."""
    ends = hierarchy.most_specific(SparseSets.of(sets))
    found: list[list[LabelPath]] = [[] for _ in range(len(probabilities))]
    for document, node in zip(ends.document.tolist(), ends.node.tolist(), strict=True):
        nodes = [node]
        while above := hierarchy.parents[nodes[0]]:
            nodes.insert(0, above[0])  # as in `Hierarchy.paths`
        values = probabilities[document, nodes].tolist()
        found[document].append([Step(hierarchy.names[n], round(p, 4)) for n, p in zip(nodes, values, strict=True)])
    return found


def path_texts(paths: list[LabelPath]) -> list[str]:
    """Predicted paths as texts, `Arts > Music`."""
    return [PATH_SEPARATOR.join(step.label for step in path) for path in paths]


def ends(paths: list[LabelPath]) -> list[float]:
    """The probability of the last label of each path."""
    return [path[-1].probability for path in paths]


def _checked(texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str):
        raise InputError("texts must be a list of texts, not one text; give [text].")
    for number, text in enumerate(given := list(texts)):
        if not isinstance(text, str):
            raise InputError(f"text {number} is {text!r:.60}, not a text.")
        if not text.strip():
            raise InputError(f"text {number} is empty.")
    return given
