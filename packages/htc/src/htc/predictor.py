"""Label texts with a trained model, from Python.

    import htc

    model = htc.load("runs/htc/icd10cm/RUN/model")     # what htc-train has saved
    model.predict(["Broken left wrist after a fall on the ice"])

gives for each text its paths, each from the top label down: lists of `Step(label, probability)`. `htc-predict` is the same on
the command line. `save_pretrained`, `push_to_hub` and `from_pretrained` are those of the Hugging Face hub's models.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from huggingface_hub import ModelCard, ModelHubMixin, snapshot_download
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from htc.decoding.by_name import check_rule, decode
from htc.experiment.saved_model import ENCODER, RESULT, SavedModel, copy_model, load_model
from htc.labels.hierarchy import Hierarchy
from htc.report.model_card import model_card, with_intervals
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.runs.directory import read_json

FIRST, LARGEST = 32, 1024  # texts that are read at a time: few at first, so that answers come soon


class Step(NamedTuple):
    """A label on a path, and its probability."""

    label: str
    probability: float


LabelPath = list[Step]
PER_DOCUMENT = "documents.safetensors"  # in a run's directory: the scores of each test document
OF_A_MODEL = ("*.json", "*.safetensors", "README.md", f"{ENCODER}/*")
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


class Predictor(ModelHubMixin):
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

    _hub_mixin_config: dict[str, Any] | None = {}  # noqa: RUF012 - a config of the mixin's; the model has its own

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

    @cached_property
    def result(self) -> dict[str, Any] | None:
        """The result of its training, as in result.json, with intervals of the test scores; None if it was not found.

        Raises:
            InputError: if the file is damaged.
        """
        run = None if self.folder is None else self.folder.parent if _is_in_a_run(self.folder) else self.folder
        if run is None or not (run / RESULT).exists():
            return None
        result = read_json(run / RESULT, "train the model again, or remove it")
        if run == self.folder or not (run / PER_DOCUMENT).exists():
            return result
        try:
            return with_intervals(result, load_file(run / PER_DOCUMENT)) | {"run_dir": str(run)}
        except (OSError, ValueError, LookupError, TypeError, SafetensorError) as error:
            problem = f"{type(error).__name__}: {error}"
            raise InputError(f"{run}: {RESULT} or {PER_DOCUMENT} is damaged ({problem}); train the model again.") from error

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
        probabilities = self._probabilities(_checked(texts), progress)
        sets = self._sets(probabilities)
        return [list(self._paths(row, nodes)) for row, nodes in zip(probabilities, sets, strict=True)]

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

    def save_pretrained(self, save_directory: str | Path, *, include_encoder: bool = False, **push: Any) -> str | None:
        """Write the model to a folder, for `htc.load` and `from_pretrained`, with its card in README.md.

        A card that is there already stays if it is of the same model.

        Args:
            save_directory: the folder; files of a model that is in it are replaced.
            include_encoder: save a frozen encoder with the model. Without it, a frozen encoder goes by its name, and is
                compared with the fingerprint of its weights when the model is loaded.
            push: of huggingface_hub's `ModelHubMixin.save_pretrained`: `push_to_hub=True` and what `push_to_hub` takes.

        Returns:
            The address on the hub if it was pushed.

        Raises:
            InputError: if the model is no longer where it was loaded from, or the folder cannot be written.
        """
        folder, source = Path(save_directory), self.folder
        include_encoder = include_encoder or bool((push.get("model_card_kwargs") or {}).get("include_encoder"))
        if source is None:
            raise InputError("the model was loaded from no folder, so that there is nothing to copy; load it with htc.load.")
        if folder.resolve() == source.resolve():
            raise InputError(f"{folder} is where the model was loaded from; save it to another folder.")
        card = folder / "README.md"
        same = card.exists() and _same_file(folder / "head.safetensors", source / "head.safetensors")
        result = None if self.result is None else {key: value for key, value in self.result.items() if key != "run_dir"}
        copy_model(source, folder, self.model.encoder if include_encoder else None, result)
        if not same:
            self.generate_model_card(include_encoder=include_encoder).save(card)
        if not push.pop("push_to_hub", False):
            return None
        return self.push_to_hub(push.pop("repo_id", None) or folder.name, include_encoder=include_encoder, **push)

    def push_to_hub(self, repo_id: str, *, include_encoder: bool = False, **options: Any) -> str:
        """Push the model and its card to the Hugging Face hub.

        Args:
            repo_id: its name there, "USER/NAME".
            include_encoder: see `save_pretrained`; needed for a frozen encoder that is a folder on this machine.
            options: of huggingface_hub's `ModelHubMixin.push_to_hub`: private, token, commit_message and others.

        Returns:
            The address of the commit.

        Raises:
            InputError: for an encoder that nobody else could load; for a name, a login or a network with which it fails.
        """
        encoder = self.model.settings["encoder"]
        if encoder["frozen"] and not (include_encoder or self._has_encoder()) and Path(encoder["name"]).is_dir():
            raise InputError(
                f"the encoder {encoder['name']!r} is a folder on this machine, where others cannot load it; push it with the "
                "model: include_encoder=True."
            )
        card = {**(options.pop("model_card_kwargs", None) or {}), "include_encoder": include_encoder}
        try:
            return super().push_to_hub(repo_id, model_card_kwargs=card, **options)
        except (OSError, ValueError) as error:
            raise InputError(f"cannot push to {repo_id!r} on the hub: {_first_line(error)}") from error

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> "Predictor":
        """Load a model from a folder, or from the Hugging Face hub by its name.

        Args:
            pretrained_model_name_or_path: the folder, or the name, "USER/NAME".
            options: `decoder`, `batch_size` and `device`, see `load`; those of huggingface_hub's mixin: revision, token,
                cache_dir, force_download, local_files_only.

        Raises:
            InputError: if there is no such model, or it is damaged.
        """
        if Path(pretrained_model_name_or_path).is_dir():
            return cls._from_folder(Path(pretrained_model_name_or_path), **_of_predictor(options))
        try:
            return super().from_pretrained(pretrained_model_name_or_path, **options)
        except (OSError, ValueError) as error:
            name = str(pretrained_model_name_or_path)
            raise InputError(f"{name!r} is no folder here, and cannot be had from the hub: {_first_line(error)}") from error

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **options: Any) -> "Predictor":
        of_hub = {key: options[key] for key in ("revision", "cache_dir", "force_download", "local_files_only", "token")}
        folder = Path(snapshot_download(model_id, allow_patterns=list(OF_A_MODEL), **of_hub))
        return cls._from_folder(folder, **_of_predictor(options))

    @classmethod
    def _from_folder(
        cls, folder: Path, decoder: str | None = None, batch_size: int = 32, device: str | torch.device | None = None
    ) -> "Predictor":
        if not (folder / "config.json").exists() and (folder / "model" / "config.json").exists():
            folder /= "model"
        model = load_model(folder)
        if device is not None:
            try:
                for part in (model.encoder, model.classifier, model.objective):
                    part.to(device)
            except (RuntimeError, AssertionError) as error:
                raise InputError(f"device {str(device)!r}: {_first_line(error)}") from error
        return cls(model, decoder, batch_size, folder)

    def generate_model_card(self, include_encoder: bool = False) -> ModelCard:
        """The model's card, from its result. Args: include_encoder: whether a frozen encoder is saved with it."""
        return model_card(self.hierarchy, self.model.settings, self.result, include_encoder or self._has_encoder())

    def _has_encoder(self) -> bool:
        return self.folder is not None and (self.folder / ENCODER).is_dir()

    def _probabilities(self, texts: list[str], progress: bool) -> Tensor:
        return self.model.probabilities_of(texts, self.batch_size, progress="labelling" if progress else None)

    def _sets(self, probabilities: Tensor) -> Tensor:
        return self.hierarchy.close(decode(self.decoder, probabilities, self.hierarchy, self.model.tuned_threshold))

    def _paths(self, probabilities: Tensor, nodes: Tensor) -> Iterator[LabelPath]:
        for path in self.hierarchy.decode(nodes[None])[0]:
            on_it = [self.hierarchy.node(path[: end + 1]) for end in range(len(path))]
            yield [Step(self.labels[node], round(float(probabilities[node]), 4)) for node in on_it]

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
    return Predictor._from_folder(Path(folder), **options)


def _of_predictor(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: options[key] for key in ("decoder", "batch_size", "device") if key in options}


def _is_in_a_run(folder: Path) -> bool:
    return folder.name == "model" and (folder.parent / "config.yaml").exists()


def _same_file(one: Path, other: Path) -> bool:
    return one.is_file() and one.read_bytes() == other.read_bytes()


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _checked(texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str):
        raise InputError("texts must be a list of texts, not one text; give [text].")
    for number, text in enumerate(given := list(texts)):
        if not isinstance(text, str):
            raise InputError(f"text {number} is {text!r:.60}, not a text.")
        if not text.strip():
            raise InputError(f"text {number} is empty.")
    return given
