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

from htc.decoding.by_name import check_rule, decode
from htc.experiment.hub import HubModel, first_line
from htc.experiment.saved_model import SavedModel, load_model
from htc.labels.hierarchy import Hierarchy
from htc.labels.label_sets import CELLS
from htc.labels.sparse_sets import SparseSets
from htc.labels.taxonomy import PATH_SEPARATOR
from rlkl_htc_common.errors import InputError

FIRST, LARGEST = 32, 1024  # texts that are read at a time: few at first, so that answers come soon


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

    Attributes:
        hierarchy: the labels.
        labels: their N names, in the order of the columns of `predict_proba`.
        decoder: the inference rule.

    Raises:
        InputError: for a rule that does not exist or does not suit the model.
    """

    def __init__(
        self, saved: SavedModel, decoder: str | None = None, batch_size: int = 32, folder: str | Path | None = None
    ) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, not {batch_size}.")
        self.model = saved
        self.hierarchy: Hierarchy = saved.hierarchy
        self.labels: tuple[str, ...] = saved.hierarchy.names
        self.decoder = decoder or saved.decoder
        self.batch_size = batch_size
        self.folder = None if folder is None else Path(folder)
        check_rule(self.decoder, saved.objective.one_path)

    def predict_proba(self, texts: Sequence[str], progress: bool = False) -> np.ndarray:
        """The probability of each label. Returns: (n, N) float32."""
        return self._probabilities(_checked(texts), progress).numpy()

    def predict_sets(self, texts: Sequence[str], progress: bool = False) -> Tensor:
        """The labels of each text, with all their ancestors. Returns: (n, N) bool."""
        return self._sets(self._probabilities(_checked(texts), progress))

    def predict(self, texts: Sequence[str], progress: bool = False) -> list[list[LabelPath]]:
        """The paths of each text: no path where no label reaches the rule's threshold.

        Args:
            texts: n texts.
            progress: whether to show a bar.

        Returns:
            For each text its paths, each a list of `Step(label, probability)` from the top down; probabilities have four
            decimal places.

        Raises:
            InputError: for a single text in place of several, or a value that is no text or is empty.
        """
        bar = "labelling" if progress else None
        probabilities = self.model.probabilities_in_parts(_checked(texts), self.batch_size, progress=bar)
        parts = probabilities.split(max(1, CELLS // len(self.labels)))
        return [paths for part in parts for paths in self._paths(part)]

    def stream(self, texts: Iterable[str], at_once: int | None = None) -> Iterator[tuple[str, list[LabelPath]]]:
        """Each text with its paths, for any number of texts: a part of them is in memory at a time.

        Args:
            at_once: texts that are read before the first of them is answered. Default: few at first, then up to 1,024, because
                texts of similar length make faster batches.
        """
        unread = iter(texts)
        size = at_once or FIRST
        while part := list(islice(unread, size)):
            yield from zip(part, self.predict(part), strict=True)
            size = at_once or min(2 * size, LARGEST)

    @classmethod
    def from_folder(
        cls, folder: Path, decoder: str | None = None, batch_size: int = 32, device: str | torch.device | None = None
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
        return cls(model, decoder, batch_size, folder)

    def _probabilities(self, texts: list[str], progress: bool) -> Tensor:
        return self.model.probabilities_of(texts, self.batch_size, progress="labelling" if progress else None)

    def _sets(self, probabilities: Tensor) -> Tensor:
        return self.hierarchy.close(decode(self.decoder, probabilities, self.hierarchy, self.model.tuned_threshold))

    def _paths(self, probabilities: Tensor) -> list[list[LabelPath]]:
        """The paths of each document. Args: probabilities (d, N)."""
        ends = self.hierarchy.most_specific(SparseSets.of(self._sets(probabilities)))
        found: list[list[LabelPath]] = [[] for _ in range(len(probabilities))]
        for document, node in zip(ends.document.tolist(), ends.node.tolist(), strict=True):
            nodes = [node]
            while above := self.hierarchy.parents[nodes[0]]:
                nodes.insert(0, above[0])  # as in `Hierarchy.paths`
            values = probabilities[document, nodes].tolist()
            found[document].append([Step(self.labels[n], round(p, 4)) for n, p in zip(nodes, values, strict=True)])
        return found

    def __repr__(self) -> str:
        return f"Predictor({len(self.labels)} labels, decoder={self.decoder!r})"


def load(
    folder: str | Path, *, decoder: str | None = None, batch_size: int = 32, device: str | torch.device | None = None
) -> Predictor:
    """Load a trained model.

    Args:
        folder: what htc-train saved, RUN/model; or the run's directory, RUN; or a model's name on the Hugging Face hub.
        decoder: the inference rule; default: the rule that suits the model.
        batch_size: texts that the encoder takes at a time.
        device: "cpu", "cuda", "mps"; default: the GPU if there is one.

    Raises:
        InputError: if the folder holds no model, or a damaged one; for a rule or a device that does not exist.
    """
    options: dict[str, Any] = {"decoder": decoder, "batch_size": batch_size, "device": device}
    if isinstance(folder, str) and HUB_NAME.fullmatch(folder) and not Path(folder).exists():
        return Predictor.from_pretrained(folder, **options)
    return Predictor.from_folder(Path(folder), **options)


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
